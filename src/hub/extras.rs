//! What a context keeps on its own stack, because it is rarely looked at: the
//! time limits in force, and a green thread's locals.
//!
//! The limits are a chain of frames, the innermost first. `interrupt.rs` sets
//! them and takes them out of force.

#![allow(unsafe_code)] // Follows the chain of limits, which lie on the caller's frames.

use std::cell::Cell;
use std::ptr::NonNull;

use super::current::{self, Context};
use super::locals::{self, Locals};
use super::state::ROOT;

/// What a context keeps on its own stack, because it is rarely looked at.
#[derive(Default)]
pub(super) struct Extras {
    /// The innermost limit in force, null if there is none.
    pub(super) edge: Cell<*const Edge>,
    /// Numbers the limits that the context has set.
    pub(super) edges: Cell<u64>,
    /// It unwinds by an interrupt, or has lately.
    pub(super) raised: Cell<bool>,
    /// How often it was interrupted.
    pub(super) interrupts: Cell<u64>,
    /// What its present wait leaves behind if it is abandoned.
    pub(super) estate: Cell<Option<NonNull<dyn Estate>>>,
    /// A root's stay empty: it has those of its OS thread, which outlive hubs.
    locals: Locals,
}

/// What a waiter leaves behind that is abandoned with its hub, and others could
/// use: its place in a line, and what it was given there and has not taken.
pub(crate) trait Estate {
    /// Passes it on. Called on the hub's OS thread, at its end, in place of the
    /// waiter, which never runs again. Must not run anything of the user's.
    fn pass_on(&self);
}

/// A time limit, on the frame of `interrupt::limited`.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) deadline: u64,
    /// The nearest deadline of this limit and those around it.
    pub(super) nearest: u64,
    pub(super) number: u64,
    /// The limit around it, on a frame further out.
    pub(super) outer: *const Edge,
}

impl Extras {
    /// The limits in force, from the innermost out.
    pub(super) fn edges(&self) -> impl Iterator<Item = &Edge> {
        // SAFETY: an edge is in the chain exactly while the frame of `limited`
        // that holds it is alive, and that frame outlives those further in.
        let first = unsafe { self.edge.get().as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |edge| unsafe { edge.outer.as_ref() })
    }

    /// The nearest deadline of all limits in force.
    pub(super) fn nearest(&self) -> u64 {
        self.edges().next().map_or(u64::MAX, |edge| edge.nearest)
    }
}

/// Looks at the locals of the calling green thread or OS thread.
///
/// Nothing of the user's may run in `look`.
#[inline]
pub(crate) fn with_locals<R>(look: impl FnOnce(&Locals) -> R) -> R {
    current::with(|context| match context {
        Context::Hub(hub) if hub.current.get() != ROOT => {
            let extras = hub.running().1.extras();
            look(&extras.expect("who runs has extras").locals)
        }
        Context::Hub(_) | Context::Bare | Context::Ended => locals::with_os_thread(look),
    })
}

/// Whether the calling green thread has locals to destroy, or had.
#[inline]
pub(crate) fn has_locals() -> bool {
    current::with(|context| match context {
        Context::Hub(hub) => {
            let extras = hub.table.get(hub.current.get()).extras();
            extras.is_some_and(|extras| !extras.locals.is_empty())
        }
        Context::Bare | Context::Ended => false,
    })
}

/// Says what is passed on if the caller, who is about to wait, is abandoned.
pub(super) fn leave_behind(estate: Option<&dyn Estate>) {
    let estate = estate.map(|estate| {
        let estate = NonNull::from(estate);
        // SAFETY: only the lifetime is changed. It is taken out again when the
        // wait is over, and used in between only when the waiter is abandoned,
        // whose frames then stay as they are for ever.
        unsafe { std::mem::transmute::<NonNull<dyn Estate + '_>, NonNull<dyn Estate>>(estate) }
    });
    current::with(|context| {
        if let Context::Hub(hub) = context
            && let Some(extras) = hub.running().1.extras()
        {
            extras.estate.set(estate);
        }
    });
}

impl Extras {
    /// Passes on what the context leaves behind, which is abandoned.
    pub(super) fn pass_on(&self) {
        if let Some(estate) = self.estate.take() {
            // SAFETY: set by `leave_behind` of a wait that goes on for ever now,
            // so the frame that it lies on is there.
            unsafe { estate.as_ref() }.pass_on();
        }
    }
}
