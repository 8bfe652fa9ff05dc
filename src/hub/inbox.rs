//! What other OS threads ask of a hub, and how they end its sleep.
//!
//! The protocol has two sides, and both change `state` by read-modify-write,
//! so that one of them always sees the other:
//!
//! - a sender puts its mail in the box, then swaps `MAIL` in. If it swapped
//!   `ASLEEP` out, the hub sleeps or is about to, and the sender rings the bell;
//! - the hub, before it sleeps, changes `AWAKE` to `ASLEEP`. If it finds `MAIL`
//!   instead, it does not sleep.
//!
//! So a hub that is awake costs its senders no system call, and a sleeping one
//! is rung exactly once, whatever the number of senders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::Bell;

/// The hub runs and will look at the state before it sleeps.
const AWAKE: u8 = 0;
/// The hub sleeps or is about to; the next sender rings.
const ASLEEP: u8 = 1;
/// There is mail, and the hub will look before it sleeps.
const MAIL: u8 = 2;

/// One thing asked of a hub by another OS thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    /// End the wait with this number of the green thread with this index.
    Unpark { index: u32, wait: u64 },
}

/// The box itself, owned by the hub and by everyone who may write to it.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: AtomicU8,
    /// `None` once the hub has ended: mail is dropped. The bell goes too,
    /// because whoever keeps a box must not keep a descriptor.
    open: Mutex<Option<Open>>,
    rings: AtomicU64,
}

/// What a box has while its hub lives.
#[derive(Debug)]
struct Open {
    mail: Vec<Mail>,
    bell: Arc<Bell>,
}

impl Inbox {
    pub(super) fn new(bell: Arc<Bell>) -> Inbox {
        Inbox {
            state: AtomicU8::new(AWAKE),
            open: Mutex::new(Some(Open {
                mail: Vec::new(),
                bell,
            })),
            rings: AtomicU64::new(0),
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts mail in the box; callable from any OS thread.
    pub(crate) fn send(&self, mail: Mail) {
        let mut open = self.open();
        let Some(open) = &mut *open else { return };
        open.mail.push(mail);
        if self.state.swap(MAIL, Ordering::AcqRel) == ASLEEP {
            self.rings.fetch_add(1, Ordering::Relaxed);
            open.bell.ring();
        }
    }

    /// Announces that the hub is about to sleep; false if it must not, because
    /// there is mail. Called by the hub only.
    pub(super) fn fall_asleep(&self) -> bool {
        self.state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Announces that the hub no longer sleeps. Called by the hub only.
    pub(super) fn wake_up(&self) {
        // Fails if mail came meanwhile, which must then stay announced.
        let _ = self
            .state
            .compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether there is mail: one load, for every turn of the loop.
    #[inline]
    pub(super) fn has_mail(&self) -> bool {
        self.state.load(Ordering::Acquire) == MAIL
    }

    /// Exchanges the waiting mail for `empty`, whose room is reused. Called by
    /// the hub only.
    pub(super) fn take(&self, empty: &mut Vec<Mail>) {
        debug_assert!(empty.is_empty());
        // Before the box is emptied: mail that comes in between is announced
        // again.
        self.state.swap(AWAKE, Ordering::AcqRel);
        if let Some(open) = &mut *self.open() {
            std::mem::swap(&mut open.mail, empty);
        }
    }

    /// Drops what is in the box and all that is still to come.
    pub(super) fn close(&self) {
        *self.open() = None;
    }

    /// How often the bell was rung.
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Choice, Disabled, Kind, Setup};
    use std::thread;

    fn inbox() -> (Backend, Inbox) {
        let (backend, bell, _) = Backend::open(Setup {
            choice: Choice::Asked {
                kind: Kind::Epoll,
                by: "a test",
            },
            ring_entries: 2,
            disabled: Disabled::default(),
        })
        .unwrap();
        (backend, Inbox::new(bell))
    }

    fn letter(wait: u64) -> Mail {
        Mail::Unpark { index: 1, wait }
    }

    #[test]
    fn mail_to_a_hub_that_is_awake_rings_no_bell() {
        let (_backend, inbox) = inbox();
        for wait in 0..100 {
            inbox.send(letter(wait));
        }
        assert!(inbox.has_mail());
        assert_eq!(inbox.rings(), 0);
        assert!(!inbox.fall_asleep(), "there is mail");
        let mut mail = Vec::new();
        inbox.take(&mut mail);
        assert_eq!(mail, (0..100).map(letter).collect::<Vec<_>>());
        assert!(!inbox.has_mail());
    }

    #[test]
    fn a_sleeping_hub_is_rung_once_for_any_number_of_letters() {
        let (_backend, inbox) = inbox();
        assert!(inbox.fall_asleep());
        for wait in 0..100 {
            inbox.send(letter(wait));
        }
        inbox.wake_up();
        assert!(inbox.has_mail());
        assert_eq!(inbox.rings(), 1);
    }

    #[test]
    fn a_closed_box_takes_no_mail() {
        let (_backend, inbox) = inbox();
        inbox.close();
        inbox.send(letter(1));
        assert!(!inbox.has_mail());
    }

    /// A lost wake-up would leave the hub asleep with mail in its box.
    #[test]
    fn every_letter_reaches_a_hub_that_sleeps_whenever_it_can() {
        const LETTERS: u64 = 20_000;
        let (mut backend, inbox) = inbox();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..LETTERS).for_each(|wait| inbox.send(letter(wait))));
            }
            let mut read = 0;
            let mut mail = Vec::new();
            while read < 2 * LETTERS as usize {
                if inbox.fall_asleep() {
                    // For ever: only the bell ends it.
                    backend.wait(None, |_| unreachable!()).unwrap();
                    inbox.wake_up();
                }
                inbox.take(&mut mail);
                read += mail.len();
                mail.clear();
            }
        });
    }
}
