//! Who waits for one thing, in the order in which they came.
//!
//! Every primitive that makes its callers wait keeps one of these under its own
//! lock. The protocol, which `tests/loom.rs` checks with [`super::permits`]:
//!
//! 1. A waiter enters under the lock, releases the lock and parks.
//! 2. Whoever can satisfy a waiter *chooses* it under the lock: it leaves the
//!    line, and what it waited for is its own. It is unparked afterwards.
//! 3. A waiter whose park returns, for whatever reason, takes the lock again
//!    and leaves. Only that tells whether it was chosen: **chosen beats
//!    interrupted and timed out**, so nothing that was handed over is lost, and
//!    no choice is made of a waiter that has gone.
//!
//! A waiter of a `select!` is in several lists at once. Their locks do not
//! exclude each other, so it brings a [`Claim`], which the first to choose it
//! takes; the others pass it over.
//!
//! Who is abandoned with its hub does not come any more, and may never leave.
//! It is passed over, too, and so is one that was interrupted or has timed out and has only not run since: what
//! comes now is for those who still want it.

use std::sync::Arc;

use slab::Slab;

use crate::atomic::{AtomicUsize, Ordering};
use crate::hub::Unparker;

/// The line of those who wait, each with what it asks for or is given.
#[derive(Debug)]
pub(crate) struct WaitList<P> {
    waiters: Slab<Waiter<P>>,
    first: usize,
    last: usize,
}

#[derive(Debug)]
struct Waiter<P> {
    unparker: Unparker,
    /// Of one that is in other lists, too, and its arm there.
    claim: Option<(Claim, usize)>,
    chosen: bool,
    payload: P,
    /// The neighbours in the line.
    before: usize,
    behind: usize,
}

/// No neighbour.
const NONE: usize = usize::MAX;

impl<P> Default for WaitList<P> {
    fn default() -> WaitList<P> {
        WaitList::new()
    }
}

/// A waiter's place, until it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(usize);

/// The right to choose a waiter of several lists, which only one can take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicUsize>);

impl Claim {
    /// Takes the claim for this arm; false if it was taken before.
    pub(crate) fn take(&self, arm: usize) -> bool {
        self.0
            .compare_exchange(0, arm + 1, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// For which arm it was taken.
    pub(crate) fn taken(&self) -> Option<usize> {
        self.0.load(Ordering::Acquire).checked_sub(1)
    }
}

impl<P> WaitList<P> {
    pub(crate) const fn new() -> WaitList<P> {
        WaitList {
            waiters: Slab::new(),
            first: NONE,
            last: NONE,
        }
    }

    /// How many are in the line who can be chosen.
    pub(crate) fn waiting(&mut self) -> usize {
        let mut waiting = 0;
        let mut next = self.first;
        while let Some(place) = self.first_waiting(next) {
            waiting += 1;
            next = self.waiters[place].behind;
        }
        waiting
    }

    /// Enters the line at its end.
    pub(crate) fn enter(&mut self, unparker: Unparker, payload: P) -> Ticket {
        self.insert(unparker, None, payload)
    }

    /// As [`enter`](Self::enter), for one that is in several lists.
    pub(crate) fn enter_with(
        &mut self,
        unparker: Unparker,
        claim: Claim,
        arm: usize,
        payload: P,
    ) -> Ticket {
        self.insert(unparker, Some((claim, arm)), payload)
    }

    /// Enters the line before everybody else: one who was chosen in vain.
    pub(crate) fn enter_first(&mut self, unparker: Unparker, payload: P) -> Ticket {
        let ticket = self.enter_chosen(unparker, payload);
        let waiter = &mut self.waiters[ticket.0];
        waiter.chosen = false;
        waiter.behind = self.first;
        match self.first {
            NONE => self.last = ticket.0,
            first => self.waiters[first].before = ticket.0,
        }
        self.first = ticket.0;
        ticket
    }

    /// Has a place without standing in the line: what it waits for is its own
    /// already, and on its way.
    pub(crate) fn enter_chosen(&mut self, unparker: Unparker, payload: P) -> Ticket {
        Ticket(self.waiters.insert(Waiter {
            unparker,
            claim: None,
            chosen: true,
            payload,
            before: NONE,
            behind: NONE,
        }))
    }

    fn insert(&mut self, unparker: Unparker, claim: Option<(Claim, usize)>, payload: P) -> Ticket {
        let place = self.waiters.insert(Waiter {
            unparker,
            claim,
            chosen: false,
            payload,
            before: self.last,
            behind: NONE,
        });
        match self.last {
            NONE => self.first = place,
            last => self.waiters[last].behind = place,
        }
        self.last = place;
        Ticket(place)
    }

    /// Keeps a waiter's place for another wait of it.
    pub(crate) fn renew(&mut self, ticket: Ticket, unparker: Unparker) {
        self.waiters[ticket.0].unparker = unparker;
    }

    /// What a waiter has brought, or was given.
    pub(crate) fn payload(&mut self, ticket: Ticket) -> &mut P {
        &mut self.waiters[ticket.0].payload
    }

    pub(crate) fn is_chosen(&self, ticket: Ticket) -> bool {
        self.waiters[ticket.0].chosen
    }

    /// The first in the line who can be chosen, and what it brings.
    pub(crate) fn first(&mut self) -> Option<(Unparker, &mut P)> {
        let place = self.first_waiting(self.first)?;
        let first = &mut self.waiters[place];
        Some((first.unparker, &mut first.payload))
    }

    /// The first from `place` on who still waits. Those who were abandoned are
    /// taken out; those who are about to leave are passed over.
    fn first_waiting(&mut self, mut place: usize) -> Option<usize> {
        loop {
            let waiter = self.waiters.get(place)?;
            let behind = waiter.behind;
            if !waiter.unparker.is_alive() {
                self.unlink(place);
            } else if waiter.unparker.is_waiting() {
                return Some(place);
            }
            place = behind;
        }
    }

    /// Whether anybody is in the line who can be chosen by the owner of this
    /// claim, which is not to choose itself.
    pub(crate) fn has_other(&self, own: &Claim) -> bool {
        let mut place = self.first;
        while let Some(waiter) = self.waiters.get(place) {
            let is_free = match &waiter.claim {
                None => true,
                Some((claim, _)) => !Arc::ptr_eq(&claim.0, &own.0) && claim.taken().is_none(),
            };
            if is_free && waiter.unparker.is_alive() && waiter.unparker.is_waiting() {
                return true;
            }
            place = waiter.behind;
        }
        false
    }

    /// Chooses the first in the line that can be: it leaves the line, and its
    /// unparker is to be called. `None` if there is nobody.
    pub(crate) fn choose(&mut self) -> Option<(Unparker, &mut P)> {
        let ticket = self.choose_where(|_| true)?;
        let waiter = &mut self.waiters[ticket.0];
        Some((waiter.unparker, &mut waiter.payload))
    }

    /// As [`choose`](Self::choose), among those whose payload pleases.
    pub(crate) fn choose_where(&mut self, pleases: impl Fn(&P) -> bool) -> Option<Ticket> {
        let mut next = self.first;
        loop {
            let place = self.first_waiting(next)?;
            let waiter = &mut self.waiters[place];
            next = waiter.behind;
            if !pleases(&waiter.payload) {
                continue;
            }
            let is_ours = match &waiter.claim {
                None => true,
                Some((claim, arm)) => claim.take(*arm),
            };
            waiter.chosen = is_ours;
            self.unlink(place);
            if is_ours {
                return Some(Ticket(place));
            }
        }
    }

    /// How to wake one that was chosen.
    pub(crate) fn unparker(&self, ticket: Ticket) -> Unparker {
        self.waiters[ticket.0].unparker
    }

    /// Takes a waiter out, for good: whether it was chosen, and what it has
    /// brought or was given. Every waiter calls it once.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> (bool, P) {
        if self.is_linked(ticket.0) {
            self.unlink(ticket.0);
        }
        let waiter = self.waiters.remove(ticket.0);
        (waiter.chosen, waiter.payload)
    }

    fn is_linked(&self, place: usize) -> bool {
        self.first == place || self.waiters[place].before != NONE
    }

    fn unlink(&mut self, place: usize) {
        let waiter = &mut self.waiters[place];
        let before = std::mem::replace(&mut waiter.before, NONE);
        let behind = std::mem::replace(&mut waiter.behind, NONE);
        match before {
            NONE => self.first = behind,
            before => self.waiters[before].behind = behind,
        }
        match behind {
            NONE => self.last = before,
            behind => self.waiters[behind].before = before,
        }
    }
}
