//! Address space for stacks, and the guard pages in it.
//!
//! An arena is one large reservation that costs nothing until it is touched.
//! Slots are carved from its start; what a slot is and how it is used is
//! `stack.rs`'s business.

// Maps, guards and unmaps memory.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};

/// `MADV_GUARD_INSTALL` of madvise(2), since Linux 6.13; not in libc 0.2.191.
const MADV_GUARD_INSTALL: i32 = 102;

/// How the guard page of a slot is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// By a mark in the page table (`MADV_GUARD_INSTALL`), which needs no mapping of its own.
    Install,
    /// By `mprotect(PROT_NONE)`, which splits the mapping in two.
    Protect,
}

impl Guard {
    /// The better kind that this kernel has; [`Guard::Protect`] when the other is not allowed.
    ///
    /// Tries it on a scratch page (some 10 microseconds, once in a process), and looks
    /// whether the page really became inaccessible, because an emulator may answer yes to advice that
    /// it does not know.
    pub fn detect(allow_install: bool) -> Guard {
        // A yes holds for the life of the process; a no may have been for want of a descriptor.
        static WORKS: AtomicBool = AtomicBool::new(false);
        if !allow_install {
            return Guard::Protect;
        }
        if WORKS.load(Ordering::Relaxed) {
            return Guard::Install;
        }
        let page = page_size();
        let Ok(scratch) = map(page) else {
            return Guard::Protect;
        };
        let installed = install_guard(scratch, page).is_ok() && inaccessible(scratch);
        unmap(scratch, page);
        if installed {
            WORKS.store(true, Ordering::Relaxed);
            Guard::Install
        } else {
            Guard::Protect
        }
    }
}

/// A reservation of address space.
#[derive(Debug)]
pub struct Arena {
    /// Start of the mapping.
    pub start: NonNull<c_void>,
    /// Length of the mapping.
    pub bytes: usize,
    /// Bytes that carved slots take up, from the start.
    pub used: usize,
}

// SAFETY: `Arena::start` is the only field that is not Send by itself. It names address space that
// belongs to the process and to no OS thread, and is used by the pool that owns the arena alone.
unsafe impl Send for Arena {}

impl Arena {
    #[inline]
    pub fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.addr().get()) < self.bytes
    }

    pub fn room(&self) -> usize {
        self.bytes - self.used
    }

    /// Where the next slot begins.
    pub fn next(&self) -> NonNull<c_void> {
        // SAFETY: `used` never exceeds `bytes`, so the result is within the mapping or one past it.
        unsafe { self.start.byte_add(self.used) }
    }
}

/// Address space that costs nothing until it is touched, in small pages: with huge pages the first
/// frame of a stack would commit 2 MiB.
pub fn map(bytes: usize) -> Result<NonNull<c_void>, Errno> {
    let length = NonZeroUsize::new(bytes).expect("a mapping has at least one page");
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_STACK;
    // SAFETY: a new mapping at an address of the kernel's choice, without MAP_FIXED, replaces nothing.
    let start = unsafe { mman::mmap_anonymous(None, length, access, flags) }?;
    // MAP_STACK alone says so since Linux 6.7. A kernel built without huge pages answers EINVAL and
    // has none to keep out, so the answer makes no difference.
    // SAFETY: the range is the mapping just made; the advice changes no contents.
    let _ = unsafe { mman::madvise(start, bytes, MmapAdvise::MADV_NOHUGEPAGE) };
    Ok(start)
}

/// Ends a mapping made by [`map`] in which nothing is used any more.
pub fn unmap(start: NonNull<c_void>, bytes: usize) {
    // SAFETY: the callers own the whole mapping: a scratch page, or the arenas of a pool that is being
    // dropped with no stack outstanding.
    let result = unsafe { mman::munmap(start, bytes) };
    assert!(result.is_ok(), "munmap of stacks: {result:?}");
}

pub fn install_guard(address: NonNull<c_void>, page: usize) -> Result<(), Errno> {
    // SAFETY: the callers pass a page of a mapping of their own that nothing refers to. Called through
    // libc because nix's list of advice ends before this one.
    let result = unsafe { libc::madvise(address.as_ptr(), page, MADV_GUARD_INSTALL) };
    Errno::result(result).map(drop)
}

/// Whether the byte at `address` is out of reach, asked of the kernel: writing it to a pipe is EFAULT.
/// (Not by a system call that takes a path: valgrind, to which a marked page looks accessible, reads
/// those itself.) Without a pipe the answer is no.
pub fn inaccessible(address: NonNull<c_void>) -> bool {
    let Ok((_reader, writer)) = io::pipe() else {
        return false;
    };
    // SAFETY: write(2) reads the byte in the kernel, which reports memory it cannot read as EFAULT.
    let result = unsafe { libc::write(writer.as_raw_fd(), address.as_ptr(), 1) };
    Errno::result(result) == Err(Errno::EFAULT)
}

/// Async-signal-safe, by POSIX's list of sysconf.
pub fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("Linux always knows its page size")
}

pub fn max_map_count() -> String {
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

/// An errno with what it was about.
pub fn with_context(errno: Errno, what: &str) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
