//! What a hub says: the table of its green threads, whether it can ever go on,
//! and who has run out of stack.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use super::Hub;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::overflow::OverflowedStack;
use super::perform;
use super::state::{ROOT, State, Why};
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

impl Hub {
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
        // The mail last: who sent it may have ended since.
        if is_alone() && !self.inbox.has_mail() {
            return Silence::Stuck;
        }
        if self.reported.get() {
            return Silence::Listen(None);
        }
        let left = LONG_SILENCE.saturating_sub(since.elapsed());
        if left.is_zero() {
            self.reported.set(true);
            say(&format!(
                "greenring: for {LONG_SILENCE:?} nothing in this hub could go on; it waits for \
                 another OS thread:\n{}",
                self.print_table()
            ));
        }
        Silence::Listen(Some(left.max(FIRST_MOMENT)))
    }

    /// The table of everything that has not ended, a line each.
    pub(super) fn print_table(&self) -> String {
        self.print_table_with(self.table.get(ROOT).slot.state.get())
    }

    /// As `print_table`, for a root that was in the state given.
    fn print_table_with(&self, root: State) -> String {
        let os_thread = std::thread::current();
        let name = self.config.name.as_deref().or(os_thread.name());
        let name = name.unwrap_or("unnamed");
        let mut table = format!("  root '{name}'{}\n", Describe(self.table.get(ROOT), root));
        for (_, block) in self.table.alive() {
            writeln!(table, "{}", Line(block)).expect("a String takes everything");
        }
        table
    }
}

/// Writes a line to stderr; that it cannot be written must not end anything.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether nobody is left who could send mail: the process has no OS thread
/// but this one and idle ones of the offload pool, and handles no signals.
#[cold]
fn is_alone() -> bool {
    if offload::is_busy() || handles_signals() {
        return false;
    }
    let Ok(os_threads) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    os_threads.count() == 1 + offload::idle_os_threads() && !offload::is_busy()
}

/// Whether a signal handler could run that means something to the program:
/// one for another signal than the faults that a runtime reports, and the two
/// that glibc keeps to itself (nptl(7)). Unknown counts as yes.
fn handles_signals() -> bool {
    const IGNORED: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, 32, 33];
    let ignored: u64 = IGNORED.iter().map(|signal| 1 << (signal - 1)).sum();
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            // The mask of caught signals, proc_pid_status(5).
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .is_none_or(|caught| caught & !ignored != 0)
}

/// The table of the calling OS thread's hub, for the panic's message of a root
/// that waited for `why`.
pub(crate) fn print_table(why: Why) -> String {
    current::with(|context| match context {
        Context::Hub(hub) => hub.print_table_with(State::Parked(why)),
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

/// One line of the table that a user gets to see.
struct Line<'a>(&'a GreenThread);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = &self.0.slot;
        let Some(identity) = self.0.identity() else {
            return f.write_str("  a green thread that has ended");
        };
        let name = identity.name().unwrap_or("unnamed");
        let described = Describe(self.0, slot.state.get());
        write!(
            f,
            "  green thread '{name}' (id {}){described}",
            identity.id()
        )?;
        if let Some(spawned_at) = identity.spawned_at() {
            write!(f, ", spawned at {spawned_at}")?;
        }
        match slot.stack.get().high_water() {
            Ok(used) => write!(f, ", stack used {used} of {}", slot.stack.get().size()),
            Err(_) => Ok(()),
        }
    }
}

/// What a context in this state does.
struct Describe<'a>(&'a GreenThread, State);

impl fmt::Display for Describe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.1 {
            State::Free => ": ended",
            State::Ready | State::Completed => ": ready",
            State::Running => ": running",
            State::Parked(Why::Park) => ": parked until it is unparked",
            State::Parked(Why::Sleep) => ": sleeps",
            State::Parked(Why::Join) => ": waits for the end of another one",
            State::Parked(Why::Offload) => ": waits for a closure on an OS thread",
            State::Parked(Why::Scope) => ": waits for the green threads of its scope",
            State::Parked(Why::Mutex) => ": waits for a Mutex",
            State::Parked(Why::ReadLock) => ": waits for an RwLock, to read",
            State::Parked(Why::WriteLock) => ": waits for an RwLock, to write",
            State::Parked(Why::Condvar) => ": waits for a Condvar",
            State::Parked(Why::Barrier) => ": waits at a Barrier",
            State::Parked(Why::Once) => ": waits for an initialiser",
            State::Parked(Why::Semaphore) => ": waits for a permit of a Semaphore",
            State::Parked(Why::Event) => ": waits for an Event",
            State::Parked(Why::Receive) => ": waits for a message",
            State::Parked(Why::Send) => ": waits for room for a message",
            State::Parked(Why::Select) => ": waits in a select",
            State::Parked(Why::Future) => ": waits for a future",
            State::Parked(Why::HubEnd) => ": waits for the end of the hub's green threads",
            State::Performing => return perform::describe(self.0, f),
        })
    }
}
