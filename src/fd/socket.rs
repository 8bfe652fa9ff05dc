//! A socket that green threads work with: each method is one operation.
//!
//! [`Socket`] wraps std's own type of the socket and so owns what std owns. What
//! never waits (options, addresses, `shutdown`) is std's business, reached by
//! [`Socket::std`]; what may wait is built here as an [`Operation`] and performed.
//!
//! The modes that std keeps in the kernel and io_uring does not look at are
//! kept beside the descriptor: time limits (`SO_RCVTIMEO`, `SO_SNDTIMEO`) and
//! non-blocking mode. They belong to the open socket, so duplicates share them;
//! they are read from the kernel once, when a socket comes from outside, and
//! written through to it. A `setsockopt` made on the raw descriptor later is
//! not seen.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::ahead::Ahead;
use super::reader::Stream;
use super::{Direction, Interest, count, new_identity};
use crate::atomic::lock;
use crate::backend::{self, Descriptor, Message, Operation, SocketName};
use crate::cancel;
use crate::hub::{self, Limit, Performed, Wait, Why};

/// An owned descriptor in the shape of std's type `S`.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    descriptor: Descriptor,
    /// The last receive or accept left the socket empty, so the next one waits
    /// before it tries.
    empty: AtomicBool,
    /// None while they are std's initial ones and nobody shares them: then an
    /// operation looks at nothing but the socket itself.
    modes: OnceLock<Arc<Modes>>,
    std: S,
}

/// What all duplicates of one open socket share.
#[derive(Debug, Default)]
struct Modes {
    /// Limits of one read and one write, in nanoseconds; 0 is none.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
    nonblocking: AtomicBool,
    /// The errno that ended a write which had sent something, for whoever asks
    /// next; 0 is none. The kernel has told it and forgotten it.
    deferred: AtomicI32,
    /// What a reader has received and not consumed.
    ahead: Ahead,
    borrowers: Borrowers,
}

/// How many system calls are being made, by any hub, that need the open socket in
/// non-blocking mode, and the flags to go back to after the last.
///
/// splice(2) alone needs that: it knows no such flag for one call.
#[derive(Debug)]
pub(crate) struct Borrowers(Mutex<(u32, OFlag)>);

impl Default for Borrowers {
    fn default() -> Self {
        Borrowers(Mutex::new((0, OFlag::empty())))
    }
}

impl Borrowers {
    pub(super) fn enter(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut borrowers = lock(&self.0);
        if borrowers.0 == 0 {
            borrowers.1 = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
            fcntl(fd, FcntlArg::F_SETFL(borrowers.1 | OFlag::O_NONBLOCK))?;
        }
        borrowers.0 += 1;
        Ok(())
    }

    pub(super) fn leave(&self, fd: BorrowedFd<'_>) {
        let mut borrowers = lock(&self.0);
        borrowers.0 -= 1;
        if borrowers.0 == 0 {
            // They have been changed before, so they can be changed.
            let _ = fcntl(fd, FcntlArg::F_SETFL(borrowers.1));
        }
    }
}

impl Modes {
    fn timeout(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Read => &self.read_timeout,
            Direction::Write => &self.write_timeout,
        }
    }

    fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    fn limit(&self, direction: Direction) -> Limit {
        if self.is_nonblocking() {
            return Limit::Now;
        }
        match self.timeout(direction).load(Ordering::Relaxed) {
            0 => Limit::Forever,
            nanoseconds => Limit::Timeout(Duration::from_nanos(nanoseconds)),
        }
    }

    fn take_deferred(&self) -> Option<io::Error> {
        if self.deferred.load(Ordering::Relaxed) == 0 {
            return None;
        }
        match self.deferred.swap(0, Ordering::Relaxed) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl<S: AsFd> Socket<S> {
    /// Takes over a socket that has std's initial modes: blocking, no limits.
    pub(crate) fn fresh(std: S) -> Socket<S> {
        Socket::with_modes(std, OnceLock::new())
    }

    /// Takes over a socket that was made elsewhere, with the modes that it has
    /// in the kernel.
    ///
    /// A mode that cannot be read (the descriptor is not open or is no socket)
    /// is taken to be std's initial one: a conversion cannot fail, and the first
    /// operation reports what is wrong.
    pub(crate) fn foreign(std: S) -> Socket<S> {
        let socket = Socket::fresh(std);
        let duration = |timeout: TimeVal| {
            Duration::from_secs(timeout.tv_sec().unsigned_abs())
                + Duration::from_micros(timeout.tv_usec().unsigned_abs())
        };
        if let Ok(timeout) = getsockopt(&socket.std, sockopt::ReceiveTimeout) {
            socket.note_timeout(Direction::Read, Some(duration(timeout)));
        }
        if let Ok(timeout) = getsockopt(&socket.std, sockopt::SendTimeout) {
            socket.note_timeout(Direction::Write, Some(duration(timeout)));
        }
        if let Ok(flags) = fcntl(&socket.std, FcntlArg::F_GETFL) {
            socket.note_nonblocking(flags & libc::O_NONBLOCK != 0);
        }
        socket
    }

    /// A duplicate of `original`, made by dup(2): the same open socket.
    pub(crate) fn duplicate<T: AsFd>(original: &Socket<T>, std: S) -> Socket<S> {
        Socket::with_modes(std, Arc::clone(original.share_modes()).into())
    }

    fn with_modes(std: S, modes: OnceLock<Arc<Modes>>) -> Socket<S> {
        Socket {
            descriptor: Descriptor {
                fd: std.as_fd().as_raw_fd(),
                id: new_identity(),
            },
            empty: AtomicBool::new(false),
            modes,
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

    /// As [`into_std`](Self::into_std), for a listener: gives the kernel the mode
    /// that the user has asked for, which an accept by epoll has changed.
    pub(crate) fn listener_into_std(self) -> S {
        let nonblocking = self.is_nonblocking();
        // Clones that stay here share the flag and need it.
        let modes = self.modes.into_inner();
        if modes.is_none_or(|modes| Arc::into_inner(modes).is_some())
            && let Ok(flags) = fcntl(&self.std, FcntlArg::F_GETFL)
        {
            let mut flags = OFlag::from_bits_retain(flags);
            flags.set(OFlag::O_NONBLOCK, nonblocking);
            // It fails on no open descriptor, and a conversion has no error to
            // return it in.
            let _ = fcntl(&self.std, FcntlArg::F_SETFL(flags));
        }
        self.std
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        self.descriptor
    }

    // ----- modes ---------------------------------------------------------

    pub(crate) fn timeout(&self, direction: Direction) -> Option<Duration> {
        match self.modes()?.timeout(direction).load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// Notes the limit that the kernel has for the socket.
    pub(crate) fn note_timeout(&self, direction: Direction, timeout: Option<Duration>) {
        let nanoseconds = timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
        });
        if nanoseconds != 0 || self.modes().is_some() {
            self.share_modes()
                .timeout(direction)
                .store(nanoseconds, Ordering::Relaxed);
        }
    }

    #[inline]
    fn modes(&self) -> Option<&Modes> {
        self.modes.get().map(|modes| &**modes)
    }

    /// The modes, in a place of their own from now on.
    fn share_modes(&self) -> &Arc<Modes> {
        self.modes.get_or_init(Arc::default)
    }

    pub(super) fn ahead(&self) -> &Ahead {
        &self.share_modes().ahead
    }

    /// Takes bytes that a reader has left, before anything is received.
    #[inline]
    pub(crate) fn take_ahead(&self, buffer: &mut [u8], flags: i32) -> Option<io::Result<usize>> {
        let ahead = self.modes().map(|modes| &modes.ahead)?;
        if ahead.is_unused() {
            return None;
        }
        let peek = flags & libc::MSG_PEEK != 0;
        ahead.take([buffer], peek)
    }

    pub(super) fn borrowers(&self) -> &Borrowers {
        &self.share_modes().borrowers
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.modes().is_some_and(Modes::is_nonblocking)
    }

    /// Notes the mode that the user has asked for.
    pub(crate) fn note_nonblocking(&self, nonblocking: bool) {
        if nonblocking || self.modes().is_some() {
            let modes = self.share_modes();
            modes.nonblocking.store(nonblocking, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn limit(&self, direction: Direction) -> Limit {
        self.modes()
            .map_or(Limit::Forever, |modes| modes.limit(direction))
    }

    /// Before a read or a write of a stream: how long it may take.
    ///
    /// # Errors
    ///
    /// The one that an earlier write has come across.
    #[inline]
    fn begin_limited(&self, direction: Direction) -> io::Result<Limit> {
        let Some(modes) = self.modes() else {
            return Ok(Limit::Forever);
        };
        match modes.take_deferred() {
            None => Ok(modes.limit(direction)),
            Some(error) => Err(error),
        }
    }

    // ----- operations ----------------------------------------------------

    /// recv(2) of a stream. An empty buffer waits for data too, and its time
    /// limit is not an error, as of std's TCP streams.
    #[inline]
    pub(crate) fn recv(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        let is_empty = buffer.is_empty();
        let received = self.recv_plain(buffer, flags);
        match received {
            Err(error) if is_empty && error.kind() == io::ErrorKind::WouldBlock => {
                if self.is_nonblocking() {
                    Err(error)
                } else {
                    Ok(0)
                }
            }
            received => received,
        }
    }

    /// recv(2) of a stream, to which an empty buffer is nothing special.
    #[inline(never)]
    pub(crate) fn recv_plain(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        if let Some(taken) = self.take_ahead(buffer, flags) {
            return taken;
        }
        self.recv_past_ahead(buffer, flags)
    }

    /// recv(2) of a stream whose bytes that were received ahead are all taken.
    #[inline(always)]
    fn recv_past_ahead(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        let limit = self.begin_limited(Direction::Read)?;
        let operation = Operation::Recv {
            socket: self.descriptor(),
            into: buffer.into(),
            flags,
            poll_first: self.empty.load(Ordering::Relaxed),
        };
        let performed = hub::perform_here(operation, limit)?;
        self.take_received(performed)
    }

    /// recv(2) of a datagram, to which an empty buffer is nothing special.
    ///
    /// It is always tried first: the kernel does not tell whether further
    /// datagrams are queued.
    #[inline]
    pub(crate) fn recv_datagram(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        self.receive(Operation::Recv {
            socket: self.descriptor(),
            into: buffer.into(),
            flags,
            poll_first: false,
        })
    }

    /// recvmsg(2). Only a datagram comes with an address, and is tried first.
    pub(crate) fn recv_message(&self, message: &mut Message<'_>, flags: i32) -> io::Result<usize> {
        let is_datagram = message.name_length() > 0;
        self.receive(Operation::RecvMessage {
            socket: self.descriptor(),
            message: message.into(),
            flags,
            poll_first: !is_datagram && self.empty.load(Ordering::Relaxed),
        })
    }

    /// sendmsg(2), without SIGPIPE and once: a stream may take a part only.
    pub(crate) fn send_message(&self, message: &mut Message<'_>) -> io::Result<usize> {
        let limit = self.begin_limited(Direction::Write)?;
        self.send_message_once(message, limit)
    }

    fn send_message_once(&self, message: &mut Message<'_>, limit: Limit) -> io::Result<usize> {
        let operation = Operation::SendMessage {
            socket: self.descriptor(),
            message: message.into(),
            flags: libc::MSG_NOSIGNAL,
        };
        count(hub::perform(operation, limit)?)
    }

    /// sendmsg(2) of a datagram that the ring would not send as a whole, without
    /// SIGPIPE. `is_announced`: readiness tells of room for it.
    ///
    /// It is tried here: where there is no room Linux may have taken bytes off the
    /// message before it says so, and the ring, which tries again with the same
    /// message, sends the rest. So it is over Unix sockets, whose receiver's queue
    /// is looked at last, and over UDP with what takes several packets.
    pub(crate) fn send_datagram(
        &self,
        message: &mut Message<'_>,
        is_announced: bool,
    ) -> io::Result<usize> {
        /// Pauses between two tries where no readiness tells of room.
        const PAUSE: Duration = Duration::from_millis(1);
        let limit = self.begin_limited(Direction::Write)?;
        let deadline = match limit {
            // One that the clock cannot express is never reached.
            Limit::Timeout(timeout) => Instant::now().checked_add(timeout),
            Limit::Forever | Limit::Now | Limit::Once => None,
        };
        let attempt = if limit == Limit::Now {
            limit
        } else {
            Limit::Once
        };
        loop {
            let error = match self.send_message_once(message, attempt) {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            let now = Instant::now();
            let has_passed = deadline.is_some_and(|deadline| deadline <= now);
            if error.raw_os_error() != Some(libc::EAGAIN) || limit == Limit::Now || has_passed {
                return Err(error);
            }
            if !is_announced {
                let next = now + PAUSE;
                let next = deadline.map_or(next, |deadline| deadline.min(next));
                // Nobody has an unparker for this wait.
                cancel::park(Wait::begin(), Why::Sleep, 0, Some(next));
            } else {
                let room = Operation::Poll {
                    file: self.descriptor(),
                    interest: Interest::Writable,
                };
                let limit = deadline.map_or(Limit::Forever, |deadline| {
                    Limit::Timeout(deadline.saturating_duration_since(now))
                });
                count(hub::perform(room, limit)?)?;
            }
        }
    }

    /// send(2) of the whole buffer, without SIGPIPE.
    ///
    /// A blocking send returns when all is queued; less only if its time limit
    /// ran out, or an error or an interrupt came in between, which the next
    /// operation then tells, as after send(2).
    #[inline]
    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let limit = self.begin_limited(Direction::Write)?;
        let begin = self.begin(limit);
        let sent = self.send_once(buffer, limit)?;
        if sent < buffer.len() && limit != Limit::Now {
            return Ok(sent + self.send_rest(&buffer[sent..], begin));
        }
        Ok(sent)
    }

    /// As `Write::write_all`, in one frame.
    #[inline(never)]
    pub(crate) fn send_all(&self, mut buffer: &[u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.send(buffer) {
                Ok(0) => {
                    let text = "failed to write whole buffer";
                    return Err(io::Error::new(io::ErrorKind::WriteZero, text));
                }
                Ok(sent) => buffer = &buffer[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// When an operation begins, if its limit asks for that.
    #[inline]
    fn begin(&self, limit: Limit) -> Option<Instant> {
        matches!(limit, Limit::Timeout(_)).then(Instant::now)
    }

    #[inline(always)]
    fn send_once(&self, buffer: &[u8], limit: Limit) -> io::Result<usize> {
        count(self.send_part(buffer, limit)?)
    }

    #[inline(always)]
    fn send_part(&self, buffer: &[u8], limit: Limit) -> io::Result<Performed> {
        let operation = Operation::Send {
            socket: self.descriptor(),
            from: buffer.into(),
            // Without MSG_WAITALL, by which the ring goes on by itself but
            // swallows the error that ends it.
            flags: libc::MSG_NOSIGNAL,
        };
        hub::perform_here(operation, limit)
    }

    /// Takes the error that an earlier write has come across.
    pub(crate) fn take_deferred(&self) -> Option<io::Error> {
        self.modes()?.take_deferred()
    }

    /// Sends what an attempt has left of a write that began at `begin`, and
    /// says how much of it was sent.
    #[cold]
    fn send_rest(&self, mut rest: &[u8], begin: Option<Instant>) -> usize {
        let length = rest.len();
        let deadline = begin
            .zip(self.timeout(Direction::Write))
            .and_then(|(begin, timeout)| begin.checked_add(timeout));
        while !rest.is_empty() {
            let limit = deadline.map_or(Limit::Forever, |deadline| {
                Limit::Timeout(deadline.saturating_duration_since(Instant::now()))
            });
            // An interrupt is left to the next call: what was sent counts.
            match self.send_part(rest, limit) {
                Ok(Performed::Completed { result, .. }) if result > 0 => {
                    rest = &rest[result as usize..];
                }
                Ok(Performed::Completed { result, .. }) => {
                    // A time limit is over with this call, and a closed pipe
                    // tells itself again.
                    if !matches!(-result, 0 | libc::EAGAIN | libc::EPIPE) {
                        self.defer(-result);
                    }
                    break;
                }
                Ok(Performed::TimedOut | Performed::Interrupted) | Err(_) => break,
            }
        }
        length - rest.len()
    }

    /// recvmsg(2) into several buffers; with no room in them it does not wait,
    /// as readv(2).
    pub(crate) fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        if let Some(ahead) = self.modes().map(|modes| &modes.ahead)
            && !ahead.is_unused()
        {
            let buffers = buffers.iter_mut().map(|buffer| &mut **buffer);
            if let Some(taken) = ahead.take(buffers, false) {
                return taken;
            }
        }
        self.recv_message(&mut Message::new(buffers), 0)
    }

    /// sendmsg(2) from several buffers, without SIGPIPE; as [`Socket::send`], and
    /// with nothing to send it does nothing, as writev(2).
    pub(crate) fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        // More than the kernel takes at once is a short count, as of writev(2).
        let buffers = &buffers[..buffers.len().min(libc::UIO_MAXIOV as usize)];
        let limit = self.begin_limited(Direction::Write)?;
        let begin = self.begin(limit);
        let mut sent = self.send_message_once(&mut Message::new(buffers), limit)?;
        if limit == Limit::Now {
            return Ok(sent);
        }
        let mut begins_at = 0;
        for buffer in buffers {
            let ends_at = begins_at + buffer.len();
            if sent < ends_at {
                sent += self.send_rest(&buffer[sent - begins_at..], begin);
            }
            if sent < ends_at {
                break;
            }
            begins_at = ends_at;
        }
        Ok(sent)
    }

    /// accept4(2) with SOCK_CLOEXEC. `tells_rest` says that the kernel tells of such
    /// sockets whether others wait to be accepted.
    pub(crate) fn accept(&self, tells_rest: bool) -> io::Result<(OwnedFd, SocketName)> {
        let mut peer = SocketName::empty();
        let operation = Operation::Accept {
            socket: self.descriptor(),
            peer: (&mut peer).into(),
            poll_first: self.empty.load(Ordering::Relaxed),
        };
        let performed = hub::perform(operation, self.limit(Direction::Read))?;
        let accepted = match tells_rest {
            true => self.take_received(performed),
            false => count(performed),
        };
        let accepted = backend::own(accepted? as i32);
        Ok((accepted, peer))
    }

    /// connect(2), at most for `timeout`; `Ok(false)` when that ran out.
    pub(crate) fn connect(
        &self,
        address: &SocketName,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let operation = Operation::Connect {
            socket: self.descriptor(),
            address,
        };
        let limit = timeout.map_or(Limit::Forever, Limit::Timeout);
        match hub::perform(operation, limit)? {
            Performed::TimedOut => Ok(false),
            performed => count(performed).map(|_| true),
        }
    }

    fn receive(&self, operation: Operation<'_>) -> io::Result<usize> {
        let limit = self.begin_limited(Direction::Read)?;
        let performed = hub::perform(operation, limit)?;
        self.take_received(performed)
    }

    #[inline]
    fn take_received(&self, performed: Performed) -> io::Result<usize> {
        if let Performed::Completed { nonempty, .. } = performed {
            self.empty.store(!nonempty, Ordering::Relaxed);
        }
        count(performed)
    }
}

impl<S: AsFd> Stream for Socket<S> {
    fn operation(&self) -> Option<Operation<'static>> {
        Some(Operation::RecvMany {
            socket: self.descriptor(),
        })
    }

    #[inline]
    fn begin(&self) -> io::Result<Limit> {
        self.begin_limited(Direction::Read)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv_past_ahead(buffer, 0)
    }

    fn ahead(&self) -> &Ahead {
        Socket::ahead(self)
    }

    fn defer(&self, errno: i32) {
        let modes = self.share_modes();
        modes.deferred.store(errno, Ordering::Relaxed);
    }
}
