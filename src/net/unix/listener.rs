//! Unix listeners. A face, as `net/tcp.rs` is; what `net/listener.rs` says of
//! O_NONBLOCK is true here too.

use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::address;
use super::stream::UnixStream;
use crate::fd::{Socket, descriptor_traits};

/// std's type of the same name.
type Std = std::os::unix::net::UnixListener;

/// A Unix socket that listens for connections, as
/// `std::os::unix::net::UnixListener`.
///
/// It is closed when it is dropped, and the connections that were not accepted
/// are reset. The path stays; who wants to bind it again has to remove it.
/// unix(7).
///
/// # Difference from std
///
/// Those of [`TcpListener`](crate::net::TcpListener): on the epoll backend the
/// open socket has O_NONBLOCK set from the first accept on, until its last clone
/// is converted back; and its time limit is read when it becomes greenring's.
///
/// # Examples
///
/// ```
/// use greenring::io::{Read, Write};
/// use greenring::os::unix::net::{UnixListener, UnixStream};
/// use greenring::thread;
///
/// # let path = std::env::temp_dir().join(format!("greenring-listener-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let server = thread::spawn(move || {
///     let (mut stream, _) = listener.accept()?;
///     stream.write_all(b"hello")
/// });
/// let mut greeting = String::new();
/// UnixStream::connect(&path)?.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// # std::fs::remove_file(&path)?;
/// server.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixListener(Socket<Std>);

/// The connections of a listener, one after the other, without end.
///
/// Made by [`UnixListener::incoming`].
///
/// # Examples
///
/// See [`UnixListener::incoming`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl UnixListener {
    /// Listens at a path, which must not exist yet. bind(2), listen(2).
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the path exists; `InvalidInput` if it is too long or has a
    /// zero byte in it; those of bind(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixListener;
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-bind-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        Std::bind(path).map(|std| UnixListener(Socket::fresh(std)))
    }

    /// Listens at an address, which may be abstract.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](UnixListener::bind).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::linux::net::SocketAddrExt;
    /// use greenring::os::unix::net::{SocketAddr, UnixListener};
    ///
    /// # let name = format!("greenring-bind-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let listener = UnixListener::bind_addr(&address)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixListener> {
        Std::bind_addr(socket_addr).map(|std| UnixListener(Socket::fresh(std)))
    }

    /// Waits for a connection and takes it, with the address of its other end.
    ///
    /// accept(2).
    ///
    /// # Errors
    ///
    /// `WouldBlock` in non-blocking mode or past the socket's time limit, and
    /// those of accept(2). Most of them concern one connection or pass (as
    /// when descriptors run out), and leave the listener usable.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-accept-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// let (stream, peer) = listener.accept()?;
    /// assert!(peer.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, peer) = self.0.accept(false)?;
        let stream = Socket::fresh(std::os::unix::net::UnixStream::from(socket));
        let peer = match address::decode(&peer)? {
            Some(peer) => peer,
            None => stream.std().peer_addr()?,
        };
        // Linux gives an accepted Unix socket neither the listener's time limits
        // nor its O_NONBLOCK.
        Ok((UnixStream(stream), peer))
    }

    /// Another handle to the same listener, by a duplicate descriptor.
    ///
    /// A connection goes to one of those who accept. fcntl(2).
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-clone-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// let (stream, _) = listener.try_clone()?.accept()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UnixListener> {
        let duplicate = self.0.std().try_clone()?;
        Ok(UnixListener(Socket::duplicate(&self.0, duplicate)))
    }

    /// The address on which it listens.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixListener;
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-local-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(path.as_path()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().local_addr()
    }

    /// Sets whether `accept` fails with `WouldBlock` instead of waiting.
    ///
    /// The mode is the socket's: clones share it, accepted connections do not
    /// get it.
    ///
    /// # Errors
    ///
    /// Those of ioctl(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::ErrorKind;
    /// use greenring::os::unix::net::UnixListener;
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-mode-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// listener.set_nonblocking(true)?;
    /// assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        // The flag is never taken away while an accept may rely on it.
        if nonblocking {
            self.0.std().set_nonblocking(true)?;
        }
        self.0.note_nonblocking(nonblocking);
        Ok(())
    }

    /// Takes the error that is pending on the socket, if any. SO_ERROR,
    /// socket(7).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixListener;
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-error-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// assert!(listener.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.std().take_error()
    }

    /// Iterates over the connections: [`accept`](UnixListener::accept) in a
    /// loop, without the addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::{Incoming, UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-incoming-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// let mut incoming: Incoming<'_> = listener.incoming();
    /// let stream = incoming.next().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

descriptor_traits!(
    UnixListener,
    Std,
    Socket::foreign,
    Socket::listener_into_std,
    from_raw
);
