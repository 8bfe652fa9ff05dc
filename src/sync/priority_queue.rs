//! A queue that gives its greatest item first.

use std::collections::BinaryHeap;
use std::fmt;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::channel::deadline;
use super::permits::Permits;
use super::{Mutex, MutexGuard};
use crate::hub::{self, Why};

/// A queue without a bound that gives its greatest item first, as
/// [`BinaryHeap`] does; of equal ones, any.
///
/// Who waits is served in the order in which it came. A comparison may wait;
/// then whoever uses the queue waits for it.
///
/// # Examples
///
/// ```
/// use greenring::sync::PriorityQueue;
/// use std::cmp::Reverse;
///
/// let queue = PriorityQueue::new();
/// for n in [3, 1, 2] {
///     queue.push(Reverse(n));
/// }
/// assert_eq!(queue.pop(), Reverse(1)); // the least first
/// ```
pub struct PriorityQueue<T> {
    /// One for each item, except while somebody who has taken one is about to
    /// take the item, too.
    items: Permits,
    heap: Mutex<BinaryHeap<T>>,
}

/// The heap in the hands of one who changes it. Permits follow its length,
/// also if a comparison panics.
struct Change<'a, T> {
    items: &'a Permits,
    heap: MutexGuard<'a, BinaryHeap<T>>,
    /// Items that have permits.
    permitted: usize,
}

impl<T: Ord> PriorityQueue<T> {
    /// An empty queue.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::PriorityQueue::<u32>::new();
    /// assert!(queue.is_empty());
    /// ```
    #[must_use]
    pub const fn new() -> PriorityQueue<T> {
        PriorityQueue {
            items: Permits::new(0),
            heap: Mutex::new(BinaryHeap::new()),
        }
    }

    /// Puts an item in.
    ///
    /// # Panics
    ///
    /// If the comparison does. The item is in the queue then, but perhaps not in
    /// its place.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::PriorityQueue::new();
    /// queue.push(1);
    /// queue.push(2);
    /// assert_eq!(queue.pop(), 2);
    /// ```
    pub fn push(&self, item: T) {
        // Only other comparisons can make it wait.
        hub::shielded(|| self.change(0).heap.push(item));
    }

    /// Takes the greatest item, waiting while there is none.
    ///
    /// # Panics
    ///
    /// If the comparison does, and the item is dropped; if the wait could never
    /// end.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::{Arc, PriorityQueue};
    ///
    /// let queue = Arc::new(PriorityQueue::new());
    /// let theirs = Arc::clone(&queue);
    /// greenring::spawn(move || theirs.push(1));
    /// assert_eq!(queue.pop(), 1);
    /// ```
    pub fn pop(&self) -> T {
        self.pop_until(None).expect("without a deadline")
    }

    /// Takes the greatest item if there is one.
    ///
    /// # Panics
    ///
    /// If the comparison does, and the item is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::PriorityQueue::new();
    /// assert_eq!(queue.try_pop(), None);
    /// queue.push(1);
    /// assert_eq!(queue.try_pop(), Some(1));
    /// ```
    pub fn try_pop(&self) -> Option<T> {
        self.items.try_acquire(1).then(|| self.take())
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
    /// let queue = greenring::sync::PriorityQueue::<u32>::new();
    /// assert_eq!(queue.pop_timeout(Duration::from_millis(1)), None);
    /// ```
    pub fn pop_timeout(&self, timeout: Duration) -> Option<T> {
        self.pop_until(deadline(timeout))
    }

    fn pop_until(&self, deadline: Option<Instant>) -> Option<T> {
        let may = self.items.acquire(1, Why::Receive, deadline);
        may.then(|| self.take())
    }

    /// Takes the item for which the caller has a permit.
    fn take(&self) -> T {
        /// Gives the permit back if the heap cannot be reached: its lock may
        /// refuse an `Ord` that pops.
        struct Held<'a>(&'a Permits);

        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.release(1);
            }
        }

        let held = Held(&self.items);
        let item = hub::shielded(|| {
            let mut change = self.change(1);
            std::mem::forget(held);
            change.heap.pop()
        });
        item.expect("an item for each permit")
    }
}

impl<T> PriorityQueue<T> {
    /// How many items there are.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = greenring::sync::PriorityQueue::new();
    /// queue.push(1);
    /// assert_eq!(queue.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.items.free()
    }

    /// Whether there is no item.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(greenring::sync::PriorityQueue::<u32>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the heap, by one who has taken so many permits.
    fn change(&self, taken: usize) -> Change<'_, T> {
        let heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        Change {
            items: &self.items,
            permitted: heap.len() - taken,
            heap,
        }
    }
}

impl<T> Drop for Change<'_, T> {
    fn drop(&mut self) {
        let new = self.heap.len() - self.permitted;
        if new > 0 {
            self.items.release(new);
        }
    }
}

impl<T: Ord> Default for PriorityQueue<T> {
    fn default() -> PriorityQueue<T> {
        PriorityQueue::new()
    }
}

impl<T> fmt::Debug for PriorityQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriorityQueue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
