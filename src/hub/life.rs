//! How far a green thread and its handle are, and how many hold its record:
//! one word.
//!
//! The body and the handle hold the record from the start; others may come and
//! go. Any of them may be on another OS thread, so the word is changed by
//! read-modify-write, which costs more than all else that is done here. Mostly
//! both are on one OS thread, and then it can be done without:
//!
//! 1. Only who holds the record can change the word, or let somebody else hold
//!    it. So the last holder has the word to itself; and so has, if there are
//!    two, the body or the handle, as long as the other one is on the same OS
//!    thread and does not run.
//!    Whoever writes it plainly has read it with `Acquire`, because a plain write
//!    hides the release of those who have left from the next reader.
//! 2. `AWAITED` is set by the handle's owner on the body's hub, which waits
//!    there until it is taken back or the body has ended.
//! 3. After `DONE` the body changes nothing but its hold, and so does the
//!    handle after `DETACHED`.

use std::process;

use crate::atomic::{AtomicU64, Ordering, fence};

/// The handle's owner waits for the end, on the same hub.
const AWAITED: u64 = 1;
/// The body has ended; the result is the handle's.
const DONE: u64 = 2;
/// The handle is gone; the result will be the body's.
const DETACHED: u64 = 4;
/// There are others who wait for the end, or have done so.
const WATCHED: u64 = 8;

/// Counts the holds.
const HOLD: u64 = 16;
/// Holds of the body and the handle.
const BOTH: u64 = 2 * HOLD;

/// The word.
#[derive(Debug)]
pub(crate) struct Life(AtomicU64);

/// What the body finds at its end.
#[derive(Debug)]
pub(crate) enum End {
    /// Nobody else had to be asked, and the body holds the record no more.
    Gone,
    /// The body holds it still, and has to see to the others.
    Shared {
        /// Some who have borrowed the handle are to be told.
        is_watched: bool,
        /// Nobody will fetch the result.
        is_detached: bool,
    },
}

/// What the handle finds when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The body goes on without it, and the handle holds the record no more.
    Gone,
    /// The same, but the handle holds it still.
    Detached,
    /// The body has ended: the result is the handle's. It holds the record still.
    Done,
}

impl Life {
    /// Of a green thread: held by its body and its handle.
    pub(crate) fn of_green_thread() -> Life {
        Life(AtomicU64::new(BOTH))
    }

    /// Of an OS thread, which has no handle: held once.
    pub(crate) fn of_os_thread() -> Life {
        Life(AtomicU64::new(HOLD))
    }

    /// Holds the record once more.
    #[inline]
    pub(crate) fn hold(&self) {
        // 2^60 are reached only by one who forgets them in a loop for decades.
        if self.0.fetch_add(HOLD, Ordering::Relaxed) > u64::MAX / 2 {
            process::abort();
        }
    }

    /// Holds it no more; whether it was the last, who is to free the record.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        if self.0.load(Ordering::Acquire) < BOTH {
            return true;
        }
        let is_last = self.0.fetch_sub(HOLD, Ordering::Release) < BOTH;
        if is_last {
            fence(Ordering::Acquire);
        }
        is_last
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    #[inline]
    pub(crate) fn is_detached(&self) -> bool {
        self.0.load(Ordering::Relaxed) & DETACHED != 0
    }

    /// Whether the handle's owner waits on the body's hub. Asked by the body.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Relaxed) & AWAITED != 0
    }

    /// Says that the handle's owner waits. Called by it, on the body's hub, while
    /// the body has not ended.
    #[inline]
    pub(crate) fn wait(&self) {
        if self.0.load(Ordering::Acquire) == BOTH {
            self.0.store(BOTH | AWAITED, Ordering::Relaxed);
        } else {
            self.0.fetch_or(AWAITED, Ordering::Relaxed);
        }
    }

    /// Takes that back; whether the body has ended.
    pub(crate) fn wait_no_more(&self) -> bool {
        self.0.fetch_and(!AWAITED, Ordering::AcqRel) & DONE != 0
    }

    /// Says that somebody is to be told of the end, who has left word of it
    /// where the body will look; false if it has ended already.
    pub(crate) fn watch(&self) -> bool {
        self.0.fetch_or(WATCHED, Ordering::AcqRel) & DONE == 0
    }

    /// The handle goes. `is_here` says whether that is on the body's hub.
    #[inline]
    pub(crate) fn detach(&self, is_here: impl FnOnce() -> bool) -> Leave {
        let word = self.0.load(Ordering::Acquire);
        if word & DONE != 0 {
            return Leave::Done;
        }
        if word == BOTH && is_here() {
            self.0.store(HOLD | DETACHED, Ordering::Relaxed);
            return Leave::Gone;
        }
        if self.0.fetch_or(DETACHED, Ordering::AcqRel) & DONE == 0 {
            Leave::Detached
        } else {
            Leave::Done
        }
    }

    /// The body ends; its result is there.
    #[inline]
    pub(crate) fn end(&self) -> End {
        let word = self.0.load(Ordering::Acquire);
        if word == BOTH | AWAITED {
            self.0.store(HOLD | DONE, Ordering::Release);
            return End::Gone;
        }
        if word == BOTH {
            let (before, after) = (BOTH, HOLD | DONE);
            let (success, failure) = (Ordering::Release, Ordering::Relaxed);
            let ended = self.0.compare_exchange(before, after, success, failure);
            if ended.is_ok() {
                return End::Gone;
            }
        }
        self.end_among_others()
    }

    /// As [`end`](Self::end), and the body holds the record in any case.
    pub(crate) fn end_among_others(&self) -> End {
        let word = self.0.load(Ordering::Acquire);
        let before = if word < BOTH {
            self.0.store(word | DONE, Ordering::Relaxed);
            word
        } else {
            self.0.fetch_or(DONE, Ordering::AcqRel)
        };
        End::Shared {
            is_watched: before & WATCHED != 0,
            is_detached: before & DETACHED != 0,
        }
    }
}
