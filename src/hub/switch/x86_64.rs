//! The switch for x86-64: one exchange of stack pointers, in both directions.
//!
//! The coroutine's word holds the stack pointer of the side that does not run:
//! the coroutine's while it is suspended, its resumer's while it runs. To switch
//! is to push where to go on, to exchange the stack pointer for the word, and to
//! jump to where the other side goes on.
//!
//! It jumps, and does not call and return: the processor predicts a return to
//! come back from the latest call, which is another side's after a switch, and
//! each wrong guess costs some 25 ns. So the instructions stand inline in
//! `resume` and `suspend`; a `call` to them would bring one return too many.
//! Shadow stacks (CET) forbid what this does; no Rust program has them.
//!
//! The compiler is told that an exchange destroys every register that it can be
//! told of, so it saves those it needs, and no others. Two are left: `rbx`,
//! which it keeps for itself, and the frame pointer `rbp`. The direction flag is
//! clear on either side, as at every call.
//!
//! # A stack
//!
//! ```text
//! base ->  +------------------------+  16-byte aligned
//!          | Start: stack, body, .. |  laid down by `start`
//!          +------------------------+
//!          | main::<F>              |  taken off by `enter`
//!          | enter                  |  <- the word, before the first resume
//!          +------------------------+
//!          | frames of the body     |
//!          +------------------------+
//!          | rbp, rbx               |
//!          | where to go on         |  <- the word, while it is suspended
//!          +------------------------+
//! ```

#![allow(unsafe_code)] // Exchanges stack pointers.

use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::mem::{ManuallyDrop, offset_of};
use std::ptr;

use super::super::stack::Stack;

/// Larger bodies are to be boxed. A body is on its stack twice, and the smallest
/// stack has some ten KiB.
pub(in crate::hub) const LARGEST_BODY: usize = 1024;

/// Of a stack pointer at a call.
const ALIGNMENT: usize = 16;

const CACHE_LINE: usize = 64;

/// Lines that a green thread which waits a few frames deep looks at first.
const PREFETCHED_LINES: usize = 4;

/// Has a line of memory brought into the cache.
#[inline(always)]
pub(in crate::hub) fn prefetch(address: usize) {
    // SAFETY: a hint; no address is wrong.
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
}

/// A body on a stack of its own; the contract is that of the module.
#[derive(Debug, Default)]
pub(in crate::hub) struct Coroutine {
    /// The stack pointer of the side that does not run; null without a body.
    other: Cell<usize>,
}

/// What lies at the top of a stack.
struct Start<F> {
    coroutine: *const Coroutine,
    stack: ManuallyDrop<Stack>,
    body: ManuallyDrop<F>,
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
        debug_assert_eq!(self.other.get(), 0);
        let alignment = align_of::<Start<F>>().max(ALIGNMENT);
        let place = (stack.base() - size_of::<Start<F>>()) & !(alignment - 1);
        let start = ptr::with_exposed_provenance_mut::<Start<F>>(place);
        let [enter, main] = [place - 2 * size_of::<usize>(), place - size_of::<usize>()];
        // SAFETY: the stack is ours, so nobody refers to its memory, and has room
        // for far more; the places do not overlap and are aligned.
        unsafe {
            start.write(Start {
                coroutine: self,
                stack: ManuallyDrop::new(stack),
                body: ManuallyDrop::new(body),
            });
            ptr::with_exposed_provenance_mut::<usize>(main).write(main_of::<F>());
            ptr::with_exposed_provenance_mut::<usize>(enter).write(enter_address());
        }
        self.other.set(enter);
    }

    /// Runs it, and those it passes to, until one suspends (`None`) or ends.
    ///
    /// # Safety
    ///
    /// It was started and does not run.
    #[inline(always)]
    pub(in crate::hub) unsafe fn resume(&self) -> Option<Stack> {
        debug_assert_ne!(self.other.get(), 0);
        // SAFETY: the word holds what `start` or the coroutine's own exchange has
        // left there.
        let stack = unsafe { exchange(self.other.as_ptr(), ptr::null_mut()) };
        // SAFETY: `leave` sends the place of a stack that nothing runs on any more,
        // and which is not read again.
        (!stack.is_null()).then(|| unsafe { stack.read() })
    }

    /// Has the frames that it goes on with brought into the cache.
    #[inline(always)]
    pub(in crate::hub) fn prefetch(&self) {
        for line in 0..PREFETCHED_LINES {
            prefetch(self.other.get().wrapping_add(line * CACHE_LINE));
        }
    }

    /// Goes back to who resumed it; returns when it is resumed again.
    ///
    /// # Safety
    ///
    /// The caller runs on it.
    #[inline(always)]
    pub(in crate::hub) unsafe fn suspend(&self) {
        // SAFETY: the coroutine runs, so the word holds its resumer's pointer.
        unsafe { exchange(self.other.as_ptr(), ptr::null_mut()) };
    }

    /// Suspends, and runs `next` in its place; returns when it is resumed again.
    ///
    /// # Safety
    ///
    /// The caller runs on it. `next` is another, was started and does not run.
    #[inline(always)]
    pub(in crate::hub) unsafe fn pass_to(&self, next: &Coroutine) {
        // SAFETY: as for `exchange`; the resumer's stack pointer goes from this
        // one's word to the next one's.
        unsafe {
            asm!(
                "push rbp",
                "push rbx",
                "lea rax, [rip + 2f]",
                "push rax",
                "mov rax, [rdi]",
                "mov rcx, [rsi]",
                "mov [rdi], rsp",
                "mov [rsi], rax",
                "mov rsp, rcx",
                "pop rax",
                "jmp rax",
                "2:",
                "pop rbx",
                "pop rbp",
                inlateout("rdi") self.other.as_ptr() => _,
                inlateout("rsi") next.other.as_ptr() => _,
                lateout("r12") _,
                lateout("r13") _,
                lateout("r14") _,
                lateout("r15") _,
                clobber_abi("sysv64"),
            );
        }
    }
}

/// Exchanges the stack pointer for the one in `word` and goes on there. Comes
/// back when somebody exchanges it again, with what that one had to say.
///
/// # Safety
///
/// `word` holds what an exchange has stored or `start` has laid down, and nothing
/// has run on that stack since.
#[inline(always)]
unsafe fn exchange(word: *mut usize, message: *mut Stack) -> *mut Stack {
    let answer;
    // SAFETY: the other side finds its frame as it has left it. This one's is not
    // touched meanwhile, but by those who hold references into it; what its
    // registers held is declared lost, or is pushed.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov rax, [rdi]",
            "mov [rdi], rsp",
            "mov rsp, rax",
            "pop rax",
            "jmp rax",
            "2:",
            "pop rbx",
            "pop rbp",
            inlateout("rdi") word => _,
            inlateout("rsi") message => answer,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    answer
}

/// The last exchange: leaves the stack for good, and nothing in the word.
///
/// # Safety
///
/// As [`exchange`]; nothing on this stack is wanted any more but what `stack`
/// points to.
unsafe fn leave(word: *mut usize, stack: *mut Stack) -> ! {
    // SAFETY: the resumer finds its frame as it has left it.
    unsafe {
        asm!(
            "mov rsp, [rdi]",
            "mov qword ptr [rdi], 0",
            "pop rax",
            "jmp rax",
            in("rdi") word,
            in("rsi") stack,
            options(noreturn),
        );
    }
}

/// The bottom of every stack: calls what lies there with what lies above it.
///
/// Here an unwinder is told that there is no caller, and who follows frame
/// pointers finds a null one.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "pop rax",
        "mov rdi, rsp",
        "xor ebp, ebp",
        "call rax",
        "ud2",
        ".cfi_endproc",
    )
}

fn enter_address() -> usize {
    (enter as unsafe extern "sysv64" fn() -> !) as usize
}

fn main_of<F: FnOnce()>() -> usize {
    (main::<F> as unsafe extern "sysv64" fn(*mut Start<F>) -> !) as usize
}

/// What a coroutine runs.
///
/// # Safety
///
/// Called by [`enter`] only, once, with what `start` has laid down.
unsafe extern "sysv64" fn main<F: FnOnce()>(start: *mut Start<F>) -> ! {
    // SAFETY: `start` has initialised it, and it is read once.
    let body = unsafe { (&raw const (*start).body).read() };
    ManuallyDrop::into_inner(body)();
    // SAFETY: the coroutine stays at its address until it is left, and its word
    // holds the resumer's pointer. The stack is read from its place by the resumer.
    unsafe {
        let word = (*(*start).coroutine).other.as_ptr();
        let stack = start.byte_add(offset_of!(Start<F>, stack)).cast();
        leave(word, stack)
    }
}
