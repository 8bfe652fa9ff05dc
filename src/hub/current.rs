//! Which hub the calling OS thread runs.
//!
//! Green threads never move to another OS thread, so what is read here stays
//! true across every suspension.

#![allow(unsafe_code)] // Follows the pointer to the current hub; owns hubs by pointer.

use std::cell::Cell;
use std::io;
use std::ptr;

use super::config::Config;
use super::loans::Loan;
use super::state::ROOT;
use super::{AbortOnUnwind, Hub};
use crate::backend;

thread_local! {
    /// The hub of this OS thread. Without a destructor, so that a signal
    /// handler and late destructors may read it.
    static CURRENT: Cell<*const Hub> = const { Cell::new(ptr::null()) };
    /// Whether this OS thread's hub has ended for good.
    static ENDED: Cell<bool> = const { Cell::new(false) };
    /// The hub that was started without being asked for, if there is one.
    static IMPLICIT: Cell<*mut Hub> = const { Cell::new(ptr::null_mut()) };
    /// Ends the OS thread's hub by its destructor.
    static LAST_GUARD: LastGuard = const { LastGuard };
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
    // SAFETY: `look` cannot keep it, and this function is one of the hub's.
    look(unsafe { context() })
}

/// What the caller runs on.
///
/// # Safety
///
/// The caller is a function of the hub, and does not keep the context beyond
/// its own frame.
#[inline(always)]
pub(super) unsafe fn context<'a>() -> Context<'a> {
    let hub = CURRENT.get();
    if hub.is_null() {
        return without_hub();
    }
    // SAFETY: CURRENT is set from a hub's start to its end. A hub is ended by
    // its root only, which then runs no hub function, and when none of its
    // green threads will ever run again.
    Context::Hub(unsafe { &*hub })
}

#[cold]
fn without_hub<'a>() -> Context<'a> {
    if ENDED.get() {
        Context::Ended
    } else {
        Context::Bare
    }
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
#[inline]
pub(super) fn with_started<R>(look: impl FnOnce(Context<'_>) -> R) -> io::Result<R> {
    ensure_started()?;
    Ok(with(look))
}

/// Starts the implicit hub on a bare OS thread, as [`with_started`] does.
#[inline(always)]
pub(super) fn ensure_started() -> io::Result<()> {
    if CURRENT.get().is_null() && !ENDED.get() {
        start_implicit()?;
    }
    Ok(())
}

#[cold]
fn start_implicit() -> io::Result<()> {
    let started = Config::from_environment().and_then(Hub::start);
    match started {
        Ok(hub) => {
            if guard_end() {
                let hub = Box::into_raw(hub);
                IMPLICIT.set(hub);
                CURRENT.set(hub);
            } else {
                // Nobody is left to end a hub: the OS thread works as one whose
                // hub has ended.
                ENDED.set(true);
            }
            Ok(())
        }
        Err(error) if backend::is_shortage(&error) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

// ----- the end of the OS thread -------------------------------------------

/// Sees to it that the hub of this OS thread ends with it; false if it is too
/// late for that.
///
/// Thread-locals are destroyed in the reverse of the order in which they were
/// first used. Those that were used before the hub find it ended. Those that
/// were first used after it find it alive, and one whose destructor waits turns
/// the loop: nothing tells a program that its thread-locals are being destroyed.
fn guard_end() -> bool {
    LAST_GUARD.try_with(|_| ()).is_ok()
}

/// A thread-local destructor that ends the hub.
struct LastGuard;

impl Drop for LastGuard {
    fn drop(&mut self) {
        end_with_os_thread();
    }
}

/// Ends whatever hub the OS thread has, because the OS thread ends, or the
/// process by `exit`.
fn end_with_os_thread() {
    ENDED.set(true);
    let current = CURRENT.replace(ptr::null());
    let implicit = IMPLICIT.replace(ptr::null_mut());
    if current.is_null() {
        return;
    }
    // SAFETY: as in `with`.
    let hub = unsafe { &*current };
    // On a green thread's stack, as when it called `exit`, or below a body of
    // `Builder::run`, the hub's frames are still there; and behind the
    // process's main OS thread the kernel clears up everything.
    if ptr::eq(current, implicit) && hub.current.get() == ROOT && !is_main_os_thread() {
        CURRENT.set(current);
        // SAFETY: it was the implicit hub, made by `start_implicit`.
        unsafe { retire(implicit) };
    } else {
        hub.give_up();
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
            "this OS thread's hub has live green threads, or a time limit or shield in force: join \
             them first, or run the new hub on another OS thread",
        )),
        Context::Hub(_) => Ok(()),
    })?;
    let idle = IMPLICIT.replace(ptr::null_mut());
    if !idle.is_null() {
        // SAFETY: it was the implicit hub, made by `start_implicit`.
        unsafe { retire(idle) };
    } else if !CURRENT.get().is_null() {
        return Err(io::Error::other(
            "this OS thread's hub runs already: hubs do not nest",
        ));
    }
    let hub = make()?;
    if !guard_end() {
        return Err(io::Error::other(
            "this OS thread ends: it cannot run another hub",
        ));
    }
    let hub = Box::into_raw(hub);
    CURRENT.set(hub);
    let guard = AbortOnUnwind("a panic at the end of a hub");
    // SAFETY: made above, and ended below.
    let result = run(unsafe { &*hub });
    // SAFETY: made above.
    unsafe { retire(hub) };
    std::mem::forget(guard);
    Ok(result)
}

/// Ends a hub whose root does not wait, and forgets it as the current one.
///
/// In a forked child nothing of it is touched, its memory is left alone and its
/// descriptors stay open: the kernel's side is the parent's, and the ring's
/// memory is not there (MADV_DONTFORK), so unmapping it could hit another
/// mapping.
///
/// # Safety
///
/// `hub` came from `Box::into_raw`, and nothing refers to it but `CURRENT`.
unsafe fn retire(hub: *mut Hub) {
    {
        // SAFETY: the caller's promise.
        let hub = unsafe { &*hub };
        if hub.is_forked_child() {
            CURRENT.set(ptr::null());
            return;
        }
        hub.abandon();
    }
    CURRENT.set(ptr::null());
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(hub) });
}

/// Whether the calling OS thread has a hub at present.
///
/// # Panics
///
/// In a forked child, whose hub is the parent's.
pub(crate) fn has_hub() -> bool {
    with(|context| match context {
        Context::Hub(hub) => {
            hub.check_process();
            true
        }
        Context::Bare | Context::Ended => false,
    })
}

/// Says that an OS thread of the pool borrows from the calling context's frames
/// until the loan is dropped.
pub(crate) fn lend() -> Loan {
    with(|context| match context {
        Context::Hub(hub) => hub.loans.make(),
        Context::Bare | Context::Ended => unreachable!("it makes the call itself"),
    })
}

/// Whether the caller runs on a green thread.
pub(crate) fn is_green() -> bool {
    with(|context| matches!(context, Context::Hub(hub) if hub.current.get() != ROOT))
}
