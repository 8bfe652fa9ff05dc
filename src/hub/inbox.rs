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
//!
//! Boxes are never freed: whoever may write to one holds a plain reference, for
//! ever. A hub that ends closes its box, and a later hub opens it again under
//! another serial number; mail for an earlier one is dropped. So there are as
//! many boxes as there were hubs at the same time.

use std::sync::Arc;

use crate::atomic::{AtomicU8, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, lock};
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
    /// Cancel the green thread with this index, if it is the one with this id.
    Cancel { index: u32, id: u64 },
}

/// The box itself.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: AtomicU8,
    /// `None` while no hub has it: mail is dropped, and there is no bell.
    open: Mutex<Option<Open>>,
    /// That of the hub that has it; 0 while none has.
    serial: AtomicU32,
    rings: AtomicU64,
}

/// What a box has while its hub lives.
#[derive(Debug)]
struct Open {
    mail: Vec<Mail>,
    bell: Arc<Bell>,
}

/// A hub's right to its box.
#[derive(Debug)]
pub(super) struct Letterbox {
    inbox: &'static Inbox,
    serial: u32,
}

/// Where a green thread lives: its hub's box, and its index there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    inbox: &'static Inbox,
    serial: u32,
    pub(super) index: u32,
}

impl Home {
    /// Puts mail into the hub's box, unless the hub has ended; callable from
    /// any OS thread.
    pub(super) fn send(&self, mail: Mail) {
        self.inbox.send(self.serial, mail);
    }

    /// Whether the two are in the same hub.
    #[inline]
    pub(super) fn is_beside(&self, other: &Home) -> bool {
        std::ptr::eq(self.inbox, other.inbox) && self.serial == other.serial
    }

    /// The home with this index in the same hub.
    #[inline]
    pub(super) fn beside(&self, index: u32) -> Home {
        Home { index, ..*self }
    }

    /// Whether the hub has not ended.
    #[inline]
    pub(super) fn is_alive(&self) -> bool {
        self.inbox.serial.load(Ordering::Relaxed) == self.serial
    }
}

/// Boxes that no hub has, and the serial number of the next hub.
static CLOSED: Mutex<(Vec<&'static Inbox>, u32)> = Mutex::new((Vec::new(), 0));

impl Letterbox {
    /// Opens a box for a new hub.
    pub(super) fn open(bell: Arc<Bell>) -> Letterbox {
        let mut closed = lock(&CLOSED);
        let inbox = closed
            .0
            .pop()
            .unwrap_or_else(|| Box::leak(Box::new(Inbox::new())));
        // Never 0, which says that no hub has it.
        closed.1 = closed.1.wrapping_add(1).max(1);
        let serial = closed.1;
        drop(closed);
        inbox.open(serial, bell);
        Letterbox { inbox, serial }
    }

    /// The home of the green thread with this index.
    #[inline]
    pub(super) fn home(&self, index: u32) -> Home {
        Home {
            inbox: self.inbox,
            serial: self.serial,
            index,
        }
    }

    /// Whether `home` is in this hub.
    #[inline]
    pub(super) fn is(&self, home: &Home) -> bool {
        std::ptr::eq(self.inbox, home.inbox) && self.serial == home.serial
    }

    /// Drops what is in the box and all that is still to come for this hub.
    pub(super) fn close(&self) {
        if self.inbox.close(self.serial) {
            lock(&CLOSED).0.push(self.inbox);
        }
    }
}

impl Drop for Letterbox {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::ops::Deref for Letterbox {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        self.inbox
    }
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            state: AtomicU8::new(AWAKE),
            open: Mutex::new(None),
            serial: AtomicU32::new(0),
            rings: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        lock(&self.open)
    }

    pub(super) fn open(&self, serial: u32, bell: Arc<Bell>) {
        let mut open = self.lock();
        self.state.store(AWAKE, Ordering::Release);
        self.rings.store(0, Ordering::Relaxed);
        self.serial.store(serial, Ordering::Relaxed);
        *open = Some(Open {
            mail: Vec::new(),
            bell,
        });
    }

    /// Takes the box from its hub; false if that one has it no longer.
    pub(super) fn close(&self, serial: u32) -> bool {
        let mut open = self.lock();
        if self.serial.load(Ordering::Relaxed) != serial {
            return false;
        }
        self.serial.store(0, Ordering::Relaxed);
        *open = None;
        true
    }

    /// Puts mail for the hub with this serial number in the box; callable from
    /// any OS thread.
    pub(super) fn send(&self, serial: u32, mail: Mail) {
        let mut open = self.lock();
        let Some(open) = open
            .as_mut()
            .filter(|_| self.serial.load(Ordering::Relaxed) == serial)
        else {
            return;
        };
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
        if let Some(open) = &mut *self.lock() {
            std::mem::swap(&mut open.mail, empty);
        }
    }

    /// How often the bell was rung.
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::backend::{Backend, Choice, Disabled, Kind, Setup};
    use std::thread;

    fn inbox() -> (Backend, Letterbox) {
        let (backend, bell, _) = Backend::open(Setup {
            choice: Choice::Asked {
                kind: Kind::Epoll,
                by: "a test",
            },
            ring_entries: 2,
            reader_buffers: 8,
            disabled: Disabled::default(),
        })
        .unwrap();
        (backend, Letterbox::open(bell))
    }

    fn letter(wait: u64) -> Mail {
        Mail::Unpark { index: 1, wait }
    }

    #[test]
    fn mail_to_a_hub_that_is_awake_rings_no_bell() {
        let (_backend, inbox) = inbox();
        for wait in 0..100 {
            inbox.home(0).send(letter(wait));
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
            inbox.home(0).send(letter(wait));
        }
        inbox.wake_up();
        assert!(inbox.has_mail());
        assert_eq!(inbox.rings(), 1);
    }

    #[test]
    fn a_closed_box_takes_no_mail_even_when_another_hub_has_it() {
        let (_backend, closed) = inbox();
        closed.close();
        closed.home(0).send(letter(1));
        assert!(!closed.has_mail());
        let (_other_backend, other) = inbox();
        closed.home(0).send(letter(2));
        assert!(!other.has_mail());
        closed.close();
        other.home(0).send(letter(3));
        assert!(other.has_mail());
    }

    /// A lost wake-up would leave the hub asleep with mail in its box.
    #[test]
    fn every_letter_reaches_a_hub_that_sleeps_whenever_it_can() {
        const LETTERS: u64 = 20_000;
        let (mut backend, inbox) = inbox();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..LETTERS).for_each(|wait| inbox.home(0).send(letter(wait))));
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
