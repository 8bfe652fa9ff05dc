//! A line on stderr from time to time about what a hub does.
//!
//! No timer and no OS thread stands behind it: the loop looks at the clock once
//! a turn, in a hub that is traced, and writes when the interval is over. So a
//! hub that sleeps is left asleep and says nothing, and a line covers the time
//! since the one before, however long that is.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};

use super::Hub;
use super::report::say;
use super::stats::Stats;

/// When a hub speaks next, and what it has said already.
pub(super) struct Trace {
    interval: Duration,
    /// Name of the hub's root.
    root: String,
    os_thread: Pid,
    /// When the time began that the next line covers.
    since: Cell<Instant>,
    /// The OS thread's processor time by then.
    processor: Cell<Duration>,
    /// What had been counted by then.
    counted: Cell<Stats>,
}

impl Trace {
    /// For a new hub of the calling OS thread.
    pub(super) fn new(interval: Duration, root: String) -> Trace {
        Trace {
            interval,
            root,
            os_thread: gettid(),
            since: Cell::new(Instant::now()),
            processor: Cell::new(processor_time()),
            counted: Cell::default(),
        }
    }
}

impl Hub {
    /// Once a turn: writes a line if the hub is traced and the interval is over.
    #[inline]
    pub(super) fn trace(&self) {
        if let Some(trace) = &self.trace {
            self.look_back(trace);
        }
    }

    #[cold]
    fn look_back(&self, trace: &Trace) {
        let now = Instant::now();
        let length = now - trace.since.get();
        if length < trace.interval {
            return;
        }
        let counted = self.stats();
        let work = counted.since(&trace.counted.get());
        if !is_worth_a_line(&work) {
            return;
        }
        let processor = processor_time();
        trace.since.set(now);
        trace.counted.set(counted);
        let line = Line {
            trace,
            length,
            processor: processor.saturating_sub(trace.processor.replace(processor)),
            work,
            most_ready: self.restart_most_ready(),
        };
        say(&line.to_string());
    }
}

/// Whether the hub has done more than wake up to look after its own memory.
fn is_worth_a_line(work: &Stats) -> bool {
    let Stats {
        switches,
        submitted,
        direct,
        spawned,
        timers_fired,
        mail,
        ..
    } = *work;
    switches + submitted + direct + spawned + timers_fired + mail > 0
}

/// Processor time of the calling OS thread.
fn processor_time() -> Duration {
    // The clock exists since Linux 2.6.12.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What a hub says.
struct Line<'a> {
    trace: &'a Trace,
    /// How much time it covers.
    length: Duration,
    processor: Duration,
    work: Stats,
    most_ready: usize,
}

impl Line<'_> {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.length.as_secs_f64()
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace {
            root, os_thread, ..
        } = self.trace;
        let work = &self.work;
        write!(
            f,
            "greenring: trace: root '{root}' (OS thread {os_thread}): {:.2} s, CPU {:.0} %, \
             switches/s {:.0}, turns/s {:.0}, enters/s {:.0}, SQEs/enter {:.1}, CQEs/enter {:.1}, \
             submitted/s {:.0}, direct/s {:.0}, ready at most {}, live {}, in flight {}, \
             spawned/s {:.0}, timers {}, fired/s {:.0}, mail/s {:.0}, offload {}+{}",
            self.length.as_secs_f64(),
            100.0 * self.processor.as_secs_f64() / self.length.as_secs_f64(),
            self.per_second(work.switches),
            self.per_second(work.turns),
            self.per_second(work.enters),
            work.entries_per_enter(),
            work.completions_per_enter(),
            self.per_second(work.submitted),
            self.per_second(work.direct),
            self.most_ready,
            work.live,
            work.in_flight,
            self.per_second(work.spawned),
            work.timers_armed,
            self.per_second(work.timers_fired),
            self.per_second(work.mail),
            work.offload_running,
            work.offload_queued,
        )?;
        if work.readers > 0 {
            write!(
                f,
                ", readers {} with {} of {} buffers",
                work.readers, work.buffers_lent, work.buffers
            )?;
        }
        if work.starved > 0 {
            write!(f, ", starved {} times", work.starved)?;
        }
        if work.queue_full > 0 {
            write!(f, ", submission queue full {} times", work.queue_full)?;
        }
        if work.overflows > 0 {
            write!(f, ", completion queue overflown {} times", work.overflows)?;
        }
        Ok(())
    }
}
