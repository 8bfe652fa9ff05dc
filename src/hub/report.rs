//! What a hub says: the table of its green threads, whether it can ever go on,
//! and who has run out of stack.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use super::Hub;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::overflow::OverflowedStack;
use super::perform;
use super::record::Identity;
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

/// One line of the table that a user gets to see.
struct Line<'a> {
    block: &'a GreenThread,
    root_name: Option<&'a str>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.block.identity();
        match identity {
            None => write!(f, "  root '{}'", self.root_name.unwrap_or("unnamed"))?,
            Some(identity) => write!(
                f,
                "  green thread '{}' (id {})",
                identity.name().unwrap_or("unnamed"),
                identity.id()
            )?,
        }
        match self.block.slot.state.get() {
            State::Free => f.write_str(": ended")?,
            State::Ready => f.write_str(": ready")?,
            State::Running => f.write_str(": running")?,
            State::Parked(why) => f.write_str(match why {
                Why::Park => ": parked until it is unparked",
                Why::Sleep => ": sleeps",
                Why::Join => ": waits for the end of another one",
                Why::Offload => ": waits for a closure on an OS thread",
                Why::HubEnd => ": waits for the end of the hub's green threads",
            })?,
            State::Performing => perform::describe(self.block, f)?,
        }
        if let Some(spawned_at) = identity.and_then(Identity::spawned_at) {
            write!(f, ", spawned at {spawned_at}")?;
            let stack = self.block.slot.stack.get();
            if let Ok(used) = stack.high_water() {
                write!(f, ", stack used {used} of {}", stack.size())?;
            }
        }
        writeln!(f)
    }
}
