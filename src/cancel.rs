//! Cancellation: the policy. The mechanics are the hub's.
//!
//! A green thread is cancelled by interrupting the call in which it waits, or
//! the next one in which it would. The interrupt unwinds its stack with
//! [`Cancelled`] for a payload, so destructors run as in a panic, but no panic
//! hook does; it is caught at the green thread's entry. Until it gets there,
//! every further waiting call raises it again, except while unwinding: what a
//! destructor waits for, it gets.
//!
//! Today it is the end of [`runtime::Builder::run`](crate::runtime::Builder::run)
//! that cancels.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;
use std::time::Instant;

use crate::hub::{self, Interrupt, Wait, Wakeup, Why};

/// What the [`join`](crate::thread::JoinHandle::join) of a cancelled green
/// thread gives as its error.
///
/// # Examples
///
/// ```
/// use greenring::{Cancelled, runtime, thread};
///
/// // The hub ends while the green thread sleeps, which cancels it.
/// let handle = runtime::Builder::new()
///     .run(|| thread::spawn(|| thread::sleep(std::time::Duration::MAX)))?;
/// let payload = handle.join().unwrap_err();
/// assert!(Cancelled::is(&payload));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancelled;

impl Cancelled {
    /// Whether a panic's payload says that a green thread was cancelled.
    ///
    /// It looks through one `Box`, because `&payload` of a `thread::Result`'s
    /// error is a reference to the `Box` and not to what is in it; both forms
    /// work.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{Cancelled, thread};
    ///
    /// let payload = thread::spawn(|| panic!("on purpose")).join().unwrap_err();
    /// assert!(!Cancelled::is(&payload) && !Cancelled::is(&*payload));
    /// ```
    pub fn is(payload: &(dyn Any + Send)) -> bool {
        match payload.downcast_ref::<Box<dyn Any + Send>>() {
            Some(boxed) => boxed.is::<Cancelled>(),
            None => payload.is::<Cancelled>(),
        }
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the green thread was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// The payload that unwinds to the [`timeout`](crate::time::timeout) that it
/// belongs to.
pub(crate) struct Overdue(pub(crate) hub::EdgeKey);

/// Interrupts the caller: unwinds to the edge that is due.
pub(crate) fn raise() -> ! {
    let interrupt = hub::pending().expect("an interrupt stays until its edge is left");
    hub::note_interrupt();
    match interrupt {
        Interrupt::Cancelled => resume_unwind(Box::new(Cancelled)),
        Interrupt::Overdue(edge) => resume_unwind(Box::new(Overdue(edge))),
    }
}

/// Parks a wait; true if it was unparked, false if its deadline passed.
///
/// Turns the hub's other verdicts into what the user sees: an interrupt
/// unwinds, a wait that nothing can end panics with the table of all green
/// threads.
pub(crate) fn park(wait: Wait, why: Why, subject: usize, deadline: Option<Instant>) -> bool {
    match wait.park(why, subject, deadline) {
        Wakeup::Unparked => true,
        Wakeup::TimedOut => false,
        verdict => raise_verdict(verdict, why),
    }
}

/// Raises the verdict of a wait that has been neither ended nor timed out.
#[cold]
pub(crate) fn raise_verdict(verdict: Wakeup, why: Why) -> ! {
    match verdict {
        Wakeup::Interrupted => raise(),
        Wakeup::Stuck => panic!(
            "this wait would last for ever: nothing is ready, no operation is in flight, no \
             deadline is set, no signal is handled and no other OS thread exists\n{}",
            hub::print_table(why)
        ),
        Wakeup::Unparked | Wakeup::TimedOut => unreachable!("nothing to raise"),
    }
}

/// Gives every other ready green thread a turn.
pub(crate) fn yield_now() {
    if hub::yield_now() == Wakeup::Interrupted {
        raise();
    }
}
