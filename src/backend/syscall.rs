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
        if let Some(end) = at_the_end(operation) {
            return Some(end);
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

/// What becomes of an operation that would block on a socket that was shut down
/// for reading, if it is one that ends there.
///
/// A call that blocks ends then: a receive with 0, an accept with EINVAL. Without
/// blocking, recvmsg(2) of a datagram socket and accept4(2) of a Unix listener are
/// told EAGAIN for ever, and no event comes after the first.
#[cold]
pub(super) fn at_the_end(operation: &Operation<'_>) -> Option<i32> {
    let (Operation::Recv { socket, .. }
    | Operation::RecvMessage { socket, .. }
    | Operation::Accept { socket, .. }) = operation
    else {
        return None;
    };
    let mut entry = libc::pollfd {
        fd: socket.fd,
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one entry, on this frame.
    let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
    if ready <= 0 || entry.revents & libc::POLLRDHUP == 0 {
        return None;
    }
    if let Operation::RecvMessage { message, .. } = operation {
        // SAFETY: `message` borrows the header for writing.
        let header = unsafe { &mut *message.pointer() };
        // As recvmsg(2) leaves it: nothing came, from nobody.
        header.msg_namelen = 0;
        header.msg_controllen = 0;
        header.msg_flags = 0;
    }
    let is_accept = matches!(operation, Operation::Accept { .. });
    Some(if is_accept { -libc::EINVAL } else { 0 })
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
        Operation::Accept { socket, peer, .. } => {
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
        Operation::Open { path, flags } => {
            // SAFETY: the path is borrowed for the call, and ends with its zero.
            answer(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) } as isize)
        }
        Operation::Poll { file, interest } => ready(file.fd, *interest),
        // For backends that have buffers to choose from.
        Operation::RecvMany { .. } | Operation::ReadMany { .. } => -libc::EOPNOTSUPP,
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
    if let Some(error) = would_block(fd, Interest::Readable) {
        return error;
    }
    // SAFETY: the caller's promise.
    answer(unsafe { libc::readv(fd, vector, count) })
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
    if flags(fd) & libc::O_NONBLOCK != 0 {
        // SAFETY: the caller's promise.
        return answer(unsafe { libc::writev(fd, vector, count) });
    }
    if let Some(error) = would_block(fd, Interest::Writable) {
        return error;
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

/// Why a call that does not know how not to block must not be made now. With
/// O_NONBLOCK the call itself knows, and more than poll(2): a FIFO that never
/// had a writer is at its end, but not ready.
fn would_block(fd: RawFd, interest: Interest) -> Option<i32> {
    if flags(fd) & libc::O_NONBLOCK != 0 {
        return None;
    }
    Some(ready(fd, interest)).filter(|result| *result < 0)
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
pub(super) mod tests;
