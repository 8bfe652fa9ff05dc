//! Where a contestant's work runs.

#![allow(dead_code)] // Each bench uses its own part of this.

use std::future::Future;
use std::sync::Once;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::machine::{cpu_time, cpu_time_since};

/// The CPU time of `work`.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = cpu_time();
    work();
    cpu_time_since(start)
}

/// On a green thread of the calling OS thread's hub.
pub fn on_greenring<T: 'static>(work: impl FnOnce() -> T + 'static) -> T {
    greenring::spawn(work).join().expect("it does not panic")
}

/// On tokio with one OS thread, the caller's, and without a clock, which it
/// would read now and then.
pub fn on_tokio<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(work)
}

/// As [`on_tokio`], for work that needs the clock.
pub fn on_tokio_with_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

/// As [`on_tokio`], for work that waits for sockets.
pub fn on_tokio_with_io<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_io().build();
    runtime.expect("a runtime").block_on(work)
}

/// On a coroutine of may, which has one OS thread for them all; its CPU is that
/// of whoever comes here first.
pub fn on_may<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        may::config().set_workers(1);
        // Otherwise it chooses its CPU itself.
        may::config().set_worker_pin(false);
    });
    may::go!(work).join().expect("it does not panic")
}
