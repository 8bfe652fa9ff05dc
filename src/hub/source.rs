//! Sources: operations that go on after a completion.
//!
//! One submission makes the kernel hand over buffer after buffer of what comes
//! in on a descriptor (multishot receive), whether anybody waits or not. So a
//! source outlives every call: it has a slot in the hub's table of sources,
//! its memory is the [buffers](crate::backend::LentBuffer) that the kernel chooses from and
//! nobody's frame, and a wait for it is an ordinary park, which a deadline or an
//! interrupt ends at once and without loss: what comes later is queued.
//!
//! - **Armed** is a source from its submission to the completion that says that
//!   no more will follow. It is armed by a caller who finds nothing queued.
//! - **Back-pressure**: with [`MOST_AHEAD`] buffers or [`MOST_BYTES_AHEAD`] queued
//!   its operation is cancelled, and armed again when they have been taken.
//! - **Starved** is a source that found no buffer (ENOBUFS). There are more then
//!   if the limit allows it. Else its caller lets those run who may hold some, and
//!   if there is none then either receives into memory of its own: that ends,
//!   even if all who hold buffers wait for each other. In one turn no more
//!   sources are armed after that than there are buffers: each of them would only
//!   come to learn the same.
//! - **Stopped** it is before it is dropped: cancelled, and entered for until its
//!   last completion is there. Without that no FIN would leave when the socket is
//!   closed, because the kernel holds the file for as long.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::Hub;
use super::counters::count;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::inbox::Home;
use super::perform::{Limit, is_cut_short};
use super::state::{ROOT, State, Wakeup, Why};
use crate::backend::{Completion, Filled, Key, LentBuffer, Operation, Submitted};

/// Buffers that a source has queued when it is stopped for a while.
const MOST_AHEAD: usize = 16;

/// Bytes in them, which is about what a socket queues itself.
const MOST_BYTES_AHEAD: usize = 256 << 10;

/// How long a stop waits for the last completion before it cancels again.
const PATIENCE: Duration = Duration::from_millis(1);

/// What a caller gets of a source.
#[derive(Debug)]
pub(crate) enum Received {
    /// The next bytes.
    Lent(LentBuffer),
    /// What the operation has ended with: 0 where nothing more comes, or a
    /// negated errno. It was told once; the next call asks anew.
    End(i32),
    /// There is no buffer: the caller has to receive by other means this time.
    Starved,
    /// Its hub has ended, and what was queued has been taken.
    Gone,
    TimedOut,
    Interrupted,
}

/// An operation that goes on, and what it has brought. Lives on one OS thread.
pub(crate) struct Source(Rc<Slot>);

/// What the hub knows of a source.
struct Slot {
    /// Where it lives: the hub, and the index in its table.
    home: Home,
    operation: Operation<'static>,
    filled: Filled,
    /// The kernel owes a last completion.
    armed: Cell<bool>,
    /// It was cancelled.
    stopping: Cell<bool>,
    /// It stands in the list of those to be stopped.
    listed: Cell<bool>,
    starved: Cell<bool>,
    /// What it has ended with, if that is to be told.
    end: Cell<Option<i32>>,
    /// Counts the operations.
    generation: Cell<u32>,
    /// The latest wait for it: of whom, and its number.
    waiter: Cell<(u32, u64)>,
}

impl Slot {
    fn key(&self) -> Key {
        Key::of_source(self.home.index, self.generation.get())
    }

    /// What was brought and has not been taken: bytes, then the end.
    fn take_queued(&self) -> Option<Received> {
        let lent = self.filled.pop().map(Received::Lent);
        lent.or_else(|| self.end.take().map(Received::End))
    }
}

/// The sources of one hub.
#[derive(Default)]
pub(super) struct Sources {
    slots: RefCell<Slab<Rc<Slot>>>,
    /// Those that have read too far ahead: completions are collected while the
    /// backend cannot be asked to cancel.
    ahead: RefCell<Vec<Rc<Slot>>>,
    /// Sources that were starved, armed again in this turn.
    rearmed: Cell<usize>,
    /// Those that are armed.
    armed: Cell<usize>,
    /// Contexts that are parked until one brings something.
    waiting: Cell<usize>,
    /// How often one found no buffer.
    pub(super) starved: Cell<u64>,
    /// How often one had read too far ahead.
    pub(super) held_back: Cell<u64>,
}

impl Sources {
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Operations in flight whose completion nobody waits for.
    #[inline]
    pub(super) fn unheeded(&self) -> usize {
        self.armed.get().saturating_sub(self.waiting.get())
    }
}

impl Source {
    /// Makes a source of an operation that goes on; `None` where the backend has
    /// none, or there is no hub.
    pub(crate) fn open(operation: Operation<'static>) -> Option<Source> {
        current::with(|context| {
            let Context::Hub(hub) = context else {
                return None;
            };
            hub.check_process();
            let filled = hub.backend.borrow_mut().buffers(&operation)?;
            let mut slots = hub.sources.slots.borrow_mut();
            let entry = slots.vacant_entry();
            if entry.key() >= Key::MOST_INDICES {
                return None;
            }
            let slot = Rc::new(Slot {
                home: hub.inbox.home(entry.key() as u32),
                operation,
                filled,
                armed: Cell::new(false),
                stopping: Cell::new(false),
                listed: Cell::new(false),
                starved: Cell::new(false),
                end: Cell::new(None),
                generation: Cell::new(0),
                waiter: Cell::new((ROOT, 0)),
            });
            entry.insert(Rc::clone(&slot));
            Some(Source(slot))
        })
    }

    /// The next bytes, waiting for them within the limit.
    ///
    /// With [`Limit::Now`] the source is stopped, and what it has brought is all
    /// there is: `Starved` then.
    #[inline]
    pub(crate) fn next(&self, limit: Limit) -> Received {
        current::with(|context| match context {
            Context::Hub(hub) if hub.inbox.is(&self.0.home) => hub.next_of(&self.0, limit),
            _ => self.0.take_queued().unwrap_or(Received::Gone),
        })
    }

    /// Ends the operation, and gives what it has brought until then.
    pub(crate) fn close(self) -> impl Iterator<Item = Received> {
        self.stop();
        std::iter::from_fn(move || self.0.take_queued())
    }

    fn stop(&self) {
        current::with(|context| {
            if let Context::Hub(hub) = context
                && hub.inbox.is(&self.0.home)
                // There it is the parent's.
                && !hub.is_forked_child()
            {
                hub.stop(&self.0);
            }
        });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
        current::with(|context| {
            if let Context::Hub(hub) = context
                && hub.inbox.is(&self.0.home)
                && !hub.is_forked_child()
            {
                let mut slots = hub.sources.slots.borrow_mut();
                slots.remove(self.0.home.index as usize);
            }
        });
    }
}

impl Hub {
    /// The next of a source for a caller whom nothing limits: the common case in
    /// one frame.
    #[inline]
    fn next_of(&self, slot: &Slot, limit: Limit) -> Received {
        self.check_process();
        let (index, block) = self.running();
        while limit == Limit::Forever && block.slot.attention.get() == 0 {
            if let Some(buffer) = slot.filled.pop() {
                self.spend_or_yield(buffer.len() as i32);
                return Received::Lent(buffer);
            }
            if !slot.armed.get() || slot.end.get().is_some() {
                break;
            }
            let wait = self.begin_wait(index);
            slot.waiter.set((index, wait));
            let subject = slot.operation.descriptor().fd as usize;
            block.slot.subject.set(subject as *const ());
            block.slot.state.set(State::Parked(Why::Source));
            self.sources.waiting.set(self.sources.waiting.get() + 1);
            self.switch_away(index, block);
            self.sources.waiting.set(self.sources.waiting.get() - 1);
            // A limit that was held back may have been armed meanwhile.
            if block.slot.attention.get() != 0 {
                self.timers.borrow_mut().cancel(index);
            }
        }
        self.next_with_care(index, block, slot, limit)
    }

    #[inline(never)]
    fn next_with_care(
        &self,
        index: u32,
        block: &GreenThread,
        slot: &Slot,
        limit: Limit,
    ) -> Received {
        if limit == Limit::Now {
            // Nor may it yield: see `Hub::poll`.
            self.stop(slot);
            return slot.take_queued().unwrap_or(Received::Starved);
        }
        if self.is_interrupted(block) {
            self.yield_now();
            return Received::Interrupted;
        }
        let mut deadline = None;
        let mut has_yielded = false;
        loop {
            if let Some(buffer) = slot.filled.pop() {
                self.spend_or_yield(buffer.len() as i32);
                return Received::Lent(buffer);
            }
            if let Some(end) = slot.end.take() {
                self.spend_or_yield(0);
                return Received::End(end);
            }
            if !slot.armed.get() && !self.arm_source(slot) {
                // The time of who is limited is not to be spent on others.
                if has_yielded || limit != Limit::Forever || block.slot.attention.get() != 0 {
                    return Received::Starved;
                }
                // Those who are ready may give buffers back.
                has_yielded = true;
                self.yield_now();
                continue;
            }
            if slot.end.get().is_some() {
                continue;
            }
            if let (Limit::Timeout(timeout), None) = (limit, deadline) {
                // One that the clock cannot express is never reached.
                deadline = Instant::now().checked_add(timeout);
            }
            let wait = self.begin_wait(index);
            slot.waiter.set((index, wait));
            let subject = slot.operation.descriptor().fd as usize;
            let waiting = &self.sources.waiting;
            waiting.set(waiting.get() + 1);
            let wakeup = self.park(wait, Why::Source, subject, deadline);
            waiting.set(waiting.get() - 1);
            match wakeup {
                Wakeup::Unparked => {}
                Wakeup::TimedOut => return Received::TimedOut,
                Wakeup::Interrupted => return Received::Interrupted,
                Wakeup::Stuck => unreachable!("an operation is in flight"),
            }
        }
    }

    /// Submits the operation of a source; false if it would find no buffer.
    fn arm_source(&self, slot: &Slot) -> bool {
        if slot.starved.get() {
            let rearmed = self.sources.rearmed.get();
            if rearmed >= slot.filled.buffers().available() {
                return false;
            }
            self.sources.rearmed.set(rearmed + 1);
            slot.starved.set(false);
        }
        slot.generation.set(slot.generation.get().wrapping_add(1));
        // SAFETY: the operation lends nothing; the backend that has buffers to
        // choose from keeps no pointer to it.
        #[allow(unsafe_code)]
        let submitted = unsafe {
            let mut backend = self.backend.borrow_mut();
            backend.submit(&slot.operation, slot.operation, slot.key(), false)
        };
        match submitted {
            Submitted::Pending => {
                slot.armed.set(true);
                self.sources.armed.set(self.sources.armed.get() + 1);
                slot.stopping.set(false);
                self.in_flight.set(self.in_flight.get() + 1);
            }
            Submitted::Done(result) => slot.end.set(Some(result)),
        }
        true
    }

    /// Asks the kernel to end a source's operation.
    fn cancel_source(&self, slot: &Slot) {
        slot.stopping.set(true);
        let mut backend = self.backend.borrow_mut();
        backend.cancel(&slot.operation, slot.key());
    }

    /// Ends a source's operation: its last completion has been collected.
    ///
    /// It enters the kernel without parking, because its caller may be somebody
    /// who unwinds. A receive that waits ends when it is cancelled.
    fn stop(&self, slot: &Slot) {
        let mut patience = Duration::ZERO;
        while slot.armed.get() {
            self.cancel_source(slot);
            self.take_completions(Some(patience));
            patience = PATIENCE;
        }
    }

    /// Ends the operations of all sources, whose owners keep what they brought.
    pub(super) fn stop_sources(&self) {
        let slots = self.sources.slots.borrow();
        let slots: Vec<_> = slots.iter().map(|(_, slot)| Rc::clone(slot)).collect();
        slots.iter().for_each(|slot| self.stop(slot));
    }

    /// Once per turn, when completions have been collected.
    #[inline]
    pub(super) fn hold_sources_back(&self) {
        self.sources.rearmed.set(0);
        if !self.sources.ahead.borrow().is_empty() {
            self.stop_those_ahead();
        }
    }

    #[cold]
    fn stop_those_ahead(&self) {
        for slot in self.sources.ahead.borrow_mut().drain(..) {
            slot.listed.set(false);
            if slot.armed.get() {
                if !slot.stopping.get() {
                    count(&self.sources.held_back);
                }
                self.cancel_source(&slot);
            }
        }
    }

    /// Queues what a completion brings a source, and makes who waits for it ready.
    pub(super) fn complete_source(&self, completion: Completion) {
        let Completion { key, result, .. } = completion;
        let slots = self.sources.slots.borrow();
        let slot = slots
            .get(key.index() as usize)
            .filter(|slot| slot.armed.get() && slot.generation.get() == key.generation());
        let Some(slot) = slot else {
            unreachable!("a source stays in the table until its last completion");
        };
        if let Some(buffer) = completion.buffer {
            slot.filled.push(buffer, result.max(0) as usize);
        }
        if completion.more {
            let is_ahead =
                slot.filled.count() >= MOST_AHEAD || slot.filled.bytes() >= MOST_BYTES_AHEAD;
            // Also if it was cancelled: that may not have been heard.
            if is_ahead && !slot.listed.get() {
                slot.listed.set(true);
                self.sources.ahead.borrow_mut().push(Rc::clone(slot));
            }
        } else {
            slot.armed.set(false);
            self.sources.armed.set(self.sources.armed.get() - 1);
            self.in_flight.set(self.in_flight.get() - 1);
            match -result {
                _ if slot.stopping.get() && is_cut_short(result) => {}
                libc::ENOBUFS => {
                    count(&self.sources.starved);
                    slot.starved.set(!slot.filled.buffers().grow());
                }
                // It has brought something, and ended for a reason of the
                // kernel's, such as a full completion queue.
                ..0 => {}
                _ => slot.end.set(Some(result)),
            }
        }
        let (index, wait) = slot.waiter.get();
        if !self.abandoning.get() {
            self.unpark(index, wait);
        }
    }
}
