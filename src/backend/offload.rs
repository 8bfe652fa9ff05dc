//! An elastic, capped pool of OS threads for what neither backend can do
//! without blocking.
//!
//! One pool serves the whole process. OS threads are made when a job finds none
//! idle, up to [`MOST`], and end after [`IDLE_TIME`] without work; jobs beyond
//! that wait in order. A job owns everything it touches and tells its result
//! itself, so whoever asked for it may go away.
//!
//! A forked child has none of the OS threads; a hub refuses to work there, so
//! nothing gets this far.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most OS threads: enough to keep a slow name server or disk busy, few
/// enough to bound memory (each has 2 MiB of address space for its stack).
const MOST: usize = 64;

/// How long an OS thread waits for another job before it ends.
const IDLE_TIME: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pool {
    queue: VecDeque<Job>,
    /// OS threads that exist.
    os_threads: usize,
    /// Those of them that have no job. A job that is queued has one of them
    /// promised while the queue is not longer than this.
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    queue: VecDeque::new(),
    os_threads: 0,
    idle: 0,
});
static WORK: Condvar = Condvar::new();

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands a job to the pool.
///
/// # Errors
///
/// No OS thread exists and none can be made; the job is dropped.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut pool = pool();
    pool.queue.push_back(Box::new(job));
    if pool.queue.len() > pool.idle && pool.os_threads < MOST {
        let made = thread::Builder::new()
            .name("greenring-offload".to_owned())
            .spawn(work);
        match made {
            Ok(_) => {
                // It counts from now on, so that the next job does not count
                // on it as well.
                pool.os_threads += 1;
                pool.idle += 1;
            }
            Err(error) if pool.os_threads == 0 => {
                let job = pool.queue.pop_back();
                drop(pool);
                drop(job);
                return Err(error);
            }
            // Those that exist will come to it.
            Err(_) => {}
        }
    }
    WORK.notify_one();
    Ok(())
}

/// OS threads of the pool that exist and have nothing to do.
pub(crate) fn idle_os_threads() -> usize {
    let pool = pool();
    pool.idle.saturating_sub(pool.queue.len())
}

/// Whether a job runs or is queued.
pub(crate) fn is_busy() -> bool {
    let pool = pool();
    !pool.queue.is_empty() || pool.idle < pool.os_threads
}

/// The life of one OS thread of the pool.
fn work() {
    let mut pool = pool();
    loop {
        let Some(job) = pool.queue.pop_front() else {
            let Some(woken) = wait(pool) else { return };
            pool = woken;
            continue;
        };
        pool.idle -= 1;
        drop(pool);
        // A job that tells a result catches its own panics; this keeps the
        // count right whatever happens. The message was printed by the hook.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
            // Its destructor is foreign code too and could panic in turn.
            std::mem::forget(payload);
        }
        pool = self::pool();
        pool.idle += 1;
    }
}

/// Waits for a job; `None` when the OS thread has been idle for too long, and
/// no longer counts.
fn wait(mut pool: MutexGuard<'static, Pool>) -> Option<MutexGuard<'static, Pool>> {
    let deadline = Instant::now() + IDLE_TIME;
    while pool.queue.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            pool.os_threads -= 1;
            pool.idle -= 1;
            return None;
        }
        pool = WORK
            .wait_timeout(pool, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// The pool is the process's, and each test counts its OS threads.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn a_thousand_jobs_run_on_a_bounded_number_of_os_threads() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, results) = mpsc::channel();
        for n in 0..1000u32 {
            let done = done.clone();
            run(move || done.send(n).unwrap()).unwrap();
        }
        let mut seen: Vec<u32> = results.iter().take(1000).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1000));
        assert!(pool().os_threads <= MOST);
    }

    #[test]
    fn jobs_beyond_the_cap_wait_and_a_busy_pool_says_so() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = std::sync::Arc::new(Mutex::new(released));
        for n in 0..=MOST {
            let (started, released) = (started.clone(), released.clone());
            run(move || {
                started.send(n).unwrap();
                released.lock().unwrap().recv().unwrap();
            })
            .unwrap();
        }
        let first: Vec<usize> = starts.iter().take(MOST).collect();
        assert_eq!(first.len(), MOST);
        assert!(is_busy());
        assert_eq!(idle_os_threads(), 0);
        assert!(starts.try_recv().is_err(), "the last job waits");
        for _ in 0..=MOST {
            release.send(()).unwrap();
        }
        assert_eq!(starts.recv().unwrap(), MOST);
        while is_busy() {
            thread::yield_now();
        }
        assert_eq!(idle_os_threads(), pool().os_threads);
    }

    #[test]
    fn a_panicking_job_does_not_take_its_os_thread_with_it() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        run(|| std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
        let (done, result) = mpsc::channel();
        run(move || done.send(()).unwrap()).unwrap();
        result.recv().unwrap();
        while is_busy() {
            thread::yield_now();
        }
        assert_eq!(idle_os_threads(), pool().os_threads);
    }

    #[test]
    fn a_panic_whose_payload_panics_does_not_either() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new("on purpose, again"));
            }
        }
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        run(|| std::panic::resume_unwind(Box::new(Bomb))).unwrap();
        while is_busy() {
            thread::yield_now();
        }
        assert_eq!(idle_os_threads(), pool().os_threads);
    }
}
