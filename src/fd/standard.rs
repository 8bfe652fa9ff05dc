//! The three descriptors that a process is born with: somebody else's.
//!
//! A terminal is shared with the shell, a log file with other processes. So
//! their flags are left alone, and what somebody else has set there does not
//! show: a descriptor in non-blocking mode is waited for like any other. And
//! because dup2(2) may put something else behind such a number at any time,
//! nothing is remembered: each operation looks at what is there now.
//!
//! - A pipe, a FIFO, a socket, /dev/null is tried without blocking and then waited for.
//! - A file in storage is left to the offload pool: other processes may write at
//!   the same position, which only read(2) and write(2) take turns at.
//! - A device, such as a terminal, is waited for and then left to the pool,
//!   because most drivers do not know how not to block.
//!
//! An OS thread without a hub keeps nobody waiting, and makes the call itself.

#![allow(unsafe_code)] // Names descriptors by number; registers a function in C.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::uio;
use nix::unistd;

use super::file::Nature;
use super::{Interest, Limit, count, wait_for};
use crate::backend::{CURRENT_POSITION, Descriptor, Operation};
use crate::blocking::{self, Lane};
use crate::hub;

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Input = 0,
    Output = 1,
    Error = 2,
}

impl Standard {
    pub(crate) fn fd(self) -> BorrowedFd<'static> {
        // SAFETY: these numbers belong to nobody, so whoever uses them lives
        // with whatever is there, as std does; it is not -1.
        unsafe { BorrowedFd::borrow_raw(self as RawFd) }
    }
}

/// Has the C library call `last` when the process ends by `exit` or by the
/// return of `main`. Where there is no memory for that, nothing happens.
pub(crate) fn at_exit(last: extern "C" fn()) {
    // SAFETY: the function takes nothing, and code is not unloaded before.
    unsafe { libc::atexit(last) };
}

/// read(2).
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    perform(
        fd,
        Interest::Readable,
        buffer,
        |file, buffer| Operation::Read {
            file,
            into: (&mut **buffer).into(),
            position: CURRENT_POSITION,
        },
        |buffer| unistd::read(fd, buffer),
    )
}

/// readv(2).
pub(crate) fn read_vectored(
    fd: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let buffers = at_most(buffers.len(), |most| &mut buffers[..most]);
    perform(
        fd,
        Interest::Readable,
        buffers,
        |file, buffers| Operation::ReadVectored {
            file,
            into: (&mut **buffers).into(),
            position: CURRENT_POSITION,
        },
        |buffers| uio::readv(fd, buffers),
    )
}

/// write(2); on a stream of what it has room for.
pub(crate) fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    perform(
        fd,
        Interest::Writable,
        buffer,
        |file, buffer| Operation::Write {
            file,
            from: (*buffer).into(),
            position: CURRENT_POSITION,
        },
        |buffer| unistd::write(fd, buffer),
    )
}

/// writev(2); on a stream of what it has room for.
pub(crate) fn write_vectored(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let buffers = at_most(buffers.len(), |most| &buffers[..most]);
    perform(
        fd,
        Interest::Writable,
        buffers,
        |file, buffers| Operation::WriteVectored {
            file,
            from: (*buffers).into(),
            position: CURRENT_POSITION,
        },
        |buffers| uio::writev(fd, buffers),
    )
}

/// write(2) by an OS thread whose process ends: no loop is turned, no pool is
/// asked, and nobody is left to be kept waiting.
pub(crate) fn write_at_exit(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    loop {
        match unistd::write(fd, buffer) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut entry = [PollFd::new(fd, PollFlags::POLLOUT)];
                poll(&mut entry, PollTimeout::NONE)?;
            }
            result => return Ok(result?),
        }
    }
}

/// As many buffers as the kernel takes at once: more are a short count in std.
fn at_most<B>(count: usize, take: impl FnOnce(usize) -> B) -> B {
    take(count.min(libc::UIO_MAXIOV as usize))
}

/// One operation in two forms: what a hub tries without blocking, and the
/// system call for an OS thread that may block. Both work on `lent`.
fn perform<L: Send>(
    fd: BorrowedFd<'_>,
    interest: Interest,
    mut lent: L,
    operation: impl Fn(Descriptor, &mut L) -> Operation<'_>,
    mut call: impl FnMut(&mut L) -> nix::Result<usize> + Send,
) -> io::Result<usize> {
    loop {
        let has_hub = hub::has_hub();
        let nature = fstat(fd).map(|stat| Nature::of(&stat));
        let result = match nature {
            Ok(Nature::Stream | Nature::Memory) if has_hub => {
                let file = Descriptor {
                    fd: fd.as_raw_fd(),
                    id: Descriptor::FOREIGN,
                };
                count(hub::perform(operation(file, &mut lent), Limit::Once)?)
            }
            Ok(nature @ (Nature::Storage | Nature::Device)) if has_hub => {
                if nature == Nature::Device {
                    wait_for(fd, interest, Limit::Forever)?;
                }
                blocking::borrowed(Lane::Files, || call(&mut lent)).map_err(io::Error::from)
            }
            // Nobody is kept waiting, or nothing is open there.
            _ => call(&mut lent).map_err(io::Error::from),
        };
        match result {
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {
                wait_for(fd, interest, Limit::Forever)?;
            }
            result => return result,
        }
    }
}
