//! Time: `std::time`, and limits and clocks for green threads.

mod interval;
mod timeout;

#[doc(no_inline)]
pub use std::time::*;

pub use interval::{Interval, MissedTickBehavior, interval};
pub use timeout::{Elapsed, timeout, timeout_at};
