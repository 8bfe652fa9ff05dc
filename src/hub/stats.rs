//! The numbers of a hub that a user gets to see.
//!
//! A `u64` counts from the hub's start on; a `usize` says how it is now, or the
//! most that it ever was. `since` rests on that.

use std::fmt;

/// A copy of a hub's counters, as [`stats`](crate::runtime::stats) gives it.
///
/// What is counted (`u64`) grows from the hub's start on; what is measured
/// (`usize`) says how it is now or, named `most_…`, the most that it ever was.
/// Counting goes on always: a counter costs its hub an instruction or two.
///
/// # Examples
///
/// ```
/// use greenring::{runtime, thread};
///
/// let before = runtime::stats();
/// thread::spawn(|| {}).join().unwrap();
/// let work = runtime::stats().since(&before);
/// assert_eq!(work.spawned, 1);
/// println!("{work}");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop: looks at the kernel, deadlines and mail.
    pub turns: u64,
    /// System calls that handed operations over or waited:
    /// io_uring_enter(2), epoll_wait(2).
    pub enters: u64,
    /// Submission queue entries that the kernel has taken: operations, what
    /// cancels them, and watches of the hub's own. 0 on epoll.
    pub entries: u64,
    /// Operations handed to the kernel, or parked on readiness.
    pub submitted: u64,
    /// Operations that a direct system call finished at once.
    pub direct: u64,
    /// Completions collected, rings of the bell included.
    pub completed: u64,
    /// Operations that have not completed.
    pub in_flight: usize,
    /// Completions that nobody was left to take; what they handed over was
    /// released.
    pub discarded: u64,
    /// Times the completion queue had overflown.
    pub overflows: u64,
    /// Times the submission queue was full.
    pub queue_full: u64,
    /// Times a green thread was resumed.
    pub switches: u64,
    /// [Readers](crate::io::Reader) that have begun to receive into the kernel's buffers.
    pub readers: usize,
    /// Buffers in circulation for them, of 64 KiB each.
    pub buffers: usize,
    /// Buffers that were received into and not given back.
    pub buffers_lent: usize,
    /// Receives of readers that found no buffer.
    pub starved: u64,
    /// Times a reader had received so far ahead that it was held back.
    pub held_back: u64,
    /// Green threads spawned.
    pub spawned: u64,
    /// Green threads in the run queue, and the root if it is ready.
    pub ready: usize,
    /// The most that were in the run queue at once.
    pub most_ready: usize,
    /// Green threads that have not ended; each has a stack.
    pub live: usize,
    /// The most that were alive at once.
    pub most_live: usize,
    /// Control blocks in the table, the root's included.
    pub blocks: usize,
    /// Stacks that wait to be used again.
    pub stacks_pooled: usize,
    /// Those of them whose memory was not returned to the kernel.
    pub stacks_warm: usize,
    /// Bytes of address space reserved for stacks; of memory they take what was
    /// touched.
    pub stack_bytes: usize,
    /// Deadlines armed: of sleeps, time limits and timeouts of sockets.
    pub timers_set: u64,
    /// Deadlines that have passed. All others were disarmed before.
    pub timers_fired: u64,
    /// Deadlines that are armed.
    pub timers_armed: usize,
    /// The most that were armed at once.
    pub most_timers_armed: usize,
    /// Unparks and cancels that came from other OS threads.
    pub mail: u64,
    /// Times another OS thread had to break the hub's sleep.
    pub bell_rings: u64,
    /// Calls that other OS threads execute for the hubs of this process: files
    /// and names where the backend cannot, closures of
    /// [`blocking`](crate::blocking()).
    pub offload_running: usize,
    /// Such calls that wait for an OS thread.
    pub offload_queued: usize,
    /// The most calls that ran or waited at once, in this process.
    pub most_offload: usize,
}

impl Stats {
    /// What was counted between `earlier`, a copy of the same hub's counters, and
    /// this one: counters are differences, all else is as in this one.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{runtime, thread};
    /// use std::time::Duration;
    ///
    /// let before = runtime::stats();
    /// let sleeps = || thread::sleep(Duration::from_millis(1));
    /// thread::spawn(sleeps).join().unwrap();
    /// let work = runtime::stats().since(&before);
    /// assert_eq!((work.timers_set, work.timers_fired), (1, 1));
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Stats) -> Stats {
        let count = |counter: fn(&Stats) -> u64| counter(self).saturating_sub(counter(earlier));
        Stats {
            turns: count(|stats| stats.turns),
            enters: count(|stats| stats.enters),
            entries: count(|stats| stats.entries),
            submitted: count(|stats| stats.submitted),
            direct: count(|stats| stats.direct),
            completed: count(|stats| stats.completed),
            discarded: count(|stats| stats.discarded),
            overflows: count(|stats| stats.overflows),
            queue_full: count(|stats| stats.queue_full),
            switches: count(|stats| stats.switches),
            starved: count(|stats| stats.starved),
            held_back: count(|stats| stats.held_back),
            spawned: count(|stats| stats.spawned),
            timers_set: count(|stats| stats.timers_set),
            timers_fired: count(|stats| stats.timers_fired),
            mail: count(|stats| stats.mail),
            bell_rings: count(|stats| stats.bell_rings),
            ..*self
        }
    }

    /// Operations for each system call that hands them over or waits; 0 if there
    /// was none.
    ///
    /// The more, the less the kernel's doors cost. What a
    /// [`Reader`](crate::io::Reader) receives counts as one operation for as long as
    /// it goes on: there [`completions_per_enter`](Stats::completions_per_enter) tells
    /// more.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::runtime;
    ///
    /// let stats = runtime::stats();
    /// println!("{:.1} operations an enter", stats.operations_per_enter());
    /// ```
    #[must_use]
    pub fn operations_per_enter(&self) -> f64 {
        ratio(self.submitted, self.enters)
    }

    /// Submission queue entries for each enter; 0 if there was none, and on epoll.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::runtime;
    ///
    /// println!("{:.1} SQEs an enter", runtime::stats().entries_per_enter());
    /// ```
    #[must_use]
    pub fn entries_per_enter(&self) -> f64 {
        ratio(self.entries, self.enters)
    }

    /// Completions for each enter; 0 if there was none.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::runtime;
    ///
    /// println!("{:.1} CQEs an enter", runtime::stats().completions_per_enter());
    /// ```
    #[must_use]
    pub fn completions_per_enter(&self) -> f64 {
        ratio(self.completed, self.enters)
    }

    /// Green threads resumed in each turn of the loop; 0 if there was none.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{runtime, thread};
    ///
    /// thread::spawn(|| (0..1000).for_each(|_| thread::yield_now())).join().unwrap();
    /// assert!(runtime::stats().switches_per_turn() > 1.0);
    /// ```
    #[must_use]
    pub fn switches_per_turn(&self) -> f64 {
        ratio(self.switches, self.turns)
    }
}

fn ratio(count: u64, times: u64) -> f64 {
    count as f64 / times.max(1) as f64
}

/// A block of lines, one for each subject.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "kernel: {} enters, each with {:.1} operations, {:.1} entries, {:.1} completions",
            self.enters,
            self.operations_per_enter(),
            self.entries_per_enter(),
            self.completions_per_enter()
        )?;
        writeln!(
            f,
            "operations: {} submitted, {} direct, {} completed, {} in flight, {} discarded",
            self.submitted, self.direct, self.completed, self.in_flight, self.discarded
        )?;
        writeln!(
            f,
            "queues: submissions full {} times, completions overflown {} times",
            self.queue_full, self.overflows
        )?;
        writeln!(
            f,
            "readers: {}, {} of {} buffers lent; starved {} times, held back {} times",
            self.readers, self.buffers_lent, self.buffers, self.starved, self.held_back
        )?;
        writeln!(
            f,
            "loop: {} turns, each with {:.1} of {} switches; ready {}, at most {}",
            self.turns,
            self.switches_per_turn(),
            self.switches,
            self.ready,
            self.most_ready
        )?;
        writeln!(
            f,
            "green threads: {} spawned, {} alive, at most {}, in {} blocks",
            self.spawned, self.live, self.most_live, self.blocks
        )?;
        writeln!(
            f,
            "stacks: {} in use, {} pooled, {} of them warm, {} bytes of address space",
            self.live, self.stacks_pooled, self.stacks_warm, self.stack_bytes
        )?;
        writeln!(
            f,
            "timers: {} set, {} fired, {} armed, at most {}",
            self.timers_set, self.timers_fired, self.timers_armed, self.most_timers_armed
        )?;
        writeln!(
            f,
            "other OS threads: {} letters, {} rings of the bell",
            self.mail, self.bell_rings
        )?;
        write!(
            f,
            "offload, in the process: {} running, {} queued, at most {}",
            self.offload_running, self.offload_queued, self.most_offload
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_differences_and_all_else_is_the_later() {
        let earlier = Stats {
            turns: 3,
            live: 5,
            most_ready: 2,
            ..Stats::default()
        };
        let later = Stats {
            turns: 10,
            enters: 4,
            live: 1,
            most_ready: 7,
            ..Stats::default()
        };
        let between = later.since(&earlier);
        assert_eq!((between.turns, between.enters), (7, 4));
        assert_eq!((between.live, between.most_ready), (1, 7));
        // Another hub's copy is a mistake, not a panic.
        assert_eq!(earlier.since(&later).turns, 0);
    }

    #[test]
    fn nothing_is_nothing_for_each_enter() {
        let none = Stats::default();
        assert_eq!(none.operations_per_enter(), 0.0);
        let some = Stats {
            enters: 4,
            submitted: 10,
            entries: 12,
            completed: 8,
            ..none
        };
        assert_eq!(some.operations_per_enter(), 2.5);
        assert_eq!(some.entries_per_enter(), 3.0);
        assert_eq!(some.completions_per_enter(), 2.0);
    }
}
