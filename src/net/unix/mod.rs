//! Sockets between processes of one machine, unix(7). Public in
//! [`os::unix::net`](crate::os::unix::net), as in std.

mod address;
mod datagram;
mod listener;
mod rights;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use stream::UnixStream;
