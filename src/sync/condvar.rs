//! A line that is entered while holding a mutex.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

use super::line::Line;
use super::mutex::MutexGuard;
use crate::hub::Why;

/// Whether a wait with a time limit ended by it: as
/// [`std::sync::WaitTimeoutResult`].
///
/// # Examples
///
/// ```
/// use greenring::sync::{Condvar, Mutex};
/// use std::time::Duration;
///
/// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
/// let guard = mutex.lock().unwrap();
/// let (_guard, result) = condvar.wait_timeout(guard, Duration::from_millis(1)).unwrap();
/// assert!(result.timed_out());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time had passed.
    ///
    /// # Examples
    ///
    /// See [`WaitTimeoutResult`].
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// Waits for a condition on what a [`Mutex`](super::Mutex) protects: as
/// [`std::sync::Condvar`].
///
/// Waiters are notified in the order in which they came.
///
/// # Difference from std
///
/// - There are no spurious wake-ups. A loop around a wait is good style all the
///   same, because somebody else may lock the mutex before the one notified does.
/// - Waiters that use different mutexes with one condition variable are fine.
/// - A waiter that is interrupted (see [`cancel`](crate::cancel)) before it was
///   notified unwinds without locking the mutex again. One that was notified
///   returns, and the interrupt comes at its next wait: no notification is lost.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, Condvar, Mutex};
/// use greenring::thread;
///
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let other = Arc::clone(&pair);
/// thread::spawn(move || {
///     let (ready, condvar) = &*other;
///     *ready.lock().unwrap() = true;
///     condvar.notify_one();
/// });
///
/// let (ready, condvar) = &*pair;
/// let mut guard = ready.lock().unwrap();
/// while !*guard {
///     guard = condvar.wait(guard).unwrap();
/// }
/// ```
#[repr(C)]
pub struct Condvar {
    line: Line,
}

impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

impl Condvar {
    /// A condition variable that nobody waits for.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Condvar;
    ///
    /// static CHANGED: Condvar = Condvar::new();
    /// CHANGED.notify_all();
    /// ```
    #[must_use]
    #[inline]
    pub const fn new() -> Condvar {
        Condvar { line: Line::new() }
    }

    /// Unlocks the mutex and waits to be notified, in one step; then locks it
    /// again.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned when it is locked again. The error has the guard.
    ///
    /// # Examples
    ///
    /// See [`Condvar`].
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, None).0
    }

    /// Waits as long as the condition is true of the value, which it may change.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned when it is locked again. The error has the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, Condvar, Mutex};
    /// use greenring::thread;
    ///
    /// let pair = Arc::new((Mutex::new(3), Condvar::new()));
    /// let other = Arc::clone(&pair);
    /// thread::spawn(move || {
    ///     for _ in 0..3 {
    ///         *other.0.lock().unwrap() -= 1;
    ///         other.1.notify_one();
    ///         thread::yield_now();
    ///     }
    /// });
    /// let left = pair.1.wait_while(pair.0.lock().unwrap(), |left| *left > 0).unwrap();
    /// assert_eq!(*left, 0);
    /// ```
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), for no longer than `dur`. One that was notified
    /// before has not timed out, even if it gets the mutex later.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned when it is locked again. The error has the guard
    /// and the result.
    ///
    /// # Examples
    ///
    /// See [`WaitTimeoutResult`].
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        dur: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, notified) = self.wait_until(guard, Instant::now().checked_add(dur));
        let result = WaitTimeoutResult(!notified);
        match guard {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(PoisonError::new((error.into_inner(), result))),
        }
    }

    /// As [`wait_while`](Self::wait_while), for no longer than `dur` in all. If
    /// the condition has become false by then, it has not timed out.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned when it is locked again. The error has the guard
    /// and the result.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let (mutex, condvar) = (Mutex::new(true), Condvar::new());
    /// let guard = mutex.lock().unwrap();
    /// let limit = Duration::from_millis(1);
    /// let (_guard, result) = condvar.wait_timeout_while(guard, limit, |busy| *busy).unwrap();
    /// assert!(result.timed_out());
    /// ```
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        dur: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let start = Instant::now();
        loop {
            if !condition(&mut *guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = dur.checked_sub(start.elapsed()) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
    }

    /// Wakes the one that has waited longest, if anybody waits. Nothing is kept
    /// for those who come later.
    ///
    /// # Examples
    ///
    /// See [`Condvar`].
    pub fn notify_one(&self) {
        self.line.lock().wake_one();
    }

    /// Wakes all who wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, Condvar, Mutex};
    /// use greenring::thread;
    ///
    /// let open = Arc::new((Mutex::new(false), Condvar::new()));
    /// let waiters: Vec<_> = (0..3)
    ///     .map(|_| {
    ///         let open = Arc::clone(&open);
    ///         thread::spawn(move || {
    ///             drop(open.1.wait_while(open.0.lock().unwrap(), |open| !*open).unwrap());
    ///         })
    ///     })
    ///     .collect();
    /// thread::yield_now();
    /// *open.0.lock().unwrap() = true;
    /// open.1.notify_all();
    /// for waiter in waiters {
    ///     waiter.join().unwrap();
    /// }
    /// ```
    pub fn notify_all(&self) {
        self.line.lock().wake_all();
    }

    /// Waits until notified, or until the deadline; whether it was notified.
    fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        // In the line before the mutex is free: whoever changes the condition
        // under it and notifies finds the waiter there.
        let place = self.line.lock().enter();
        guard.released(|| place.wait(Why::Condvar, deadline))
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}
