//! The end of a green thread: its result on the way to whoever joins it.

#![allow(unsafe_code)] // Hands a result over between the body and its handle.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::time::Instant;

use super::{Result, Thread};
use crate::atomic::{AtomicPtr, Mutex, Ordering, lock};
use crate::cancel::{self, Cancelled};
use crate::hub::{
    self, End, Identity, Leave, Neighbour, Record, SharedRecord, Unparker, Wait, Wakeup, Why,
};
use crate::sync::{Ticket, WaitList};

/// What a green thread's body and its handle share: who it is, and its result.
///
/// Invariants, by the life of the record:
/// 1. `stage` belongs to the body until it has ended, then to the handle; if
///    that is gone by then, the body drops the result.
/// 2. Before, the handle's owner may write down there that it waits, if it is on
///    the body's hub, so that the body does not run meanwhile. On another hub,
///    or on none, it is a watcher. Whoever waits this way has the handle to
///    itself.
/// 3. So when both are gone the result is gone, and dropping the record, which
///    any OS thread may do, runs nothing of the user's.
pub(super) struct Packet<T> {
    identity: Identity,
    stage: UnsafeCell<Stage<T>>,
    /// Null, or a box made by the first who watches.
    watchers: AtomicPtr<Watchers>,
}

type Watchers = Mutex<WaitList<()>>;

/// How far a green thread is on the way to its result.
enum Stage<T> {
    /// The body goes on, or the result was fetched.
    Empty,
    /// This one waits for it, on the same hub.
    Awaited(Neighbour),
    Ended(Result<T>),
}

// SAFETY: the result, all that may be bound to an OS thread, is written on the
// green thread's own, and read or dropped there or by the handle, which is Send
// only if T is (invariants 1 and 3); the stage has one owner at a time
// (invariants 1 and 2), handed over by the atomic.
unsafe impl<T> Send for Packet<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Packet<T> {}

impl<T> Packet<T> {
    /// Puts the result in its place, and takes out who waits for it there.
    ///
    /// # Safety
    ///
    /// The stage belongs to the caller: invariant 1.
    unsafe fn store(&self, result: Result<T>) -> Option<Neighbour> {
        let stage = self.stage.get();
        let is_awaited = self.identity.life.is_awaited();
        // SAFETY: the caller's promise.
        let before = unsafe { mem::replace(&mut *stage, Stage::Ended(result)) };
        match before {
            Stage::Awaited(joiner) if is_awaited => Some(joiner),
            Stage::Awaited(_) | Stage::Empty => None,
            Stage::Ended(_) => unreachable!("a green thread ends once"),
        }
    }

    fn take_result(&self) -> Option<Result<T>> {
        // SAFETY: invariant 1: called by its owner only, after the end.
        let stage = unsafe { mem::replace(&mut *self.stage.get(), Stage::Empty) };
        match stage {
            Stage::Ended(result) => Some(result),
            Stage::Empty | Stage::Awaited(_) => None,
        }
    }

    /// Tells whoever waits that the result is there. Called by the body, which
    /// holds the record meanwhile.
    #[cold]
    fn tell(&self, joiner: Option<Neighbour>, is_watched: bool) {
        if let Some(joiner) = joiner {
            joiner.unpark(self.home());
        }
        if is_watched && let Some(watchers) = self.watchers() {
            let mut watchers = lock(watchers);
            while let Some((unparker, ())) = watchers.choose() {
                unparker.unpark();
            }
        }
    }

    fn home(&self) -> &hub::Home {
        let home = self.identity.home();
        home.expect("a green thread lives on a hub")
    }

    pub(super) fn is_done(&self) -> bool {
        self.identity.life.is_done()
    }

    /// Takes the result; called by the handle only.
    #[track_caller]
    pub(super) fn take(&self) -> Result<T> {
        assert!(self.is_done(), "the result is there");
        self.take_result()
            .expect("join after join_timeout has given the result: there is only one")
    }

    /// Waits for the result until the deadline at the most; whether it is
    /// there. Called by the handle's owner only.
    #[track_caller]
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        if self.is_done() {
            return true;
        }
        let subject = self.identity.id().get() as usize;
        let wait = Wait::begin();
        let unparker = wait.unparker();
        let (verdict, is_done) = if let Some(joiner) = unparker.as_neighbour(self.home()) {
            if joiner.is_at(self.home()) {
                self.refuse_itself();
            }
            // SAFETY: invariant 2: the body does not run, and has not ended.
            unsafe { *self.stage.get() = Stage::Awaited(joiner) };
            self.identity.life.wait();
            let verdict = wait.park(Why::Join, subject, deadline);
            let is_done = verdict == Wakeup::Unparked || self.identity.life.wait_no_more();
            (verdict, is_done)
        } else {
            let Some(ticket) = self.watch(unparker) else {
                return true;
            };
            let verdict = wait.park(Why::Join, subject, deadline);
            self.unwatch(ticket);
            (verdict, self.is_done())
        };
        match verdict {
            Wakeup::Unparked => {
                debug_assert!(self.is_done());
                true
            }
            Wakeup::TimedOut => is_done,
            // The interrupt came first. Often it goes to both, and a joiner that
            // was given its guest's cancellation for a result would panic.
            verdict => cancel::raise_verdict(verdict, Why::Join),
        }
    }

    /// Who is told at the end, if anybody ever asked for it.
    fn watchers(&self) -> Option<&Watchers> {
        // SAFETY: null or made by `make_watchers`, and freed with the packet.
        unsafe { self.watchers.load(Ordering::Acquire).as_ref() }
    }

    #[cold]
    fn make_watchers(&self) -> &Watchers {
        let made = Box::into_raw(Box::<Watchers>::default());
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let first = ptr::null_mut();
        let present = match self
            .watchers
            .compare_exchange(first, made, success, failure)
        {
            Ok(_) => made,
            Err(present) => {
                // SAFETY: made above, and nobody has seen it.
                drop(unsafe { Box::from_raw(made) });
                present
            }
        };
        // SAFETY: a box that is freed with the packet.
        unsafe { &*present }
    }

    /// Enters the list of those who are unparked at the end; `None` if it has
    /// come already.
    pub(super) fn watch(&self, unparker: Unparker) -> Option<Ticket> {
        let watchers = self.watchers().unwrap_or_else(|| self.make_watchers());
        let mut watchers = lock(watchers);
        let ticket = watchers.enter(unparker, ());
        // The body that does not see this has ended before.
        if !self.identity.life.watch() {
            watchers.leave(ticket);
            return None;
        }
        Some(ticket)
    }

    pub(super) fn unwatch(&self, ticket: Ticket) {
        let watchers = self.watchers().expect("who has a ticket has made it");
        lock(watchers).leave(ticket);
    }
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        if let Some(watchers) = NonNull::new(*self.watchers.get_mut()) {
            // SAFETY: a box made by `make_watchers`, which nobody uses any more.
            drop(unsafe { Box::from_raw(watchers.as_ptr()) });
        }
    }
}

impl<T> Record for Packet<T> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn abandon(&self) {
        // Done already: the body waits in the destructor of a result that
        // nobody fetches.
        if self.is_done() {
            return;
        }
        // SAFETY: invariant 1, in place of the body, which never runs again.
        let joiner = unsafe { self.store(Err(Box::new(Cancelled))) };
        if let End::Shared {
            is_watched,
            is_detached,
        } = self.identity.life.end_among_others()
        {
            self.tell(joiner, is_watched);
            if is_detached {
                drop(self.take_result());
            }
        }
    }
}

/// The two ends of a new green thread: what its body owes, and what its handle is
/// made of.
pub(super) fn pair<T>(identity: Identity) -> (Debt<T>, Thread) {
    let packet = Box::new(Packet::<T> {
        identity,
        stage: UnsafeCell::new(Stage::Empty),
        watchers: AtomicPtr::new(ptr::null_mut()),
    });
    let packet = NonNull::from(Box::leak(packet));
    let record: NonNull<dyn Record + '_> = packet;
    // SAFETY: only the lifetime is changed. Whatever of the result borrows is
    // gone before the record is (invariant 3), and whoever spawns answers for
    // the time until then.
    let record = unsafe { mem::transmute::<NonNull<dyn Record + '_>, NonNull<dyn Record>>(record) };
    // SAFETY: made above in a box, and one of the two that hold it is this.
    let thread = Thread(unsafe { SharedRecord::new(record) });
    // SAFETY: the other one is this.
    let held = unsafe { SharedRecord::new(record) };
    let debt = Debt {
        record: ManuallyDrop::new(held),
        result: PhantomData,
    };
    (debt, thread)
}

/// The handle goes, and what it has not taken of the result.
///
/// # Safety
///
/// Made by [`pair`] of this type, held by the handle, and not used by it any more.
#[inline]
pub(super) unsafe fn leave<T>(packet: NonNull<Packet<T>>) {
    /// The handle's hold, given up also if the result's destructor unwinds.
    struct Hold<T>(NonNull<Packet<T>>);

    impl<T> Drop for Hold<T> {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: it is there while it is held.
            if unsafe { self.0.as_ref() }.identity.life.release() {
                // SAFETY: made by `pair` in a box, and nobody else holds it.
                drop(unsafe { Box::from_raw(self.0.as_ptr()) });
            }
        }
    }

    // SAFETY: it is held here.
    let shared = unsafe { packet.as_ref() };
    let leave = shared.identity.life.detach(|| shared.identity.is_here());
    if leave == Leave::Gone {
        return;
    }
    let _hold = Hold(packet);
    if leave == Leave::Done {
        drop(shared.take_result());
    }
}

/// What a body owes to its handle: a result.
pub(super) struct Debt<T> {
    /// A `Packet<T>`. Given back by [`pay`](Debt::pay) only: a body that is
    /// abandoned holds it for ever.
    record: ManuallyDrop<SharedRecord>,
    result: PhantomData<T>,
}

impl<T> Debt<T> {
    pub(super) fn record(&self) -> NonNull<dyn Record> {
        self.record.pointer()
    }

    fn packet(&self) -> &Packet<T> {
        // SAFETY: made by `pair` of this type, and held by this.
        unsafe { self.record.pointer().cast::<Packet<T>>().as_ref() }
    }

    /// Whether the handle is gone already.
    pub(super) fn is_waived(&self) -> bool {
        self.packet().identity.life.is_detached()
    }

    /// Stores the result and tells whoever waits for it. If it was to be dropped
    /// here, `clear_up` is called afterwards. Called once, by the body at its
    /// end, which then holds the record no more.
    #[inline]
    pub(super) fn pay(self, result: Result<T>, clear_up: impl FnOnce()) {
        let packet = self.packet();
        let home = *packet.home();
        // SAFETY: invariant 1.
        let joiner = unsafe { packet.store(result) };
        match packet.identity.life.end() {
            // From here on the packet may be gone.
            End::Gone => {
                if let Some(joiner) = joiner {
                    joiner.unpark(&home);
                }
            }
            End::Shared {
                is_watched,
                is_detached,
            } => {
                packet.tell(joiner, is_watched);
                if is_detached {
                    let result = packet.take_result();
                    // What its destructor waits for, it gets.
                    hub::shielded(|| drop(result));
                    clear_up();
                }
                drop(ManuallyDrop::into_inner(self.record));
            }
        }
    }
}

impl<T> Packet<T> {
    #[track_caller]
    pub(super) fn refuse_itself(&self) {
        if !self.is_done() {
            let identity = &self.identity;
            assert!(
                identity.id().get() != hub::current_id(),
                "green thread '{}' (id {}) joins itself: it would wait for ever",
                identity.name().unwrap_or("unnamed"),
                identity.id(),
            );
        }
    }
}

// What each green thread's record costs, beside the result of one that has any.
const _: () = assert!(size_of::<Packet<()>>() == 88);
