//! TCP listeners. A face, as `net/tcp.rs` is.
//!
//! accept4(2) has no flag that would keep one call from waiting, and the epoll
//! backend has to try it, so a listener gets O_NONBLOCK set in the kernel at
//! its first accept there, whatever its user has asked for. What the user has
//! asked for stands beside the descriptor, and is what the kernel gets back
//! when the listener leaves greenring.

use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;

use super::address;
use super::resolve::{ToSocketAddrs, each_address};
use super::tcp::TcpStream;
use crate::fd::{Direction, Socket, descriptor_traits};

/// A TCP socket that listens for connections, as `std::net::TcpListener`.
///
/// It is closed when it is dropped, and the connections that were not accepted
/// are reset. tcp(7).
///
/// # Difference from std
///
/// - On the epoll backend the open socket has O_NONBLOCK set from the first
///   accept on. Who looks at it by `as_fd` or `as_raw_fd`, has a duplicate of it,
///   makes a listener of a duplicate or inherits it sees that, and their
///   accept(2) does not wait. Converting the last clone back
///   restores what [`set_nonblocking`](TcpListener::set_nonblocking) was last
///   told; one that leaves while others stay keeps the flag.
/// - A time limit (SO_RCVTIMEO, which ends `accept` with `WouldBlock`) is read
///   from the socket when it becomes greenring's, and not again.
///
/// # Examples
///
/// ```
/// use greenring::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (stream, peer) = listener.accept()?;
/// assert_eq!(peer, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpListener(Socket<std::net::TcpListener>);

/// The connections of a listener, one after the other, without end.
///
/// Made by [`TcpListener::incoming`].
///
/// # Examples
///
/// ```
/// use greenring::net::{Incoming, TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let mut incoming: Incoming<'_> = listener.incoming();
/// let stream = incoming.next().unwrap()?;
/// assert_eq!(stream.peer_addr()?, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be had.
    ///
    /// Port 0 asks for any free one. The address may be one that was in use a
    /// moment ago (SO_REUSEADDR, socket(7)). bind(2), listen(2).
    ///
    /// # Errors
    ///
    /// That of the last address; `InvalidInput` if there is none; those of
    /// [`ToSocketAddrs::to_socket_addrs`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        each_address(addr, std::net::TcpListener::bind).map(TcpListener::from)
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
    /// use greenring::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().local_addr()
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
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (stream, peer) = listener.try_clone()?.accept()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        let duplicate = self.0.std().try_clone()?;
        Ok(TcpListener(Socket::duplicate(&self.0, duplicate)))
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
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (stream, peer) = listener.accept()?;
    /// assert_eq!(stream.peer_addr()?, peer);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.0.accept(true)?;
        let peer = address::decode(&peer)?;
        let stream = Socket::fresh(std::net::TcpStream::from(socket));
        // Linux copies the listener's time limits, but not O_NONBLOCK.
        for direction in [Direction::Read, Direction::Write] {
            stream.note_timeout(direction, self.0.timeout(direction));
        }
        Ok((TcpStream(stream), peer))
    }

    /// Iterates over the connections: [`accept`](TcpListener::accept) in a
    /// loop, without the addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// for stream in listener.incoming().take(1) {
    ///     assert_eq!(stream?.peer_addr()?, client.local_addr()?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
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
    /// use greenring::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// listener.set_ttl(7)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.std().set_ttl(ttl)
    }

    /// How many routers a packet may pass, see [`set_ttl`](TcpListener::set_ttl).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// listener.set_ttl(7)?;
    /// assert_eq!(listener.ttl()?, 7);
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
    /// use greenring::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert!(listener.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.std().take_error()
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
    /// use greenring::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
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
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

descriptor_traits!(
    TcpListener,
    std::net::TcpListener,
    Socket::foreign,
    Socket::listener_into_std,
    from_raw
);

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)] // Hands descriptors over by number.

    use std::io::ErrorKind;
    use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
    use std::panic::{RefUnwindSafe, UnwindSafe};
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike};

    use super::*;

    fn is_nonblocking(fd: impl AsFd) -> bool {
        fcntl(fd, FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK != 0
    }

    fn std_listener() -> std::net::TcpListener {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn it_has_the_auto_traits_of_std() {
        fn has_all<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
        has_all::<TcpListener>();
        has_all::<Incoming<'static>>();
    }

    #[test]
    fn it_prints_as_std_does() {
        let std = std_listener();
        let expected = format!("{std:?}");
        let listener = TcpListener::from(std);
        assert_eq!(format!("{listener:?}"), expected);
        assert_eq!(
            format!("{:?}", listener.incoming()),
            format!("Incoming {{ listener: {expected} }}")
        );
    }

    #[test]
    fn every_way_out_restores_what_the_user_asked_for() {
        type WayOut = fn(TcpListener) -> OwnedFd;
        let ways: [WayOut; 3] = [
            OwnedFd::from,
            |listener| std::net::TcpListener::from(listener).into(),
            |listener| {
                let raw = listener.into_raw_fd();
                // SAFETY: `into_raw_fd` hands over the ownership.
                unsafe { OwnedFd::from_raw_fd(raw) }
            },
        ];
        for way_out in ways {
            for before in [false, true] {
                let std = std_listener();
                std.set_nonblocking(before).unwrap();
                let listener = TcpListener::from(std);
                assert_eq!(is_nonblocking(way_out(listener)), before);

                // A non-blocking accept, and each on epoll, sets the flag.
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                listener.set_nonblocking(true).unwrap();
                listener.accept().unwrap_err();
                listener.set_nonblocking(before).unwrap();
                assert!(is_nonblocking(&listener));
                assert_eq!(is_nonblocking(way_out(listener)), before);
            }
        }
    }

    #[test]
    fn listeners_made_of_duplicates_wait_as_the_first_does() {
        let std = std_listener();
        let first = TcpListener::from(std.try_clone().unwrap());
        let second = TcpListener::from(std);
        for listener in [&first, &second] {
            let address = listener.local_addr().unwrap();
            let accepting = crate::thread::spawn(move || TcpStream::connect(address).unwrap());
            // It finds nothing at first, and waits.
            listener.accept().unwrap();
            accepting.join().unwrap();
        }
    }

    #[test]
    fn clones_share_the_mode_and_accepted_streams_do_not_get_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clone = listener.try_clone().unwrap();
        clone.set_nonblocking(true).unwrap();
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = clone.accept().unwrap();
        assert!(!is_nonblocking(&stream));
        assert!(!stream.0.is_nonblocking());
    }

    #[test]
    fn a_time_limit_ends_accept_and_is_inherited_by_connections() {
        let std = std_listener();
        setsockopt(&std, sockopt::ReceiveTimeout, &TimeVal::milliseconds(40)).unwrap();
        setsockopt(&std, sockopt::SendTimeout, &TimeVal::milliseconds(80)).unwrap();
        let listener = TcpListener::from(std);
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        for (direction, limit) in [(Direction::Read, 40), (Direction::Write, 80)] {
            let limit = Some(Duration::from_millis(limit));
            assert_eq!(stream.0.timeout(direction), limit);
        }
        // The kernel's view is the same.
        assert_eq!(
            stream.as_std().read_timeout().unwrap(),
            stream.0.timeout(Direction::Read)
        );
        assert_eq!(
            stream.as_std().write_timeout().unwrap(),
            stream.0.timeout(Direction::Write)
        );
    }

    #[test]
    fn a_socket_of_another_family_gives_an_error() {
        let path = std::env::temp_dir().join(format!("greenring-family-{}", std::process::id()));
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let listener = TcpListener::from(OwnedFd::from(unix));
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        // The connection that was accepted is closed.
        assert_eq!(std::io::Read::read(&mut &client, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn errors_of_bind_are_std_errors() {
        let taken = std_listener().local_addr().unwrap();
        let holder = std::net::TcpListener::bind(taken).unwrap();
        let both = [taken, "192.0.2.1:0".parse().unwrap()];
        for addresses in [&both[..1], &both[..], &[]] {
            let ours = TcpListener::bind(addresses).unwrap_err();
            let std = std::net::TcpListener::bind(addresses).unwrap_err();
            assert_eq!(ours.kind(), std.kind());
            assert_eq!(ours.to_string(), std.to_string());
        }
        drop(holder);
    }
}
