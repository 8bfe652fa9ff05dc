//! A green thread as the hub sees it: its state, the slot of its operation,
//! and the coroutine it runs on.
//!
//! Control blocks live at stable addresses in the hub's table and are only
//! touched by the hub's own OS thread, so plain cells are enough. Block 0 is
//! the hub's root: the OS thread's own stack, which has no coroutine.
//!
//! ```text
//!           spawn            resume              park, perform
//!   Free ----------> Ready ----------> Running ------------------> Parked
//!     ^                ^                  |    yield                Performing
//!     |                +------------------+                            |
//!     |                +-----------------------------------------------+
//!     +------- the coroutine has returned     unpark, deadline, completion
//! ```

#![allow(unsafe_code)] // Passes the contract of the stack switch on.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::extras::Extras;
use super::moment::Moment;
use super::record::{Identity, Record, SharedRecord};
use super::stack::{Bounds, Stack};
use super::state::{State, Wakeup};
use super::switch::{Coroutine, LARGEST_BODY};

/// In [`Slot::attention`]: it was cancelled. Stays until it ends.
pub(super) const CANCELLED: u8 = 1;
/// In [`Slot::attention`]: time limits are in force.
pub(super) const LIMITED: u8 = 2;

/// The part of a block that completions and unparkers touch, one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    /// Completions the kernel still owes; the green thread resumes at 0.
    pub(super) owed: Cell<u8>,
    /// How often the operation's cancel was asked for, for the back-off.
    pub(super) cancels: Cell<u8>,
    pub(super) nonempty: Cell<bool>,
    pub(super) result: Cell<i32>,
    pub(super) state: Cell<State>,
    /// Why the wait is over, or the operation was asked to end. `None` while
    /// neither is so.
    pub(super) wakeup: Cell<Option<Wakeup>>,
    /// What may interrupt it: [`CANCELLED`] and [`LIMITED`].
    pub(super) attention: Cell<u8>,
    /// Nobody on the OS thread was unwinding when it was last suspended, so it
    /// does not unwind while it is.
    pub(super) calm: Cell<bool>,
    /// Its cancellation is held back.
    pub(super) shielded: Cell<bool>,
    /// When it was last suspended, or spawned if it has not run yet.
    pub(super) since: Cell<Moment>,
    /// Names the latest wait or operation; never goes back, so a stale unparker
    /// or completion is noticed even after the block was reused.
    pub(super) wait: Cell<u64>,
    /// What it waits for: in the states `Performing` and `Completed` its
    /// operation, on its own stack; while parked an address or a number that
    /// says more than the reason.
    pub(super) subject: Cell<*const ()>,
    /// Who it is: unique in the process for ever.
    pub(super) id: Cell<u64>,
    /// What it runs on. Never unwound by force: one that is given up is forgotten.
    pub(super) coroutine: Coroutine,
    /// On the coroutine's stack, valid while it is alive; null before it runs.
    pub(super) extras: Cell<*const Extras>,
    /// Where the stack is: for the signal handler that reports its overflow,
    /// and for the table.
    pub(super) stack: Cell<Bounds>,
}

impl Slot {
    /// The generation in the keys of its operation.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.wait.get() as u32
    }
}

// What a green thread costs beside its stack, and what its cache sees of it.
const _: () = assert!(size_of::<Slot>() == 64 && size_of::<GreenThread>() == 128);

/// A green thread's control block.
#[derive(Debug)]
pub(super) struct GreenThread {
    pub(super) slot: Slot,
    /// What outlives the green thread: name, identity, result. The body of the
    /// coroutine holds it for as long as this is set.
    pub(super) record: Cell<Option<NonNull<dyn Record>>>,
}

impl GreenThread {
    pub(super) fn free() -> GreenThread {
        GreenThread {
            slot: Slot {
                owed: Cell::new(0),
                cancels: Cell::new(0),
                nonempty: Cell::new(false),
                result: Cell::new(0),
                state: Cell::new(State::Free),
                wakeup: Cell::new(None),
                attention: Cell::new(0),
                calm: Cell::new(true),
                shielded: Cell::new(false),
                since: Cell::default(),
                wait: Cell::new(0),
                subject: Cell::new(ptr::null()),
                id: Cell::new(0),
                coroutine: Coroutine::default(),
                extras: Cell::new(ptr::null()),
                stack: Cell::default(),
            },
            record: Cell::new(None),
        }
    }

    /// Gives a free block a body to run on `stack`.
    ///
    /// # Safety
    ///
    /// The block stays at its address until the coroutine has returned, the
    /// body holds `record`, and everything that `body` borrows
    /// outlives the coroutine.
    pub(super) unsafe fn start<F: FnOnce()>(
        &self,
        stack: Stack,
        record: NonNull<dyn Record>,
        body: F,
    ) {
        debug_assert_eq!(self.slot.state.get(), State::Free);
        self.slot.state.set(State::Ready);
        self.slot.attention.set(0);
        self.slot.calm.set(true);
        self.slot.shielded.set(false);
        self.slot.stack.set(stack.bounds());
        self.slot.extras.set(ptr::null());
        self.record.set(Some(record));
        if let Some(identity) = self.identity() {
            self.slot.id.set(identity.id().get());
        }
        if size_of::<F>() <= LARGEST_BODY {
            // SAFETY: the caller's promises.
            unsafe { self.start_coroutine(stack, body) };
        } else {
            let body = Box::new(body);
            // SAFETY: the caller's promises.
            unsafe { self.start_coroutine(stack, move || (*body)()) };
        }
    }

    /// # Safety
    ///
    /// The contract of [`start`](Self::start).
    #[inline]
    unsafe fn start_coroutine<F: FnOnce()>(&self, stack: Stack, body: F) {
        let block: *const GreenThread = self;
        let entry = move || {
            // SAFETY: the block outlives the coroutine (contract of `start`).
            let block = unsafe { &*block };
            let extras = Extras::default();
            block.slot.extras.set(&raw const extras);
            let guard = super::AbortOnUnwind("a green thread's body unwound out of its entry");
            body();
            block.slot.extras.set(ptr::null());
            std::mem::forget(guard);
        };
        // SAFETY: a free block's coroutine has no body. The block stays where it is,
        // and what the body borrows outlives it (contract of `start`); the guard
        // keeps it from unwinding.
        unsafe { self.slot.coroutine.start(stack, entry) };
    }

    /// Runs the green thread until it suspends. Gives its stack back when the
    /// coroutine has returned.
    ///
    /// # Safety
    ///
    /// It was started, has not ended and does not run: called by the loop only,
    /// for what it takes from the run queue.
    #[inline(always)]
    pub(super) unsafe fn resume(&self) -> Option<Stack> {
        // SAFETY: the caller's promise.
        unsafe { self.slot.coroutine.resume() }
    }

    /// Stops the running green thread; returns when it is resumed.
    ///
    /// # Safety
    ///
    /// The caller runs on it.
    #[inline(always)]
    pub(super) unsafe fn suspend(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.slot.coroutine.suspend() };
    }

    /// Has the part that is looked at first brought into the cache.
    #[inline]
    pub(super) fn prefetch(&self) {
        super::switch::prefetch(std::ptr::from_ref(&self.slot).addr());
    }

    /// Stops the running green thread and runs `next` in its place; returns when it
    /// is resumed.
    ///
    /// # Safety
    ///
    /// The caller runs on it; `next` is another that may be resumed.
    #[inline(always)]
    pub(super) unsafe fn pass_to(&self, next: &GreenThread) {
        // SAFETY: the caller's promise.
        unsafe { self.slot.coroutine.pass_to(&next.slot.coroutine) };
    }

    /// What the context keeps on its own stack; `None` before it runs.
    #[inline]
    pub(super) fn extras(&self) -> Option<&Extras> {
        // SAFETY: not null only from the coroutine's start to its end, or for
        // a root as long as its hub lives; the borrow of the block ends before
        // either (only the loop, which runs no user code, frees blocks).
        unsafe { self.slot.extras.get().as_ref() }
    }

    /// The nearest deadline of all limits in force.
    #[inline]
    pub(super) fn nearest_limit(&self) -> u64 {
        if self.slot.attention.get() & LIMITED == 0 {
            return u64::MAX;
        }
        self.extras().map_or(u64::MAX, Extras::nearest)
    }

    /// Who a live green thread is; `None` for a root.
    pub(super) fn identity(&self) -> Option<&Identity> {
        // SAFETY: the running body holds the record until the block
        // is freed, and blocks are looked at by the hub's OS thread only, which
        // cannot run the body meanwhile.
        self.record
            .get()
            .map(|record| unsafe { record.as_ref() }.identity())
    }

    /// The record of a live green thread; `None` for a root.
    pub(super) fn share_record(&self) -> Option<SharedRecord> {
        let record = self.record.get()?;
        // SAFETY: the body holds the record until the block is freed, as in
        // `identity`.
        unsafe { record.as_ref() }.identity().life.hold();
        // SAFETY: a block's record came from a box; the hold is the one above.
        Some(unsafe { SharedRecord::new(record) })
    }

    /// Gives the green thread up: its handle is told, its coroutine never runs
    /// again.
    pub(super) fn abandon(&self) {
        if let Some(record) = self.record.take() {
            // SAFETY: as in `identity`.
            unsafe { record.as_ref() }.abandon();
        }
    }
}
