//! A clock that ticks in equal steps.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::thread;

/// What an [`Interval`] does about ticks that came due while nobody waited, when
/// it is at least a period late.
///
/// # Examples
///
/// ```
/// use greenring::time::{MissedTickBehavior, interval};
///
/// let mut interval = interval(std::time::Duration::from_secs(1));
/// interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Give every one of them at once, one after the other, until the schedule
    /// is caught up with.
    #[default]
    Burst,
    /// Give one at once, and count the period from then on.
    Delay,
    /// Give one at once, and then the next that is due by the old schedule.
    Skip,
}

/// Ticks once per period. Made by [`interval`].
///
/// It stays on its OS thread.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let mut interval = greenring::time::interval(Duration::from_millis(1));
/// for _ in 0..3 {
///     interval.tick();
/// }
/// ```
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    /// When the next tick is due; `None` if that is too far away to be said.
    next: Option<Instant>,
    behavior: MissedTickBehavior,
    not_send: PhantomData<*const ()>,
}

/// A clock that ticks at once and then once per period.
///
/// # Panics
///
/// If the period is zero.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let begin = Instant::now();
/// let mut interval = greenring::time::interval(Duration::from_millis(2));
/// interval.tick(); // at once
/// interval.tick();
/// assert!(begin.elapsed() >= Duration::from_millis(2));
/// ```
#[must_use]
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval is not zero");
    Interval {
        period,
        next: Some(Instant::now()),
        behavior: MissedTickBehavior::default(),
        not_send: PhantomData,
    }
}

impl Interval {
    /// Waits until the next tick is due, and gives the instant at which it was.
    ///
    /// An interrupt while it waits loses no tick.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut interval = greenring::time::interval(Duration::from_millis(1));
    /// let first = interval.tick();
    /// assert_eq!(interval.tick() - first, Duration::from_millis(1));
    /// ```
    pub fn tick(&mut self) -> Instant {
        let Some(due) = self.next else {
            thread::sleep(Duration::MAX);
            unreachable!("a century has passed");
        };
        let mut now = Instant::now();
        if now < due {
            thread::sleep_until(due);
            now = due;
        }
        self.next = due.checked_add(self.period);
        if self.next.is_some_and(|next| next <= now) {
            // That one is missed, too.
            self.next = match self.behavior {
                MissedTickBehavior::Burst => self.next,
                MissedTickBehavior::Delay => now.checked_add(self.period),
                MissedTickBehavior::Skip => {
                    let late = now.duration_since(due).as_nanos();
                    // Less than a period, so it is a Duration.
                    let past = Duration::from_nanos_u128(late % self.period.as_nanos());
                    now.checked_add(self.period - past)
                }
            };
        }
        due
    }

    /// Says what is done about missed ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::time::{MissedTickBehavior, interval};
    ///
    /// let mut interval = interval(std::time::Duration::from_secs(1));
    /// interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    /// ```
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.behavior = behavior;
    }

    /// The period.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let interval = greenring::time::interval(Duration::from_secs(1));
    /// assert_eq!(interval.period(), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }
}
