//! One permit, a value, and a mark for those who panic while holding it.

#![allow(unsafe_code)] // Lends the value to whoever holds the permit.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::owner::Owner;
use super::permits::Permits;
use super::poison::{Flag, Taken};
use crate::hub::{self, Why};

/// A value that only one green thread, or OS thread, has at a time: as
/// [`std::sync::Mutex`].
///
/// Whoever has to wait parks, and the other green threads of its hub go on. It
/// may be held while waiting for something else.
///
/// On one hub the lock goes to those who wait in the order in which they came.
/// Between hubs, whoever comes while the lock is on its way to another OS thread
/// may be faster, once for each that waits.
///
/// # Poisoning
///
/// As with std, a panic while the lock is held poisons it, and
/// [`lock`](Self::lock) is an error from then on. Only a panic of the green
/// thread that drops the guard counts.
///
/// # Difference from std
///
/// - A green thread that is cancelled, or interrupted by a
///   [`time::timeout`](crate::time::timeout), does not poison what it holds. Nor
///   does one that panics while a sibling waits for something in the middle of
///   unwinding, or with a guard taken then: std counts panics per OS thread, and
///   nobody can tell the two apart.
/// - [`lock`](Self::lock) always panics when the caller holds the lock already.
///   The guard may be dropped by another green thread of the same hub; until
///   then the one that has locked it counts as its holder.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, Mutex};
/// use greenring::thread;
///
/// let sum = Arc::new(Mutex::new(0));
/// let handles: Vec<_> = (1..=10)
///     .map(|n| {
///         let sum = Arc::clone(&sum);
///         thread::spawn(move || {
///             let mut sum = sum.lock().unwrap();
///             thread::yield_now(); // the others wait
///             *sum += n;
///         })
///     })
///     .collect();
/// for handle in handles {
///     handle.join().unwrap();
/// }
/// assert_eq!(*sum.lock().unwrap(), 55);
/// ```
#[repr(C)] // Its address is that of the permit, which is the subject of waits.
pub struct Mutex<T: ?Sized> {
    permit: Permits,
    owner: Owner,
    poison: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the value moves with its lock.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: whoever shares the lock reaches the value with the only permit, one
// at a time, and may take it away to its OS thread.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

/// Access to the value of a locked [`Mutex`]; unlocks it when dropped. As
/// [`std::sync::MutexGuard`].
///
/// It stays on its OS thread, where another green thread may drop it.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Mutex, MutexGuard};
///
/// let mutex = Mutex::new(1);
/// let mut guard: MutexGuard<'_, i32> = mutex.lock().unwrap();
/// *guard += 1;
/// drop(guard);
/// assert_eq!(mutex.into_inner().unwrap(), 2);
/// ```
#[must_use = "if unused the Mutex will immediately unlock"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    mutex: &'a Mutex<T>,
    taken: Taken,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared references to the value only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Mutex;
    ///
    /// static VISITORS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    /// VISITORS.lock().unwrap().push("Ada".to_owned());
    /// ```
    #[inline]
    pub const fn new(t: T) -> Mutex<T> {
        Mutex {
            permit: Permits::new(1),
            owner: Owner::none(),
            poison: Flag::new(),
            value: UnsafeCell::new(t),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, waiting until nobody else holds the lock.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The error has the guard.
    ///
    /// # Panics
    ///
    /// The caller holds the lock already.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Mutex;
    ///
    /// let mutex = Mutex::new(String::new());
    /// mutex.lock().unwrap().push('a');
    /// assert_eq!(*mutex.lock().unwrap(), "a");
    /// ```
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.acquire();
        self.guard()
    }

    /// Locks if nobody holds the lock.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if somebody holds it, perhaps the caller; `Poisoned`, with
    /// the guard, if it is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Mutex, TryLockError};
    ///
    /// let mutex = Mutex::new(1);
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    /// ```
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if !self.permit.try_acquire(1) {
            return Err(TryLockError::WouldBlock);
        }
        self.owner.set();
        Ok(self.guard()?)
    }

    /// Whether the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, Mutex};
    /// use greenring::thread;
    ///
    /// let mutex = Arc::new(Mutex::new(0));
    /// let held = Arc::clone(&mutex);
    /// let handle = thread::spawn(move || {
    ///     let _guard = held.lock().unwrap();
    ///     panic!("on purpose");
    /// });
    /// assert!(handle.join().is_err());
    /// assert!(mutex.is_poisoned());
    /// ```
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Takes the poison off, when the value is known to be sound again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use greenring::sync::{Arc, Mutex};
    /// # use greenring::thread;
    /// # let mutex = Arc::new(Mutex::new(7));
    /// # let held = Arc::clone(&mutex);
    /// # let handle = thread::spawn(move || {
    /// #     let _guard = held.lock().unwrap();
    /// #     panic!("on purpose");
    /// # });
    /// # assert!(handle.join().is_err());
    /// // Somebody has panicked while holding `mutex`.
    /// let guard = mutex.lock().unwrap_or_else(|mut error| {
    ///     **error.get_mut() = 0;
    ///     mutex.clear_poison();
    ///     error.into_inner()
    /// });
    /// assert_eq!(*guard, 0);
    /// assert!(!mutex.is_poisoned());
    /// ```
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The error has the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Mutex;
    ///
    /// assert_eq!(Mutex::new(3).into_inner().unwrap(), 3);
    /// ```
    pub fn into_inner(self) -> LockResult<T>
    where
        T: Sized,
    {
        self.poison.wrap(self.value.into_inner())
    }

    /// The value, without locking: nobody else can reach it.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The error has the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Mutex;
    ///
    /// let mut mutex = Mutex::new(3);
    /// *mutex.get_mut().unwrap() = 4;
    /// assert_eq!(*mutex.lock().unwrap(), 4);
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.wrap(self.value.get_mut())
    }

    /// Takes the permit, and says who has it.
    #[inline]
    #[track_caller]
    fn acquire(&self) {
        if !self.permit.acquire_fast(1) {
            self.acquire_slow();
        }
        self.owner.set();
    }

    #[cold]
    #[track_caller]
    fn acquire_slow(&self) {
        self.owner.refuse_self("has locked", self);
        self.permit.acquire_slow(1, Why::Mutex, None);
    }

    #[inline]
    fn release(&self) {
        self.owner.clear();
        self.permit.release(1);
    }

    /// A guard for the caller, which has the permit.
    #[inline]
    fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        self.poison.wrap(MutexGuard {
            mutex: self,
            taken: self.poison.take(),
            not_send: PhantomData,
        })
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Runs `wait` with the lock released, and locks again, which nothing
    /// interrupts. If `wait` unwinds the lock stays released: the guard is gone.
    pub(super) fn released<R>(
        self,
        wait: impl FnOnce() -> R,
    ) -> (LockResult<MutexGuard<'a, T>>, R) {
        let guard = ManuallyDrop::new(self);
        guard.mutex.release();
        let result = wait();
        hub::shielded(|| guard.mutex.acquire());
        let guard = ManuallyDrop::into_inner(guard);
        (guard.mutex.poison.wrap(guard), result)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard has the only permit, so nobody else refers to the
        // value but through this guard.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.done(&self.taken);
        self.mutex.release();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => d.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => d.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => d.field("data", &"<locked>"),
        };
        d.field("poisoned", &self.is_poisoned());
        d.finish_non_exhaustive()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(t: T) -> Mutex<T> {
        Mutex::new(t)
    }
}
