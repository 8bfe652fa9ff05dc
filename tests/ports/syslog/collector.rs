//! The receiver: threads that share a socket, until somebody sends nothing.

use super::sys::io;
use super::sys::net::{Ipv4Addr, SocketAddr, UdpSocket};
use super::sys::sync::{Arc, Mutex};
use super::sys::thread::{self, JoinHandle};

/// A message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub severity: u8,
    pub host: String,
    pub program: String,
    pub message: String,
}

pub struct Collector {
    socket: UdpSocket,
    entries: Arc<Mutex<Vec<Entry>>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Collector {
    /// Keeps what is at least as grave as `threshold`, and passes it on if
    /// there is somebody.
    pub fn start(threads: usize, threshold: u8, next: Option<SocketAddr>) -> io::Result<Collector> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let entries = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..threads)
            .map(|_| {
                let (socket, entries) = (socket.try_clone()?, Arc::clone(&entries));
                Ok(thread::spawn(move || {
                    collect(&socket, &entries, threshold, next)
                }))
            })
            .collect::<io::Result<_>>()?;
        Ok(Collector {
            socket,
            entries,
            threads,
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes what has come before; sorted, because datagrams have no order.
    pub fn stop(self) -> io::Result<Vec<Entry>> {
        let bell = UdpSocket::bind("127.0.0.1:0")?;
        for _ in &self.threads {
            bell.send_to(b"", self.address()?)?;
        }
        for thread in self.threads {
            thread.join().expect("a collector does not panic")?;
        }
        let mut entries = std::mem::take(&mut *self.entries.lock().unwrap());
        entries.sort();
        Ok(entries)
    }
}

fn collect(
    socket: &UdpSocket,
    entries: &Mutex<Vec<Entry>>,
    threshold: u8,
    next: Option<SocketAddr>,
) -> io::Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        let (len, _) = socket.recv_from(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        // What nobody understands is dropped, as syslog daemons do.
        let Some(entry) = std::str::from_utf8(&buffer[..len]).ok().and_then(parse) else {
            continue;
        };
        if entry.severity <= threshold {
            entries.lock().unwrap().push(entry);
            if let Some(next) = next {
                socket.send_to(&buffer[..len], next)?;
            }
        }
    }
}

fn parse(line: &str) -> Option<Entry> {
    let (priority, rest) = line.strip_prefix('<')?.split_once(">1 ")?;
    let mut words = rest.splitn(7, ' ').skip(1);
    Some(Entry {
        severity: priority.parse::<u8>().ok()? & 7,
        host: words.next()?.to_owned(),
        program: words.next()?.to_owned(),
        message: words.nth(3)?.to_owned(),
    })
}
