//! Moments of a clock that costs almost nothing to read and little to keep.
//!
//! A moment is 32 bits: steps of 2^24 ns (17 ms) of CLOCK_MONOTONIC_COARSE,
//! which the kernel advances at every tick. Differences are right up to 2 years.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of a step, as a power of two.
const STEP: u32 = 24;

/// A moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment(u32);

impl Moment {
    /// The present one.
    #[inline]
    pub(super) fn now() -> Moment {
        // The clock exists since Linux 2.6.32.
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Moment(0), |now| {
            let nanoseconds = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
            Moment((nanoseconds >> STEP) as u32)
        })
    }

    /// How long before `later` it was, to the step.
    pub(super) fn until(self, later: Moment) -> Duration {
        let steps = later.0.wrapping_sub(self.0);
        Duration::from_nanos(u64::from(steps) << STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_survive_the_end_of_the_numbers() {
        let step = Duration::from_nanos(1 << STEP);
        assert_eq!(Moment(5).until(Moment(5)), Duration::ZERO);
        assert_eq!(Moment(5).until(Moment(7)), 2 * step);
        assert_eq!(Moment(u32::MAX).until(Moment(1)), 2 * step);
    }

    #[test]
    fn it_goes_on_with_the_clock() {
        let first = Moment::now();
        while Moment::now() == first {
            std::thread::yield_now();
        }
        assert!(first.until(Moment::now()) < Duration::from_secs(60));
    }
}
