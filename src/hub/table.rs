//! The thread table: control blocks at stable addresses.
//!
//! Blocks are found by index and never move, because a running coroutine holds
//! an exclusive borrow inside its block while `spawn` grows the table. So the
//! table is a fixed row of chunks, each twice as large as the one before and
//! made when it is first needed; finding a block is one `lzcnt` and two loads.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;

use super::green_thread::GreenThread;
use super::state::{ROOT, State};
use crate::backend::Key;

/// Blocks in the first chunk.
const FIRST_CHUNK: usize = 64;
/// Chunks enough for every index that a key can carry.
const CHUNKS: usize = (Key::MOST_INDICES / FIRST_CHUNK).ilog2() as usize;

/// The control blocks of one hub.
pub(super) struct Table {
    chunks: [OnceCell<Box<[GreenThread]>>; CHUNKS],
    /// Indices that were in use and are free again, the last one on top: its
    /// block is warm.
    free: RefCell<Vec<u32>>,
    /// Indices below this one were in use at some time.
    used: Cell<u32>,
}

impl Table {
    /// A table with the root's block in use.
    pub(super) fn new() -> io::Result<Table> {
        let table = Table {
            chunks: [const { OnceCell::new() }; CHUNKS],
            free: RefCell::new(Vec::new()),
            used: Cell::new(0),
        };
        let root = table.take()?;
        debug_assert_eq!(root, ROOT);
        table.get(ROOT).slot.state.set(State::Running);
        Ok(table)
    }

    /// The block with this index, which was taken at some time.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &GreenThread {
        let (chunk, offset) = place(index);
        &self.chunks[chunk].get().expect("an index that was taken")[offset]
    }

    /// Takes a free block.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, also when no index is left.
    pub(super) fn take(&self) -> io::Result<u32> {
        if let Some(index) = self.free.borrow_mut().pop() {
            return Ok(index);
        }
        let index = self.used.get();
        let (chunk, _) = place(index);
        let blocks = self.chunks.get(chunk).ok_or_else(|| {
            let text = "the hub has no index left for another green thread";
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        })?;
        if blocks.get().is_none() {
            let length = FIRST_CHUNK << chunk;
            let mut made = Vec::new();
            made.try_reserve_exact(length)?;
            made.resize_with(length, GreenThread::free);
            // Room for all indices, so that giving back does not allocate.
            self.free
                .borrow_mut()
                .try_reserve(index as usize + length)?;
            let is_first = blocks.set(made.into_boxed_slice()).is_ok();
            debug_assert!(is_first);
        }
        self.used.set(index + 1);
        Ok(index)
    }

    /// Gives a block back.
    pub(super) fn give_back(&self, index: u32) {
        let block = self.get(index);
        block.slot.state.set(State::Free);
        block.record.set(None);
        self.free.borrow_mut().push(index);
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
        let first = table.take().unwrap();
        let address: *const GreenThread = table.get(first);
        let more: Vec<u32> = (0..1000).map(|_| table.take().unwrap()).collect();
        assert!(std::ptr::eq(address, table.get(first)));
        table.give_back(more[3]);
        table.give_back(more[7]);
        assert_eq!(table.take().unwrap(), more[7]);
        assert_eq!(table.take().unwrap(), more[3]);
        assert_eq!(table.used(), 1002);
    }
}
