//! The load: a fixed number of connections, on each of which a request follows
//! the reply to the one before. Every reply is compared, byte for byte.
//!
//! It is as cheap as a generator on readiness can be, and it is the same for
//! all servers: its own CPU time per request is the measure for theirs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::SIZE;
use crate::machine::{cpu_time, cpu_time_since};

/// A server that takes longer for a reply has lost it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Readiness taken at a time: all that there is, so that the server's turn
/// finds a full batch.
const EVENTS: usize = 1024;

/// The connections to one server.
pub struct Generator {
    epoll: Epoll,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    /// Tells the requests of a connection apart.
    sequence: u32,
    /// Bytes of the reply that have come.
    received: usize,
    reply: [u8; SIZE],
}

/// What a run came to.
pub struct Load {
    pub requests: u64,
    /// CPU time of the generator.
    pub cpu: Duration,
    pub elapsed: Duration,
}

/// Raises the limit of open files as far as the process may: the generator
/// holds the connections of all servers at once.
pub fn allow_many_connections() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

impl Generator {
    /// Connects, and has one request answered on each connection, which keeps
    /// the server's backlog short and warms both sides up.
    pub fn connect(address: SocketAddr, connections: usize) -> io::Result<Generator> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connected = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut connection = Connection {
                stream,
                sequence: 0,
                received: 0,
                reply: [0; SIZE],
            };
            connection.ask(index)?;
            while !connection.take_reply(index)? {}
            connection.stream.set_nonblocking(true)?;
            let interest = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
            epoll.add(&connection.stream, interest)?;
            connected.push(connection);
        }
        Ok(Generator {
            epoll,
            connections: connected,
        })
    }

    /// Keeps every connection busy for a time, and waits for the last replies.
    pub fn run(&mut self, duration: Duration) -> io::Result<Load> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let patience = EpollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
        let cpu = cpu_time();
        let start = Instant::now();
        for (index, connection) in self.connections.iter_mut().enumerate() {
            connection.ask(index)?;
        }
        let mut outstanding = self.connections.len();
        let mut requests = 0;
        while outstanding > 0 {
            let ready = match self.epoll.wait(&mut events, patience) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("{outstanding} replies did not come within {PATIENCE:?}"),
                    ));
                }
                Ok(ready) => ready,
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let goes_on = start.elapsed() < duration;
            for event in &events[..ready] {
                let index = event.data() as usize;
                let connection = &mut self.connections[index];
                if !connection.take_reply(index)? {
                    continue;
                }
                requests += 1;
                if goes_on {
                    connection.ask(index)?;
                } else {
                    outstanding -= 1;
                }
            }
        }
        Ok(Load {
            requests,
            cpu: cpu_time_since(cpu),
            elapsed: start.elapsed(),
        })
    }
}

impl Connection {
    fn request(&self, index: usize) -> [u8; SIZE] {
        let mut request = [b'.'; SIZE];
        request[..4].copy_from_slice(&(index as u32).to_le_bytes());
        request[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        request
    }

    /// Sends the next request. The socket's buffer is empty, so that there is
    /// room for all of it.
    fn ask(&mut self, index: usize) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.received = 0;
        let request = self.request(index);
        let sent = self.stream.write(&request)?;
        if sent < SIZE {
            return Err(io::Error::other(format!("sent {sent} of {SIZE} bytes")));
        }
        Ok(())
    }

    /// Reads what has come, and says whether that completes the reply.
    fn take_reply(&mut self, index: usize) -> io::Result<bool> {
        match self.stream.read(&mut self.reply[self.received..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.received += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        if self.received < SIZE {
            return Ok(false);
        }
        if self.reply != self.request(index) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("connection {index} got a reply that is not what it sent"),
            ));
        }
        Ok(true)
    }
}
