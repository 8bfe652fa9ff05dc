//! The green threads of a scope or a pool, as their host sees them: how many
//! there are, how to cancel them, and how to wait for the end of all.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::process::abort;
use std::time::Instant;

use slab::Slab;

use super::{Result, Thread};
use crate::atomic::{AtomicUsize, Ordering};
use crate::cancel;
use crate::hub::{self, Unparker, Wait, Wakeup, Why};

/// Those that have not ended. They and their host live on one hub.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    present: RefCell<Slab<Option<Thread>>>,
    /// Those who wait until nobody is present.
    hosts: RefCell<Vec<Unparker>>,
    /// A panic of one cancels the others.
    fail_fast: Cell<bool>,
    /// Panics that nobody has been told of by a `join`, on any OS thread.
    panics: AtomicUsize,
}

/// One guest's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

/// What ended a wait for guests early, when all of them have left.
#[derive(Debug)]
#[must_use = "it is to be raised"]
pub(crate) enum Verdict {
    Interrupted,
    Stuck(String),
}

impl Verdict {
    /// Unwinds, now that nobody borrows from the frames below.
    pub(crate) fn raise(self) -> ! {
        match self {
            Verdict::Interrupted => cancel::raise(),
            Verdict::Stuck(table) => panic!("{table}"),
        }
    }
}

impl Guests {
    /// A place for one who is about to be spawned.
    pub(crate) fn expect(&self) -> Place {
        Place(self.present.borrow_mut().insert(None))
    }

    /// The guest has come.
    pub(crate) fn welcome(&self, place: Place, thread: Thread) {
        self.present.borrow_mut()[place.0] = Some(thread);
    }

    /// The guest has ended, or could not come. Called on its own green thread as
    /// the last thing that concerns the host.
    pub(crate) fn leave(&self, place: Place, panicked: bool) {
        let left = self.present.borrow_mut().remove(place.0);
        drop(left);
        if panicked {
            self.panics.fetch_add(1, Ordering::Relaxed);
            if self.fail_fast.get() {
                self.cancel();
            }
        }
        if self.present.borrow().is_empty() {
            for host in self.hosts.borrow_mut().drain(..) {
                host.unpark();
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.present.borrow().len()
    }

    pub(crate) fn fail_fast(&self) {
        self.fail_fast.set(true);
    }

    pub(crate) fn panics(&self) -> &AtomicUsize {
        &self.panics
    }

    /// Cancels everybody who is present.
    pub(crate) fn cancel(&self) {
        for (_, thread) in self.present.borrow().iter() {
            if let Some(thread) = thread {
                thread.cancel();
            }
        }
    }

    /// Waits until nobody is present, until the deadline at the most; whether it
    /// is so. For guests who borrow nothing: an interrupt unwinds.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        while self.len() > 0 {
            match self.wait(deadline) {
                Wakeup::Unparked => {}
                Wakeup::TimedOut => return self.len() == 0,
                verdict => cancel::raise_verdict(verdict, Why::Scope),
            }
        }
        true
    }

    /// Waits until nobody is present, however long it takes: the guests borrow
    /// from the caller's frames.
    ///
    /// **A landlord wait**: it does not unwind while they live. What would
    /// interrupt it cancels them, and is the answer once they are gone.
    pub(crate) fn see_off(&self) -> Option<Verdict> {
        let mut early = None;
        while self.len() > 0 {
            let wakeup = match early {
                None => self.wait(None),
                Some(_) => hub::shielded(|| self.wait(None)),
            };
            let verdict = match wakeup {
                Wakeup::Unparked => continue,
                Wakeup::TimedOut => unreachable!("there is no deadline"),
                Wakeup::Interrupted => Verdict::Interrupted,
                Wakeup::Stuck => Verdict::Stuck(cancel::stuck(Why::Scope)),
            };
            if let Some(Verdict::Stuck(_)) = early {
                hub::say(
                    "greenring: fatal: cancelled green threads wait for each other, and cannot be \
                     left because they borrow",
                );
                abort();
            }
            early = Some(verdict);
            if cancel::supported() {
                self.cancel();
            }
        }
        early
    }

    /// Waits once for the last to leave.
    fn wait(&self, deadline: Option<Instant>) -> Wakeup {
        let wait = Wait::begin();
        self.hosts.borrow_mut().push(wait.unparker());
        wait.park(Why::Scope, std::ptr::from_ref(self).addr(), deadline)
    }

    /// What a host gives back to its caller: `result` of its own body, once it
    /// has seen its guests off.
    ///
    /// An interrupt that leaves the body cancels them; a panic does not, as in
    /// std.
    pub(crate) fn host<T>(&self, body: impl FnOnce() -> T) -> T {
        let result: Result<T> = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        if let Err(payload) = &result
            && cancel::is_interrupt(&**payload)
        {
            self.cancel();
        }
        let verdict = self.see_off();
        match (result, verdict) {
            (Err(payload), _) => resume_unwind(payload),
            (Ok(_), Some(verdict)) => verdict.raise(),
            (Ok(value), None) => value,
        }
    }
}
