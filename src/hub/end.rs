//! How a hub ends, and what is said when it cannot go on.
//!
//! A hub that was asked for by `runtime::Builder::run` ends by interrupting
//! every green thread and running the loop until all of them have ended. A hub
//! that an OS thread got on first use ends with the OS thread, amid the
//! destruction of its thread-locals, where no user code should run: its
//! operations are cancelled and drained, its green threads are abandoned.
//!
//! Abandoning a green thread leaks its stack and what its frames own, completes
//! its handle with `Cancelled`, and never runs or unwinds it again.

use std::fmt::Write as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::config::Config;
use super::current::{self, Context};
use super::green_thread::{Ending, State, Wakeup, Why};
use super::overflow::OverflowedStack;
use super::table::{Line, ROOT};
use super::{Hub, SILENCE};
use crate::backend::offload;

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
    /// at most for the configured time; abandons those that have not.
    fn end(&self) {
        self.ending.set(true);
        if cfg!(panic = "unwind") {
            for (index, block) in self.table.alive() {
                self.interrupt(index, block);
            }
            let deadline = Instant::now().checked_add(self.config.end_timeout);
            while self.live.get() > 0 {
                let wait = self.begin_wait();
                if self.park(wait, Why::HubEnd, deadline) == Wakeup::TimedOut {
                    eprintln!(
                        "greenring: the hub ends, but {} green threads have not ended within {:?} \
                         of their cancellation and are abandoned:\n{}",
                        self.live.get(),
                        self.config.end_timeout,
                        self.print_table()
                    );
                    break;
                }
            }
        }
        self.abandon();
    }

    /// Cancels and drains all operations and abandons what is left.
    pub(super) fn abandon(&self) {
        self.ending.set(true);
        self.abandoning.set(true);
        for (index, block) in self.table.alive() {
            if block.slot.state.get() == State::Performing {
                self.end_operation(index, block, Ending::Interrupted);
            }
        }
        while self.in_flight.get() > 0 {
            // Wakes up for the deadlines that ask for a cancel again.
            let next = self.timers.borrow().next().unwrap_or(u64::MAX);
            let now = self.nanoseconds(Instant::now());
            let timeout = Duration::from_nanos(next.saturating_sub(now));
            let waited = self
                .backend
                .borrow_mut()
                .wait(Some(timeout), |done| self.complete(done));
            self.kernel(waited);
            self.expire(Instant::now());
        }
        self.inbox.close();
        for (_, block) in self.table.alive() {
            block.abandon();
        }
    }

    /// Whether nothing can ever end the root's wait.
    ///
    /// Called when nothing is ready, in flight or armed. Only another OS
    /// thread could still bring mail, so that is the question: has the process
    /// any besides this one and the idle ones of the offload pool?
    #[cold]
    pub(super) fn is_stuck(&self) -> bool {
        if offload::is_busy() {
            return false;
        }
        let Ok(os_threads) = std::fs::read_dir("/proc/self/task") else {
            return false;
        };
        os_threads.count() == 1 + offload::idle_os_threads() && !offload::is_busy()
    }

    /// How long the root waits before the table is printed; `None` if it has
    /// been.
    pub(super) fn silence(&self) -> Option<Duration> {
        (!self.reported.get()).then_some(SILENCE)
    }

    /// Prints the table, once in a hub's life, if the root has waited in
    /// silence since `since`.
    #[cold]
    pub(super) fn report_silence(&self, since: Instant) {
        if since.elapsed() >= SILENCE && !self.reported.replace(true) {
            eprintln!(
                "greenring: for {SILENCE:?} nothing in this hub could go on; it waits for another \
                 OS thread:\n{}",
                self.print_table()
            );
        }
    }

    /// The table of everything that has not ended, a line each.
    pub(super) fn print_table(&self) -> String {
        let mut table = String::new();
        let root = (ROOT, self.table.get(ROOT));
        for (_, block) in std::iter::once(root).chain(self.table.alive()) {
            let root_name = self.config.name.as_deref();
            let line = Line { block, root_name };
            write!(table, "{line}").expect("a String takes everything");
        }
        table
    }
}

/// The table of the calling OS thread's hub, for a panic's message.
pub(crate) fn print_table() -> String {
    current::with(|context| match context {
        Context::Hub(hub) => hub.print_table(),
        Context::Bare | Context::Ended => String::new(),
    })
}

/// Which green thread has run out of stack, if the fault lies in one's guard.
///
/// Called by the signal handler, on the OS thread that faulted: reads
/// thread-local cells without destructors and the hub's cells only.
pub(super) fn overflowed_stack(fault_address: usize) -> Option<OverflowedStack> {
    current::with(|context| match context {
        Context::Hub(hub) => {
            let block = hub.table.get(hub.current.get());
            let stack = block.stack.get();
            if hub.current.get() == ROOT || !stack.contains(fault_address) {
                return None;
            }
            let name = block.identity().and_then(|identity| identity.name());
            Some(OverflowedStack {
                name: name.unwrap_or("unnamed").as_bytes(),
                size: stack.size,
            })
        }
        Context::Bare | Context::Ended => None,
    })
}
