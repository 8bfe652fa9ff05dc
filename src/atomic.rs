//! The atomics and locks of the protocols that cross OS threads.
//!
//! They come through here so that `tests/loom.rs` can compile the same files
//! against loom's, which tries every interleaving.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::sync::{Mutex, MutexGuard};

use std::hint;
use std::sync::PoisonError;

/// How long the first while of [`lock_in_demand`] is, a few items, and the last,
/// a few microseconds: more than anybody holds such a lock who is running.
const FEWEST_PAUSES: u32 = 4;
const MOST_PAUSES: u32 = 128;

/// Locks; a panic of somebody who held the lock is not our business, because
/// nothing of the user's runs under our locks.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks what two OS threads may want for every item that passes between them.
///
/// Who finds it taken comes back after a while, each time a longer one, until it
/// waits for good. Meanwhile the other is not disturbed and does many items in a
/// row; by turns, each would wait for the other's cache for each of them.
#[inline]
pub(crate) fn lock_in_demand<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(_) => lock_after_a_while(mutex),
    }
}

#[cold]
fn lock_after_a_while<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let mut pauses = FEWEST_PAUSES;
    while pauses <= MOST_PAUSES {
        (0..pauses).for_each(|_| hint::spin_loop());
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
        pauses *= 2;
    }
    lock(mutex)
}
