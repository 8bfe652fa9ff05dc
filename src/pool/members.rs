//! The green threads of a group or a pool: what `Group` and `Pool` share.
//!
//! A member has a seat among the guests and, in a pool, a permit; it gives both
//! up at its end, when its result is stored. The members' counts outlive the
//! group, which may be dropped before them.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::sync::{Arc, OwnedPermit, Semaphore};
use crate::thread::{Builder, Guests, JoinHandle, Scope, ScopedJoinHandle, Seat};

/// How many results of a group may be unread; of a pool, its size.
const GROUP_UNREAD: usize = 64;

/// The green threads of a group or a pool.
#[derive(Clone, Debug)]
pub(super) struct Members {
    guests: Rc<Guests>,
    /// How many there may be, and who has a place.
    bound: Option<Bound>,
}

#[derive(Clone, Debug)]
struct Bound {
    size: usize,
    places: Arc<Semaphore>,
}

/// The right to be a member: a place, if those are counted.
#[derive(Debug)]
#[must_use = "if unused it is given back at once"]
pub(crate) struct Admission {
    _place: Option<OwnedPermit>,
}

/// How the members that one call adds come in.
#[derive(Debug)]
pub(super) struct Door {
    members: Members,
    /// The caller's own place, if it is a member of a pool. While the pool is
    /// full it has those that it adds in there, one at a time: it waits for them
    /// and would wait for itself.
    lent: Option<Arc<Semaphore>>,
    /// The members' cancellations when it was opened.
    cancels: usize,
}

impl Members {
    pub(super) fn unbounded() -> Members {
        Members {
            guests: Rc::default(),
            bound: None,
        }
    }

    pub(super) fn bounded(size: usize) -> Members {
        Members {
            guests: Rc::default(),
            bound: Some(Bound {
                size,
                places: Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS))),
            }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.guests.len()
    }

    /// How many there may be.
    pub(super) fn size(&self) -> usize {
        self.bound.as_ref().map_or(usize::MAX, |bound| bound.size)
    }

    /// How many more there may be.
    pub(super) fn free(&self) -> usize {
        let bound = self.bound.as_ref();
        bound.map_or(usize::MAX, |bound| bound.places.available())
    }

    /// How many results of one call may be unread.
    pub(super) fn most_unread(&self) -> usize {
        let size = self.bound.as_ref().map_or(GROUP_UNREAD, |bound| bound.size);
        size.saturating_mul(2).min(Semaphore::MAX_PERMITS / 2)
    }

    pub(super) fn fail_fast(&self) {
        self.guests.fail_fast();
    }

    #[track_caller]
    pub(super) fn cancel(&self) {
        self.guests.cancel();
    }

    /// Waits until there are none, until the timeout at the most.
    #[track_caller]
    pub(super) fn join(&self, timeout: Option<Duration>) -> bool {
        assert!(
            !self.guests.include_caller(),
            "a green thread waits for the end of its own group or pool: it would wait for itself"
        );
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.guests.join(deadline)
    }

    pub(super) fn include_caller(&self) -> bool {
        self.guests.include_caller()
    }

    /// Waits for a place.
    pub(super) fn admit(&self) -> Admission {
        let bound = self.bound.as_ref();
        Admission {
            _place: bound.map(|bound| bound.places.acquire_owned()),
        }
    }

    /// A place if one is free.
    pub(super) fn try_admit(&self) -> Option<Admission> {
        let place = match &self.bound {
            None => None,
            Some(bound) => Some(bound.places.try_acquire_owned()?),
        };
        Some(Admission { _place: place })
    }

    /// Adds a member. `end` runs on it as its last act.
    #[track_caller]
    pub(super) fn spawn<F, T>(
        &self,
        admission: Admission,
        builder: Builder,
        f: F,
        end: impl FnOnce() + 'static,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let seat = Seat::take(Rc::clone(&self.guests));
        let number = seat.number();
        let handle = builder.spawn_then(f, move |panicked| {
            seat.leave(panicked);
            drop(admission);
            end();
        })?;
        self.guests.welcome(number, handle.thread().clone());
        Ok(handle)
    }

    /// Adds a member that is in a scope, too.
    pub(super) fn spawn_scoped<'scope, F, T>(
        &self,
        admission: Admission,
        builder: Builder,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let seat = Seat::take(Rc::clone(&self.guests));
        let number = seat.number();
        let handle = builder.spawn_scoped_then(scope, f, move |panicked| {
            seat.leave(panicked);
            drop(admission);
        })?;
        self.guests.welcome(number, handle.thread().clone());
        Ok(handle)
    }
}

impl Door {
    /// For what the caller is about to add.
    pub(super) fn open(members: &Members) -> Door {
        let is_inside = members.bound.is_some() && members.guests.include_caller();
        Door {
            members: members.clone(),
            lent: is_inside.then(|| Arc::new(Semaphore::new(1))),
            cancels: members.guests.cancels(),
        }
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether the members were cancelled since: no more are to be added.
    pub(super) fn is_closed(&self) -> bool {
        self.cancels != self.members.guests.cancels()
    }

    /// Waits for a place.
    pub(super) fn admit(&self) -> Admission {
        let Some(lent) = &self.lent else {
            return self.members.admit();
        };
        self.members.try_admit().unwrap_or_else(|| Admission {
            _place: Some(lent.acquire_owned()),
        })
    }
}
