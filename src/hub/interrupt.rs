//! Interrupts: the mechanics of cancellation.
//!
//! An interrupt is a mark on a green thread that stays until it ends. Whatever
//! parks or performs looks at the mark and comes back with the verdict
//! `Cancelled`; the floor above raises it. A wait that is already going on is
//! ended: a parked green thread is made ready, an operation is cancelled and
//! drained. Shields and unwinding hold the verdict back, not the mark.

use super::Hub;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::state::{Ending, State, Wakeup};

impl Hub {
    /// Whether an interrupt is to be delivered to the running context.
    ///
    /// std counts panics per OS thread. A green thread that parks in a `Drop`
    /// while it unwinds makes its siblings see `panicking()`, and nobody can
    /// tell whose panic it is: an interrupt that unwound the wrong one would
    /// abort the process. So while anybody unwinds, what runs is shielded.
    #[inline]
    pub(super) fn is_interruptible(&self, block: &GreenThread) -> bool {
        if !block.slot.interrupted.get() || block.slot.shields.get() > 0 {
            return false;
        }
        let unwinds = std::thread::panicking();
        if unwinds {
            self.deferred.set(true);
        }
        !unwinds
    }

    /// Interrupts a green thread: at its present wait, or at its next.
    ///
    /// One that was suspended while nobody unwound does not unwind itself,
    /// whoever does now.
    pub(super) fn interrupt(&self, index: u32, block: &GreenThread) {
        let slot = &block.slot;
        slot.interrupted.set(true);
        if slot.shields.get() > 0 {
            return;
        }
        match slot.state.get() {
            State::Parked(_) | State::Performing if !slot.calm.get() => self.deferred.set(true),
            State::Parked(_) => self.make_ready(index, block, Wakeup::Cancelled),
            State::Performing if slot.ending.get() == Ending::None => {
                self.end_operation(index, block, Ending::Interrupted);
            }
            State::Performing | State::Free | State::Ready | State::Running => {}
        }
    }

    /// Delivers the interrupts that were held back while somebody unwound.
    #[cold]
    fn deliver_deferred(&self) {
        for (index, block) in self.table.alive() {
            if block.slot.interrupted.get() {
                // Nobody unwinds any more.
                block.slot.calm.set(true);
                self.interrupt(index, block);
            }
        }
    }

    /// Delivers what was held back, once nobody unwinds any more.
    pub(super) fn deliver_if_deferred(&self) {
        if self.deferred.get() && !std::thread::panicking() {
            self.deferred.set(false);
            self.deliver_deferred();
        }
    }
}

/// Whether the calling green thread was interrupted before it first ran.
pub(crate) fn is_cancelled_before_start() -> bool {
    current::with(|context| match context {
        Context::Hub(hub) => hub.table.get(hub.current.get()).slot.interrupted.get(),
        Context::Bare | Context::Ended => false,
    })
}

/// Holds interrupts of the calling green thread back while `f` runs.
pub(crate) fn shielded<R>(f: impl FnOnce() -> R) -> R {
    /// Takes the shield down also when `f` unwinds.
    struct Shield;

    impl Shield {
        fn change(by: impl FnOnce(u32) -> u32) {
            current::with(|context| {
                if let Context::Hub(hub) = context {
                    let shields = &hub.table.get(hub.current.get()).slot.shields;
                    shields.set(by(shields.get()));
                }
            });
        }
    }

    impl Drop for Shield {
        fn drop(&mut self) {
            Shield::change(|shields| shields - 1);
        }
    }

    Shield::change(|shields| shields + 1);
    let _shield = Shield;
    f()
}
