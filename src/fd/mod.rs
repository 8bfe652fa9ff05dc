//! Descriptors that green threads work with: each method is one operation.
//!
//! The types here wrap std's own types and so own what std owns. What never
//! waits is std's business; what may wait is built here as an [`Operation`] and
//! performed, or, where no backend has an operation for it, handed to the
//! offload pool.
//!
//! - [`Socket`]: recv(2) and its kin, with the modes that std keeps in the
//!   kernel.
//! - [`File`]: read(2) and its kin, on whatever kind of file is behind a
//!   descriptor.
//! - [`Reader`]: bytes of either that are received ahead, into buffers that the
//!   kernel lends.
//! - [`splice`]: bytes that go from one descriptor to another in the kernel.
//! - [`standard`]: the descriptors 0, 1 and 2, which are shared with others.
//! - [`wait_for`]: readiness alone, of a descriptor that is somebody else's.

mod ahead;
mod descriptor;
mod file;
mod reader;
mod socket;
pub(crate) mod splice;
pub(crate) mod standard;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use descriptor::descriptor_traits;
pub(crate) use file::{File, Nature};
pub use reader::{Reader, Writer};
pub(crate) use socket::Socket;

pub(crate) use crate::backend::Interest;
use crate::backend::{self, Descriptor, Operation};
use crate::cancel;
pub(crate) use crate::hub::Limit;
use crate::hub::{self, Performed};

/// One direction of a socket, for its time limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// An identity for a descriptor, never given twice.
fn new_identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The one place where a result of the kernel becomes an `io::Result`.
#[inline]
fn count(performed: Performed) -> io::Result<usize> {
    match performed {
        Performed::Completed { result, .. } if result >= 0 => Ok(result as usize),
        Performed::Completed { result, .. } => Err(io::Error::from_raw_os_error(-result)),
        // What a socket's own time limit gives, socket(7).
        Performed::TimedOut => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        Performed::Interrupted => cancel::raise(),
    }
}

/// Opens a file through the ring, which is for hubs that
/// [work on storage](crate::hub::works_on_storage). Where it would wait for the
/// other end of a FIFO it does not: O_NONBLOCK is added.
pub(crate) fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let operation = Operation::Open {
        path,
        flags: flags | libc::O_NONBLOCK,
    };
    let opened = count(hub::perform(operation, Limit::Forever)?)?;
    Ok(backend::own(opened as i32))
}

/// Waits until a descriptor that is somebody else's is ready, as by poll(2);
/// `Ok(false)` when the limit ran out. An error or a hang-up is ready too.
///
/// Nothing is remembered of the descriptor beyond the call: its number may be
/// closed and reused at any time.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, interest: Interest, limit: Limit) -> io::Result<bool> {
    let file = Descriptor {
        fd: fd.as_raw_fd(),
        id: Descriptor::FOREIGN,
    };
    match hub::perform(Operation::Poll { file, interest }, limit)? {
        Performed::TimedOut => Ok(false),
        Performed::Completed { result, .. } if result == -libc::EAGAIN => Ok(false),
        performed => count(performed).map(|_| true),
    }
}
