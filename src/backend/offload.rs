//! An elastic, capped pool of OS threads for what neither backend can do
//! without blocking.
//!
//! One pool serves the whole process. OS threads are made when a job finds none
//! idle, and end after [`IDLE_TIME`] without work. Jobs come in lanes, and each
//! [`Lane`] has a cap of its own: however many names a dead name server keeps
//! waiting, files are still read. Jobs beyond the cap wait in order.
//!
//! Most jobs about files find what they want in memory: they take a microsecond,
//! and handing a thousand of them to 64 OS threads costs four times the
//! processor time of handing them to two. So of these only one per processor
//! runs, unless none of them has got on for [`PATIENCE`]: where the disk keeps
//! everybody waiting more OS threads come, one after the other, and stay for as
//! long as the slow ones do.
//!
//! A job tells its result itself, so whoever asked for it may go away if it
//! owns all it touches.
//!
//! A forked child has none of the OS threads; a hub refuses to work there, so
//! nothing gets this far.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an OS thread waits for another job before it ends.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// How long jobs that probably take no time may keep all others waiting.
const PATIENCE: Duration = Duration::from_millis(1);

/// What a job waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane {
    /// The file system: paths, and what is read and written where no backend
    /// does it.
    Files,
    /// Name servers.
    Names,
    /// Whatever the user's closures wait for.
    Closures,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Files, Lane::Names, Lane::Closures];

    /// The most jobs that run at once: enough to keep a slow disk or name
    /// server busy, few enough to bound memory (each OS thread has 2 MiB of
    /// address space for its stack).
    const fn most(self) -> usize {
        match self {
            Lane::Files => 64,
            Lane::Names => 16,
            Lane::Closures => 64,
        }
    }

    /// Up to how many running jobs the next one starts without waiting.
    fn at_once(self) -> usize {
        static PROCESSORS: OnceLock<usize> = OnceLock::new();
        match self {
            Lane::Files => *PROCESSORS.get_or_init(|| {
                let processors = thread::available_parallelism().map_or(1, NonZero::get);
                processors.min(self.most())
            }),
            Lane::Names | Lane::Closures => self.most(),
        }
    }
}

pub(crate) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    /// With the time since when each waits.
    jobs: VecDeque<(Instant, Job)>,
    running: usize,
    /// When a job was last taken.
    moved: Option<Instant>,
    /// Jobs that started late: for the slow ones before them others may start
    /// at once, until those are over.
    late: usize,
}

impl Queue {
    /// Jobs that may start at once beside those that run.
    fn at_once(&self, lane: Lane) -> usize {
        let places = (lane.at_once() + self.late).min(lane.most());
        places.saturating_sub(self.running)
    }

    /// A job has been taken.
    fn starts(&mut self, lane: Lane, now: Instant) {
        if self.at_once(lane) == 0 {
            self.late += 1;
        }
        self.running += 1;
        self.moved = Some(now);
    }

    fn ends(&mut self, lane: Lane) {
        self.running -= 1;
        if self.running < lane.at_once() {
            self.late = 0;
        }
    }

    /// Jobs that may start now if there are OS threads: as many as start at
    /// once, and one more if none has been taken for too long.
    fn startable(&self, lane: Lane, now: Instant) -> usize {
        let at_once = self.at_once(lane);
        if at_once >= self.jobs.len() {
            return self.jobs.len();
        }
        at_once + usize::from(self.next_late(lane).is_some_and(|late| late <= now))
    }

    /// When a job may start that does not start at once, if none is taken
    /// before.
    fn next_late(&self, lane: Lane) -> Option<Instant> {
        let at_once = self.at_once(lane);
        if self.running + at_once >= lane.most() {
            return None;
        }
        let (since, _) = self.jobs.get(at_once)?;
        let moved = self.moved.map_or(*since, |moved| moved.max(*since));
        Some(moved + PATIENCE)
    }
}

struct Pool {
    queues: [Queue; Lane::ALL.len()],
    /// The lane that is looked at first, so that none waits for the others.
    turn: usize,
    /// OS threads that exist.
    os_threads: usize,
    /// Those of them that have no job. A job that may start has one of them
    /// promised while there are not more such jobs than this; and while a job
    /// has patience, there is one more to see when that ends.
    idle: usize,
    /// Idle OS threads that sleep only until a job's patience ends.
    watching: usize,
    /// Somebody was told to look at the queues, and nobody has since.
    told: bool,
    /// The most jobs that ran or waited at once.
    most: usize,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) running: usize,
    pub(crate) queued: usize,
    /// The most that ran or waited at once since the process began.
    pub(crate) most: usize,
}

impl Pool {
    fn lanes(&self) -> impl Iterator<Item = (Lane, &Queue)> {
        Lane::ALL.into_iter().zip(&self.queues)
    }

    fn depth(&self) -> Depth {
        Depth {
            running: self.queues.iter().map(|queue| queue.running).sum(),
            queued: self.queues.iter().map(|queue| queue.jobs.len()).sum(),
            most: self.most,
        }
    }

    fn startable(&self, now: Instant) -> usize {
        let startable = self.lanes().map(|(lane, queue)| queue.startable(lane, now));
        startable.sum()
    }

    fn next_late(&self) -> Option<Instant> {
        let lanes = self.lanes();
        lanes
            .filter_map(|(lane, queue)| queue.next_late(lane))
            .min()
    }

    /// The next job that may run, counted as running.
    fn take(&mut self, now: Instant) -> Option<(Lane, Job)> {
        for step in 0..Lane::ALL.len() {
            let index = (self.turn + step) % Lane::ALL.len();
            let (lane, queue) = (Lane::ALL[index], &mut self.queues[index]);
            if queue.startable(lane, now) > 0 {
                self.turn = index + 1;
                queue.starts(lane, now);
                self.idle -= 1;
                return queue.jobs.pop_front().map(|(_, job)| (lane, job));
            }
        }
        None
    }

    /// Makes an OS thread if there is work for one more.
    fn grow(&mut self, now: Instant) -> io::Result<()> {
        let needed = self.startable(now) + usize::from(self.next_late().is_some());
        if needed <= self.idle {
            return Ok(());
        }
        thread::Builder::new()
            .name("greenring-offload".to_owned())
            .spawn(work)?;
        // It counts from now on, so that the next job does not count on it as
        // well.
        self.os_threads += 1;
        self.idle += 1;
        Ok(())
    }

    /// Whether another idle OS thread is to be told to look at the queues: for a
    /// job that may start, or to see when a job's patience ends. Each looks on
    /// behalf of all: it tells the next one if there is more.
    fn tells_another(&mut self, now: Instant) -> bool {
        if self.told {
            return false;
        }
        self.told = self.startable(now) > 0 || self.watching == 0 && self.next_late().is_some();
        self.told
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    queues: [const {
        Queue {
            jobs: VecDeque::new(),
            running: 0,
            moved: None,
            late: 0,
        }
    }; Lane::ALL.len()],
    turn: 0,
    os_threads: 0,
    idle: 0,
    watching: 0,
    told: false,
    most: 0,
});
static WORK: Condvar = Condvar::new();

thread_local! {
    static OF_THE_POOL: Cell<bool> = const { Cell::new(false) };
}

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the calling OS thread is one of the pool. A job that waited for
/// another job could find all OS threads waiting as it does.
pub(crate) fn is_of_the_pool() -> bool {
    OF_THE_POOL.get()
}

/// Hands a job to the pool.
///
/// # Errors
///
/// No OS thread exists and none can be made: the job comes back.
pub(crate) fn run(lane: Lane, job: Job) -> Result<(), Job> {
    let now = Instant::now();
    let mut pool = pool();
    pool.queues[lane as usize].jobs.push_back((now, job));
    let tells_another = pool.tells_another(now);
    // Where it cannot grow, the OS threads that exist will come to it.
    if pool.grow(now).is_err()
        && pool.os_threads == 0
        && let Some((_, job)) = pool.queues[lane as usize].jobs.pop_back()
    {
        return Err(job);
    }
    let depth = pool.depth();
    pool.most = pool.most.max(depth.running + depth.queued);
    drop(pool);
    if tells_another {
        WORK.notify_one();
    }
    Ok(())
}

/// OS threads of the pool that exist and have nothing to do.
pub(crate) fn idle_os_threads() -> usize {
    let pool = pool();
    pool.idle.saturating_sub(pool.startable(Instant::now()))
}

/// Whether a job runs or is queued.
pub(crate) fn is_busy() -> bool {
    let pool = pool();
    pool.idle < pool.os_threads || pool.queues.iter().any(|queue| !queue.jobs.is_empty())
}

/// How much the pool has to do.
pub(crate) fn depth() -> Depth {
    pool().depth()
}

/// The life of one OS thread of the pool.
fn work() {
    OF_THE_POOL.set(true);
    let mut pool = pool();
    loop {
        let now = Instant::now();
        pool.told = false;
        let Some((lane, job)) = pool.take(now) else {
            let Some(woken) = wait(pool, now) else { return };
            pool = woken;
            continue;
        };
        // Whoever takes a job sees to it that somebody comes for the next; where
        // none can be made, those that exist do later.
        let _ = pool.grow(now);
        let tells_another = pool.tells_another(now);
        drop(pool);
        if tells_another {
            WORK.notify_one();
        }
        // A job that tells a result catches its own panics; this keeps the
        // count right whatever happens. The message was printed by the hook.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
            // Its destructor is foreign code too and could panic in turn.
            std::mem::forget(payload);
        }
        pool = self::pool();
        pool.queues[lane as usize].ends(lane);
        pool.idle += 1;
    }
}

/// Waits for a job that may start; `None` when the OS thread has been idle for
/// too long, and no longer counts.
fn wait(mut pool: MutexGuard<'static, Pool>, begin: Instant) -> Option<MutexGuard<'static, Pool>> {
    let mut now = begin;
    loop {
        if pool.startable(now) > 0 {
            return Some(pool);
        }
        let end = pool.next_late();
        if end.is_none() && now - begin >= IDLE_TIME {
            pool.os_threads -= 1;
            pool.idle -= 1;
            return None;
        }
        let watches = usize::from(end.is_some());
        let end = end.unwrap_or(begin + IDLE_TIME);
        pool.watching += watches;
        pool = WORK
            .wait_timeout(pool, end.saturating_duration_since(now))
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        pool.watching -= watches;
        pool.told = false;
        now = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// The pool is the process's, and each test counts its OS threads.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    const MOST_FILES: usize = Lane::Files.most();

    fn start(job: impl FnOnce() + Send + 'static) {
        assert!(run(Lane::Files, Box::new(job)).is_ok());
    }

    #[test]
    fn a_thousand_jobs_run_on_a_bounded_number_of_os_threads() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, results) = mpsc::channel();
        for n in 0..1000u32 {
            let done = done.clone();
            start(move || done.send(n).unwrap());
        }
        let mut seen: Vec<u32> = results.iter().take(1000).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1000));
        assert!(pool().os_threads <= MOST_FILES + 1);
    }

    #[test]
    fn jobs_beyond_the_cap_wait_and_a_busy_pool_says_so() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = std::sync::Arc::new(Mutex::new(released));
        for n in 0..=MOST_FILES {
            let (started, released) = (started.clone(), released.clone());
            start(move || {
                started.send(n).unwrap();
                released.lock().unwrap().recv().unwrap();
            });
        }
        let first: Vec<usize> = starts.iter().take(MOST_FILES).collect();
        assert_eq!(first.len(), MOST_FILES);
        assert!(is_busy());
        assert_eq!(idle_os_threads(), 0);
        assert!(starts.try_recv().is_err(), "the last job waits");
        // Another lane is not kept waiting by this one.
        let (passed, passes) = mpsc::channel();
        assert!(run(Lane::Names, Box::new(move || passed.send(()).unwrap())).is_ok());
        passes.recv().unwrap();
        for _ in 0..=MOST_FILES {
            release.send(()).unwrap();
        }
        assert_eq!(starts.recv().unwrap(), MOST_FILES);
        while is_busy() {
            thread::yield_now();
        }
        assert_eq!(idle_os_threads(), pool().os_threads);
    }

    #[test]
    fn who_is_slow_gives_others_a_place_for_as_long_as_it_lasts() {
        let now = Instant::now();
        let base = Lane::Files.at_once();
        let mut queue = Queue {
            jobs: (0..2).map(|_| (now, Box::new(|| {}) as Job)).collect(),
            ..Queue::default()
        };
        for _ in 0..base {
            queue.starts(Lane::Files, now);
        }
        assert_eq!(queue.startable(Lane::Files, now), 0);
        assert_eq!(queue.next_late(Lane::Files), Some(now + PATIENCE));
        let late = now + PATIENCE;
        assert_eq!(queue.startable(Lane::Files, late), 1);
        queue.starts(Lane::Files, late);
        assert_eq!(queue.startable(Lane::Files, late), 0);
        // Its place is free again, and the next one need not wait.
        queue.ends(Lane::Files);
        assert_eq!(queue.startable(Lane::Files, late), 1);
        // The slow ones end, and with them what they were the reason for.
        for _ in 0..base {
            queue.ends(Lane::Files);
        }
        assert_eq!(queue.at_once(Lane::Files), base);
        assert_eq!(queue.late, 0);
    }

    #[test]
    fn a_panicking_job_does_not_take_its_os_thread_with_it() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        start(|| std::panic::resume_unwind(Box::new("on purpose")));
        let (done, result) = mpsc::channel();
        start(move || done.send(()).unwrap());
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
        start(|| std::panic::resume_unwind(Box::new(Bomb)));
        while is_busy() {
            thread::yield_now();
        }
        assert_eq!(idle_os_threads(), pool().os_threads);
    }
}
