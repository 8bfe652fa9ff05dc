//! Mail sessions as one writes them with imap; each scenario tells what the
//! clients were told.

use super::sys;
use sys::io::{self, Read, Write};
use sys::net::{SocketAddr, TcpStream};
use sys::sync::{Arc, Barrier};
use sys::thread;
use sys::time::Duration;

use imap::extensions::idle::{SetReadTimeout, stop_on_any};
use imap::{Client, Error, Session};

#[path = "server.rs"]
mod server;

use server::Server;

const SESSIONS: usize = 100;

/// The crate knows std's socket and has to be told how others are limited.
struct Socket(TcpStream);

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl SetReadTimeout for Socket {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> imap::Result<()> {
        Ok(self.0.set_read_timeout(timeout)?)
    }
}

/// Each appends a message when all have logged in, and fetches it when all
/// have appended theirs.
pub fn a_hundred_sessions_append_and_fetch() -> Vec<[String; 4]> {
    let server = Server::start(SESSIONS);
    let address = server.address;
    let everybody = Arc::new(Barrier::new(SESSIONS));
    let client = |number| {
        let everybody = Arc::clone(&everybody);
        thread::spawn(move || {
            let mut session = login(address);
            everybody.wait();
            let before = session.select("INBOX").unwrap();
            assert!(before.exists < SESSIONS as u32);
            let message = message(number);
            session.append("INBOX", &message).finish().unwrap();
            everybody.wait();
            let told = fetch(&mut session, number, &message);
            session.logout().unwrap();
            told
        })
    };
    let clients: Vec<_> = (0..SESSIONS).map(client).collect();
    let told = clients.into_iter().map(|client| client.join().unwrap());
    let told = told.collect();
    server.join();
    told
}

/// Finds the message by its beginning; where it is depends on who was first.
fn fetch(session: &mut Session<Socket>, number: usize, message: &[u8]) -> [String; 4] {
    let mailbox = session.select("INBOX").unwrap();
    let query = format!("TEXT \"Message-Id: {number:02}\"");
    let found = session.search(query).unwrap();
    let place = found.iter().next().unwrap();
    let fetched = session.fetch(place.to_string(), "(FLAGS BODY[])").unwrap();
    let fetched = fetched.get(0).unwrap();
    let body = fetched.body().unwrap();
    assert!(body == message);
    [
        format!("{} exist", mailbox.exists),
        format!("{} found", found.len()),
        format!("{:?}", fetched.flags()),
        format!("{} bytes, {:?}…", body.len(), &body[..16]),
    ]
}

/// The hundredth brings it.
pub fn ninety_nine_idle_until_there_is_mail() -> Vec<(String, Vec<String>)> {
    let server = Server::start(SESSIONS);
    let address = server.address;
    let idle = |_| {
        thread::spawn(move || {
            let mut session = login(address);
            session.select("INBOX").unwrap();
            let mut news = Vec::new();
            let outcome = session.idle().wait_while(|response| {
                news.push(format!("{response:?}"));
                stop_on_any(response)
            });
            session.logout().unwrap();
            (format!("{:?}", outcome.unwrap()), news)
        })
    };
    let idle: Vec<_> = (1..SESSIONS).map(idle).collect();
    for _ in 1..SESSIONS {
        server.idling.recv().unwrap();
    }
    let mut session = login(address);
    session.append("INBOX", &message(0)).finish().unwrap();
    session.logout().unwrap();
    let told = idle.into_iter().map(|idle| idle.join().unwrap()).collect();
    server.join();
    told
}

/// No news come within the time limit; then the session goes on.
pub fn an_idle_that_times_out_leaves_the_session_of_use() -> Vec<String> {
    let server = Server::start(1);
    let mut session = login(server.address);
    let mut told: Vec<_> = (0..3)
        .map(|_| {
            let mut idle = session.idle();
            idle.timeout(Duration::from_millis(10)).keepalive(false);
            format!("{:?}", idle.wait_while(stop_on_any).unwrap())
        })
        .collect();
    session.append("INBOX", &message(7)).finish().unwrap();
    told.push(session.select("INBOX").unwrap().to_string());
    session.logout().unwrap();
    server.join();
    assert_eq!(told[..3], ["TimedOut"; 3]);
    told
}

/// The time limit is the socket's own, set before the client gets it.
pub fn a_command_without_an_answer_runs_into_the_time_limit() -> String {
    let server = Server::start(1);
    let stream = TcpStream::connect(server.address).unwrap();
    let limit = Some(Duration::from_millis(20));
    let limited = stream.try_clone().unwrap();
    let mut session = login_over(stream).unwrap();
    limited.set_read_timeout(limit).unwrap();
    let error = session.run_command_and_check_ok("XSILENCE").unwrap_err();
    let Error::Io(error) = error else {
        panic!("not an error of the socket's: {error}");
    };
    drop((session, limited));
    server.join();
    error.kind().to_string()
}

/// A wrong password, an unknown command, and a server that hangs up.
pub fn a_refusal_is_told_from_a_lost_connection() -> Vec<String> {
    let server = Server::start(1);
    let mut client = Client::new(Socket(TcpStream::connect(server.address).unwrap()));
    client.read_greeting().unwrap();
    let (refusal, client) = client.login("ali", "open barley").err().unwrap();
    let mut session = client.login("ali", "open sesame").ok().unwrap();
    let unknown = session.run_command_and_check_ok("XYZZY").unwrap_err();
    let lost = session.run_command_and_check_ok("XHANGUP").unwrap_err();
    server.join();
    let told = [refusal, unknown, lost].map(|error| format!("{error:?}"));
    told.into()
}

fn login(address: SocketAddr) -> Session<Socket> {
    login_over(TcpStream::connect(address).unwrap()).unwrap()
}

fn login_over(stream: TcpStream) -> imap::Result<Session<Socket>> {
    let mut client = Client::new(Socket(stream));
    client.read_greeting()?;
    let session = client.login("ali", "open sesame");
    session.map_err(|(error, _)| error)
}

/// 64 lines of 1000 bytes.
fn message(number: usize) -> Vec<u8> {
    let head = format!("Message-Id: {number:02}\r\n\r\n");
    let line = format!("{number:02}").repeat(499) + "\r\n";
    [head, line.repeat(64)].concat().into_bytes()
}
