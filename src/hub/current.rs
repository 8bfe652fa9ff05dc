//! Which hub, and which green thread, the calling OS thread runs: the one
//! place with thread-local state.
//!
//! Green threads never move to another OS thread, so what is read here stays
//! true across every suspension.

#![allow(unsafe_code)] // Follows the pointer to the current hub, and to records.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::num::NonZeroU64;
use std::ptr;
use std::sync::Arc;

use super::Hub;
use super::config::Config;
use super::table::{ROOT, Record, os_thread_record};

thread_local! {
    /// The hub of this OS thread. Without a destructor, so that a signal
    /// handler and late destructors may read it.
    static CURRENT: Cell<*const Hub> = const { Cell::new(ptr::null()) };
    /// Whether this OS thread's hub has ended for good.
    static ENDED: Cell<bool> = const { Cell::new(false) };
    /// Owns the hub that was started without being asked for; its destructor
    /// ends it.
    static IMPLICIT: RefCell<Implicit> = const { RefCell::new(Implicit(None)) };
    /// Who this OS thread is outside all green threads.
    static OS_THREAD: OsThread = const { OsThread(OnceCell::new()) };
    /// Its id among its last destructors, when the above is gone.
    static LATE_ID: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
    /// The record that is made anew there, and leaked, if it is asked for.
    static LATE_RECORD: Cell<Option<&'static Arc<dyn Record>>> = const { Cell::new(None) };
}

/// What the caller runs on.
pub(super) enum Context<'a> {
    /// A hub: on its root or on a green thread.
    Hub(&'a Hub),
    /// An OS thread that never had a hub, or none at present.
    Bare,
    /// An OS thread that is past the end of its hub.
    Ended,
}

/// Looks at what the caller runs on.
#[inline]
pub(super) fn with<R>(look: impl FnOnce(Context<'_>) -> R) -> R {
    let hub = CURRENT.get();
    if hub.is_null() {
        return look(if ENDED.get() {
            Context::Ended
        } else {
            Context::Bare
        });
    }
    // SAFETY: CURRENT is set from a hub's start to its end. A hub is ended by
    // its root only, which then runs no hub function, and when none of its
    // green threads will ever run again.
    look(Context::Hub(unsafe { &*hub }))
}

/// As [`with`], starting the implicit hub on a bare OS thread.
///
/// # Errors
///
/// The implicit hub cannot be started for want of descriptors or memory.
///
/// # Panics
///
/// The environment asks for what cannot be had; the sentence names it.
pub(super) fn with_started<R>(look: impl FnOnce(Context<'_>) -> R) -> io::Result<R> {
    if CURRENT.get().is_null() && !ENDED.get() {
        start_implicit()?;
    }
    Ok(with(look))
}

#[cold]
fn start_implicit() -> io::Result<()> {
    let started = Config::from_environment().and_then(Hub::start);
    match started {
        Ok(hub) => {
            let pointer: *const Hub = &*hub;
            // Past the destruction of thread-locals there is nobody left to
            // end a hub: the OS thread works as one whose hub has ended.
            if IMPLICIT
                .try_with(|implicit| implicit.borrow_mut().0 = Some(hub))
                .is_ok()
            {
                CURRENT.set(pointer);
            } else {
                ENDED.set(true);
            }
            Ok(())
        }
        Err(error) if is_shortage(&error) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// Whether an error is an ordinary shortage that may pass.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    ) || error.kind() == io::ErrorKind::OutOfMemory
}

/// The implicit hub of an OS thread.
struct Implicit(Option<Box<Hub>>);

impl Drop for Implicit {
    /// Runs among the destructors of the OS thread's thread-locals.
    fn drop(&mut self) {
        ENDED.set(true);
        let Some(hub) = self.0.take() else { return };
        // On a green thread's stack, as when it called `exit`, the loop cannot
        // run; in a forked child the kernel's side is the parent's; and behind
        // the process's main OS thread the kernel clears up everything.
        if hub.current.get() != ROOT || hub.is_forked_child() || is_main_os_thread() {
            std::mem::forget(hub);
            CURRENT.set(ptr::null());
            return;
        }
        hub.abandon();
        CURRENT.set(ptr::null());
        drop(hub);
    }
}

fn is_main_os_thread() -> bool {
    nix::unistd::gettid() == nix::unistd::getpid()
}

/// Makes `hub` the current one of this OS thread for the length of `run`.
///
/// An idle implicit hub is ended first.
///
/// # Errors
///
/// The OS thread runs a hub that is not idle, or runs on a green thread.
pub(super) fn install<R>(
    make: impl FnOnce() -> io::Result<Box<Hub>>,
    run: impl FnOnce(&Hub) -> R,
) -> io::Result<R> {
    with(|context| match context {
        Context::Ended => Err(io::Error::other(
            "this OS thread ends: it cannot run another hub",
        )),
        Context::Bare => Ok(()),
        Context::Hub(hub) if hub.current.get() != ROOT => Err(io::Error::other(
            "a green thread cannot run a hub: its OS thread has one already",
        )),
        Context::Hub(hub) if !hub.is_idle() => Err(io::Error::other(
            "this OS thread's hub has live green threads: join them first, or run the new hub on \
             another OS thread",
        )),
        Context::Hub(_) => Ok(()),
    })?;
    let Ok(idle) = IMPLICIT.try_with(|implicit| implicit.borrow_mut().0.take()) else {
        return Err(io::Error::other(
            "this OS thread ends: it cannot run another hub",
        ));
    };
    if idle.is_none() && !CURRENT.get().is_null() {
        return Err(io::Error::other(
            "this OS thread's hub runs already: hubs do not nest",
        ));
    }
    if let Some(idle) = idle {
        idle.abandon();
        CURRENT.set(ptr::null());
        drop(idle);
    }
    let hub = make()?;
    CURRENT.set(&*hub);
    let result = run(&hub);
    CURRENT.set(ptr::null());
    Ok(result)
}

/// The record of the calling green thread or OS thread.
pub(crate) fn current() -> Arc<dyn Record> {
    let running = with(|context| match context {
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
struct OsThread(OnceCell<Arc<dyn Record>>);

impl Drop for OsThread {
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

/// Whether the caller runs on a green thread.
pub(crate) fn is_green() -> bool {
    with(|context| matches!(context, Context::Hub(hub) if hub.current.get() != ROOT))
}
