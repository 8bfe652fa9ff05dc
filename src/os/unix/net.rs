//! Unix sockets as in `std::os::unix::net`, which park the green thread where
//! std's block the OS thread.
//!
//! ```
//! use greenring::io::{Read, Write};
//! use greenring::os::unix::net::UnixStream;
//! use greenring::thread;
//!
//! let (mut one, mut other) = UnixStream::pair()?;
//! let echo = thread::spawn(move || {
//!     let mut word = [0; 4];
//!     other.read_exact(&mut word)?;
//!     other.write_all(&word)
//! });
//! one.write_all(b"ping")?;
//! let mut word = [0; 4];
//! one.read_exact(&mut word)?;
//! assert_eq!(&word, b"ping");
//! echo.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`SocketAddr`] is std's own type; abstract addresses are made by
//! [`SocketAddrExt`](crate::os::linux::net::SocketAddrExt).
//!
//! # Difference from std
//!
//! That of [`net`](crate::net): time limits and non-blocking mode are read from
//! a socket once, when it becomes greenring's; and no call fails with
//! `Interrupted`.

#[doc(inline)]
pub use crate::net::unix::{Incoming, UnixDatagram, UnixListener, UnixStream};

#[doc(no_inline)]
pub use std::os::unix::net::SocketAddr;
