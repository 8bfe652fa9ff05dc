//! A group that bounds how many green threads there are.

use std::fmt;
use std::io;
use std::time::Duration;

use super::imap::{Imap, Order, imap};
use super::map::map;
use super::members::{Admission, Members};
use crate::thread::{Builder, JoinHandle};

/// A [`Group`](super::Group) of at most so many green threads at a time.
///
/// A place is free again when a green thread's result is stored and its
/// destructors have run, and goes to whoever has waited longest. Dropping the
/// pool detaches its green threads. It is bound to its OS thread.
///
/// # Inside of a full pool
///
/// [`spawn`](Self::spawn) waits for a place wherever it is called. If all green
/// threads of a pool wait in it for places in the same pool, none comes; a root
/// that waits for them panics with the table of all green threads, as for every
/// wait that cannot end. Call [`try_spawn`](Self::try_spawn), or spawn in
/// another pool.
///
/// [`map`](Self::map), [`imap`](Self::imap) and
/// [`imap_unordered`](Self::imap_unordered) never wait for the place of their
/// own caller: called in a green thread of the pool while that is full, they run
/// one item at a time in the place of their caller, who waits. Then
/// [`len`](Self::len) is greater than [`size`](Self::size).
///
/// # Examples
///
/// ```
/// use greenring::pool::Pool;
/// use greenring::thread;
/// use std::{cell::Cell, rc::Rc};
///
/// let pool = Pool::new(2);
/// let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
/// for _ in 0..10 {
///     let (now, most) = (Rc::clone(&now), Rc::clone(&most));
///     pool.spawn(move || {
///         now.set(now.get() + 1);
///         most.set(now.get().max(most.get()));
///         thread::yield_now();
///         now.set(now.get() - 1);
///     });
/// }
/// pool.join();
/// assert_eq!(most.get(), 2);
/// ```
pub struct Pool {
    members: Members,
}

impl Pool {
    /// A pool of at most `size` green threads, which are not spawned before they
    /// have something to do.
    ///
    /// # Panics
    ///
    /// If `size` is zero: nothing could ever run.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(greenring::pool::Pool::new(8).free(), 8);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn new(size: usize) -> Pool {
        assert!(
            size > 0,
            "a pool of size zero: nothing could ever run in it"
        );
        Pool {
            members: Members::bounded(size),
        }
    }

    /// As [`Group::fail_fast`](super::Group::fail_fast).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::pool::Pool;
    /// use std::panic::catch_unwind;
    ///
    /// let begun = catch_unwind(|| {
    ///     Pool::new(1).fail_fast().map(0.., |n| assert!(n < 3, "on purpose"))
    /// });
    /// assert!(begun.is_err()); // it has not begun them all
    /// ```
    #[must_use]
    pub fn fail_fast(self) -> Pool {
        self.members.fail_fast();
        self
    }

    /// Spawns a green thread in the pool, waiting for a place while it is full.
    ///
    /// Interrupted while it waits, it drops `f`.
    ///
    /// # Panics
    ///
    /// As [`thread::spawn`](crate::thread::spawn); if the wait could never end,
    /// see [`thread::park`](crate::thread::park).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(1);
    /// let first = pool.spawn(|| 1);
    /// let second = pool.spawn(|| 2); // when the first has ended
    /// assert!(first.is_finished() && !second.is_finished());
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let admission = self.members.admit();
        self.spawn_admitted(admission, f)
    }

    /// Waits for a place, for who wants to have it before it has work for it.
    pub(crate) fn admit(&self) -> Admission {
        self.members.admit()
    }

    /// Spawns a green thread in a place that was kept for it.
    ///
    /// # Errors
    ///
    /// No green thread can be made.
    #[track_caller]
    pub(crate) fn spawn_in<F, T>(&self, place: Admission, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.members.spawn(place, Builder::new(), f, || {})
    }

    /// Whether the caller is one of the pool's green threads.
    pub(crate) fn includes_caller(&self) -> bool {
        self.members.include_caller()
    }

    /// Spawns a green thread in the pool unless it is full.
    ///
    /// # Errors
    ///
    /// `f` itself, if there is no place, or others wait for it.
    ///
    /// # Panics
    ///
    /// As [`thread::spawn`](crate::thread::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(1);
    /// let handle = pool.try_spawn(|| 1).ok().unwrap();
    /// let f = pool.try_spawn(|| 2).unwrap_err();
    /// assert_eq!(handle.join().unwrap() + f(), 3);
    /// ```
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, F>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match self.members.try_admit() {
            Some(admission) => Ok(self.spawn_admitted(admission, f)),
            None => Err(f),
        }
    }

    #[track_caller]
    fn spawn_admitted<F, T>(&self, admission: Admission, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.members
            .spawn(admission, Builder::new(), f, || {})
            .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
    }

    /// How many green threads there may be.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(greenring::pool::Pool::new(8).size(), 8);
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.size()
    }

    /// How many places are free.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(8);
    /// pool.spawn(|| ());
    /// assert_eq!(pool.free(), 7);
    /// ```
    #[must_use]
    pub fn free(&self) -> usize {
        self.members.free()
    }

    /// Waits until the pool is empty, which it may be for a moment only. Who
    /// waits for a place in it is not in it.
    ///
    /// # Panics
    ///
    /// As [`Group::join`](super::Group::join).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(8);
    /// pool.spawn(|| ());
    /// pool.join();
    /// assert_eq!(pool.free(), 8);
    /// ```
    #[track_caller]
    pub fn join(&self) {
        self.members.join(None);
    }

    /// As [`Group::join_timeout`](super::Group::join_timeout).
    ///
    /// # Panics
    ///
    /// As [`Group::join`](super::Group::join).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = greenring::pool::Pool::new(8);
    /// pool.spawn(greenring::thread::park);
    /// assert!(!pool.join_timeout(Duration::from_millis(1)));
    /// ```
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.members.join(Some(timeout))
    }

    /// As [`Group::cancel`](super::Group::cancel). Who waits for a place is not
    /// in the pool yet, and goes on.
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::cancel`].
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(1);
    /// pool.spawn(greenring::thread::park);
    /// pool.cancel();
    /// pool.join();
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.members.cancel();
    }

    /// How many green threads of the pool have not ended.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(8);
    /// pool.spawn(|| ());
    /// assert_eq!(pool.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all green threads of the pool have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(greenring::pool::Pool::new(8).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Group::map`](super::Group::map), as many items at a time as there
    /// are places.
    ///
    /// # Panics
    ///
    /// As [`Group::map`](super::Group::map).
    ///
    /// # Examples
    ///
    /// ```
    /// let words = ["one", "three"];
    /// let pool = greenring::pool::Pool::new(8);
    /// assert_eq!(pool.map(words, |word| word.len()), [3, 5]);
    /// ```
    #[track_caller]
    pub fn map<I, R>(&self, items: I, f: impl Fn(I::Item) -> R) -> Vec<R>
    where
        I: IntoIterator,
    {
        map(&self.members, items, f)
    }

    /// As [`Group::imap`](super::Group::imap), as many items at a time as there
    /// are places, and at most twice as many results unread.
    ///
    /// # Panics
    ///
    /// As [`Group::imap`](super::Group::imap).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(8);
    /// assert_eq!(pool.imap(1.., |n| n * n).nth(99), Some(10_000));
    /// ```
    #[track_caller]
    pub fn imap<I, R>(&self, items: I, f: impl Fn(I::Item) -> R + 'static) -> Imap<R>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        R: 'static,
    {
        imap(&self.members, Order::Items, items, f)
    }

    /// As [`imap`](Self::imap), with the results as they come.
    ///
    /// # Panics
    ///
    /// As [`Group::imap`](super::Group::imap).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenring::pool::Pool::new(8);
    /// assert_eq!(pool.imap_unordered(1..=4, |n| n * n).sum::<u32>(), 30);
    /// ```
    #[track_caller]
    pub fn imap_unordered<I, R>(&self, items: I, f: impl Fn(I::Item) -> R + 'static) -> Imap<R>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        R: 'static,
    {
        imap(&self.members, Order::Ends, items, f)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
