//! One operation to its end: submit, park, and on a timeout or an interrupt
//! cancel AND DRAIN.
//!
//! # The landlord rule
//!
//! **The stack frame that owns a buffer does not return, unwind or get freed
//! while the kernel holds the buffer.** [`perform`] is where it is kept, and
//! every SAFETY comment about memory that the kernel holds cites it:
//!
//! 1. `perform` borrows the operation, and the operation borrows the buffers,
//!    so their owners are frames below this one.
//! 2. A pending operation puts the green thread into the state `Performing`,
//!    which only the operation's last completion ends. Unparkers, deadlines and
//!    interrupts do not.
//! 3. A deadline or an interrupt asks the backend to cancel, and asks again
//!    with growing pauses (a kernel worker may be executing the operation, or
//!    the cancel may have found no memory) until the completion has come.
//! 4. From the submission to that completion an abort guard is armed: a panic
//!    of our own in between would end the process instead of the frame.
//! 5. A stack is given back when its coroutine has returned, never earlier;
//!    a hub that ends drains first, and leaks the stacks it cannot drain.
//!
//! # Who wins
//!
//! A completion that raced with a timeout or an interrupt wins: if it achieved
//! anything (a count, a descriptor), that is the result, and an interrupt stays
//! pending for the next call.

#![allow(unsafe_code)] // Lends operations to the kernel under the landlord rule.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::Hub;
use super::counters::count;
use super::current::{self, Context};
use super::green_thread::GreenThread;
use super::state::{State, Wakeup, Why};
use crate::backend::{self, Completion, Key, Operation, Submitted};

/// How long an operation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// As long as it takes.
    Forever,
    /// At most this long, counted from when it first had to wait.
    Timeout(Duration),
    /// It must not wait at all.
    Now,
    /// It is tried once, by a caller who waits for another turn if it would block.
    Once,
}

/// Ends the process on a panic while the kernel may hold a buffer.
struct Landlord;

impl Drop for Landlord {
    fn drop(&mut self) {
        drop(super::AbortOnUnwind(
            "a panic while the kernel may hold a buffer",
        ));
    }
}

/// How often in a turn operations that must not wait are taken for what they
/// are: some milliseconds.
const MOST_POLLS: u32 = 16_384;

/// What takes the time of another one, about.
const BYTES_OF_A_POLL: u32 = 1024;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Performed {
    Completed {
        /// The system call's result, or a negated errno.
        result: i32,
        /// The socket still held data; false where the backend cannot tell.
        nonempty: bool,
    },
    /// Its time ran out before it achieved anything.
    TimedOut,
    /// The caller was interrupted before it achieved anything.
    Interrupted,
}

impl Performed {
    fn at_once(result: i32) -> Performed {
        Performed::Completed {
            result,
            nonempty: false,
        }
    }
}

/// Whether an operation that was to be cancelled ended for that reason, without
/// having achieved anything.
///
/// One that a kernel worker executes ends as by a signal: with EINTR, or with
/// the kernel's own ERESTARTSYS, 512, and its kin, which no system call would
/// let out.
pub(super) fn is_cut_short(result: i32) -> bool {
    matches!(-result, libc::ECANCELED | libc::EINTR | 512..=516)
}

/// Pauses between the cancels of one operation: 1 ms, doubling up to 2^6 ms.
fn pause_before_cancel(cancels: u8) -> Duration {
    Duration::from_millis(1 << cancels.min(6))
}

/// Performs an operation, parking the caller until it is over.
///
/// On an OS thread without a hub this starts one; on one whose hub has ended
/// the system call blocks the OS thread.
///
/// # Errors
///
/// The hub cannot be started; the operation's own failure is in its result.
#[inline(never)]
pub(crate) fn perform(operation: Operation<'_>, limit: Limit) -> io::Result<Performed> {
    perform_here(operation, limit)
}

/// As [`perform`], in the caller's own frame, for what programs do most: the
/// compiler then knows which operation it is, and a frame less is parked, whose
/// lines are all cold when the green thread goes on.
#[inline(always)]
pub(crate) fn perform_here(operation: Operation<'_>, limit: Limit) -> io::Result<Performed> {
    // Before anybody has the address of the other one, see `Backend::submit`.
    let seen = operation;
    current::ensure_started()?;
    // SAFETY: this is a function of the hub, and the context stays in its frame.
    Ok(match unsafe { current::context() } {
        Context::Hub(hub) => hub.perform(&operation, seen, limit),
        Context::Bare | Context::Ended => perform_plainly(&operation, limit),
    })
}

/// Whether operations on files in storage may be performed here; else they
/// would block the OS thread, which is for the offload pool to do. Where there is
/// no hub nobody is kept waiting, so none is started for this.
#[inline]
pub(crate) fn works_on_storage() -> bool {
    current::with(|context| match context {
        Context::Hub(hub) => hub.backend.borrow().kind().works_on_storage(),
        Context::Bare | Context::Ended => false,
    })
}

#[cold]
fn perform_plainly(operation: &Operation<'_>, limit: Limit) -> Performed {
    let timeout = match limit {
        Limit::Forever => None,
        Limit::Timeout(timeout) => Some(timeout),
        Limit::Now | Limit::Once => Some(Duration::ZERO),
    };
    match backend::perform_blocking(operation, timeout) {
        Some(result) => Performed::at_once(result),
        None if matches!(limit, Limit::Now | Limit::Once) => Performed::at_once(-libc::EAGAIN),
        None => Performed::TimedOut,
    }
}

impl Hub {
    #[inline(always)]
    fn perform(&self, operation: &Operation<'_>, seen: Operation<'_>, limit: Limit) -> Performed {
        self.check_process();
        let (index, block) = self.running();
        if matches!(limit, Limit::Now | Limit::Once) || block.slot.attention.get() != 0 {
            return self.perform_with_care(index, block, operation, limit);
        }
        self.hand_over(index, block, operation, seen, limit)
    }

    /// For an operation that must not wait, and for callers that may be
    /// interrupted.
    #[inline(never)]
    fn perform_with_care(
        &self,
        index: u32,
        block: &GreenThread,
        operation: &Operation<'_>,
        limit: Limit,
    ) -> Performed {
        if limit == Limit::Now {
            return self.poll(operation, block);
        }
        if self.is_interrupted(block) {
            self.yield_now();
            return Performed::Interrupted;
        }
        if limit == Limit::Once {
            let result = backend::attempt(operation);
            self.spend_or_yield(result);
            return Performed::at_once(result);
        }
        self.hand_over(index, block, operation, *operation, limit)
    }

    /// Submits an operation and waits for its completion.
    #[inline(always)]
    fn hand_over(
        &self,
        index: u32,
        block: &GreenThread,
        operation: &Operation<'_>,
        seen: Operation<'_>,
        limit: Limit,
    ) -> Performed {
        let slot = &block.slot;
        slot.wait.set(slot.wait.get() + 1);
        let key = Key::new(index, slot.generation(), seen.returns_descriptor());
        let alone = self.run_queue.borrow().is_empty();
        let guard = Landlord;
        // SAFETY: the landlord rule: this frame stays until the completion was
        // collected, see `wait_for_completion`.
        let submitted = unsafe {
            self.backend
                .borrow_mut()
                .submit(operation, seen, key, alone)
        };
        let performed = match submitted {
            Submitted::Done(result) => {
                self.spend_or_yield(result);
                Performed::Completed {
                    result,
                    nonempty: seen.is_filled_by(result),
                }
            }
            Submitted::Pending => self.wait_for_completion(index, block, operation, limit),
        };
        std::mem::forget(guard);
        performed
    }

    /// An operation that must not wait, and so neither gives others a turn nor is
    /// interrupted: its caller may hold a lock of std's that they want.
    ///
    /// Only who does nothing else for ever so long is taken to wait in this way.
    fn poll(&self, operation: &Operation<'_>, block: &GreenThread) -> Performed {
        let result = backend::attempt(operation);
        let bytes = result.max(0) as u32;
        let polls = self.polls.get().saturating_add(1 + bytes / BYTES_OF_A_POLL);
        self.polls.set(polls);
        if polls > MOST_POLLS {
            self.yield_now();
            if result == -libc::EAGAIN && self.is_interrupted(block) {
                return Performed::Interrupted;
            }
        }
        Performed::at_once(result)
    }

    #[inline(always)]
    fn wait_for_completion(
        &self,
        index: u32,
        block: &GreenThread,
        operation: &Operation<'_>,
        limit: Limit,
    ) -> Performed {
        let slot = &block.slot;
        slot.owed.set(1);
        slot.cancels.set(0);
        slot.wakeup.set(None);
        slot.subject.set(std::ptr::from_ref(operation).cast());
        self.in_flight.set(self.in_flight.get() + 1);
        let may_time_out = matches!(limit, Limit::Timeout(_)) || slot.attention.get() != 0;
        let own = if may_time_out {
            self.arm(index, block, limit)
        } else {
            u64::MAX
        };
        slot.state.set(State::Performing);
        self.switch_away(index, block);
        assert!(
            slot.owed.get() == 0,
            "resumed while the kernel owes a completion"
        );
        slot.subject.set(std::ptr::null());
        // Also a deadline that asks for a cancel again, or a limit that was held back.
        if may_time_out || slot.wakeup.get().is_some() || slot.attention.get() != 0 {
            return self.after_deadlines(index, block, own);
        }
        Performed::Completed {
            result: slot.result.get(),
            nonempty: slot.nonempty.get(),
        }
    }

    /// Arms the nearest deadline of an operation, and gives that of its own limit.
    #[inline(never)]
    fn arm(&self, index: u32, block: &GreenThread, limit: Limit) -> u64 {
        let own = match limit {
            Limit::Timeout(timeout) => Instant::now()
                .checked_add(timeout)
                .map_or(u64::MAX, |deadline| self.nanoseconds(deadline)),
            Limit::Forever | Limit::Now | Limit::Once => u64::MAX,
        };
        let nearest = own.min(self.limit(block));
        if nearest != u64::MAX {
            self.timers.borrow_mut().arm(index, nearest);
        }
        own
    }

    /// How an operation has ended for which a deadline may have been armed.
    #[inline(never)]
    fn after_deadlines(&self, index: u32, block: &GreenThread, own: u64) -> Performed {
        self.timers.borrow_mut().cancel(index);
        let slot = &block.slot;
        let result = slot.result.get();
        match slot.wakeup.get() {
            Some(_) if !is_cut_short(result) => {}
            Some(Wakeup::TimedOut) if self.has_passed(own) => return Performed::TimedOut,
            Some(Wakeup::TimedOut | Wakeup::Interrupted) => return Performed::Interrupted,
            Some(Wakeup::Unparked | Wakeup::Stuck) | None => {}
        }
        Performed::Completed {
            result,
            nonempty: slot.nonempty.get(),
        }
    }

    /// Asks the kernel to end the operation of a green thread that is
    /// `Performing`; its completion still decides.
    ///
    /// Asked again by the deadline that is armed here until it has come.
    pub(super) fn end_operation(&self, index: u32, block: &GreenThread, wakeup: Wakeup) {
        let slot = &block.slot;
        if slot.wakeup.get().is_none() {
            slot.wakeup.set(Some(wakeup));
        }
        let operation = operation_of(block).expect("it performs one");
        let key = Key::new(index, slot.generation(), operation.returns_descriptor());
        self.backend.borrow_mut().cancel(operation, key);
        let pause = pause_before_cancel(slot.cancels.get());
        slot.cancels.set(slot.cancels.get().saturating_add(1));
        let mut timers = self.timers.borrow_mut();
        timers.cancel(index);
        timers.arm(index, self.nanoseconds(Instant::now() + pause));
    }

    /// Hands over what is queued, waits at most `timeout` for a completion, and
    /// stores all that there are. The one place that asks the backend for them, so
    /// that what is done for each is compiled into its loop.
    #[inline(never)]
    pub(super) fn take_completions(&self, timeout: Option<Duration>) {
        let mut backend = self.backend.borrow_mut();
        let waited = backend.wait(timeout, |done| self.complete(done));
        drop(backend);
        self.kernel(waited);
    }

    /// Stores a completion in the slot it belongs to; the loop resumes the
    /// green thread later.
    #[inline(always)]
    pub(super) fn complete(&self, completion: Completion) {
        let Completion { key, result, .. } = completion;
        if key.is_of_source() {
            return self.complete_source(completion);
        }
        let Some(block) = self.table.find(key.index()) else {
            self.discard(completion);
            return;
        };
        let slot = &block.slot;
        if slot.owed.get() == 0 || slot.generation() != key.generation() {
            self.discard(completion);
            return;
        }
        slot.result.set(result);
        slot.nonempty.set(completion.nonempty);
        if completion.more {
            return;
        }
        slot.owed.set(slot.owed.get() - 1);
        if slot.owed.get() == 0 {
            self.in_flight.set(self.in_flight.get() - 1);
            slot.state.set(State::Completed);
            // What it brings is released by `release_untaken`.
            if !self.abandoning.get() {
                self.run_queue.borrow_mut().push(key.index());
            }
        }
    }

    /// Releases what an operation has handed over to a green thread that will
    /// not run again to take it.
    pub(super) fn release_untaken(&self, block: &GreenThread) {
        let slot = &block.slot;
        if slot.state.get() == State::Completed
            && slot.result.get() >= 0
            && let Some(operation) = operation_of(block)
        {
            backend::close_untaken(operation, slot.result.get());
        }
    }

    /// Releases what a completion hands over when nobody is left to take it.
    #[cold]
    fn discard(&self, completion: Completion) {
        count(&self.counters.discarded);
        if completion.key.returns_descriptor() && completion.result >= 0 {
            backend::close(completion.result);
        }
    }
}

/// What a context asked the kernel for and has not taken the result of.
fn operation_of(block: &GreenThread) -> Option<&Operation<'_>> {
    match block.slot.state.get() {
        State::Performing | State::Completed => {
            let operation = block.slot.subject.get().cast::<Operation<'_>>();
            // SAFETY: `wait_for_completion` has set it before the block came
            // into these states, and its frame stays for as long as the block
            // is in them (landlord rule).
            unsafe { operation.as_ref() }
        }
        _ => None,
    }
}

/// The descriptor that a context's operation works on, for the table.
pub(super) fn descriptor_of(block: &GreenThread) -> Option<RawFd> {
    if block.slot.state.get() == State::Parked(Why::Source) {
        return RawFd::try_from(block.slot.subject.get().addr()).ok();
    }
    let fd = operation_of(block)?.descriptor().fd;
    (fd >= 0).then_some(fd)
}

/// What a green thread that is `Performing` asked for, for the table.
pub(super) fn describe(block: &GreenThread, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(operation) = operation_of(block) else {
        return f.write_str(": performs an operation");
    };
    write!(f, ": waits for {}", operation.name())?;
    match descriptor_of(block) {
        Some(fd) => write!(f, " on descriptor {fd}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    use super::*;
    use crate::hub::Config;
    use crate::hub::state::ROOT;

    fn completion(key: Key, result: i32) -> Completion {
        Completion {
            key,
            result,
            more: false,
            nonempty: false,
            buffer: None,
        }
    }

    #[test]
    fn a_completion_with_an_old_key_is_discarded_and_what_it_brings_is_closed() {
        let hub = Hub::start(Config::from_environment().unwrap()).unwrap();
        let slot = &hub.table.get(ROOT).slot;
        slot.wait.set(7);
        slot.owed.set(1);
        hub.in_flight.set(1);

        // Of the operation before this one: a count, and a descriptor.
        hub.complete(completion(Key::new(ROOT, 6, false), 42));
        let (mut reader, writer) = io::pipe().unwrap();
        hub.complete(completion(Key::new(ROOT, 6, true), writer.into_raw_fd()));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the writer is closed");
        // A failure brings nothing.
        hub.complete(completion(Key::new(ROOT, 6, true), -libc::ECANCELED));
        assert_eq!(hub.counters.discarded.get(), 3);
        assert_eq!((slot.owed.get(), hub.in_flight.get()), (1, 1));

        hub.complete(completion(Key::new(ROOT, 7, false), 5));
        assert_eq!((slot.result.get(), slot.owed.get()), (5, 0));
        // Nothing is owed any more, so the same key is an old one now.
        hub.complete(completion(Key::new(ROOT, 7, false), 6));
        assert_eq!((slot.result.get(), hub.counters.discarded.get()), (5, 4));
    }

    #[test]
    fn a_step_of_an_operation_that_goes_on_does_not_end_it() {
        let hub = Hub::start(Config::from_environment().unwrap()).unwrap();
        let slot = &hub.table.get(ROOT).slot;
        slot.wait.set(1);
        slot.owed.set(1);
        hub.in_flight.set(1);
        let step = Completion {
            more: true,
            ..completion(Key::new(ROOT, 1, false), 3)
        };
        hub.complete(step);
        assert_eq!(slot.owed.get(), 1);
        hub.complete(completion(Key::new(ROOT, 1, false), 4));
        assert_eq!(slot.owed.get(), 0);
    }
}
