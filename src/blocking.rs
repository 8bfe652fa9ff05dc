//! Calls that block an OS thread, made on one of the offload pool while the
//! caller parks.
//!
//! There are two kinds. [`offload()`] is for what owns all it touches: who is
//! interrupted leaves it to itself. [`borrowed`] is for what borrows from the
//! caller's frames, a landlord wait: the caller stays until it is over.
//!
//! An OS thread that has no hub makes the call itself: it keeps nobody waiting.
//! So does an OS thread of the pool, where waiting for the pool could never end,
//! and everybody when the pool has no OS thread and can make none.

#![allow(unsafe_code)] // Hands closures that borrow to the pool, and sees them off.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::abort;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::atomic::lock;
pub(crate) use crate::backend::offload::Lane;
use crate::backend::offload::{self, Job};
use crate::cancel;
use crate::hub::{self, Estate, Wait, Wakeup, Why};

/// Runs `f` on an OS thread and parks the caller until it has ended.
///
/// For what blocks and greenring has no call for: a C library, a long
/// computation, a lock that other OS threads hold for long. Meanwhile the
/// caller's siblings go on. `f` may borrow, because the caller always waits for
/// it: a [cancel](crate::thread::JoinHandle::cancel) or a
/// [`timeout`](crate::time::timeout) that comes meanwhile takes effect at the
/// caller's next wait, and `f`'s result is not lost.
///
/// The OS threads are shared by the whole process; at most 64 closures run at
/// once and further ones wait in order. They end when they have been idle for
/// five seconds. Where no OS thread can be made (RLIMIT_NPROC, a container's limit)
/// and there is none, `f` stops the hub instead. On an OS thread without a hub, and inside of another
/// `blocking`, `f` runs where it is, so nesting cannot wait for itself.
/// Closures that wait for each other in other ways can: if 64 of them wait for
/// one that is queued, nothing moves.
///
/// `f` runs on another OS thread than its caller: it sees other
/// [`thread_local!`](std::thread_local) values, and waiting calls of greenring
/// in it work as on any OS thread.
///
/// # Panics
///
/// A panic of `f` is resumed in the caller.
///
/// # Examples
///
/// ```
/// let words = ["blocking", "plain", "rust"];
/// let longest = greenring::blocking(|| words.iter().map(|word| word.len()).max());
/// assert_eq!(longest, Some(8));
/// ```
pub fn blocking<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    borrowed(Lane::Closures, f)
}

/// Whether the calling OS thread makes blocking calls itself.
fn blocks_itself() -> bool {
    !hub::has_hub() || offload::is_of_the_pool()
}

/// Runs `job` on an OS thread of the pool and parks the caller until it is
/// done. A panic of the job is resumed in the caller.
///
/// The job owns all that it touches. So when the caller is interrupted the job
/// is left to itself, and its result is dropped where it ends.
pub(crate) fn offload<T: Send + 'static>(
    lane: Lane,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    if blocks_itself() {
        return job();
    }
    let wait = Wait::begin();
    let unparker = wait.unparker();
    let outcome = Arc::new(Mutex::new(Outcome::Expected));
    let place = Arc::clone(&outcome);
    let job = move || {
        let result = catch_unwind(AssertUnwindSafe(job));
        let left = match &mut *lock(&place) {
            Outcome::Unwanted => Some(result),
            outcome => {
                *outcome = Outcome::Here(result);
                None
            }
        };
        drop(left);
        unparker.unpark();
    };
    if runs_elsewhere(lane, Box::new(job)) {
        let wakeup = wait.park_with(&Asked(&outcome), Why::Offload, 0, None);
        if wakeup != Wakeup::Unparked {
            let left = lock(&outcome).leave();
            drop(left);
            cancel::raise_verdict(wakeup, Why::Offload);
        }
    }
    let outcome = lock(&outcome).leave();
    let Outcome::Here(result) = outcome else {
        unreachable!("the job stores its result before it unparks");
    };
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Has the pool run a job, which is then to be waited for; or runs it here, and
/// says that it was so.
fn runs_elsewhere(lane: Lane, job: Job) -> bool {
    match offload::run(lane, job) {
        Ok(()) => true,
        Err(job) => {
            job();
            false
        }
    }
}

/// What became of an offloaded job, as its caller and the job see it.
enum Outcome<T> {
    Expected,
    Here(thread::Result<T>),
    /// The caller has gone, or has it.
    Unwanted,
}

impl<T> Outcome<T> {
    /// Takes it; what comes later is dropped where it ends.
    fn leave(&mut self) -> Outcome<T> {
        mem::replace(self, Outcome::Unwanted)
    }
}

/// The caller's claim to an outcome, given up if it is abandoned: files that were
/// opened for it are closed.
struct Asked<'a, T>(&'a Mutex<Outcome<T>>);

impl<T> Estate for Asked<'_, T> {
    fn pass_on(&self) {
        let left = lock(self.0).leave();
        drop(left);
    }
}

/// As [`offload()`], for a job that borrows: **a landlord wait**. Once the job is
/// handed over nothing ends the wait but its end; an interrupt stays pending.
pub(crate) fn borrowed<T: Send>(lane: Lane, job: impl FnOnce() -> T + Send) -> T {
    /// Ends the process if the frame below would go while the job borrows from
    /// it.
    struct Landlord;

    impl Drop for Landlord {
        fn drop(&mut self) {
            hub::say("greenring: fatal: a blocking call cannot be waited for");
            abort();
        }
    }

    cancel::check();
    if blocks_itself() {
        return job();
    }
    let wait = Wait::begin();
    let unparker = wait.unparker();
    let loan = hub::lend();
    let result: Mutex<Option<thread::Result<T>>> = Mutex::new(None);
    let place = &result;
    let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        let outcome = catch_unwind(AssertUnwindSafe(job));
        *lock(place) = Some(outcome);
        // The last that happens here: nothing is borrowed any more.
        drop(loan);
        unparker.unpark();
    });
    // SAFETY: the job is run once, and this frame stays until then: only the
    // job's unparker ends the wait below, `Landlord` sees to it that no panic does,
    // and a hub whose end abandons this frame waits for the loan.
    let job: Job = unsafe { std::mem::transmute(job) };
    let landlord = Landlord;
    if runs_elsewhere(lane, job) {
        let wakeup = hub::shielded(|| wait.park(Why::Offload, 0, None));
        if wakeup != Wakeup::Unparked {
            drop(landlord);
            unreachable!("the process has ended");
        }
    }
    std::mem::forget(landlord);
    let outcome = result
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .expect("the job stores its result before it unparks");
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}
