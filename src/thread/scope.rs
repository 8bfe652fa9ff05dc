//! Green threads that borrow from their spawner.

#![allow(unsafe_code)] // Spawns closures that borrow; the scope sees them off.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use super::guests::{Guests, Seat};
use super::{Builder, JoinHandle, Result, Thread};
use crate::atomic::{AtomicUsize, Ordering};
use crate::cancel::Cancelled;
use crate::sync::select::{EndArm, Ends, Sealed};

/// A scope in which green threads may borrow what lives longer than it.
///
/// It is bound to its OS thread:
///
/// ```compile_fail,E0277
/// greenring::thread::scope(|scope| {
///     fn send<T: Send>(_: T) {}
///     send(scope); // error: `Scope` cannot be shared
/// });
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    guests: Guests,
    // Invariant in both, as std's: what is borrowed for 'scope is borrowed for
    // exactly that long.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
    /// Its guests live on this OS thread.
    not_send: PhantomData<*const ()>,
}

/// Runs `f` with a scope for green threads, and returns when all of them have
/// ended.
///
/// They may borrow from outside of the scope. Whatever happens to their handles,
/// the scope waits for every one of them.
///
/// An interrupt (a cancellation of the caller, or a time limit around it) that
/// comes while the scope waits, or out of `f`, cancels the green threads and
/// those that they spawn from then on; it goes on when all have ended. A panic of
/// `f` does not cancel them, as in std.
///
/// # Panics
///
/// If `f` does, with its payload; if a green thread of the scope panicked and was
/// not joined; if the wait for their end could never end.
///
/// # Difference from std
///
/// A forgotten [`ScopedJoinHandle`] does not make the scope wait for ever. A
/// cancelled green thread does not count as one that panicked.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let words = ["one", "two"];
/// let mut length = 0;
/// thread::scope(|s| {
///     s.spawn(|| length = words.concat().len());
///     let first = s.spawn(|| words[0]);
///     assert_eq!(first.join().unwrap(), "one");
/// });
/// assert_eq!(length, 6);
/// ```
///
/// What lives inside of the scope only cannot be borrowed:
///
/// ```compile_fail,E0373
/// greenring::thread::scope(|s| {
///     let inside = String::new();
///     s.spawn(|| inside.len()); // error: `move` it in instead
/// });
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        guests: Guests::default(),
        scope: PhantomData,
        env: PhantomData,
        not_send: PhantomData,
    };
    // Nothing between here and the end of `host` can unwind past the guests.
    let result = scope.guests.host(|| f(&scope));
    if scope.guests.panics().load(Ordering::Relaxed) > 0 {
        panic!("a scoped thread panicked");
    }
    result
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a green thread that may borrow for as long as the scope lasts.
    ///
    /// # Panics
    ///
    /// If no stack can be had; [`Builder::spawn_scoped`] gives an error instead.
    ///
    /// # Examples
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// greenring::thread::scope(|s| {
    ///     let length = s.spawn(|| text.len());
    ///     assert_eq!(length.join().unwrap(), 8);
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        Builder::new()
            .spawn_scoped(self, f)
            .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
    }

    /// From now on a panic of one green thread cancels the others.
    ///
    /// The scope's own closure goes on. The scope still panics at its end unless
    /// the one that panicked was joined.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{Cancelled, thread};
    ///
    /// thread::scope(|s| {
    ///     s.fail_fast();
    ///     let waiting = s.spawn(thread::park);
    ///     let failing = s.spawn(|| panic!("on purpose"));
    ///     assert!(failing.join().is_err());
    ///     assert!(Cancelled::is(&waiting.join().unwrap_err()));
    /// });
    /// ```
    pub fn fail_fast(&self) {
        self.guests.fail_fast();
    }

    /// Cancels all green threads of the scope that have not ended.
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::cancel`].
    ///
    /// # Examples
    ///
    /// ```
    /// greenring::thread::scope(|s| {
    ///     s.spawn(greenring::thread::park);
    ///     s.cancel(); // the scope would wait for ever
    /// });
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.guests.cancel();
    }
}

impl Builder {
    /// Spawns a green thread of a scope.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// let name = thread::scope(|s| {
    ///     let builder = thread::Builder::new().name("parser".into());
    ///     let handle = builder.spawn_scoped(s, || thread::current().name().map(String::from))?;
    ///     Ok::<_, std::io::Error>(handle.join().unwrap())
    /// })?;
    /// assert_eq!(name.as_deref(), Some("parser"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        self.spawn_scoped_then(scope, f, |_| {})
    }

    /// As [`Builder::spawn_scoped`], with an `end` as in
    /// [`Builder::spawn_with_end`], which runs before the scope is told.
    #[track_caller]
    pub(crate) fn spawn_scoped_then<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
        end: impl FnOnce(bool) + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let guests = &scope.guests;
        let seat = Seat::take(guests);
        let number = seat.number();
        let end = move |panicked| {
            end(panicked);
            seat.leave(panicked);
        };
        // SAFETY: what the closure, its result and `end` borrow outlives 'scope.
        // `scope` does not return or unwind before every seat is given up, which
        // is the last thing a green thread does with any of it, and a handle
        // cannot outlive 'scope. The scope's frame is not given up before: while
        // it is waiting on a green thread's stack that stack is kept or leaked,
        // and a root waits.
        let handle = unsafe { self.spawn_with_end(f, end)? };
        guests.welcome(number, handle.thread().clone());
        Ok(ScopedJoinHandle {
            handle,
            panics: guests.panics(),
        })
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("num_running_threads", &self.guests.len())
            .finish_non_exhaustive()
    }
}

/// The right to wait for a scoped green thread's end and to have its result.
///
/// # Examples
///
/// ```
/// greenring::thread::scope(|s| {
///     let handle = s.spawn(|| 1);
///     assert_eq!(handle.join().unwrap(), 1);
/// });
/// ```
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    panics: &'scope AtomicUsize,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the green thread's end and gives its result.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Examples
    ///
    /// ```
    /// greenring::thread::scope(|s| {
    ///     assert!(s.spawn(|| panic!("on purpose")).join().is_err());
    /// });
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T> {
        let result = self.handle.join();
        told(&result, self.panics);
        result
    }

    /// As [`JoinHandle::join_timeout`].
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join_timeout`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// greenring::thread::scope(|s| {
    ///     let mut handle = s.spawn(greenring::thread::park);
    ///     assert!(handle.join_timeout(Duration::from_millis(1)).is_none());
    ///     handle.thread().unpark();
    /// });
    /// ```
    #[track_caller]
    pub fn join_timeout(&mut self, timeout: Duration) -> Option<Result<T>> {
        let result = self.handle.join_timeout(timeout)?;
        told(&result, self.panics);
        Some(result)
    }

    /// As [`JoinHandle::cancel`].
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::cancel`].
    ///
    /// # Examples
    ///
    /// ```
    /// greenring::thread::scope(|s| s.spawn(greenring::thread::park).cancel());
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Whether the green thread has ended, so that [`join`](Self::join) does not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// greenring::thread::scope(|s| {
    ///     let handle = s.spawn(|| ());
    ///     assert!(!handle.is_finished()); // it has not begun
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The green thread's handle for everything but its result.
    ///
    /// # Examples
    ///
    /// ```
    /// greenring::thread::scope(|s| {
    ///     let handle = s.spawn(greenring::thread::park);
    ///     handle.thread().unpark();
    /// });
    /// ```
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }
}

impl<T> Sealed for ScopedJoinHandle<'_, T> {}

impl<T> Ends for ScopedJoinHandle<'_, T> {
    fn arm(&self) -> EndArm<'_> {
        self.handle.arm()
    }
}

/// Somebody has been told of a panic, if it was one.
fn told<T>(result: &Result<T>, panics: &AtomicUsize) {
    if let Err(payload) = result
        && !Cancelled::is(&**payload)
    {
        panics.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
