//! A line of those who wait for one and the same occasion, which comes for the
//! first of them or for all.
//!
//! `Condvar`, `Barrier`, `Event` and `Once` are this and a condition. Whoever
//! changes the condition and whoever enters because of it do so under the
//! line's lock, so nobody enters behind an occasion that has passed.

use std::time::Instant;

use super::wait_list::{Claim, Ticket, WaitList};
use crate::atomic::{Mutex, MutexGuard, lock};
use crate::cancel;
use crate::hub::{Unparker, Wait, Wakeup, Why};

/// The line. Its address is the subject of the waits in it.
#[derive(Debug)]
pub(super) struct Line(Mutex<WaitList<()>>);

/// The line, locked.
pub(super) struct Locked<'a> {
    line: &'a Line,
    waiters: MutexGuard<'a, WaitList<()>>,
}

/// A place in the line, of one that is to wait there now.
#[must_use]
pub(super) struct Place<'a> {
    line: &'a Line,
    ticket: Ticket,
    wait: Wait,
}

impl Line {
    pub(super) const fn new() -> Line {
        Line(Mutex::new(WaitList::new()))
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked {
            line: self,
            waiters: lock(&self.0),
        }
    }
}

impl<'a> Locked<'a> {
    /// How many wait.
    pub(super) fn waiting(&mut self) -> usize {
        self.waiters.waiting()
    }

    /// Enters at the end.
    pub(super) fn enter(mut self) -> Place<'a> {
        let wait = Wait::begin();
        Place {
            line: self.line,
            ticket: self.waiters.enter(wait.unparker(), ()),
            wait,
        }
    }

    /// Enters at the end, for one arm of a `select!`.
    pub(super) fn enter_with(mut self, unparker: Unparker, claim: &Claim, arm: usize) -> Ticket {
        let waiters = &mut self.waiters;
        waiters.enter_with(unparker, claim.clone(), arm, ())
    }

    /// Takes a waiter out; whether the occasion came for it.
    pub(super) fn leave(mut self, ticket: Ticket) -> bool {
        self.waiters.leave(ticket).0
    }

    /// The occasion has come for the first in the line.
    pub(super) fn wake_one(mut self) {
        let first = self.waiters.choose().map(|(unparker, ())| unparker);
        // Who is woken finds the line unlocked.
        drop(self);
        if let Some(unparker) = first {
            unparker.unpark();
        }
    }

    /// The occasion has come for all who are in the line, in their order.
    pub(super) fn wake_all(mut self) {
        let mut all = Vec::new();
        while let Some((unparker, ())) = self.waiters.choose() {
            all.push(unparker);
        }
        drop(self);
        for unparker in all {
            unparker.unpark();
        }
    }
}

impl Place<'_> {
    /// Waits for the occasion, until the deadline at the most; whether it came.
    ///
    /// An interrupt unwinds, unless the occasion came first.
    pub(super) fn wait(self, why: Why, deadline: Option<Instant>) -> bool {
        let subject = std::ptr::from_ref(self.line).addr();
        let verdict = self.wait.park(why, subject, deadline);
        let is_chosen = self.line.lock().leave(self.ticket);
        match verdict {
            _ if is_chosen => true,
            Wakeup::TimedOut => false,
            verdict => cancel::raise_verdict(verdict, why),
        }
    }
}
