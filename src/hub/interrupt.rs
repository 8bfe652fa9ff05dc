//! Interrupts: the mechanics of cancellation and of time limits.
//!
//! Two things interrupt: a cancellation, which is a mark on a green thread that
//! stays until it ends, and a time limit, an [`Edge`] on the frame that set it,
//! which is due once its deadline has passed and until that frame is left.
//! Whatever parks or performs looks at both and comes back with the verdict
//! `Interrupted`; the floor above asks [`pending`] which it is and raises it.
//! A wait that is already going on is ended: a parked green thread is made
//! ready, an operation is cancelled and drained. Shields and unwinding hold the
//! verdict back, not its cause.
//!
//! A time limit has no timer of its own: a context waits for one thing at a
//! time, so its one deadline in the hub's wheel is the nearest of what the wait
//! asks for and the limits around it. A limit inside which nothing waits costs
//! a push and a pop.
//!
//! 1. Of several limits that are due the outermost is raised, and a cancellation
//!    before all of them, because it lies outside of all.
//! 2. A shield hides the limits around it and the cancellation; limits set
//!    inside of it work.
//! 3. While anybody on the OS thread unwinds, what cannot be known not to be the
//!    one is shielded: std counts panics per OS thread, and an interrupt that
//!    unwound the wrong one would abort the process.

use std::ptr;
use std::time::Instant;

use super::Hub;
use super::current::{self, Context};
use super::extras::Edge;
use super::green_thread::{CANCELLED, GreenThread, LIMITED};
use super::inbox::Mail;
use super::record::Identity;
use super::state::{ROOT, State, Wakeup};

/// Names a time limit of a context; no other one ever has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EdgeKey {
    context: u64,
    number: u64,
}

/// What interrupts the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Cancelled,
    Overdue(EdgeKey),
}

impl Hub {
    /// Whether nobody on the OS thread unwinds, nor did when a context was last
    /// suspended.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.unwinding.get() == 0 && !std::thread::panicking()
    }

    /// Called when the running context, which something may interrupt, is about to
    /// be suspended while nobody unwinds.
    pub(super) fn note_calm_suspension(block: &GreenThread) {
        if let Some(extras) = block.extras() {
            // An interrupt that was raised before was swallowed.
            extras.raised.set(false);
        }
    }

    /// Called when the running context is about to be suspended and it is not calm.
    /// If anybody on the OS thread unwinds then, it gives the number of that time,
    /// for [`note_resumption`](Self::note_resumption).
    pub(super) fn note_suspension(&self, block: &GreenThread) -> Option<u32> {
        let calm = !std::thread::panicking();
        block.slot.calm.set(calm);
        if calm {
            if block.slot.attention.get() != 0 {
                Hub::note_calm_suspension(block);
            }
            // Nobody unwinds any more, whoever was suspended meanwhile.
            self.unwinding.set(0);
            self.storms.set(self.storms.get().wrapping_add(1));
            return None;
        }
        self.unwinding.set(self.unwinding.get() + 1);
        Some(self.storms.get())
    }

    pub(super) fn note_resumption(&self, storm: u32) {
        if self.storms.get() == storm {
            self.unwinding.set(self.unwinding.get() - 1);
        }
    }

    /// Whether an interrupt is to be delivered to the running context.
    #[inline]
    pub(super) fn is_interrupted(&self, block: &GreenThread) -> bool {
        block.slot.attention.get() != 0 && self.is_due(block)
    }

    #[cold]
    fn is_due(&self, block: &GreenThread) -> bool {
        if self.what_is_due(block).is_none() {
            return false;
        }
        let unwinds = std::thread::panicking();
        if unwinds {
            self.deferred.set(true);
        }
        !unwinds
    }

    fn what_is_due(&self, block: &GreenThread) -> Option<Interrupt> {
        let slot = &block.slot;
        if slot.attention.get() & CANCELLED != 0 && !slot.shielded.get() {
            return Some(Interrupt::Cancelled);
        }
        if slot.attention.get() & LIMITED == 0 {
            return None;
        }
        let extras = block.extras()?;
        let now = self.nanoseconds(Instant::now());
        let due = extras.edges().filter(|edge| edge.deadline <= now).last()?;
        Some(Interrupt::Overdue(EdgeKey {
            context: slot.id.get(),
            number: due.number,
        }))
    }

    /// The nearest time limit that may interrupt a wait which begins now.
    #[inline]
    pub(super) fn limit(&self, block: &GreenThread) -> u64 {
        let limit = block.nearest_limit();
        if limit != u64::MAX && std::thread::panicking() {
            self.deferred.set(true);
            return u64::MAX;
        }
        limit
    }

    /// Whether a wait whose deadline in the wheel has passed has reached its own,
    /// and not only a limit around it.
    pub(super) fn has_passed(&self, own: u64) -> bool {
        own <= self.nanoseconds(Instant::now())
    }

    /// Cancels a green thread: at its present wait, or at its next.
    ///
    /// One that was suspended while nobody unwound does not unwind itself,
    /// whoever does now.
    pub(super) fn interrupt(&self, index: u32, block: &GreenThread) {
        let slot = &block.slot;
        slot.attention.set(slot.attention.get() | CANCELLED);
        if slot.shielded.get() {
            return;
        }
        match slot.state.get() {
            State::Parked(_) | State::Performing if !slot.calm.get() => self.deferred.set(true),
            State::Parked(_) => self.make_ready(index, block, Wakeup::Interrupted),
            State::Performing if slot.wakeup.get().is_none() => {
                self.end_operation(index, block, Wakeup::Interrupted);
            }
            State::Performing | State::Free | State::Ready | State::Completed | State::Running => {}
        }
    }

    /// Cancels the green thread with this id, if it is still alive.
    pub(super) fn cancel(&self, index: u32, id: u64) {
        let Some(block) = self.table.find(index) else {
            return;
        };
        if block.slot.id.get() == id && block.slot.state.get() != State::Free {
            self.interrupt(index, block);
        }
    }

    /// Delivers what was held back, once nobody unwinds any more.
    pub(super) fn deliver_if_deferred(&self) {
        if self.deferred.get() && !std::thread::panicking() {
            self.deferred.set(false);
            self.deliver_deferred();
        }
    }

    #[cold]
    fn deliver_deferred(&self) {
        let root = (ROOT, self.table.get(ROOT));
        for (index, block) in std::iter::once(root).chain(self.table.alive()) {
            let slot = &block.slot;
            if slot.attention.get() == 0 {
                continue;
            }
            // Nobody unwinds any more.
            slot.calm.set(true);
            if slot.attention.get() & CANCELLED != 0 {
                self.interrupt(index, block);
            }
            let limit = block.nearest_limit();
            if limit != u64::MAX && matches!(slot.state.get(), State::Parked(_) | State::Performing)
            {
                self.timers.borrow_mut().arm_before(index, limit);
            }
        }
    }
}

/// Cancels a green thread, from any OS thread. One that has ended takes no
/// notice.
pub(crate) fn cancel(identity: &Identity) {
    let home = identity.home().expect("an OS thread is not cancelled");
    let (index, id) = (home.index, identity.id().get());
    current::with(|context| match context {
        // The green thread is not here, and the ring is not either.
        Context::Hub(hub) if hub.is_forked_child() => {}
        Context::Hub(hub) if hub.inbox.is(home) => hub.cancel(index, id),
        _ => home.send(Mail::Cancel { index, id }),
    });
}

/// Whether the calling green thread was cancelled before it first ran.
pub(crate) fn is_cancelled_before_start() -> bool {
    with_block(|_, block| block.slot.attention.get() & CANCELLED != 0).unwrap_or(false)
}

/// Whether the caller was cancelled, shielded or not, or is past a time limit.
pub(crate) fn is_cancelled() -> bool {
    with_block(|hub, block| {
        let attention = block.slot.attention.get();
        attention & CANCELLED != 0 || attention != 0 && hub.what_is_due(block).is_some()
    })
    .unwrap_or(false)
}

/// Whether the caller's next wait would be interrupted.
pub(crate) fn is_interrupted() -> bool {
    with_block(Hub::is_interrupted).unwrap_or(false)
}

/// What interrupts the caller, unless it is shielded.
pub(crate) fn pending() -> Option<Interrupt> {
    with_block(|hub, block| hub.what_is_due(block)).flatten()
}

/// Says that the caller is about to unwind by an interrupt.
pub(crate) fn note_interrupt() {
    note_raised(true);
    with_block(|_, block| {
        if let Some(extras) = block.extras() {
            extras.interrupts.set(extras.interrupts.get() + 1);
        }
    });
}

/// How often the caller was interrupted up to now, each time that a waiting call
/// raised it counted.
pub(crate) fn interrupts() -> u64 {
    with_block(|_, block| block.extras().map_or(0, |extras| extras.interrupts.get())).unwrap_or(0)
}

/// Says that the caller's interrupt was caught at its edge.
pub(crate) fn note_no_interrupt() {
    note_raised(false);
}

fn note_raised(raised: bool) {
    with_block(|_, block| {
        if let Some(extras) = block.extras() {
            extras.raised.set(raised);
        }
    });
}

/// Whether the caller unwinds by a panic, for all that can be known: an
/// interrupt is none, and while a sibling is suspended in the middle of
/// unwinding nobody can tell (std counts panics per OS thread).
#[inline]
pub(crate) fn is_panicking() -> bool {
    std::thread::panicking() && is_panicking_itself()
}

#[cold]
fn is_panicking_itself() -> bool {
    with_block(|hub, block| {
        let raised = block.extras().is_some_and(|extras| extras.raised.get());
        !raised && hub.unwinding.get() == 0
    })
    .unwrap_or(true)
}

/// Runs `f` under a time limit: from `deadline` on, whatever waits in it is
/// interrupted. `None` is a deadline that never comes.
///
/// Starts a hub if there is none, because a limit is its business. On an OS
/// thread whose hub has ended nothing can interrupt `f`.
///
/// # Errors
///
/// The hub cannot be started.
pub(crate) fn limited<R>(
    deadline: Option<Instant>,
    f: impl FnOnce(EdgeKey) -> R,
) -> std::io::Result<R> {
    /// Takes the limit out of force when its frame is left.
    struct Limit(*const Edge);

    impl Drop for Limit {
        fn drop(&mut self) {
            set_edge(self.0);
        }
    }

    let prepared = current::with_started(|context| match context {
        Context::Hub(hub) => {
            let block = hub.running().1;
            let extras = block.extras().expect("who runs has extras");
            let number = extras.edges.get() + 1;
            extras.edges.set(number);
            let deadline = deadline.map_or(u64::MAX, |deadline| hub.nanoseconds(deadline));
            let key = EdgeKey {
                context: block.slot.id.get(),
                number,
            };
            let edge = Edge {
                deadline,
                nearest: deadline.min(extras.nearest()),
                number,
                outer: extras.edge.get(),
            };
            (key, edge)
        }
        Context::Bare | Context::Ended => {
            let nobody = EdgeKey {
                context: 0,
                number: 0,
            };
            let edge = Edge {
                deadline: u64::MAX,
                nearest: u64::MAX,
                number: 0,
                outer: ptr::null(),
            };
            (nobody, edge)
        }
    });
    let (key, edge) = prepared?;
    set_edge(&raw const edge);
    let _limit = Limit(edge.outer);
    Ok(f(key))
}

/// Makes `edge` the innermost limit of the caller.
fn set_edge(edge: *const Edge) -> *const Edge {
    with_block(|_, block| {
        let slot = &block.slot;
        let limited = if edge.is_null() { 0 } else { LIMITED };
        slot.attention
            .set(slot.attention.get() & !LIMITED | limited);
        let extras = block.extras().expect("who runs has extras");
        extras.edge.replace(edge)
    })
    .unwrap_or(ptr::null())
}

/// Holds the caller's cancellation and the time limits around it back while
/// `f` runs.
pub(crate) fn shielded<R>(f: impl FnOnce() -> R) -> R {
    /// What was in force outside; in force again when the shield is dropped.
    struct Shield {
        was_shielded: bool,
        edge: *const Edge,
    }

    impl Drop for Shield {
        fn drop(&mut self) {
            set_shielded(self.was_shielded);
            set_edge(self.edge);
        }
    }

    fn set_shielded(shielded: bool) -> bool {
        with_block(|_, block| block.slot.shielded.replace(shielded)).unwrap_or(false)
    }

    let _shield = Shield {
        was_shielded: set_shielded(true),
        edge: set_edge(ptr::null()),
    };
    f()
}

/// Looks at the block of the calling context, if it runs on a hub.
fn with_block<R>(look: impl FnOnce(&Hub, &GreenThread) -> R) -> Option<R> {
    current::with(|context| match context {
        Context::Hub(hub) => Some(look(hub, hub.running().1)),
        Context::Bare | Context::Ended => None,
    })
}
