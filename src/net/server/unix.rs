//! The server of Unix stream sockets.

use std::fmt;
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Stats;
use super::serving::{Listen, Serving, methods_as_of_stream_server, no_address};
use crate::net::unix::{UnixListener, UnixStream};

/// A [`StreamServer`](super::StreamServer) for Unix sockets.
///
/// The file of its path stays when it stops, as that of a listener does:
/// removing it is for whoever owns the directory. It is bound to its OS thread:
/// neither `Send` nor `Sync`.
///
/// # Examples
///
/// ```
/// use greenring::io::{Read, Write};
/// use greenring::net::server::UnixServer;
/// use greenring::os::unix::net::UnixStream;
///
/// # let directory = std::env::temp_dir().join(format!("unix-server-{}", std::process::id()));
/// # std::fs::create_dir(&directory)?;
/// let path = directory.join("greeter");
/// let server = UnixServer::bind(&path)?;
/// server.start(|mut stream, _peer| {
///     let _ = stream.write_all(b"hello");
/// })?;
///
/// let mut greeting = String::new();
/// UnixStream::connect(&path)?.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// server.stop();
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixServer {
    serving: Serving<UnixListener>,
    address: Option<SocketAddr>,
}

impl UnixServer {
    /// Listens on this path. Who connects before [`start`](Self::start) waits in
    /// the queue.
    ///
    /// For an abstract address make the server from a
    /// [`UnixListener`].
    ///
    /// # Errors
    ///
    /// As those of [`UnixListener::bind`].
    ///
    /// # Examples
    ///
    /// See [`UnixServer`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixServer> {
        UnixListener::bind(path).map(UnixServer::from)
    }

    /// The address it serves, also when it has been stopped.
    ///
    /// # Errors
    ///
    /// It was made from a listener that has none.
    ///
    /// # Examples
    ///
    /// See [`StreamServer::local_addr`](super::StreamServer::local_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.clone().ok_or_else(no_address)
    }

    /// As [`StreamServer::start`](super::StreamServer::start).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it was started or stopped before; no stack or no hub
    /// for the green thread that accepts.
    ///
    /// # Examples
    ///
    /// See [`UnixServer`].
    pub fn start(&self, handler: impl Fn(UnixStream, SocketAddr) + 'static) -> io::Result<()> {
        self.serving.start(|_| Ok(()), handler)
    }
}

methods_as_of_stream_server!(UnixServer);

/// A server of a listener that exists already, such as an inherited one.
impl From<UnixListener> for UnixServer {
    fn from(listener: UnixListener) -> UnixServer {
        UnixServer {
            address: listener.local_addr().ok(),
            serving: Serving::new(listener),
        }
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        UnixListener::accept(self)
    }
}
