//! A time limit on whatever a closure waits for.

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::cancel::{self, Overdue};
use crate::hub;
use crate::thread;

/// The time of a [`timeout`] has passed.
///
/// # Examples
///
/// ```
/// use greenring::{thread, time};
/// use std::time::Duration;
///
/// let elapsed = time::timeout(Duration::from_millis(1), thread::park).unwrap_err();
/// assert_eq!(elapsed.to_string(), "the time limit has passed");
/// assert_eq!(std::io::Error::from(elapsed).kind(), std::io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `f`, interrupting it when it waits for anything after `dur` has passed.
///
/// The call of `f` that waits then, or the next one that would, unwinds to here,
/// see [`cancel`]; destructors run. An `f` that finishes wins,
/// however late: computing is not interrupted, and a call that has its result
/// returns it. A zero `dur` interrupts the first call that would wait.
///
/// A stream that was in the middle of `read_line`, `write_all` or the like is of
/// no more use then, see [`cancel`]; the socket's own `set_read_timeout` loses
/// nothing.
///
/// Time limits nest. Each is caught by its own call; if several have passed, by
/// the outermost.
///
/// # Errors
///
/// [`Elapsed`] if `f` was interrupted by this limit.
///
/// # Panics
///
/// If `f` does, with its payload; if the hub must be started and cannot; if the
/// program was compiled with `panic = "abort"`, see
/// [`cancel::supported`].
///
/// # Examples
///
/// ```
/// use greenring::{thread, time};
/// use std::time::Duration;
///
/// let quick = time::timeout(Duration::from_secs(10), || 1 + 1);
/// assert_eq!(quick, Ok(2));
///
/// let slow = time::timeout(Duration::from_millis(1), || {
///     thread::sleep(Duration::from_secs(10));
///     "never"
/// });
/// assert!(slow.is_err());
/// ```
#[track_caller]
pub fn timeout<T>(dur: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    limit(Instant::now().checked_add(dur), f)
}

/// As [`timeout`], with an instant that may have passed already.
///
/// # Errors
///
/// As [`timeout`].
///
/// # Panics
///
/// As [`timeout`].
///
/// # Examples
///
/// ```
/// use greenring::{thread, time};
/// use std::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_millis(1);
/// assert!(time::timeout_at(deadline, thread::park).is_err());
/// ```
#[track_caller]
pub fn timeout_at<T>(deadline: Instant, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    limit(Some(deadline), f)
}

#[track_caller]
fn limit<T>(deadline: Option<Instant>, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    cancel::require_unwinding("a time limit on a closure");
    thread::install_panic_hook();
    let run = |edge| {
        catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
            match payload.downcast::<Overdue>() {
                Ok(overdue) if overdue.0 == edge => {
                    hub::note_no_interrupt();
                    Elapsed(())
                }
                // Another limit's, further out.
                Ok(overdue) => resume_unwind(overdue),
                Err(payload) => resume_unwind(payload),
            }
        })
    };
    hub::limited(deadline, run)
        .unwrap_or_else(|error| panic!("no hub can be had for a time limit: {error}"))
}
