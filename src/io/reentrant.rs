//! A lock that its holder may take again: one green thread, or OS thread, has
//! it at a time, as often as it likes.
//!
//! It is a [`Mutex`] whose guard lies beside it while anybody has the lock. The
//! holder's id says who may reach for that guard; it is an id that is never
//! reused, and a holder compares only its own with it, which it has written
//! itself.

#![allow(unsafe_code)] // Shares what only the lock's holder touches.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, TryLockError};

use crate::hub;
use crate::sync::{Mutex, MutexGuard};

/// A value for whoever holds the lock, which is a static's.
pub(super) struct Reentrant<T: 'static> {
    mutex: Mutex<T>,
    /// The id of the holder; 0 if there is none.
    owner: AtomicU64,
    /// The id of the holder's OS thread, never reused; 0 if there is none.
    os_thread: AtomicU64,
    /// Guards that exist. The holder's OS thread alone touches it, and `held`.
    depth: Cell<usize>,
    held: RefCell<Option<MutexGuard<'static, T>>>,
    /// Makes another value, for who prints when the value is lost, see
    /// [`Hold::with`].
    spare: fn() -> T,
}

// SAFETY: a lock that moves is held by nobody: guards borrow it for ever.
unsafe impl<T: Send> Send for Reentrant<T> {}
// SAFETY: the value goes from one OS thread to another only with the mutex.
// `depth` and `held` are touched by the OS thread of the mutex's holder only: by
// `begin` when it has just locked, by `again` and `at_exit` when the owner's id or
// OS thread is the caller's own, which it has written itself, and by guards, which do not leave their OS thread. The mutex orders one
// holder's accesses before the next one's: `held` is empty before it is released.
unsafe impl<T: Send> Sync for Reentrant<T> {}

/// One of perhaps several holds of a [`Reentrant`], all of one OS thread's.
pub(super) struct Hold<T: 'static> {
    lock: &'static Reentrant<T>,
    not_send: PhantomData<*const ()>,
}

impl<T> Reentrant<T> {
    pub(super) const fn new(value: T, spare: fn() -> T) -> Reentrant<T> {
        Reentrant {
            mutex: Mutex::new(value),
            owner: AtomicU64::new(0),
            os_thread: AtomicU64::new(0),
            depth: Cell::new(0),
            held: RefCell::new(None),
            spare,
        }
    }

    /// Locks, waiting until nobody else holds the lock.
    pub(super) fn lock(&'static self) -> Hold<T> {
        match self.again() {
            Some(hold) => hold,
            // A panic of whoever held the lock is nothing to those who print.
            None => self.begin(self.mutex.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Gives `work` the value for the last time, when the process ends; unless
    /// another OS thread holds the lock, or somebody is in the middle of working
    /// with the value.
    ///
    /// Of the caller's OS thread nobody else will ever run again, whoever holds
    /// the lock there. By now the hub is gone, so nobody is known by an id.
    pub(super) fn at_exit(&'static self, work: impl FnOnce(&mut T)) {
        if self.os_thread.load(Ordering::Relaxed) == hub::os_thread_id().get() {
            if let Ok(mut held) = self.held.try_borrow_mut()
                && let Some(value) = held.as_mut()
            {
                work(value);
            }
            return;
        }
        match self.mutex.try_lock() {
            Ok(mut value) => work(&mut value),
            Err(TryLockError::Poisoned(error)) => work(&mut error.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Another hold, if the caller has one, or a green thread of this OS thread
    /// that will never run again because the hub has ended.
    fn again(&'static self) -> Option<Hold<T>> {
        let is_own = self.owner.load(Ordering::Relaxed) == hub::current_id();
        let is_left = || {
            self.os_thread.load(Ordering::Relaxed) == hub::os_thread_id().get() && !hub::has_hub()
        };
        (is_own || is_left()).then(|| {
            self.depth.set(self.depth.get() + 1);
            self.hold()
        })
    }

    /// The first hold.
    fn begin(&'static self, guard: MutexGuard<'static, T>) -> Hold<T> {
        self.owner.store(hub::current_id(), Ordering::Relaxed);
        self.os_thread
            .store(hub::os_thread_id().get(), Ordering::Relaxed);
        self.depth.set(1);
        *self.held.borrow_mut() = Some(guard);
        self.hold()
    }

    fn hold(&'static self) -> Hold<T> {
        Hold {
            lock: self,
            not_send: PhantomData,
        }
    }
}

impl<T> Hold<T> {
    /// Gives `work` the value; or a spare one, if the hub has ended in the middle
    /// of a green thread's work with it, which will never go on.
    ///
    /// # Panics
    ///
    /// The hold was taken to another green thread, which works with the value
    /// at this moment.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        match self.lock.held.try_borrow_mut() {
            Ok(mut held) => work(held.as_mut().expect("a hold exists")),
            Err(_) if !hub::has_hub() => work(&mut (self.lock.spare)()),
            Err(error) => panic!("a green thread prints with the lock of another: {error}"),
        }
    }
}

impl<T> Drop for Hold<T> {
    fn drop(&mut self) {
        let depth = self.lock.depth.get() - 1;
        self.lock.depth.set(depth);
        if depth == 0 {
            self.lock.owner.store(0, Ordering::Relaxed);
            self.lock.os_thread.store(0, Ordering::Relaxed);
            let guard = self.lock.held.take();
            // The next holder may come as soon as this is dropped.
            drop(guard);
        }
    }
}
