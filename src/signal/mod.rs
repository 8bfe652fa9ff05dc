//! Signals of the process, received by green threads.
//!
//! [`Signals`] receives several; [`ctrl_c`] waits for one SIGINT; [`on`] runs a
//! closure for each that comes, as a green thread and so free to do what any
//! green thread may: wait, lock, print, allocate.
//!
//! ```no_run
//! use greenring::signal::{self, SIGHUP, SIGINT, SIGTERM, Signals};
//!
//! fn main() -> std::io::Result<()> {
//!     signal::on(SIGHUP, || println!("reading the configuration again"))?;
//!     // … serve …
//!     let signal = Signals::new(&[SIGINT, SIGTERM])?.recv();
//!     println!("ends because of signal {signal}");
//!     Ok(())
//! }
//! ```
//!
//! # What happens to a signal
//!
//! - While a `Signals` for it is alive, its default action is not taken, and
//!   every such `Signals` receives it, on whatever OS thread. Afterwards the
//!   process treats it as before.
//! - It is received once or more often if it comes several times before it is
//!   received, as the kernel itself does with standard signals. That it came is
//!   never lost.
//! - A handler that the process had for it is called as before, within the
//!   signal. One that is installed later should call the handler that it finds,
//!   or nothing is received any more.
//! - No signal is blocked by this, so child processes start as always. System
//!   calls that it interrupts are restarted (`SA_RESTART`).
//! - In a forked child that does not call exec(2) it is caught, but neither the
//!   child nor the parent receives it; the child may make a `Signals` of its own.
//!
//! [`on`] and a `Signals` that a green thread holds last until
//! [`runtime::Builder::run`](crate::runtime::Builder::run) ends its hub. The
//! hub of an OS thread that simply ends abandons them: the signal is then still
//! caught, and nobody receives it.

mod handler;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

#[doc(no_inline)]
pub use libc::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGWINCH,
};
use nix::sys::signal::Signal;

use crate::cancel::Cancelled;
use crate::fd::Direction;
use crate::thread;
use handler::{HIGHEST, Subscription, bit, members};

/// Receives signals of the process.
///
/// It stays on its OS thread: it is neither `Send` nor `Sync`.
///
/// # Examples
///
/// ```
/// use greenring::signal::{SIGUSR1, Signals};
///
/// let mut signals = Signals::new(&[SIGUSR1])?;
/// // SAFETY: the signal is caught.
/// unsafe { libc::raise(SIGUSR1) };
/// assert_eq!(signals.recv(), SIGUSR1);
/// assert_eq!(signals.try_recv(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// ```compile_fail,E0277
/// let signals = greenring::signal::Signals::new(&[10]).unwrap();
/// std::thread::spawn(move || drop(signals)); // error: it is not `Send`
/// ```
#[must_use = "the signals are caught only while it lives"]
pub struct Signals {
    subscription: Subscription,
    _this_os_thread: PhantomData<*const ()>,
}

impl Signals {
    /// Receives these signals from now on.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: a number that no signal has; a signal that cannot be
    ///   caught (SIGKILL, SIGSTOP), that tells of a fault, from which nothing
    ///   can go on (SIGSEGV, SIGBUS, SIGFPE, SIGILL), or that the C library
    ///   keeps to itself; no signal at all. The text names the signal.
    /// - No descriptors: each takes two, which are kept for the next.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::signal::{SIGINT, SIGTERM, Signals};
    /// use std::io::ErrorKind;
    ///
    /// let signals = Signals::new(&[SIGINT, SIGTERM])?;
    /// let error = Signals::new(&[libc::SIGKILL]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidInput);
    /// assert!(error.to_string().contains("SIGKILL"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(signals: &[i32]) -> io::Result<Signals> {
        let mut wanted = 0;
        for &signal in signals {
            check(signal)?;
            wanted |= bit(signal);
        }
        if wanted == 0 {
            return Err(invalid("no signal was named to receive".to_owned()));
        }
        Ok(Signals {
            subscription: Subscription::new(wanted)?,
            _this_os_thread: PhantomData,
        })
    }

    /// Waits for one of the signals and takes it. Of several that have come, the
    /// one with the lowest number is first.
    ///
    /// # Panics
    ///
    /// If the hub must be started and cannot be.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::signal::{SIGUSR1, SIGUSR2, Signals};
    /// use greenring::thread;
    ///
    /// let mut signals = Signals::new(&[SIGUSR1, SIGUSR2])?;
    /// thread::spawn(|| {
    ///     // SAFETY: the signal is caught.
    ///     unsafe { libc::raise(SIGUSR2) }
    /// });
    /// assert_eq!(signals.recv(), SIGUSR2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn recv(&mut self) -> i32 {
        self.receive(None)
            .expect("without a deadline only a signal ends the wait")
    }

    /// As [`recv`](Signals::recv), for at most `timeout`; `None` when that has
    /// passed.
    ///
    /// # Panics
    ///
    /// As [`recv`](Signals::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::signal::{SIGUSR1, Signals};
    /// use std::time::Duration;
    ///
    /// let mut signals = Signals::new(&[SIGUSR1])?;
    /// assert_eq!(signals.recv_timeout(Duration::from_millis(5)), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<i32> {
        // A deadline that the clock cannot express is never reached.
        self.receive(Instant::now().checked_add(timeout))
    }

    /// Takes a signal that has come, if there is one.
    ///
    /// # Panics
    ///
    /// As [`recv`](Signals::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::signal::{SIGUSR1, Signals};
    ///
    /// let mut signals = Signals::new(&[SIGUSR1])?;
    /// assert_eq!(signals.try_recv(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Option<i32> {
        self.receive(Some(Instant::now()))
    }

    /// Reads until there is a signal to take. It reads first also when one has
    /// come already: so a storm of signals leaves a turn for the others, and the
    /// caller can be cancelled.
    fn receive(&mut self, deadline: Option<Instant>) -> Option<i32> {
        let reader = self.subscription.reader();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let is_over = left == Some(Duration::ZERO);
            reader.note_nonblocking(is_over);
            reader.note_timeout(Direction::Read, left);
            match reader.recv(&mut [0; 64], 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if is_over {
                        return None;
                    }
                }
                Err(error) => panic!("cannot wait for a signal: {error}"),
            }
            // A byte may be left of a signal that was taken by another's.
            if let Some(signal) = self.subscription.take() {
                return Some(signal);
            }
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = members(self.subscription.wanted()).map(name).collect();
        write!(f, "Signals {{{}}}", names.join(", "))
    }
}

/// Waits for SIGINT, which a terminal sends for control-C.
///
/// Only while it waits: a SIGINT before or after ends the process as usual. To
/// receive more than one, make a [`Signals`].
///
/// # Errors
///
/// No descriptors.
///
/// # Panics
///
/// As [`Signals::recv`].
///
/// # Examples
///
/// ```
/// use greenring::{signal, thread};
///
/// let waiting = thread::spawn(signal::ctrl_c);
/// thread::yield_now();
/// // SAFETY: the signal is caught.
/// unsafe { libc::raise(signal::SIGINT) };
/// waiting.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn ctrl_c() -> io::Result<()> {
    Signals::new(&[SIGINT])?.recv();
    Ok(())
}

/// Calls `handler` on a green thread of its own each time the signal comes,
/// until the hub ends.
///
/// The calls come one after the other: while one waits, the others of the hub
/// go on, and what comes meanwhile makes the next call. A panic is told as any
/// green thread's, and the handler stays.
///
/// # Errors
///
/// As [`Signals::new`]; no stack or no hub for the green thread.
///
/// # Examples
///
/// ```
/// use greenring::{runtime, signal, thread};
/// use std::{cell::Cell, rc::Rc};
///
/// let calls = Rc::new(Cell::new(0));
/// let count = Rc::clone(&calls);
/// runtime::Builder::new().run(|| -> std::io::Result<()> {
///     signal::on(signal::SIGUSR1, move || count.set(count.get() + 1))?;
///     // SAFETY: the signal is caught.
///     unsafe { libc::raise(signal::SIGUSR1) };
///     while calls.get() == 0 {
///         thread::yield_now();
///     }
///     Ok(())
/// })?
/// # ;Ok::<(), std::io::Error>(())
/// ```
///
/// The handler may not borrow from its caller, who may be gone before it is:
///
/// ```compile_fail,E0373
/// let mut calls = 0;
/// greenring::signal::on(10, || calls += 1).unwrap(); // error: share an `Rc`
/// ```
#[track_caller]
pub fn on(signal: i32, mut handler: impl FnMut() + 'static) -> io::Result<()> {
    let mut signals = Signals::new(&[signal])?;
    let builder = thread::Builder::new().name(format!("on {}", name(signal)));
    builder.spawn(move || {
        loop {
            signals.recv();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(&mut handler)) {
                if Cancelled::is(&*payload) {
                    resume_unwind(payload);
                }
                // The hook has told of it. Its destructor is the user's code too
                // and could panic in turn.
                std::mem::forget(payload);
            }
        }
    })?;
    Ok(())
}

/// Whether a signal may be caught.
fn check(signal: i32) -> io::Result<()> {
    let cause = match signal {
        libc::SIGKILL | libc::SIGSTOP => "cannot be caught",
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => {
            "tells of a fault, from which nothing can go on"
        }
        1..=31 => return Ok(()),
        _ if (libc::SIGRTMIN()..=HIGHEST.min(libc::SIGRTMAX())).contains(&signal) => return Ok(()),
        32..=HIGHEST => "is kept by the C library to itself",
        _ => "does not exist: signals are numbered from 1 to 64",
    };
    Err(invalid(format!("{} {cause}", name(signal))))
}

/// A signal's name as in signal(7), or its number.
fn name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => known.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
