//! The scheduler of one OS thread, and the only place where a stack is
//! switched.
//!
//! A hub runs its green threads one at a time, each until it parks, performs
//! an operation or yields. The loop runs on the *root*, the OS thread's own
//! stack, whenever the root itself has to wait; so `main` needs no wrapper.
//!
//! What the floors above may ask, in five verbs: [`spawn`], park
//! ([`Wait::park`]), unpark ([`Unparker::unpark`]), [`perform`](perform()) and
//! [`current`](current()). A [`Source`] is a perform that goes on: it has a verb of its
//! own, because nobody's frame is its landlord. Verdicts (timed out, cancelled, stuck) are return
//! values; nothing here unwinds into user code, and no user code runs on the
//! loop's stack.

mod arena;
mod config;
mod counters;
mod current;
mod end;
mod extras;
mod fork;
mod green_thread;
mod inbox;
mod interrupt;
mod life;
mod loans;
mod locals;
mod moment;
mod overflow;
mod park;
mod perform;
mod record;
mod report;
mod run_queue;
mod running;
mod source;
mod stack;
mod state;
mod stats;
mod switch;
mod table;
mod timers;
mod trace;
mod valgrind;
mod watchdog;

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use crate::backend::{self, Backend, Feature};
pub(crate) use config::{
    Config, INTERVAL_RANGE, READER_BUFFERS_RANGE, RING_ENTRIES_RANGE, STACK_SIZES,
};
pub(crate) use counters::stats;
use counters::{Counters, count};
pub(crate) use current::{has_hub, is_green, lend};
pub(crate) use end::run;
pub(crate) use extras::Estate;
use extras::Extras;
pub(crate) use extras::{has_locals, with_locals};
use fork::ForkWord;
use green_thread::GreenThread;
pub(crate) use inbox::Home;
use inbox::{Letterbox, Mail};
pub(crate) use interrupt::{
    EdgeKey, Interrupt, cancel, interrupts, is_cancelled, is_cancelled_before_start,
    is_interrupted, is_panicking, limited, note_interrupt, note_no_interrupt, pending, shielded,
};
pub(crate) use life::{End, Leave};
use loans::Loans;
pub(crate) use locals::{Local, Locals};
use moment::Moment;
pub(crate) use park::{Neighbour, Unparker, Wait};
pub(crate) use perform::{Limit, Performed, perform, perform_here, works_on_storage};
pub(crate) use record::{Identity, Record, SharedRecord, current, current_id, os_thread_id};
use report::Silence;
pub use report::Standing;
pub(crate) use report::{Row, print_table, rows, say};
use run_queue::RunQueue;
pub(crate) use running::yield_now;
use source::Sources;
pub(crate) use source::{Received, Source};
use stack::{Guard, Stack, Stacks};
use state::{ROOT, State};
pub(crate) use state::{Wakeup, Why};
pub use stats::Stats;
use table::Table;
use timers::Timers;
use trace::Trace;
use watchdog::{Holder, Watched};

/// Green threads resumed, and operations done at once, before the loop looks
/// at completions, deadlines and mail again: a yielding crowd cannot starve
/// them, and a turn of switches alone stays below 10 us.
const BUDGET: u32 = 256;

/// Bytes that are copied in the time of another operation, about.
const BYTES_OF_AN_OPERATION: u32 = 16 << 10;

/// How long an idle hub waits before it returns memory of warm stacks to the
/// kernel: a server that is idle for a moment between bursts keeps it.
const TRIM_PAUSE: Duration = Duration::from_millis(10);

/// The scheduler of one OS thread.
pub(crate) struct Hub {
    config: Config,
    reason: String,
    fork_word: ForkWord,
    backend: RefCell<Backend>,
    inbox: Letterbox,
    /// Room for the mail that is being read.
    mail: RefCell<Vec<Mail>>,
    table: Table,
    run_queue: RefCell<RunQueue>,
    timers: RefCell<Timers>,
    /// Room for the indices whose deadline has passed.
    due: RefCell<Vec<u32>>,
    stacks: RefCell<Stacks>,
    sources: Sources,
    /// Index of what runs: the root, which also runs the loop, or a green thread.
    current: Cell<u32>,
    /// Its block.
    running: Cell<*const GreenThread>,
    /// What is left of the turn's budget.
    budget: Cell<u32>,
    /// Operations of this turn that must not wait.
    polls: Cell<u32>,
    loans: Loans,
    /// Operations of which the kernel still owes completions.
    in_flight: Cell<usize>,
    /// Green threads that have not ended.
    live: Cell<usize>,
    /// Contexts that are suspended while they, or others, unwind.
    unwinding: Cell<usize>,
    /// Counts the times in which somebody unwound; `unwinding` is of the latest.
    storms: Cell<u32>,
    /// Interrupts were held back because somebody was unwinding.
    deferred: Cell<bool>,
    /// The hub ends: new green threads start interrupted.
    ending: Cell<bool>,
    /// Nobody is resumed any more: what completions hand over is released.
    abandoning: Cell<bool>,
    /// Since when nothing of this hub could go on without another OS thread.
    silent_since: Cell<Option<Instant>>,
    /// The table of a silent hub was printed.
    reported: Cell<bool>,
    /// When the turn began: read from the clock once per turn, so that every
    /// suspension may write it down.
    moment: Cell<Moment>,
    /// Where it is written down who runs, if the watchdog is to look.
    watched: Option<Watched>,
    trace: Option<Trace>,
    /// Deadlines are nanoseconds since then.
    epoch: Instant,
    /// What the root keeps as a green thread does on its stack.
    extras: Extras,
    counters: Counters,
    /// Signal handlers that report a stack overflow need a stack of their own.
    _alternate_stack: overflow::AlternateStack,
}

/// Ends the process with a sentence if it is dropped, that is, on a panic.
struct AbortOnUnwind(&'static str);

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        report::say(&format!("greenring: fatal: {}", self.0));
        std::process::abort();
    }
}

impl Hub {
    /// Starts a hub for the calling OS thread.
    fn start(config: Config) -> io::Result<Box<Hub>> {
        // SAFETY: `overflowed_stack` is async-signal-safe, and the name it gives
        // stays as long as the green thread that faulted does.
        #[allow(unsafe_code)]
        unsafe {
            overflow::install_overflow_handler(report::overflowed_stack)?;
        }
        let alternate_stack = overflow::ensure_alternate_stack()?;
        let (backend, bell, reason) = Backend::open(config.setup())?;
        let guard = Guard::detect(!config.disabled.contains(Feature::GuardInstall));
        let fork_word = ForkWord::get()?;
        let watched = config
            .watchdog
            .map(|limit| Watched::start(fork_word, &config.root_name(), limit))
            .transpose()?;
        let hub = Box::new(Hub {
            reason,
            fork_word,
            watched,
            backend: RefCell::new(backend),
            inbox: Letterbox::open(bell),
            mail: RefCell::default(),
            table: Table::new()?,
            run_queue: RefCell::new(RunQueue::new(config.shuffle)),
            timers: RefCell::new(Timers::new()),
            due: RefCell::default(),
            stacks: RefCell::new(Stacks::new(guard)),
            sources: Sources::default(),
            current: Cell::new(ROOT),
            running: Cell::new(ptr::null()),
            budget: Cell::new(BUDGET),
            polls: Cell::new(0),
            loans: Loans::default(),
            in_flight: Cell::new(0),
            live: Cell::new(0),
            unwinding: Cell::new(0),
            storms: Cell::new(0),
            deferred: Cell::new(false),
            ending: Cell::new(false),
            abandoning: Cell::new(false),
            silent_since: Cell::new(None),
            reported: Cell::new(false),
            moment: Cell::new(Moment::now()),
            epoch: Instant::now(),
            extras: Extras::default(),
            trace: config
                .trace
                .map(|interval| Trace::new(interval, config.root_name())),
            counters: Counters::default(),
            _alternate_stack: alternate_stack,
            config,
        });
        hub.set_running(ROOT, hub.table.get(ROOT));
        let (_, root) = hub.running();
        let root = &root.slot;
        root.id.set(record::os_thread_id().get());
        root.extras.set(&raw const hub.extras);
        hub.make_room(hub.table.used())?;
        Ok(hub)
    }

    // ----- the loop ------------------------------------------------------

    /// THE LOOP. Runs on the root's stack whenever the root has to wait, and
    /// returns when the root is ready.
    ///
    /// A turn is: green threads, at most a budget of them; one look at the
    /// kernel, which hands over what they queued and sleeps if nothing is
    /// ready; then completions, deadlines and mail make others ready, in the
    /// order in which they came.
    ///
    /// Never inlined: its registers and room would be on every green thread's stack.
    #[inline(never)]
    fn run_until_root_is_ready(&self) {
        let guard = AbortOnUnwind("a panic in the loop of a hub");
        loop {
            while self.spend() {
                let next = self.run_queue.borrow_mut().pop();
                match next {
                    Some(ROOT) => {
                        self.end_forked_child();
                        // The root may now run for long without coming back.
                        self.kernel(self.backend.borrow_mut().flush());
                        self.note_root();
                        std::mem::forget(guard);
                        return;
                    }
                    Some(index) => self.resume(index),
                    None => break,
                }
            }
            self.collect();
        }
    }

    /// One look at the kernel and at everything else that makes ready.
    fn collect(&self) {
        self.budget.set(BUDGET);
        self.polls.set(0);
        count(&self.counters.turns);
        self.end_forked_child();
        self.deliver_if_deferred();
        if self.run_queue.borrow().is_empty() {
            self.sleep();
        } else {
            let has_work = self.backend.borrow_mut().has_work();
            if has_work {
                self.take_completions(Some(Duration::ZERO));
            }
        }
        self.hold_sources_back();
        if !self.timers.borrow().is_empty() {
            self.expire(Instant::now());
        }
        if self.inbox.has_mail() {
            self.read_mail();
        }
        self.moment.set(Moment::now());
        self.trace();
    }

    /// Waits for a completion, the nearest deadline or mail, whichever is first.
    fn sleep(&self) {
        let next = self.timers.borrow().next();
        let mut timeout = next.map(|deadline| {
            let now = self.nanoseconds(Instant::now());
            Duration::from_nanos(deadline.saturating_sub(now))
        });
        let silent = timeout.is_none() && self.in_flight.get() == self.sources.unheeded();
        if silent {
            match self.listen() {
                Silence::Listen(longest) => timeout = longest,
                Silence::Stuck => return self.unpark_root_as(Wakeup::Stuck),
            }
        }
        let has_excess = self.stacks.borrow().excess() > 0 || self.backend.borrow().has_excess();
        if has_excess {
            timeout = Some(timeout.map_or(TRIM_PAUSE, |timeout| timeout.min(TRIM_PAUSE)));
        }
        self.note(Holder::Hub);
        let asleep = self.inbox.fall_asleep();
        if !asleep {
            timeout = Some(Duration::ZERO);
        }
        self.take_completions(timeout);
        if asleep {
            self.inbox.wake_up();
        }
        if !silent || self.inbox.has_mail() {
            self.silent_since.set(None);
        }
        if has_excess && self.run_queue.borrow().is_empty() {
            self.trim();
        }
    }

    /// Returns memory that an idle hub should not hold, a part at a time.
    #[allow(unsafe_code)] // Frees blocks.
    #[cold]
    fn trim(&self) {
        self.backend.borrow().trim();
        let mut stacks = self.stacks.borrow_mut();
        stacks.trim();
        // SAFETY: on the loop's stack, and a suspended context goes on with its own
        // block only, which is in use.
        if stacks.excess() == 0 && unsafe { self.table.shrink() } {
            self.timers.borrow_mut().shrink();
        }
    }

    /// Ends the waits whose deadline has passed.
    fn expire(&self, now: Instant) {
        let now = self.nanoseconds(now);
        // Listed first, because ending an operation arms a deadline again.
        let mut due = self.due.borrow_mut();
        self.timers
            .borrow_mut()
            .expire(now, |index| due.push(index));
        for index in due.drain(..) {
            count(&self.counters.timers_fired);
            let block = self.table.get(index);
            match block.slot.state.get() {
                State::Parked(_) => self.make_ready(index, block, Wakeup::TimedOut),
                State::Performing => self.end_operation(index, block, Wakeup::TimedOut),
                // It was made ready in this very turn.
                State::Ready | State::Completed | State::Running | State::Free => {}
            }
        }
    }

    fn read_mail(&self) {
        let mut mail = self.mail.borrow_mut();
        self.inbox.take(&mut mail);
        self.counters.count_mail(mail.len());
        for letter in mail.drain(..) {
            match letter {
                Mail::Unpark { index, wait } => self.unpark(index, wait),
                Mail::Cancel { index, id } => self.cancel(index, id),
            }
        }
    }

    // ----- what green threads and the loop share --------------------------

    /// Puts a context at the end of the run queue.
    #[inline]
    fn make_ready(&self, index: u32, block: &GreenThread, wakeup: Wakeup) {
        block.slot.state.set(State::Ready);
        block.slot.wakeup.set(Some(wakeup));
        self.run_queue.borrow_mut().push(index);
    }

    /// Takes one from the turn's budget; false when it is used up.
    #[inline]
    fn spend(&self) -> bool {
        match self.budget.get() {
            0 => false,
            left => {
                self.budget.set(left - 1);
                true
            }
        }
    }

    /// For operations that are done at once, with this result: a green thread
    /// that never has to wait must not keep the hub to itself. Many bytes take
    /// the time of several operations.
    #[inline]
    fn spend_or_yield(&self, result: i32) {
        let more = (result.max(0) as u32) / BYTES_OF_AN_OPERATION;
        self.budget.set(self.budget.get().saturating_sub(more));
        if !self.spend() {
            self.yield_now();
        }
    }

    fn unpark_root(&self, why: Why) {
        if self.table.get(ROOT).slot.state.get() == State::Parked(why) {
            self.unpark_root_as(Wakeup::Unparked);
        }
    }

    fn unpark_root_as(&self, wakeup: Wakeup) {
        self.make_ready(ROOT, self.table.get(ROOT), wakeup);
    }

    /// Nanoseconds from the hub's start to `instant`, which may lie before it.
    #[inline]
    fn nanoseconds(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// A free block's index, for which all tables have room.
    #[inline]
    fn take_index(&self) -> io::Result<u32> {
        match self.table.take() {
            Some(index) => Ok(index),
            None => self.take_new_index(),
        }
    }

    #[cold]
    fn take_new_index(&self) -> io::Result<u32> {
        // Before it is taken: one that was given back would be taken next time
        // without another look.
        if self.table.used() >= self.timers.borrow().room() {
            self.make_room(self.table.used() + 1)?;
        }
        self.table.take_new()
    }

    /// Room in the tables that are addressed by index, so that arming and
    /// making ready never allocate.
    fn make_room(&self, used: usize) -> io::Result<()> {
        let used = used.next_power_of_two();
        self.run_queue.borrow_mut().reserve(used)?;
        self.timers.borrow_mut().reserve(used)?;
        Ok(())
    }

    /// A failure of the backend that no retry can mend leaves nothing to do.
    #[inline]
    fn kernel(&self, result: io::Result<()>) {
        if let Err(error) = result {
            panic!("the backend failed: {error}");
        }
    }

    /// Whether the root alone is left, and nothing refers to the hub from its
    /// stack: no green thread is alive, no time limit or shield in force.
    fn is_idle(&self) -> bool {
        let root = &self.table.get(ROOT).slot;
        self.live.get() == 0
            && self.current.get() == ROOT
            && root.attention.get() == 0
            && !root.shielded.get()
    }
}

// ----- the verbs -----------------------------------------------------------

/// Makes a green thread, ready but not started, of the record and the body that
/// `make` gives, which is told where it will live.
///
/// On an OS thread without a hub this starts one. The body asks
/// [`is_cancelled_before_start`] first.
///
/// # Safety
///
/// The record came from a box, the body holds it until its end and does not unwind; what
/// it borrows outlives it.
///
/// # Errors
///
/// No stack, no index or no hub can be had; the OS thread is past its hub's end.
#[allow(unsafe_code)] // Passes the callee's contract on.
#[inline]
pub(crate) unsafe fn spawn<F: FnOnce()>(
    stack_size: Option<usize>,
    make: impl FnOnce(Home) -> (NonNull<dyn Record>, F),
) -> io::Result<()> {
    let prepared = current::with_started(|context| match context {
        current::Context::Hub(hub) => hub.prepare(stack_size),
        current::Context::Bare | current::Context::Ended => Err(io::Error::other(
            "this OS thread ends: it cannot spawn green threads any more",
        )),
    });
    let (stack, index) = prepared.flatten()?;
    current::with(|context| {
        let current::Context::Hub(hub) = context else {
            unreachable!("the hub that has prepared it is there");
        };
        let (record, body) = make(hub.inbox.home(index));
        // SAFETY: the caller's promises.
        unsafe { hub.spawn(stack, index, record, body) }
    });
    Ok(())
}

impl Hub {
    /// A stack and a block for a green thread.
    #[inline]
    fn prepare(&self, stack_size: Option<usize>) -> io::Result<(Stack, u32)> {
        self.check_process();
        let size = stack_size.unwrap_or(self.config.stack_size);
        let stack = self.stacks.borrow_mut().take(size)?;
        match self.take_index() {
            Ok(index) => Ok((stack, index)),
            Err(error) => {
                self.stacks.borrow_mut().give_back(stack);
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// The contract of the verb.
    #[allow(unsafe_code)] // Starts a coroutine in a free block.
    #[inline]
    unsafe fn spawn<F: FnOnce()>(
        &self,
        stack: Stack,
        index: u32,
        record: NonNull<dyn Record>,
        body: F,
    ) {
        let block = self.table.get(index);
        // SAFETY: the table's blocks do not move and a block is given back
        // after its coroutine has returned; the rest is the caller's promise.
        unsafe { block.start(stack, record, body) };
        block.slot.since.set(self.moment.get());
        if self.ending.get() {
            block.slot.attention.set(green_thread::CANCELLED);
        }
        self.run_queue.borrow_mut().push(index);
        self.live.set(self.live.get() + 1);
        if self.live.get() == 1 && self.current.get() == ROOT {
            self.note_root();
        }
        self.counters.count_spawn(self.live.get());
    }
}

/// The backend of the calling OS thread's hub and why it is this one; starts
/// the hub if there is none.
///
/// # Errors
///
/// The hub cannot be started.
pub(crate) fn backend() -> io::Result<(backend::Kind, String)> {
    current::with_started(|context| match context {
        current::Context::Hub(hub) => Ok((hub.backend.borrow().kind(), hub.reason.clone())),
        _ => Err(io::Error::other("this OS thread's hub has ended")),
    })?
}
