//! Operations made by system calls; and what the other suites of this floor
//! make operations with.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind,
    listen, socket,
};

use super::super::operation::{Descriptor, LentMessage, LentName, Message};
use super::*;

/// The descriptor of `file` under a new identity.
pub(in crate::backend) fn descriptor(file: &impl AsRawFd) -> Descriptor {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Descriptor {
        fd: file.as_raw_fd(),
        id: NEXT.fetch_add(1, Ordering::Relaxed),
    }
}

pub(in crate::backend) fn recv(socket: Descriptor, into: &mut [u8]) -> Operation<'_> {
    Operation::Recv {
        socket,
        into: Lent::from(into),
        flags: 0,
        poll_first: false,
    }
}

pub(in crate::backend) fn send(socket: Descriptor, from: &[u8]) -> Operation<'_> {
    Operation::Send {
        socket,
        from: Lent::from(from),
        flags: libc::MSG_NOSIGNAL,
    }
}

pub(in crate::backend) fn name_of(address: &impl SockaddrLike) -> SocketName {
    let mut name = SocketName::empty();
    name.length = address.len();
    // SAFETY: the source says how long it is.
    let bytes = unsafe { slice::from_raw_parts(address.as_ptr().cast(), address.len() as usize) };
    name.storage[..bytes.len()].copy_from_slice(bytes);
    name
}

pub(in crate::backend) fn tcp_name(address: SocketAddr) -> SocketName {
    name_of(&SockaddrStorage::from(address))
}

pub(in crate::backend) fn tcp_socket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
}

fn is_nonblocking(file: &impl AsRawFd) -> bool {
    // SAFETY: F_GETFL takes no argument.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    assert!(flags >= 0);
    flags & libc::O_NONBLOCK != 0
}

/// Repeats a connect until it is over.
fn settle(operation: &Operation<'_>) -> i32 {
    loop {
        match attempt(operation) {
            result if result == -libc::EAGAIN => poll(operation, None).unwrap(),
            result => return result,
        }
    }
}

/// A Unix listener whose backlog is full, its name, and what fills it.
pub(in crate::backend) fn crowded_listener() -> (OwnedFd, SocketName, Vec<OwnedFd>) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let text = format!(
        "greenring-crowd-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let address = UnixAddr::new_abstract(text.as_bytes()).unwrap();
    let listener = unix_socket();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let name = name_of(&address);
    let mut crowd = Vec::new();
    loop {
        let socket = unix_socket();
        let connect = Operation::Connect {
            socket: descriptor(&socket),
            address: &name,
        };
        match attempt(&connect) {
            0 => crowd.push(socket),
            result => {
                assert_eq!(result, -libc::EAGAIN);
                return (listener, name, crowd);
            }
        }
    }
}

pub(in crate::backend) fn unix_socket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
}

#[test]
fn bytes_arrive_and_an_empty_socket_would_block() {
    let (here, there) = UnixStream::pair().unwrap();
    let (from, to) = (descriptor(&there), descriptor(&here));
    let mut buffer = [0; 8];
    assert_eq!(attempt(&recv(to, &mut buffer)), -libc::EAGAIN);
    assert_eq!(attempt(&send(from, b"bytes")), 5);
    assert_eq!(attempt(&recv(to, &mut buffer)), 5);
    assert_eq!(&buffer[..5], b"bytes");
    assert!(!is_nonblocking(&here));
    drop(there);
    assert_eq!(attempt(&recv(to, &mut buffer)), 0);
}

#[test]
fn a_socket_that_is_full_would_block() {
    let (here, there) = UnixStream::pair().unwrap();
    let chunk = [7; 4096];
    let mut sent = 0;
    let last = loop {
        match attempt(&send(descriptor(&here), &chunk)) {
            result if result < 0 => break result,
            result => sent += result,
        }
    };
    assert_eq!(last, -libc::EAGAIN);
    assert!(sent > 0);
    assert!(!is_nonblocking(&here));
    drop(there);
    assert_eq!(attempt(&send(descriptor(&here), &chunk)), -libc::EPIPE);
}

#[test]
fn messages_gather_and_scatter_and_would_block_when_there_are_none() {
    let (here, there) = UnixDatagram::pair().unwrap();
    let (mut head, mut tail) = ([0; 4], [0; 4]);
    let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    let mut incoming = Message::new(&mut buffers[..]);
    let receive = Operation::RecvMessage {
        socket: descriptor(&here),
        message: LentMessage::from(&mut incoming),
        flags: 0,
        poll_first: true,
    };
    assert_eq!(attempt(&receive), -libc::EAGAIN);
    let buffers = [IoSlice::new(b"mes"), IoSlice::new(b"sage")];
    let mut outgoing = Message::new(&buffers[..]);
    let post = Operation::SendMessage {
        socket: descriptor(&there),
        message: LentMessage::from(&mut outgoing),
        flags: libc::MSG_NOSIGNAL,
    };
    assert!(is_announced(&post) && is_announced(&receive));
    assert_eq!(attempt(&post), 7);
    assert_eq!(attempt(&receive), 7);
    assert_eq!((&head, &tail[..3]), (b"mess", &b"age"[..]));
}

#[test]
fn accept_gives_a_closing_descriptor_and_the_name_of_the_peer() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut peer = SocketName::empty();
    let accept = Operation::Accept {
        socket: descriptor(&listener),
        peer: LentName::from(&mut peer),
        poll_first: false,
    };
    assert_eq!(attempt(&accept), -libc::EAGAIN);
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let fd = settle(&accept);
    assert!(fd >= 0);
    // SAFETY: accept has just handed this descriptor over.
    let accepted = unsafe { TcpStream::from_raw_fd(fd) };
    // SAFETY: F_GETFD takes no argument.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    assert!(!is_nonblocking(&accepted));
    assert_eq!(peer.length as usize, size_of::<libc::sockaddr_in>());
    assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
}

#[test]
fn a_connect_succeeds_and_leaves_the_flags_alone() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp_name(listener.local_addr().unwrap());
    for nonblocking in [false, true] {
        let client = TcpStream::from(tcp_socket());
        client.set_nonblocking(nonblocking).unwrap();
        let connect = Operation::Connect {
            socket: descriptor(&client),
            address: &address,
        };
        let first = attempt(&connect);
        assert!(first == 0 || first == -libc::EAGAIN);
        assert_eq!(is_nonblocking(&client), nonblocking);
        assert_eq!(settle(&connect), 0);
        // EISCONN from here on, which is the same answer.
        assert_eq!(attempt(&connect), 0);
        assert_eq!(is_nonblocking(&client), nonblocking);
        client.peer_addr().unwrap();
    }
}

#[test]
fn a_refused_connect_says_so_and_leaves_the_flags_alone() {
    // Bound but not listening: nobody else can take the port.
    let closed = tcp_socket();
    let any = SockaddrStorage::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    bind(closed.as_raw_fd(), &any).unwrap();
    let bound: SockaddrStorage = nix::sys::socket::getsockname(closed.as_raw_fd()).unwrap();
    let address = name_of(&bound);
    let client = tcp_socket();
    let connect = Operation::Connect {
        socket: descriptor(&client),
        address: &address,
    };
    assert_eq!(settle(&connect), -libc::ECONNREFUSED);
    assert!(!is_nonblocking(&client));
}

#[test]
fn a_connect_that_is_under_way_would_block_again() {
    // The first connection fills the queue, later handshakes get no answer.
    let listener = tcp_socket();
    let any = SockaddrStorage::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    bind(listener.as_raw_fd(), &any).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let bound: SockaddrStorage = nix::sys::socket::getsockname(listener.as_raw_fd()).unwrap();
    let address = name_of(&bound);
    let fills = tcp_socket();
    let connect = Operation::Connect {
        socket: descriptor(&fills),
        address: &address,
    };
    assert_eq!(settle(&connect), 0);
    let client = tcp_socket();
    let connect = Operation::Connect {
        socket: descriptor(&client),
        address: &address,
    };
    for _ in 0..3 {
        assert_eq!(attempt(&connect), -libc::EAGAIN);
        assert!(!is_nonblocking(&client));
    }
    let timeout = Duration::from_millis(20);
    let start = Instant::now();
    assert_eq!(perform_blocking(&connect, Some(timeout)), None);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn blocking_waits_for_the_other_side() {
    let (mut here, there) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut buffer = [0; 8];
            let result = perform_blocking(&recv(descriptor(&there), &mut buffer), None);
            (result, buffer)
        });
        here.write_all(b"late").unwrap();
        let (result, buffer) = reader.join().unwrap();
        assert_eq!(result, Some(4));
        assert_eq!(&buffer[..4], b"late");
    });
    let mut rest = Vec::new();
    drop(here);
    (&there).read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn blocking_keeps_its_deadline_among_signals() {
    extern "C" fn ignore(_: i32) {}
    // SAFETY: a handler that does nothing, without SA_RESTART, for a
    // signal that no other test uses.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()), 0);
    }
    let timeout = Duration::from_millis(50);
    let blocked = thread::spawn(move || {
        let (here, _there) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let result = perform_blocking(&recv(descriptor(&here), &mut [0; 8]), Some(timeout));
        (result, start.elapsed())
    });
    while !blocked.is_finished() {
        // SAFETY: the OS thread has not been joined, so its handle is valid.
        unsafe { libc::pthread_kill(blocked.as_pthread_t() as _, libc::SIGUSR1) };
        thread::yield_now();
    }
    let (result, elapsed) = blocked.join().unwrap();
    assert_eq!(result, None);
    assert!(elapsed >= timeout);
}

#[test]
fn a_timeout_beyond_the_clock_is_none() {
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(b"x").unwrap();
    let mut buffer = [0; 1];
    let socket = descriptor(&there);
    let result = perform_blocking(&recv(socket, &mut buffer), Some(Duration::MAX));
    assert_eq!(result, Some(1));
}

#[test]
fn a_crowded_unix_listener_is_waited_for() {
    let (listener, name, crowd) = crowded_listener();
    let client = unix_socket();
    let connect = Operation::Connect {
        socket: descriptor(&client),
        address: &name,
    };
    assert!(!is_announced(&connect));
    let timeout = Duration::from_millis(5);
    assert_eq!(perform_blocking(&connect, Some(timeout)), None);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let connect = Operation::Connect {
                socket: descriptor(&client),
                address: &name,
            };
            perform_blocking(&connect, None)
        });
        let mut peer = SocketName::empty();
        let accept = Operation::Accept {
            socket: descriptor(&listener),
            peer: LentName::from(&mut peer),
            poll_first: false,
        };
        for _ in 0..=crowd.len() {
            // Somebody is or will be there to accept.
            close(perform_blocking(&accept, None).expect("there is no limit"));
        }
        assert_eq!(waits.join().unwrap(), Some(0));
    });
}

#[test]
fn a_datagram_to_a_named_full_receiver_is_not_announced() {
    let receiver = UnixDatagram::unbound().unwrap();
    let text = format!("greenring-datagram-{}", std::process::id());
    let address = UnixAddr::new_abstract(text.as_bytes()).unwrap();
    bind(receiver.as_raw_fd(), &address).unwrap();
    let mut name = name_of(&address);
    let sender = UnixDatagram::unbound().unwrap();
    let buffers = [IoSlice::new(b"datagram")];
    let mut message = Message::new(&buffers[..]);
    let message = LentMessage::from(&mut message);
    // SAFETY: the name outlives the message.
    unsafe {
        (*message.pointer()).msg_name = name.storage.as_mut_ptr().cast();
        (*message.pointer()).msg_namelen = name.length;
    }
    let post = Operation::SendMessage {
        socket: descriptor(&sender),
        message,
        flags: libc::MSG_NOSIGNAL,
    };
    while attempt(&post) == 8 {}
    assert_eq!(attempt(&post), -libc::EAGAIN);
    assert!(!is_announced(&post));
    // poll(2) calls the sender writable although it is not.
    poll(&post, None).unwrap();
    assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 8);
    assert_eq!(perform_blocking(&post, None), Some(8));
}
