//! Which hub the calling OS thread runs.
//!
//! Green threads never move to another OS thread, so what is read here stays
//! true across every suspension.

#![allow(unsafe_code)] // Follows the pointer to the current hub.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr;

use super::Hub;
use super::config::Config;
use super::state::ROOT;
use crate::backend;

thread_local! {
    /// The hub of this OS thread. Without a destructor, so that a signal
    /// handler and late destructors may read it.
    static CURRENT: Cell<*const Hub> = const { Cell::new(ptr::null()) };
    /// Whether this OS thread's hub has ended for good.
    static ENDED: Cell<bool> = const { Cell::new(false) };
    /// Owns the hub that was started without being asked for; its destructor
    /// ends it.
    static IMPLICIT: RefCell<Implicit> = const { RefCell::new(Implicit(None)) };
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
        Err(error) if backend::is_shortage(&error) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// The implicit hub of an OS thread.
struct Implicit(Option<Box<Hub>>);

impl Drop for Implicit {
    /// Runs among the destructors of the OS thread's thread-locals.
    fn drop(&mut self) {
        ENDED.set(true);
        let Some(hub) = self.0.take() else { return };
        // On a green thread's stack, as when it called `exit`, the loop cannot
        // run; and behind the process's main OS thread the kernel clears up
        // everything.
        if hub.current.get() != ROOT || is_main_os_thread() {
            std::mem::forget(hub);
            CURRENT.set(ptr::null());
            return;
        }
        retire(hub);
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
        retire(idle);
    }
    let hub = make()?;
    CURRENT.set(&*hub);
    let result = run(&hub);
    retire(hub);
    Ok(result)
}

/// Ends a hub whose root does not wait, and forgets it as the current one.
///
/// In a forked child nothing of it is touched, its memory is left alone and its
/// descriptors stay open: the kernel's side is the parent's, and the ring's
/// memory is not there (MADV_DONTFORK), so unmapping it could hit another
/// mapping.
fn retire(hub: Box<Hub>) {
    if hub.is_forked_child() {
        CURRENT.set(ptr::null());
        std::mem::forget(hub);
        return;
    }
    hub.abandon();
    CURRENT.set(ptr::null());
    drop(hub);
}

/// Whether the caller runs on a green thread.
pub(crate) fn is_green() -> bool {
    with(|context| matches!(context, Context::Hub(hub) if hub.current.get() != ROOT))
}
