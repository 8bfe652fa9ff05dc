//! Channels for a single item: the answer to a question.
//!
//! # Examples
//!
//! ```
//! use greenring::sync::oneshot;
//! use greenring::thread;
//!
//! let (sender, receiver) = oneshot::channel();
//! thread::spawn(move || sender.send(6 * 7));
//! assert_eq!(receiver.recv(), Ok(42));
//! ```

use std::fmt;
use std::time::Duration;

use super::channel::Core;
use super::mpsc;
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};

/// A channel for one item.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::oneshot::channel();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (Sender { sender }, Receiver { receiver })
}

/// Sends the item. Dropping it says that none will come.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::oneshot::channel::<u32>();
/// drop(sender);
/// assert!(receiver.recv().is_err());
/// ```
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
}

/// Receives the item, once.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = greenring::sync::oneshot::channel();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.recv(), Ok(1));
/// assert!(receiver.recv().is_err()); // there was only one
/// ```
pub struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
}

impl<T> Sender<T> {
    /// Sends the item; it never waits.
    ///
    /// # Errors
    ///
    /// The item if the receiver is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::oneshot::channel();
    /// drop(receiver);
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn send(self, t: T) -> Result<(), T> {
        self.sender.send(t).map_err(|error| error.0)
    }

    /// Whether the receiver is gone, so that nobody waits for the item.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::oneshot::channel::<u32>();
    /// assert!(!sender.is_closed());
    /// drop(receiver);
    /// assert!(sender.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.sender.core().is_closed()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> Receiver<T> {
    pub(in crate::sync) fn core(&self) -> &Core<T> {
        self.receiver.core()
    }

    /// Receives the item, waiting until it comes.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if it was received before, or the sender is gone without
    /// it.
    ///
    /// # Panics
    ///
    /// On the root of a hub, if the wait could never end, see [`sync`](crate::sync).
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = greenring::sync::oneshot::channel();
    /// greenring::spawn(move || sender.send(1));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// Receives the item if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::oneshot::{TryRecvError, channel};
    ///
    /// let (_sender, receiver) = channel::<u32>();
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
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
    /// use greenring::sync::oneshot::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = channel::<u32>();
    /// let result = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(result, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }
}
