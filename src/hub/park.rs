//! Stop until told: the one primitive under everything that waits.
//!
//! A wait is begun, its unparker is given to whoever will end it, and then it
//! is parked:
//!
//! ```text
//! let wait = Wait::begin();
//! publish(wait.unparker());
//! if !already_true() { wait.park(why, subject, deadline); }
//! ```
//!
//! An unparker names this one wait. Called before `park` it makes `park` return
//! at once; called after the wait is over it does nothing, also when the
//! green thread's block has been reused since. It is a few plain words, and may
//! be kept and called for ever.
//!
//! An OS thread that has no hub waits on a futex, and so does one whose hub has
//! ended: waiting never starts a hub.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::Hub;
use super::current::{self, Context};
use super::extras::{Estate, leave_behind};
use super::inbox::{Home, Mail};
use super::state::{State, Wakeup, Why};
use crate::atomic::lock;

/// One wait of the calling green thread, root or OS thread.
///
/// Waits do not overlap: a new one, or an operation, makes the earlier one's
/// unparkers stale.
#[derive(Debug)]
pub(crate) struct Wait {
    unparker: Unparker,
    /// It belongs to the context that began it.
    not_send: PhantomData<*const ()>,
}

/// Ends one wait, from any OS thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unparker(Handle);

/// An unparker of a wait on a hub, without the hub: for one who knows that, and
/// has many to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    wait: u64,
    index: u32,
}

#[derive(Clone, Copy, Debug)]
enum Handle {
    Hub { home: Home, wait: u64 },
    OsThread { place: &'static Place, wait: u64 },
}

impl Wait {
    #[inline]
    pub(crate) fn begin() -> Wait {
        let handle = current::with(|context| match context {
            Context::Hub(hub) => {
                let index = hub.current.get();
                Handle::Hub {
                    home: hub.inbox.home(index),
                    wait: hub.begin_wait(index),
                }
            }
            Context::Bare | Context::Ended => Place::begin(),
        });
        Wait {
            unparker: Unparker(handle),
            not_send: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn unparker(&self) -> Unparker {
        self.unparker
    }

    /// As [`park`](Self::park), with something to pass on if the caller should be
    /// abandoned while it waits.
    pub(crate) fn park_with(
        self,
        estate: &dyn Estate,
        why: Why,
        subject: usize,
        deadline: Option<Instant>,
    ) -> Wakeup {
        /// Takes the estate out again, also when the wait is refused by a panic
        /// (in a forked child) and its frame goes.
        struct Taken;

        impl Drop for Taken {
            fn drop(&mut self) {
                leave_behind(None);
            }
        }

        leave_behind(Some(estate));
        let _taken = Taken;
        self.park(why, subject, deadline)
    }

    /// Stops the caller until the unparker is called, the deadline has passed
    /// or it is interrupted. `subject` is an address or a number that says what
    /// exactly it waits for, to whoever looks at it.
    ///
    /// Being unparked wins over everything else that is true at the same time.
    // Inline, because the processor mispredicts each return after a switch.
    #[inline]
    pub(crate) fn park(self, why: Why, subject: usize, deadline: Option<Instant>) -> Wakeup {
        match self.unparker.0 {
            Handle::Hub { wait, .. } => current::with(|context| {
                let Context::Hub(hub) = context else {
                    unreachable!("a hub does not end under a wait");
                };
                hub.park(wait, why, subject, deadline)
            }),
            Handle::OsThread { place, wait } => place.park(wait, deadline),
        }
    }
}

impl Unparker {
    /// Ends the wait with this number of the green thread that lives there.
    pub(super) fn of(home: Home, wait: u64) -> Unparker {
        Unparker(Handle::Hub { home, wait })
    }

    /// The number of the wait, counted where it waits.
    pub(super) fn number(&self) -> u64 {
        let (Handle::Hub { wait, .. } | Handle::OsThread { wait, .. }) = self.0;
        wait
    }

    /// The unparker without its hub, if that is the one of `home`.
    #[inline]
    pub(crate) fn as_neighbour(&self, home: &Home) -> Option<Neighbour> {
        match self.0 {
            Handle::Hub { home: own, wait } if own.is_beside(home) => Some(Neighbour {
                wait,
                index: own.index,
            }),
            Handle::Hub { .. } | Handle::OsThread { .. } => None,
        }
    }

    /// Ends the wait if it is still going on.
    #[inline]
    pub(crate) fn unpark(&self) {
        match self.0 {
            Handle::OsThread { place, wait } => place.unpark(wait),
            Handle::Hub { home, wait } => current::with(|context| match context {
                Context::Hub(hub) if hub.inbox.is(&home) => hub.unpark(home.index, wait),
                _ => home.send(Mail::Unpark {
                    index: home.index,
                    wait,
                }),
            }),
        }
    }

    /// Whether who waits can ever be told: its hub has not ended.
    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        match self.0 {
            Handle::OsThread { .. } => true,
            Handle::Hub { home, .. } => home.is_alive(),
        }
    }

    /// Whether the wait goes on, for all that is known here: one of the caller's
    /// hub may have timed out or have been interrupted, and not have run since.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        match self.0 {
            Handle::OsThread { .. } => true,
            Handle::Hub { home, wait } => current::with(|context| match context {
                Context::Hub(hub) if hub.inbox.is(&home) => hub.is_waiting(home.index, wait),
                _ => true,
            }),
        }
    }

    /// Whether who waits lives on the hub of the caller, so that the two run by
    /// turns.
    #[inline]
    pub(crate) fn is_local(&self) -> bool {
        match self.0 {
            Handle::OsThread { .. } => false,
            Handle::Hub { home, .. } => current::with(|context| match context {
                Context::Hub(hub) => hub.inbox.is(&home),
                Context::Bare | Context::Ended => false,
            }),
        }
    }
}

impl Neighbour {
    /// Whether it is that of who lives at `home`, in the same hub.
    #[inline]
    pub(crate) fn is_at(&self, home: &Home) -> bool {
        self.index == home.index
    }

    /// Ends the wait if it is still going on. `home` is in the same hub.
    #[inline]
    pub(crate) fn unpark(&self, home: &Home) {
        let home = home.beside(self.index);
        Unparker::of(home, self.wait).unpark();
    }
}

/// Where an OS thread without a hub waits.
///
/// Never freed, because unparkers refer to it for ever; an OS thread that ends
/// leaves it to the next one. Its waits are numbered, so an unparker of an
/// earlier one does nothing.
#[derive(Debug, Default)]
struct Place {
    waits: Mutex<Waits>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waits {
    latest: u64,
    unparked: bool,
}

thread_local! {
    /// The calling OS thread's place, once it has waited without a hub.
    static PLACE: Cell<Option<&'static Place>> = const { Cell::new(None) };
    /// Gives it back by its destructor.
    static LAST_GUARD: LastGuard = const { LastGuard };
}

/// Places that no OS thread has.
static PLACES: Mutex<Vec<&'static Place>> = Mutex::new(Vec::new());

/// A thread-local destructor that gives the place back.
struct LastGuard;

impl Drop for LastGuard {
    fn drop(&mut self) {
        if let Some(place) = PLACE.take() {
            lock(&PLACES).push(place);
        }
    }
}

impl Place {
    #[cold]
    fn begin() -> Handle {
        let place = PLACE.get().unwrap_or_else(|| {
            // Too late for a guard, it stays with the OS thread and is lost.
            let _ = LAST_GUARD.try_with(|_| ());
            let place = lock(&PLACES).pop();
            let place = place.unwrap_or_else(|| Box::leak(Box::default()));
            PLACE.set(Some(place));
            place
        });
        let mut waits = lock(&place.waits);
        waits.latest += 1;
        waits.unparked = false;
        Handle::OsThread {
            place,
            wait: waits.latest,
        }
    }

    fn park(&self, wait: u64, deadline: Option<Instant>) -> Wakeup {
        let mut waits = lock(&self.waits);
        assert_eq!(waits.latest, wait, "waits of one OS thread do not overlap");
        while !waits.unparked {
            let timeout = match deadline {
                None => None,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Wakeup::TimedOut;
                    }
                    Some(left)
                }
            };
            waits = self.wait(waits, timeout);
        }
        Wakeup::Unparked
    }

    fn wait<'a>(
        &self,
        waits: std::sync::MutexGuard<'a, Waits>,
        timeout: Option<std::time::Duration>,
    ) -> std::sync::MutexGuard<'a, Waits> {
        use std::sync::PoisonError;
        match timeout {
            None => self
                .changed
                .wait(waits)
                .unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.changed
                    .wait_timeout(waits, timeout)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }

    fn unpark(&self, wait: u64) {
        let mut waits = lock(&self.waits);
        if waits.latest == wait {
            waits.unparked = true;
            self.changed.notify_one();
        }
    }
}

impl Hub {
    /// Numbers the running context's next wait.
    #[inline]
    pub(super) fn begin_wait(&self, index: u32) -> u64 {
        let slot = &self.table.get(index).slot;
        let wait = slot.wait.get() + 1;
        slot.wait.set(wait);
        slot.wakeup.set(None);
        wait
    }

    /// Begins and parks a wait of the root, which nobody has an unparker for.
    pub(super) fn park_root(&self, why: Why, deadline: Option<Instant>) -> Wakeup {
        let wait = self.begin_wait(self.current.get());
        self.park(wait, why, 0, deadline)
    }

    pub(super) fn park(
        &self,
        wait: u64,
        why: Why,
        subject: usize,
        deadline: Option<Instant>,
    ) -> Wakeup {
        self.check_process();
        let (index, block) = self.running();
        let slot = &block.slot;
        assert_eq!(slot.wait.get(), wait, "waits of one context do not overlap");
        if slot.wakeup.get().is_some() {
            return Wakeup::Unparked;
        }
        if self.is_interrupted(block) {
            // One turn of the others first, so that a green thread that
            // swallows its interrupts cannot keep the hub to itself.
            self.yield_as(index, block, Wakeup::Interrupted);
            return Wakeup::Interrupted;
        }
        let limit = self.limit(block);
        let own = deadline.map_or(u64::MAX, |deadline| self.nanoseconds(deadline));
        let nearest = own.min(limit);
        if nearest != u64::MAX {
            self.timers.borrow_mut().arm(index, nearest);
        }
        slot.subject.set(subject as *const ());
        slot.state.set(State::Parked(why));
        self.switch_away(index, block);
        // A limit that was held back may have been armed meanwhile.
        if nearest != u64::MAX || slot.attention.get() != 0 {
            self.timers.borrow_mut().cancel(index);
        }
        match slot.wakeup.get().expect("a wait ends for a reason") {
            Wakeup::TimedOut if !self.has_passed(own) => Wakeup::Interrupted,
            wakeup => wakeup,
        }
    }

    /// Whether a wait of this hub has not ended for want of an unparker.
    fn is_waiting(&self, index: u32, wait: u64) -> bool {
        self.table.find(index).is_some_and(|block| {
            let slot = &block.slot;
            slot.wait.get() == wait && matches!(slot.wakeup.get(), None | Some(Wakeup::Unparked))
        })
    }

    /// Ends the wait of a context of this hub, from the hub's OS thread.
    #[inline]
    pub(super) fn unpark(&self, index: u32, wait: u64) {
        let Some(block) = self.table.find(index) else {
            return;
        };
        if block.slot.wait.get() != wait {
            return;
        }
        match block.slot.state.get() {
            State::Parked(_) => self.make_ready(index, block, Wakeup::Unparked),
            State::Running => block.slot.wakeup.set(Some(Wakeup::Unparked)),
            // Its end is settled already.
            State::Ready | State::Completed | State::Performing | State::Free => {}
        }
    }
}
