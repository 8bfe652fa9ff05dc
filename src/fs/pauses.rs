//! Pauses between two looks at what nobody tells us.

use std::time::{Duration, Instant};

use crate::cancel;
use crate::hub::{Wait, Why};

/// 1 ms, doubling up to 50 ms.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Pauses {
        Pauses(Duration::from_millis(1))
    }

    /// The length of the next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_millis(50));
        pause
    }

    /// Lets the others go on for the next pause.
    pub(super) fn sleep(&mut self) {
        let deadline = Instant::now() + self.next();
        cancel::park(Wait::begin(), Why::Sleep, 0, Some(deadline));
    }
}
