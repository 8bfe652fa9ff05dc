//! Green threads that are waited for or cancelled together.

use std::fmt;
use std::time::Duration;

use super::imap::{Imap, Order, imap};
use super::map::map;
use super::members::Members;
use crate::thread::{Builder, JoinHandle};

/// Green threads that are waited for or cancelled together.
///
/// A green thread leaves the group when it ends. Dropping the group detaches
/// those that have not: they go on by themselves.
///
/// It is bound to its OS thread. If its hub ends without them (see
/// [`runtime::Builder::run`](crate::runtime::Builder::run)), green threads that
/// are abandoned never leave.
///
/// # Examples
///
/// ```
/// use greenring::pool::Group;
/// use greenring::thread;
/// use std::{cell::Cell, rc::Rc};
///
/// let group = Group::new();
/// let sum = Rc::new(Cell::new(0));
/// for n in 1..=4 {
///     let sum = Rc::clone(&sum);
///     group.spawn(move || {
///         thread::yield_now();
///         sum.set(sum.get() + n);
///     });
/// }
/// group.join();
/// assert_eq!(sum.get(), 10);
/// ```
pub struct Group {
    members: Members,
}

impl Group {
    /// A group of nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(greenring::pool::Group::new().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Group {
        Group {
            members: Members::unbounded(),
        }
    }

    /// From now on a panic of one green thread cancels the others that are in
    /// the group at the time, and the rest of their [`map`](Self::map)s and
    /// [`imap`](Self::imap)s.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{Cancelled, pool::Group, thread};
    ///
    /// let group = Group::new().fail_fast();
    /// let waiting = group.spawn(thread::park);
    /// group.spawn(|| panic!("on purpose"));
    /// assert!(Cancelled::is(&waiting.join().unwrap_err()));
    /// ```
    #[must_use]
    pub fn fail_fast(self) -> Group {
        self.members.fail_fast();
        self
    }

    /// Spawns a green thread in the group.
    ///
    /// # Panics
    ///
    /// As [`thread::spawn`](crate::thread::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let group = greenring::pool::Group::new();
    /// assert_eq!(group.spawn(|| 1).join().unwrap(), 1);
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let admission = self.members.admit();
        self.members
            .spawn(admission, Builder::new(), f, || {})
            .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
    }

    /// Waits until the group is empty, which it may be for a moment only.
    ///
    /// # Panics
    ///
    /// If a green thread of the group calls it, which would wait for itself; if
    /// the wait could never end, see [`thread::park`](crate::thread::park).
    ///
    /// # Examples
    ///
    /// ```
    /// let group = greenring::pool::Group::new();
    /// let handle = group.spawn(|| 1);
    /// group.join();
    /// assert!(handle.is_finished());
    /// ```
    #[track_caller]
    pub fn join(&self) {
        self.members.join(None);
    }

    /// As [`join`](Self::join), for at most `timeout`; whether the group was
    /// empty by then.
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{pool::Group, thread};
    /// use std::time::Duration;
    ///
    /// let group = Group::new();
    /// group.spawn(thread::park);
    /// assert!(!group.join_timeout(Duration::from_millis(1)));
    /// group.cancel();
    /// assert!(group.join_timeout(Duration::MAX));
    /// ```
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.members.join(Some(timeout))
    }

    /// Cancels the green threads that are in the group, see
    /// [`JoinHandle::cancel`].
    ///
    /// A [`map`](Self::map) or [`imap`](Self::imap) that goes on begins no
    /// further item and ends with [`Cancelled`](crate::Cancelled).
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::cancel`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{Cancelled, pool::Group, thread};
    ///
    /// let group = Group::new();
    /// let handle = group.spawn(thread::park);
    /// group.cancel();
    /// assert!(Cancelled::is(&handle.join().unwrap_err()));
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.members.cancel();
    }

    /// How many green threads of the group have not ended.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = greenring::pool::Group::new();
    /// group.spawn(|| ());
    /// assert_eq!(group.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all green threads of the group have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = greenring::pool::Group::new();
    /// group.spawn(|| ());
    /// assert!(!group.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `f` for every item, each on a green thread of the group, and gives
    /// the results in the order of the items.
    ///
    /// `items`, `f` and the results may borrow: whatever happens, it does not
    /// return or unwind before the green threads have ended. An interrupt (a
    /// cancellation of the caller, or a time limit around the call) cancels them
    /// first.
    ///
    /// # Panics
    ///
    /// If `f` does: with the payload of the first item that panicked, when all
    /// have ended. If a green thread was cancelled, with
    /// [`Cancelled`](crate::Cancelled). If the items' iterator does: those that
    /// were started are cancelled first. As [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let words = vec![String::from("one"), String::from("three")];
    /// let group = greenring::pool::Group::new();
    /// assert_eq!(group.map(&words, |word| word.len()), [3, 5]);
    /// ```
    #[track_caller]
    pub fn map<I, R>(&self, items: I, f: impl Fn(I::Item) -> R) -> Vec<R>
    where
        I: IntoIterator,
    {
        map(&self.members, items, f)
    }

    /// Runs `f` for every item, each on a green thread of the group, and iterates
    /// over the results in the order of the items.
    ///
    /// It begins at once. At most 128 results are unread, those that are being
    /// worked on included: a slow reader holds the green threads back, and the
    /// items' iterator, which runs on a green thread of its own. See [`Imap`] for
    /// panics and for what dropping it does.
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let group = greenring::pool::Group::new();
    /// let squares: Vec<u32> = group.imap(1..=4, |n| n * n).collect();
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// ```
    ///
    /// Nothing of it may borrow:
    ///
    /// ```compile_fail,E0597
    /// let words = vec![String::from("one")];
    /// let group = greenring::pool::Group::new();
    /// let lengths = group.imap(&words, |word| word.len()); // error: use `map`
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
    /// As [`imap`](Self::imap).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    /// use std::time::Duration;
    ///
    /// let group = greenring::pool::Group::new();
    /// let slept = group.imap_unordered([9, 1, 5], |n| {
    ///     thread::sleep(Duration::from_millis(n));
    ///     n
    /// });
    /// assert_eq!(slept.collect::<Vec<_>>(), [1, 5, 9]);
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

impl Default for Group {
    fn default() -> Group {
        Group::new()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
