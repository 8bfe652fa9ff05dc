//! The thread table: control blocks at stable addresses, and what outlives
//! them.
//!
//! Blocks are found by index and never move, because a running coroutine holds
//! an exclusive borrow inside its block while `spawn` grows the table. So the
//! table is a fixed row of chunks, each twice as large as the one before and
//! made when it is first needed; finding a block is one `lzcnt` and two loads.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::num::NonZeroU64;
use std::panic::Location;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::green_thread::{GreenThread, State, Why};
use super::park::Unparker;
use crate::backend::Key;

/// Index of the hub's root: the OS thread's own stack.
pub(super) const ROOT: u32 = 0;

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
    pub(super) fn new() -> Table {
        let table = Table {
            chunks: [const { OnceCell::new() }; CHUNKS],
            free: RefCell::new(Vec::new()),
            used: Cell::new(0),
        };
        let root = table.take().expect("room for the root");
        debug_assert_eq!(root, ROOT);
        table.get(ROOT).slot.state.set(State::Running);
        table
    }

    /// The block with this index, which was taken at some time.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &GreenThread {
        let (chunk, offset) = place(index);
        &self.chunks[chunk].get().expect("an index that was taken")[offset]
    }

    /// Takes a free block; `None` when no index is left.
    pub(super) fn take(&self) -> Option<u32> {
        if let Some(index) = self.free.borrow_mut().pop() {
            return Some(index);
        }
        let index = self.used.get();
        let (chunk, _) = place(index);
        let blocks = self.chunks.get(chunk)?;
        blocks.get_or_init(|| {
            (0..FIRST_CHUNK << chunk)
                .map(|_| GreenThread::free())
                .collect()
        });
        self.used.set(index + 1);
        Some(index)
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

/// What outlives a green thread: shared by its handles and its body.
///
/// The faces implement it for the type that also holds the result.
pub(crate) trait Record: Send + Sync {
    fn identity(&self) -> &Identity;

    /// The green thread will never end by itself, because its hub ends: its
    /// handle gets `Cancelled` for a result. Called on the hub's OS thread, at
    /// most once, and never together with the body's own end.
    fn abandon(&self);
}

/// Who a green thread, or an OS thread, is.
pub(crate) struct Identity {
    id: NonZeroU64,
    name: Option<Box<str>>,
    /// Where it was spawned; `None` for an OS thread.
    spawned_at: Option<&'static Location<'static>>,
    /// The token of `thread::park`: it is there, or it is not.
    token: AtomicU8,
    /// The wait that `thread::unpark` ends.
    parked: Mutex<Option<Unparker>>,
}

const NO_TOKEN: u8 = 0;
const TOKEN: u8 = 1;

impl Identity {
    pub(crate) fn new(
        name: Option<Box<str>>,
        spawned_at: Option<&'static Location<'static>>,
    ) -> Identity {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU64::new(id).expect("2^64 identities are not reached");
        Identity::with_id(id, name, spawned_at)
    }

    fn with_id(
        id: NonZeroU64,
        name: Option<Box<str>>,
        spawned_at: Option<&'static Location<'static>>,
    ) -> Identity {
        Identity {
            id,
            name,
            spawned_at,
            token: AtomicU8::new(NO_TOKEN),
            parked: Mutex::new(None),
        }
    }

    /// Unique in the process for ever.
    pub(crate) fn id(&self) -> NonZeroU64 {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.spawned_at
    }

    /// Takes the park token if it is there.
    pub(crate) fn take_token(&self) -> bool {
        self.token.swap(NO_TOKEN, Ordering::AcqRel) == TOKEN
    }

    /// Says which wait gives the token's arrival an effect. Whoever sets it
    /// looks at the token afterwards; whoever brings the token looks here
    /// afterwards: one of them sees the other, because both lock.
    pub(crate) fn set_parked(&self, unparker: Option<Unparker>) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = unparker;
    }

    /// Makes the token available and ends the wait for it; from any OS thread.
    pub(crate) fn unpark(&self) {
        self.token.store(TOKEN, Ordering::Release);
        let parked = self
            .parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(unparker) = parked {
            unparker.unpark();
        }
    }
}

/// The record of an OS thread, which has no result here.
struct OsThread(Identity);

impl Record for OsThread {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn abandon(&self) {
        unreachable!("an OS thread is not abandoned by a hub");
    }
}

/// A record for the calling OS thread, under the name it has, and the id if it
/// had one.
pub(super) fn os_thread_record(id: Option<NonZeroU64>) -> Arc<dyn Record> {
    let name = std::thread::current().name().map(Box::from);
    Arc::new(OsThread(match id {
        Some(id) => Identity::with_id(id, name, None),
        None => Identity::new(name, None),
    }))
}

/// One line of the table that a user gets to see.
pub(super) struct Line<'a> {
    pub(super) block: &'a GreenThread,
    pub(super) root_name: Option<&'a str>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.block.identity();
        match identity {
            None => write!(f, "  root '{}'", self.root_name.unwrap_or("unnamed"))?,
            Some(identity) => write!(
                f,
                "  green thread '{}' (id {})",
                identity.name().unwrap_or("unnamed"),
                identity.id()
            )?,
        }
        match self.block.slot.state.get() {
            State::Free => f.write_str(": ended")?,
            State::Ready => f.write_str(": ready")?,
            State::Running => f.write_str(": running")?,
            State::Parked(why) => f.write_str(match why {
                Why::Park => ": parked until it is unparked",
                Why::Sleep => ": sleeps",
                Why::Join => ": waits for the end of another one",
                Why::Offload => ": waits for a closure on an OS thread",
                Why::HubEnd => ": waits for the end of the hub's green threads",
            })?,
            State::Performing => super::perform::describe(self.block, f)?,
        }
        if let Some(spawned_at) = identity.and_then(Identity::spawned_at) {
            write!(f, ", spawned at {spawned_at}")?;
            let stack = self.block.slot.stack.get();
            if let Ok(used) = stack.high_water() {
                write!(f, ", stack used {used} of {}", stack.size())?;
            }
        }
        writeln!(f)
    }
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
        let table = Table::new();
        let first = table.take().unwrap();
        let address: *const GreenThread = table.get(first);
        let more: Vec<u32> = (0..1000).map(|_| table.take().unwrap()).collect();
        assert!(std::ptr::eq(address, table.get(first)));
        table.give_back(more[3]);
        table.give_back(more[7]);
        assert_eq!(table.take(), Some(more[7]));
        assert_eq!(table.take(), Some(more[3]));
        assert_eq!(table.used(), 1002);
    }
}
