//! A number of permits, and guards that give them back.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::permits::Permits;
use crate::hub::Why;

/// A number of permits, of which green threads and OS threads take some and give
/// them back: it bounds how many do something at the same time.
///
/// On one hub, permits go to those who wait in the order in which they came; one
/// that asks for many is not overtaken by those behind it that ask for few.
/// Between hubs, whoever comes while permits are on their way to another OS
/// thread may be faster, once for each that waits.
///
/// A permit gives itself back when it is dropped, once. So there are never more
/// than at the beginning, but for [`add_permits`](Self::add_permits), and no
/// bounded kind is needed.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, Semaphore};
/// use greenring::thread;
///
/// let connections = Arc::new(Semaphore::new(2));
/// let handles: Vec<_> = (0..10)
///     .map(|_| {
///         let connections = Arc::clone(&connections);
///         thread::spawn(move || {
///             let _permit = connections.acquire();
///             thread::yield_now(); // two at a time are here
///         })
///     })
///     .collect();
/// for handle in handles {
///     handle.join().unwrap();
/// }
/// assert_eq!(connections.available(), 2);
/// ```
pub struct Semaphore {
    permits: Permits,
}

/// Permits of a [`Semaphore`], given back when dropped.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Permit, Semaphore};
///
/// let semaphore = Semaphore::new(1);
/// let permit: Permit<'_> = semaphore.acquire();
/// assert_eq!(semaphore.available(), 0);
/// drop(permit);
/// assert_eq!(semaphore.available(), 1);
/// ```
#[must_use = "if unused the permit is given back at once"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

/// A permit that keeps its [`Semaphore`] alive, given back when dropped.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, Semaphore};
/// use greenring::thread;
///
/// let semaphore = Arc::new(Semaphore::new(1));
/// let permit = semaphore.acquire_owned();
/// thread::spawn(move || drop(permit)).join().unwrap();
/// assert_eq!(semaphore.available(), 1);
/// ```
#[must_use = "if unused the permit is given back at once"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = Permits::MOST;

    /// A semaphore with `n` permits; none is fine, see
    /// [`add_permits`](Self::add_permits).
    ///
    /// # Panics
    ///
    /// If `n` is greater than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    ///
    /// static WORKERS: Semaphore = Semaphore::new(8);
    /// assert_eq!(WORKERS.available(), 8);
    /// ```
    #[must_use]
    #[inline]
    pub const fn new(n: usize) -> Semaphore {
        Semaphore {
            permits: Permits::new(n),
        }
    }

    /// Takes a permit, waiting for it if none is free.
    ///
    /// # Examples
    ///
    /// See [`Semaphore`].
    #[inline]
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_many(1)
    }

    /// Takes a permit if one is free and nobody waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.try_acquire();
    /// assert!(permit.is_some());
    /// assert!(semaphore.try_acquire().is_none());
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes a permit, waiting for it no longer than `dur`.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    /// use std::time::Duration;
    ///
    /// let semaphore = Semaphore::new(0);
    /// assert!(semaphore.acquire_timeout(Duration::from_millis(1)).is_none());
    /// ```
    #[inline]
    pub fn acquire_timeout(&self, dur: Duration) -> Option<Permit<'_>> {
        self.acquire_many_timeout(1, dur)
    }

    /// Takes `n` permits at once, waiting until as many are free.
    ///
    /// # Panics
    ///
    /// If `n` is greater than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(5);
    /// let permits = semaphore.acquire_many(3);
    /// assert_eq!(semaphore.available(), 2);
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, n: usize) -> Permit<'_> {
        check(n);
        self.permits.acquire(n, Why::Semaphore, None);
        self.permit(n)
    }

    /// Takes `n` permits at once if as many are free and nobody waits.
    ///
    /// # Panics
    ///
    /// If `n` is greater than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(5);
    /// assert!(semaphore.try_acquire_many(6).is_none());
    /// assert!(semaphore.try_acquire_many(5).is_some());
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_acquire_many(&self, n: usize) -> Option<Permit<'_>> {
        check(n);
        self.permits.try_acquire(n).then(|| self.permit(n))
    }

    /// Takes `n` permits at once, waiting for them no longer than `dur`.
    ///
    /// # Panics
    ///
    /// If `n` is greater than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    /// use std::time::Duration;
    ///
    /// let semaphore = Semaphore::new(1);
    /// let limit = Duration::from_millis(1);
    /// assert!(semaphore.acquire_many_timeout(2, limit).is_none());
    /// ```
    #[inline]
    #[track_caller]
    pub fn acquire_many_timeout(&self, n: usize, dur: Duration) -> Option<Permit<'_>> {
        check(n);
        self.acquire_within(n, dur).then(|| self.permit(n))
    }

    /// As [`acquire`](Self::acquire), for a permit that outlives the borrow.
    ///
    /// # Examples
    ///
    /// See [`OwnedPermit`].
    pub fn acquire_owned(self: &Arc<Self>) -> OwnedPermit {
        self.permits.acquire(1, Why::Semaphore, None);
        self.owned_permit()
    }

    /// As [`try_acquire`](Self::try_acquire), for a permit that outlives the
    /// borrow.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, Semaphore};
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.try_acquire_owned().unwrap();
    /// assert!(semaphore.try_acquire_owned().is_none());
    /// ```
    pub fn try_acquire_owned(self: &Arc<Self>) -> Option<OwnedPermit> {
        self.permits.try_acquire(1).then(|| self.owned_permit())
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), for a permit that outlives
    /// the borrow.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, Semaphore};
    /// use std::time::Duration;
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.acquire_owned_timeout(Duration::ZERO).unwrap();
    /// assert!(semaphore.acquire_owned_timeout(Duration::ZERO).is_none());
    /// ```
    pub fn acquire_owned_timeout(self: &Arc<Self>, dur: Duration) -> Option<OwnedPermit> {
        self.acquire_within(1, dur).then(|| self.owned_permit())
    }

    /// Adds `n` permits.
    ///
    /// # Panics
    ///
    /// If there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS) free.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(0);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.available(), 2);
    /// ```
    #[track_caller]
    pub fn add_permits(&self, n: usize) {
        check(n);
        check(self.available() + n);
        self.permits.release(n);
    }

    /// How many permits are free at this moment.
    ///
    /// # Examples
    ///
    /// See [`Semaphore`].
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.free()
    }

    #[inline]
    fn acquire_within(&self, n: usize, dur: Duration) -> bool {
        self.permits.acquire_fast(n)
            || self
                .permits
                .acquire_slow(n, Why::Semaphore, Instant::now().checked_add(dur))
    }

    /// A guard for the caller, which has taken as many.
    #[inline]
    fn permit(&self, permits: usize) -> Permit<'_> {
        Permit {
            semaphore: self,
            permits,
        }
    }

    /// A guard for the caller, which has taken one.
    fn owned_permit(self: &Arc<Self>) -> OwnedPermit {
        OwnedPermit {
            semaphore: Arc::clone(self),
            permits: 1,
        }
    }
}

/// Refuses a number of permits that cannot be.
#[inline]
#[track_caller]
fn check(permits: usize) {
    assert!(
        permits <= Semaphore::MAX_PERMITS,
        "a semaphore cannot have {permits} permits: the most are Semaphore::MAX_PERMITS"
    );
}

impl Permit<'_> {
    /// Drops it without giving anything back: the semaphore has so many fewer
    /// from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(2);
    /// semaphore.acquire().forget();
    /// assert_eq!(semaphore.available(), 1);
    /// ```
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl OwnedPermit {
    /// Drops it without giving it back: the semaphore has one fewer from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, Semaphore};
    ///
    /// let semaphore = Arc::new(Semaphore::new(2));
    /// semaphore.acquire_owned().forget();
    /// assert_eq!(semaphore.available(), 1);
    /// ```
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.permits.release(self.permits);
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.permits.release(self.permits);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}
