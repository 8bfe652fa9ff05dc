//! Operation -> system call, one match; and the descriptors that completions
//! hand over.

#![allow(unsafe_code)] // Makes the system calls.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::operation::{Interest, Operation, SocketName};

/// Tries an operation by a system call that does not block; -EAGAIN if it
/// would have to.
///
/// Listeners carry O_NONBLOCK, because accept4(2) has no flag for one call.
pub(crate) fn attempt(operation: &Operation<'_>) -> i32 {
    loop {
        let result = attempt_once(operation);
        // EINTR: a signal handler ran, nothing was done.
        if result != -libc::EINTR {
            return result;
        }
    }
}

fn attempt_once(operation: &Operation<'_>) -> i32 {
    match operation {
        Operation::Recv {
            socket,
            into,
            flags,
            ..
        } => {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the operation borrows the buffer.
            result_of(unsafe {
                libc::recv(socket.fd, into.start().cast(), into.len() as usize, flags)
            })
        }
        Operation::Send {
            socket,
            from,
            flags,
        } => {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the operation borrows the buffer.
            result_of(unsafe {
                libc::send(socket.fd, from.start().cast(), from.len() as usize, flags)
            })
        }
        Operation::RecvMessage {
            socket,
            message,
            flags,
            ..
        } => {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the operation borrows the message, which borrows its buffers.
            result_of(unsafe { libc::recvmsg(socket.fd, message.pointer(), flags) })
        }
        Operation::SendMessage {
            socket,
            message,
            flags,
        } => {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the operation borrows the message, which borrows its buffers.
            result_of(unsafe { libc::sendmsg(socket.fd, message.pointer(), flags) })
        }
        Operation::Accept { socket, peer } => {
            let (storage, length) = peer.parts();
            // SAFETY: the operation borrows the name.
            let accepted = unsafe { libc::accept4(socket.fd, storage, length, libc::SOCK_CLOEXEC) };
            result_of(accepted as isize)
        }
        Operation::Connect { socket, address } => attempt_connect(socket.fd, address),
    }
}

/// A connect(2) that does not block: begun by the first call, and asked after
/// by each further one.
///
/// The socket carries O_NONBLOCK from the first call to the final answer. To a
/// socket whose connection is being made Linux answers a further connect(2)
/// with EALREADY, once it is made with EISCONN or 0, and with the pending error
/// if it failed.
fn attempt_connect(fd: RawFd, address: &SocketName) -> i32 {
    // SAFETY: the caller of the operation holds the descriptor open.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let set_nonblocking = |nonblocking| -> nix::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, nonblocking);
        fcntl(socket, FcntlArg::F_SETFL(flags)).map(drop)
    };
    if let Err(errno) = set_nonblocking(true) {
        return -(errno as i32);
    }
    // SAFETY: the name is as long as the room it gives.
    let result =
        result_of(
            unsafe { libc::connect(fd, address.storage.as_ptr().cast(), address.length) } as isize,
        );
    let answer = match -result {
        libc::EINPROGRESS | libc::EALREADY => return -libc::EAGAIN,
        libc::EISCONN => 0,
        _ => result,
    };
    match set_nonblocking(false) {
        Ok(()) => answer,
        Err(errno) => -(errno as i32),
    }
}

/// A count or descriptor, or the negated errno.
fn result_of(returned: isize) -> i32 {
    if returned < 0 {
        -nix::errno::Errno::last_raw()
    } else {
        // Below 2^31: a descriptor, or a count of at most MAX_RW_COUNT.
        returned as i32
    }
}

/// Performs an operation by blocking the OS thread; for one whose hub has
/// ended. `None` when the time has run out.
pub(crate) fn perform_blocking(
    operation: &Operation<'_>,
    timeout: Option<Duration>,
) -> Option<i32> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let events = match operation.interest() {
        Interest::Readable => PollFlags::POLLIN,
        Interest::Writable => PollFlags::POLLOUT,
    };
    loop {
        let result = attempt(operation);
        if result != -libc::EAGAIN {
            return Some(result);
        }
        let patience = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                // Whole milliseconds, rounded up: never early.
                let milliseconds = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
            }
        };
        // SAFETY: the caller of the operation holds the descriptor open.
        let fd = unsafe { BorrowedFd::borrow_raw(operation.descriptor().fd) };
        match poll(&mut [PollFd::new(fd, events)], patience) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Some(-(errno as i32)),
        }
    }
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
