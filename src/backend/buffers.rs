//! Buffers that the kernel chooses from: one ring of them per hub.
//!
//! A receive that goes on (multishot) names the group instead of a buffer of
//! its own. When there is data the kernel takes the next buffer off the ring,
//! fills it and hands it over with a completion; from then on it is ours, until
//! [`LentBuffer`] gives it back. So connections that are idle hold no memory.
//!
//! # How many
//!
//! The kernel takes buffers in the order in which they were given back, so it
//! walks through all of them; more than the processor's cache holds make every
//! message dearer. The ring therefore begins with a few and gets more only when
//! it has run out of them while there is little in them, up to a limit. A source
//! that finds none lets those run who have some, and if that does not help
//! receives into memory of its own: nobody waits for a buffer to come back.
//!
//! # Who owns what
//!
//! The memory belongs to the ring's backend and to everybody who has a buffer,
//! by counts: a buffer that is held beyond the end of its hub stays readable,
//! and giving it back is then a write that nobody looks at.

#![allow(unsafe_code)] // Maps the memory; shares it with the kernel.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// The group's number: a hub has one.
pub(super) const GROUP: u16 = 0;

/// Bytes of one buffer: what bounds a single receive. Bulk data is dearer by
/// smaller ones (64 KiB at a time by a quarter with 16 KiB); of a message that
/// is small only the pages that it fills are ever touched.
const BUFFER_SIZE: usize = 64 << 10;

/// Buffers that a ring begins with, and by which it grows.
const STEP: u16 = 16;

/// Received bytes that wait to be consumed, from which on there are no more
/// buffers: half of what a processor's cache holds. Data that is sent on should
/// not have left it.
const MOST_HELD: usize = 512 << 10;

/// Buffers whose memory an idle hub keeps.
const KEPT: u16 = 64;

/// No buffer.
const NONE: u16 = u16::MAX;

/// Private memory that is unmapped when it is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

impl Mapping {
    fn new(length: usize) -> io::Result<Mapping> {
        let length = NonZeroUsize::new(length).expect("rings and buffers have a size");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let start = unsafe { mmap_anonymous(None, length, protection, flags)? }.cast();
        Ok(Mapping { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever could look at it is gone with
        // the last count of `Buffers`. The kernel has its own hold on the
        // ring's pages, and fills no buffer of a ring that is closed.
        let unmapped = unsafe { munmap(self.start.cast(), self.length.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

/// What is known of a buffer that is filled and waits to be taken.
#[derive(Clone, Debug)]
struct Link {
    /// The one behind it in its queue.
    next: Cell<u16>,
    /// Bytes in it.
    length: Cell<u32>,
}

/// The buffers of one hub.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// The ring that is shared with the kernel: entries, a power of two of them,
    /// with the ring's tail inside the first.
    ring: Mapping,
    entries: u16,
    memory: Mapping,
    /// By buffer.
    links: Box<[Link]>,
    /// Buffers in circulation: those below this number.
    provided: Cell<u16>,
    /// Buffers in the kernel's hands.
    available: Cell<u16>,
    /// Bytes in the others.
    held: Cell<usize>,
    /// Buffers beyond those that an idle hub keeps were received into.
    has_excess: Cell<bool>,
    tail: Cell<u16>,
}

impl Buffers {
    /// Makes room for `most` buffers and puts the first of them into the ring.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(super) fn new(most: u16) -> io::Result<Rc<Buffers>> {
        let entries = most.next_power_of_two();
        let link = Link {
            next: Cell::new(NONE),
            length: Cell::new(0),
        };
        let buffers = Buffers {
            ring: Mapping::new(usize::from(entries) * size_of::<BufRingEntry>())?,
            entries,
            memory: Mapping::new(usize::from(most) * BUFFER_SIZE)?,
            links: vec![link; usize::from(most)].into(),
            provided: Cell::new(0),
            available: Cell::new(0),
            held: Cell::new(0),
            has_excess: Cell::new(false),
            tail: Cell::new(0),
        };
        // Huge pages would make a few messages megabytes.
        // SAFETY: advice on a mapping of ours; a kernel without huge pages
        // refuses it, to no harm.
        let _ = unsafe {
            madvise(
                buffers.memory.start.cast(),
                buffers.memory.length.get(),
                MmapAdvise::MADV_NOHUGEPAGE,
            )
        };
        buffers.grow();
        Ok(Rc::new(buffers))
    }

    /// What the kernel is told about the ring: its address and its entries.
    pub(super) fn parts(&self) -> (u64, u16) {
        (self.ring.start.as_ptr() as u64, self.entries)
    }

    /// Puts more buffers into circulation; false if there are no more, or if those
    /// that are held have much in them.
    pub(crate) fn grow(&self) -> bool {
        if self.held.get() >= MOST_HELD {
            return false;
        }
        let from = self.provided.get();
        let to = (self.links.len() as u16).min(from.saturating_add(STEP));
        self.provided.set(to);
        (from..to).for_each(|buffer| self.give_back(buffer));
        from < to
    }

    /// Buffers that the kernel has to fill.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        self.available.get().into()
    }

    /// Buffers in circulation.
    pub(super) fn provided(&self) -> usize {
        self.provided.get().into()
    }

    /// Whether [`trim`](Buffers::trim) would do something: nobody has a buffer, and
    /// there is memory in more of them than an idle hub keeps.
    pub(super) fn has_excess(&self) -> bool {
        self.has_excess.get() && self.available.get() == self.provided.get()
    }

    /// Returns that memory to the kernel. The buffers stay in the ring.
    pub(super) fn trim(&self) {
        if !self.has_excess() {
            return;
        }
        self.has_excess.set(false);
        let count = usize::from(self.provided.get() - KEPT);
        // SAFETY: nobody has one of these buffers, and what the kernel receives
        // into them it writes to fresh pages.
        let returned = unsafe {
            madvise(
                self.start(KEPT).cast(),
                count * BUFFER_SIZE,
                MmapAdvise::MADV_DONTNEED,
            )
        };
        debug_assert!(returned.is_ok());
    }

    /// Notes that the kernel has handed a buffer over.
    #[inline]
    pub(super) fn note_taken(&self) {
        self.available.set(self.available.get() - 1);
    }

    /// Gives a buffer to the kernel. The caller has been given it, or has never
    /// given it out, and forgets it.
    #[inline]
    fn give_back(&self, buffer: u16) {
        debug_assert!(buffer < self.provided.get());
        let tail = self.tail.get();
        let ring = self.ring.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: within the ring, whose entries from the tail on are ours until
        // the tail has passed them: there are no more buffers than entries.
        // Only the fields of the buffer are written, not the tail that lies in
        // the first entry's padding.
        let entry = unsafe { &mut *ring.add(usize::from(tail & (self.entries - 1))) };
        entry.set_addr(self.start(buffer).as_ptr() as u64);
        entry.set_len(BUFFER_SIZE as u32);
        entry.set_bid(buffer);
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the address of the ring's first entry, which is initialised.
        let shared = unsafe { BufRingEntry::tail(ring) };
        // SAFETY: aligned, in our mapping, and written by nobody else.
        let shared = unsafe { AtomicU16::from_ptr(shared.cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
        self.available.set(self.available.get() + 1);
        let length = self.links[usize::from(buffer)].length.replace(0);
        self.held.set(self.held.get() - length as usize);
    }

    #[inline]
    fn start(&self, buffer: u16) -> NonNull<u8> {
        // SAFETY: there are that many buffers in the mapping.
        unsafe { self.memory.start.add(usize::from(buffer) * BUFFER_SIZE) }
    }
}

/// A filled buffer, lent by the kernel until it is dropped.
///
/// Of one that is dropped in a forked child the parent's kernel side hears
/// nothing: the child writes to its own copy of the ring.
#[derive(Debug)]
pub(crate) struct LentBuffer {
    buffers: Rc<Buffers>,
    /// What is left of the bytes in it.
    start: NonNull<u8>,
    length: u32,
    buffer: u16,
}

impl LentBuffer {
    /// Forgets the first bytes.
    #[inline]
    pub(crate) fn advance(&mut self, amount: usize) {
        assert!(amount <= self.length as usize);
        // SAFETY: not beyond the end of what is in the buffer.
        self.start = unsafe { self.start.add(amount) };
        self.length -= amount as u32;
    }
}

impl Deref for LentBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer was handed over by the kernel, which leaves it
        // alone until it is given back, and has so many bytes in it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length as usize) }
    }
}

impl Drop for LentBuffer {
    #[inline]
    fn drop(&mut self) {
        self.buffers.give_back(self.buffer);
    }
}

/// Buffers that one source has received and nobody has taken yet, in order.
/// They are linked by the buffers' own records, so nothing is allocated.
#[derive(Debug)]
pub(crate) struct Filled {
    buffers: Rc<Buffers>,
    first: Cell<u16>,
    last: Cell<u16>,
    count: Cell<u16>,
    bytes: Cell<usize>,
}

impl Filled {
    pub(crate) fn new(buffers: Rc<Buffers>) -> Filled {
        Filled {
            buffers,
            first: Cell::new(NONE),
            last: Cell::new(NONE),
            count: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count.get().into()
    }

    /// Bytes in them.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Puts a buffer at the end, which the kernel has handed over with `length`
    /// bytes in it. One without any is given back at once.
    #[inline]
    pub(crate) fn push(&self, buffer: u16, length: usize) {
        if length == 0 {
            return self.buffers.give_back(buffer);
        }
        debug_assert!(length <= BUFFER_SIZE);
        if buffer >= KEPT {
            self.buffers.has_excess.set(true);
        }
        let link = &self.buffers.links[usize::from(buffer)];
        link.next.set(NONE);
        link.length.set(length as u32);
        self.buffers.held.set(self.buffers.held.get() + length);
        self.bytes.set(self.bytes.get() + length);
        match self.last.replace(buffer) {
            NONE => self.first.set(buffer),
            last => self.buffers.links[usize::from(last)].next.set(buffer),
        }
        self.count.set(self.count.get() + 1);
    }

    /// Takes the first one.
    #[inline]
    pub(crate) fn pop(&self) -> Option<LentBuffer> {
        let buffer = self.first.get();
        if buffer == NONE {
            return None;
        }
        let link = &self.buffers.links[usize::from(buffer)];
        self.first.set(link.next.get());
        if link.next.get() == NONE {
            self.last.set(NONE);
        }
        let length = link.length.get();
        self.count.set(self.count.get() - 1);
        self.bytes.set(self.bytes.get() - length as usize);
        Some(LentBuffer {
            start: self.buffers.start(buffer),
            buffers: Rc::clone(&self.buffers),
            length,
            buffer,
        })
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does with a buffer: takes it off the ring, fills it.
    fn receive(buffers: &Buffers, filled: &Filled, buffer: u16, bytes: &[u8]) {
        buffers.note_taken();
        // SAFETY: the buffer is as long, and nobody has it.
        unsafe { std::ptr::copy(bytes.as_ptr(), buffers.start(buffer).as_ptr(), bytes.len()) };
        filled.push(buffer, bytes.len());
    }

    #[test]
    fn filled_buffers_come_out_in_order_and_go_back_when_dropped() {
        let buffers = Buffers::new(100).unwrap();
        assert_eq!((buffers.available(), buffers.provided()), (16, 16));
        let (one, other) = (
            Filled::new(Rc::clone(&buffers)),
            Filled::new(Rc::clone(&buffers)),
        );
        receive(&buffers, &one, 5, b"first");
        receive(&buffers, &other, 0, b"other");
        receive(&buffers, &one, 3, b"second");
        assert_eq!(buffers.available(), 13);
        assert_eq!((one.count(), other.count()), (2, 1));

        let first = one.pop().unwrap();
        assert_eq!(&*first, b"first");
        assert_eq!(&*one.pop().unwrap(), b"second");
        assert!(one.pop().is_none());
        assert_eq!(buffers.available(), 14);
        drop(first);
        drop(other);
        assert_eq!((buffers.available(), buffers.held.get()), (16, 0));
    }

    #[test]
    fn an_empty_buffer_is_given_back_at_once() {
        let buffers = Buffers::new(1).unwrap();
        let filled = Filled::new(Rc::clone(&buffers));
        receive(&buffers, &filled, 0, b"");
        assert!(filled.pop().is_none());
        assert_eq!(buffers.available(), 1);
    }

    #[test]
    fn the_ring_grows_up_to_its_limit() {
        let buffers = Buffers::new(30).unwrap();
        let filled = Filled::new(Rc::clone(&buffers));
        (0..8).for_each(|buffer| receive(&buffers, &filled, buffer, &[1; BUFFER_SIZE]));
        assert!(!buffers.grow(), "those that are held have much in them");
        drop(filled);
        assert!(buffers.grow());
        assert_eq!((buffers.available(), buffers.provided()), (30, 30));
        assert!(!buffers.grow());
        let small = Buffers::new(3).unwrap();
        assert_eq!(small.available(), 3);
        assert_eq!(small.parts().1, 4);
        assert!(!small.grow());
    }

    #[test]
    fn memory_beyond_what_is_kept_goes_back_when_nobody_has_a_buffer() {
        let buffers = Buffers::new(100).unwrap();
        while buffers.grow() {}
        let filled = Filled::new(Rc::clone(&buffers));
        receive(&buffers, &filled, KEPT - 1, b"kept");
        assert!(!buffers.has_excess());
        receive(&buffers, &filled, KEPT, b"gone");
        assert!(!buffers.has_excess(), "it is held");
        drop(filled);
        assert!(buffers.has_excess());
        buffers.trim();
        assert!(!buffers.has_excess());
        let filled = Filled::new(Rc::clone(&buffers));
        for (buffer, bytes) in [(KEPT - 1, *b"kept"), (KEPT, [0; 4])] {
            buffers.note_taken();
            filled.push(buffer, 4);
            assert_eq!(*filled.pop().unwrap(), bytes);
        }
    }

    #[test]
    fn a_buffer_stays_readable_when_all_else_is_gone() {
        let buffers = Buffers::new(2).unwrap();
        let filled = Filled::new(Rc::clone(&buffers));
        receive(&buffers, &filled, 1, b"late");
        let mut late = filled.pop().unwrap();
        drop((filled, buffers));
        assert_eq!(&*late, b"late");
        late.advance(3);
        assert_eq!(&*late, b"e");
    }
}
