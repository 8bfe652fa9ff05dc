//! Calls that block an OS thread, made on one of the offload pool while the
//! caller parks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::backend::offload;
use crate::cancel;
use crate::hub::{Wait, Why};

/// Runs `job` on an OS thread of the pool and parks the caller until it is
/// done. A panic of the job is resumed in the caller.
///
/// The job owns all that it touches. So when the caller is interrupted the job
/// is left to itself, and its result is dropped where it ends.
///
/// # Errors
///
/// No OS thread can be had.
pub(crate) fn offload<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let wait = Wait::begin();
    let unparker = wait.unparker();
    let result: Arc<Mutex<Option<thread::Result<T>>>> = Arc::default();
    let place = Arc::clone(&result);
    offload::run(move || {
        let outcome = catch_unwind(AssertUnwindSafe(job));
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        unparker.unpark();
    })?;
    cancel::park(wait, Why::Offload, 0, None);
    let outcome = result
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .expect("the job stores its result before it unparks");
    outcome.or_else(|payload| resume_unwind(payload))
}
