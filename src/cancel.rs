//! Cancellation: what it is, who may hold it back.
//!
//! A green thread is cancelled by [`JoinHandle::cancel`](crate::thread::JoinHandle::cancel),
//! by the end of [`runtime::Builder::run`](crate::runtime::Builder::run), or with
//! its scope or pool. That interrupts the call in which it waits, or the next one
//! in which it would. An interrupt unwinds the stack with a payload, so
//! destructors run as in a panic, but no panic hook does; it is caught at the edge
//! that owns it: the green thread's entry, or the
//! [`time::timeout`](crate::time::timeout) whose time has passed.
//!
//! - Until it gets to its edge every further waiting call raises it again, so a
//!   `catch_unwind` in between does not swallow it.
//! - What is done is done: a call that has its result returns it, and the
//!   interrupt comes at the next one. No byte, message, lock or permit is lost.
//! - What one call has done is not lost, but what several had in hand is: std's
//!   `read_line`, `read_exact`, `read_to_end` and `write_all` are many calls, and
//!   unwinding drops what the first ones gave. After an interrupt in the middle of
//!   one nobody knows how far the stream has come: close it. A limit that leaves
//!   it usable is the socket's own, `set_read_timeout`, or a
//!   [`shield`] around the exchange.
//! - It is no panic: it poisons no lock of [`sync`](crate::sync).
//! - While unwinding nothing is interrupted: what a destructor waits for, it
//!   gets, and a [`timeout`](crate::time::timeout) in it does not fire. (std
//!   counts panics per OS thread; so this goes for a sibling, too, while a
//!   destructor of an unwinding green thread waits.)
//! - It cannot unwind through a frame of another language: where C calls back
//!   into Rust, wait inside [`shield`] only, else the process aborts.
//! - With `panic = "abort"` in the Cargo profile nothing can unwind:
//!   [`supported`] is false.

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
/// use greenring::{Cancelled, thread};
///
/// let handle = thread::spawn(|| thread::sleep(std::time::Duration::MAX));
/// handle.cancel();
/// let payload = handle.join().unwrap_err();
/// assert!(Cancelled::is(&payload));
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

/// Holds back what would interrupt the caller while `f` runs: its cancellation,
/// and the [`timeout`](crate::time::timeout)s around the call. Those that `f`
/// sets itself work.
///
/// Shields nest. What was held back comes at the first waiting call afterwards.
///
/// # Examples
///
/// ```
/// use greenring::{cancel, thread};
/// use std::time::Duration;
///
/// let handle = thread::spawn(|| {
///     cancel::shield(|| thread::sleep(Duration::from_millis(1))); // undisturbed
///     thread::sleep(Duration::MAX); // interrupted at once
/// });
/// thread::yield_now();
/// handle.cancel();
/// assert!(handle.join().is_err());
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    hub::shielded(f)
}

/// Whether the calling green thread has been cancelled, or the time of a
/// [`timeout`](crate::time::timeout) around it has passed: for long
/// computations, which no waiting call interrupts.
///
/// A [`shield`] hides the time limits around it, but not the cancellation.
///
/// # Examples
///
/// ```
/// use greenring::{cancel, thread};
///
/// let handle = thread::spawn(|| {
///     let mut rounds = 0;
///     while !cancel::is_cancelled() {
///         rounds += 1;
///         cancel::shield(thread::yield_now);
///     }
///     rounds
/// });
/// thread::yield_now();
/// handle.cancel();
/// assert_eq!(handle.join().unwrap(), 1);
/// ```
#[must_use]
pub fn is_cancelled() -> bool {
    hub::is_cancelled()
}

/// Whether green threads can be cancelled at all: false if the program was
/// compiled with `panic = "abort"`, because an interrupt unwinds.
///
/// Then [`JoinHandle::cancel`](crate::thread::JoinHandle::cancel) and
/// [`time::timeout`](crate::time::timeout) panic. Time limits of sockets and the
/// `_timeout` forms of waiting calls work everywhere.
///
/// # Examples
///
/// ```
/// assert!(greenring::cancel::supported());
/// ```
#[must_use]
pub const fn supported() -> bool {
    cfg!(panic = "unwind")
}

/// Refuses what cannot work with `panic = "abort"`.
#[track_caller]
pub(crate) fn require_unwinding(what: &str) {
    assert!(
        supported(),
        "{what} needs unwinding, but the program was compiled with panic = \"abort\": remove that \
         setting from the Cargo profile, or use time limits of sockets and _timeout methods"
    );
}

/// Whether a panic's payload is an interrupt on its way to its edge.
pub(crate) fn is_interrupt(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Cancelled>() || payload.is::<Overdue>()
}

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

/// Interrupts the caller if that is due: for the begin of what cannot be
/// interrupted later.
pub(crate) fn check() {
    if hub::is_interrupted() {
        raise();
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
        Wakeup::Stuck => panic!("{}", stuck(why)),
        Wakeup::Unparked | Wakeup::TimedOut => unreachable!("nothing to raise"),
    }
}

/// What is said of a wait for `why` that nothing can end.
pub(crate) fn stuck(why: Why) -> String {
    format!(
        "this wait would last for ever: nothing is ready, no operation is in flight, no deadline \
         is set, no signal is handled and no other OS thread exists\n{}",
        hub::print_table(why)
    )
}

/// Gives every other ready green thread a turn.
pub(crate) fn yield_now() {
    if hub::yield_now() == Wakeup::Interrupted {
        raise();
    }
}
