//! The epoll backend: each system call is tried first, and tried again when an
//! edge says that the descriptor has changed.
//!
//! A descriptor is registered once, for both directions and edge-triggered, so
//! that an operation costs no epoll_ctl(2). An operation that would block
//! becomes a waiter at the end of its direction's list; an event tries the
//! waiters of its direction in that order until one would still block.
//!
//! # Why no readiness is lost
//!
//! Whenever a list holds a waiter, an event is still to come for any readiness
//! that its first waiter has not seen:
//!
//! 1. The attempt fails, then the descriptor is registered: EPOLL_CTL_ADD and
//!    EPOLL_CTL_MOD look at the state and queue an event if it is ready.
//! 2. It was registered before: readiness that came before the attempt would
//!    have let it succeed, and what comes after it makes an edge. An event
//!    that `wait` threw away because nobody waited belongs to the former kind.
//! 3. An event that is still queued in the kernel when the waiter is listed
//!    tries it once more, at worst for nothing.
//! 4. An event stops at the first waiter that would block, which is a new
//!    failed attempt as in 2. Waiters behind it want the same of the same
//!    descriptor; for the same reason a new operation does not overtake those
//!    that wait already.
//!
//! Operations that no readiness announces (`syscall::is_announced`) stand in a
//! list of their own, which is tried again from time to time.
//!
//! # Descriptors come and go without a word
//!
//! A closed file leaves the set by itself, but a duplicate keeps its
//! registration under the number that was closed. Identities tell these cases
//! apart: an event carries the identity that it was registered with and is
//! ignored when the number has another one by now, and an operation with a new
//! identity registers anew. If that succeeds the number means another file:
//! operations that still wait for the old one stay pending until they are
//! cancelled, as a blocking read stays with a file that was closed under it.
//! If the kernel says EEXIST the file is an earlier one under the same number:
//! whoever waits there goes on waiting. What is not ours (`Descriptor::FOREIGN`)
//! comes and goes without any word: it is registered anew for each wait, and
//! forgotten when nobody waits for it any more. A file that is put in another's place
//! with dup2(2), its identity unchanged, is beyond what can be noticed.

#![allow(unsafe_code)] // epoll's system calls; operations are kept by pointer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use slab::Slab;

use super::operation::{Completion, Descriptor, Interest, Key, Operation};
use super::syscall::{self, RETRY_INTERVAL, attempt};
use super::{Bell, Counters, Disabled, Feature, Submitted};

/// Events fetched by one system call: 3 KiB of buffer, and enough that its
/// price is shared.
const EVENTS: usize = 256;

/// How often in one `wait` a full buffer is followed by another fetch, so that
/// a flood of events cannot keep the hub here. What is left stays queued in
/// the kernel, and the next wait does not sleep.
const ROUNDS: usize = 64;

/// What a registration asks for.
const EDGES: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;

/// Events that give a waiting reader something to find out, be it an error.
const READER_EVENTS: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

/// The same for writers.
const WRITER_EVENTS: i32 = libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR;

/// The event data of the bell: no descriptor has the number that it holds.
const BELL: u64 = u64::MAX;

/// The event data of a registration: the number to find it by, and the low
/// half of the identity to tell whether it is still meant.
///
/// Half is enough: to be taken for another, a stale registration would have to
/// outlive 2^32 descriptors, and then costs one attempt that finds nothing.
fn event_data(descriptor: Descriptor) -> u64 {
    descriptor.id << 32 | u64::from(descriptor.fd as u32)
}

/// An operation that would block.
struct Waiter {
    /// Stays in place until its completion has been collected: the promise of
    /// whoever submitted it.
    operation: NonNull<Operation<'static>>,
    key: Key,
    /// The waiter behind this one in its list.
    next: Option<u32>,
}

/// Waiters in the order of their arrival, linked by their index in the slab.
#[derive(Clone, Copy, Default)]
struct List {
    first: Option<u32>,
    /// Meaningful while `first` is some.
    last: u32,
}

impl List {
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push(&mut self, waiters: &mut Slab<Waiter>, waiter: Waiter) {
        let index = waiters.insert(waiter) as u32;
        match self.first {
            None => self.first = Some(index),
            Some(_) => waiters[self.last as usize].next = Some(index),
        }
        self.last = index;
    }

    /// Takes the waiter out that stands behind `previous`, or first.
    fn remove_after(&mut self, waiters: &mut Slab<Waiter>, previous: Option<u32>) -> Waiter {
        let link = match previous {
            None => &mut self.first,
            Some(previous) => &mut waiters[previous as usize].next,
        };
        let index = link.expect("the caller has seen the waiter that it takes out");
        let waiter = waiters.remove(index as usize);
        match previous {
            None => self.first = waiter.next,
            Some(previous) => waiters[previous as usize].next = waiter.next,
        }
        if let (true, Some(previous)) = (self.last == index, previous) {
            self.last = previous;
        }
        waiter
    }

    /// Takes the waiter with this key out, if it stands here.
    fn remove(&mut self, waiters: &mut Slab<Waiter>, key: Key) -> bool {
        let mut previous = None;
        let mut next = self.first;
        while let Some(index) = next {
            let waiter = &waiters[index as usize];
            if waiter.key == key {
                self.remove_after(waiters, previous);
                return true;
            }
            previous = next;
            next = waiter.next;
        }
        false
    }

    /// Puts all of `other`'s waiters behind these.
    fn append(&mut self, waiters: &mut Slab<Waiter>, other: List) {
        if other.is_empty() {
            return;
        }
        match self.first {
            None => self.first = other.first,
            Some(_) => waiters[self.last as usize].next = other.first,
        }
        self.last = other.last;
    }

    /// Tries the waiters in turn and hands over what is done; with
    /// `all` each of them, else until one would block. `ended` says that nothing
    /// more will come in.
    fn retry(
        &mut self,
        waiters: &mut Slab<Waiter>,
        all: bool,
        ended: bool,
        mut done: impl FnMut(Completion),
    ) {
        let mut previous = None;
        let mut next = self.first;
        while let Some(index) = next {
            let waiter = &waiters[index as usize];
            let key = waiter.key;
            next = waiter.next;
            // SAFETY: the submitter keeps a pending operation and what it
            // lends in place, and a listed waiter is pending.
            let operation = unsafe { waiter.operation.as_ref() };
            let mut result = attempt(operation);
            if result == -libc::EAGAIN
                && ended
                && let Some(end) = syscall::at_the_end(operation)
            {
                result = end;
            }
            if result != -libc::EAGAIN {
                self.remove_after(waiters, previous);
                done(completion(key, result));
            } else if all {
                previous = Some(index);
            } else {
                return;
            }
        }
    }
}

fn completion(key: Key, result: i32) -> Completion {
    Completion {
        key,
        result,
        more: false,
        nonempty: false,
        buffer: None,
    }
}

/// What is known of a descriptor's number.
#[derive(Clone, Copy, Default)]
struct Registration {
    /// The identity that the kernel's registration carries; 0 before the first.
    id: u64,
    /// An event has told that nothing more will come in.
    has_ended: bool,
    readers: List,
    writers: List,
}

impl Registration {
    fn list(&mut self, interest: Interest) -> &mut List {
        match interest {
            Interest::Readable => &mut self.readers,
            Interest::Writable => &mut self.writers,
        }
    }
}

/// The epoll set of one hub.
pub(crate) struct Epoll {
    set: OwnedFd,
    /// By descriptor number: as long as the largest one that ever waited.
    registrations: Vec<Registration>,
    /// The waiters of all lists; each stands in exactly one.
    waiters: Slab<Waiter>,
    /// Operations that no event announces.
    unannounced: List,
    /// When those are next tried; meaningful while there are any.
    next_retry: Instant,
    /// Operations on files that are not behind their number any more; only a
    /// cancel ends them.
    stranded: List,
    /// Completions of cancelled operations, which the next wait delivers.
    cancelled: Vec<Completion>,
    events: Box<[libc::epoll_event]>,
    /// epoll_pwait2(2) is to be used; cleared when the kernel does not know it.
    has_pwait2: bool,
    counters: Counters,
}

impl Epoll {
    /// Makes an epoll set that watches the bell.
    pub(super) fn open(bell: &Bell, disabled: Disabled) -> io::Result<Epoll> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let epoll = Epoll {
            // SAFETY: epoll_create1 has just handed this descriptor over.
            set: unsafe { OwnedFd::from_raw_fd(fd) },
            registrations: Vec::new(),
            waiters: Slab::new(),
            unannounced: List::default(),
            next_retry: Instant::now(),
            stranded: List::default(),
            cancelled: Vec::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS].into(),
            has_pwait2: !disabled.contains(Feature::EpollPwait2),
            counters: Counters::default(),
        };
        // Every write to an eventfd makes an edge, read or not.
        epoll
            .control(
                libc::EPOLL_CTL_ADD,
                bell.as_fd().as_raw_fd(),
                libc::EPOLLIN | libc::EPOLLET,
                BELL,
            )
            .map_err(io::Error::from_raw_os_error)?;
        Ok(epoll)
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Tries the operation, and lists it as a waiter if it would block.
    ///
    /// # Safety
    ///
    /// The contract of `Backend::submit`.
    #[inline(never)]
    pub(super) unsafe fn submit(&mut self, operation: &Operation<'_>, key: Key) -> Submitted {
        if !self.must_queue(operation) {
            let mut result = attempt(operation);
            if result == -libc::EAGAIN
                && let Some(end) = self.at_the_end(operation)
            {
                result = end;
            }
            if result != -libc::EAGAIN {
                self.counters.direct += 1;
                return Submitted::Done(result);
            }
        }
        self.arm(operation, key)
    }

    /// Whether others wait already for the same.
    #[inline]
    fn must_queue(&mut self, operation: &Operation<'_>) -> bool {
        let descriptor = operation.descriptor();
        self.registrations
            .get_mut(descriptor.fd as usize)
            .is_some_and(|registration| {
                registration.id == descriptor.id
                    && !registration.list(operation.interest()).is_empty()
                    && syscall::is_announced(operation)
            })
    }

    /// What becomes of an operation that would block on a socket at its end; see
    /// [`syscall::at_the_end`].
    #[inline]
    fn at_the_end(&self, operation: &Operation<'_>) -> Option<i32> {
        let descriptor = operation.descriptor();
        let registration = self.registrations.get(descriptor.fd as usize)?;
        if registration.id != descriptor.id || !registration.has_ended {
            return None;
        }
        syscall::at_the_end(operation)
    }

    /// Lists an operation that would block, or that has to wait for others.
    fn arm(&mut self, operation: &Operation<'_>, key: Key) -> Submitted {
        let waiter = Waiter {
            operation: NonNull::from(operation).cast(),
            key,
            next: None,
        };
        if syscall::is_announced(operation) {
            let descriptor = operation.descriptor();
            if let Err(errno) = self.register(descriptor) {
                return Submitted::Done(-errno);
            }
            self.registrations[descriptor.fd as usize]
                .list(operation.interest())
                .push(&mut self.waiters, waiter);
        } else {
            if self.unannounced.is_empty() {
                self.next_retry = Instant::now() + RETRY_INTERVAL;
            }
            self.unannounced.push(&mut self.waiters, waiter);
        }
        self.counters.submitted += 1;
        Submitted::Pending
    }

    /// Sees to it that the number is registered under this identity.
    ///
    /// # Errors
    ///
    /// The kernel's: EPERM for files that have no readiness, ENOMEM, ENOSPC at
    /// the limit fs.epoll.max_user_watches.
    #[inline]
    fn register(&mut self, descriptor: Descriptor) -> Result<(), i32> {
        match self.registrations.get(descriptor.fd as usize) {
            Some(registration)
                if registration.id == descriptor.id && descriptor.id != Descriptor::FOREIGN =>
            {
                Ok(())
            }
            _ => self.register_anew(descriptor),
        }
    }

    #[cold]
    fn register_anew(&mut self, descriptor: Descriptor) -> Result<(), i32> {
        let Descriptor { fd, id } = descriptor;
        let data = event_data(descriptor);
        let result = match self.control(libc::EPOLL_CTL_ADD, fd, EDGES, data) {
            Err(libc::EEXIST) => self
                .control(libc::EPOLL_CTL_MOD, fd, EDGES, data)
                .map(|()| false),
            result => result.map(|()| true),
        };
        let is_new_file = result?;
        let index = fd as usize;
        if index >= self.registrations.len() {
            self.registrations
                .resize(index + 1, Registration::default());
        }
        let registration = &mut self.registrations[index];
        registration.id = id;
        registration.has_ended = false;
        if is_new_file {
            let strays = [&mut registration.readers, &mut registration.writers];
            for list in strays.map(std::mem::take) {
                self.stranded.append(&mut self.waiters, list);
            }
        }
        Ok(())
    }

    /// Takes a pending operation out; the next wait delivers its completion.
    /// One that is not pending any more is left to its result.
    pub(super) fn cancel(&mut self, operation: &Operation<'_>, key: Key) {
        let waiters = &mut self.waiters;
        let fd = operation.descriptor().fd;
        let removed = self
            .registrations
            .get_mut(fd as usize)
            .is_some_and(|registration| {
                // Whatever the identity is by now: a key is pending only once.
                registration.list(operation.interest()).remove(waiters, key)
            })
            || self.unannounced.remove(waiters, key)
            || self.stranded.remove(waiters, key);
        if removed {
            self.cancelled.push(completion(key, -libc::ECANCELED));
            self.forget_if_foreign(fd);
        }
    }

    /// Takes a foreign descriptor out of the set when nobody waits for it.
    #[inline]
    fn forget_if_foreign(&mut self, fd: RawFd) {
        if let Some(registration) = self.registrations.get_mut(fd as usize)
            && registration.id == Descriptor::FOREIGN
            && registration.readers.is_empty()
            && registration.writers.is_empty()
        {
            registration.id = 0;
            // It fails if the descriptor was closed, which is as good.
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
        }
    }

    /// Delivers the cancelled, sleeps if there were none, and tries again
    /// whatever the events tell.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut collect: impl FnMut(Completion),
    ) -> io::Result<()> {
        let mut timeout = timeout;
        if !self.cancelled.is_empty() {
            timeout = Some(Duration::ZERO);
            self.counters.completed += self.cancelled.len() as u64;
            self.cancelled.drain(..).for_each(&mut collect);
        }
        if !self.unannounced.is_empty() {
            let pause = self.next_retry.saturating_duration_since(Instant::now());
            timeout = Some(timeout.map_or(pause, |timeout| timeout.min(pause)));
        }
        for _ in 0..ROUNDS {
            let fetched = match self.fetch(timeout) {
                Ok(fetched) => fetched,
                Err(libc::EINTR) => 0, // A signal came: the hub makes a turn.
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            };
            for index in 0..fetched {
                let event = self.events[index];
                self.follow(event, &mut collect);
            }
            if fetched < EVENTS {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        if !self.unannounced.is_empty() {
            self.retry_unannounced(&mut collect);
        }
        Ok(())
    }

    /// Tries the waiters again to which an event is of interest.
    #[inline]
    fn follow(&mut self, event: libc::epoll_event, collect: &mut impl FnMut(Completion)) {
        let (data, events) = (event.u64, event.events as i32);
        // The bell's number, -1, is in no table either.
        let fd = data as RawFd;
        let Some(registration) = self.registrations.get_mut(fd as usize) else {
            return;
        };
        let id = registration.id;
        if event_data(Descriptor { fd, id }) != data {
            return; // Of an earlier identity.
        }
        let mut done = |completion| {
            self.counters.completed += 1;
            collect(completion);
        };
        if events & libc::EPOLLRDHUP != 0 {
            registration.has_ended = true;
        }
        if events & READER_EVENTS != 0 {
            let ended = registration.has_ended;
            registration
                .readers
                .retry(&mut self.waiters, false, ended, &mut done);
        }
        if events & WRITER_EVENTS != 0 {
            registration
                .writers
                .retry(&mut self.waiters, false, false, &mut done);
        }
        if id == Descriptor::FOREIGN {
            self.forget_if_foreign(fd);
        }
    }

    /// Tries what no event announces, if it is time.
    #[cold]
    fn retry_unannounced(&mut self, collect: &mut impl FnMut(Completion)) {
        let now = Instant::now();
        if now < self.next_retry {
            return;
        }
        self.next_retry = now + RETRY_INTERVAL;
        self.unannounced
            .retry(&mut self.waiters, true, false, |completion| {
                self.counters.completed += 1;
                collect(completion);
            });
    }

    /// Fills the buffer with events and says how many there are.
    #[inline]
    fn fetch(&mut self, timeout: Option<Duration>) -> Result<usize, i32> {
        self.counters.enters += 1;
        let milliseconds = match timeout {
            None => -1,
            Some(Duration::ZERO) => 0,
            Some(timeout) if self.has_pwait2 => match self.fetch_precisely(timeout) {
                // EPERM comes from seccomp filters that are older than the call.
                Err(libc::ENOSYS | libc::EPERM) => {
                    self.has_pwait2 = false;
                    rounded_up(timeout)
                }
                result => return result,
            },
            Some(timeout) => rounded_up(timeout),
        };
        // SAFETY: the kernel writes at most EVENTS entries to the buffer.
        let result = unsafe {
            libc::epoll_wait(
                self.set.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as i32,
                milliseconds,
            )
        };
        count(result.into())
    }

    /// The same with a timeout in nanoseconds: epoll_pwait2(2), Linux 5.11.
    ///
    /// By number, because the C library has a function for it only since
    /// glibc 2.35.
    fn fetch_precisely(&mut self, timeout: Duration) -> Result<usize, i32> {
        /// The kernel's timespec, which is the same on every architecture.
        #[repr(C)]
        struct Timespec {
            seconds: i64,
            nanoseconds: i64,
        }
        let timespec = Timespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        };
        // SAFETY: the kernel writes at most EVENTS entries to the buffer and
        // reads the timeout from this frame; there is no signal mask.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.set.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as libc::c_int,
                &raw const timespec,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        count(result)
    }

    /// epoll_ctl(2).
    fn control(&self, action: i32, fd: RawFd, events: i32, data: u64) -> Result<(), i32> {
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: data,
        };
        // SAFETY: the event is on this frame and only read.
        let result = unsafe { libc::epoll_ctl(self.set.as_raw_fd(), action, fd, &raw mut event) };
        count(result.into()).map(|_| ())
    }
}

/// Milliseconds for epoll_wait(2), never fewer than asked for; what does not
/// fit ends after 24 days and is asked for again.
fn rounded_up(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// A system call's answer, or its errno.
#[inline]
fn count(result: libc::c_long) -> Result<usize, i32> {
    usize::try_from(result).map_err(|_| Errno::last_raw())
}

#[cfg(test)]
mod tests;
