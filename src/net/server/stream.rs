//! The server of TCP streams.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};

use super::Stats;
use super::serving::{Listen, Serving, no_address};
use crate::net::resolve::each_address;
use crate::net::{TcpListener, TcpStream, ToSocketAddrs};

/// How many connections may wait to be accepted; the kernel's limit
/// net.core.somaxconn is usually the same.
const BACKLOG: i32 = 4096;

/// A TCP server, see the [module](super).
///
/// It is bound to its OS thread: neither `Send` nor `Sync`.
///
/// # Examples
///
/// See the [module](super).
pub struct StreamServer {
    serving: Serving<TcpListener>,
    address: Option<SocketAddr>,
    /// Made from an address: the socket is bound and does not listen yet.
    is_bound_only: bool,
    shares_port: bool,
}

impl StreamServer {
    /// Takes the first of the addresses that can be had, port 0 any free one.
    ///
    /// Nobody can connect before [`start`](Self::start). The address may be one
    /// that was in use a moment ago (SO_REUSEADDR, socket(7)).
    ///
    /// # Errors
    ///
    /// As those of [`TcpListener::bind`]. That another `StreamServer` of the same
    /// user is bound to the port and has not started is noticed by `start`,
    /// because only then it is decided whether they share it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::server::StreamServer;
    ///
    /// let server = StreamServer::bind("127.0.0.1:0")?;
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<StreamServer> {
        let socket = each_address(addr, bound)?;
        let mut server = StreamServer::from(TcpListener::from(socket));
        server.is_bound_only = true;
        Ok(server)
    }

    /// Handles at most `n` connections at once, 10 000 unless it is told.
    ///
    /// # Panics
    ///
    /// If `n` is zero: nobody could be served.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::server::StreamServer;
    ///
    /// let server = StreamServer::bind("127.0.0.1:0")?.pool(100);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn pool(mut self, n: usize) -> StreamServer {
        self.serving.resize(n);
        self
    }

    /// Whether other sockets may listen on the same port: SO_REUSEPORT,
    /// socket(7). Then the kernel spreads connections over all of them; all must
    /// belong to one user and say so. Usually one on each core.
    ///
    /// It says nothing of a server made from a listener.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::server::StreamServer;
    ///
    /// let one = StreamServer::bind("127.0.0.1:0")?.reuse_port(true);
    /// let other = StreamServer::bind(one.local_addr()?)?.reuse_port(true);
    /// one.start(|_, _| {})?;
    /// other.start(|_, _| {})?;
    /// # one.stop();
    /// # other.stop();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn reuse_port(mut self, reuse_port: bool) -> StreamServer {
        self.shares_port = reuse_port;
        self
    }

    /// The address it serves, also when it has been stopped.
    ///
    /// # Errors
    ///
    /// It was made from a listener that has none.
    ///
    /// # Examples
    ///
    /// See [`bind`](Self::bind).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.ok_or_else(no_address)
    }

    /// Accepts connections from now on, and has each handled by a call of
    /// `handler` on a green thread of its own, with the address of its peer.
    ///
    /// The green threads belong to the hub of the calling OS thread, which
    /// starts if there is none; they run while that waits for something.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another one listens on the port; then it may be tried
    /// again. `InvalidInput` if it was started or stopped before; no stack or no
    /// hub for the green thread that accepts.
    ///
    /// # Examples
    ///
    /// See the [module](super).
    pub fn start(&self, handler: impl Fn(TcpStream, SocketAddr) + 'static) -> io::Result<()> {
        let prepare = |listener: &TcpListener| {
            if self.is_bound_only {
                listen(listener, self.shares_port)?;
            }
            Ok(())
        };
        self.serving.start(prepare, handler)
    }

    /// Waits until the server accepts no more: it was stopped, or its listener
    /// has failed. Handlers may go on.
    ///
    /// # Errors
    ///
    /// What the listener has failed with.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::server::StreamServer;
    /// use std::rc::Rc;
    ///
    /// let server = Rc::new(StreamServer::bind("127.0.0.1:0")?);
    /// server.start(|_, _| {})?;
    /// let stops = Rc::clone(&server);
    /// greenring::spawn(move || stops.stop());
    /// server.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&self) -> io::Result<()> {
        self.serving.wait()
    }

    /// Accepts no more, closes the listener, and waits until all handlers have
    /// returned. Connections that wait in the listener's queue are reset.
    ///
    /// A handler that calls it does not wait for the others, nor cancel them:
    /// that is for whoever has started the server and waits for its end in
    /// [`wait`](Self::wait). If an interrupt ends the call, the server accepts
    /// no more all the same, and it may be called again.
    ///
    /// # Panics
    ///
    /// With `panic = "abort"`, see the [module](super).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::TcpStream;
    /// use greenring::net::server::StreamServer;
    ///
    /// let server = StreamServer::bind("127.0.0.1:0")?;
    /// server.start(|_, _| {})?;
    /// server.stop();
    /// assert!(TcpStream::connect(server.local_addr()?).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop(&self) {
        self.serving.stop(None);
    }

    /// As [`stop`](Self::stop), and after `timeout` cancels the handlers that
    /// have not returned, and waits for their end.
    ///
    /// # Panics
    ///
    /// With `panic = "abort"`, see the [module](super).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::TcpStream;
    /// use greenring::net::server::StreamServer;
    /// use std::time::Duration;
    ///
    /// let server = StreamServer::bind("127.0.0.1:0")?;
    /// server.start(|_, _| greenring::sleep(Duration::from_secs(3600)))?;
    /// let client = TcpStream::connect(server.local_addr()?)?;
    /// while server.stats().active == 0 {
    ///     greenring::yield_now();
    /// }
    /// server.stop_timeout(Duration::from_millis(1));
    /// assert_eq!(server.stats().cancelled, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop_timeout(&self, timeout: Duration) {
        self.serving.stop(Some(timeout));
    }

    /// What it has done and does.
    ///
    /// # Examples
    ///
    /// See [`stop_timeout`](Self::stop_timeout).
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.serving.stats()
    }
}

/// A server of a listener that exists already, such as an inherited one.
impl From<TcpListener> for StreamServer {
    fn from(listener: TcpListener) -> StreamServer {
        StreamServer {
            address: listener.local_addr().ok(),
            serving: Serving::new(listener),
            is_bound_only: false,
            shares_port: false,
        }
    }
}

impl fmt::Debug for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serving.debug("StreamServer", &self.address, f)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self)
    }
}

/// A socket with this address, which may yet share its port or not: the kernel
/// asks again at listen(2).
fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

fn listen(socket: &impl AsFd, shares_port: bool) -> io::Result<()> {
    setsockopt(socket, sockopt::ReusePort, &shares_port)?;
    Ok(socket::listen(socket, Backlog::new(BACKLOG)?)?)
}
