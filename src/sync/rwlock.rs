//! Very many permits, of which a reader takes one and a writer all; a value, and
//! a mark for those who panic while writing it.

#![allow(unsafe_code)] // Lends the value to whoever holds permits.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use super::owner::Owner;
use super::permits::Permits;
use super::poison::{Flag, Taken};
use crate::hub::Why;

/// What a reader takes.
const READER: usize = 1;
/// What a writer takes.
const WRITER: usize = Permits::MOST;

/// A value that many read or one writes: as [`std::sync::RwLock`].
///
/// Whoever has to wait parks, and the other green threads of its hub go on. It
/// may be held while waiting for something else.
///
/// On one hub those who wait get it in the order in which they came: a reader
/// that comes after a waiting writer waits behind it, so no writer starves.
/// Therefore one who reads already should not lock for reading again: a writer
/// in between would wait for the first lock and hold the second one up. Between
/// hubs, whoever comes while the lock is on its way to another OS thread may be
/// faster, once for each that waits.
///
/// # Poisoning
///
/// As with std, a panic while the lock is held for writing poisons it; a reader
/// never does.
///
/// # Difference from std
///
/// - What poisons is as with a [`Mutex`](super::Mutex).
/// - [`read`](Self::read) and [`write`](Self::write) always panic when the caller
///   holds the lock for writing already.
///
/// # Examples
///
/// ```
/// use greenring::sync::RwLock;
///
/// let lock = RwLock::new(5);
/// {
///     let one = lock.read().unwrap();
///     let two = lock.read().unwrap();
///     assert_eq!(*one + *two, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// ```
#[repr(C)] // Its address is that of the permits, which are the subject of waits.
pub struct RwLock<T: ?Sized> {
    permits: Permits,
    writer: Owner,
    poison: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the value moves with its lock.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: whoever shares the lock reaches the value as one of several readers,
// or alone, and then may take it away to its OS thread.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// Shared access to the value of an [`RwLock`]; unlocks it when dropped. As
/// [`std::sync::RwLockReadGuard`].
///
/// It stays on its OS thread, where another green thread may drop it.
///
/// # Examples
///
/// ```
/// use greenring::sync::{RwLock, RwLockReadGuard};
///
/// let lock = RwLock::new(1);
/// let guard: RwLockReadGuard<'_, i32> = lock.read().unwrap();
/// assert_eq!(*guard, 1);
/// ```
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'rwlock, T: ?Sized + 'rwlock> {
    /// No reference, which would promise that nobody writes for as long as a
    /// function lasts that the guard is passed to; the guard may be dropped in it.
    value: NonNull<T>,
    permits: &'rwlock Permits,
}

// SAFETY: a shared guard gives shared references to the value only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

/// Exclusive access to the value of an [`RwLock`]; unlocks it when dropped. As
/// [`std::sync::RwLockWriteGuard`].
///
/// It stays on its OS thread, where another green thread may drop it.
///
/// # Examples
///
/// ```
/// use greenring::sync::{RwLock, RwLockWriteGuard};
///
/// let lock = RwLock::new(1);
/// let mut guard: RwLockWriteGuard<'_, i32> = lock.write().unwrap();
/// *guard = 2;
/// ```
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'rwlock, T: ?Sized + 'rwlock> {
    lock: &'rwlock RwLock<T>,
    taken: Taken,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared references to the value only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// An unlocked lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::RwLock;
    ///
    /// static LIMIT: RwLock<usize> = RwLock::new(100);
    /// assert_eq!(*LIMIT.read().unwrap(), 100);
    /// ```
    #[inline]
    pub const fn new(t: T) -> RwLock<T> {
        RwLock {
            permits: Permits::new(WRITER),
            writer: Owner::none(),
            poison: Flag::new(),
            value: UnsafeCell::new(t),
        }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading, waiting until nobody writes.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The error has the guard.
    ///
    /// # Panics
    ///
    /// The caller holds the lock for writing.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::RwLock;
    ///
    /// let lock = RwLock::new(1);
    /// assert_eq!(*lock.read().unwrap(), 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        if !self.permits.acquire_fast(READER) {
            self.acquire_slow(READER, Why::ReadLock);
        }
        self.read_guard()
    }

    /// Locks for reading if nobody writes or waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it would have to wait; `Poisoned`, with the guard, if the
    /// lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::RwLock;
    ///
    /// let lock = RwLock::new(1);
    /// let reader = lock.try_read().unwrap();
    /// assert!(lock.try_read().is_ok() && lock.try_write().is_err());
    /// ```
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.permits.try_acquire(READER) {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.read_guard()?)
    }

    /// Locks for writing, waiting until nobody reads or writes.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The error has the guard.
    ///
    /// # Panics
    ///
    /// The caller holds the lock for writing already.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::RwLock;
    ///
    /// let lock = RwLock::new(1);
    /// *lock.write().unwrap() = 2;
    /// assert_eq!(lock.into_inner().unwrap(), 2);
    /// ```
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        if !self.permits.acquire_fast(WRITER) {
            self.acquire_slow(WRITER, Why::WriteLock);
        }
        self.write_guard()
    }

    /// Locks for writing if nobody reads, writes or waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it would have to wait; `Poisoned`, with the guard, if the
    /// lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{RwLock, TryLockError};
    ///
    /// let lock = RwLock::new(1);
    /// let writer = lock.try_write().unwrap();
    /// assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    /// ```
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !self.permits.try_acquire(WRITER) {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.write_guard()?)
    }

    /// Whether the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::RwLock;
    ///
    /// assert!(!RwLock::new(()).is_poisoned());
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
    /// use greenring::sync::{Arc, RwLock};
    /// use greenring::thread;
    ///
    /// let lock = Arc::new(RwLock::new(0));
    /// let held = Arc::clone(&lock);
    /// let handle = thread::spawn(move || {
    ///     let _guard = held.write().unwrap();
    ///     panic!("on purpose");
    /// });
    /// assert!(handle.join().is_err());
    /// assert!(lock.is_poisoned() && lock.read().is_err());
    /// lock.clear_poison();
    /// assert!(lock.read().is_ok());
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
    /// use greenring::sync::RwLock;
    ///
    /// assert_eq!(RwLock::new(3).into_inner().unwrap(), 3);
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
    /// use greenring::sync::RwLock;
    ///
    /// let mut lock = RwLock::new(3);
    /// *lock.get_mut().unwrap() = 4;
    /// assert_eq!(*lock.read().unwrap(), 4);
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.wrap(self.value.get_mut())
    }

    #[cold]
    #[track_caller]
    fn acquire_slow(&self, permits: usize, why: Why) {
        self.writer.refuse_self("has locked for writing", self);
        self.permits.acquire_slow(permits, why, None);
    }

    /// A guard for the caller, which has a reader's permit.
    #[inline]
    fn read_guard(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let value = NonNull::new(self.value.get());
        self.poison.wrap(RwLockReadGuard {
            value: value.expect("it is part of self"),
            permits: &self.permits,
        })
    }

    /// A guard for the caller, which has a writer's permits.
    #[inline]
    fn write_guard(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.writer.set();
        self.poison.wrap(RwLockWriteGuard {
            lock: self,
            taken: self.poison.take(),
            not_send: PhantomData,
        })
    }
}

impl<'rwlock, T: ?Sized> RwLockWriteGuard<'rwlock, T> {
    /// Turns a writer's lock into a reader's, in one step: no other writer comes
    /// in between.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writer = lock.write().unwrap();
    /// *writer = 2;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!(*reader + *lock.read().unwrap(), 4);
    /// ```
    pub fn downgrade(s: Self) -> RwLockReadGuard<'rwlock, T> {
        let lock = ManuallyDrop::new(s).lock;
        lock.writer.clear();
        lock.permits.release(WRITER - READER);
        lock.read_guard().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard has a permit of the lock that it borrows, so the
        // value lives and nobody has all permits, which writing takes.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard has all permits, so nobody else refers to the value
        // but through this guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.permits.release(READER);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.done(&self.taken);
        self.lock.writer.clear();
        self.lock.permits.release(WRITER);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => d.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => d.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => d.field("data", &format_args!("<locked>")),
        };
        d.field("poisoned", &self.is_poisoned());
        d.finish_non_exhaustive()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(t: T) -> RwLock<T> {
        RwLock::new(t)
    }
}
