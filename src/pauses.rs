//! Pauses between two looks at what nobody tells us.

use std::time::{Duration, Instant};

use crate::cancel;
use crate::hub::{Wait, Why};

/// Pauses that grow.
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// 1 ms, doubling up to 50 ms: long against a system call, short against a
    /// person's patience.
    pub(crate) fn short() -> Pauses {
        Pauses::between(Duration::from_millis(1), Duration::from_millis(50))
    }

    /// Pauses that double from the first to the longest.
    pub(crate) fn between(first: Duration, longest: Duration) -> Pauses {
        Pauses {
            next: first,
            longest,
        }
    }

    /// The length of the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Lets the others go on for the next pause.
    pub(crate) fn sleep(&mut self) {
        let deadline = Instant::now() + self.next();
        cancel::park(Wait::begin(), Why::Sleep, 0, Some(deadline));
    }
}
