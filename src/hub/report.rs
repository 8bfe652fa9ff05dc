//! What a hub says: the table of its green threads, whether it can ever go on,
//! and who has run out of stack.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::Hub;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::moment::Moment;
use super::overflow::OverflowedStack;
use super::perform;
use super::state::{ROOT, State, Why};
use super::watchdog;
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
        lines(&self.rows(self.table.get(ROOT).slot.state.get()))
    }

    /// The root, which is in the state given, and everything that has not
    /// ended.
    fn rows(&self, root: State) -> Vec<Row> {
        let now = Moment::now();
        let mut names = HashMap::new();
        for (_, block) in self.table.alive() {
            if let Some(identity) = block.identity() {
                names.insert(identity.id().get(), identity.name());
            }
        }
        let green_threads = self.table.alive().filter_map(|(_, block)| {
            let identity = block.identity()?;
            let stack = block.slot.stack.get();
            Some(Row {
                name: identity.name().map(Box::from),
                spawned_at: identity.spawned_at(),
                stack: stack.high_water().ok().map(|used| (used, stack.size())),
                ..Row::new(block, block.slot.state.get(), now, &names)
            })
        });
        let root = Row {
            is_root: true,
            name: Some(self.config.root_name().into()),
            ..Row::new(self.table.get(ROOT), root, now, &names)
        };
        std::iter::once(root).chain(green_threads).collect()
    }
}

/// What a hub says of its root or of a green thread.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) is_root: bool,
    pub(crate) id: NonZeroU64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) standing: Standing,
    /// What it does or waits for, in words.
    pub(crate) doing: String,
    /// That of the operation it performs.
    pub(crate) descriptor: Option<RawFd>,
    /// For how long it has not run; `None` for what runs.
    pub(crate) since: Option<Duration>,
    pub(crate) spawned_at: Option<&'static Location<'static>>,
    /// Bytes used, and bytes there are.
    pub(crate) stack: Option<(usize, usize)>,
}

impl Row {
    fn new(block: &GreenThread, state: State, now: Moment, names: &Names<'_>) -> Row {
        let standing = match state {
            State::Ready | State::Completed => Standing::Ready,
            State::Running | State::Free => Standing::Running,
            State::Parked(_) => Standing::Parked,
            State::Performing => Standing::Performing,
        };
        let described = Describe(block, state, names).to_string();
        Row {
            is_root: false,
            id: NonZeroU64::new(block.slot.id.get()).expect("set when the block is taken"),
            name: None,
            standing,
            // As it stands in the table, behind the name.
            doing: described.trim_start_matches(": ").to_owned(),
            descriptor: perform::descriptor_of(block),
            since: (standing != Standing::Running).then(|| block.slot.since.get().until(now)),
            spawned_at: None,
            stack: None,
        }
    }
}

/// Whether a green thread runs, is about to, or waits.
///
/// # Examples
///
/// ```
/// use greenring::inspect::{State, snapshot};
/// use greenring::thread;
///
/// thread::spawn(|| ());
/// assert_eq!(snapshot().green_threads()[0].state(), State::Ready);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It is in the run queue.
    Ready,
    /// It is the caller.
    Running,
    /// It waits for something that is not an operation of the kernel's.
    Parked,
    /// It waits for an operation of the kernel's.
    Performing,
}

/// The names of the green threads that have not ended, by their ids.
type Names<'a> = HashMap<u64, Option<&'a str>>;

/// Writes a line to stderr; that it cannot be written must not end anything.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether nobody is left who could send mail: the process has no OS thread
/// but this one, the watchdog's and idle ones of the offload pool, and handles
/// no signals.
#[cold]
fn is_alone() -> bool {
    if offload::is_busy() || handles_signals() {
        return false;
    }
    let Ok(os_threads) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    let ours = offload::idle_os_threads() + watchdog::os_threads();
    os_threads.count() == 1 + ours && !offload::is_busy()
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
        Context::Hub(hub) => lines(&hub.rows(State::Parked(why))),
        Context::Bare | Context::Ended => String::new(),
    })
}

/// The root and the green threads of the calling OS thread's hub, the root
/// first; empty if it has none.
pub(crate) fn rows() -> Vec<Row> {
    current::with(|context| match context {
        Context::Hub(hub) => hub.rows(hub.table.get(ROOT).slot.state.get()),
        Context::Bare | Context::Ended => Vec::new(),
    })
}

/// Which green thread has run out of stack, if the fault lies in one's guard.
///
/// Called by the signal handler, on the OS thread that faulted: reads
/// thread-local cells without destructors and the hub's cells only.
pub(super) fn overflowed_stack(fault_address: usize) -> Option<OverflowedStack> {
    current::with(|context| match context {
        Context::Hub(hub) => {
            let block = hub.running().1;
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

/// The table that a user gets to see.
fn lines(rows: &[Row]) -> String {
    let mut table = String::new();
    for row in rows {
        writeln!(table, "  {row}").expect("a String takes everything");
    }
    table
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("unnamed");
        if self.is_root {
            write!(f, "root '{name}': {}", self.doing)?;
        } else {
            write!(f, "green thread '{name}' (id {}): {}", self.id, self.doing)?;
        }
        if let Some(spawned_at) = self.spawned_at {
            write!(f, ", spawned at {spawned_at}")?;
        }
        if let Some((used, size)) = self.stack {
            write!(f, ", stack used {used} of {size}")?;
        }
        match self.since {
            Some(since) if !since.is_zero() => write!(f, ", suspended {since:.1?} ago"),
            _ => Ok(()),
        }
    }
}

/// What a context in this state does.
struct Describe<'a>(&'a GreenThread, State, &'a Names<'a>);

impl Describe<'_> {
    /// Of a lock or a queue, which one; of a join, whose end.
    fn describe_subject(&self, why: Why, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.0.slot.subject.get().addr();
        match why {
            _ if subject == 0 => Ok(()),
            Why::Join => match self.2.get(&(subject as u64)) {
                Some(name) => {
                    let name = name.unwrap_or("unnamed");
                    write!(f, ": green thread '{name}' (id {subject})")
                }
                None => write!(f, ": the green thread with id {subject}"),
            },
            Why::Park | Why::Sleep | Why::Offload | Why::Scope | Why::HubEnd => Ok(()),
            Why::Source => write!(f, " on descriptor {subject}"),
            _ => write!(f, " at {subject:#x}"),
        }
    }
}

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
            State::Parked(Why::Source) => ": waits for recv",
            State::Parked(Why::Select) => ": waits in a select",
            State::Parked(Why::Future) => ": waits for a future",
            State::Parked(Why::HubEnd) => ": waits for the end of the hub's green threads",
            State::Performing => return perform::describe(self.0, f),
        })?;
        match self.1 {
            State::Parked(why) => self.describe_subject(why, f),
            _ => Ok(()),
        }
    }
}
