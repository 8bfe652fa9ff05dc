//! What a context keeps on its own stack, because it is rarely looked at: the
//! time limits in force, and a green thread's locals.
//!
//! The limits are a chain of frames, the innermost first. `interrupt.rs` sets
//! them and takes them out of force.

#![allow(unsafe_code)] // Follows the chain of limits, which lie on the caller's frames.

use std::cell::Cell;

use super::current::{self, Context};
use super::locals::{self, Locals};
use super::state::ROOT;

/// What a context keeps on its own stack, because it is rarely looked at.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The innermost limit in force, null if there is none.
    pub(super) edge: Cell<*const Edge>,
    /// Numbers the limits that the context has set.
    pub(super) edges: Cell<u64>,
    /// It unwinds by an interrupt, or has lately.
    pub(super) raised: Cell<bool>,
    /// How often it was interrupted.
    pub(super) interrupts: Cell<u64>,
    /// A root's stay empty: it has those of its OS thread, which outlive hubs.
    locals: Locals,
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
            let extras = hub.table.get(hub.current.get()).extras();
            look(&extras.expect("who runs has extras").locals)
        }
        Context::Hub(_) | Context::Bare | Context::Ended => locals::with_os_thread(look),
    })
}
