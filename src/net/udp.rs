//! UDP sockets. A face, as `net/tcp.rs` is.
//!
//! Datagrams go whole or not at all, so each method is one operation. What
//! never waits (addresses, options, groups, and connect(2) of a socket that
//! only notes the address) is std's own method, on std's own type.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::address;
use super::resolve::{ToSocketAddrs, each_address};
use crate::backend::{Message, SocketName};
use crate::fd::{Direction, Socket, descriptor_traits};

/// Bytes that go as one packet over every network: IPv6's least MTU of 1280 less
/// its header and UDP's (RFC 8200).
const ONE_PACKET: usize = 1232;

/// A UDP socket, as `std::net::UdpSocket`.
///
/// It is closed when it is dropped. A socket that was
/// [connected](UdpSocket::connect) has one peer, for [`send`](UdpSocket::send)
/// and [`recv`](UdpSocket::recv); any other names a peer with each datagram.
/// Shared references and [clones](UdpSocket::try_clone) let several green threads
/// use one socket: each datagram goes to one of those who receive. udp(7).
///
/// # Difference from std
///
/// Time limits and non-blocking mode are read from the socket when it becomes
/// greenring's (`From`, `from_raw_fd`) and kept beside it. If they are changed
/// behind its back (`setsockopt` or `fcntl` on the raw descriptor, or through a
/// duplicate made by other means than `try_clone`), that is not noticed. The
/// cure is to call the setter, or for time limits
/// [`read_timeout`](UdpSocket::read_timeout) and
/// [`write_timeout`](UdpSocket::write_timeout), which read them again.
///
/// # Examples
///
/// ```
/// use greenring::net::UdpSocket;
/// use greenring::thread;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// thread::spawn(move || {
///     let mut buffer = [0; 512];
///     while let Ok((count, peer)) = server.recv_from(&mut buffer) {
///         let _ = server.send_to(&buffer[..count], peer);
///     }
/// });
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(address)?;
/// client.send(b"ping")?;
/// let mut buffer = [0; 512];
/// assert_eq!(client.recv(&mut buffer)?, 4);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpSocket(Socket<std::net::UdpSocket>);

impl UdpSocket {
    /// Makes a socket with the first of the addresses that can be had.
    ///
    /// Port 0 asks for any free one. bind(2).
    ///
    /// # Errors
    ///
    /// That of the last address; `InvalidInput` if there is none; those of
    /// [`ToSocketAddrs::to_socket_addrs`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let socket = each_address(addr, std::net::UdpSocket::bind)?;
        Ok(UdpSocket(Socket::fresh(socket)))
    }

    /// Waits for a datagram and takes it, with the address of its sender.
    ///
    /// It gives the bytes that were put into `buf`; what does not fit is lost.
    /// recvfrom(2).
    ///
    /// # Errors
    ///
    /// `WouldBlock` in non-blocking mode or past the
    /// [time limit](UdpSocket::set_read_timeout), also if `buf` is empty;
    /// `ConnectionRefused` if a connected peer turned away an earlier datagram;
    /// those of recvfrom(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// let there = UdpSocket::bind("127.0.0.1:0")?;
    /// there.send_to(b"hello", here.local_addr()?)?;
    /// let mut buffer = [0; 3];
    /// let (count, sender) = here.recv_from(&mut buffer)?;
    /// assert_eq!(&buffer[..count], b"hel");
    /// assert_eq!(sender, there.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buf, 0)
    }

    /// As [`recv_from`](UdpSocket::recv_from), without taking the datagram: the
    /// next receive gets it again. MSG_PEEK, recv(2).
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UdpSocket::recv_from).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// let there = UdpSocket::bind("127.0.0.1:0")?;
    /// there.send_to(b"x", here.local_addr()?)?;
    /// assert_eq!(here.peek_from(&mut [0; 8])?, (1, there.local_addr()?));
    /// assert_eq!(here.recv_from(&mut [0; 8])?, (1, there.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buf, libc::MSG_PEEK)
    }

    fn receive(&self, buf: &mut [u8], flags: i32) -> io::Result<(usize, SocketAddr)> {
        let mut sender = SocketName::empty();
        let mut buffers = [IoSliceMut::new(buf)];
        let mut message = Message::new(&mut buffers[..]).from(&mut sender);
        let count = self.0.recv_message(&mut message, flags)?;
        sender.length = message.name_length();
        Ok((count, address::decode(&sender)?))
    }

    /// Sends one datagram to the first of the addresses.
    ///
    /// It waits while the socket's send buffer is full. sendto(2).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no address; those of
    /// [`ToSocketAddrs::to_socket_addrs`]; those of [`send`](UdpSocket::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// let there = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_eq!(there.send_to(b"hello", here.local_addr()?)?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let Some(address) = addr.to_socket_addrs()?.next() else {
            let none: &[SocketAddr] = &[];
            return self.0.std().send_to(buf, none);
        };
        let receiver = address::encode(&address);
        let buffers = [IoSlice::new(buf)];
        let mut message = Message::new(&buffers[..]).to(&receiver);
        if buf.len() > ONE_PACKET {
            self.0.send_datagram(&mut message, true)
        } else {
            self.0.send_message(&mut message)
        }
    }

    /// The address of the peer that the socket was connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected` if it was not; those of getpeername(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(here.peer_addr().is_err());
    /// here.connect("127.0.0.1:53")?;
    /// assert_eq!(here.peer_addr()?, ([127, 0, 0, 1], 53).into());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().peer_addr()
    }

    /// The address of the socket.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.std().local_addr()
    }

    /// Another handle to the same socket, by a duplicate descriptor.
    ///
    /// Both send and receive the same datagrams and share all options. fcntl(2).
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let clone = socket.try_clone()?;
    /// clone.send_to(b"x", socket.local_addr()?)?;
    /// assert_eq!(socket.recv(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        let duplicate = self.0.std().try_clone()?;
        Ok(UdpSocket(Socket::duplicate(&self.0, duplicate)))
    }

    /// Limits how long one receive may wait; `None` is no limit.
    ///
    /// A receive that runs out of time fails with `WouldBlock`. The limit is the
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
    /// use greenring::net::UdpSocket;
    /// use greenring::time::Duration;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    /// let error = socket.recv(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
        self.0.std().set_read_timeout(dur)?;
        self.read_timeout().map(drop)
    }

    /// Limits how long one send may wait; `None` is no limit.
    ///
    /// A send that runs out of time fails with `WouldBlock`. Otherwise as
    /// [`set_read_timeout`](UdpSocket::set_read_timeout). SO_SNDTIMEO, socket(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    /// use greenring::time::Duration;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_write_timeout(Some(Duration::from_secs(2)))?;
    /// assert!(socket.set_write_timeout(Some(Duration::ZERO)).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, dur: Option<Duration>) -> io::Result<()> {
        self.0.std().set_write_timeout(dur)?;
        self.write_timeout().map(drop)
    }

    /// The limit of [`set_read_timeout`](UdpSocket::set_read_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    /// use greenring::time::Duration;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_eq!(socket.read_timeout()?, None);
    /// socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    /// assert_eq!(socket.read_timeout()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().read_timeout()?;
        self.0.note_timeout(Direction::Read, timeout);
        Ok(timeout)
    }

    /// The limit of [`set_write_timeout`](UdpSocket::set_write_timeout), as the
    /// kernel rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    /// use greenring::time::Duration;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_eq!(socket.write_timeout()?, None);
    /// socket.set_write_timeout(Some(Duration::from_secs(2)))?;
    /// assert_eq!(socket.write_timeout()?, Some(Duration::from_secs(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        let timeout = self.0.std().write_timeout()?;
        self.0.note_timeout(Direction::Write, timeout);
        Ok(timeout)
    }

    /// Sets whether datagrams may go to a broadcast address. SO_BROADCAST,
    /// socket(7).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_broadcast(true)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.0.std().set_broadcast(broadcast)
    }

    /// Whether datagrams may go to a broadcast address, see
    /// [`set_broadcast`](UdpSocket::set_broadcast).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(!socket.broadcast()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn broadcast(&self) -> io::Result<bool> {
        self.0.std().broadcast()
    }

    /// Sets whether what is sent to an IPv4 group comes back to this machine.
    /// IP_MULTICAST_LOOP, ip(7).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_loop_v4(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_multicast_loop_v4(&self, multicast_loop_v4: bool) -> io::Result<()> {
        self.0.std().set_multicast_loop_v4(multicast_loop_v4)
    }

    /// Whether what is sent to an IPv4 group comes back, see
    /// [`set_multicast_loop_v4`](UdpSocket::set_multicast_loop_v4).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(socket.multicast_loop_v4()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.0.std().multicast_loop_v4()
    }

    /// Sets how many routers a datagram to an IPv4 group may pass.
    /// IP_MULTICAST_TTL, ip(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless it is at most 255.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_ttl_v4(7)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_multicast_ttl_v4(&self, multicast_ttl_v4: u32) -> io::Result<()> {
        self.0.std().set_multicast_ttl_v4(multicast_ttl_v4)
    }

    /// How many routers a datagram to an IPv4 group may pass, see
    /// [`set_multicast_ttl_v4`](UdpSocket::set_multicast_ttl_v4).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_eq!(socket.multicast_ttl_v4()?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.0.std().multicast_ttl_v4()
    }

    /// Sets whether what is sent to an IPv6 group comes back to this machine.
    /// IPV6_MULTICAST_LOOP, ipv6(7).
    ///
    /// # Errors
    ///
    /// It is not an IPv6 socket; those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// // A machine may have no IPv6.
    /// if let Ok(socket) = UdpSocket::bind("[::1]:0") {
    ///     socket.set_multicast_loop_v6(false)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_multicast_loop_v6(&self, multicast_loop_v6: bool) -> io::Result<()> {
        self.0.std().set_multicast_loop_v6(multicast_loop_v6)
    }

    /// Whether what is sent to an IPv6 group comes back, see
    /// [`set_multicast_loop_v6`](UdpSocket::set_multicast_loop_v6).
    ///
    /// # Errors
    ///
    /// It is not an IPv6 socket; those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// // A machine may have no IPv6.
    /// if let Ok(socket) = UdpSocket::bind("[::1]:0") {
    ///     assert!(socket.multicast_loop_v6()?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.0.std().multicast_loop_v6()
    }

    /// Sets how many routers a datagram may pass. IP_TTL, ip(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless it is 1 to 255.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_ttl(7)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.std().set_ttl(ttl)
    }

    /// How many routers a datagram may pass, see [`set_ttl`](UdpSocket::set_ttl).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_ttl(7)?;
    /// assert_eq!(socket.ttl()?, 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.std().ttl()
    }

    /// Joins an IPv4 group on the interface with this address, or on one that
    /// the kernel chooses for 0.0.0.0. IP_ADD_MEMBERSHIP, ip(7).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no group's address, `AddrInUse` if it was joined
    /// already; those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{Ipv4Addr, UdpSocket};
    ///
    /// let socket = UdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(239, 255, 0, 1);
    /// socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.std().join_multicast_v4(multiaddr, interface)
    }

    /// Joins an IPv6 group on the interface with this index, or on one that the
    /// kernel chooses for 0. IPV6_ADD_MEMBERSHIP, ipv6(7).
    ///
    /// # Errors
    ///
    /// Those of [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{Ipv6Addr, UdpSocket};
    ///
    /// // A machine may have no IPv6.
    /// if let Ok(socket) = UdpSocket::bind("[::1]:0") {
    ///     let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x123);
    ///     // The loopback interface is the first.
    ///     socket.join_multicast_v6(&group, 1)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.std().join_multicast_v6(multiaddr, interface)
    }

    /// Leaves an IPv4 group, see
    /// [`join_multicast_v4`](UdpSocket::join_multicast_v4). IP_DROP_MEMBERSHIP,
    /// ip(7).
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if it was not joined; those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{Ipv4Addr, UdpSocket};
    ///
    /// let socket = UdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(239, 255, 0, 1);
    /// socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.std().leave_multicast_v4(multiaddr, interface)
    }

    /// Leaves an IPv6 group, see
    /// [`join_multicast_v6`](UdpSocket::join_multicast_v6). IPV6_DROP_MEMBERSHIP,
    /// ipv6(7).
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if it was not joined; those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{Ipv6Addr, UdpSocket};
    ///
    /// // A machine may have no IPv6.
    /// if let Ok(socket) = UdpSocket::bind("[::1]:0") {
    ///     let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x123);
    ///     socket.join_multicast_v6(&group, 1)?;
    ///     socket.leave_multicast_v6(&group, 1)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.std().leave_multicast_v6(multiaddr, interface)
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
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(socket.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.std().take_error()
    }

    /// Gives the socket a peer: the first of the addresses that it can have.
    ///
    /// Nothing is sent, so whether anybody is there is not known afterwards.
    /// Datagrams of others are no longer received. connect(2).
    ///
    /// # Errors
    ///
    /// That of the last address; `InvalidInput` if there is none; those of
    /// [`ToSocketAddrs::to_socket_addrs`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.connect("localhost:53")?;
    /// assert_eq!(socket.peer_addr()?.port(), 53);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each_address(addr, |address| self.0.std().connect(address))
    }

    /// Sends one datagram to the peer.
    ///
    /// It waits while the socket's send buffer is full. send(2).
    ///
    /// # Errors
    ///
    /// EDESTADDRREQ if the socket was not [connected](UdpSocket::connect);
    /// `WouldBlock` in non-blocking mode or past the
    /// [time limit](UdpSocket::set_write_timeout); EMSGSIZE if `buf` is longer
    /// than a datagram can be; `ConnectionRefused` if the peer turned away an
    /// earlier one; those of send(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// let there = UdpSocket::bind("127.0.0.1:0")?;
    /// there.connect(here.local_addr()?)?;
    /// assert_eq!(there.send(b"hello")?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() > ONE_PACKET {
            let buffers = [IoSlice::new(buf)];
            self.0.send_datagram(&mut Message::new(&buffers[..]), true)
        } else {
            self.0.send(buf)
        }
    }

    /// Waits for a datagram and takes it: the peer's, if there is one.
    ///
    /// It gives the bytes that were put into `buf`; what does not fit is lost.
    /// recv(2).
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UdpSocket::recv_from).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// let there = UdpSocket::bind("127.0.0.1:0")?;
    /// there.send_to(b"hello", here.local_addr()?)?;
    /// assert_eq!(here.recv(&mut [0; 8])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv_datagram(buf, 0)
    }

    /// As [`recv`](UdpSocket::recv), without taking the datagram: the next
    /// receive gets it again. MSG_PEEK, recv(2).
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`](UdpSocket::recv_from).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::UdpSocket;
    ///
    /// let here = UdpSocket::bind("127.0.0.1:0")?;
    /// let there = UdpSocket::bind("127.0.0.1:0")?;
    /// there.send_to(b"x", here.local_addr()?)?;
    /// assert_eq!(here.peek(&mut [0; 8])?, 1);
    /// assert_eq!(here.recv(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv_datagram(buf, libc::MSG_PEEK)
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
    /// use greenring::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
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
}

descriptor_traits!(
    UdpSocket,
    std::net::UdpSocket,
    Socket::foreign,
    Socket::into_std,
    from_raw
);
