//! Passing descriptors over a socket: what streams and datagrams share.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::backend::{self, Message};
use crate::fd::Socket;

/// A message of bytes together with descriptors, which `send` sends.
pub(super) fn send(
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    send: impl FnOnce(&mut Message<'_>) -> io::Result<usize>,
) -> io::Result<usize> {
    if fds.len() > backend::MOST_PASSED {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "one message passes at most 253 descriptors",
        ));
    }
    let mut control = backend::passing(fds);
    let buffers = [IoSlice::new(bytes)];
    let message = Message::new(&buffers[..]);
    send(&mut message.control(&mut control))
}

/// recvmsg(2) of bytes together with descriptors, at most `most` of them.
///
/// # Errors
///
/// `InvalidData` if there were descriptors that could not be received. Those
/// that could are closed.
pub(super) fn receive<S: AsFd>(
    socket: &Socket<S>,
    bytes: &mut [u8],
    most: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    if let Some(taken) = socket.take_ahead(bytes, 0) {
        return Ok((taken?, Vec::new()));
    }
    let mut control = backend::room(most);
    let mut buffers = [IoSliceMut::new(bytes)];
    let mut message = Message::new(&mut buffers[..]).control(&mut control);
    let count = socket.recv_message(&mut message, libc::MSG_CMSG_CLOEXEC)?;
    let passed = backend::take_passed(&mut message);
    // The room for credentials takes some descriptors more.
    if passed.len() > most || message.flags() & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not all descriptors that were passed could be received",
        ));
    }
    Ok((count, passed))
}
