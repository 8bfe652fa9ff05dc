//! Moving bytes from one descriptor to another without a buffer in between:
//! splice(2) and copy_file_range(2), in steps of which none stops the hub.
//!
//! - A step that touches a file in storage waits for the disk, so the offload
//!   pool makes it, and it takes its turn at the file's position.
//! - A step between a pipe and a pipe or a socket is tried on the hub's OS thread;
//!   when it would block, readiness is waited for, within the limits that a
//!   socket has.
//! - splice(2) needs a pipe at one end. Where there is none, one of ours stands
//!   between, and is filled and emptied in turns.
//!
//! splice(2) does not block in a socket only if that is in non-blocking mode:
//! there is no flag for one call. So a step sets O_NONBLOCK and takes it back
//! before anybody else on this hub can run, as a connect does.
//!
//! What cannot be done this way is told, and the caller goes on by reads and
//! writes with no byte lost.

#![allow(unsafe_code)] // Asks what becomes of a signal.

use std::cell::Cell;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::PoisonError;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, copy_file_range, fcntl, splice};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Whence, lseek};

use super::ahead::Ahead;
use super::socket::Borrowers;
use super::{Direction, File, Interest, Limit, Socket, count};
use crate::backend::{Descriptor, Operation};
use crate::blocking::{self, Lane};
use crate::cancel;
use crate::hub;
use crate::sync::{Mutex, MutexGuard};

/// Bytes that our pipe holds once it has proved too small: what anybody may ask
/// for, pipe(7).
const PIPE_BYTES: usize = 1 << 20;

/// Bytes of one step on the hub's OS thread, which keeps it from everybody else:
/// some 50 us.
const STEP_BYTES: usize = 256 << 10;

/// Bytes of one step from file to file: some milliseconds, after which an
/// interrupt is looked for.
const RANGE_BYTES: usize = 16 << 20;

/// Steps in a row that would have blocked although both ends were ready: a
/// driver that does not know what it says.
const MOST_FRUITLESS: u32 = 8;

/// What bytes are moved from or to.
pub(crate) trait End {
    fn fd(&self) -> BorrowedFd<'_>;

    fn descriptor(&self) -> Descriptor;

    /// How long it may be waited for.
    fn limit(&self, interest: Interest) -> Limit;

    /// The turns at its position, if it has one.
    fn turns(&self) -> Option<&Mutex<()>>;

    /// What a reader has left, which comes before all that the kernel has.
    fn ahead(&self) -> &Ahead;

    /// Who works in non-blocking mode on it, if that has to be a mode of the
    /// open file.
    fn borrowers(&self) -> Option<&Borrowers>;

    /// write(2), parking.
    fn write(&self, buffer: &[u8]) -> io::Result<usize>;
}

impl<S: AsFd> End for Socket<S> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.std().as_fd()
    }

    fn descriptor(&self) -> Descriptor {
        Socket::descriptor(self)
    }

    fn limit(&self, interest: Interest) -> Limit {
        Socket::limit(
            self,
            match interest {
                Interest::Readable => Direction::Read,
                Interest::Writable => Direction::Write,
            },
        )
    }

    fn turns(&self) -> Option<&Mutex<()>> {
        None
    }

    fn borrowers(&self) -> Option<&Borrowers> {
        Some(Socket::borrowers(self))
    }

    fn ahead(&self) -> &Ahead {
        Socket::ahead(self)
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        self.send(buffer)
    }
}

impl<S: AsFd> End for File<S> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.std().as_fd()
    }

    fn descriptor(&self) -> Descriptor {
        File::descriptor(self)
    }

    fn limit(&self, _: Interest) -> Limit {
        File::limit(self)
    }

    fn turns(&self) -> Option<&Mutex<()>> {
        File::turns(self)
    }

    fn ahead(&self) -> &Ahead {
        File::ahead(self)
    }

    fn borrowers(&self) -> Option<&Borrowers> {
        None
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        File::write(self, buffer)
    }
}

/// What has been moved; right also when a copy is interrupted.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    taken: Cell<u64>,
    given: Cell<u64>,
}

impl Moved {
    /// Bytes taken from the source for good.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Bytes given to the target. Less than were taken only after an error or an
    /// interrupt: the rest is lost, as the buffer of a copy by reads and writes
    /// is.
    pub(crate) fn given(&self) -> u64 {
        self.given.get()
    }

    fn take(&self, bytes: usize) {
        self.taken.set(self.taken.get() + bytes as u64);
    }

    fn put_back(&self, bytes: usize) {
        self.taken.set(self.taken.get() - bytes as u64);
    }

    fn give(&self, bytes: usize) {
        self.given.set(self.given.get() + bytes as u64);
    }
}

/// Moves bytes until the source ends or `most` are moved: true. False if the
/// rest has to be moved by reads and writes; then nothing is on the way.
///
/// # Errors
///
/// Those of reading, writing and waiting.
pub(crate) fn copy(from: &dyn End, to: &dyn End, most: u64, moved: &Moved) -> io::Result<bool> {
    let (source, target) = (
        Side::of(from, Interest::Readable),
        Side::of(to, Interest::Writable),
    );
    // What was read ahead, and who must not wait, get exactly what reads and
    // writes give.
    if !from.ahead().is_unused() {
        return Ok(false);
    }
    if from.limit(Interest::Readable) == Limit::Now || to.limit(Interest::Writable) == Limit::Now {
        return Ok(false);
    }
    match (source.kind, target.kind) {
        (Kind::Other, _) | (_, Kind::Other) => Ok(false),
        (_, Kind::Socket) if !ignores_sigpipe() => Ok(false),
        // Not all file systems know ranges, least of all of each other.
        (Kind::Storage, Kind::Storage) => Ok(by_ranges(&source, &target, most, moved)?
            || through_a_pipe(&source, &target, to, most, moved)?),
        (Kind::Pipe, _) | (_, Kind::Pipe) => directly(&source, &target, most, moved),
        _ => through_a_pipe(&source, &target, to, most, moved),
    }
}

/// Whether a write to a socket that nobody reads from gives an error without a
/// signal first, as every Rust program has it from its start. splice(2) knows no
/// MSG_NOSIGNAL.
fn ignores_sigpipe() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: it asks only, and the kernel fills in the structure.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zero is a sigaction, too.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

// ----- one end --------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A regular file or a block device.
    Storage,
    /// A pipe or FIFO.
    Pipe,
    Socket,
    /// What cannot be spliced.
    Other,
}

/// An end in its role.
#[derive(Clone, Copy)]
struct Side<'a> {
    fd: BorrowedFd<'a>,
    kind: Kind,
    /// What is waited for; nothing where it is always ready.
    poll: Option<(Descriptor, Interest, Limit)>,
    turns: Option<&'a Mutex<()>>,
    borrowers: Option<&'a Borrowers>,
}

impl<'a> Side<'a> {
    fn of(end: &'a dyn End, interest: Interest) -> Side<'a> {
        let fd = end.fd();
        let mode = fstat(fd).map_or(0, |stat| stat.st_mode);
        let kind = match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFBLK => Kind::Storage,
            SFlag::S_IFIFO => Kind::Pipe,
            SFlag::S_IFSOCK => Kind::Socket,
            _ => Kind::Other,
        };
        // splice(2) does not append.
        let appends = interest == Interest::Writable
            && kind == Kind::Storage
            && flags(fd).is_ok_and(|flags| flags.contains(OFlag::O_APPEND));
        Side {
            fd,
            kind: if appends { Kind::Other } else { kind },
            poll: (kind != Kind::Storage)
                .then(|| (end.descriptor(), interest, end.limit(interest))),
            turns: end.turns(),
            borrowers: end.borrowers(),
        }
    }

    /// An end of a pipe of ours, which is used when it is ready only.
    fn own(fd: BorrowedFd<'a>) -> Side<'a> {
        Side {
            fd,
            kind: Kind::Pipe,
            poll: None,
            turns: None,
            borrowers: None,
        }
    }

    fn is_ready(&self) -> io::Result<bool> {
        let Some((file, interest, _)) = self.poll else {
            return Ok(true);
        };
        match count(hub::perform(
            Operation::Poll { file, interest },
            Limit::Now,
        )?) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            events => events.map(|_| true),
        }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if its limit ran out first.
    fn wait(&self) -> io::Result<()> {
        let Some((file, interest, limit)) = self.poll else {
            return Ok(());
        };
        count(hub::perform(Operation::Poll { file, interest }, limit)?).map(drop)
    }
}

fn flags(fd: BorrowedFd<'_>) -> nix::Result<OFlag> {
    Ok(OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?))
}

/// Keeps a socket in non-blocking mode for one system call.
struct NonBlocking<'a> {
    fd: BorrowedFd<'a>,
    borrowers: Option<&'a Borrowers>,
}

impl<'a> NonBlocking<'a> {
    fn begin(side: &Side<'a>) -> io::Result<NonBlocking<'a>> {
        let Side { fd, borrowers, .. } = *side;
        if let Some(borrowers) = borrowers {
            borrowers.enter(fd)?;
        }
        Ok(NonBlocking { fd, borrowers })
    }
}

impl Drop for NonBlocking<'_> {
    fn drop(&mut self) {
        if let Some(borrowers) = self.borrowers {
            borrowers.leave(self.fd);
        }
    }
}

/// The turns at both positions, in an order that all take them in; one, if it
/// is the same.
fn turns<'a>(one: &Side<'a>, other: &Side<'a>) -> [Option<MutexGuard<'a, ()>>; 2] {
    let lock = |turns: &'a Mutex<()>| turns.lock().unwrap_or_else(PoisonError::into_inner);
    match (one.turns, other.turns) {
        (Some(one), Some(other)) if ptr::eq(one, other) => [Some(lock(one)), None],
        (Some(one), Some(other)) if ptr::from_ref(one) > ptr::from_ref(other) => {
            let (second, first) = (lock(other), lock(one));
            [Some(first), Some(second)]
        }
        (one, other) => [one.map(lock), other.map(lock)],
    }
}

// ----- steps ----------------------------------------------------------------

/// How a step went.
enum Step {
    /// So many bytes were moved.
    Moved(usize),
    /// The source has ended.
    End,
    /// It would have blocked.
    NotYet,
    /// It cannot be done like this.
    Unsupported,
}

impl Step {
    fn of(result: nix::Result<usize>) -> io::Result<Step> {
        match result {
            Ok(0) => Ok(Step::End),
            Ok(moved) => Ok(Step::Moved(moved)),
            Err(Errno::EAGAIN) => Ok(Step::NotYet),
            // Reads and writes tell what is really wrong, if anything is.
            Err(
                Errno::EINVAL
                | Errno::ENOSYS
                | Errno::EPERM
                | Errno::EOPNOTSUPP
                | Errno::EXDEV
                | Errno::EOVERFLOW
                | Errno::ETXTBSY
                | Errno::EISDIR
                | Errno::EBADF,
            ) => Ok(Step::Unsupported),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Makes `call` until no signal interrupts it.
fn retried(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// One splice(2) of at most `length` bytes.
fn step(from: &Side<'_>, to: &Side<'_>, length: usize) -> io::Result<Step> {
    cancel::check();
    let call = |length| {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        retried(|| splice(from.fd, None, to.fd, None, length, flags))
    };
    if from.kind == Kind::Storage || to.kind == Kind::Storage {
        let _turns = turns(from, to);
        return Step::of(blocking::borrowed(Lane::Files, || call(length)));
    }
    let result = {
        let _modes = [NonBlocking::begin(from)?, NonBlocking::begin(to)?];
        call(length.min(STEP_BYTES))
    };
    // It may go on for long without ever having to wait. An interrupt is for
    // the next step: what this one has moved counts.
    hub::yield_now();
    Step::of(result)
}

/// Steps until one moves something; `Unsupported` also if the ends keep saying
/// that they are ready and are not.
fn step_when_ready(from: &Side<'_>, to: &Side<'_>, length: usize) -> io::Result<Step> {
    for _ in 0..MOST_FRUITLESS {
        match step(from, to, length)? {
            Step::NotYet => {}
            step => return Ok(step),
        }
        if !from.is_ready()? {
            from.wait()?;
        } else if !to.is_ready()? {
            to.wait()?;
        }
    }
    Ok(Step::Unsupported)
}

/// What may be moved by one step.
fn at_most(left: u64, step: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(step)
}

// ----- whole copies ---------------------------------------------------------

/// Between ends of which one is a pipe.
fn directly(from: &Side<'_>, to: &Side<'_>, most: u64, moved: &Moved) -> io::Result<bool> {
    while moved.given() < most {
        match step_when_ready(from, to, at_most(most - moved.given(), PIPE_BYTES))? {
            Step::Moved(bytes) => {
                moved.take(bytes);
                moved.give(bytes);
            }
            Step::End => return Ok(is_end(from, moved)),
            Step::NotYet | Step::Unsupported => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether "no more bytes" is to be believed: files of the kernel's own make
/// have no size, and only a read tells whether they are empty.
fn is_end(from: &Side<'_>, moved: &Moved) -> bool {
    from.kind != Kind::Storage || moved.taken() > 0
}

/// From file to file.
fn by_ranges(from: &Side<'_>, to: &Side<'_>, most: u64, moved: &Moved) -> io::Result<bool> {
    while moved.given() < most {
        let length = at_most(most - moved.given(), RANGE_BYTES);
        let result = {
            let _turns = turns(from, to);
            blocking::borrowed(Lane::Files, || {
                retried(|| copy_file_range(from.fd, None, to.fd, None, length))
            })
        };
        match Step::of(result)? {
            Step::Moved(bytes) => {
                moved.take(bytes);
                moved.give(bytes);
            }
            Step::End => return Ok(is_end(from, moved)),
            Step::NotYet | Step::Unsupported => return Ok(false),
        }
    }
    Ok(true)
}

/// A pipe of ours that bytes pass through.
struct Passage<'a> {
    reader: PipeReader,
    writer: PipeWriter,
    /// Bytes in it.
    filled: usize,
    from: Side<'a>,
    moved: &'a Moved,
}

impl Passage<'_> {
    /// Takes all bytes out by reading them, and writes them to `to`.
    fn spill(&mut self, to: &dyn End) -> io::Result<()> {
        let mut buffer = vec![0; self.filled.min(64 * 1024)];
        while self.filled > 0 {
            // It holds bytes, so this does not wait.
            let read = self.reader.read(&mut buffer)?;
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                match to.write(rest)? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    written => {
                        rest = &rest[written..];
                        self.filled -= written;
                        self.moved.give(written);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What was not given is put back, where that can be: it was read from a file.
impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.filled > 0 && self.from.kind == Kind::Storage {
            let back = -(self.filled as i64);
            if lseek(self.from.fd, back, Whence::SeekCur).is_ok() {
                self.moved.put_back(self.filled);
            }
        }
    }
}

/// Between ends of which none is a pipe.
fn through_a_pipe(
    from: &Side<'_>,
    to: &Side<'_>,
    target: &dyn End,
    most: u64,
    moved: &Moved,
) -> io::Result<bool> {
    // Descriptors that run out are no reason to fail.
    let Ok((reader, writer)) = io::pipe() else {
        return Ok(false);
    };
    let mut capacity = 64 * 1024;
    let mut passage = Passage {
        reader,
        writer,
        filled: 0,
        from: *from,
        moved,
    };
    while passage.moved.given() < most {
        let inlet = Side::own(passage.writer.as_fd());
        let length = at_most(most - passage.moved.given(), capacity);
        match step_when_ready(from, &inlet, length)? {
            Step::Moved(bytes) => {
                passage.filled = bytes;
                passage.moved.take(bytes);
            }
            Step::End => return Ok(is_end(from, passage.moved)),
            Step::NotYet | Step::Unsupported => return Ok(false),
        }
        let is_full = passage.filled == capacity;
        while passage.filled > 0 {
            let outlet = Side::own(passage.reader.as_fd());
            match step_when_ready(&outlet, to, passage.filled)? {
                Step::Moved(bytes) => {
                    passage.filled -= bytes;
                    passage.moved.give(bytes);
                }
                Step::End | Step::NotYet | Step::Unsupported => {
                    passage.spill(target)?;
                    return Ok(false);
                }
            }
        }
        if is_full && capacity < PIPE_BYTES {
            let size = FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32);
            // There are only so many large ones; then counts are short.
            capacity = fcntl(&passage.writer, size).map_or(PIPE_BYTES, |size| size as usize);
        }
    }
    Ok(true)
}
