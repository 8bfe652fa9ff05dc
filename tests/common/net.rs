//! What the TCP suites share: pairs of connected streams, and a view of
//! sockets that does not pass through greenring.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use greenring::net::{TcpListener, TcpStream};
use greenring::{runtime, thread};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, setsockopt,
    socket, sockopt,
};

/// Two ends of one connection over the loopback: the one that connected and
/// the one that was accepted.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (server, peer) = listener.accept().expect("accept");
    assert_eq!(peer, client.local_addr().expect("address"));
    (client, server)
}

/// As [`pair`], of std's streams.
pub fn std_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = std::net::TcpStream::connect(listener.local_addr().expect("address"));
    let (server, _) = listener.accept().expect("accept");
    (client.expect("connect"), server)
}

/// An address that refuses connections for as long as the socket lives.
pub fn refusing() -> (OwnedFd, SocketAddr) {
    bound()
}

/// A listener to which nobody can connect, because its queue is full, together
/// with the streams that fill it.
pub fn full_listener() -> (OwnedFd, SocketAddr, Vec<std::net::TcpStream>) {
    let (fd, address) = bound();
    listen(&fd, Backlog::new(0).expect("a backlog")).expect("listen");
    // The queue of a backlog of 0 has room for one.
    let first = std::net::TcpStream::connect(address).expect("the first has room");
    (fd, address, vec![first])
}

fn bound() -> (OwnedFd, SocketAddr) {
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("socket");
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("bind");
    let name: SockaddrIn = getsockname(fd.as_raw_fd()).expect("getsockname");
    let address = SocketAddr::from((name.ip(), name.port()));
    (fd, address)
}

/// Makes the close of a stream reset the connection (SO_LINGER of 0).
pub fn reset_on_close(stream: &impl AsFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &linger).expect("SO_LINGER");
}

/// Fixes the buffers between a writing and a reading end, so that less than
/// 512 KiB fill them.
pub fn shrink_buffers(writer: &impl AsFd, reader: &impl AsFd) {
    setsockopt(writer, sockopt::SndBuf, &(16 << 10)).expect("SO_SNDBUF");
    setsockopt(reader, sockopt::RcvBuf, &(64 << 10)).expect("SO_RCVBUF");
}

/// What poll(2) says of a descriptor at this moment.
pub fn poll_now(fd: &impl AsFd, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    poll(&mut fds, PollTimeout::ZERO).expect("poll");
    fds[0].revents().expect("known flags")
}

/// Whether the peer's end has arrived at a socket (POLLRDHUP, which nix lacks).
pub fn has_ended(fd: &impl AsFd) -> bool {
    let mut asked = libc::pollfd {
        fd: fd.as_fd().as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one entry, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    assert!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
    asked.revents & libc::POLLRDHUP != 0
}

/// Bytes that arrived at a socket and were not read (FIONREAD).
pub fn unread(fd: &impl AsFd) -> usize {
    nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);
    let mut count = 0;
    // SAFETY: FIONREAD writes one int.
    unsafe { fionread(fd.as_fd().as_raw_fd(), &mut count) }.expect("FIONREAD");
    count as usize
}

/// Lets the others run until `condition` holds; the test's watchdog ends it
/// otherwise.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Lets the others run until `count` operations of the hub are in flight, that
/// is, until as many green threads are parked on a descriptor.
pub fn wait_for_parked(count: usize) {
    wait_until(|| runtime::stats().in_flight == count);
}

/// The byte that stands at `position` in every test's stream of bytes.
pub fn byte_at(position: usize) -> u8 {
    // A multiplier, so that bytes that got lost or swapped show.
    (position.wrapping_mul(0x9e37_79b9) >> 16) as u8
}

/// The bytes from `start` on.
pub fn bytes_from(start: usize, length: usize) -> Vec<u8> {
    (start..start + length).map(byte_at).collect()
}
