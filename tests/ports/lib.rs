//! What the ports share: each runs on both backends and over std, and has to
//! give the same answers.
//!
//! A port is one source that is compiled twice, once with `std`'s names in its
//! imports and once with `greenring`'s; see [`one_source!`].

pub mod servers;

use std::fmt::Debug;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{process, thread};

use greenring::runtime::Backend;

/// No scenario takes longer, except when something waits for ever.
const LONGEST: Duration = Duration::from_secs(120);

/// Runs `body` on the root of a hub with this backend.
pub fn on(backend: Backend, body: impl FnOnce()) {
    greenring::runtime::Builder::new()
        .backend(backend)
        .run(body)
        .expect("the backend can be had");
}

/// Plays a scenario over std, over io_uring and over epoll, and asserts that
/// all three have the same outcome, which it returns.
pub fn same_outcome<T: Debug + PartialEq>(
    scenario: &str,
    over_std: impl FnOnce() -> T,
    over_greenring: impl Fn() -> T,
) -> T {
    let _watchdog = Watchdog::start();
    let expected = over_std();
    for backend in [Backend::Uring, Backend::Epoll] {
        let mut outcome = None;
        on(backend, || outcome = Some(over_greenring()));
        let outcome = outcome.expect("the root has returned");
        assert_eq!(outcome, expected, "{scenario}, {backend:?} (left) and std");
    }
    expected
}

/// Runs one scenario over std and on a hub with this backend; asserts that both
/// give the same.
pub fn assert_same<T: Debug + PartialEq>(
    backend: Backend,
    over_std: impl FnOnce() -> T,
    over_greenring: impl FnOnce() -> T,
) {
    let _watchdog = Watchdog::start();
    let expected = over_std();
    on(backend, || assert_eq!(over_greenring(), expected));
}

/// Ends the process when a scenario hangs, so that it fails instead.
struct Watchdog {
    /// Hangs up when the scenario is over.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start() -> Watchdog {
        let (alive, over) = mpsc::channel::<()>();
        let scenario = thread::current().name().map(str::to_owned);
        thread::spawn(move || {
            if over.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{scenario:?} hangs");
                process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

/// Makes a suite of the named scenarios of a port: each runs over std and on
/// both backends. For use beside [`one_source!`].
#[macro_export]
macro_rules! same_answers {
    ($($scenario:ident),* $(,)?) => {$(
        mod $scenario {
            use greenring::runtime::Backend;

            use super::{over_greenring, over_std};

            #[test]
            fn uring() {
                $crate::assert_same(
                    Backend::Uring,
                    over_std::port::$scenario,
                    over_greenring::port::$scenario,
                );
            }

            #[test]
            fn epoll() {
                $crate::assert_same(
                    Backend::Epoll,
                    over_std::port::$scenario,
                    over_greenring::port::$scenario,
                );
            }
        }
    )*};
}

/// Plays the scenario of this name with these arguments over std and on both
/// backends, and returns the outcome that all have. For use beside
/// [`one_source!`].
#[macro_export]
macro_rules! play {
    ($scenario:ident($($argument:expr),*)) => {
        $crate::same_outcome(
            stringify!($scenario),
            || over_std::port::scenarios::$scenario($($argument),*).unwrap(),
            || over_greenring::port::scenarios::$scenario($($argument),*).unwrap(),
        )
    };
}

/// Compiles the file at `path`, seen from the test's, twice: as `over_std`,
/// where `sys` is `std`, and as `over_greenring`, where `sys` is `greenring`.
/// The source begins its imports with `use super::sys::…`: that word is all
/// that a port changes.
#[macro_export]
macro_rules! one_source {
    ($path:literal) => {
        // Without this its files would be sought in a directory of its name.
        #[path = "."]
        mod over_std {
            use std as sys;
            #[path = $path]
            #[allow(clippy::duplicate_mod)] // Twice is what it is for.
            pub mod port;
        }
        #[path = "."]
        mod over_greenring {
            use greenring as sys;
            #[path = $path]
            #[allow(clippy::duplicate_mod)] // Twice is what it is for.
            pub mod port;
        }
    };
}
