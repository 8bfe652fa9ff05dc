//! Who holds something that only one can hold: so that whoever waits for itself
//! is told, instead of waiting for ever.

use std::any::type_name;

use crate::atomic::{AtomicU64, Ordering};
use crate::hub;

/// The id of the holder; zero if there is none.
///
/// A holder compares it with its own id only, which it has written itself, and
/// guards do not leave their OS thread. So no order between OS threads is needed.
#[derive(Debug)]
pub(super) struct Owner(AtomicU64);

impl Owner {
    pub(super) const fn none() -> Owner {
        Owner(AtomicU64::new(0))
    }

    /// Makes the caller the holder.
    #[inline]
    pub(super) fn set(&self) {
        self.0.store(hub::current_id(), Ordering::Relaxed);
    }

    /// Called before the lock is released, by whoever drops the guard.
    #[inline]
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Refuses to let the holder wait for itself.
    ///
    /// # Panics
    ///
    /// The caller is the holder.
    #[track_caller]
    pub(super) fn refuse_self<T: ?Sized>(&self, what: &str, subject: &T) {
        if self.0.load(Ordering::Relaxed) != hub::current_id() {
            return;
        }
        let caller = hub::current();
        let caller = caller.identity();
        panic!(
            "{} {} (id {}) would wait for itself: it {what} {} at {:p} already",
            if hub::is_green() {
                "green thread"
            } else {
                "OS thread"
            },
            caller.name().unwrap_or("unnamed"),
            caller.id(),
            type_name::<T>(),
            std::ptr::from_ref(subject).cast::<()>(),
        );
    }
}
