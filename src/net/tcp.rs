//! TCP connections. A face: names, docs and no mechanism.
//!
//! # How a read works, in four rooms
//!
//! 1. Here `Read::read` says what is wanted and hands it to `fd/socket.rs`.
//! 2. `Socket::recv` builds an `Operation::Recv` that borrows the caller's buffer,
//!    and adds what the socket's modes say about waiting.
//! 3. `hub/perform.rs` submits it under a key and parks the caller. Its frame
//!    is the landlord of the buffer: it stays until the kernel is done with it.
//! 4. The backend has the kernel do it. `backend/uring.rs` pushes an entry to
//!    the ring; `backend/epoll.rs` tries recv(2) and tries again when the
//!    socket has become readable.
//!
//! Back the same way: the backend's wait collects the completion, the hub
//! stores the result where the key says and makes the green thread ready, which
//! returns through all four from the loop's next turn. No callback, no waker
//! and no allocation is involved.
//!
//! What never waits (addresses, options, `shutdown`) is std's own method, on
//! std's own type, which the [`Socket`] holds.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::address;
use super::resolve::{ToSocketAddrs, each_address};
use crate::fd::{Direction, Reader, Socket, Writer, descriptor_traits};

/// A TCP connection, as `std::net::TcpStream`.
///
/// It is closed when it is dropped. [`try_clone`](TcpStream::try_clone) or a
/// shared reference lets one green thread read while another writes. RFC 9293,
/// tcp(7).
///
/// # Difference from std
///
/// Time limits and non-blocking mode are read from the socket when it becomes
/// greenring's (`From`, `from_raw_fd`) and kept beside it. If they are changed
/// behind its back (`setsockopt` or `fcntl` on the raw descriptor, or through a
/// duplicate made by other means than `try_clone`), that is not noticed. The
/// cure is to call the setter, or for time limits
/// [`read_timeout`](TcpStream::read_timeout) and
/// [`write_timeout`](TcpStream::write_timeout), which read them again.
///
/// An error that cuts a write short (a reset, when part of the buffer was sent
/// already) is told to the next operation on the stream or a clone, or by
/// [`take_error`](TcpStream::take_error), as in std; but it does not go with the
/// stream when it is converted.
///
/// # Examples
///
/// ```
/// use greenring::io::{Read, Write};
/// use greenring::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut stream = TcpStream::connect(listener.local_addr()?)?;
/// let (mut peer, _) = listener.accept()?;
///
/// stream.write_all(b"ping")?;
/// let mut received = [0; 4];
/// peer.read_exact(&mut received)?;
/// assert_eq!(&received, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpStream(pub(crate) Socket<std::net::TcpStream>);

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// connect(2).
    ///
    /// # Errors
    ///
    /// That of the last address; `InvalidInput` if there is none; those of
    /// [`ToSocketAddrs::to_socket_addrs`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let port = listener.local_addr()?.port();
    /// let stream = TcpStream::connect(("127.0.0.1", port))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_address(addr, |address| connect(&address, None))
    }

    /// Connects to one address, which has to answer within `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut` if it does not, `InvalidInput` for a timeout of zero, and
    /// those of connect(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::time::Duration;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot set a 0 duration timeout",
            ));
        }
        connect(addr, Some(timeout))
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// `NotConnected` once both sides have closed, and those of getpeername(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let (_, peer) = listener.accept()?;
    /// assert_eq!(stream.local_addr()?, peer);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().local_addr()
    }

    /// Ends one direction of the connection, or both.
    ///
    /// It ends them for all clones, and releases who is parked in them: a
    /// reader gets 0, a writer `BrokenPipe`. shutdown(2).
    ///
    /// # Errors
    ///
    /// `NotConnected` once both sides have closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::Read;
    /// use greenring::net::{Shutdown, TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.shutdown(Shutdown::Write)?;
    /// let (mut peer, _) = listener.accept()?;
    /// assert_eq!(peer.read(&mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.std().shutdown(how)
    }

    /// Another handle to the same connection, by a duplicate descriptor.
    ///
    /// Both send and receive the same bytes and share all options. fcntl(2).
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{Read, Write};
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.try_clone()?.write_all(b"x")?;
    /// let (mut peer, _) = listener.accept()?;
    /// assert_eq!(peer.read(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        let duplicate = self.0.std().try_clone()?;
        Ok(TcpStream(Socket::duplicate(&self.0, duplicate)))
    }

    /// Limits how long one read may wait; `None` is no limit.
    ///
    /// A read that runs out of time fails with `WouldBlock`. The limit is the
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
    /// use greenring::io::{ErrorKind, Read};
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::time::Duration;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    /// let error = stream.read(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
        self.0.std().set_read_timeout(dur)?;
        self.read_timeout().map(drop)
    }

    /// Limits how long one write may wait; `None` is no limit.
    ///
    /// A write that runs out of time before it took a byte fails with
    /// `WouldBlock`. Otherwise as
    /// [`set_read_timeout`](TcpStream::set_read_timeout). SO_SNDTIMEO, socket(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{ErrorKind, Write};
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::time::Duration;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_write_timeout(Some(Duration::from_millis(1)))?;
    /// // Nobody reads, so the buffers on the way fill up.
    /// let error = loop {
    ///     if let Err(error) = stream.write(&[0; 65536]) {
    ///         break error;
    ///     }
    /// };
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
        self.0.std().set_write_timeout(dur)?;
        self.write_timeout().map(drop)
    }

    /// The limit of [`set_read_timeout`](TcpStream::set_read_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::time::Duration;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(stream.read_timeout()?, None);
    /// stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    /// assert_eq!(stream.read_timeout()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().read_timeout()?;
        self.0.note_timeout(Direction::Read, timeout);
        Ok(timeout)
    }

    /// The limit of [`set_write_timeout`](TcpStream::set_write_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::time::Duration;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(stream.write_timeout()?, None);
    /// stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    /// assert_eq!(stream.write_timeout()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().write_timeout()?;
        self.0.note_timeout(Direction::Write, timeout);
        Ok(timeout)
    }

    /// Reads without taking: the next read gets the same bytes again.
    ///
    /// It waits as a read does. MSG_PEEK, recv(2).
    ///
    /// # Errors
    ///
    /// Those of a read.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{Read, Write};
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.write_all(b"x")?;
    /// let (mut peer, _) = listener.accept()?;
    /// assert_eq!(peer.peek(&mut [0; 8])?, 1);
    /// assert_eq!(peer.read(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf, libc::MSG_PEEK)
    }

    /// Sets TCP_NODELAY: small writes leave at once instead of waiting for the
    /// acknowledgement of earlier ones (RFC 896), tcp(7).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_nodelay(true)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.std().set_nodelay(nodelay)
    }

    /// Whether TCP_NODELAY is set, see [`set_nodelay`](TcpStream::set_nodelay).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_nodelay(true)?;
    /// assert!(stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.std().nodelay()
    }

    /// Sets how many routers a packet may pass. IP_TTL, ip(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless it is 1 to 255.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_ttl(7)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.std().set_ttl(ttl)
    }

    /// How many routers a packet may pass, see [`set_ttl`](TcpStream::set_ttl).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_ttl(7)?;
    /// assert_eq!(stream.ttl()?, 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.std().ttl()
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
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert!(stream.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self.0.take_deferred() {
            Some(error) => Ok(Some(error)),
            None => self.0.std().take_error(),
        }
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
    /// use greenring::io::{ErrorKind, Read};
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_nonblocking(true)?;
    /// let error = stream.read(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.std().set_nonblocking(nonblocking)?;
        self.0.note_nonblocking(nonblocking);
        Ok(())
    }

    /// Reads the stream by buffers that the kernel lends, where it has any: nothing is
    /// copied, and a connection that is idle holds no memory. See [`Reader`].
    ///
    /// Bytes that were received and not consumed stay with the stream.
    ///
    /// # Panics
    ///
    /// The stream, or a clone, has a reader already.
    ///
    /// # Difference from std
    ///
    /// std has no such method; `std::io::BufReader` is the nearest.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{BufRead, Write};
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// listener.accept()?.0.write_all(b"a line\nand more")?;
    /// let mut line = String::new();
    /// stream.reader().read_line(&mut line)?;
    /// assert_eq!(line, "a line\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.0)
    }

    /// A [`reader`](Self::reader) and a writer, for code that wants two halves.
    ///
    /// Both stay on this OS thread, and may be used by two green threads.
    ///
    /// # Panics
    ///
    /// The stream, or a clone, has a reader already.
    ///
    /// # Examples
    ///
    /// See [`Writer`].
    pub fn split(&self) -> (Reader<'_>, Writer<'_, Self>) {
        (self.reader(), Writer::new(self))
    }

    /// For what std offers in extension traits.
    pub(crate) fn as_std(&self) -> &std::net::TcpStream {
        self.0.std()
    }
}

/// Connects a new socket to one address.
fn connect(address: &SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let fd = Socket::fresh(std::net::TcpStream::from(socket));
    if fd.connect(&address::encode(address), timeout)? {
        Ok(TcpStream(fd))
    } else {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "connection timed out",
        ))
    }
}

impl Read for &TcpStream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf, 0)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.recv_vectored(bufs)
    }
}

impl Write for &TcpStream {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf)
    }

    #[inline]
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.0.send_all(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored(bufs)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    #[inline]
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        (&*self).write_all(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

descriptor_traits!(
    TcpStream,
    std::net::TcpStream,
    Socket::foreign,
    Socket::into_std,
    from_raw
);

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)] // Hands descriptors over by number.

    use std::io::ErrorKind;
    use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
    use std::panic::{RefUnwindSafe, UnwindSafe};

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike};

    use super::*;
    use crate::net::TcpListener;

    /// Two ends of a connection: ours, and std's as a witness.
    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (stream, peer)
    }

    fn is_nonblocking(fd: impl AsFd) -> bool {
        fcntl(fd, FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK != 0
    }

    #[test]
    fn it_has_the_auto_traits_of_std() {
        fn has_all<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
        has_all::<TcpStream>();
    }

    #[test]
    fn it_prints_as_std_does() {
        let (_stream, peer) = pair();
        let expected = format!("{peer:?}");
        assert_eq!(format!("{:?}", TcpStream::from(peer)), expected);
    }

    #[test]
    fn a_new_stream_is_blocking_and_closes_on_exec() {
        let (stream, _peer) = pair();
        assert!(!is_nonblocking(&stream));
        let flags = fcntl(&stream, FcntlArg::F_GETFD).unwrap();
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }

    #[test]
    fn whole_buffers_arrive_in_order() {
        let (mut stream, mut peer) = pair();
        let slices = [
            IoSlice::new(b"one "),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        assert_eq!(stream.write_vectored(&slices).unwrap(), 7);
        let mut received = [0; 7];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"one two");

        peer.write_all(b"three").unwrap();
        assert_eq!(stream.peek(&mut [0; 8]).unwrap(), 5);
        let (mut first, mut second) = ([0; 2], [0; 8]);
        let mut slices = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(stream.read_vectored(&mut slices).unwrap(), 5);
        assert_eq!((&first, &second[..3]), (b"th", &b"ree"[..]));

        drop(peer);
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn nothing_to_move_is_what_std_makes_of_it() {
        let (mut stream, mut peer) = pair();
        // readv(2) and writev(2) of nothing return at once, waiting data or not.
        assert_eq!(peer.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(stream.read_vectored(&mut []).unwrap(), 0);
        let mut empty = [IoSliceMut::new(&mut [])];
        assert_eq!(peer.read_vectored(&mut empty).unwrap(), 0);
        assert_eq!(stream.read_vectored(&mut empty).unwrap(), 0);
        peer.shutdown(Shutdown::Write).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.write_vectored(&[]).unwrap(), 0);
        assert_eq!(stream.write_vectored(&[]).unwrap(), 0);
        let results = [peer.write(&[]), stream.write(&[])];
        let [std, ours] = results.map(|result| result.map_err(|error| error.kind()));
        assert_eq!(ours, std);
    }

    #[test]
    fn time_limits_are_the_sockets() {
        let (stream, peer) = pair();
        let clone = stream.try_clone().unwrap();
        for timeout in [
            Some(Duration::from_micros(1)),
            Some(Duration::from_millis(10)),
            Some(Duration::from_nanos(1)),
            Some(Duration::MAX),
            None,
        ] {
            stream.set_read_timeout(timeout).unwrap();
            clone.set_write_timeout(timeout).unwrap();
            peer.set_read_timeout(timeout).unwrap();
            let rounded = peer.read_timeout().unwrap();
            for stream in [&stream, &clone] {
                assert_eq!(stream.read_timeout().unwrap(), rounded);
                assert_eq!(stream.write_timeout().unwrap(), rounded);
                assert_eq!(stream.0.timeout(Direction::Read), rounded);
                assert_eq!(stream.0.timeout(Direction::Write), rounded);
            }
        }
        let ours = stream.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        let std = peer.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(ours.kind(), std.kind());
        assert_eq!(ours.to_string(), std.to_string());
        assert!(stream.set_write_timeout(Some(Duration::ZERO)).is_err());
    }

    #[test]
    fn modes_survive_the_way_in_and_out() {
        let (_stream, peer) = pair();
        peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        peer.set_write_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        peer.set_nonblocking(true).unwrap();
        let stream = TcpStream::from(peer);
        assert!(stream.0.is_nonblocking());
        assert_eq!(
            stream.0.timeout(Direction::Read),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            stream.0.timeout(Direction::Write),
            Some(Duration::from_secs(3))
        );

        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(None).unwrap();
        let peer = std::net::TcpStream::from(stream);
        assert!(!is_nonblocking(&peer));
        assert_eq!(peer.read_timeout().unwrap(), None);
        assert_eq!(peer.write_timeout().unwrap(), Some(Duration::from_secs(3)));

        let stream = TcpStream::from(OwnedFd::from(peer));
        let raw = OwnedFd::from(stream).into_raw_fd();
        // SAFETY: `into_raw_fd` hands over the ownership.
        let stream = unsafe { TcpStream::from_raw_fd(raw) };
        assert_eq!(stream.as_raw_fd(), raw);
        assert_eq!(
            stream.0.timeout(Direction::Write),
            Some(Duration::from_secs(3))
        );
    }

    #[test]
    fn a_limit_set_behind_the_back_is_seen_when_it_is_asked_for() {
        let (stream, _peer) = pair();
        setsockopt(&stream, sockopt::ReceiveTimeout, &TimeVal::milliseconds(40)).unwrap();
        assert_eq!(stream.0.timeout(Direction::Read), None);
        let limit = Some(Duration::from_millis(40));
        assert_eq!(stream.read_timeout().unwrap(), limit);
        assert_eq!(stream.0.timeout(Direction::Read), limit);
        let error = (&stream).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_no_socket_is_taken_over_and_fails_later() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut stream = TcpStream::from(OwnedFd::from(file));
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn errors_of_connect_are_std_errors() {
        let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = refused.local_addr().unwrap();
        drop(refused);
        let addresses: [SocketAddr; 2] = [closed, "255.255.255.255:1".parse().unwrap()];
        for addresses in [&addresses[..1], &addresses[..], &[]] {
            let ours = TcpStream::connect(addresses).unwrap_err();
            let std = std::net::TcpStream::connect(addresses).unwrap_err();
            assert_eq!(ours.kind(), std.kind());
            assert_eq!(ours.to_string(), std.to_string());
        }
        for timeout in [Duration::ZERO, Duration::from_secs(5)] {
            let ours = TcpStream::connect_timeout(&closed, timeout).unwrap_err();
            let std = std::net::TcpStream::connect_timeout(&closed, timeout).unwrap_err();
            assert_eq!(ours.kind(), std.kind());
            assert_eq!(ours.to_string(), std.to_string());
        }
    }

    #[test]
    fn a_listener_that_accepts_nobody_lets_connect_run_out_of_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        // A full queue lets the handshake of a further connection unanswered.
        let mut waiting = Vec::new();
        let error = loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "connection timed out");
    }
}
