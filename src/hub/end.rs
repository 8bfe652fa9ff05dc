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

use super::Hub;
use super::config::Config;
use super::current::{self, Context};
use super::green_thread::{Ending, State, Wakeup, Why};
use super::overflow::OverflowedStack;
use super::table::{Line, ROOT};
use crate::backend::offload;

/// How long a hub listens before it asks whether anybody could speak.
const FIRST_MOMENT: Duration = Duration::from_millis(10);

/// How long a hub waits for another OS thread before it prints its table.
const LONG_SILENCE: Duration = Duration::from_secs(10);

/// What a hub does in silence.
pub(super) enum Silence {
    /// Wait for mail, this long at the most.
    Listen(Option<Duration>),
    /// Nobody can ever speak.
    Stuck,
}

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
                // Out of time, or stuck in destructors that wait for each other.
                if self.park(wait, Why::HubEnd, deadline) != Wakeup::Unparked {
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

    /// What to do in silence: nothing is ready, in flight or armed, so that
    /// only another OS thread can make this hub go on.
    ///
    /// Most silences are short, another OS thread answering this one, so
    /// nothing is looked at in the first moment.
    pub(super) fn listen(&self) -> Silence {
        let Some(since) = self.silent_since.get() else {
            self.silent_since.set(Some(Instant::now()));
            return Silence::Listen(Some(FIRST_MOMENT));
        };
        if is_alone() {
            return Silence::Stuck;
        }
        if self.reported.get() {
            return Silence::Listen(None);
        }
        let left = LONG_SILENCE.saturating_sub(since.elapsed());
        if left.is_zero() {
            self.reported.set(true);
            eprintln!(
                "greenring: for {LONG_SILENCE:?} nothing in this hub could go on; it waits for \
                 another OS thread:\n{}",
                self.print_table()
            );
        }
        Silence::Listen(Some(left.max(FIRST_MOMENT)))
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

/// Whether nobody is left who could send mail: the process has no OS thread
/// but this one and idle ones of the offload pool.
#[cold]
fn is_alone() -> bool {
    if offload::is_busy() {
        return false;
    }
    let Ok(os_threads) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    os_threads.count() == 1 + offload::idle_os_threads() && !offload::is_busy()
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
            let stack = block.slot.stack.get();
            if hub.current.get() == ROOT || !stack.contains(fault_address) {
                return None;
            }
            let name = block.identity().and_then(|identity| identity.name());
            Some(OverflowedStack {
                name: name.unwrap_or("unnamed").as_bytes(),
                size: stack.size(),
            })
        }
        Context::Bare | Context::Ended => None,
    })
}
