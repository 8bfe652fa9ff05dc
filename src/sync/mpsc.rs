//! Channels with many senders and one receiver: `std::sync::mpsc` between green
//! threads and OS threads.
//!
//! The errors are std's own types.
//!
//! # Examples
//!
//! ```
//! use greenring::sync::mpsc;
//! use greenring::thread;
//!
//! let (sender, receiver) = mpsc::channel();
//! for worker in 0..3 {
//!     let sender = sender.clone();
//!     thread::spawn(move || sender.send(worker * worker));
//! }
//! drop(sender);
//! assert_eq!(receiver.iter().sum::<u32>(), 5);
//! ```

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::channel::{self, Core};
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

/// A channel that always has room: sending never waits.
///
/// # Examples
///
/// ```
/// use greenring::sync::mpsc;
///
/// let (sender, receiver) = mpsc::channel();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = channel::unbounded();
    (Sender { sender }, Receiver::new(receiver))
}

/// A channel with room for `bound` items: sending waits while there is none.
/// With a bound of 0 it waits for the receiver, and the item goes from hand to
/// hand.
///
/// # Examples
///
/// ```
/// use greenring::sync::mpsc;
/// use greenring::thread;
///
/// let (sender, receiver) = mpsc::sync_channel(1);
/// thread::spawn(move || (0..3).try_for_each(|n| sender.send(n)));
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2]);
/// ```
#[must_use]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, receiver) = channel::bounded(bound);
    (SyncSender { sender }, Receiver::new(receiver))
}

/// The sending side of [`channel()`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::mpsc::channel();
/// sender.clone().send(1).unwrap();
/// sender.send(2).unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
/// ```
pub struct Sender<T> {
    sender: channel::Sender<T>,
}

// By hand, because an item need not be Clone for this.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        let sender = self.sender.clone();
        Sender { sender }
    }
}

/// The sending side of [`sync_channel`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::mpsc::sync_channel(2);
/// sender.clone().send(1).unwrap();
/// sender.send(2).unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
/// ```
pub struct SyncSender<T> {
    sender: channel::Sender<T>,
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> SyncSender<T> {
        let sender = self.sender.clone();
        SyncSender { sender }
    }
}

/// The receiving side of [`channel()`] and [`sync_channel`].
///
/// There is one only, which may be sent to another OS thread but not shared with
/// it. [`sync::channel`](crate::sync::channel) has receivers that may be cloned.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::mpsc::channel();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
///
/// ```compile_fail,E0277
/// let (sender, receiver) = greenring::sync::mpsc::channel::<u32>();
/// std::thread::scope(|scope| scope.spawn(|| receiver.recv()).join()); // error: not `Sync`
/// ```
pub struct Receiver<T> {
    receiver: channel::Receiver<T>,
    not_sync: PhantomData<Cell<()>>,
}

// As std's: what a panic leaves behind is a channel in order.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    pub(in crate::sync) fn core(&self) -> &Core<T> {
        self.sender.core()
    }

    /// Sends an item; it never waits.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the item if the receiver is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::mpsc::channel();
    /// sender.send(1).unwrap();
    /// drop(receiver);
    /// assert_eq!(sender.send(2).unwrap_err().0, 2);
    /// ```
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.sender.send(t).map_err(|error| SendError(error.0))
    }
}

impl<T> SyncSender<T> {
    pub(in crate::sync) fn core(&self) -> &Core<T> {
        self.sender.core()
    }

    /// Sends an item, waiting while there is no room.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the item if the receiver is gone, or goes before there
    /// is room.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::mpsc::sync_channel(1);
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.recv(), Ok(1));
    /// ```
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.sender.send(t).map_err(|error| SendError(error.0))
    }

    /// Sends an item if there is room, or the receiver waits.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the item.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::mpsc::{TrySendError, sync_channel};
    ///
    /// let (sender, _receiver) = sync_channel(1);
    /// sender.try_send(1).unwrap();
    /// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    /// ```
    pub fn try_send(&self, t: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(t).map_err(|error| match error {
            channel::TrySendError::Full(t) => TrySendError::Full(t),
            channel::TrySendError::Disconnected(t) => TrySendError::Disconnected(t),
        })
    }
}

impl<T> Receiver<T> {
    fn new(receiver: channel::Receiver<T>) -> Receiver<T> {
        Receiver {
            receiver,
            not_sync: PhantomData,
        }
    }

    pub(in crate::sync) fn core(&self) -> &Core<T> {
        self.receiver.core()
    }

    /// Receives an item if there is one.
    ///
    /// It never waits, so it does not see a [`select!`](crate::select) that
    /// could send at a bound of 0, whose item is made only when it is let in.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::mpsc::{TryRecvError, channel};
    ///
    /// let (sender, receiver) = channel();
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().map_err(|error| match error {
            channel::TryRecvError::Empty => TryRecvError::Empty,
            channel::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Receives an item, waiting while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if there is none, and no sender is left.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{sync::mpsc, thread};
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// thread::spawn(move || sender.send(1));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// assert!(receiver.recv().is_err());
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv()
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
    /// use greenring::sync::mpsc::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = channel::<u32>();
    /// let result = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(result, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver
            .recv_timeout(timeout)
            .map_err(|error| match error {
                channel::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
                channel::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
            })
    }

    /// The items that come until no sender is left; it waits for each.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::mpsc::channel();
    /// sender.send(1).unwrap();
    /// drop(sender);
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
    /// let (sender, receiver) = greenring::sync::mpsc::channel();
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_iter().count(), 1);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// The items of a channel until no sender is left. Made by [`Receiver::iter`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::mpsc::channel();
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct Iter<'a, T: 'a> {
    receiver: &'a Receiver<T>,
}

/// The items that are in a channel. Made by [`Receiver::try_iter`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::mpsc::channel();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct TryIter<'a, T: 'a> {
    receiver: &'a Receiver<T>,
}

/// The items of a channel until no sender is left, with its receiver. Made by
/// `Receiver::into_iter`.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::mpsc::channel();
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.into_iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> Iterator for TryIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

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
