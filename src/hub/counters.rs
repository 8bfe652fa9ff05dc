//! What a hub counts, always; `runtime::stats` shows it.

use std::cell::Cell;

use super::Hub;
use super::current::{self, Context};
use super::stats::Stats;
use crate::backend::offload;

/// The hub's own counters; the backend, the run queue, the timers and the
/// stacks keep theirs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) turns: Cell<u64>,
    pub(super) switches: Cell<u64>,
    pub(super) spawned: Cell<u64>,
    pub(super) most_live: Cell<usize>,
    /// Of the time before the run queue was last asked to start anew.
    pub(super) most_ready: Cell<usize>,
    pub(super) discarded: Cell<u64>,
    pub(super) timers_fired: Cell<u64>,
    pub(super) mail: Cell<u64>,
}

/// Adds one.
#[inline]
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Counters {
    /// One more was spawned, and so many are alive.
    #[inline]
    pub(super) fn count_spawn(&self, live: usize) {
        count(&self.spawned);
        self.most_live.set(self.most_live.get().max(live));
    }

    pub(super) fn count_mail(&self, letters: usize) {
        self.mail.set(self.mail.get() + letters as u64);
    }
}

impl Hub {
    pub(super) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let backend = self.backend.borrow().counters();
        let timers = self.timers.borrow().stats();
        let stacks = self.stacks.borrow().stats();
        let offload = offload::depth();
        Stats {
            turns: counters.turns.get(),
            enters: backend.enters,
            entries: backend.entries,
            submitted: backend.submitted,
            direct: backend.direct,
            completed: backend.completed,
            in_flight: self.in_flight.get(),
            discarded: counters.discarded.get(),
            overflows: backend.overflows,
            queue_full: backend.full,
            switches: counters.switches.get(),
            readers: self.sources.len(),
            buffers: backend.buffers,
            buffers_lent: backend.buffers_lent,
            starved: self.sources.starved.get(),
            held_back: self.sources.held_back.get(),
            spawned: counters.spawned.get(),
            ready: self.run_queue.borrow().len(),
            most_ready: counters
                .most_ready
                .get()
                .max(self.run_queue.borrow().most()),
            live: self.live.get(),
            most_live: counters.most_live.get(),
            blocks: self.table.used(),
            stacks_pooled: stacks.pooled,
            stacks_warm: stacks.warm,
            stack_bytes: stacks.bytes,
            timers_set: timers.set,
            timers_fired: counters.timers_fired.get(),
            timers_armed: timers.armed,
            most_timers_armed: timers.most,
            mail: counters.mail.get(),
            bell_rings: self.inbox.rings(),
            offload_running: offload.running,
            offload_queued: offload.queued,
            most_offload: offload.most,
        }
    }

    /// The most that were ready at once since this was last asked.
    pub(super) fn restart_most_ready(&self) -> usize {
        let most = self.run_queue.borrow_mut().restart_most();
        let before = &self.counters.most_ready;
        before.set(before.get().max(most));
        most
    }
}

/// The counters of the calling OS thread's hub; all zero if it has none.
pub(crate) fn stats() -> Stats {
    current::with(|context| match context {
        Context::Hub(hub) => hub.stats(),
        Context::Bare | Context::Ended => Stats::default(),
    })
}
