//! Operation -> system call, one match; and the descriptors that completions
//! hand over.
//!
//! [`attempt`] never blocks and is what both backends use for a direct try;
//! [`perform_blocking`] is for an OS thread that has no hub any more. EINTR is
//! retried here and nowhere else.
//!
//! Files other than sockets are read and written with RWF_NOWAIT. Where a file
//! does not know that (FIFOs, and pipes before Linux 6.5) poll(2) is asked
//! first; then a write is kept so short that it fits what readiness promises,
//! and what remains is that somebody else's read of the same pipe comes in
//! between. Files in storage do not come here, except for the ring's sake.
//!
//! Sockets are left as they are: receives and sends carry MSG_DONTWAIT, and a
//! connect(2), which knows no such flag, sets O_NONBLOCK only around the call
//! itself. So a connect that is given up half-way leaves no trace in the
//! socket's flags. An accept4(2) knows no such flag either, but others may be
//! accepting from the same listener at the same time: it sets O_NONBLOCK and
//! leaves it to the net floor to take it away.

#![allow(unsafe_code)] // System calls on lent memory.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::operation::{Interest, Lent, Operation, SocketName};

/// How often an operation is tried again whose progress no readiness
/// announces: long against a system call, short against a person's patience.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Makes the system call without ever blocking: the result, a negated errno,
/// or -EAGAIN for "it would block".
///
/// A connect that would block has been started; trying it again asks how it
/// went. Linux then answers with 0 or EISCONN when the socket is connected,
/// with EALREADY while it is not, and otherwise with the failure.
#[inline]
pub(crate) fn attempt(operation: &Operation<'_>) -> i32 {
    loop {
        let result = call(operation);
        if result != -libc::EINTR {
            return result;
        }
    }
}

/// Makes the operation's progress by blocking the calling OS thread; `None`
/// when the timeout ran out first, which it never does early.
///
/// For OS threads whose hub has ended; it would stop a living one.
pub(crate) fn perform_blocking(
    operation: &Operation<'_>,
    timeout: Option<Duration>,
) -> Option<i32> {
    // A deadline that the clock cannot express is never reached.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let result = attempt(operation);
        if result != -libc::EAGAIN {
            return Some(result);
        }
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if remaining == Some(Duration::ZERO) {
            return None;
        }
        if !is_announced(operation) {
            thread::sleep(remaining.map_or(RETRY_INTERVAL, |left| left.min(RETRY_INTERVAL)));
        } else if let Err(errno) = poll(operation, remaining) {
            return Some(-errno);
        }
    }
}

/// Whether readiness of the descriptor announces that an operation which would
/// block can go on.
///
/// It does not where a Unix socket waits for room in another one that it is
/// not connected to: a connect to a listener whose backlog is full, a datagram
/// to a named receiver whose queue is full. The socket itself counts as
/// writable all the while, and no event tells of the other's room.
#[inline]
pub(super) fn is_announced(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Connect { address, .. } => !is_unix(&address.storage),
        Operation::SendMessage { message, .. } => {
            // SAFETY: `message` borrows the header.
            let header = unsafe { &*message.pointer() };
            if header.msg_name.is_null() {
                return true;
            }
            // SAFETY: the name that a header points to is as long as it says.
            !is_unix(unsafe {
                slice::from_raw_parts(header.msg_name.cast(), header.msg_namelen as usize)
            })
        }
        _ => true,
    }
}

/// Whether an address is a Unix socket's: the family stands first.
fn is_unix(name: &[u8]) -> bool {
    name.starts_with(&(libc::AF_UNIX as libc::sa_family_t).to_ne_bytes())
}

/// Takes over the descriptor that a completion has handed over.
pub(crate) fn own(result: i32) -> OwnedFd {
    // SAFETY: the kernel made it for this completion, which is collected once.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// Closes the descriptor of a completion that nobody takes.
pub(crate) fn close(result: i32) {
    drop(own(result));
}

/// The one match.
#[inline]
fn call(operation: &Operation<'_>) -> i32 {
    match operation {
        Operation::Recv {
            socket,
            into,
            flags,
            poll_first: _, // A hint for the ring; only a failed try arms epoll.
        } => answer(
            // SAFETY: `into` borrows the bytes it names for writing.
            unsafe {
                libc::recv(
                    socket.fd,
                    into.start().cast(),
                    into.len() as usize,
                    flags | libc::MSG_DONTWAIT,
                )
            },
        ),
        Operation::Send {
            socket,
            from,
            flags,
        } => answer(
            // SAFETY: `from` borrows the bytes it names, which are only read.
            unsafe {
                libc::send(
                    socket.fd,
                    from.start().cast(),
                    from.len() as usize,
                    flags | libc::MSG_DONTWAIT,
                )
            },
        ),
        Operation::RecvMessage {
            socket,
            message,
            flags,
            poll_first: _,
        } => answer(
            // SAFETY: `message` borrows the header for writing, and with it the
            // buffers.
            unsafe { libc::recvmsg(socket.fd, message.pointer(), flags | libc::MSG_DONTWAIT) },
        ),
        Operation::SendMessage {
            socket,
            message,
            flags,
        } => answer(
            // SAFETY: `message` borrows the header and with it the buffers,
            // which are only read.
            unsafe { libc::sendmsg(socket.fd, message.pointer(), flags | libc::MSG_DONTWAIT) },
        ),
        Operation::Accept { socket, peer } => {
            let flags = flags(socket.fd);
            if flags < 0 {
                return flags;
            }
            if flags & libc::O_NONBLOCK == 0 {
                let result = set_flags(socket.fd, flags | libc::O_NONBLOCK);
                if result < 0 {
                    return result;
                }
            }
            let (storage, length) = peer.parts();
            // SAFETY: `peer` borrows both for writing, and the length says how
            // much room the storage has.
            answer(
                unsafe { libc::accept4(socket.fd, storage, length, libc::SOCK_CLOEXEC) } as isize,
            )
        }
        Operation::Connect { socket, address } => connect(socket.fd, address),
        Operation::Read {
            file,
            into,
            position,
        } => {
            let vector = vector(into);
            // SAFETY: `into` borrows the bytes it names for writing.
            unsafe { read(file.fd, &raw const vector, 1, *position) }
        }
        Operation::Write {
            file,
            from,
            position,
        } => {
            let vector = vector(from);
            // SAFETY: `from` borrows the bytes it names.
            unsafe { write(file.fd, &raw const vector, 1, *position) }
        }
        Operation::ReadVectored {
            file,
            into,
            position,
        } => {
            // SAFETY: `into` borrows the buffers it names for writing.
            unsafe { read(file.fd, into.start(), into.count() as i32, *position) }
        }
        Operation::WriteVectored {
            file,
            from,
            position,
        } => {
            // SAFETY: `from` borrows the buffers it names.
            unsafe { write(file.fd, from.start(), from.count() as i32, *position) }
        }
        Operation::Poll { file, interest } => ready(file.fd, *interest),
    }
}

fn vector(lent: &Lent<'_>) -> libc::iovec {
    libc::iovec {
        iov_base: lent.start().cast(),
        iov_len: lent.len() as usize,
    }
}

/// Reads without blocking into `count` buffers.
///
/// # Safety
///
/// `vector` points to that many buffers, which may be written to.
unsafe fn read(fd: RawFd, vector: *const libc::iovec, count: i32, position: u64) -> i32 {
    let position = position as libc::off_t;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::preadv2(fd, vector, count, position, libc::RWF_NOWAIT) };
    match answer(result) {
        // ENOSYS: a seccomp profile hides the call.
        result if result == -libc::EOPNOTSUPP || result == -libc::ENOSYS => {}
        result => return result,
    }
    match ready(fd, Interest::Readable) {
        // SAFETY: the caller's promise.
        events if events >= 0 => answer(unsafe { libc::readv(fd, vector, count) }),
        error => error,
    }
}

/// Writes without blocking from `count` buffers.
///
/// # Safety
///
/// `vector` points to that many buffers.
unsafe fn write(fd: RawFd, vector: *const libc::iovec, count: i32, position: u64) -> i32 {
    let position = position as libc::off_t;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::pwritev2(fd, vector, count, position, libc::RWF_NOWAIT) };
    match answer(result) {
        // ENOSYS: a seccomp profile hides the call.
        result if result == -libc::EOPNOTSUPP || result == -libc::ENOSYS => {}
        result => return result,
    }
    match ready(fd, Interest::Writable) {
        events if events >= 0 => {}
        error => return error,
    }
    // SAFETY: the caller's promise: `count` buffers.
    let vectors = unsafe { slice::from_raw_parts(vector, count as usize) };
    let Some(first) = vectors.iter().find(|buffer| buffer.iov_len > 0) else {
        return 0;
    };
    // A pipe that is ready has room for this much, pipe(7).
    let length = first.iov_len.min(libc::PIPE_BUF);
    // SAFETY: the caller's promise.
    answer(unsafe { libc::write(fd, first.iov_base, length) })
}

/// poll(2) of one descriptor: what it is ready for, or -EAGAIN.
fn ready(fd: RawFd, interest: Interest) -> i32 {
    let mut entry = libc::pollfd {
        fd,
        events: interest.events(),
        revents: 0,
    };
    // SAFETY: one entry, on this frame.
    match answer(unsafe { libc::poll(&raw mut entry, 1, 0) } as isize) {
        0 => -libc::EAGAIN,
        error if error < 0 => error,
        _ if entry.revents & libc::POLLNVAL != 0 => -libc::EBADF,
        _ => i32::from(entry.revents),
    }
}

/// connect(2) with O_NONBLOCK, and the flags as they were afterwards.
fn connect(fd: RawFd, address: &SocketName) -> i32 {
    let flags = flags(fd);
    if flags < 0 {
        return flags;
    }
    let borrowed = flags & libc::O_NONBLOCK == 0;
    if borrowed {
        let result = set_flags(fd, flags | libc::O_NONBLOCK);
        if result < 0 {
            return result;
        }
    }
    let name = address.storage.as_ptr().cast();
    // SAFETY: the address is borrowed for the call and only read, within its
    // length.
    let result = answer(unsafe { libc::connect(fd, name, address.length) } as isize);
    if borrowed {
        let restored = set_flags(fd, flags);
        if restored < 0 {
            return restored;
        }
    }
    match -result {
        libc::EISCONN => 0,
        libc::EINPROGRESS | libc::EALREADY => -libc::EAGAIN,
        _ => result,
    }
}

fn flags(fd: RawFd) -> i32 {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    answer(unsafe { libc::fcntl(fd, libc::F_GETFL) } as isize)
}

fn set_flags(fd: RawFd, flags: i32) -> i32 {
    // SAFETY: F_SETFL takes an integer and touches no memory.
    answer(unsafe { libc::fcntl(fd, libc::F_SETFL, flags) } as isize)
}

/// Sleeps in ppoll(2) until the operation is worth another attempt, the
/// timeout has run out or a signal came.
fn poll(operation: &Operation<'_>, timeout: Option<Duration>) -> Result<(), i32> {
    let mut entry = libc::pollfd {
        fd: operation.descriptor().fd,
        events: operation.interest().events(),
        revents: 0,
    };
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timespec = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one entry and the timeout, both on this frame; no signal mask.
    let result = answer(unsafe { libc::ppoll(&raw mut entry, 1, timespec, ptr::null()) } as isize);
    match -result {
        libc::EINTR => Ok(()),
        errno if errno > 0 => Err(errno),
        _ => Ok(()),
    }
}

/// The C library's answer in the kernel's form.
#[inline]
fn answer(result: isize) -> i32 {
    if result < 0 {
        -Errno::last_raw()
    } else {
        // Counts fit, because `Lent` and the kernel bound them (MAX_RW_COUNT).
        result as i32
    }
}

#[cfg(test)]
pub(super) mod tests {
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
        let bytes =
            unsafe { slice::from_raw_parts(address.as_ptr().cast(), address.len() as usize) };
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
}
