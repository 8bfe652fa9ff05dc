//! A small IMAP server with one mailbox and a thread for each connection:
//! what the scenarios ask for of RFC 3501 and RFC 2177.

use super::sys::io::{self, BufRead, BufReader, Read, Write};
use super::sys::net::{SocketAddr, TcpListener, TcpStream};
use super::sys::sync::{Arc, Mutex, mpsc};
use super::sys::thread::{self, JoinHandle};

pub struct Server {
    pub address: SocketAddr,
    /// Hears of each IDLE.
    pub idling: mpsc::Receiver<()>,
    accepting: JoinHandle<()>,
}

/// What the connections share.
#[derive(Clone)]
struct House {
    mailbox: Arc<Mutex<Mailbox>>,
    idling: mpsc::Sender<()>,
}

#[derive(Default)]
struct Mailbox {
    messages: Vec<Vec<u8>>,
    /// The connections that idle, by the client's port.
    idle: Vec<(u16, TcpStream)>,
}

impl Server {
    /// Serves so many connections, and then no more.
    pub fn start(connections: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, idling) = mpsc::channel();
        let house = House {
            mailbox: Arc::default(),
            idling: sender,
        };
        let accepting = thread::spawn(move || {
            let serve = |stream| {
                let house = house.clone();
                thread::spawn(move || serve(stream, &house).unwrap())
            };
            let streams = listener.incoming().take(connections);
            let served: Vec<_> = streams.map(|stream| serve(stream.unwrap())).collect();
            for connection in served {
                connection.join().unwrap();
            }
        });
        Server {
            address,
            idling,
            accepting,
        }
    }

    /// Waits until all connections have ended.
    pub fn join(self) {
        self.accepting.join().unwrap();
    }
}

fn serve(mut stream: TcpStream, house: &House) -> io::Result<()> {
    stream.write_all(b"* OK at your service\r\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.trim_end().splitn(3, ' ');
        let [tag, command, rest] = [(); 3].map(|()| words.next().unwrap_or_default());
        let mut answer = Vec::new();
        let mut verdict = "OK done";
        match command {
            "LOGIN" if !rest.ends_with("\"open sesame\"") => verdict = "NO not with this password",
            "LOGIN" | "NOOP" => {}
            "SELECT" => {
                let exists = house.mailbox.lock().unwrap().messages.len();
                write!(answer, "* {exists} EXISTS\r\n* 0 RECENT\r\n")?;
                write!(answer, "* OK [UIDVALIDITY 1] as ever\r\n")?;
            }
            "APPEND" => {
                let length = rest.rsplit(['{', '}']).nth(1).unwrap();
                let mut message = vec![0; length.parse().unwrap()];
                stream.write_all(b"+ go ahead\r\n")?;
                reader.read_exact(&mut message)?;
                reader.read_line(&mut String::new())?;
                house.mailbox.lock().unwrap().append(message)?;
            }
            "FETCH" => {
                let number: usize = rest.split(' ').next().unwrap().parse().unwrap();
                let mailbox = house.mailbox.lock().unwrap();
                let message = &mailbox.messages[number - 1];
                let length = message.len();
                write!(
                    answer,
                    "* {number} FETCH (FLAGS (\\Seen) BODY[] {{{length}}}\r\n"
                )?;
                answer.extend_from_slice(message);
                answer.extend_from_slice(b")\r\n");
            }
            "SEARCH" => {
                let wanted = rest.split('"').nth(1).unwrap().as_bytes();
                let mailbox = house.mailbox.lock().unwrap();
                write!(answer, "* SEARCH")?;
                for (message, number) in mailbox.messages.iter().zip(1..) {
                    if message.starts_with(wanted) {
                        write!(answer, " {number}")?;
                    }
                }
                write!(answer, "\r\n")?;
            }
            "IDLE" => {
                let port = stream.peer_addr()?.port();
                stream.write_all(b"+ idling\r\n")?;
                let idle = (port, stream.try_clone()?);
                house.mailbox.lock().unwrap().idle.push(idle);
                // Nobody listens where nobody waits for it.
                let _ = house.idling.send(());
                reader.read_line(&mut String::new())?;
                let mut mailbox = house.mailbox.lock().unwrap();
                mailbox.idle.retain(|(idle, _)| *idle != port);
            }
            "XSILENCE" => continue,
            "XHANGUP" => return Ok(()),
            "LOGOUT" => {
                write!(stream, "* BYE\r\n{tag} OK done\r\n")?;
                return Ok(());
            }
            _ => verdict = "BAD what",
        }
        write!(answer, "{tag} {verdict}\r\n")?;
        stream.write_all(&answer)?;
    }
}

impl Mailbox {
    fn append(&mut self, message: Vec<u8>) -> io::Result<()> {
        self.messages.push(message);
        let news = format!("* {} EXISTS\r\n", self.messages.len());
        for (_, stream) in &mut self.idle {
            stream.write_all(news.as_bytes())?;
        }
        Ok(())
    }
}
