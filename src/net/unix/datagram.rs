//! Unix datagram sockets. A face, as `net/tcp.rs` is.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{address, rights};
use crate::backend::{Message, SocketName};
use crate::fd::{Direction, Socket, descriptor_traits};

/// std's type of the same name.
type Std = std::os::unix::net::UnixDatagram;

/// A socket for datagrams between processes of one machine, as
/// `std::os::unix::net::UnixDatagram`.
///
/// Datagrams are whole, in order and not lost: who sends to a receiver whose
/// queue is full waits. The path that a socket was bound to stays when the socket
/// is dropped. unix(7).
///
/// # Difference from std
///
/// - As of [`TcpStream`](crate::net::TcpStream): time limits and non-blocking
///   mode are read from the socket when it becomes greenring's and kept beside
///   it.
/// - A sender that is bound to a path of the full 108 bytes, which only a C
///   program can do, is shown as unnamed.
///
/// # Examples
///
/// ```
/// use greenring::os::unix::net::UnixDatagram;
///
/// # let path = std::env::temp_dir().join(format!("greenring-datagram-{}", std::process::id()));
/// let server = UnixDatagram::bind(&path)?;
/// let client = UnixDatagram::unbound()?;
/// client.send_to(b"hello", &path)?;
/// # std::fs::remove_file(&path)?;
///
/// let mut received = [0; 16];
/// let (count, sender) = server.recv_from(&mut received)?;
/// assert_eq!(&received[..count], b"hello");
/// assert!(sender.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixDatagram(Socket<Std>);

impl UnixDatagram {
    /// Makes a socket that receives at a path, which must not exist yet.
    ///
    /// bind(2).
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the path exists; `InvalidInput` if it is too long or has a
    /// zero byte in it; those of bind(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-dgram-bind-{}", std::process::id()));
    /// let socket = UnixDatagram::bind(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// assert_eq!(socket.local_addr()?.as_pathname(), Some(path.as_path()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        Std::bind(path).map(UnixDatagram::fresh)
    }

    /// Makes a socket that receives at an address, which may be abstract.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](UnixDatagram::bind).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::linux::net::SocketAddrExt;
    /// use greenring::os::unix::net::{SocketAddr, UnixDatagram};
    ///
    /// # let name = format!("greenring-dgram-bind-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let socket = UnixDatagram::bind_addr(&address)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixDatagram> {
        Std::bind_addr(socket_addr).map(UnixDatagram::fresh)
    }

    /// Makes a socket without an address, which can send.
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let socket = UnixDatagram::unbound()?;
    /// assert!(socket.local_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unbound() -> io::Result<UnixDatagram> {
        Std::unbound().map(UnixDatagram::fresh)
    }

    /// Makes two sockets that are connected to each other. socketpair(2).
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"x")?;
    /// assert_eq!(other.recv(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = Std::pair()?;
        Ok((UnixDatagram::fresh(one), UnixDatagram::fresh(other)))
    }

    /// Has [`send`](UnixDatagram::send) send to a path, and receives from nobody
    /// else from then on. It does not wait. connect(2).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long or has a zero byte in it, and
    /// those of connect(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-dgram-conn-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.connect(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// client.send(b"x")?;
    /// assert_eq!(server.recv(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.0.std().connect(path)
    }

    /// As [`connect`](UnixDatagram::connect), to an address, which may be
    /// abstract.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](UnixDatagram::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::linux::net::SocketAddrExt;
    /// use greenring::os::unix::net::{SocketAddr, UnixDatagram};
    ///
    /// # let name = format!("greenring-dgram-conn-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let server = UnixDatagram::bind_addr(&address)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.connect_addr(&address)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_addr(&self, socket_addr: &SocketAddr) -> io::Result<()> {
        self.0.std().connect_addr(socket_addr)
    }

    /// Another handle to the same socket, by a duplicate descriptor.
    ///
    /// Both share the queue of datagrams and all options. fcntl(2).
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.try_clone()?.send(b"x")?;
    /// assert_eq!(other.recv(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UnixDatagram> {
        let duplicate = self.0.std().try_clone()?;
        Ok(UnixDatagram(Socket::duplicate(&self.0, duplicate)))
    }

    /// The address of this socket.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// See [`bind`](UnixDatagram::bind).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().local_addr()
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected` if there is none; those of getpeername(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::ErrorKind;
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let socket = UnixDatagram::unbound()?;
    /// assert_eq!(socket.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().peer_addr()
    }

    /// Waits for a datagram and takes it, with the address of its sender.
    ///
    /// What does not fit the buffer is lost. recvmsg(2).
    ///
    /// # Errors
    ///
    /// `WouldBlock` in non-blocking mode or past the time limit, and those of
    /// recvmsg(2).
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut sender = SocketName::empty();
        let mut buffers = [IoSliceMut::new(buf)];
        let mut message = Message::new(&mut buffers[..]).from(&mut sender);
        let count = self.0.recv_message(&mut message, 0)?;
        sender.length = message.name_length();
        let sender = match address::decode(&sender)? {
            Some(sender) => sender,
            None => address::unnamed()?,
        };
        Ok((count, sender))
    }

    /// Waits for a datagram and takes it.
    ///
    /// What does not fit the buffer is lost. recv(2).
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UnixDatagram::recv_from).
    ///
    /// # Examples
    ///
    /// See [`pair`](UnixDatagram::pair).
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv_datagram(buf, 0)
    }

    /// Sends a datagram to a path, and waits while the receiver's queue is full.
    ///
    /// No event tells of room in the queue of a socket that this one is not
    /// connected to: it is tried again every millisecond. sendmsg(2).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long or has a zero byte in it;
    /// `WouldBlock` in non-blocking mode or past the time limit; those of
    /// sendmsg(2): `NotFound` and `ConnectionRefused` if nobody receives there.
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(buf, &SocketAddr::from_pathname(path)?)
    }

    /// As [`send_to`](UnixDatagram::send_to), to an address, which may be
    /// abstract.
    ///
    /// # Errors
    ///
    /// Those of [`send_to`](UnixDatagram::send_to).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::linux::net::SocketAddrExt;
    /// use greenring::os::unix::net::{SocketAddr, UnixDatagram};
    ///
    /// # let name = format!("greenring-dgram-send-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let server = UnixDatagram::bind_addr(&address)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.send_to_addr(b"x", &address)?;
    /// assert_eq!(server.recv(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_to_addr(&self, buf: &[u8], socket_addr: &SocketAddr) -> io::Result<usize> {
        let receiver = address::encode(socket_addr);
        let buffers = [IoSlice::new(buf)];
        let mut message = Message::new(&buffers[..]).to(&receiver);
        self.0.send_datagram(&mut message, false)
    }

    /// Sends a datagram to where the socket is connected, and waits while the
    /// receiver's queue is full. send(2).
    ///
    /// # Errors
    ///
    /// `NotConnected` if it is not; those of
    /// [`send_to`](UnixDatagram::send_to).
    ///
    /// # Examples
    ///
    /// See [`pair`](UnixDatagram::pair).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let buffers = [IoSlice::new(buf)];
        let mut message = Message::new(&buffers[..]);
        self.0.send_datagram(&mut message, true)
    }

    /// Sends a datagram that passes descriptors to where the socket is
    /// connected.
    ///
    /// Beyond std. As [`UnixStream::send_fds`](super::UnixStream::send_fds), but the
    /// datagram goes whole, and may be empty.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more than 253 descriptors; those of
    /// [`send`](UnixDatagram::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send_fds(b"x", &[one.as_fd(), other.as_fd()])?;
    /// let (count, fds) = other.recv_fds(&mut [0; 8], 2)?;
    /// assert_eq!((count, fds.len()), (1, 2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        rights::send(bytes, fds, |message| self.0.send_datagram(message, true))
    }

    /// Waits for a datagram and takes it and the descriptors that it passes, at
    /// most `most`, which are closed on exec.
    ///
    /// Beyond std. As [`UnixStream::recv_fds`](super::UnixStream::recv_fds), of
    /// one datagram.
    ///
    /// # Errors
    ///
    /// `InvalidData` if more than `most` were passed, or this process cannot open
    /// so many: those that came are closed, and the datagram is lost. Those of
    /// [`recv`](UnixDatagram::recv).
    ///
    /// # Examples
    ///
    /// See [`send_fds`](UnixDatagram::send_fds).
    pub fn recv_fds(&self, bytes: &mut [u8], most: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
        rights::receive(&self.0, bytes, most)
    }

    /// Limits how long one receive may wait; `None` is no limit.
    ///
    /// One that runs out of time fails with `WouldBlock`. The limit is the
    /// socket's: clones share it. The kernel rounds it up to its clock's ticks.
    /// SO_RCVTIMEO, socket(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::ErrorKind;
    /// use greenring::os::unix::net::UnixDatagram;
    /// use greenring::time::Duration;
    ///
    /// let (one, _other) = UnixDatagram::pair()?;
    /// one.set_read_timeout(Some(Duration::from_millis(1)))?;
    /// let error = one.recv(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.std().set_read_timeout(timeout)?;
        self.read_timeout().map(drop)
    }

    /// Limits how long one send may wait; `None` is no limit. Otherwise as
    /// [`set_read_timeout`](UnixDatagram::set_read_timeout). SO_SNDTIMEO, socket(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::ErrorKind;
    /// use greenring::os::unix::net::UnixDatagram;
    /// use greenring::time::Duration;
    ///
    /// let (one, _other) = UnixDatagram::pair()?;
    /// one.set_write_timeout(Some(Duration::from_millis(1)))?;
    /// // Nobody receives, so the queue fills up.
    /// let error = loop {
    ///     if let Err(error) = one.send(b"x") {
    ///         break error;
    ///     }
    /// };
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.std().set_write_timeout(timeout)?;
        self.write_timeout().map(drop)
    }

    /// The limit of [`set_read_timeout`](UnixDatagram::set_read_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    /// use greenring::time::Duration;
    ///
    /// let socket = UnixDatagram::unbound()?;
    /// socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    /// assert_eq!(socket.read_timeout()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().read_timeout()?;
        self.0.note_timeout(Direction::Read, timeout);
        Ok(timeout)
    }

    /// The limit of [`set_write_timeout`](UnixDatagram::set_write_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// assert_eq!(UnixDatagram::unbound()?.write_timeout()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().write_timeout()?;
        self.0.note_timeout(Direction::Write, timeout);
        Ok(timeout)
    }

    /// Sets whether calls fail with `WouldBlock` instead of waiting.
    ///
    /// The mode is the socket's: clones share it. FIONBIO, ioctl(2).
    ///
    /// # Errors
    ///
    /// Those of ioctl(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::ErrorKind;
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let socket = UnixDatagram::unbound()?;
    /// socket.set_nonblocking(true)?;
    /// let error = socket.recv(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.std().set_nonblocking(nonblocking)?;
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
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// assert!(UnixDatagram::unbound()?.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.std().take_error()
    }

    /// Ends one direction of the socket, or both, and releases who is parked in
    /// it: a receiver gets 0, a sender `BrokenPipe`. shutdown(2).
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::Shutdown;
    /// use greenring::os::unix::net::UnixDatagram;
    ///
    /// let (one, _other) = UnixDatagram::pair()?;
    /// one.shutdown(Shutdown::Read)?;
    /// assert_eq!(one.recv(&mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.std().shutdown(how)
    }

    fn fresh(std: Std) -> UnixDatagram {
        UnixDatagram(Socket::fresh(std))
    }
}

descriptor_traits!(
    UnixDatagram,
    Std,
    Socket::foreign,
    Socket::into_std,
    from_raw
);
