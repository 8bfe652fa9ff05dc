//! Who runs: how a context is entered, and how it is left for another.
//!
//! A context that is left says why in its state. The next green thread in the run
//! queue is entered from its stack, past the loop, until the turn's budget is used
//! up; the root, and what has ended, go by way of the loop.

#![allow(unsafe_code)] // Resumes and suspends coroutines.

use super::Hub;
use super::counters::count;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::run_queue::RunQueue;
use super::state::{ROOT, State, Wakeup, Why};

/// How many switches ahead the frames of a suspended green thread are fetched,
/// and its block, which says where they are. In a crowd all of them are cold: with
/// 10 000 a switch takes 20 ns, and without this several hundred, because each
/// frame that returns waits for memory. Fewer than these need no help.
const AHEAD: usize = 4;
const FAR_AHEAD: usize = 8;

impl Hub {
    /// Takes a green thread from the run queue that may run before the loop looks
    /// at the kernel again.
    #[inline(always)]
    fn next_green_thread(&self) -> Option<u32> {
        let mut run_queue = self.run_queue.borrow_mut();
        let next = run_queue.pop_if(|next| self.may_be_entered(next))?;
        if run_queue.len() > FAR_AHEAD {
            self.prefetch(&run_queue);
        }
        Some(next)
    }

    /// As [`next_green_thread`](Self::next_green_thread), with the running one put
    /// at the end of the run queue if there is one.
    #[inline(always)]
    fn exchange_for_next(&self, index: u32) -> Option<u32> {
        let mut run_queue = self.run_queue.borrow_mut();
        let next = run_queue.exchange(index, |next| self.may_be_entered(next))?;
        if run_queue.len() > FAR_AHEAD {
            self.prefetch(&run_queue);
        }
        Some(next)
    }

    #[inline(always)]
    fn may_be_entered(&self, next: u32) -> bool {
        next != ROOT && self.spend()
    }

    /// Has what the next ones will look at brought into the cache.
    #[inline(never)]
    fn prefetch(&self, run_queue: &RunQueue) {
        if let Some(index) = run_queue.get(AHEAD) {
            self.table.get(index).slot.coroutine.prefetch();
        }
        if let Some(index) = run_queue.get(FAR_AHEAD) {
            self.table.get(index).prefetch();
        }
    }

    /// The index and the block of what runs.
    #[inline]
    pub(super) fn running(&self) -> (u32, &GreenThread) {
        // SAFETY: a block of our table, which keeps it where it is.
        (self.current.get(), unsafe { &*self.running.get() })
    }

    /// Notes what runs from now on.
    #[inline]
    pub(super) fn set_running(&self, index: u32, block: &GreenThread) {
        self.current.set(index);
        self.running.set(block);
    }

    /// Notes that a green thread runs from now on.
    #[inline]
    fn enter<'a>(&self, index: u32, block: &'a GreenThread) -> &'a GreenThread {
        block.slot.state.set(State::Running);
        self.set_running(index, block);
        count(&self.counters.switches);
        if self.watched.is_some() {
            self.note_green_thread(block);
        }
        block
    }

    /// Runs one green thread until it suspends.
    #[inline]
    pub(super) fn resume(&self, index: u32) {
        let block = self.enter(index, self.table.get(index));
        // SAFETY: what is in the run queue is ready: started, alive, not running.
        let finished = unsafe { block.resume() };
        let index = self.current.get();
        self.set_running(ROOT, self.table.get(ROOT));
        if let Some(stack) = finished {
            self.stacks.borrow_mut().give_back(stack);
            self.table.give_back(index);
            self.live.set(self.live.get() - 1);
            if self.live.get() == 0 && self.ending.get() {
                self.unpark_root(Why::HubEnd);
            }
        }
    }

    /// Leaves the running context, whose state says why, and returns when it
    /// runs again.
    #[inline(always)]
    pub(super) fn switch_away(&self, index: u32, block: &GreenThread) {
        let next = match index {
            ROOT => None,
            _ => self.next_green_thread(),
        };
        self.switch_to(next, index, block);
    }

    /// As [`switch_away`](Self::switch_away), when it is settled who is next: a
    /// green thread, or else the loop.
    #[inline(always)]
    fn switch_to(&self, next: Option<u32>, index: u32, block: &GreenThread) {
        debug_assert_ne!(block.slot.state.get(), State::Running);
        block.slot.since.set(self.moment.get());
        if self.is_calm() {
            block.slot.calm.set(true);
            if block.slot.attention.get() != 0 {
                Hub::note_calm_suspension(block);
            }
            self.leave(next, index, block);
        } else {
            self.switch_in_a_storm(next, index, block);
        }
        debug_assert_eq!(self.current.get(), index);
    }

    #[cold]
    #[inline(never)]
    fn switch_in_a_storm(&self, next: Option<u32>, index: u32, block: &GreenThread) {
        let storm = self.note_suspension(block);
        self.leave(next, index, block);
        if let Some(storm) = storm {
            self.note_resumption(storm);
        }
    }

    #[inline(always)]
    fn leave(&self, next: Option<u32>, index: u32, block: &GreenThread) {
        if let Some(next) = next {
            debug_assert!(index != ROOT && index != next);
            let next = self.enter(next, self.table.get(next));
            // SAFETY: the block of the running context, which is no root, and that
            // of another green thread, which is ready.
            unsafe { block.pass_to(next) };
        } else if index == ROOT {
            self.run_until_root_is_ready();
            block.slot.state.set(State::Running);
        } else {
            // SAFETY: the block of the running context, which is no root.
            unsafe { block.suspend() };
        }
    }

    /// Gives every other ready context a turn.
    pub(super) fn yield_now(&self) {
        let (index, block) = self.running();
        self.yield_as(index, block, Wakeup::Unparked);
    }

    /// As [`yield_now`](Self::yield_now); whoever looks at the caller's wait
    /// meanwhile sees that it has ended so.
    #[inline(always)]
    pub(super) fn yield_as(&self, index: u32, block: &GreenThread, wakeup: Wakeup) {
        block.slot.state.set(State::Ready);
        block.slot.wakeup.set(Some(wakeup));
        let next = match index {
            ROOT => None,
            _ => self.exchange_for_next(index),
        };
        if next.is_none() {
            self.run_queue.borrow_mut().push_last(index);
        }
        self.switch_to(next, index, block);
    }
}

/// Gives every other ready green thread of the hub a turn. The verdict is
/// `Unparked`, or `Interrupted`.
pub(crate) fn yield_now() -> Wakeup {
    current::with(|context| match context {
        Context::Hub(hub) => {
            hub.check_process();
            let (index, block) = hub.running();
            hub.yield_as(index, block, Wakeup::Unparked);
            if hub.is_interrupted(block) {
                Wakeup::Interrupted
            } else {
                Wakeup::Unparked
            }
        }
        Context::Bare | Context::Ended => {
            std::thread::yield_now();
            Wakeup::Unparked
        }
    })
}
