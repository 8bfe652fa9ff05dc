//! A file that green threads read and write, whatever it is.
//!
//! What a descriptor is open on decides how an operation on it waits, see
//! [`Nature`]; the callers do not notice. A blocking write moves the whole
//! buffer, as write(2) does.
//!
//! # Positions
//!
//! read(2) and write(2) hold a lock of the kernel's over the file's position;
//! the ring does not, and two reads in flight could move the same bytes. So
//! operations at the current position of a file in storage take turns here.
//! Duplicates made by [`File::duplicate`] share turns as they share the
//! position; duplicates made behind our back do not.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::uio;
use nix::unistd::{self, Whence};

use super::ahead::Ahead;
use super::reader::Stream;
use super::{Interest, Limit, count, new_identity};
use crate::backend::{CURRENT_POSITION, Descriptor, Operation};
use crate::blocking::{self, Lane};
use crate::hub::{self, Performed};
use crate::sync::{Mutex, MutexGuard};

/// How operations on an open file wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// A regular file, a directory, a block device: for the disk. It has a
    /// position and no readiness. The ring does it; elsewhere the offload pool,
    /// and what was begun is waited for in both cases.
    Storage,
    /// A pipe, a FIFO, a socket: for somebody at the other end.
    Stream,
    /// `/dev/null`, `/dev/zero`, `/dev/urandom` and their kin: as a stream, but
    /// as a rule they need no waiting at all.
    Memory,
    /// Any other character device, such as a terminal: as a stream, but most
    /// drivers do not know how not to block, so after the wait the offload pool
    /// makes the call.
    Device,
}

impl Nature {
    pub(super) fn of(stat: &FileStat) -> Nature {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFIFO | SFlag::S_IFSOCK => Nature::Stream,
            // Their numbers are for ever: Documentation/admin-guide/devices.txt.
            SFlag::S_IFCHR if major(stat.st_rdev) == 1 => match minor(stat.st_rdev) {
                NULL | ZERO | FULL | RANDOM | URANDOM => Nature::Memory,
                _ => Nature::Device,
            },
            SFlag::S_IFCHR => Nature::Device,
            // An eventfd and its kin are of no type at all.
            kind if kind.is_empty() => Nature::Stream,
            _ => Nature::Storage,
        }
    }
}

const NULL: u64 = 3;
const ZERO: u64 = 5;
const FULL: u64 = 7;
const RANDOM: u64 = 8;
const URANDOM: u64 = 9;

/// The most bytes that are copied on the hub's OS thread, which is where the
/// ring copies what is in memory already: 1 MiB takes about 100 us. What is
/// longer would keep the hub from everybody else, and is left to the pool.
const MOST_AT_ONCE: usize = 1 << 20;

/// Where the pipes without a name are, <linux/magic.h>.
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

/// The most buffers that readv(2) and writev(2) take, UIO_MAXIOV.
const MOST_BUFFERS: usize = libc::UIO_MAXIOV as usize;

/// What all duplicates of one open file share.
#[derive(Debug)]
struct Opened {
    nature: Nature,
    /// The ring can go on reading it. Of streams with a name it cannot: a
    /// multishot read of a FIFO is not told that its last writer has gone (6.18).
    is_pipe: bool,
    nonblocking: bool,
    /// Writes go to the end, wherever the position.
    appends: bool,
    /// Whose turn it is to work at the file's position.
    position: Mutex<()>,
    /// What a reader has received and not consumed.
    ahead: Ahead,
}

/// An owned descriptor of a file in the shape of std's type `S`.
#[derive(Debug)]
pub(crate) struct File<S> {
    /// Never reused, unlike the descriptor's number.
    id: u64,
    opened: Arc<Opened>,
    std: S,
}

impl<S: AsFd> File<S> {
    /// Takes over a descriptor, after a look at what it is open on.
    ///
    /// O_NONBLOCK is looked at now and never again: with it an operation on a
    /// stream fails with `WouldBlock` instead of waiting, as in std.
    pub(crate) fn new(std: S) -> File<S> {
        // What cannot be looked at fails at its first operation.
        let nature = fstat(&std).map_or(Nature::Stream, |stat| Nature::of(&stat));
        let flags = fcntl(&std, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
        let is_pipe = nature == Nature::Stream
            && fstatfs(&std).is_ok_and(|found| found.filesystem_type() == PIPEFS_MAGIC);
        File::of(std, nature, is_pipe, flags)
    }

    /// Takes over an end of a pipe that is not in non-blocking mode.
    pub(crate) fn pipe(std: S) -> File<S> {
        File::of(std, Nature::Stream, true, OFlag::empty())
    }

    fn of(std: S, nature: Nature, is_pipe: bool, flags: OFlag) -> File<S> {
        File {
            id: new_identity(),
            opened: Arc::new(Opened {
                nature,
                is_pipe,
                nonblocking: nature != Nature::Storage && flags.contains(OFlag::O_NONBLOCK),
                appends: flags.contains(OFlag::O_APPEND),
                position: Mutex::new(()),
                ahead: Ahead::default(),
            }),
            std,
        }
    }

    /// A duplicate of `original`, made by dup(2): the same open file.
    pub(crate) fn duplicate<T>(original: &File<T>, std: S) -> File<S> {
        File {
            id: new_identity(),
            opened: Arc::clone(&original.opened),
            std,
        }
    }

    /// std's view of the descriptor, for what never waits.
    pub(crate) fn std(&self) -> &S {
        &self.std
    }

    pub(crate) fn into_std(self) -> S {
        self.std
    }

    pub(crate) fn nature(&self) -> Nature {
        self.opened.nature
    }

    /// Takes the turn to work at the file's position; others wait until the
    /// guard is dropped.
    pub(crate) fn position(&self) -> MutexGuard<'_, ()> {
        let position = &self.opened.position;
        position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock behind [`position`](File::position), which duplicates share; of
    /// files that have one.
    pub(super) fn turns(&self) -> Option<&Mutex<()>> {
        (self.opened.nature == Nature::Storage).then_some(&self.opened.position)
    }

    pub(super) fn ahead(&self) -> &Ahead {
        &self.opened.ahead
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor {
            fd: self.std.as_fd().as_raw_fd(),
            id: self.id,
        }
    }

    pub(super) fn limit(&self) -> Limit {
        if self.opened.nonblocking {
            Limit::Now
        } else {
            Limit::Forever
        }
    }

    // ----- operations ----------------------------------------------------

    /// read(2).
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.opened.ahead.is_unused()
            && let Some(taken) = self.opened.ahead.take([&mut *buffer], false)
        {
            return taken;
        }
        self.read_past_ahead(buffer)
    }

    /// read(2) of a file whose bytes that were received ahead are all taken.
    fn read_past_ahead(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let _turn = self.turn();
        if self.is_performed(buffer.len()) {
            let length = buffer.len();
            return self.at_position(length, || self.perform_read(buffer, CURRENT_POSITION));
        }
        self.offload(Interest::Readable, |fd| unistd::read(fd, buffer))
    }

    /// pread(2).
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = self.checked(offset)?;
        if self.is_performed(buffer.len()) {
            return self.perform_read(buffer, offset as u64);
        }
        self.offload(Interest::Readable, |fd| uio::pread(fd, buffer, offset))
    }

    /// readv(2).
    pub(crate) fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let most = buffers.len().min(MOST_BUFFERS);
        let buffers = &mut buffers[..most];
        if !self.opened.ahead.is_unused() {
            let buffers = buffers.iter_mut().map(|buffer| &mut **buffer);
            if let Some(taken) = self.opened.ahead.take(buffers, false) {
                return taken;
            }
        }
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        let _turn = self.turn();
        if !self.is_performed(length) {
            return self.offload(Interest::Readable, |fd| uio::readv(fd, buffers));
        }
        let operation = Operation::ReadVectored {
            file: self.descriptor(),
            into: buffers.into(),
            position: CURRENT_POSITION,
        };
        self.at_position(length, || count(hub::perform(operation, self.limit())?))
    }

    /// write(2).
    pub(crate) fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        let _turn = self.turn();
        if self.is_performed(buffer.len()) {
            let perform = || self.perform_write(buffer, CURRENT_POSITION);
            return self.at_position(buffer.len(), perform);
        }
        self.offload(Interest::Writable, |fd| unistd::write(fd, buffer))
    }

    /// pwrite(2).
    pub(crate) fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let offset = self.checked(offset)?;
        if self.is_performed(buffer.len()) {
            return self.perform_write(buffer, offset as u64);
        }
        self.offload(Interest::Writable, |fd| uio::pwrite(fd, buffer, offset))
    }

    /// writev(2).
    pub(crate) fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let buffers = &buffers[..buffers.len().min(MOST_BUFFERS)];
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        let _turn = self.turn();
        if !self.is_performed(length) {
            return self.offload(Interest::Writable, |fd| uio::writev(fd, buffers));
        }
        let operation = Operation::WriteVectored {
            file: self.descriptor(),
            from: buffers.into(),
            position: CURRENT_POSITION,
        };
        let perform = || count(hub::perform(operation, self.limit())?);
        let mut written = self.at_position(length, perform)?;
        if written == 0 || !self.moves_all() {
            return Ok(written);
        }
        let mut begins_at = 0;
        for buffer in buffers {
            let ends_at = begins_at + buffer.len();
            if written < ends_at {
                written += self.perform_rest(&buffer[written - begins_at..]);
            }
            if written < ends_at {
                break;
            }
            begins_at = ends_at;
        }
        Ok(written)
    }

    /// Waits until the file is ready, as by poll(2).
    pub(crate) fn wait_for(&self, interest: Interest, limit: Limit) -> io::Result<bool> {
        let file = self.descriptor();
        match hub::perform(Operation::Poll { file, interest }, limit)? {
            Performed::TimedOut => Ok(false),
            performed => count(performed).map(|_| true),
        }
    }

    /// Performs what moves `length` bytes at the current position, and sees to
    /// the position.
    ///
    /// The ring does the rest of a short read or write in a second attempt. If
    /// that one fails, it tells how much the first one moved, but leaves the
    /// file's position where it was before (seen on Linux 6.18): the next write
    /// to a disk that has become full would go to the same place again.
    fn at_position(
        &self,
        length: usize,
        perform: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.opened.nature != Nature::Storage {
            return perform();
        }
        let start = unistd::lseek(&self.std, 0, Whence::SeekCur);
        let moved = perform()?;
        if let Ok(start) = start
            && (1..length).contains(&moved)
        {
            if self.opened.appends {
                unistd::lseek(&self.std, 0, Whence::SeekEnd)?;
            } else {
                unistd::lseek(&self.std, start + moved as i64, Whence::SeekSet)?;
            }
        }
        Ok(moved)
    }

    /// The turn at the position, for files that have one.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        (self.opened.nature == Nature::Storage).then(|| self.position())
    }

    /// Whether the backend has operations for this file that do not keep the hub
    /// busy with so many bytes; else the offload pool makes the call. Of no bytes
    /// at all the ring knows that they are none, but not that a directory cannot
    /// be read.
    fn is_performed(&self, length: usize) -> bool {
        match self.opened.nature {
            Nature::Storage if (1..=MOST_AT_ONCE).contains(&length) => hub::works_on_storage(),
            Nature::Memory => length <= MOST_AT_ONCE,
            Nature::Stream => true,
            Nature::Storage | Nature::Device => false,
        }
    }

    fn perform_read(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let operation = Operation::Read {
            file: self.descriptor(),
            into: buffer.into(),
            position,
        };
        count(hub::perform(operation, self.limit())?)
    }

    fn perform_write(&self, buffer: &[u8], position: u64) -> io::Result<usize> {
        let written = count(self.perform_write_once(buffer, position)?)?;
        if written == 0 || !self.moves_all() {
            return Ok(written);
        }
        Ok(written + self.perform_rest(&buffer[written..]))
    }

    fn perform_write_once(&self, buffer: &[u8], position: u64) -> io::Result<Performed> {
        let operation = Operation::Write {
            file: self.descriptor(),
            from: buffer.into(),
            position,
        };
        hub::perform(operation, self.limit())
    }

    /// Whether a write goes on until all is written. A pipe takes what it has
    /// room for at once; a file that takes less than all is full.
    fn moves_all(&self) -> bool {
        self.opened.nature != Nature::Storage && self.limit() == Limit::Forever
    }

    /// Writes what the first attempt has left, and says how much of it was
    /// written: what was written counts, and the next call tells the rest.
    fn perform_rest(&self, rest: &[u8]) -> usize {
        let mut written = 0;
        while written < rest.len() {
            match self.perform_write_once(&rest[written..], CURRENT_POSITION) {
                Ok(Performed::Completed { result, .. }) if result > 0 => written += result as usize,
                _ => break,
            }
        }
        written
    }

    /// An offset as the system calls take it, of a file that has offsets. The
    /// ring would take -1 for the current position, and look at no offset for a
    /// stream.
    fn checked(&self, offset: u64) -> io::Result<i64> {
        let offset =
            i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        if self.opened.nature != Nature::Storage {
            unistd::lseek(&self.std, 0, Whence::SeekCur)?;
        }
        Ok(offset)
    }

    /// Has an OS thread of the pool make the call, once a device is ready.
    fn offload(
        &self,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> nix::Result<usize> + Send,
    ) -> io::Result<usize> {
        if self.opened.nature == Nature::Device && hub::has_hub() {
            self.wait_for(interest, self.limit())?;
        }
        let fd = self.std.as_fd();
        let result = blocking::borrowed(Lane::Files, || {
            loop {
                match call(fd) {
                    Err(Errno::EINTR) => {}
                    result => return result,
                }
            }
        });
        Ok(result?)
    }
}

/// Of a file that is a stream by its nature.
impl<S: AsFd> Stream for File<S> {
    fn operation(&self) -> Option<Operation<'static>> {
        self.opened.is_pipe.then(|| Operation::ReadMany {
            file: self.descriptor(),
        })
    }

    fn begin(&self) -> io::Result<Limit> {
        Ok(self.limit())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_past_ahead(buffer)
    }

    fn ahead(&self) -> &Ahead {
        &self.opened.ahead
    }

    /// A pipe has no errors of its own that it would not tell again.
    fn defer(&self, _: i32) {}
}
