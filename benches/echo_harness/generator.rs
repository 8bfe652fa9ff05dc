//! The load, on io_uring: a closed loop. On each connection a burst of requests
//! (one, without pipelining) follows the replies to the burst before. Every
//! reply is compared, byte for byte.
//!
//! It is a process of its own, the same for all servers: its own CPU time per
//! request is the measure for theirs. A burst is two operations and one
//! completion: the send posts none, and the receive waits for all the replies.

#![allow(unsafe_code)] // The ring reads and writes the buffers of a generator.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrLike, bind, setsockopt, socket, sockopt,
};

use super::histogram::Histogram;
use super::load::{LEAST_PAYLOAD, Load};
use crate::machine::{cpu_time, cpu_time_since};

/// A server that takes longer for a reply has lost it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that meets more errors than this ends: it would measure nothing else.
const MOST_ERRORS: u64 = 1000;

/// Operations that are handed over at once.
const ENTRIES: u32 = 4096;

/// The completion of a send, which comes only if it fails; then so does the
/// receive of the same connection.
const SEND: u64 = u64::MAX;

/// Addresses that connections come from where each request has its own: one
/// alone has too few ports for all that are in the state `TIME_WAIT`.
const SOURCES: u8 = 64;

/// Send all, receive all: no completion before.
const ALL: i32 = nix::libc::MSG_WAITALL;

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub requests: u64,
    /// Replies that were wrong or did not come.
    pub errors: u64,
    /// CPU time of the generator.
    pub cpu: Duration,
    pub elapsed: Duration,
    /// Microseconds that 50, 99 and 99.9 % of the requests did not exceed.
    pub latency: [f64; 3],
}

/// The connections to one server.
pub struct Generator {
    load: Load,
    /// Before the buffers, so that it is closed before they are freed: an
    /// operation may be under way when a run fails.
    ring: IoUring,
    server: Box<SockaddrIn>,
    connections: Vec<Connection>,
    /// The bursts of all connections, one after the other: what is sent, and
    /// what has come. The kernel uses them while a burst is under way; neither is
    /// ever moved.
    requests: Vec<u8>,
    replies: Vec<u8>,
    /// Sockets that were bound to one of the sources, in turn.
    bound: usize,
}

struct Connection {
    /// None if the next request brings its own.
    socket: Option<OwnedFd>,
    /// Tells the bursts of a connection apart.
    sequence: u32,
    asked: Instant,
}

impl Generator {
    /// Connects, and has one burst answered on each connection, which keeps the
    /// server's backlog short and warms both sides up.
    pub fn connect(address: SocketAddr, load: Load) -> io::Result<Generator> {
        let SocketAddr::V4(server) = address else {
            return Err(ErrorKind::Unsupported.into());
        };
        let completions = (2 * load.connections).max(ENTRIES as usize);
        let mut generator = Generator {
            load,
            ring: IoUring::builder()
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_cqsize(completions.next_power_of_two() as u32)
                .build(ENTRIES)?,
            server: Box::new(server.into()),
            connections: Vec::with_capacity(load.connections),
            requests: vec![b'.'; load.connections * load.burst()],
            replies: vec![0; load.connections * load.burst()],
            bound: 0,
        };
        for index in 0..load.connections {
            let mut connection = Connection {
                socket: None,
                sequence: 0,
                asked: Instant::now(),
            };
            if !load.connect_per_request {
                let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                // At most one request, so that neither side waits for room.
                let mut reply = vec![0; load.payload];
                generator.stamp(index, 0);
                let request = &generator.requests[index * load.burst()..][..load.payload];
                stream.write_all(request)?;
                stream.read_exact(&mut reply)?;
                if reply != request {
                    return Err(io::Error::other("the first reply is not what was sent"));
                }
                connection.socket = Some(stream.into());
            }
            generator.connections.push(connection);
        }
        let sockets = generator.connections.iter();
        let sockets: Vec<RawFd> = sockets
            .filter_map(|connection| Some(connection.socket.as_ref()?.as_raw_fd()))
            .collect();
        if !sockets.is_empty() {
            generator.ring.submitter().register_files(&sockets)?;
        }
        let first = generator.run(Duration::ZERO)?;
        match first.errors {
            0 => Ok(generator),
            errors => Err(io::Error::other(format!(
                "{errors} of the first replies are wrong"
            ))),
        }
    }

    /// Keeps every connection busy for a time, and waits for the last replies.
    pub fn run(&mut self, duration: Duration) -> io::Result<Outcome> {
        let pipelining = self.load.pipelining as u64;
        let mut latencies = Histogram::new();
        let mut outcome = Outcome {
            requests: 0,
            errors: 0,
            cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
            latency: [0.0; 3],
        };
        let cpu = cpu_time();
        let start = Instant::now();
        let mut outstanding = 0;
        for index in 0..self.load.connections {
            outstanding += usize::from(self.ask(index, start)?);
        }
        let mut completed = Vec::with_capacity(ENTRIES as usize);
        while outstanding > 0 {
            self.wait(outstanding)?;
            // One look at the clock for all that have come.
            let now = Instant::now();
            let goes_on = now - start < duration && outcome.errors < MOST_ERRORS;
            let completions = self.ring.completion();
            let received = completions.filter(|completion| completion.user_data() != SEND);
            completed.extend(received.map(|each| (each.user_data() as usize, each.result())));
            for (index, result) in completed.drain(..) {
                outstanding -= 1;
                if self.is_answered(index, result) {
                    let latency = now - self.connections[index].asked;
                    latencies.record(latency, pipelining);
                    outcome.requests += pipelining;
                } else {
                    outcome.errors += pipelining;
                    self.connections[index].socket = None;
                }
                if goes_on {
                    outstanding += usize::from(self.ask(index, now)?);
                }
            }
        }
        outcome.cpu = cpu_time_since(cpu);
        outcome.elapsed = start.elapsed();
        outcome.latency = [0.5, 0.99, 0.999].map(|part| latencies.quantile(part));
        Ok(outcome)
    }

    /// Hands over what was pushed, and waits for a completion.
    fn wait(&mut self, outstanding: usize) -> io::Result<()> {
        let patience = Timespec::from(PATIENCE);
        let patience = SubmitArgs::new().timespec(&patience);
        loop {
            match self.ring.submitter().submit_with_args(1, &patience) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(nix::libc::ETIME) => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("{outstanding} replies did not come within {PATIENCE:?}"),
                    ));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Pushes the operations of the next burst, unless the connection is lost.
    fn ask(&mut self, index: usize, now: Instant) -> io::Result<bool> {
        let connects = self.load.connect_per_request;
        if connects {
            let socket = self.open()?;
            self.connections[index].socket = Some(socket);
        }
        let connection = &mut self.connections[index];
        let Some(socket) = &connection.socket else {
            return Ok(false);
        };
        let socket = Fd(socket.as_raw_fd());
        connection.sequence = connection.sequence.wrapping_add(1);
        connection.asked = now;
        let sequence = connection.sequence;
        self.stamp(index, sequence);
        let burst = self.load.burst();
        let request = self.requests[index * burst..][..burst].as_ptr();
        let reply = self.replies[index * burst..][..burst].as_mut_ptr();
        let length = burst as u32;
        let silent = squeue::Flags::SKIP_SUCCESS;
        let key = index as u64;
        if !connects {
            let fixed = Fixed(index as u32);
            let send = opcode::Send::new(fixed, request, length).flags(ALL).build();
            let receive = opcode::Recv::new(fixed, reply, length).flags(ALL);
            // The reply is not there yet: it does not look, it waits.
            let receive = receive.ioprio(POLL_FIRST).build().user_data(key);
            return self.push(&[send.flags(silent).user_data(SEND), receive]);
        }
        // The first that fails posts a completion and takes the rest with it.
        let link = silent | squeue::Flags::IO_LINK;
        let connect = opcode::Connect::new(socket, self.server.as_ptr(), self.server.len());
        let send = opcode::Send::new(socket, request, length).flags(ALL);
        let receive = opcode::Recv::new(socket, reply, length).flags(ALL);
        self.push(&[
            connect.build().flags(link).user_data(key),
            send.build().flags(link).user_data(key),
            receive.build().user_data(key),
        ])
    }

    fn push(&mut self, operations: &[squeue::Entry]) -> io::Result<bool> {
        let room = {
            let queue = self.ring.submission();
            queue.capacity() - queue.len()
        };
        if room < operations.len() {
            self.ring.submit()?;
        }
        // SAFETY: the address and the buffers that the operations name are
        // the generator's, never moved, and not touched before the completion; the ring,
        // and with it every operation, ends before them.
        let pushed = unsafe { self.ring.submission().push_multiple(operations) };
        pushed.map_err(io::Error::other)?;
        Ok(true)
    }

    /// Every request of a burst begins with the numbers of its connection and
    /// of itself.
    fn stamp(&mut self, index: usize, sequence: u32) {
        let burst = &mut self.requests[index * self.load.burst()..][..self.load.burst()];
        for (number, request) in (0..).zip(burst.chunks_exact_mut(self.load.payload)) {
            let stamp = sequence.wrapping_mul(self.load.pipelining as u32) + number;
            request[..4].copy_from_slice(&(index as u32).to_le_bytes());
            request[4..LEAST_PAYLOAD].copy_from_slice(&stamp.to_le_bytes());
        }
    }

    /// Whether the replies are what was sent. A connection for one request is
    /// closed.
    fn is_answered(&mut self, index: usize, result: i32) -> bool {
        if self.load.connect_per_request {
            self.connections[index].socket = None;
        }
        let burst = self.load.burst();
        let range = index * burst..(index + 1) * burst;
        result == burst as i32 && self.replies[range.clone()] == self.requests[range]
    }

    /// A socket whose address is the next of the sources.
    fn open(&mut self) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        self.bound += 1;
        let source = Ipv4Addr::new(127, 0, 1, (self.bound % usize::from(SOURCES)) as u8 + 1);
        // The port is chosen when it connects, when the other end is known too.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )?;
        Ok(socket)
    }
}

/// Of a receive: IORING_RECVSEND_POLL_FIRST.
const POLL_FIRST: u16 = 1;
