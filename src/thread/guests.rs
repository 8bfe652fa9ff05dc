//! The green threads of a scope or a pool, as their host sees them: how many
//! there are, how to cancel them, and how to wait for the end of all.
//!
//! Each has a [`Seat`] from before it is spawned until nothing of the user's is
//! left to run on it; the seat is given up by being dropped, on its own green
//! thread. They and their host live on one hub, so plain cells are enough, and
//! nothing here runs code of the user's.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::abort;
use std::time::Instant;

use slab::Slab;

use super::{Result, Thread};
use crate::atomic::{AtomicUsize, Ordering};
use crate::cancel;
use crate::hub::{self, Wait, Wakeup, Why};
use crate::sync::WaitList;

/// Those that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    present: RefCell<Slab<Option<Thread>>>,
    /// Those who wait until nobody is present; chosen when it is so.
    hosts: RefCell<WaitList<()>>,
    /// A panic of one cancels the others.
    fail_fast: Cell<bool>,
    /// How often all were cancelled.
    cancels: Cell<usize>,
    /// The host waits for the end of those that it has cancelled: who comes now
    /// is cancelled, too, or it would wait for ever.
    closing: Cell<bool>,
    /// Panics that nobody has been told of by a `join`, on any OS thread.
    panics: AtomicUsize,
}

/// One guest's place among the others.
#[derive(Debug)]
pub(crate) struct Seat<G: Deref<Target = Guests>> {
    guests: G,
    number: usize,
    panicked: bool,
}

/// What ended a wait for guests early, when all of them have left.
#[derive(Debug)]
#[must_use = "it is to be raised"]
enum Verdict {
    Interrupted,
    Stuck(String),
}

impl<G: Deref<Target = Guests>> Seat<G> {
    /// A place for one who is about to be spawned.
    pub(crate) fn take(guests: G) -> Seat<G> {
        let number = guests.present.borrow_mut().insert(None);
        Seat {
            guests,
            number,
            panicked: false,
        }
    }

    /// Its number, to [welcome](Guests::welcome) the guest by.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The guest has ended: the last thing on its green thread that concerns the
    /// host.
    pub(crate) fn leave(mut self, panicked: bool) {
        self.panicked = panicked;
    }
}

impl<G: Deref<Target = Guests>> Drop for Seat<G> {
    fn drop(&mut self) {
        self.guests.left(self.number, self.panicked);
    }
}

impl Guests {
    /// The guest who was expected in a seat has come.
    pub(crate) fn welcome(&self, number: usize, thread: Thread) {
        if self.closing.get() {
            thread.cancel();
        }
        self.present.borrow_mut()[number] = Some(thread);
    }

    fn left(&self, number: usize, panicked: bool) {
        let thread = self.present.borrow_mut().remove(number);
        drop(thread);
        if panicked {
            self.panics.fetch_add(1, Ordering::Relaxed);
            if self.fail_fast.get() {
                self.cancel();
            }
        }
        if self.present.borrow().is_empty() {
            let mut hosts = self.hosts.borrow_mut();
            while let Some((host, ())) = hosts.choose() {
                host.unpark();
            }
        }
    }

    /// How many there are. Who was abandoned with the hub will never leave, but
    /// is here no more.
    pub(crate) fn len(&self) -> usize {
        let present = self.present.borrow();
        let is_here = |thread: &Option<Thread>| thread.as_ref().is_none_or(Thread::is_on_a_hub);
        present.iter().filter(|(_, thread)| is_here(thread)).count()
    }

    /// Whether the caller is one of them.
    pub(crate) fn include_caller(&self) -> bool {
        let caller = hub::current_id();
        let present = self.present.borrow();
        present
            .iter()
            .filter_map(|(_, thread)| thread.as_ref())
            .any(|thread| thread.id().0.get() == caller)
    }

    pub(crate) fn fail_fast(&self) {
        self.fail_fast.set(true);
    }

    pub(crate) fn panics(&self) -> &AtomicUsize {
        &self.panics
    }

    /// Cancels everybody who is present.
    #[track_caller]
    pub(crate) fn cancel(&self) {
        self.cancels.set(self.cancels.get().wrapping_add(1));
        for (_, thread) in self.present.borrow().iter() {
            if let Some(thread) = thread {
                thread.cancel();
            }
        }
    }

    /// How often all were cancelled: who sees that it changes lets no more come
    /// of what was going on.
    pub(crate) fn cancels(&self) -> usize {
        self.cancels.get()
    }

    /// Waits until nobody is present, until the deadline at the most; whether it
    /// was so. For guests who borrow nothing: an interrupt unwinds.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        if self.len() == 0 {
            return true;
        }
        match self.wait(deadline) {
            Wakeup::Unparked => true,
            Wakeup::TimedOut => false,
            verdict => cancel::raise_verdict(verdict, Why::Scope),
        }
    }

    /// Waits until nobody is present, however long it takes: the guests borrow
    /// from the caller's frames.
    ///
    /// **A landlord wait**: it does not unwind while they live. What would
    /// interrupt it cancels them, and is the answer once they are gone.
    fn see_off(&self) -> Option<Verdict> {
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
            if let Verdict::Stuck(table) = &verdict
                && (matches!(early, Some(Verdict::Stuck(_))) || !cancel::supported())
            {
                hub::say(&format!(
                    "greenring: fatal: green threads that borrow from their spawner can neither \
                     end nor be left: {table}"
                ));
                abort();
            }
            early = Some(verdict);
            self.close();
        }
        early
    }

    /// Cancels everybody who is present or comes, if green threads can be
    /// cancelled at all.
    fn close(&self) {
        if cancel::supported() {
            self.closing.set(true);
            self.cancel();
        }
    }

    /// Waits once for the last to leave. That it has left wins over what is true
    /// at the same time.
    fn wait(&self, deadline: Option<Instant>) -> Wakeup {
        let wait = Wait::begin();
        let ticket = self.hosts.borrow_mut().enter(wait.unparker(), ());
        let wakeup = wait.park(Why::Scope, std::ptr::from_ref(self).addr(), deadline);
        let (is_chosen, ()) = self.hosts.borrow_mut().leave(ticket);
        if is_chosen { Wakeup::Unparked } else { wakeup }
    }

    /// What a host gives back to its caller: `result` of its own body, once it
    /// has seen its guests off.
    ///
    /// An interrupt that leaves the body cancels them; a panic does not, as in
    /// std.
    pub(super) fn host<T>(&self, body: impl FnOnce() -> T) -> T {
        let result: Result<T> = catch_unwind(AssertUnwindSafe(body));
        if let Err(payload) = &result
            && cancel::is_interrupt(&**payload)
            // Else it was carried here from another green thread.
            && hub::pending().is_some()
        {
            self.close();
        }
        let verdict = self.see_off();
        match (result, verdict) {
            (Err(payload), _) => resume_unwind(payload),
            (Ok(value), None) => value,
            (Ok(_), Some(Verdict::Interrupted)) => cancel::raise(),
            (Ok(_), Some(Verdict::Stuck(table))) => panic!("{table}"),
        }
    }
}
