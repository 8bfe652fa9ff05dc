//! A flag that one can wait for, and a line of those who do.

use std::fmt;
use std::time::{Duration, Instant};

use super::line::Line;
use super::wait_list::{Claim, Ticket};
use crate::atomic::{AtomicU8, Ordering};
use crate::hub::{Unparker, Why};

/// In `state`: the event is set.
const SET: u8 = 1;
/// In `state`: perhaps somebody waits. Then it changes to [`SET`] only under the
/// line's lock.
const WAITING: u8 = 2;

/// A flag that green threads and OS threads can wait for.
///
/// Waiting for one that is set does not park, and setting one that nobody waits
/// for is one atomic operation. So who finds it set goes on at once, also before
/// those that it has just woken have run (in gevent they run first).
///
/// # Examples
///
/// ```
/// use greenring::sync::{Arc, Event};
/// use greenring::thread;
///
/// let ready = Arc::new(Event::new());
/// let waiter = {
///     let ready = Arc::clone(&ready);
///     thread::spawn(move || ready.wait())
/// };
/// thread::yield_now();
/// ready.set();
/// waiter.join().unwrap();
/// ```
#[repr(C)]
pub struct Event {
    line: Line,
    state: AtomicU8,
}

impl Event {
    /// An event that is not set.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Event;
    ///
    /// static STOP: Event = Event::new();
    /// assert!(!STOP.is_set());
    /// ```
    #[must_use]
    #[inline]
    pub const fn new() -> Event {
        Event {
            line: Line::new(),
            state: AtomicU8::new(0),
        }
    }

    /// Sets it, and wakes all who wait, in the order in which they came. Those
    /// who wait now are woken even if it is cleared before they run.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    #[inline]
    pub fn set(&self) {
        let state = self.state.load(Ordering::Relaxed);
        if state & WAITING != 0
            || self
                .state
                .compare_exchange(state, SET, Ordering::Release, Ordering::Relaxed)
                .is_err()
        {
            self.set_slow();
        }
    }

    #[cold]
    fn set_slow(&self) {
        let line = self.line.lock();
        self.state.store(SET, Ordering::Release);
        line.wake_all();
    }

    /// Clears it: who comes from now on waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    #[inline]
    pub fn clear(&self) {
        self.state.fetch_and(!SET, Ordering::Release);
    }

    /// Whether it is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    #[must_use]
    #[inline]
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set.
    ///
    /// # Examples
    ///
    /// See [`Event`].
    #[inline]
    pub fn wait(&self) {
        if !self.is_set() {
            self.wait_until(None);
        }
    }

    /// Waits until it is set, for no longer than `dur`; whether it was set.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Event;
    /// use std::time::Duration;
    ///
    /// let event = Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::ZERO));
    /// ```
    #[inline]
    pub fn wait_timeout(&self, dur: Duration) -> bool {
        self.is_set() || self.wait_until(Instant::now().checked_add(dur))
    }

    #[cold]
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let line = self.line.lock();
        // From now on it is set under the lock only.
        if self.state.fetch_or(WAITING, Ordering::Acquire) & SET != 0 {
            return true;
        }
        line.enter().wait(Why::Event, deadline)
    }

    /// Enters the line for one arm of a `select!`; `None` if it is set.
    pub(super) fn enrol(&self, unparker: Unparker, claim: &Claim, arm: usize) -> Option<Ticket> {
        let line = self.line.lock();
        if self.state.fetch_or(WAITING, Ordering::Acquire) & SET != 0 {
            return None;
        }
        Some(line.enter_with(unparker, claim, arm))
    }

    /// Leaves the line again; whether the event was set meanwhile.
    pub(super) fn leave(&self, ticket: Ticket) -> bool {
        self.line.lock().leave(ticket)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}
