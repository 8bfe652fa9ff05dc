//! What a hub counts, always; `runtime::stats` shows it.

use std::cell::Cell;

use super::Hub;
use super::current::{self, Context};
use super::stack::StackStats;
use crate::backend;

/// The hub's own counters; the backend and the stacks keep theirs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) turns: Cell<u64>,
    pub(super) switches: Cell<u64>,
    pub(super) spawned: Cell<u64>,
    pub(super) most_live: Cell<usize>,
    pub(super) discarded: Cell<u64>,
    pub(super) timers_fired: Cell<u64>,
    pub(super) mail: Cell<u64>,
}

/// A copy of all counters of the calling OS thread's hub.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) backend: backend::Counters,
    pub(crate) turns: u64,
    pub(crate) switches: u64,
    pub(crate) spawned: u64,
    pub(crate) ready: usize,
    pub(crate) live: usize,
    pub(crate) most_live: usize,
    pub(crate) in_flight: usize,
    pub(crate) discarded: u64,
    pub(crate) timers_armed: usize,
    pub(crate) timers_fired: u64,
    pub(crate) mail: u64,
    pub(crate) bell_rings: u64,
    pub(crate) blocks: usize,
    pub(crate) stacks: StackStats,
}

/// Adds one.
#[inline]
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Hub {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            backend: self.backend.borrow().counters(),
            turns: self.counters.turns.get(),
            switches: self.counters.switches.get(),
            spawned: self.counters.spawned.get(),
            ready: self.run_queue.borrow().len(),
            live: self.live.get(),
            most_live: self.counters.most_live.get(),
            in_flight: self.in_flight.get(),
            discarded: self.counters.discarded.get(),
            timers_armed: self.timers.borrow().len(),
            timers_fired: self.counters.timers_fired.get(),
            mail: self.counters.mail.get(),
            bell_rings: self.inbox.rings(),
            blocks: self.table.used(),
            stacks: self.stacks.borrow().stats(),
        }
    }
}

/// The counters of the calling OS thread's hub; all zero if it has none.
pub(crate) fn snapshot() -> Snapshot {
    current::with(|context| match context {
        Context::Hub(hub) => hub.snapshot(),
        Context::Bare | Context::Ended => Snapshot::default(),
    })
}
