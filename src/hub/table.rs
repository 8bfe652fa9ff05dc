//! The thread table: control blocks at stable addresses.
//!
//! Blocks are found by index and never move, because a running coroutine holds
//! an exclusive borrow inside its block while `spawn` grows the table. So the
//! table is a fixed row of chunks, each twice as large as the one before and
//! made when it is first needed.
//!
//! 1. The blocks below `used` are initialised, and those above are memory that
//!    nothing has touched: half of the last chunk may never be needed, and costs
//!    address space only.
//! 2. When a crowd has gone, [`Table::shrink`] frees the last chunks, which makes
//!    `used` less. A block that is made in the place of one that was freed goes on
//!    where that one's waits ended, so that whoever names an old wait, or an old
//!    operation, names none.

#![allow(unsafe_code)] // Finds blocks without asking twice whether they are there.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use super::green_thread::GreenThread;
use super::state::{ROOT, State};
use crate::backend::Key;

/// Blocks in the first chunk.
const FIRST_CHUNK: usize = 64;
/// Chunks enough for every index that a key can carry.
const CHUNKS: usize = (Key::MOST_INDICES / FIRST_CHUNK).ilog2() as usize;

/// The control blocks of one hub.
pub(super) struct Table {
    /// The first block of each chunk, null while it was not made.
    chunks: [Cell<*mut GreenThread>; CHUNKS],
    /// Indices that were in use and are free again, the last one on top: its
    /// block is warm.
    free: RefCell<Vec<u32>>,
    /// Indices below this one were in use since the table last shrank.
    used: Cell<u32>,
    /// Blocks given back since it was last tried to shrink.
    given_back: Cell<u32>,
    /// No wait of a block that was freed has a higher number.
    last_wait: Cell<u64>,
}

impl Table {
    /// A table with the root's block in use.
    pub(super) fn new() -> io::Result<Table> {
        let table = Table {
            chunks: [const { Cell::new(ptr::null_mut()) }; CHUNKS],
            free: RefCell::new(Vec::new()),
            used: Cell::new(0),
            given_back: Cell::new(0),
            last_wait: Cell::new(0),
        };
        let root = table.take_new()?;
        debug_assert_eq!(root, ROOT);
        table.get(ROOT).slot.state.set(State::Running);
        Ok(table)
    }

    /// The block with this index, which was taken at some time.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &GreenThread {
        assert!(index < self.used.get(), "an index that was taken");
        let (chunk, offset) = place(index);
        // SAFETY: every index below `used` has a place in a chunk that was made,
        // and its block is initialised (invariant 1). Blocks are shared from
        // then on, and freed with the table only.
        unsafe { &*self.chunks.get_unchecked(chunk).get().add(offset) }
    }

    /// The block with this index, which was taken at some time, unless it was freed
    /// since: for those who name what may be long over.
    #[inline]
    pub(super) fn find(&self, index: u32) -> Option<&GreenThread> {
        (index < self.used.get()).then(|| self.get(index))
    }

    /// Takes a free block that was in use before.
    #[inline]
    pub(super) fn take(&self) -> Option<u32> {
        self.free.borrow_mut().pop()
    }

    /// Takes a block that was never in use.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, also when no index is left.
    pub(super) fn take_new(&self) -> io::Result<u32> {
        let index = self.used.get();
        let (chunk, offset) = place(index);
        let first = self.chunks.get(chunk).ok_or_else(|| {
            let text = "the hub has no index left for another green thread";
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        })?;
        if first.get().is_null() {
            let length = FIRST_CHUNK << chunk;
            let mut made: Vec<MaybeUninit<GreenThread>> = Vec::new();
            made.try_reserve_exact(length)?;
            // SAFETY: the room is there, and its elements need no value.
            unsafe { made.set_len(length) };
            // Room for all indices, so that giving back does not allocate.
            self.free
                .borrow_mut()
                .try_reserve(index as usize + length)?;
            let made = Box::into_raw(made.into_boxed_slice());
            first.set(made.cast::<GreenThread>());
        }
        // SAFETY: the place lies in the chunk, and nothing refers to it yet.
        unsafe { first.get().add(offset).write(GreenThread::free()) };
        self.used.set(index + 1);
        self.get(index).slot.wait.set(self.last_wait.get());
        Ok(index)
    }

    /// Gives a block back.
    pub(super) fn give_back(&self, index: u32) {
        let block = self.get(index);
        block.slot.state.set(State::Free);
        block.record.set(None);
        self.free.borrow_mut().push(index);
        self.given_back.set(self.given_back.get().saturating_add(1));
    }

    /// Frees the last chunks if no block of theirs is in use, but never the first.
    ///
    /// It looks when half as many blocks as there are were given back since the
    /// last time, so it may be called often; false if it does not look.
    ///
    /// # Safety
    ///
    /// Nobody uses a reference to a block that is not in use.
    pub(super) unsafe fn shrink(&self) -> bool {
        let used = self.used.get();
        if self.given_back.get() < used / 2 {
            return false;
        }
        self.given_back.set(0);
        let mut left = used;
        loop {
            let (chunk, _) = place(left - 1);
            let first = ((FIRST_CHUNK << chunk) - FIRST_CHUNK) as u32;
            let blocks = || (first..left).rev().map(|index| &self.get(index).slot);
            if chunk == 0 || blocks().any(|slot| slot.state.get() != State::Free) {
                break;
            }
            let last_wait = blocks().map(|slot| slot.wait.get()).max();
            self.last_wait
                .set(self.last_wait.get().max(last_wait.unwrap_or(0)));
            left = first;
            self.used.set(left);
            // SAFETY: made by `take_new`; nobody refers to its blocks (the
            // caller's promise), and from here on no index leads there.
            unsafe { free_chunk(chunk, self.chunks[chunk].replace(ptr::null_mut())) };
        }
        if left < used {
            let mut free = self.free.borrow_mut();
            free.retain(|index| *index < left);
            // As much room as `take_new` has made for the chunks that are left.
            free.shrink_to(left as usize);
        }
        true
    }

    /// How many indices were ever in use: room that the hub's other tables,
    /// which are addressed by index, must have.
    pub(super) fn used(&self) -> usize {
        self.used.get() as usize
    }

    /// The green threads that have not ended, without the root.
    pub(super) fn alive(&self) -> impl Iterator<Item = (u32, &GreenThread)> {
        (ROOT + 1..self.used.get())
            .map(|index| (index, self.get(index)))
            .filter(|(_, block)| block.slot.state.get() != State::Free)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Blocks own nothing that is to be dropped: see `GreenThread`.
        const { assert!(!std::mem::needs_drop::<GreenThread>()) };
        for (chunk, first) in self.chunks.iter().enumerate() {
            // SAFETY: made by `take_new`, or null.
            unsafe { free_chunk(chunk, first.get()) };
        }
    }
}

/// # Safety
///
/// Made by [`Table::take_new`], or null, and nothing refers to it.
unsafe fn free_chunk(chunk: usize, first: *mut GreenThread) {
    if let Some(blocks) = NonNull::new(first.cast::<MaybeUninit<GreenThread>>()) {
        let blocks = NonNull::slice_from_raw_parts(blocks, FIRST_CHUNK << chunk);
        // SAFETY: made as a box of this length.
        drop(unsafe { Box::from_raw(blocks.as_ptr()) });
    }
}

#[inline]
fn place(index: u32) -> (usize, usize) {
    let position = index as usize + FIRST_CHUNK;
    let chunk = (position.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    (chunk, position - (FIRST_CHUNK << chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            assert_eq!(place(index), expected);
            expected.1 += 1;
            if expected.1 == FIRST_CHUNK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        let (chunk, _) = place(Key::MOST_INDICES as u32 - FIRST_CHUNK as u32 - 1);
        assert_eq!(chunk, CHUNKS - 1);
    }

    #[test]
    fn blocks_do_not_move_and_are_reused_last_first() {
        let table = Table::new().unwrap();
        let first = table.take_new().unwrap();
        let address: *const GreenThread = table.get(first);
        let more: Vec<u32> = (0..1000).map(|_| table.take_new().unwrap()).collect();
        assert!(std::ptr::eq(address, table.get(first)));
        table.give_back(more[3]);
        table.give_back(more[7]);
        assert_eq!(table.take().unwrap(), more[7]);
        assert_eq!(table.take().unwrap(), more[3]);
        assert_eq!(table.used(), 1002);
    }

    #[test]
    fn a_table_shrinks_to_what_is_in_use_and_numbers_no_wait_twice() {
        let table = Table::new().unwrap();
        let indices: Vec<u32> = (0..1000).map(|_| table.take_new().unwrap()).collect();
        for &index in &indices {
            let slot = &table.get(index).slot;
            slot.state.set(State::Ready);
            slot.wait.set(u64::from(index));
        }
        let kept = indices[300];
        for &index in indices.iter().filter(|&&index| index != kept) {
            table.give_back(index);
        }
        // SAFETY: no reference is kept.
        assert!(unsafe { table.shrink() });
        // Chunks of 64, 128 and 256 are left.
        assert_eq!(table.used(), 448);
        assert!(table.find(448).is_none() && table.find(447).is_some());
        assert_eq!(table.alive().count(), 1);

        let mut taken: Vec<u32> = std::iter::from_fn(|| table.take()).collect();
        taken.sort_unstable();
        let expected: Vec<u32> = (1..448).filter(|&index| index != kept).collect();
        assert_eq!(taken, expected);
        assert_eq!(table.take_new().unwrap(), 448);
        assert_eq!(table.get(448).slot.wait.get(), 1000);

        // Too few were given back to look again.
        table.give_back(448);
        // SAFETY: as above.
        assert!(!unsafe { table.shrink() });
        assert_eq!(table.used(), 449);
    }
}
