//! Descriptors that travel with a message: SCM_RIGHTS, unix(7) and cmsg(3).
//!
//! The kernel opens them for this process while it receives the message and
//! writes down their numbers. From then on whoever owns the message owns them.

#![allow(unsafe_code)] // Walks ancillary data that the kernel wrote.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::operation::{Message, Operation};
use super::syscall::{close, own};

/// The most descriptors that one message passes, SCM_MAX_FD.
pub(crate) const MOST_PASSED: usize = 253;

/// Bytes of a descriptor's number in ancillary data.
const NUMBER: usize = size_of::<i32>();

/// SCM_PIDFD of linux/socket.h: the sender's pidfd, for who asked for it by
/// SO_PASSPIDFD. It is opened as the others are.
const SCM_PIDFD: i32 = 4;

/// Ancillary data that passes descriptors on.
pub(crate) fn passing(fds: &[BorrowedFd<'_>]) -> Vec<u64> {
    let mut control = vec![0; words(space(fds.len() * NUMBER))];
    // SAFETY: the pointers stay within `control`, which has room for one header
    // and the numbers behind it, and is aligned for a header.
    unsafe {
        let header: *mut libc::cmsghdr = control.as_mut_ptr().cast();
        (*header).cmsg_len = libc::CMSG_LEN((fds.len() * NUMBER) as u32) as _;
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        let numbers = libc::CMSG_DATA(header).cast::<i32>();
        for (index, fd) in fds.iter().enumerate() {
            numbers.add(index).write_unaligned(fd.as_raw_fd());
        }
    }
    control
}

/// Room for the ancillary data of a message that passes up to `most`
/// descriptors; and for the sender's credentials and pidfd, which come first if
/// the socket was told to receive them.
pub(crate) fn room(most: usize) -> Vec<u64> {
    let rights = space(most.min(MOST_PASSED) * NUMBER);
    let sender = space(size_of::<libc::ucred>()) + space(NUMBER);
    vec![0; words(sender + rights)]
}

fn space(bytes: usize) -> usize {
    // SAFETY: it computes a length.
    unsafe { libc::CMSG_SPACE(bytes as u32) as usize }
}

fn words(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<u64>())
}

/// Takes over the descriptors that a message has brought, which has been
/// received. Another time there are none.
pub(crate) fn take_passed(message: &mut Message<'_>) -> Vec<OwnedFd> {
    take(message.header_mut())
}

/// Closes what a completion has handed over and nobody takes: the result of an
/// operation that was not a failure.
pub(crate) fn close_untaken(operation: &Operation<'_>, result: i32) {
    match operation {
        Operation::Accept { .. } | Operation::Open { .. } => close(result),
        Operation::RecvMessage { message, .. } => {
            // SAFETY: `message` borrows the header, and the kernel is done with
            // it.
            drop(take(unsafe { &mut *message.pointer() }));
        }
        Operation::Recv { .. }
        | Operation::RecvMany { .. }
        | Operation::ReadMany { .. }
        | Operation::Send { .. }
        | Operation::SendMessage { .. }
        | Operation::Connect { .. }
        | Operation::Read { .. }
        | Operation::Write { .. }
        | Operation::ReadVectored { .. }
        | Operation::WriteVectored { .. }
        | Operation::Poll { .. } => {}
    }
}

fn take(header: &mut libc::msghdr) -> Vec<OwnedFd> {
    let mut passed = Vec::new();
    // SAFETY: the header names as many bytes as there are, or as the kernel has
    // written; it writes whole entries, and before it does all is zero, which is
    // no entry.
    unsafe {
        let mut entry = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = entry.as_ref() {
            #[allow(clippy::unnecessary_cast)] // musl's is of another type.
            let bytes = (control.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let numbers = libc::CMSG_DATA(entry).cast::<i32>();
            let numbers = (0..bytes / NUMBER).map(|index| numbers.add(index).read_unaligned());
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => passed.extend(numbers.map(own)),
                // Nobody has a use for it; it may be an errno instead.
                (libc::SOL_SOCKET, SCM_PIDFD) => {
                    numbers.filter(|fd| *fd >= 0).map(own).for_each(drop);
                }
                _ => {}
            }
            entry = libc::CMSG_NXTHDR(header, entry);
        }
    }
    header.msg_control = ptr::null_mut();
    header.msg_controllen = 0;
    passed
}
