//! Channels with any number of senders and receivers.
//!
//! The names are those of `crossbeam-channel`. Items arrive in the order in
//! which they were sent, each at one receiver; who waits is served in the order
//! in which it came. [`close`](Sender::close) from either side, or dropping the
//! last handle of a side, closes the channel: sending fails from then on, and
//! receiving once the queue is empty.
//!
//! A green thread that is interrupted while it receives has taken nothing; one
//! that is interrupted while it sends drops its item, which nobody has received.
//!
//! # Examples
//!
//! ```
//! use greenring::sync::channel;
//! use greenring::thread;
//!
//! let (sender, receiver) = channel::bounded(2);
//! for worker in 0..3 {
//!     let sender = sender.clone();
//!     thread::spawn(move || sender.send(worker * worker));
//! }
//! drop(sender);
//! assert_eq!(receiver.iter().sum::<u32>(), 5);
//! ```

mod core;
mod error;

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(in crate::sync) use self::core::{Core, Grant, Left};
pub use error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};

/// A channel with room for `capacity` items; a capacity of 0 is a
/// [`rendezvous`].
///
/// # Examples
///
/// ```
/// use greenring::sync::channel;
///
/// let (sender, receiver) = channel::bounded(1);
/// sender.send("first").unwrap();
/// assert!(sender.try_send("second").is_err());
/// assert_eq!(receiver.recv(), Ok("first"));
/// ```
#[must_use]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let core = Arc::new(Core::new(capacity));
    let sender = Sender {
        core: Arc::clone(&core),
    };
    (sender, Receiver { core })
}

/// A channel that always has room.
///
/// # Examples
///
/// ```
/// use greenring::sync::channel;
///
/// let (sender, receiver) = channel::unbounded();
/// (0..100).for_each(|n| sender.send(n).unwrap());
/// assert_eq!(receiver.len(), 100);
/// ```
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

/// A channel without room: sending waits for a receiver, and the item goes from
/// hand to hand.
///
/// # Examples
///
/// ```
/// use greenring::sync::channel;
/// use greenring::thread;
///
/// let (sender, receiver) = channel::rendezvous();
/// thread::spawn(move || sender.send(1));
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[must_use]
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    bounded(0)
}

/// A receiver to which nothing ever comes, and which is never closed: for an arm
/// of [`select!`](crate::select) that is to be switched off.
///
/// # Examples
///
/// ```
/// use greenring::sync::channel;
///
/// let (sender, mut numbers) = channel::unbounded();
/// let (words, mut texts) = channel::unbounded();
/// sender.send(1).unwrap();
/// words.send("one").unwrap();
/// drop((sender, words));
/// let mut open = 2;
/// while open > 0 {
///     greenring::select! {
///         recv(&numbers) -> number => if number.is_err() {
///             open -= 1;
///             numbers = channel::never(); // it was closed
///         },
///         recv(&texts) -> text => if text.is_err() {
///             open -= 1;
///             texts = channel::never();
///         },
///     }
/// }
/// ```
#[must_use]
pub fn never<T>() -> Receiver<T> {
    // The core counts a sender, whom nobody has.
    let core = Arc::new(Core::new(0));
    Receiver { core }
}

/// The deadline of a timeout that begins now; `None` if it is too far away to
/// be said.
pub(in crate::sync) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// The side of a channel that sends. Clones send into the same channel.
///
/// # Examples
///
/// ```
/// use greenring::sync::channel;
///
/// let (sender, receiver) = channel::unbounded();
/// let clone = sender.clone();
/// sender.send(1).unwrap();
/// clone.send(2).unwrap();
/// drop((sender, clone));
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
/// ```
pub struct Sender<T> {
    core: Arc<Core<T>>,
}

/// The side of a channel that receives. Each item goes to one of its clones.
///
/// # Examples
///
/// ```
/// use greenring::sync::channel;
/// use greenring::thread;
///
/// let (sender, receiver) = channel::unbounded();
/// let clone = receiver.clone();
/// let other = thread::spawn(move || clone.recv());
/// thread::yield_now(); // it waits
/// sender.send(1).unwrap();
/// sender.send(2).unwrap();
/// assert_eq!(receiver.recv(), Ok(2));
/// assert_eq!(other.join().unwrap(), Ok(1));
/// ```
pub struct Receiver<T> {
    core: Arc<Core<T>>,
}

impl<T> Sender<T> {
    pub(in crate::sync) fn core(&self) -> &Core<T> {
        &self.core
    }

    /// Sends an item, waiting while there is no room.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the item if the channel is closed, or is before
    /// there is room.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::channel::unbounded();
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.recv(), Ok(1));
    /// ```
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        match self.core.send(item, None) {
            Ok(()) => Ok(()),
            Err(error) => Err(SendError(error.into_inner())),
        }
    }

    /// Sends an item if there is room, or a receiver that waits.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the item.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, _receiver) = greenring::sync::channel::rendezvous();
    /// assert!(sender.try_send(1).unwrap_err().is_full());
    /// ```
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.core.try_send(item)
    }

    /// As [`send`](Self::send), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the item.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (sender, _receiver) = greenring::sync::channel::bounded(1);
    /// sender.send(1).unwrap();
    /// let error = sender.send_timeout(2, Duration::from_millis(1)).unwrap_err();
    /// assert!(error.is_timeout());
    /// assert_eq!(error.into_inner(), 2);
    /// ```
    pub fn send_timeout(&self, item: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        match self.core.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(item)) => Err(SendTimeoutError::Disconnected(item)),
            Err(TrySendError::Full(item)) => self.core.send(item, deadline(timeout)),
        }
    }
}

impl<T> Receiver<T> {
    pub(in crate::sync) fn core(&self) -> &Core<T> {
        &self.core
    }

    /// Receives an item, waiting while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if there is none, and the channel is closed.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::channel::unbounded();
    /// sender.send(1).unwrap();
    /// drop(sender);
    /// assert_eq!(receiver.recv(), Ok(1));
    /// assert!(receiver.recv().is_err());
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.core.recv(None).map_err(|_| RecvError)
    }

    /// Receives an item if there is one.
    ///
    /// It never waits, so it does not see a [`select!`](crate::select) that
    /// could send at a [`rendezvous`], whose item is made only when it is let in.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::channel::unbounded();
    /// assert!(receiver.try_recv().unwrap_err().is_empty());
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.core.try_recv()
    }

    /// As [`recv`](Self::recv), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`].
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = greenring::sync::channel::unbounded::<u32>();
    /// let error = receiver.recv_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert!(error.is_timeout());
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match self.core.try_recv() {
            Ok(item) => Ok(item),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => self.core.recv(deadline(timeout)),
        }
    }

    /// The items that come until the channel is closed and empty; it waits for
    /// each.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::channel::unbounded();
    /// sender.send(1).unwrap();
    /// sender.close();
    /// assert_eq!(receiver.iter().count(), 1);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The items that are there; it does not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::channel::unbounded();
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_iter().count(), 1);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

/// What both sides offer.
macro_rules! both_sides {
    ($side:ident, $name:literal, $add:ident, $remove:ident) => {
        impl<T> $side<T> {
            /// Closes the channel: sending fails from now on, and receiving once
            /// the queue is empty. Whoever waits is told.
            ///
            /// Closing it again changes nothing.
            ///
            /// # Examples
            ///
            /// ```
            /// let (sender, receiver) = greenring::sync::channel::unbounded();
            /// sender.send(1).unwrap();
            /// receiver.close();
            /// assert!(sender.send(2).is_err());
            /// assert_eq!(receiver.recv(), Ok(1));
            /// assert!(receiver.recv().is_err());
            /// ```
            pub fn close(&self) {
                self.core.close();
            }

            /// Whether the channel is closed, by [`close`](Self::close) or
            /// because nobody is left at one of its sides.
            ///
            /// # Examples
            ///
            /// ```
            /// let (sender, receiver) = greenring::sync::channel::unbounded::<u32>();
            /// assert!(!receiver.is_closed());
            /// drop(sender);
            /// assert!(receiver.is_closed());
            /// ```
            pub fn is_closed(&self) -> bool {
                self.core.is_closed()
            }

            /// How many items are in the queue.
            ///
            /// # Examples
            ///
            /// ```
            /// let (sender, receiver) = greenring::sync::channel::unbounded();
            /// sender.send(1).unwrap();
            /// assert_eq!((sender.len(), receiver.len()), (1, 1));
            /// ```
            pub fn len(&self) -> usize {
                self.core.len()
            }

            /// Whether no item is in the queue; that of a rendezvous always is
            /// empty.
            ///
            /// # Examples
            ///
            /// ```
            /// let (sender, receiver) = greenring::sync::channel::unbounded::<u32>();
            /// assert!(sender.is_empty() && receiver.is_empty());
            /// ```
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the queue has no room; that of a rendezvous never has.
            ///
            /// # Examples
            ///
            /// ```
            /// let (sender, receiver) = greenring::sync::channel::bounded(1);
            /// sender.send(1).unwrap();
            /// assert!(sender.is_full() && receiver.is_full());
            /// ```
            pub fn is_full(&self) -> bool {
                self.core.is_full()
            }

            /// For how many items there is room; `None` for any number.
            ///
            /// # Examples
            ///
            /// ```
            /// use greenring::sync::channel;
            ///
            /// assert_eq!(channel::bounded::<u32>(3).0.capacity(), Some(3));
            /// assert_eq!(channel::rendezvous::<u32>().1.capacity(), Some(0));
            /// assert_eq!(channel::unbounded::<u32>().1.capacity(), None);
            /// ```
            pub fn capacity(&self) -> Option<usize> {
                self.core.capacity()
            }

            /// Whether both are of the same channel.
            ///
            /// # Examples
            ///
            /// ```
            /// let (sender, receiver) = greenring::sync::channel::unbounded::<u32>();
            /// assert!(sender.same_channel(&sender.clone()));
            /// assert!(receiver.same_channel(&receiver.clone()));
            /// ```
            pub fn same_channel(&self, other: &$side<T>) -> bool {
                Arc::ptr_eq(&self.core, &other.core)
            }
        }

        impl<T> Clone for $side<T> {
            fn clone(&self) -> $side<T> {
                self.core.$add();
                $side {
                    core: Arc::clone(&self.core),
                }
            }
        }

        impl<T> Drop for $side<T> {
            fn drop(&mut self) {
                self.core.$remove();
            }
        }

        impl<T> fmt::Debug for $side<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    };
}

both_sides!(Sender, "Sender", add_sender, remove_sender);
both_sides!(Receiver, "Receiver", add_receiver, remove_receiver);

/// The items of a channel until it is closed. Made by [`Receiver::iter`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::channel::unbounded();
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

/// The items that are in a channel. Made by [`Receiver::try_iter`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::channel::unbounded();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// The items of a channel until it is closed, with its receiver. Made by
/// `Receiver::into_iter`.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::channel::unbounded();
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.into_iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for IntoIter<T> {}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
