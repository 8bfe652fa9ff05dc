//! Sockets as in `std::net`, which park the green thread where std's block the
//! OS thread.
//!
//! Take it for `std::net` and change nothing but the imports:
//!
//! ```
//! use greenring::io::{Read, Write};
//! use greenring::net::{TcpListener, TcpStream};
//! use greenring::thread;
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let server = thread::spawn(move || {
//!     let (mut stream, _) = listener.accept()?;
//!     stream.write_all(b"hello")
//! });
//! let mut greeting = String::new();
//! TcpStream::connect(address)?.read_to_string(&mut greeting)?;
//! assert_eq!(greeting, "hello");
//! server.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! All types are `Send` and `Sync`: wherever they are used, they wait on the
//! hub of the OS thread that uses them.
//!
//! # Difference from std
//!
//! - [`ToSocketAddrs`] is a trait of its own, so that looking up a name does
//!   not stop the hub.
//! - Time limits and non-blocking mode are read from a socket once, when it
//!   becomes greenring's. See [`TcpStream`], [`TcpListener`] and [`UdpSocket`].
//! - A signal does not end a wait: no call fails with `Interrupted`.
//!
//! # Panics
//!
//! The first operation on an OS thread starts its hub, and panics if the
//! environment asks for what cannot be had; see [`runtime`](crate::runtime).

mod address;
mod listener;
mod ready;
mod resolve;
pub mod server;
mod tcp;
mod udp;
pub(crate) mod unix;

pub use listener::{Incoming, TcpListener};
pub use ready::{wait_readable, wait_writable};
pub use resolve::{ToSocketAddrs, lookup_host};
pub use tcp::TcpStream;
pub use udp::UdpSocket;

#[doc(no_inline)]
pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
};
