//! Who a green thread or an OS thread is: what outlives its stack.

#![allow(unsafe_code)] // Follows the pointer from a block to its record.

use std::cell::{Cell, OnceCell};
use std::num::NonZeroU64;
use std::panic::Location;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::current::{self, Context};
use super::park::Unparker;

thread_local! {
    /// Who this OS thread is outside all green threads.
    static OS_THREAD: OsThreadRecord = const { OsThreadRecord(OnceCell::new()) };
    /// Its id among its last destructors, when the above is gone.
    static LATE_ID: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
    /// The record that is made anew there, and leaked, if it is asked for.
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
    /// The token of `thread::park`: it is there, or it is not.
    token: AtomicU8,
    /// The wait that `thread::unpark` ends.
    parked: Mutex<Option<Unparker>>,
}

const NO_TOKEN: u8 = 0;
const TOKEN: u8 = 1;

impl Identity {
    pub(crate) fn new(
        name: Option<Box<str>>,
        spawned_at: Option<&'static Location<'static>>,
    ) -> Identity {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU64::new(id).expect("2^64 identities are not reached");
        Identity::with_id(id, name, spawned_at)
    }

    fn with_id(
        id: NonZeroU64,
        name: Option<Box<str>>,
        spawned_at: Option<&'static Location<'static>>,
    ) -> Identity {
        Identity {
            id,
            name,
            spawned_at,
            token: AtomicU8::new(NO_TOKEN),
            parked: Mutex::new(None),
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

    /// Says which wait gives the token's arrival an effect. Whoever sets it
    /// looks at the token afterwards; whoever brings the token looks here
    /// afterwards: one of them sees the other, because both lock.
    pub(crate) fn set_parked(&self, unparker: Option<Unparker>) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = unparker;
    }

    /// Makes the token available and ends the wait for it; from any OS thread.
    pub(crate) fn unpark(&self) {
        self.token.store(TOKEN, Ordering::Release);
        let parked = self
            .parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(unparker) = parked {
            unparker.unpark();
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

/// A record for the calling OS thread, under the name it has, and the id if it
/// had one.
fn os_thread_record(id: Option<NonZeroU64>) -> Arc<dyn Record> {
    let name = std::thread::current().name().map(Box::from);
    Arc::new(OsThread(match id {
        Some(id) => Identity::with_id(id, name, None),
        None => Identity::new(name, None),
    }))
}

/// Whether the caller runs on the green thread with this identity.
pub(crate) fn is_running(identity: &Identity) -> bool {
    current::with(|context| match context {
        Context::Hub(hub) => {
            let running = hub.table.get(hub.current.get()).identity();
            running.is_some_and(|running| running.id == identity.id)
        }
        Context::Bare | Context::Ended => false,
    })
}

/// The record of the calling green thread or OS thread.
pub(crate) fn current() -> Arc<dyn Record> {
    let running = current::with(|context| match context {
        Context::Hub(hub) => hub.table.get(hub.current.get()).record.get(),
        Context::Bare | Context::Ended => None,
    });
    match running {
        Some(record) => {
            let record = record.as_ptr().cast_const();
            // SAFETY: a block's record is the pointer of an `Arc` of which the
            // running body holds a count.
            unsafe {
                Arc::increment_strong_count(record);
                Arc::from_raw(record)
            }
        }
        None => OS_THREAD
            .try_with(|os_thread| Arc::clone(os_thread.0.get_or_init(|| os_thread_record(None))))
            .unwrap_or_else(|_| late_record()),
    }
}

/// The record of an OS thread, while its thread-locals can be used.
struct OsThreadRecord(OnceCell<Arc<dyn Record>>);

impl Drop for OsThreadRecord {
    fn drop(&mut self) {
        let id = self.0.get().map(|record| record.identity().id());
        LATE_ID.set(id);
    }
}

#[cold]
fn late_record() -> Arc<dyn Record> {
    let record = LATE_RECORD.get().unwrap_or_else(|| {
        let leaked: &'static _ = Box::leak(Box::new(os_thread_record(LATE_ID.get())));
        LATE_RECORD.set(Some(leaked));
        leaked
    });
    Arc::clone(record)
}
