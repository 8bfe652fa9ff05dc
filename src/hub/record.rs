//! Who a green thread or an OS thread is: what outlives its stack.

use std::cell::{Cell, OnceCell};
use std::num::NonZeroU64;
use std::panic::Location;
use std::sync::Arc;

use super::current::{self, Context};
use super::inbox::Home;
use super::park::{Unparker, Wait};
use crate::atomic::{AtomicU64, Mutex, Ordering, lock};

thread_local! {
    /// Who this OS thread is outside all green threads.
    static OS_THREAD: OnceCell<Arc<dyn Record>> = const { OnceCell::new() };
    /// Its id, also among its last destructors.
    static OS_THREAD_ID: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
    /// The record that is made anew among its last destructors, when the above
    /// is gone, and leaked.
    static LATE_RECORD: Cell<Option<&'static Arc<dyn Record>>> = const { Cell::new(None) };
}

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

/// Who a green thread, or an OS thread, is.
pub(crate) struct Identity {
    id: NonZeroU64,
    name: Option<Box<str>>,
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

fn new_id() -> NonZeroU64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    NonZeroU64::new(id).expect("2^64 identities are not reached")
}

impl Identity {
    /// The identity of a new green thread.
    pub(crate) fn new(
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
        home: Home,
    ) -> Identity {
        Identity {
            id: new_id(),
            name,
            spawned_at: Some(spawned_at),
            token: AtomicU64::new(NO_TOKEN),
            place: Place::Green(home),
        }
    }

    fn of_os_thread() -> Identity {
        Identity {
            id: os_thread_id(),
            name: std::thread::current().name().map(Box::from),
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
        self.name.as_deref()
    }

    pub(crate) fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.spawned_at
    }

    /// Takes the park token if it is there.
    pub(crate) fn take_token(&self) -> bool {
        self.token.swap(NO_TOKEN, Ordering::AcqRel) == TOKEN
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

    /// Whether the hub it lives on has not ended.
    pub(crate) fn is_on_a_hub(&self) -> bool {
        self.home().is_some_and(Home::is_alive)
    }

    /// Where it lives; `None` for an OS thread.
    pub(super) fn home(&self) -> Option<&Home> {
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
fn os_thread_record() -> Arc<dyn Record> {
    Arc::new(OsThread(Identity::of_os_thread()))
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
        Context::Hub(hub) => hub.table.get(hub.current.get()).slot.id.get(),
        Context::Bare | Context::Ended => os_thread_id().get(),
    })
}

/// The record of the calling green thread or OS thread.
pub(crate) fn current() -> Arc<dyn Record> {
    let running = current::with(|context| match context {
        Context::Hub(hub) => hub.table.get(hub.current.get()).count_record(),
        Context::Bare | Context::Ended => None,
    });
    match running {
        Some(running) => running,
        None => OS_THREAD
            .try_with(|os_thread| Arc::clone(os_thread.get_or_init(os_thread_record)))
            .unwrap_or_else(|_| late_record()),
    }
}

#[cold]
fn late_record() -> Arc<dyn Record> {
    let record = LATE_RECORD.get().unwrap_or_else(|| {
        let leaked: &'static _ = Box::leak(Box::new(os_thread_record()));
        LATE_RECORD.set(Some(leaked));
        leaked
    });
    Arc::clone(record)
}
