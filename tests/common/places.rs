//! Where the other side of a test runs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use greenring::runtime::{self, Builder};
use greenring::sync::oneshot;
use greenring::thread;

/// Where the other side of a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)] // They read well.
pub enum Place {
    Here,
    AnotherHub,
    OsThread,
}

pub const PLACES: [Place; 3] = [Place::Here, Place::AnotherHub, Place::OsThread];

/// What runs at a place.
pub struct Side<T> {
    result: oneshot::Receiver<Result<T, Box<dyn Any + Send>>>,
}

impl Place {
    /// Runs `f` there, on a green thread, a hub's root or an OS thread.
    pub fn run<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> Side<T> {
        let backend = runtime::backend();
        let (sender, result) = oneshot::channel();
        let f = move || {
            let result = catch_unwind(AssertUnwindSafe(f));
            let _ = sender.send(result);
        };
        match self {
            Place::Here => drop(thread::spawn(f)),
            Place::OsThread => drop(std::thread::spawn(f)),
            Place::AnotherHub => drop(std::thread::spawn(move || {
                Builder::new().backend(backend).run(f).expect("a hub");
            })),
        }
        Side { result }
    }
}

impl<T> Side<T> {
    /// Waits for its end, as green threads wait.
    pub fn join(self) -> T {
        match self.outcome() {
            Ok(result) => result,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// As `join`, with a panic for an error.
    pub fn outcome(self) -> Result<T, Box<dyn Any + Send>> {
        self.result.recv().expect("a result")
    }
}
