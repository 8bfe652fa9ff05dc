//! Who a green thread or an OS thread is: what outlives its stack.

#![allow(unsafe_code)] // Owns records by pointer, which count their holders themselves.

use std::cell::{Cell, OnceCell};
use std::num::NonZeroU64;
use std::ops::{Deref, Range};
use std::panic::Location;
use std::ptr::NonNull;

use super::current::{self, Context};
use super::inbox::Home;
use super::life::Life;
use super::park::{Unparker, Wait};
use crate::atomic::{AtomicU64, Mutex, Ordering, lock};

thread_local! {
    /// Who this OS thread is outside all green threads.
    static OS_THREAD: OnceCell<SharedRecord> = const { OnceCell::new() };
    /// Its id, also among its last destructors.
    static OS_THREAD_ID: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
    /// The record that is made anew among its last destructors, when the above
    /// is gone, and leaked.
    static LATE_RECORD: Cell<Option<&'static SharedRecord>> = const { Cell::new(None) };
    /// Ids that this OS thread may give.
    static IDS: Cell<Range<u64>> = const { Cell::new(0..0) };
}

/// Ids that an OS thread takes at a time.
const IDS_AT_ONCE: u64 = 1024;

/// What outlives a green thread: shared by its handles and its body.
///
/// The faces implement it for the type that also holds the result.
pub(crate) trait Record: Send + Sync {
    fn identity(&self) -> &Identity;

    /// The green thread will never end by itself, because its hub ends: its
    /// handle gets `Cancelled` for a result. Called on the hub's OS thread, at
    /// most once, and never together with the body's own end.
    fn abandon(&self);
}

/// A record, of which this is one of the holders: the last one frees it.
///
/// As an `Arc`, which could not be made with two holders at once, nor be left
/// without a read-modify-write by one who is known to be the last.
pub(crate) struct SharedRecord(NonNull<dyn Record>);

// SAFETY: as for an `Arc`: a record is Send and Sync, and holders are counted.
unsafe impl Send for SharedRecord {}
// SAFETY: as above.
unsafe impl Sync for SharedRecord {}

impl SharedRecord {
    /// Takes one hold of the record over.
    ///
    /// # Safety
    ///
    /// The record came from a box, the caller has a hold of it, and gives it up.
    pub(crate) unsafe fn new(record: NonNull<dyn Record>) -> SharedRecord {
        SharedRecord(record)
    }

    /// Where the record is.
    pub(crate) fn pointer(&self) -> NonNull<dyn Record> {
        self.0
    }
}

impl Deref for SharedRecord {
    type Target = dyn Record;

    #[inline]
    fn deref(&self) -> &(dyn Record + 'static) {
        // SAFETY: it is there while this one holds it.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for SharedRecord {
    fn clone(&self) -> SharedRecord {
        self.identity().life.hold();
        SharedRecord(self.0)
    }
}

impl Drop for SharedRecord {
    #[inline]
    fn drop(&mut self) {
        if self.identity().life.release() {
            // SAFETY: it came from a box (contract of `new`), and nobody else
            // holds it.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// Who a green thread, or an OS thread, is.
pub(crate) struct Identity {
    /// Who holds the record that this is part of.
    pub(crate) life: Life,
    id: NonZeroU64,
    /// In a box of its own, because most have none.
    name: Option<Box<Box<str>>>,
    /// Where it was spawned; `None` for an OS thread.
    spawned_at: Option<&'static Location<'static>>,
    /// The token of `thread::park`: [`NO_TOKEN`], [`TOKEN`], or the wait for it.
    token: AtomicU64,
    place: Place,
}

/// Where the owner of an identity waits for its token.
enum Place {
    Green(Home),
    /// On whatever hub the OS thread has at the time, or on none.
    OsThread(Box<Mutex<Option<Unparker>>>),
}

const NO_TOKEN: u64 = 0;
const TOKEN: u64 = 1;
/// The owner waits: added to twice the number of its wait.
const PARKED: u64 = 2;

#[inline]
fn new_id() -> NonZeroU64 {
    let mut ids = IDS.take();
    let id = ids.next().unwrap_or_else(|| {
        ids = more_ids();
        ids.start - 1
    });
    IDS.set(ids);
    NonZeroU64::new(id).expect("2^64 identities are not reached")
}

/// Ids that nobody else has, the first of which is given already.
#[cold]
fn more_ids() -> Range<u64> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let first = NEXT.fetch_add(IDS_AT_ONCE, Ordering::Relaxed);
    first + 1..first + IDS_AT_ONCE
}

impl Identity {
    /// The identity of a new green thread.
    #[inline]
    pub(crate) fn new(
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
        home: Home,
    ) -> Identity {
        Identity {
            life: Life::of_green_thread(),
            id: new_id(),
            name: name.map(Box::new),
            spawned_at: Some(spawned_at),
            token: AtomicU64::new(NO_TOKEN),
            place: Place::Green(home),
        }
    }

    fn of_os_thread() -> Identity {
        let name = std::thread::current().name().map(Box::from);
        Identity {
            life: Life::of_os_thread(),
            id: os_thread_id(),
            name: name.map(Box::new),
            spawned_at: None,
            token: AtomicU64::new(NO_TOKEN),
            place: Place::OsThread(Box::default()),
        }
    }

    /// Unique in the process for ever.
    pub(crate) fn id(&self) -> NonZeroU64 {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|name| &***name)
    }

    pub(crate) fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.spawned_at
    }

    /// Takes the park token if it is there.
    pub(crate) fn take_token(&self) -> bool {
        self.token.load(Ordering::Relaxed) != NO_TOKEN
            && self.token.swap(NO_TOKEN, Ordering::AcqRel) == TOKEN
    }

    /// Says that the owner is about to wait for the token; false if it is there
    /// already. Called by the owner only, which takes the token afterwards.
    pub(crate) fn await_token(&self, wait: &Wait) -> bool {
        if let Place::OsThread(parked) = &self.place {
            *lock(parked) = Some(wait.unparker());
        }
        // Wait numbers are counted, so they stay far below 2^62.
        let parked = (wait.unparker().number() << 2) | PARKED;
        self.token
            .compare_exchange(NO_TOKEN, parked, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Makes the token available and ends the wait for it; from any OS thread.
    pub(crate) fn unpark(&self) {
        let before = self.token.swap(TOKEN, Ordering::AcqRel);
        if before & PARKED == 0 {
            return;
        }
        match &self.place {
            Place::Green(home) => Unparker::of(*home, before >> 2).unpark(),
            Place::OsThread(parked) => {
                let parked = *lock(parked);
                parked.expect("who waits has left its unparker").unpark();
            }
        }
    }

    /// Whether the caller runs on the hub that it lives on.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        current::with(|context| match context {
            Context::Hub(hub) => self.home().is_some_and(|home| hub.inbox.is(home)),
            Context::Bare | Context::Ended => false,
        })
    }

    /// Whether the hub it lives on has not ended.
    pub(crate) fn is_on_a_hub(&self) -> bool {
        self.home().is_some_and(Home::is_alive)
    }

    /// Where it lives; `None` for an OS thread.
    #[inline]
    pub(crate) fn home(&self) -> Option<&Home> {
        match &self.place {
            Place::Green(home) => Some(home),
            Place::OsThread(_) => None,
        }
    }
}

/// The record of an OS thread, which has no result here.
struct OsThread(Identity);

impl Record for OsThread {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn abandon(&self) {
        unreachable!("an OS thread is not abandoned by a hub");
    }
}

/// A record for the calling OS thread, under the name it has.
fn os_thread_record() -> SharedRecord {
    let record: Box<dyn Record> = Box::new(OsThread(Identity::of_os_thread()));
    // SAFETY: made here, in a box, with one hold.
    unsafe { SharedRecord::new(NonNull::from(Box::leak(record))) }
}

/// The id of the calling OS thread.
pub(crate) fn os_thread_id() -> NonZeroU64 {
    OS_THREAD_ID.get().unwrap_or_else(|| {
        let id = new_id();
        OS_THREAD_ID.set(Some(id));
        id
    })
}

/// The id of the calling green thread or OS thread.
#[inline]
pub(crate) fn current_id() -> u64 {
    current::with(|context| match context {
        Context::Hub(hub) => hub.running().1.slot.id.get(),
        Context::Bare | Context::Ended => os_thread_id().get(),
    })
}

/// The record of the calling green thread or OS thread.
pub(crate) fn current() -> SharedRecord {
    let running = current::with(|context| match context {
        Context::Hub(hub) => hub.running().1.share_record(),
        Context::Bare | Context::Ended => None,
    });
    match running {
        Some(running) => running,
        None => OS_THREAD
            .try_with(|os_thread| os_thread.get_or_init(os_thread_record).clone())
            .unwrap_or_else(|_| late_record()),
    }
}

#[cold]
fn late_record() -> SharedRecord {
    let record = LATE_RECORD.get().unwrap_or_else(|| {
        let leaked: &'static _ = Box::leak(Box::new(os_thread_record()));
        LATE_RECORD.set(Some(leaked));
        leaked
    });
    record.clone()
}
