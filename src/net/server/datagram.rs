//! The server of UDP sockets.
//!
//! To [`Serving`] a datagram is what a connection is: something that is accepted
//! and handled. All share the one socket.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use super::Stats;
use super::serving::{Listen, Serving, methods_as_of_stream_server, no_address};
use crate::net::{ToSocketAddrs, UdpSocket};

/// No UDP datagram is longer.
const LONGEST: usize = 65_535;

/// A UDP server, see the [module](super): a green thread for each datagram.
///
/// While as many datagrams are handled as the pool holds, none is received; the
/// kernel keeps what the socket's buffer has room for and drops the rest. When
/// the server stops the socket is closed with the last handler, which may still
/// answer. It is bound to its OS thread: neither `Send` nor `Sync`.
///
/// # Examples
///
/// ```
/// use greenring::net::UdpSocket;
/// use greenring::net::server::DatagramServer;
///
/// let server = DatagramServer::bind("127.0.0.1:0")?;
/// server.start(|socket, datagram, peer| {
///     let _ = socket.send_to(datagram, peer);
/// })?;
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"echo", server.local_addr()?)?;
/// assert_eq!(client.recv(&mut [0; 8])?, 4);
/// server.stop();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DatagramServer {
    serving: Serving<Datagrams>,
    address: Option<SocketAddr>,
}

impl DatagramServer {
    /// Takes the first of the addresses that can be had, port 0 any free one.
    /// What comes before [`start`](Self::start) is kept by the kernel.
    ///
    /// To share a port or to receive multicast, make the server from a
    /// [`UdpSocket`] that is prepared for it.
    ///
    /// # Errors
    ///
    /// As those of [`UdpSocket::bind`].
    ///
    /// # Examples
    ///
    /// See [`DatagramServer`].
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<DatagramServer> {
        UdpSocket::bind(addr).map(DatagramServer::from)
    }

    /// The address it serves, also when it has been stopped.
    ///
    /// # Errors
    ///
    /// It was made from a socket that has none.
    ///
    /// # Examples
    ///
    /// See [`DatagramServer`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.ok_or_else(no_address)
    }

    /// Receives from now on, and has each datagram handled by a call of
    /// `handler` on a green thread of its own: with the socket to answer by, the
    /// datagram and where it comes from.
    ///
    /// Otherwise as [`StreamServer::start`](super::StreamServer::start).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it was started or stopped before; no stack or no hub
    /// for the green thread that receives.
    ///
    /// # Examples
    ///
    /// See [`DatagramServer`].
    pub fn start(
        &self,
        handler: impl Fn(&UdpSocket, &[u8], SocketAddr) + 'static,
    ) -> io::Result<()> {
        self.serving.start(
            |_| Ok(()),
            move |received, peer| handler(&received.socket, &received.bytes, peer),
        )
    }
}

methods_as_of_stream_server!(DatagramServer);

/// A server of a socket that exists already, such as an inherited one.
impl From<UdpSocket> for DatagramServer {
    fn from(socket: UdpSocket) -> DatagramServer {
        DatagramServer {
            address: socket.local_addr().ok(),
            serving: Serving::new(Datagrams {
                socket: Rc::new(socket),
                buffer: RefCell::new(vec![0; LONGEST].into()),
            }),
        }
    }
}

/// The socket, and where it receives to.
struct Datagrams {
    socket: Rc<UdpSocket>,
    /// Borrowed by the one who accepts, while that waits.
    buffer: RefCell<Box<[u8]>>,
}

/// A datagram on its way to the handler.
struct Received {
    socket: Rc<UdpSocket>,
    bytes: Box<[u8]>,
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listen for Datagrams {
    type Stream = Received;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(Received, SocketAddr)> {
        let mut buffer = self.buffer.borrow_mut();
        let (count, peer) = self.socket.recv_from(&mut buffer)?;
        let received = Received {
            socket: Rc::clone(&self.socket),
            bytes: buffer[..count].into(),
        };
        Ok((received, peer))
    }
}
