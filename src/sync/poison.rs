//! Whether somebody has panicked while holding a lock.
//!
//! The rules are std's, but std counts panics per OS thread, and green threads
//! share theirs. What counts here is what is known of the green thread itself:
//!
//! 1. An interrupt is no panic and poisons nothing, whatever panics and is caught
//!    in the destructors that it runs. (If a `catch_unwind` has swallowed it, a
//!    panic before the next wait is taken for a part of it.)
//! 2. A guard taken while anybody on the OS thread unwinds does not poison.
//! 3. While a sibling is suspended in the middle of unwinding, nobody can tell
//!    whose panic it is, and nothing is poisoned.

use std::sync::{LockResult, PoisonError};

use crate::atomic::{AtomicBool, Ordering};
use crate::hub;

/// The mark on a lock. The lock itself orders what is read and written here.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

/// What is known when a guard is taken, and asked for when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    while_unwinding: bool,
}

impl Flag {
    pub(super) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Says what a new guard has to remember.
    #[inline]
    pub(super) fn take(&self) -> Taken {
        Taken {
            while_unwinding: std::thread::panicking(),
        }
    }

    /// Sets the mark if the holder of this guard, which is dropped, panics.
    #[inline]
    pub(super) fn done(&self, taken: &Taken) {
        if !taken.while_unwinding && hub::is_panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// What is handed to the user: an error if the mark is set.
    #[inline]
    pub(super) fn wrap<G>(&self, guarded: G) -> LockResult<G> {
        if self.is_set() {
            Err(PoisonError::new(guarded))
        } else {
            Ok(guarded)
        }
    }
}
