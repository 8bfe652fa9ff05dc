//! Servers: a green thread for each connection, a bound on how many, a graceful
//! end.
//!
//! ```
//! use greenring::io::{Read, Write};
//! use greenring::net::TcpStream;
//! use greenring::net::server::StreamServer;
//! use std::time::Duration;
//!
//! let server = StreamServer::bind("127.0.0.1:0")?.pool(1000);
//! server.start(|mut stream, _peer| {
//!     let mut buffer = [0; 1024];
//!     while let Ok(count @ 1..) = stream.read(&mut buffer) {
//!         if stream.write_all(&buffer[..count]).is_err() {
//!             break;
//!         }
//!     }
//! })?;
//!
//! let mut client = TcpStream::connect(server.local_addr()?)?;
//! client.write_all(b"echo")?;
//! client.read_exact(&mut [0; 4])?;
//! drop(client);
//! server.stop_timeout(Duration::from_secs(5));
//! assert_eq!(server.stats().finished, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The life of a server
//!
//! `bind` takes the address, `start` accepts from then on, on the hub of the OS
//! thread that calls it, and returns. Each connection is handled on a green
//! thread of its own; while as many as the pool holds are handled, nothing is
//! accepted, and the kernel keeps those who wait in the listener's queue. `stop`
//! closes the listener, at once, and waits for the handlers; `stop_timeout`
//! cancels those that are not through in time. A server that is dropped accepts
//! no more, and its handlers go on by themselves.
//!
//! [`StreamServer`] is for TCP, [`UnixServer`] for Unix sockets; a
//! [`DatagramServer`] handles datagrams of UDP, where the rest of this page says
//! connections. Each is also made from a socket that exists already, such as one
//! that systemd has opened: [`inherited()`].
//!
//! For TLS the handler wraps its stream (`examples/tls.rs`). For several cores
//! there is one server on each of several OS threads, on the same port
//! (`reuse_port`, `examples/multicore.rs`).
//!
//! # When things go wrong
//!
//! - A handler that panics ends its connection and is counted; the panic hook has
//!   spoken.
//! - Descriptors or memory run out: the server pauses, for 10 ms and then longer
//!   up to a second, counts the pauses and goes on.
//! - A connection that breaks before it is accepted is counted.
//! - A listener that fails for good ends the server: `wait` gives the error.
//!
//! # Panics
//!
//! `stop` and `stop_timeout` cancel the green thread that accepts, which a
//! program compiled with `panic = "abort"` cannot do, see
//! [`cancel::supported`](crate::cancel::supported).

mod datagram;
mod inherited;
mod serving;
mod stream;
mod unix;

pub use datagram::DatagramServer;
pub use inherited::{Inherited, InheritedSocket, inherited};
pub use stream::StreamServer;
pub use unix::UnixServer;

/// What a server has done and does.
///
/// # Examples
///
/// ```
/// let server = greenring::net::server::StreamServer::bind("127.0.0.1:0")?;
/// assert_eq!(server.stats().accepted, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are handled now.
    pub active: usize,
    /// Handlers that have returned.
    pub finished: u64,
    /// Handlers that have panicked.
    pub panicked: u64,
    /// Handlers that were cancelled.
    pub cancelled: u64,
    /// Connections whose handler never began: they broke before they were
    /// accepted, there was no stack, or the server was stopped first.
    pub failed: u64,
    /// Pauses because descriptors or memory ran out.
    pub pauses: u64,
}
