//! The server: files in memory, a thread for each control connection and one
//! for each transfer, so that a transfer can be aborted.

use std::collections::BTreeMap;

use super::sys::io::{self, BufRead, BufReader, Read, Write};
use super::sys::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use super::sys::sync::atomic::{AtomicBool, Ordering};
use super::sys::sync::{Arc, Mutex, RwLock};
use super::sys::thread::{self, JoinHandle};
use super::sys::time::Duration;

/// The password of every user.
pub const PASSWORD: &str = "swordfish";

/// A file that never ends.
pub const ENDLESS: &str = "endless";

type Files = Arc<RwLock<BTreeMap<String, Arc<Vec<u8>>>>>;

pub struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: JoinHandle<io::Result<usize>>,
}

impl Server {
    /// Serves until [`stop`](Server::stop); sends away who is silent for `idle`.
    pub fn start(idle: Duration) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let accepting = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || accept(&listener, idle, &is_over)
        });
        Ok(Server {
            address,
            is_over,
            accepting,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the sessions that there are; returns how many there were.
    pub fn stop(self) -> io::Result<usize> {
        self.is_over.store(true, Ordering::Release);
        // Wakes the server from its accept.
        drop(TcpStream::connect(self.address)?);
        self.accepting.join().expect("the server does not panic")
    }
}

fn accept(listener: &TcpListener, idle: Duration, is_over: &AtomicBool) -> io::Result<usize> {
    let files = Files::default();
    let mut sessions = Vec::new();
    for stream in listener.incoming() {
        let stream = stream?;
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let files = Arc::clone(&files);
        sessions.push(thread::spawn(move || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(idle))?;
            Session::new(files, stream)?.serve()
        }));
    }
    let count = sessions.len();
    for session in sessions {
        // That a client has hung up is no concern of the others.
        let _: io::Result<()> = session.join().expect("a session does not panic");
    }
    Ok(count)
}

/// Where the next transfer's connection comes from.
enum Data {
    Nowhere,
    /// The client connects to us.
    Passive(TcpListener),
    /// We connect to the client.
    Active(SocketAddr),
}

/// A transfer on its way.
struct Transfer {
    stream: TcpStream,
    is_aborted: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Session {
    files: Files,
    reader: BufReader<TcpStream>,
    /// Replies come from the session and from its transfer.
    replies: Arc<Mutex<TcpStream>>,
    user: Option<String>,
    is_in: bool,
    data: Data,
    transfer: Option<Transfer>,
}

impl Session {
    fn new(files: Files, stream: TcpStream) -> io::Result<Session> {
        Ok(Session {
            files,
            replies: Arc::new(Mutex::new(stream.try_clone()?)),
            reader: BufReader::new(stream),
            user: None,
            is_in: false,
            data: Data::Nowhere,
            transfer: None,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        self.reply("220 At your service")?;
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.reply("421 You have been silent for too long")?;
                    break;
                }
                Err(error) => return Err(error),
            }
            let line = line.trim_end();
            let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
            if verb == "QUIT" {
                self.join_transfer();
                self.reply("221 Good-bye")?;
                break;
            }
            self.obey(verb, argument)?;
        }
        self.abort();
        Ok(())
    }

    fn obey(&mut self, verb: &str, argument: &str) -> io::Result<()> {
        match verb {
            "USER" => {
                self.user = Some(argument.to_owned());
                return self.reply("331 And your password?");
            }
            "PASS" => {
                self.is_in = self.user.is_some() && argument == PASSWORD;
                let reply = if self.is_in { "230 Come in" } else { "530 No" };
                return self.reply(reply);
            }
            _ if !self.is_in => return self.reply("530 Who are you?"),
            "ABOR" => {
                self.abort();
                return self.reply("226 Nothing is under way any more");
            }
            _ => self.join_transfer(),
        }
        match verb {
            "NOOP" => self.reply("200 Indeed"),
            "PASV" => self.passive(),
            "PORT" => self.active(argument),
            "SIZE" => match self.file(argument) {
                Some(file) => self.reply(&format!("213 {}", file.len())),
                None => self.reply("550 No such file"),
            },
            "DELE" => {
                let removed = self.files.write().unwrap().remove(argument);
                self.reply(removed.map_or("550 No such file", |_| "250 Gone"))
            }
            "LIST" => {
                let list: String = {
                    let files = self.files.read().unwrap();
                    let of_user = files.iter().filter(|(name, _)| name.starts_with(argument));
                    of_user
                        .map(|(name, file)| format!("{:>9} {name}\r\n", file.len()))
                        .collect()
                };
                self.transfer(move |stream| stream.write_all(list.as_bytes()))
            }
            "RETR" if argument == ENDLESS => self.transfer(|stream| {
                loop {
                    stream.write_all(&[b'~'; 8192])?;
                }
            }),
            "RETR" => match self.file(argument) {
                Some(file) => self.transfer(move |stream| stream.write_all(&file)),
                None => self.reply("550 No such file"),
            },
            "STOR" => {
                let (files, name) = (Arc::clone(&self.files), argument.to_owned());
                self.transfer(move |stream| {
                    let mut file = Vec::new();
                    stream.read_to_end(&mut file)?;
                    files.write().unwrap().insert(name, Arc::new(file));
                    Ok(())
                })
            }
            _ => self.reply("502 Not here"),
        }
    }

    fn passive(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        self.data = Data::Passive(listener);
        self.reply(&format!(
            "227 Come to (127,0,0,1,{},{})",
            port >> 8,
            port & 255
        ))
    }

    fn active(&mut self, argument: &str) -> io::Result<()> {
        let numbers: Option<Vec<u8>> = argument.split(',').map(|n| n.parse().ok()).collect();
        let Some(&[a, b, c, d, high, low]) = numbers.as_deref() else {
            return self.reply("501 What port?");
        };
        let port = u16::from_be_bytes([high, low]);
        self.data = Data::Active(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)));
        self.reply("200 I shall connect there")
    }

    /// Starts a transfer, in which `work` has the data connection.
    fn transfer(
        &mut self,
        work: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let connected = match std::mem::replace(&mut self.data, Data::Nowhere) {
            Data::Nowhere => return self.reply("425 Say PASV or PORT first"),
            Data::Passive(listener) => listener.accept().map(|(stream, _)| stream),
            Data::Active(address) => TcpStream::connect(address),
        };
        let Ok(mut stream) = connected else {
            return self.reply("425 There is nobody");
        };
        self.reply("150 Here it comes")?;
        let is_aborted = Arc::new(AtomicBool::new(false));
        self.transfer = Some(Transfer {
            stream: stream.try_clone()?,
            is_aborted: Arc::clone(&is_aborted),
            thread: thread::spawn({
                let replies = Arc::clone(&self.replies);
                move || {
                    let result = work(&mut stream);
                    let _ = stream.shutdown(Shutdown::Both);
                    let reply = if is_aborted.load(Ordering::Acquire) || result.is_err() {
                        "426 It has been cut short"
                    } else {
                        "226 That was all"
                    };
                    let _ = say(&replies, reply);
                }
            }),
        });
        Ok(())
    }

    fn abort(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            transfer.is_aborted.store(true, Ordering::Release);
            // Its thread may wait for the client in a read or a write.
            let _ = transfer.stream.shutdown(Shutdown::Both);
            transfer.thread.join().expect("a transfer does not panic");
        }
    }

    fn join_transfer(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            transfer.thread.join().expect("a transfer does not panic");
        }
    }

    fn file(&self, name: &str) -> Option<Arc<Vec<u8>>> {
        self.files.read().unwrap().get(name).cloned()
    }

    fn reply(&self, reply: &str) -> io::Result<()> {
        say(&self.replies, reply)
    }
}

fn say(replies: &Mutex<TcpStream>, reply: &str) -> io::Result<()> {
    // One write, one packet.
    let line = format!("{reply}\r\n");
    replies.lock().unwrap().write_all(line.as_bytes())
}
