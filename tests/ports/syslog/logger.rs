//! The sender: RFC 5424 messages, each a datagram.

use super::sys::io;
use super::sys::net::{SocketAddr, UdpSocket};
use super::sys::sync::mpsc::{self, SyncSender, TrySendError};
use super::sys::thread::{self, JoinHandle};
use super::sys::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Debug = 7,
}

const FACILITY_DAEMON: u8 = 3;

/// Sends to the first of its collectors that is there.
pub struct Logger {
    socket: UdpSocket,
    /// Those that have not been tried.
    others: std::vec::IntoIter<SocketAddr>,
    host: String,
    program: String,
}

impl Logger {
    pub fn new(collectors: Vec<SocketAddr>, host: &str, program: &str) -> io::Result<Logger> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let mut others = collectors.into_iter();
        socket.connect(others.next().ok_or(io::ErrorKind::InvalidInput)?)?;
        let (host, program) = (host.to_owned(), program.to_owned());
        Ok(Logger {
            socket,
            others,
            host,
            program,
        })
    }

    pub fn log(&mut self, severity: Severity, message: &str) -> io::Result<()> {
        let priority = FACILITY_DAEMON * 8 + severity as u8;
        let (host, program) = (&self.host, &self.program);
        let line = format!("<{priority}>1 - {host} {program} - - - {message}");
        loop {
            match self.socket.send(line.as_bytes()) {
                Ok(_) => return Ok(()),
                // The host has told that nobody received the last one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.take_next(error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the host to tell that nobody received the last one; takes the
    /// next collector then and returns true.
    pub fn is_refused(&mut self, patience: Duration) -> io::Result<bool> {
        self.socket.set_read_timeout(Some(patience))?;
        match self.socket.recv(&mut [0; 16]) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.take_next(error)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn take_next(&mut self, refusal: io::Error) -> io::Result<()> {
        self.socket.connect(self.others.next().ok_or(refusal)?)
    }
}

/// A logger that nobody waits for: what there is no room for is counted only.
pub struct Background {
    queue: Option<SyncSender<(Severity, String)>>,
    lost: usize,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Background {
    pub fn new(mut logger: Logger, room: usize) -> Background {
        let (queue, messages) = mpsc::sync_channel::<(Severity, String)>(room);
        let thread = thread::spawn(move || {
            for (severity, message) in messages {
                logger.log(severity, &message)?;
            }
            Ok(())
        });
        Background {
            queue: Some(queue),
            lost: 0,
            thread: Some(thread),
        }
    }

    pub fn log(&mut self, severity: Severity, message: String) {
        let queue = self.queue.as_ref().expect("it is there until the end");
        if let Err(TrySendError::Full(_)) = queue.try_send((severity, message)) {
            self.lost += 1;
        }
    }

    /// Waits until everything is sent; returns how many found no room.
    pub fn finish(mut self) -> io::Result<usize> {
        self.queue = None;
        let thread = self.thread.take().expect("it is there until the end");
        thread.join().expect("a logger does not panic")?;
        Ok(self.lost)
    }
}
