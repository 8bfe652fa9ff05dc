//! Notices that the process was forked.
//!
//! In a child the hub's ring and epoll set are still the parent's: the ring
//! would take the child's entries as the parent's, and epoll_ctl(2) would edit
//! the parent's set. A page that the kernel wipes in children
//! (MADV_WIPEONFORK, Linux 4.14) tells the two apart by one load.

#![allow(unsafe_code)] // Maps the page and reads it.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};

use super::{Hub, say};

const PARENT: u32 = 1;

/// The process-wide word; 0 in a child of the process that made it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForkWord(&'static AtomicU32);

impl ForkWord {
    /// The word of this process, mapped at the first call.
    ///
    /// # Errors
    ///
    /// No memory for a page.
    pub(super) fn get() -> io::Result<ForkWord> {
        static WORD: Mutex<Option<ForkWord>> = Mutex::new(None);
        let mut word = WORD.lock().unwrap_or_else(PoisonError::into_inner);
        // A child that starts a hub of its own maps a page of its own.
        if let Some(word) = *word
            && !word.is_forked_child()
        {
            return Ok(word);
        }
        let new = ForkWord::map()?;
        *word = Some(new);
        Ok(new)
    }

    fn map() -> io::Result<ForkWord> {
        let length = NonZeroUsize::new(4096).expect("4096 is not 0");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let page: NonNull<AtomicU32> =
            unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE)? }.cast();
        // SAFETY: the mapping is ours, as long as given, and holds no object yet.
        unsafe { madvise(page.cast(), length.get(), MmapAdvise::MADV_WIPEONFORK)? };
        // SAFETY: zeroed, aligned, and never unmapped.
        let word = unsafe { page.as_ref() };
        word.store(PARENT, Ordering::Relaxed);
        Ok(ForkWord(word))
    }

    /// Whether the caller runs in a child of the process that made the word.
    #[inline]
    pub(super) fn is_forked_child(self) -> bool {
        self.0.load(Ordering::Relaxed) != PARENT
    }
}

/// What a forked child is told.
macro_rules! forked_child {
    () => {
        "greenring cannot be used in a forked child: the hub's kernel side belongs to the parent; \
         start programs with std::process::Command instead"
    };
}

impl Hub {
    #[inline]
    pub(super) fn is_forked_child(&self) -> bool {
        self.fork_word.is_forked_child()
    }

    /// Ends a forked child that has come back to the loop, before it touches
    /// the kernel's side: nobody is there to be told by a panic.
    #[inline]
    pub(super) fn end_forked_child(&self) {
        if self.is_forked_child() {
            say(concat!("greenring: fatal: ", forked_child!()));
            std::process::abort();
        }
    }

    /// Refuses to touch the kernel's side in a forked child.
    #[inline]
    pub(super) fn check_process(&self) {
        if self.is_forked_child() {
            refuse_forked_child();
        }
    }
}

#[cold]
#[inline(never)]
fn refuse_forked_child() -> ! {
    panic!(forked_child!());
}
