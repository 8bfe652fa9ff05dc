//! The switch of the crate corosensei: for every target but x86-64, and the
//! reference for ours, with `--cfg greenring_switch="corosensei"`.
//!
//! Its coroutine object lies at the top of the stack that it runs on, so that
//! the control block keeps one word here too.

#![allow(unsafe_code)] // Resumes and suspends coroutines by pointer.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ptr;

use ::corosensei::stack::{STACK_ALIGNMENT, StackPointer};
use ::corosensei::{CoroutineResult, Yielder};

use super::super::stack::Stack;

/// Larger bodies are to be boxed: a coroutine's first values are copied to its
/// stack by a path that takes 1024 bytes at the most.
pub(in crate::hub) const LARGEST_BODY: usize = 512;

/// There is no portable one.
#[inline(always)]
pub(in crate::hub) fn prefetch(_address: usize) {}

/// A body on a stack of its own; the contract is that of the module.
#[derive(Debug)]
pub(in crate::hub) struct Coroutine {
    /// On the stack; null without a body.
    home: Cell<*mut Home>,
}

/// What lies at the top of a stack.
struct Home {
    stack: ManuallyDrop<Stack>,
    /// The suspend half, valid from the first resume on.
    yielder: Cell<*const Yielder<(), ()>>,
    /// Whom it has passed to; null if it has suspended.
    next: Cell<*const Coroutine>,
    /// Never dropped while suspended: that would unwind its stack by force.
    coroutine: ManuallyDrop<::corosensei::Coroutine<(), (), (), Rest>>,
}

/// A stack without its home.
struct Rest {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: a `Stack` is guarded at its limit and far larger than MIN_STACK_SIZE,
// its home included; the home's `stack` keeps it. The base is aligned.
unsafe impl ::corosensei::stack::Stack for Rest {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

impl Default for Coroutine {
    fn default() -> Coroutine {
        Coroutine {
            home: Cell::new(ptr::null_mut()),
        }
    }
}

impl Coroutine {
    /// Lays `body` down on `stack`.
    ///
    /// # Safety
    ///
    /// The coroutine has no body and stays at its address until `resume` has
    /// given the stack back. The body does not unwind, and what it borrows
    /// outlives it.
    #[inline]
    pub(in crate::hub) unsafe fn start<F: FnOnce()>(&self, stack: Stack, body: F) {
        debug_assert!(self.home.get().is_null());
        let base = (stack.base() - size_of::<Home>()) & !(STACK_ALIGNMENT - 1);
        let home = ptr::with_exposed_provenance_mut::<Home>(base);
        let address = |address| NonZeroUsize::new(address).expect("a stack is not at address 0");
        let rest = Rest {
            base: address(base),
            limit: address(stack.bounds().limit()),
        };
        let entry = move |yielder: &Yielder<(), ()>, ()| {
            // SAFETY: the home was written before the coroutine was resumed.
            unsafe { (*home).yielder.set(yielder) };
            body();
        };
        // SAFETY: the stack is ours, so nobody refers to its memory; the home lies
        // above what the coroutine uses. What the body borrows outlives it.
        unsafe {
            let coroutine = ::corosensei::Coroutine::with_stack_unchecked(rest, entry);
            home.write(Home {
                stack: ManuallyDrop::new(stack),
                yielder: Cell::new(ptr::null()),
                next: Cell::new(ptr::null()),
                coroutine: ManuallyDrop::new(coroutine),
            });
        }
        self.home.set(home);
    }

    /// Runs it, and those it passes to, until one suspends (`None`) or ends.
    ///
    /// # Safety
    ///
    /// It was started and does not run.
    #[inline]
    pub(in crate::hub) unsafe fn resume(&self) -> Option<Stack> {
        let mut running: *const Coroutine = self;
        while !running.is_null() {
            // SAFETY: a coroutine stays where it is while it has a body, as its
            // home does.
            let (word, home) = unsafe { (&(*running).home, (*running).home.get()) };
            debug_assert!(!home.is_null());
            // SAFETY: only this function borrows the object, which does not run.
            let coroutine = unsafe { &mut (*home).coroutine };
            match coroutine.resume(()) {
                CoroutineResult::Yield(()) => {
                    // SAFETY: as above.
                    running = unsafe { (*home).next.replace(ptr::null()) };
                }
                CoroutineResult::Return(()) => {
                    word.set(ptr::null_mut());
                    // SAFETY: nothing runs on the stack any more, and its home is
                    // not looked at again. A finished coroutine drops nothing.
                    let stack = unsafe { (&raw const (*home).stack).read() };
                    return Some(ManuallyDrop::into_inner(stack));
                }
            }
        }
        None
    }

    /// Its frames are not known.
    #[inline(always)]
    pub(in crate::hub) fn prefetch(&self) {}

    /// Goes back to who resumed it; returns when it is resumed again.
    ///
    /// # Safety
    ///
    /// The caller runs on it.
    #[inline]
    pub(in crate::hub) unsafe fn suspend(&self) {
        // SAFETY: the entry set it, and it is valid for as long as the coroutine
        // runs, which it does.
        unsafe { (*(*self.home.get()).yielder.get()).suspend(()) };
    }
    /// Suspends, and has its resumer resume `next`; returns when it is resumed
    /// again.
    ///
    /// # Safety
    ///
    /// The caller runs on it. `next` is another, was started and does not run.
    pub(in crate::hub) unsafe fn pass_to(&self, next: &Coroutine) {
        // SAFETY: the home is there as long as the coroutine runs, which it does.
        unsafe { (*self.home.get()).next.set(next) };
        // SAFETY: the caller's promise.
        unsafe { self.suspend() };
    }
}
