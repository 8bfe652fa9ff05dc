//! A number of permits, handed over in the order in which they were asked for:
//! what every lock and semaphore here is made of.
//!
//! A `Mutex` is one permit, a `Semaphore` is some, and an `RwLock` is very many
//! of which a reader takes one and a writer all.
//!
//! `state` counts the free permits and says whether anybody waits:
//!
//! 1. While nobody waits, taking and giving back is one atomic operation each,
//!    and the lock of the line is not touched.
//! 2. While anybody waits, `state` changes only under that lock. So whoever
//!    gives permits back meets those who wait, and none is overlooked.
//! 3. On one hub permits are handed over: the first in the line is chosen and
//!    has them, whoever runs until then. A newcomer does not overtake.
//! 4. To a waiter on another OS thread they would travel for microseconds while
//!    nobody could use them, and a lock in demand would be on its way all the
//!    time. So that one is only told to try; a newcomer may be faster, once.
//!    Then the waiter insists, and is handed what it asks for.

use std::time::Instant;

use super::wait_list::{Ticket, WaitList};
use crate::atomic::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use crate::cancel;
use crate::hub::{Estate, Unparker, Wait, Wakeup, Why};

/// In `state`, beside twice the number of free permits: somebody waits.
const WAITING: usize = 1;
const ONE: usize = 2;

/// A number of permits, and the line of those who want some.
#[derive(Debug)]
pub(super) struct Permits {
    state: AtomicUsize,
    line: Mutex<WaitList<Asked>>,
}

/// What a waiter asks for.
#[derive(Debug)]
struct Asked {
    permits: usize,
    /// It lives on another OS thread and was told to try.
    told: bool,
    /// It has tried in vain.
    insists: bool,
}

/// A waiter's place in the line.
struct Place<'a> {
    permits: &'a Permits,
    ticket: Ticket,
}

impl Estate for Place<'_> {
    fn pass_on(&self) {
        let mut line = lock(&self.permits.line);
        let (is_chosen, asked) = line.leave(self.ticket);
        if is_chosen {
            let permits = asked.permits * ONE;
            self.permits.state.fetch_add(permits, Ordering::Release);
        }
        self.permits.settle(line);
    }
}

impl Permits {
    /// The most permits there can be.
    pub(super) const MOST: usize = usize::MAX >> 3;

    pub(super) const fn new(free: usize) -> Permits {
        assert!(free <= Permits::MOST, "too many permits");
        Permits {
            state: AtomicUsize::new(free * ONE),
            line: Mutex::new(WaitList::new()),
        }
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.state.load(Ordering::Relaxed) / ONE
    }

    /// Takes permits if it can be done at once.
    #[inline]
    pub(super) fn try_acquire(&self, permits: usize) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & WAITING != 0 {
                return self.try_acquire_slow(permits);
            }
            if state < permits * ONE {
                return false;
            }
            match self.state.compare_exchange_weak(
                state,
                state - permits * ONE,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    #[cold]
    fn try_acquire_slow(&self, permits: usize) -> bool {
        let mut line = lock(&self.line);
        let is_taken = self.take(&mut line, permits);
        self.settle(line);
        is_taken
    }

    /// Takes permits if that is easy. If not, they may be free all the same.
    #[inline]
    pub(super) fn acquire_fast(&self, permits: usize) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & WAITING == 0
            && state >= permits * ONE
            && self
                .state
                .compare_exchange(
                    state,
                    state - permits * ONE,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Takes permits, waiting for them until the deadline at the most; whether
    /// it has them.
    ///
    /// An interrupt unwinds. Nothing is taken then.
    #[inline]
    pub(super) fn acquire(&self, permits: usize, why: Why, deadline: Option<Instant>) -> bool {
        self.acquire_fast(permits) || self.acquire_slow(permits, why, deadline)
    }

    /// As [`acquire`](Self::acquire), when it is not easy.
    #[cold]
    pub(super) fn acquire_slow(&self, permits: usize, why: Why, deadline: Option<Instant>) -> bool {
        let mut line = lock(&self.line);
        if self.take(&mut line, permits) {
            return true;
        }
        let mut wait = Wait::begin();
        let asked = Asked {
            permits,
            told: false,
            insists: false,
        };
        let ticket = line.enter(wait.unparker(), asked);
        loop {
            drop(line);
            let place = Place {
                permits: self,
                ticket,
            };
            let subject = std::ptr::from_ref(self).addr();
            let verdict = wait.park_with(&place, why, subject, deadline);
            line = lock(&self.line);
            if line.is_chosen(ticket) {
                line.leave(ticket);
                return true;
            }
            if verdict != Wakeup::Unparked {
                line.leave(ticket);
                // Perhaps it was told to try, or stood in somebody's way.
                self.settle(line);
                return match verdict {
                    Wakeup::TimedOut => false,
                    verdict => cancel::raise_verdict(verdict, why),
                };
            }
            let state = self.state.load(Ordering::Relaxed);
            if state / ONE >= permits {
                self.state.fetch_sub(permits * ONE, Ordering::AcqRel);
                line.leave(ticket);
                self.settle(line);
                return true;
            }
            wait = Wait::begin();
            line.renew(ticket, wait.unparker());
            let asked = line.payload(ticket);
            asked.told = false;
            asked.insists = true;
        }
    }

    /// Takes permits under the lock of the line, without standing in it. If it
    /// cannot be done, `state` says afterwards that somebody waits.
    fn take(&self, line: &mut WaitList<Asked>, permits: usize) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let free = state / ONE;
            // Only one who was told to try may be overtaken.
            let is_free = free >= permits
                && line
                    .first()
                    .is_none_or(|(_, asked)| asked.told && asked.permits <= free);
            let new = if is_free {
                state - permits * ONE
            } else {
                state | WAITING
            };
            match self
                .state
                .compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return is_free,
                Err(now) => state = now,
            }
        }
    }

    /// Gives permits back, or adds new ones.
    #[inline]
    pub(super) fn release(&self, permits: usize) {
        let state = self.state.load(Ordering::Relaxed);
        if state & WAITING != 0
            || self
                .state
                .compare_exchange(
                    state,
                    state + permits * ONE,
                    Ordering::Release,
                    Ordering::Relaxed,
                )
                .is_err()
        {
            self.release_slow(permits);
        }
    }

    #[cold]
    fn release_slow(&self, permits: usize) {
        let line = lock(&self.line);
        self.state.fetch_add(permits * ONE, Ordering::Release);
        self.settle(line);
    }

    /// Hands free permits to those who wait for them, in their order. Whoever
    /// has changed `state` or the line under its lock ends with this.
    fn settle(&self, mut line: MutexGuard<'_, WaitList<Asked>>) {
        // Called when the lock is released, so that who is woken finds it free.
        let mut last: Option<Unparker> = None;
        let mut unpark = |unparker: Unparker| {
            if let Some(earlier) = last.replace(unparker) {
                earlier.unpark();
            }
        };
        loop {
            let Some((unparker, asked)) = line.first() else {
                self.state.fetch_and(!WAITING, Ordering::AcqRel);
                break;
            };
            // Invariant 2: nobody else changes it now, once somebody waits.
            let state = self.state.load(Ordering::Relaxed);
            if state & WAITING == 0 || state / ONE < asked.permits {
                break;
            }
            if !unparker.is_local() && !asked.insists {
                if !asked.told {
                    asked.told = true;
                    unpark(unparker);
                }
                break;
            }
            self.state.fetch_sub(asked.permits * ONE, Ordering::AcqRel);
            line.choose();
            unpark(unparker);
        }
        drop(line);
        if let Some(unparker) = last {
            unparker.unpark();
        }
    }
}
