//! Unix streams. A face, as `net/tcp.rs` is.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{address, rights};
use crate::fd::{Direction, Reader, Socket, Writer, descriptor_traits};

/// std's type of the same name.
type Std = std::os::unix::net::UnixStream;

/// A connection between processes of one machine, as
/// `std::os::unix::net::UnixStream`.
///
/// It is closed when it is dropped; if data was left unread, the other end sees
/// that as `ConnectionReset`. [`try_clone`](UnixStream::try_clone) or a shared
/// reference lets one green thread read while another writes. unix(7).
///
/// # Difference from std
///
/// As of [`TcpStream`](crate::net::TcpStream): time limits and non-blocking mode
/// are read from the socket when it becomes greenring's and kept beside it. An
/// error that cuts a write short is told to the next operation, but does not go
/// with the stream when it is converted.
///
/// # Examples
///
/// ```
/// use greenring::io::{Read, Write};
/// use greenring::os::unix::net::UnixStream;
///
/// let (mut one, mut other) = UnixStream::pair()?;
/// one.write_all(b"ping")?;
/// let mut received = [0; 4];
/// other.read_exact(&mut received)?;
/// assert_eq!(&received, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixStream(pub(crate) Socket<Std>);

impl UnixStream {
    /// Connects to the listener at a path.
    ///
    /// It waits while the listener's queue is full. connect(2), unix(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long or has a zero byte in it, and
    /// those of connect(2): `NotFound` and `ConnectionRefused` if nobody listens
    /// there.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-connect-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let stream = UnixStream::connect(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        let socket = unconnected()?;
        connect(socket, &SocketAddr::from_pathname(path)?)
    }

    /// Connects to the listener at an address, which may be abstract.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](UnixStream::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::linux::net::SocketAddrExt;
    /// use greenring::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    ///
    /// # let name = format!("greenring-connect-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let listener = UnixListener::bind_addr(&address)?;
    /// let stream = UnixStream::connect_addr(&address)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_addr(socket_addr: &SocketAddr) -> io::Result<UnixStream> {
        connect(unconnected()?, socket_addr)
    }

    /// Makes two streams that are connected to each other. socketpair(2).
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, other) = UnixStream::pair()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = Std::pair()?;
        Ok((
            UnixStream(Socket::fresh(one)),
            UnixStream(Socket::fresh(other)),
        ))
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
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, mut other) = UnixStream::pair()?;
    /// one.try_clone()?.write_all(b"x")?;
    /// assert_eq!(other.read(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UnixStream> {
        let duplicate = self.0.std().try_clone()?;
        Ok(UnixStream(Socket::duplicate(&self.0, duplicate)))
    }

    /// The address of this end; mostly it is unnamed.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, _other) = UnixStream::pair()?;
    /// assert!(one.local_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("greenring-peer-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let stream = UnixStream::connect(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// assert_eq!(stream.peer_addr()?.as_pathname(), Some(path.as_path()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().peer_addr()
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
    /// use greenring::os::unix::net::UnixStream;
    /// use greenring::time::Duration;
    ///
    /// let (mut one, _other) = UnixStream::pair()?;
    /// one.set_read_timeout(Some(Duration::from_millis(1)))?;
    /// let error = one.read(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.std().set_read_timeout(timeout)?;
        self.read_timeout().map(drop)
    }

    /// Limits how long one write may wait; `None` is no limit.
    ///
    /// A write that runs out of time before it took a byte fails with
    /// `WouldBlock`. Otherwise as
    /// [`set_read_timeout`](UnixStream::set_read_timeout). SO_SNDTIMEO, socket(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{ErrorKind, Write};
    /// use greenring::os::unix::net::UnixStream;
    /// use greenring::time::Duration;
    ///
    /// let (mut one, _other) = UnixStream::pair()?;
    /// one.set_write_timeout(Some(Duration::from_millis(1)))?;
    /// // Nobody reads, so the queue fills up.
    /// let error = loop {
    ///     if let Err(error) = one.write(&[0; 65536]) {
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

    /// The limit of [`set_read_timeout`](UnixStream::set_read_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixStream;
    /// use greenring::time::Duration;
    ///
    /// let (one, _other) = UnixStream::pair()?;
    /// one.set_read_timeout(Some(Duration::from_secs(2)))?;
    /// assert_eq!(one.read_timeout()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().read_timeout()?;
        self.0.note_timeout(Direction::Read, timeout);
        Ok(timeout)
    }

    /// The limit of [`set_write_timeout`](UnixStream::set_write_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, _other) = UnixStream::pair()?;
    /// assert_eq!(one.write_timeout()?, None);
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
    /// use greenring::io::{ErrorKind, Read};
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (mut one, _other) = UnixStream::pair()?;
    /// one.set_nonblocking(true)?;
    /// let error = one.read(&mut [0; 8]).unwrap_err();
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
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, _other) = UnixStream::pair()?;
    /// assert!(one.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self.0.take_deferred() {
            Some(error) => Ok(Some(error)),
            None => self.0.std().take_error(),
        }
    }

    /// Ends one direction of the connection, or both.
    ///
    /// It ends them for all clones, and releases who is parked in them: a
    /// reader gets 0, a writer `BrokenPipe`. shutdown(2).
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::Read;
    /// use greenring::net::Shutdown;
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, mut other) = UnixStream::pair()?;
    /// one.shutdown(Shutdown::Write)?;
    /// assert_eq!(other.read(&mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.std().shutdown(how)
    }

    /// Writes bytes and passes descriptors to who reads the first of them.
    ///
    /// Beyond std. The receiver gets duplicates, which it takes by
    /// [`recv_fds`](UnixStream::recv_fds) or recvmsg(2); a plain read of the byte
    /// drops them. At most 253 go at once. As of [`write`](Write::write) the count
    /// may be less than there are bytes; all descriptors have gone then, and
    /// [`write_all`](Write::write_all) sends the rest. It waits as a write does.
    /// SCM_RIGHTS, unix(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no bytes, which could carry nothing, and for more than
    /// 253 descriptors; those of a write and of sendmsg(2). Then no descriptor
    /// has gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// use greenring::io::{self, Read, Write};
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, other) = UnixStream::pair()?;
    /// let (mut reader, writer) = io::pipe()?;
    /// one.send_fds(b"a pipe", &[writer.as_fd()])?;
    /// drop(writer);
    ///
    /// let mut bytes = [0; 16];
    /// let (count, mut fds) = other.recv_fds(&mut bytes, 1)?;
    /// assert_eq!(&bytes[..count], b"a pipe");
    /// let mut writer = io::PipeWriter::from(fds.remove(0));
    /// writer.write_all(b"through")?;
    /// drop(writer);
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text)?;
    /// assert_eq!(text, "through");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "descriptors need a byte to go with",
            ));
        }
        rights::send(bytes, fds, |message| self.0.send_message(message))
    }

    /// Reads bytes and takes the descriptors that were passed with them, at most
    /// `most`, which are closed on exec.
    ///
    /// Beyond std. One call takes what one [`send_fds`](UnixStream::send_fds)
    /// passed: it ends behind bytes that came with descriptors, but may begin with
    /// earlier ones that came without. It waits as a read does; 0 bytes into a
    /// buffer that is not empty are the end. MSG_CMSG_CLOEXEC, recvmsg(2).
    ///
    /// None leaks: one that arrives at the moment of a time limit or an interrupt
    /// is returned, and the interrupt comes with the next call. If the hub ends
    /// with its OS thread meanwhile, what has arrived is closed.
    ///
    /// # Errors
    ///
    /// `InvalidData` if more than `most` were passed, or this process cannot open
    /// so many: those that came are closed, and the bytes are lost. Those of a
    /// read.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// use greenring::io::Write;
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, other) = UnixStream::pair()?;
    /// (&one).write_all(b"without")?;
    /// one.send_fds(b"with", &[one.as_fd()])?;
    ///
    /// let (count, fds) = other.recv_fds(&mut [0; 64], 1)?;
    /// assert_eq!((count, fds.len()), (11, 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn recv_fds(&self, bytes: &mut [u8], most: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
        rights::receive(&self.0, bytes, most)
    }

    /// Reads the stream by buffers that the kernel lends, where it has any: nothing is
    /// copied, and a connection that is idle holds no memory. See [`Reader`].
    /// Descriptors that are passed over the stream are closed, as by a plain read.
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
    /// use greenring::os::unix::net::UnixStream;
    ///
    /// let (one, mut other) = UnixStream::pair()?;
    /// other.write_all(b"a line\nand more")?;
    /// let mut line = String::new();
    /// one.reader().read_line(&mut line)?;
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
}

fn unconnected() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

fn connect(socket: OwnedFd, address: &SocketAddr) -> io::Result<UnixStream> {
    let socket = Socket::fresh(Std::from(socket));
    socket.connect(&address::encode(address), None)?;
    Ok(UnixStream(socket))
}

impl Read for &UnixStream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // An empty buffer's time limit is an error here, other than for TCP.
        self.0.recv_plain(buf, 0)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.recv_vectored(bufs)
    }
}

impl Write for &UnixStream {
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

impl Read for UnixStream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for UnixStream {
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

descriptor_traits!(UnixStream, Std, Socket::foreign, Socket::into_std, from_raw);
