//! Operation -> submission queue entry, one match.

use io_uring::{opcode, squeue, types};

use super::buffers::GROUP;
use super::operation::{CURRENT_POSITION, Key, Operation};

/// IORING_RECVSEND_POLL_FIRST (Linux 5.19): wait for readiness before the
/// first attempt. The io-uring crate takes it as a bare `ioprio` bit.
const POLL_FIRST: u16 = 1;

/// The entry that asks for `operation` under `key`.
///
/// It holds raw pointers into what the operation lends; whoever pushes it
/// answers for their lifetime. `knows_poll_first` says whether the kernel may
/// be told to wait before it tries.
#[inline(always)]
pub(super) fn entry(operation: &Operation<'_>, key: Key, knows_poll_first: bool) -> squeue::Entry {
    let ioprio = |poll_first: bool| {
        if poll_first && knows_poll_first {
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
        Operation::Accept { socket, peer } => {
            let (storage, length) = peer.parts();
            opcode::Accept::new(types::Fd(socket.fd), storage, length)
                .flags(libc::SOCK_CLOEXEC)
                .build()
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
