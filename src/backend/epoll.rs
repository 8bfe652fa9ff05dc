//! The epoll backend: completion by trying, waiting for readiness and trying
//! again.
//!
//! Each descriptor is registered once, edge-triggered, for both directions, so
//! an operation costs no epoll_ctl(2). An operation is tried first and parked
//! in its descriptor's list if it would block; an event tries the list again,
//! in order, until one would block.
//!
//! # Why no readiness is lost
//!
//! An edge that comes while nobody waits is dropped, so readiness must be seen
//! by trying:
//!
//! - an operation with nobody before it is tried before it is parked. What
//!   makes it ready after that is a new edge, which stays in the kernel's set
//!   until the next wait;
//! - the first registration of a descriptor reports what is ready already
//!   (epoll_ctl(2), EPOLL_CTL_ADD), so it may come after the attempt;
//! - an operation that finds others parked is parked behind them untried: the
//!   one at the head was tried, and its edge tries all.
//!
//! # Descriptors that mean another file
//!
//! A descriptor's number may be closed and reused behind the backend's back
//! (duplicates, raw descriptors). The table remembers the identity that it
//! registered; a different one is registered anew, and what was parked for the
//! old one stays pending, like a read in the kernel, until it is cancelled. An
//! event carries the lower half of the identity. One that matches by accident
//! causes an attempt in vain, nothing worse.

#![allow(unsafe_code)] // Follows pointers to pending operations; calls epoll_pwait2.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll as EpollSet, EpollCreateFlags, EpollEvent, EpollFlags};
use slab::Slab;

use super::operation::{Completion, Descriptor, Interest, Key, Operation};
use super::{Bell, Counters, Disabled, Feature, Submitted, syscall};

/// Events taken per system call.
const EVENTS: usize = 256;

/// System calls in a row, at the most, while each brings all the events it
/// can: a wait is to end.
const ROUNDS: usize = 64;

/// The event data of the bell: no descriptor has this number.
const BELL: u64 = u64::MAX;

/// End of a list.
const NOBODY: usize = usize::MAX;

/// The epoll set of one hub and the operations that wait for it.
pub(crate) struct Epoll {
    set: EpollSet,
    /// By descriptor number.
    registrations: Vec<Registration>,
    pending: Slab<Pending>,
    /// Completions of cancelled operations, for the next wait.
    cancelled: VecDeque<Completion>,
    events: Box<[EpollEvent; EVENTS]>,
    /// epoll_pwait2(2), Linux 5.11, whose timeout counts nanoseconds.
    has_pwait2: bool,
    counters: Counters,
}

/// What a descriptor's number was last registered for.
#[derive(Clone, Copy)]
struct Registration {
    /// Identity of the descriptor; 0 is none.
    id: u64,
    readers: List,
    writers: List,
}

/// A first-in, first-out list of pending operations, linked by index.
#[derive(Clone, Copy)]
struct List {
    head: usize,
    tail: usize,
}

/// An operation that would block.
struct Pending {
    key: Key,
    /// Stays in place until its completion is collected (landlord rule).
    operation: NonNull<Operation<'static>>,
    next: usize,
}

impl List {
    const EMPTY: List = List {
        head: NOBODY,
        tail: NOBODY,
    };
}

impl Registration {
    const NONE: Registration = Registration {
        id: 0,
        readers: List::EMPTY,
        writers: List::EMPTY,
    };

    fn list(&mut self, interest: Interest) -> &mut List {
        match interest {
            Interest::Readable => &mut self.readers,
            Interest::Writable => &mut self.writers,
        }
    }
}

impl Epoll {
    pub(super) fn open(bell: &Bell, disabled: Disabled) -> io::Result<Epoll> {
        let set = EpollSet::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        set.add(bell, EpollEvent::new(edge, BELL))?;
        Ok(Epoll {
            set,
            registrations: Vec::new(),
            pending: Slab::new(),
            cancelled: VecDeque::new(),
            events: Box::new([EpollEvent::empty(); EVENTS]),
            has_pwait2: !disabled.contains(Feature::EpollPwait2),
            counters: Counters::default(),
        })
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Tries an operation, and parks it if it would block.
    ///
    /// # Safety
    ///
    /// The contract of `Backend::submit`.
    pub(super) unsafe fn submit(&mut self, operation: &Operation<'_>, key: Key) -> Submitted {
        let descriptor = operation.descriptor();
        if !self.is_awaited(descriptor, operation.interest()) {
            let result = syscall::attempt(operation);
            if result != -libc::EAGAIN {
                self.counters.direct += 1;
                return Submitted::Done(result);
            }
            if let Err(errno) = self.register(descriptor) {
                return Submitted::Done(-(errno as i32));
            }
        }
        let index = self.pending.insert(Pending {
            key,
            operation: NonNull::from(operation).cast(),
            next: NOBODY,
        });
        let list = self.registrations[descriptor.fd as usize].list(operation.interest());
        match list.tail {
            NOBODY => list.head = index,
            tail => self.pending[tail].next = index,
        }
        list.tail = index;
        self.counters.submitted += 1;
        Submitted::Pending
    }

    /// Takes a pending operation out; its completion comes with the next wait.
    pub(super) fn cancel(&mut self, operation: &Operation<'_>, key: Key) {
        let descriptor = operation.descriptor();
        let index = if self.is_registered(descriptor) {
            self.unlink(descriptor, operation.interest(), key)
        } else {
            // The number means another file by now.
            let mut pending = self.pending.iter();
            pending
                .find(|(_, pending)| pending.key == key)
                .map(|(index, _)| index)
        };
        // `None`: it has completed, and was collected or is about to be.
        if let Some(index) = index {
            self.pending.remove(index);
            self.cancelled.push_back(completion(key, -libc::ECANCELED));
        }
    }

    /// Waits for events and tries what they are for.
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
        for _ in 0..ROUNDS {
            let count = match self.system_wait(timeout) {
                Ok(count) => count,
                // A signal handler ran: the hub makes another turn.
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
            for position in 0..count {
                self.dispatch(self.events[position], &mut collect);
            }
            if count < EVENTS {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(())
    }

    fn dispatch(&mut self, event: EpollEvent, collect: &mut impl FnMut(Completion)) {
        if event.data() == BELL {
            return;
        }
        let fd = event.data() as u32 as usize;
        let Some(registration) = self.registrations.get(fd) else {
            return;
        };
        if registration.id as u32 != (event.data() >> 32) as u32 {
            return;
        }
        let both = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let readable = both | EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        if event.events().intersects(readable) {
            self.retry(fd, Interest::Readable, collect);
        }
        if event.events().intersects(both | EpollFlags::EPOLLOUT) {
            self.retry(fd, Interest::Writable, collect);
        }
    }

    /// Tries the parked operations of one direction until one would block.
    fn retry(&mut self, fd: usize, interest: Interest, collect: &mut impl FnMut(Completion)) {
        loop {
            let list = self.registrations[fd].list(interest);
            if list.head == NOBODY {
                return;
            }
            let head = &self.pending[list.head];
            // SAFETY: pending, so it stays in place (landlord rule).
            let result = syscall::attempt(unsafe { head.operation.as_ref() });
            if result == -libc::EAGAIN {
                return;
            }
            let done = self.pending.remove(list.head);
            list.head = done.next;
            if list.head == NOBODY {
                list.tail = NOBODY;
            }
            self.counters.completed += 1;
            collect(completion(done.key, result));
        }
    }

    fn is_registered(&self, descriptor: Descriptor) -> bool {
        self.registrations
            .get(descriptor.fd as usize)
            .is_some_and(|registration| registration.id == descriptor.id)
    }

    /// Whether others are parked on the same side of the descriptor.
    fn is_awaited(&mut self, descriptor: Descriptor, interest: Interest) -> bool {
        self.is_registered(descriptor)
            && self.registrations[descriptor.fd as usize]
                .list(interest)
                .head
                != NOBODY
    }

    /// Makes sure that the kernel reports the descriptor's edges under its
    /// identity.
    fn register(&mut self, descriptor: Descriptor) -> Result<(), Errno> {
        if self.is_registered(descriptor) {
            return Ok(());
        }
        // SAFETY: the caller of the operation holds the descriptor open.
        let fd = unsafe { BorrowedFd::borrow_raw(descriptor.fd) };
        let edges = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let data = (descriptor.id << 32) | descriptor.fd as u64;
        let mut event = EpollEvent::new(edges, data);
        match self.set.add(fd, event) {
            // The same file was registered under this number before; MOD
            // reports what is ready as ADD does.
            Err(Errno::EEXIST) => self.set.modify(fd, &mut event)?,
            result => result?,
        }
        let number = descriptor.fd as usize;
        if number >= self.registrations.len() {
            let room = (number + 1).next_power_of_two();
            self.registrations.resize(room, Registration::NONE);
        }
        self.registrations[number] = Registration {
            id: descriptor.id,
            ..Registration::NONE
        };
        Ok(())
    }

    /// Takes an operation out of its list.
    fn unlink(&mut self, descriptor: Descriptor, interest: Interest, key: Key) -> Option<usize> {
        let list = self.registrations[descriptor.fd as usize].list(interest);
        let mut previous = NOBODY;
        let mut index = list.head;
        while index != NOBODY && self.pending[index].key != key {
            previous = index;
            index = self.pending[index].next;
        }
        if index == NOBODY {
            return None;
        }
        let next = self.pending[index].next;
        match previous {
            NOBODY => list.head = next,
            previous => self.pending[previous].next = next,
        }
        if list.tail == index {
            list.tail = previous;
        }
        Some(index)
    }

    fn system_wait(&mut self, timeout: Option<Duration>) -> Result<usize, Errno> {
        self.counters.enters += 1;
        if self.has_pwait2 && timeout != Some(Duration::ZERO) {
            match self.pwait2(timeout) {
                Err(Errno::ENOSYS) => self.has_pwait2 = false,
                result => return result,
            }
        }
        let milliseconds = match timeout {
            None => -1,
            // Rounded up: a wait that ends early makes a turn in vain.
            Some(timeout) => {
                i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
            }
        };
        let events = self.events.as_mut_ptr().cast::<libc::epoll_event>();
        // SAFETY: EpollEvent is a transparent epoll_event, and there is room
        // for EVENTS of them.
        let count = unsafe {
            libc::epoll_wait(self.set.0.as_raw_fd(), events, EVENTS as i32, milliseconds)
        };
        Errno::result(count).map(|count| count as usize)
    }

    fn pwait2(&mut self, timeout: Option<Duration>) -> Result<usize, Errno> {
        let timespec = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        });
        // SAFETY: room for EVENTS events, the timespec outlives the call, and
        // no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.set.0.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as libc::c_int,
                timespec.as_ref().map_or(ptr::null(), ptr::from_ref),
                ptr::null::<libc::sigset_t>(),
                size_of::<libc::sigset_t>(),
            )
        };
        Errno::result(count).map(|count| count as usize)
    }
}

fn completion(key: Key, result: i32) -> Completion {
    Completion {
        key,
        result,
        more: false,
        nonempty: false,
    }
}
