//! The stack switch: bodies that run on stacks of their own, one at a time.
//!
//! A [`Coroutine`] is one word, kept in a green thread's control block; all else
//! that it needs lies at the top of its stack. Both implementations keep this
//! contract:
//!
//! - `start` lays a body down on a stack; nothing runs yet.
//! - `resume` runs the coroutine until it suspends, or until its body has
//!   returned: then it gives the stack back, and the coroutine is one that was
//!   never started.
//! - `suspend`, called anywhere on the coroutine's stack, goes back to whoever
//!   resumed it and returns when it is resumed again.
//! - `pass_to` suspends too, but in its place another one runs, as if it had been
//!   resumed by the same call: that call of `resume` returns when the last one that
//!   was passed to suspends or ends. Ready to ready, a switch does not go by way of
//!   the loop: 3 ns of 15, and one cold stack less.
//! - A coroutine that is dropped is forgotten, its stack with it: frames that
//!   are suspended are never unwound by force.
//! - A body does not unwind. Backtraces end at its entry at the latest.
//!
//! Nothing of the floating point environment belongs to a coroutine: the control
//! words (MXCSR, x87) are the OS thread's, like its thread-locals. Rust code may
//! not change them, and C code that does must restore them before it calls back.
//!
//! Only the hub calls this, and only on the OS thread that the coroutine was
//! started on.

#[cfg(any(test, not(target_arch = "x86_64"), greenring_switch = "corosensei"))]
mod corosensei;
#[cfg(all(
    target_arch = "x86_64",
    any(test, not(greenring_switch = "corosensei"))
))]
mod x86_64;

#[cfg(any(not(target_arch = "x86_64"), greenring_switch = "corosensei"))]
pub(super) use corosensei::{Coroutine, LARGEST_BODY, prefetch};
#[cfg(all(target_arch = "x86_64", not(greenring_switch = "corosensei")))]
pub(super) use x86_64::{Coroutine, LARGEST_BODY, prefetch};

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
