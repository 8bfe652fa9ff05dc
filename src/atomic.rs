//! The atomics and locks of the protocols that cross OS threads.
//!
//! They come through here so that `tests/loom.rs` can compile the same files
//! against loom's, which tries every interleaving.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
pub(crate) use std::sync::{Mutex, MutexGuard};

use std::sync::PoisonError;

/// Locks; a panic of somebody who held the lock is not our business, because
/// nothing of the user's runs under our locks.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
