//! How a hub ends.
//!
//! A hub that was asked for by `runtime::Builder::run` ends by interrupting
//! every green thread and running the loop until all of them have ended. A hub
//! that an OS thread got on first use ends with the OS thread, amid the
//! destruction of its thread-locals, where no user code should run: its
//! operations are cancelled and drained, its green threads are abandoned.
//!
//! Abandoning a green thread leaks its stack and what its frames own, completes
//! its handle with `Cancelled`, and never runs or unwinds it again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::Hub;
use super::config::Config;
use super::current;
use super::report::say;
use super::state::{State, Wakeup, Why};
use super::watchdog::Holder;

/// Runs `body` on the root of a hub of its own, then ends that hub.
///
/// # Errors
///
/// The hub cannot be started, or the OS thread runs one that is not idle.
pub(crate) fn run<R>(config: Config, body: impl FnOnce() -> R) -> io::Result<thread::Result<R>> {
    current::install(
        || Hub::start(config),
        |hub| {
            let result = catch_unwind(AssertUnwindSafe(body));
            hub.end();
            result
        },
    )
}

impl Hub {
    /// Interrupts all green threads and runs the loop until they have ended,
    /// at most for the configured time; those that have not are then abandoned.
    fn end(&self) {
        if self.is_forked_child() {
            return;
        }
        self.ending.set(true);
        if cfg!(panic = "unwind") {
            for (index, block) in self.table.alive() {
                self.interrupt(index, block);
            }
            let deadline = Instant::now().checked_add(self.config.end_timeout);
            while self.live.get() > 0 {
                // Out of time, or stuck in destructors that wait for each other.
                if self.park_root(Why::HubEnd, deadline) != Wakeup::Unparked {
                    say(&format!(
                        "greenring: the hub ends, but {} green threads have not ended within {:?} \
                         of their cancellation and are abandoned:\n{}",
                        self.live.get(),
                        self.config.end_timeout,
                        self.print_table()
                    ));
                    break;
                }
            }
        }
    }

    /// Cancels and drains all operations and abandons what is left.
    pub(super) fn abandon(&self) {
        self.ending.set(true);
        self.abandoning.set(true);
        self.note(Holder::Hub);
        for (index, block) in self.table.alive() {
            if block.slot.state.get() == State::Performing {
                self.end_operation(index, block, Wakeup::Interrupted);
            }
        }
        self.stop_sources();
        while self.in_flight.get() > 0 {
            // Wakes up for the deadlines that ask for a cancel again.
            let next = self.timers.borrow().next().unwrap_or(u64::MAX);
            let now = self.nanoseconds(Instant::now());
            let timeout = Duration::from_nanos(next.saturating_sub(now));
            self.take_completions(Some(timeout));
            self.expire(Instant::now());
        }
        for (_, block) in self.table.alive() {
            self.release_untaken(block);
        }
        if self
            .loans
            .wait(Instant::now().checked_add(self.config.end_timeout))
            > 0
        {
            say(&format!(
                "greenring: the end of a hub waits for calls on other OS threads that borrow from \
                 its green threads:\n{}",
                self.print_table()
            ));
            self.loans.wait(None);
        }
        self.give_up();
    }

    /// Tells everybody who waits for a green thread of this hub that it will
    /// not end. Touches nothing of the kernel's.
    pub(super) fn give_up(&self) {
        self.inbox.close();
        if let Some(watched) = &self.watched {
            watched.end();
        }
        for (_, block) in self.table.alive() {
            block.abandon();
        }
        if self.is_forked_child() {
            // What they wait for is the parent's, and may be locked for ever.
            return;
        }
        for (_, block) in self.table.alive() {
            if let Some(extras) = block.extras() {
                extras.pass_on();
            }
        }
    }
}
