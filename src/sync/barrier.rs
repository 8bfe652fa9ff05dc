//! A line that lets go all at once when enough have come.

use std::fmt;

use super::line::Line;
use crate::hub::Why;

/// Lets green threads and OS threads wait for each other: as
/// [`std::sync::Barrier`].
///
/// # Difference from std
///
/// One that is interrupted while it waits (see [`cancel`](crate::cancel)) has not
/// come: another one is waited for in its stead.
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, Barrier};
/// use greenring::thread;
///
/// let barrier = Arc::new(Barrier::new(3));
/// let handles: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = Arc::clone(&barrier);
///         thread::spawn(move || barrier.wait().is_leader())
///     })
///     .collect();
/// let leaders = handles.into_iter().map(|handle| handle.join().unwrap());
/// assert_eq!(leaders.filter(|leader| *leader).count(), 1);
/// ```
#[repr(C)]
pub struct Barrier {
    line: Line,
    needed: usize,
}

/// Whether a waiter is the one leader of those who met: as
/// [`std::sync::BarrierWaitResult`].
///
/// # Examples
///
/// ```
/// use greenring::sync::Barrier;
///
/// assert!(Barrier::new(1).wait().is_leader());
/// ```
pub struct BarrierWaitResult(bool);

impl Barrier {
    /// A barrier that lets go when `n` wait. None and one are the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Barrier;
    ///
    /// let barrier = Barrier::new(10);
    /// ```
    #[must_use]
    #[inline]
    pub const fn new(n: usize) -> Barrier {
        Barrier {
            line: Line::new(),
            needed: n,
        }
    }

    /// Waits until as many as needed have come. The last of them is the leader.
    /// Afterwards the barrier serves again.
    ///
    /// # Examples
    ///
    /// See [`Barrier`].
    pub fn wait(&self) -> BarrierWaitResult {
        let mut line = self.line.lock();
        let is_leader = line.waiting() + 1 >= self.needed;
        if is_leader {
            line.wake_all();
        } else {
            line.enter().wait(Why::Barrier, None);
        }
        BarrierWaitResult(is_leader)
    }
}

impl BarrierWaitResult {
    /// Whether the caller is the leader: exactly one of those who met is.
    ///
    /// # Examples
    ///
    /// See [`BarrierWaitResult`].
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult")
            .field("is_leader", &self.is_leader())
            .finish()
    }
}
