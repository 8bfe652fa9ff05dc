//! Stop until told: the one primitive under everything that waits.
//!
//! A wait is begun, its unparker is given to whoever will end it, and then it
//! is parked:
//!
//! ```text
//! let wait = Wait::begin();
//! publish(wait.unparker());
//! if !already_true() { wait.park(why, deadline); }
//! ```
//!
//! An unparker names this one wait. Called before `park` it makes `park` return
//! at once; called after the wait is over it does nothing, also when the
//! green thread's block has been reused since.
//!
//! An OS thread that has no hub waits on a futex, and so does one whose hub has
//! ended: waiting never starts a hub.

use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::Hub;
use super::current::{self, Context};
use super::inbox::{Inbox, Mail};
use super::state::{State, Wakeup, Why};

/// One wait of the calling green thread, root or OS thread.
///
/// Waits do not overlap: a new one makes the earlier one's unparkers stale.
/// Operations may be performed between `begin` and `park`.
#[derive(Debug)]
pub(crate) struct Wait {
    place: Place,
    /// It belongs to the context that began it.
    not_send: PhantomData<*const ()>,
}

#[derive(Debug)]
enum Place {
    Hub { wait: u64 },
    OsThread(Arc<OsThreadWait>),
}

impl Wait {
    pub(crate) fn begin() -> Wait {
        let place = current::with(|context| match context {
            Context::Hub(hub) => Place::Hub {
                wait: hub.begin_wait(),
            },
            Context::Bare | Context::Ended => Place::OsThread(Arc::default()),
        });
        Wait {
            place,
            not_send: PhantomData,
        }
    }

    pub(crate) fn unparker(&self) -> Unparker {
        Unparker(match &self.place {
            Place::Hub { wait } => current::with(|context| {
                let Context::Hub(hub) = context else {
                    unreachable!("a hub does not end under a wait");
                };
                Handle::Hub {
                    inbox: Arc::clone(&hub.inbox),
                    index: hub.current.get(),
                    wait: *wait,
                }
            }),
            Place::OsThread(wait) => Handle::OsThread(Arc::clone(wait)),
        })
    }

    /// Stops the caller until the unparker is called, the deadline has passed
    /// or it is interrupted.
    ///
    /// Being unparked wins over everything else that is true at the same time.
    pub(crate) fn park(self, why: Why, deadline: Option<Instant>) -> Wakeup {
        match self.place {
            Place::Hub { wait } => current::with(|context| {
                let Context::Hub(hub) = context else {
                    unreachable!("a hub does not end under a wait");
                };
                hub.park(wait, why, deadline)
            }),
            Place::OsThread(wait) => wait.park(deadline),
        }
    }
}

/// Ends one wait, from any OS thread.
#[derive(Clone, Debug)]
pub(crate) struct Unparker(Handle);

#[derive(Clone, Debug)]
enum Handle {
    Hub {
        inbox: Arc<Inbox>,
        index: u32,
        wait: u64,
    },
    OsThread(Arc<OsThreadWait>),
}

impl Unparker {
    /// Ends the wait if it is still going on.
    pub(crate) fn unpark(&self) {
        match &self.0 {
            Handle::OsThread(wait) => wait.unpark(),
            Handle::Hub { inbox, index, wait } => current::with(|context| match context {
                Context::Hub(hub) if Arc::ptr_eq(&hub.inbox, inbox) => hub.unpark(*index, *wait),
                _ => inbox.send(Mail::Unpark {
                    index: *index,
                    wait: *wait,
                }),
            }),
        }
    }
}

/// A wait of an OS thread without a hub.
#[derive(Debug, Default)]
struct OsThreadWait {
    unparked: Mutex<bool>,
    changed: Condvar,
}

impl OsThreadWait {
    fn park(&self, deadline: Option<Instant>) -> Wakeup {
        let mut unparked = self.unparked.lock().unwrap_or_else(PoisonError::into_inner);
        while !*unparked {
            unparked = match deadline {
                None => self
                    .changed
                    .wait(unparked)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Wakeup::TimedOut;
                    }
                    self.changed
                        .wait_timeout(unparked, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            }
        }
        Wakeup::Unparked
    }

    fn unpark(&self) {
        *self.unparked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

impl Hub {
    /// Numbers the running context's next wait.
    pub(super) fn begin_wait(&self) -> u64 {
        let block = self.table.get(self.current.get());
        let wait = block.slot.wait.get() + 1;
        block.slot.wait.set(wait);
        block.slot.notified.set(false);
        wait
    }

    pub(super) fn park(&self, wait: u64, why: Why, deadline: Option<Instant>) -> Wakeup {
        self.check_process();
        let index = self.current.get();
        let block = self.table.get(index);
        assert_eq!(
            block.slot.wait.get(),
            wait,
            "waits of one context do not overlap"
        );
        if block.slot.notified.get() {
            return Wakeup::Unparked;
        }
        if self.is_interruptible(block) {
            // One turn of the others first, so that a green thread that
            // swallows its interrupts cannot keep the hub to itself.
            self.yield_now();
            return Wakeup::Cancelled;
        }
        if let Some(deadline) = deadline {
            self.timers
                .borrow_mut()
                .arm(index, self.nanoseconds(deadline));
        }
        block.slot.state.set(State::Parked(why));
        self.switch_away(block);
        if deadline.is_some() {
            self.timers.borrow_mut().cancel(index);
        }
        block.slot.wakeup.get()
    }

    /// Ends the wait of a context of this hub, from the hub's OS thread.
    pub(super) fn unpark(&self, index: u32, wait: u64) {
        let block = self.table.get(index);
        if block.slot.wait.get() != wait {
            return;
        }
        match block.slot.state.get() {
            State::Parked(_) => self.make_ready(index, block, Wakeup::Unparked),
            State::Running | State::Ready | State::Performing => block.slot.notified.set(true),
            State::Free => {}
        }
    }
}
