//! How fast the machine is at the moment, for what the servers do.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::machine::{cpu_time, cpu_time_since, getppid_nanoseconds};
use crate::statistics::median;

/// Requests and replies of one measurement.
const ROUND_TRIPS: u32 = 500;

/// Bytes of a message.
const SIZE: usize = 64;

/// Takes samples beside those of the servers.
pub struct Yardstick {
    one: TcpStream,
    other: TcpStream,
    getppid: Vec<f64>,
    messages: Vec<f64>,
}

/// Nanoseconds of CPU time, the medians.
#[derive(Clone, Copy)]
pub struct Speed {
    /// The cheapest system call.
    pub getppid: f64,
    /// A small message over loopback, without any waiting: one send and one
    /// receive. Of a request it is what no server can save.
    pub message: f64,
}

impl Yardstick {
    pub fn new() -> io::Result<Yardstick> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let one = TcpStream::connect(listener.local_addr()?)?;
        let (other, _) = listener.accept()?;
        one.set_nodelay(true)?;
        other.set_nodelay(true)?;
        Ok(Yardstick {
            one,
            other,
            getppid: Vec::new(),
            messages: Vec::new(),
        })
    }

    pub fn sample(&mut self) -> io::Result<()> {
        let mut message = [b'.'; SIZE];
        let start = cpu_time();
        for _ in 0..ROUND_TRIPS {
            // There and back: in one direction alone TCP acknowledges every message
            // by a packet of its own.
            self.one.write_all(&message)?;
            self.other.read_exact(&mut message)?;
            self.other.write_all(&message)?;
            self.one.read_exact(&mut message)?;
        }
        let elapsed = cpu_time_since(start).as_nanos() as f64;
        self.messages.push(elapsed / f64::from(2 * ROUND_TRIPS));
        self.getppid.push(getppid_nanoseconds());
        Ok(())
    }

    pub fn speed(self) -> Speed {
        Speed {
            getppid: median(self.getppid),
            message: median(self.messages),
        }
    }
}
