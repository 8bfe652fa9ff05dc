//! Operation -> submission queue entry, one match.

#![allow(unsafe_code)] // Sets a field of an entry that its crate keeps to itself.

use io_uring::{opcode, squeue, types};

use super::buffers::GROUP;
use super::operation::{CURRENT_POSITION, Key, Operation};

/// IORING_RECVSEND_POLL_FIRST (Linux 5.19): wait for readiness before the
/// first attempt. The io-uring crate takes it as a bare `ioprio` bit.
const POLL_FIRST: u16 = 1;

/// IORING_ACCEPT_POLL_FIRST (Linux 6.10): the same for an accept.
const ACCEPT_POLL_FIRST: u16 = 4;

/// Which operations the kernel may be told to wait with before it tries.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollFirst {
    pub(super) receive: bool,
    pub(super) accept: bool,
}

/// The entry that asks for `operation` under `key`.
///
/// It holds raw pointers into what the operation lends; whoever pushes it
/// answers for their lifetime.
#[inline(always)]
pub(super) fn entry(operation: &Operation<'_>, key: Key, knows: PollFirst) -> squeue::Entry {
    let ioprio = |poll_first: bool| {
        if poll_first && knows.receive {
            POLL_FIRST
        } else {
            0
        }
    };
    let entry = match operation {
        Operation::Recv {
            socket,
            into,
            flags,
            poll_first,
        } => opcode::Recv::new(types::Fd(socket.fd), into.start(), into.len())
            .flags(*flags)
            .ioprio(ioprio(*poll_first))
            .build(),
        Operation::Send {
            socket,
            from,
            flags,
        } => opcode::Send::new(types::Fd(socket.fd), from.start(), from.len())
            .flags(*flags)
            .build(),
        Operation::RecvMessage {
            socket,
            message,
            flags,
            poll_first,
        } => opcode::RecvMsg::new(types::Fd(socket.fd), message.pointer())
            .flags(*flags as u32)
            .ioprio(ioprio(*poll_first))
            .build(),
        Operation::RecvMany { socket } => {
            opcode::RecvMulti::new(types::Fd(socket.fd), GROUP).build()
        }
        Operation::SendMessage {
            socket,
            message,
            flags,
        } => opcode::SendMsg::new(types::Fd(socket.fd), message.pointer())
            .flags(*flags as u32)
            .build(),
        Operation::Accept {
            socket,
            peer,
            poll_first,
        } => {
            let (storage, length) = peer.parts();
            let entry = opcode::Accept::new(types::Fd(socket.fd), storage, length)
                .flags(libc::SOCK_CLOEXEC)
                .build();
            match *poll_first && knows.accept {
                true => with_ioprio(entry, ACCEPT_POLL_FIRST),
                false => entry,
            }
        }
        Operation::Connect { socket, address } => opcode::Connect::new(
            types::Fd(socket.fd),
            std::ptr::from_ref(&address.storage).cast(),
            address.length,
        )
        .build(),
        Operation::Read {
            file,
            into,
            position,
        } => opcode::Read::new(types::Fd(file.fd), into.start(), into.len())
            .offset(*position)
            .build(),
        // Without a length it is that of a buffer.
        Operation::ReadMany { file } => opcode::ReadMulti::new(types::Fd(file.fd), 0, GROUP)
            .offset(CURRENT_POSITION)
            .build(),
        Operation::Write {
            file,
            from,
            position,
        } => opcode::Write::new(types::Fd(file.fd), from.start(), from.len())
            .offset(*position)
            .build(),
        Operation::ReadVectored {
            file,
            into,
            position,
        } => opcode::Readv::new(types::Fd(file.fd), into.start(), into.count())
            .offset(*position)
            .build(),
        Operation::WriteVectored {
            file,
            from,
            position,
        } => opcode::Writev::new(types::Fd(file.fd), from.start(), from.count())
            .offset(*position)
            .build(),
        Operation::Open { path, flags } => {
            opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
                .flags(*flags | libc::O_CLOEXEC)
                .build()
        }
        Operation::Poll { file, interest } => {
            opcode::PollAdd::new(types::Fd(file.fd), interest.events() as u32).build()
        }
    };
    entry.user_data(key.user_data())
}

/// Sets the field `ioprio`, for which the io-uring crate's accept has no method.
#[inline(always)]
fn with_ioprio(mut entry: squeue::Entry, ioprio: u16) -> squeue::Entry {
    const { assert!(size_of::<squeue::Entry>() == 64) };
    let field = (&raw mut entry).cast::<u16>().wrapping_add(1);
    // SAFETY: an entry has the layout of the kernel's struct io_uring_sqe
    // (repr(C)), whose bytes 2 and 3 are `ioprio`.
    unsafe { field.write(ioprio) };
    entry
}
