//! A queue that knows when everything it gave out has been dealt with.

use std::fmt;
use std::time::{Duration, Instant};

use super::channel::{Core, deadline};
use super::line::Line;
use crate::atomic::{AtomicUsize, Ordering};
use crate::hub::Why;

/// A queue without a bound whose items have to be done: whoever takes one says
/// [`task_done`](Self::task_done) when it has, and [`join`](Self::join) waits
/// for that, for every item.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, JoinableQueue};
/// use greenring::thread;
///
/// let queue = Arc::new(JoinableQueue::new());
/// let theirs = Arc::clone(&queue);
/// let worker = thread::spawn(move || loop {
///     let n: u32 = theirs.pop();
///     println!("{}", n * n);
///     theirs.task_done();
/// });
/// (0..3).for_each(|n| queue.push(n));
/// queue.join();
/// worker.cancel();
/// # let _ = worker.join();
/// ```
pub struct JoinableQueue<T> {
    core: Core<T>,
    /// Items that were put in and are not done. It becomes 0 under the line's
    /// lock only.
    unfinished: AtomicUsize,
    /// Those who wait until it does.
    joiners: Line,
}

impl<T> JoinableQueue<T> {
    /// An empty queue.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::JoinableQueue::<u32>::new();
    /// queue.join(); // nothing is to be done
    /// ```
    #[must_use]
    pub fn new() -> JoinableQueue<T> {
        JoinableQueue {
            core: Core::new(usize::MAX),
            unfinished: AtomicUsize::new(0),
            joiners: Line::new(),
        }
    }

    /// Puts an item in, which is to be done.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::JoinableQueue::new();
    /// queue.push(1);
    /// assert_eq!(queue.pop(), 1);
    /// ```
    pub fn push(&self, item: T) {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        let sent = self.core.try_send(item);
        debug_assert!(sent.is_ok(), "it has room and is never closed");
    }

    /// Takes the first item, waiting while there is none.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, JoinableQueue};
    ///
    /// let queue = Arc::new(JoinableQueue::new());
    /// let theirs = Arc::clone(&queue);
    /// greenring::spawn(move || theirs.push(1));
    /// assert_eq!(queue.pop(), 1);
    /// ```
    pub fn pop(&self) -> T {
        self.core.recv(None).expect("never closed")
    }

    /// Takes the first item if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::JoinableQueue::new();
    /// assert_eq!(queue.try_pop(), None);
    /// queue.push(1);
    /// assert_eq!(queue.try_pop(), Some(1));
    /// ```
    pub fn try_pop(&self) -> Option<T> {
        self.core.try_recv().ok()
    }

    /// As [`pop`](Self::pop), for at most `timeout`.
    ///
    /// # Panics
    ///
    /// As [`pop`](Self::pop).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let queue = greenring::sync::JoinableQueue::<u32>::new();
    /// assert_eq!(queue.pop_timeout(Duration::from_millis(1)), None);
    /// ```
    pub fn pop_timeout(&self, timeout: Duration) -> Option<T> {
        self.core.recv(deadline(timeout)).ok()
    }

    /// Says that one item that was taken is done. Those who join go on when it
    /// is the last one.
    ///
    /// # Panics
    ///
    /// If it is called more often than [`push`](Self::push).
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::JoinableQueue::new();
    /// queue.push(1);
    /// queue.pop();
    /// queue.task_done();
    /// queue.join();
    /// ```
    #[track_caller]
    pub fn task_done(&self) {
        let joiners = self.joiners.lock();
        let done = |unfinished: usize| unfinished.checked_sub(1);
        match self
            .unfinished
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, done)
        {
            Ok(1) => joiners.wake_all(),
            Ok(_) => {}
            Err(_) => {
                drop(joiners);
                panic!("task_done was called more often than push");
            }
        }
    }

    /// Waits until every item that was put in is done.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// See [`JoinableQueue`].
    pub fn join(&self) {
        self.join_until(None);
    }

    /// As [`join`](Self::join), for at most `timeout`; whether all is done.
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let queue = greenring::sync::JoinableQueue::new();
    /// queue.push(1);
    /// assert!(!queue.join_timeout(Duration::from_millis(1)));
    /// queue.pop();
    /// queue.task_done();
    /// assert!(queue.join_timeout(Duration::ZERO));
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_until(deadline(timeout))
    }

    fn join_until(&self, deadline: Option<Instant>) -> bool {
        let joiners = self.joiners.lock();
        self.unfinished.load(Ordering::Acquire) == 0 || joiners.enter().wait(Why::Event, deadline)
    }

    /// How many items are in the queue; those that were taken are not.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::JoinableQueue::new();
    /// queue.push(1);
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Whether no item is in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(greenring::sync::JoinableQueue::<u32>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Default for JoinableQueue<T> {
    fn default() -> JoinableQueue<T> {
        JoinableQueue::new()
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("len", &self.len())
            .field("unfinished", &self.unfinished.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
