//! The stacks of green threads: carved from large arenas, guarded, pooled.
//!
//! # A slot
//!
//! ```text
//! limit                                                        base    top
//!   | guard page |  usable, committed page by page as it is used | colour |
//!   |<------------------------ slot = size() --------------------------->|
//! ```
//!
//! A size of 256 KiB means a *slot* of 256 KiB with its guard page inside, so that neighbours stay
//! aligned and eight stacks share one page of page tables (with a guard page outside it would be
//! seven). `base`, where the first frame goes, lies below the page-aligned top by 0 to 31 cache
//! lines: tops that are all page-aligned compete for the same cache sets, which at 1000 green
//! threads makes a switch twice as dear. All 32 colours lie within the topmost page; more of them
//! would push the first frames of some stacks into a second page.
//!
//! One guard page is enough for Rust frames of any size: the compiler probes each page of a frame
//! larger than a page, in order, before it uses the frame, so none steps over the guard. C code has
//! this promise only when compiled with `-fstack-clash-protection`.
//!
//! # Mappings and guards
//!
//! Slots are carved from arenas of 64 MiB, doubling to 16 GiB, reserved without commitment
//! (`MAP_NORESERVE`): a million stacks of 256 KiB take two dozen reservations, which the kernel
//! merges where they touch. Where the address space is rationed (RLIMIT_AS, valgrind, strict
//! overcommit, where a reservation counts in full) a refused arena is halved down to a single slot
//! before the refusal becomes an error. With [`Guard::Install`] (Linux 6.13) the guard is a mark in
//! the page table, so stacks need no mapping of their own; with [`Guard::Protect`] every guard page
//! splits its mapping, and `vm.max_map_count` (65530 unless raised) ends the pool at some 32 750
//! stacks, with an error that says so; until some are dropped the rest of the process can map nothing
//! either, large allocations included. A guard is set when the slot is first carved and stays.
//!
//! # Reuse, and what goes back to the kernel
//!
//! Each slot size has a free list, last in, first out, in two parts: the older, *cold* stacks have
//! had their pages returned to the kernel, the newer, *warm* ones keep what they touched. `take` and
//! `give_back` of a warm stack make no system call. How deep a stack was used cannot be known without
//! a system call either, so the limits count whole slots:
//!
//! - a busy pool keeps at most [`BUSY_BYTES`] warm in each size (1024 stacks of 256 KiB); from there
//!   on `give_back` returns the pages of the oldest warm stack, one `madvise` each;
//! - an idle pool keeps at most [`IDLE_BYTES`] (16 stacks of 256 KiB): before a hub sleeps for long
//!   it calls [`Stacks::trim`] until [`Stacks::excess`] is 0: some 1.6 ms for those 1024, in slices.
//!
//! So 100 000 green threads that came and went leave at most 8 MiB while the hub is busy (two pages
//! each) and 128 KiB once it is idle; 200 that each used 200 KiB leave 3.2 MiB once idle. The page
//! tables (512 bytes a slot of 256 KiB) and the reservation stay with the pool until it is dropped.
//!
//! # Who may call, and what lives how long
//!
//! A pool belongs to one hub and is used on its OS thread. A [`Stack`] owns its slot; only the pool
//! that made it takes it back. A pool that is dropped while stacks are outstanding leaks its arenas,
//! all of them: an abandoned green thread's frames must stay readable for ever.

#![allow(unsafe_code)] // Guards memory and returns it.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::sys::mman::{self, MmapAdvise, ProtFlags};

pub use super::arena::Guard;
use super::arena::{Arena, install_guard, map, max_map_count, page_size, unmap, with_context};
use super::valgrind::Registration;

/// The least slot. Room for the guard page, for a panic's formatting and for a signal frame.
pub const MIN_SIZE: usize = 16 << 10;

/// The greatest slot. Anything above is taken for a mistake in a unit.
pub const MAX_SIZE: usize = 1 << 30;

/// Warm bytes, counted in whole slots, that a busy pool keeps in each size. Large, because green
/// threads that end together are often followed by as many that start together, and a page returned
/// and faulted in again costs three microseconds in all; yet bounded, for a hub that never sleeps.
pub const BUSY_BYTES: usize = 256 << 20;

/// Warm bytes, counted in whole slots, that an idle pool keeps in each size. The most that an idle
/// process holds on to, should every one of these stacks have been used to its end.
pub const IDLE_BYTES: usize = 4 << 20;

/// Stacks whose pages one call of [`Stacks::trim`] returns: some 50 microseconds (1.6 each, ten times
/// that for one used 200 KiB deep), after which the hub may look for completions.
const TRIM_BATCH: usize = 32;

/// Size of the first arena. Virtual, so generous: 256 stacks of the default size.
const FIRST_ARENA: usize = 64 << 20;

/// Size at which arenas stop doubling, so that growth reserves at most this much in advance.
const LAST_ARENA: usize = 16 << 30;

/// Distance between colours: a cache line, which also keeps the 16-byte alignment of a base.
const CACHE_LINE: usize = 64;

/// Number of colours; with [`CACHE_LINE`] they span 2 KiB, half of the smallest page.
const COLOURS: usize = 32;

/// Colours of neighbouring slots differ by this many lines. Odd, so that all colours come up, and
/// not 1, because the first frames of a stack fill several lines.
const COLOUR_STEP: usize = 5;

/// The smallest page of any machine. The span of the colours is below it, so rounding a base up to
/// it gives the top of the slot, whatever the real page size is.
const SMALLEST_PAGE: usize = 4096;

/// One green thread's stack: sole owner of a slot until it is given back.
///
/// Dropping it instead loses the slot: its memory stays valid and is never used again.
#[derive(Debug)]
pub struct Stack {
    /// Where the first frame goes: the top of the slot less the colour. 16-byte aligned.
    base: NonZeroUsize,
    /// Lowest address of the slot, that of the guard page. Page-aligned.
    limit: NonZeroUsize,
    /// Tells valgrind that these addresses are a stack; kept for as long as the slot has an owner.
    _registration: Registration,
}

impl Stack {
    /// Where the first frame goes, which grows down from here.
    #[inline]
    pub fn base(&self) -> usize {
        self.base.get()
    }

    /// Bytes of the slot: what was asked for, rounded up to whole pages; the guard page included.
    #[inline]
    pub fn size(&self) -> usize {
        self.top() - self.limit.get()
    }

    /// Where the slot is, for those who look at it while a coroutine owns it.
    #[inline]
    pub fn bounds(&self) -> Bounds {
        Bounds::new(self.limit.get(), self.size())
    }

    /// One past the highest address of the slot.
    #[inline]
    fn top(&self) -> usize {
        self.base.get().next_multiple_of(SMALLEST_PAGE)
    }

    /// Gives the slot's pages back to the kernel; they read as zeros from now on. Called on pooled
    /// stacks only, whose contents nobody wants.
    ///
    /// Locked pages (mlockall) are refused: then they stay resident, as that program asked, and the
    /// stack is as usable as before, so the answer makes no difference.
    fn return_pages(&mut self, page: usize) {
        let usable = self.size() - page;
        // SAFETY: `&mut self` is the sole owner of the slot and no green thread runs on it (a pooled
        // Stack is not inside a coroutine), so nobody holds a reference to what is discarded.
        let _ =
            unsafe { mman::madvise(pointer(self.limit, page), usable, MmapAdvise::MADV_DONTNEED) };
    }
}

/// The addresses of a slot, guard page included.
///
/// Packed into a word, because every green thread's control block holds one:
/// the number of the lowest page above, the count of pages below, both in units
/// of the smallest page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds(u64);

/// Bits for the count of pages: [`MAX_SIZE`] is 2^18 of the smallest.
const COUNT_BITS: u32 = 19;

impl Bounds {
    fn new(limit: usize, size: usize) -> Bounds {
        let (page, count) = (limit / SMALLEST_PAGE, size / SMALLEST_PAGE);
        Bounds((page as u64) << COUNT_BITS | count as u64)
    }

    /// The lowest address of the slot, that of its guard.
    pub fn limit(&self) -> usize {
        (self.0 >> COUNT_BITS) as usize * SMALLEST_PAGE
    }

    /// Bytes of the slot.
    pub fn size(&self) -> usize {
        (self.0 & ((1 << COUNT_BITS) - 1)) as usize * SMALLEST_PAGE
    }

    /// Whether `address` lies in the slot. All of it but the guard can be read and written, so a
    /// fault in it is an overflow. Async-signal-safe.
    pub fn contains(&self, address: usize) -> bool {
        (self.limit()..self.limit() + self.size()).contains(&address)
    }

    /// Bytes between the top and the lowest page touched since the slot's pages were last returned to
    /// the kernel. Pages that were swapped out are not seen. Walks the page tables: for inspection
    /// and tests, not for hot paths.
    pub fn high_water(&self) -> io::Result<usize> {
        let page = page_size();
        let usable = self.size() - page;
        let mut resident = vec![0_u8; usable / page];
        let start = self.limit() + page;
        // SAFETY: mincore(2) reads no memory of the range, and answers ENOMEM where nothing is mapped;
        // the vector has one byte for each page, as it demands.
        let result = unsafe {
            let start = ptr::without_provenance_mut(start);
            libc::mincore(start, usable, resident.as_mut_ptr())
        };
        Errno::result(result).map_err(|errno| with_context(errno, "mincore of a stack"))?;
        // Only the lowest bit is defined.
        let untouched = resident.iter().take_while(|byte| **byte & 1 == 0).count();
        Ok(usable - untouched * page)
    }
}

/// Counts of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackStats {
    /// Stacks taken and not given back.
    pub live: usize,
    /// Stacks ready to be taken again.
    pub pooled: usize,
    /// Pooled stacks that keep the pages they touched.
    pub warm: usize,
    /// Reservations of address space.
    pub arenas: usize,
    /// Bytes of address space reserved.
    pub bytes: usize,
}

/// The stacks of one hub.
#[derive(Debug)]
pub struct Stacks {
    /// How the next slot is guarded. Falls to `Protect` where the kernel refuses the other.
    guard: Guard,
    /// The machine's page size, kept to spare `take` the question.
    page: usize,
    /// The least slot: [`MIN_SIZE`], or two pages where pages are so large that it would be all guard.
    least: usize,
    /// One per slot size, in the order of first use; few, so they are searched in line.
    classes: Vec<Class>,
    /// All address space reserved so far; the last is the one being carved, except for slots that fit
    /// into what an earlier one had left.
    arenas: Vec<Arena>,
    /// Size of the next arena, unless one slot is larger.
    next_arena: usize,
    /// Slots carved so far, in all sizes; the next one's colour comes from it.
    carved: usize,
    /// Stacks outside the pool. Zero is the condition for unmapping at drop.
    live: usize,
}

/// The pooled stacks of one slot size.
#[derive(Debug)]
struct Class {
    /// Slot size.
    size: usize,
    /// Pooled stacks, last in, first out. Has room for all stacks of this size that were ever carved,
    /// so that `give_back` never allocates.
    free: Vec<Stack>,
    /// `free[..cold]` have had their pages returned, `free[cold..]` are warm.
    cold: usize,
    /// Stacks of this size that were ever carved.
    carved: usize,
}

impl Stacks {
    /// An empty pool; nothing is reserved before the first stack.
    pub fn new(guard: Guard) -> Stacks {
        let page = page_size();
        Stacks {
            guard,
            page,
            least: MIN_SIZE.max(2 * page),
            classes: Vec::new(),
            arenas: Vec::new(),
            next_arena: FIRST_ARENA,
            carved: 0,
            live: 0,
        }
    }

    /// A stack whose slot is `size` bytes, rounded up to whole pages and to [`MIN_SIZE`]: the one that
    /// was given back last, or else a new one. Its contents are unspecified.
    ///
    /// `InvalidInput` above [`MAX_SIZE`]; `OutOfMemory` when the address space, the memory or the
    /// mappings of the process are used up.
    #[inline]
    pub fn take(&mut self, size: usize) -> io::Result<Stack> {
        if size > MAX_SIZE {
            return Err(too_large(size));
        }
        let slot = (size.max(self.least) + self.page - 1) & !(self.page - 1);
        let known = self.classes.iter().position(|class| class.size == slot);
        let stack = match known.and_then(|index| self.classes[index].pop()) {
            Some(stack) => stack,
            None => self.carve(slot)?,
        };
        self.live += 1;
        Ok(stack)
    }

    /// Takes a stack back into the pool. Nothing may run on it, nor refer into it, any more; owning
    /// the [`Stack`] outside a coroutine is the proof.
    #[inline]
    pub fn give_back(&mut self, stack: Stack) {
        let limit = stack.limit.get();
        // A foreign stack would falsify `live`, on which unmapping rests.
        assert!(
            self.arenas.iter().any(|arena| arena.contains(limit)),
            "a stack was given back to a pool that did not make it"
        );
        let size = stack.size();
        let class = self.classes.iter_mut().find(|class| class.size == size);
        let class = class.expect("a class exists for every size that was carved");
        class.free.push(stack);
        if class.warm() > class.busy_limit() {
            class.cool_oldest(self.page);
        }
        self.live -= 1;
    }

    /// Returns the pages of some warm stacks that an idle pool should not hold, the oldest first.
    /// Bounded work: the hub calls it while [`Stacks::excess`] is not 0 and nothing is ready, best when
    /// it has been idle for some milliseconds, so that a server that is merely between two bursts does
    /// not return pages only to fault them in again.
    pub fn trim(&mut self) {
        let mut budget = TRIM_BATCH;
        for class in &mut self.classes {
            let batch = class.excess().min(budget);
            for _ in 0..batch {
                class.cool_oldest(self.page);
            }
            budget -= batch;
        }
    }

    /// Number of warm stacks that [`Stacks::trim`] has yet to deal with.
    pub fn excess(&self) -> usize {
        self.classes.iter().map(Class::excess).sum()
    }

    /// Counts, for inspection and tests.
    pub fn stats(&self) -> StackStats {
        StackStats {
            live: self.live,
            pooled: self.classes.iter().map(|class| class.free.len()).sum(),
            warm: self.classes.iter().map(Class::warm).sum(),
            arenas: self.arenas.len(),
            bytes: self.arenas.iter().map(|arena| arena.bytes).sum(),
        }
    }

    /// Makes a new stack: address space, guard, colour. A failure leaves the pool as it was.
    #[cold]
    fn carve(&mut self, slot: usize) -> io::Result<Stack> {
        let class = self.class(slot)?;
        let arena = self.arena(slot)?;
        let limit = self.arenas[arena].next();
        self.protect(limit)?;
        self.arenas[arena].used += slot;
        self.classes[class].carved += 1;
        let colour = self.carved * COLOUR_STEP % COLOURS * CACHE_LINE;
        self.carved += 1;
        let address = limit.expose_provenance();
        let base = address.get() + slot - colour;
        Ok(Stack {
            base: NonZeroUsize::new(base).expect("a mapping does not end at address 0"),
            limit: address,
            _registration: Registration::new(limit.as_ptr().cast(), slot),
        })
    }

    /// Index of the class of `slot`, with room in its free list for one stack more.
    fn class(&mut self, slot: usize) -> io::Result<usize> {
        let known = self.classes.iter().position(|class| class.size == slot);
        let index = known.unwrap_or_else(|| {
            self.classes.push(Class {
                size: slot,
                free: Vec::new(),
                cold: 0,
                carved: 0,
            });
            self.classes.len() - 1
        });
        let class = &mut self.classes[index];
        // Stacks are carved only when the free list is empty, so this is room beyond length 0.
        class.free.try_reserve(class.carved + 1)?;
        Ok(index)
    }

    /// Index of an arena with room for `slot`: one that has it, or a new one.
    fn arena(&mut self, slot: usize) -> io::Result<usize> {
        if let Some(index) = self.arenas.iter().position(|arena| arena.room() >= slot) {
            return Ok(index);
        }
        let mut bytes = self.next_arena.max(slot);
        let start = loop {
            match map(bytes) {
                Ok(start) => break start,
                Err(errno) if bytes == slot => {
                    let what = format!(
                        "no address space for a green-thread stack of {slot} bytes beside {} others \
                         (RLIMIT_AS, vm.overcommit_memory, or vm.max_map_count, which is {})",
                        self.carved,
                        max_map_count()
                    );
                    return Err(with_context(errno, &what));
                }
                Err(_) => bytes = (bytes / 2).next_multiple_of(self.page).max(slot),
            }
        };
        self.next_arena = (bytes * 2).min(LAST_ARENA);
        self.arenas.push(Arena {
            start,
            bytes,
            used: 0,
        });
        Ok(self.arenas.len() - 1)
    }

    /// Makes the page at `guard` inaccessible.
    ///
    /// Marks are refused with EINVAL in locked memory, so a program that calls mlockall(2) after the
    /// probe goes on with mprotect(2).
    fn protect(&mut self, guard: NonNull<c_void>) -> io::Result<()> {
        if self.guard == Guard::Install {
            match install_guard(guard, self.page) {
                Ok(()) => return Ok(()),
                Err(Errno::EINVAL) => self.guard = Guard::Protect,
                Err(errno) => return Err(with_context(errno, "guard page of a stack")),
            }
        }
        // SAFETY: the page lies in an arena of this pool, in a slot that is not carved yet, so nothing
        // refers to it.
        match unsafe { mman::mprotect(guard, self.page, ProtFlags::PROT_NONE) } {
            Ok(()) => Ok(()),
            Err(Errno::ENOMEM) => Err(out_of_mappings(self.carved)),
            Err(errno) => Err(with_context(errno, "guard page of a stack")),
        }
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        if self.live > 0 {
            return;
        }
        for arena in &self.arenas {
            unmap(arena.start, arena.bytes);
        }
    }
}

impl Class {
    #[inline]
    fn pop(&mut self) -> Option<Stack> {
        let stack = self.free.pop();
        self.cold = self.cold.min(self.free.len());
        stack
    }

    #[inline]
    fn warm(&self) -> usize {
        self.free.len() - self.cold
    }

    /// Warm stacks kept while busy; at least one, so that one green thread after the other, whatever
    /// its stack size, runs without a system call.
    #[inline]
    fn busy_limit(&self) -> usize {
        (BUSY_BYTES / self.size).max(1)
    }

    /// Warm stacks above what an idle pool keeps.
    fn excess(&self) -> usize {
        self.warm().saturating_sub(IDLE_BYTES / self.size)
    }

    /// Returns the pages of the warm stack that has been pooled longest.
    #[cold]
    fn cool_oldest(&mut self, page: usize) {
        self.free[self.cold].return_pages(page);
        self.cold += 1;
    }
}

/// A pointer into a slot from its address, whose provenance [`Stacks::carve`] exposed.
fn pointer(limit: NonZeroUsize, offset: usize) -> NonNull<c_void> {
    let address = limit.checked_add(offset);
    NonNull::with_exposed_provenance(address.expect("a slot does not wrap around"))
}

#[cold]
fn too_large(size: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("a stack of {size} bytes was asked for; the most is {MAX_SIZE}"),
    )
}

fn out_of_mappings(carved: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!(
            "no memory mapping left for the guard page of another green-thread stack beside {carved} \
             others: before Linux 6.13 each stack takes two; raise vm.max_map_count, which is {}",
            max_map_count()
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hub::arena::inaccessible;

    const DEFAULT: usize = 256 << 10;

    /// Both kinds where the kernel has both.
    fn guards() -> Vec<Guard> {
        let mut guards = vec![Guard::Protect, Guard::detect(true)];
        guards.dedup();
        guards
    }

    fn readable_at(address: usize) -> bool {
        !inaccessible(NonNull::with_exposed_provenance(
            NonZeroUsize::new(address).expect("an address in a slot"),
        ))
    }

    /// Makes the topmost `bytes` of the slot resident.
    fn touch(stack: &Stack, bytes: usize) {
        for address in (stack.top() - bytes..stack.top()).step_by(page_size()) {
            write(address, 1);
        }
    }

    fn write(address: usize, value: u64) {
        // SAFETY: the tests pass aligned addresses in the usable part of stacks that they own.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(address).write_volatile(value) };
    }

    fn read(address: usize) -> u64 {
        // SAFETY: as in `write`.
        unsafe { std::ptr::with_exposed_provenance::<u64>(address).read_volatile() }
    }

    /// Bytes that the pooled stacks of `stacks` keep resident.
    fn resident(stacks: &Stacks) -> usize {
        let pooled = stacks.classes.iter().flat_map(|class| &class.free);
        pooled
            .map(|stack| stack.bounds().high_water().expect("mincore"))
            .sum()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(usize),
        GiveBack(prop::sample::Index),
        Trim,
    }

    fn step() -> impl Strategy<Value = Step> {
        let sizes = prop::sample::select(vec![0, 16 << 10, 20_001, DEFAULT, 8 << 20, 100 << 20]);
        prop_oneof![
            5 => sizes.prop_map(Step::Take),
            4 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            1 => Just(Step::Trim),
        ]
    }

    /// Where a stack is, and what was written to both ends of it.
    #[derive(Debug)]
    struct Live {
        stack: Stack,
        tag: u64,
    }

    proptest! {
        #[test]
        fn pool_agrees_with_a_model(
            install in any::<bool>(),
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let page = page_size();
            let mut stacks = Stacks::new(Guard::detect(install));
            let mut live: Vec<Live> = Vec::new();
            // Every slot that is pooled, in the order in which it came back.
            let mut pooled: Vec<(usize, usize)> = Vec::new();
            for (tag, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Take(size) => {
                        let stack = stacks.take(size).expect("a stack");
                        let (limit, base) = (stack.limit.get(), stack.base());
                        let slot = size.max(MIN_SIZE).max(2 * page).next_multiple_of(page);
                        prop_assert_eq!(stack.size(), slot);
                        prop_assert_eq!(stack.top(), limit + slot);
                        prop_assert_eq!(limit % page, 0);
                        prop_assert_eq!(base % CACHE_LINE, 0);
                        prop_assert!(stack.top() - base < SMALLEST_PAGE);
                        for other in &live {
                            prop_assert!(
                                other.stack.top() <= limit || stack.top() <= other.stack.limit.get()
                            );
                        }
                        match pooled.iter().rposition(|(_, size)| *size == slot) {
                            Some(newest) => prop_assert_eq!(pooled.remove(newest).0, limit),
                            None => prop_assert!(stack.bounds().high_water().expect("mincore") == 0),
                        }
                        prop_assert!(!readable_at(limit) && !readable_at(limit + page - 1));
                        prop_assert!(readable_at(limit + page));
                        let tag = tag as u64;
                        write(limit + page, tag);
                        write(base - 8, tag);
                        live.push(Live { stack, tag });
                    }
                    Step::GiveBack(index) if !live.is_empty() => {
                        let Live { stack, tag } = live.swap_remove(index.index(live.len()));
                        prop_assert_eq!(read(stack.limit.get() + page), tag);
                        prop_assert_eq!(read(stack.base.get() - 8), tag);
                        pooled.push((stack.limit.get(), stack.size()));
                        stacks.give_back(stack);
                    }
                    Step::GiveBack(_) => {}
                    Step::Trim => {
                        let before = stacks.excess();
                        stacks.trim();
                        prop_assert_eq!(stacks.excess(), before.saturating_sub(TRIM_BATCH));
                    }
                }
                let stats = stacks.stats();
                prop_assert_eq!((stats.live, stats.pooled), (live.len(), pooled.len()));
                prop_assert!(stats.warm <= stats.pooled);
            }
            for Live { stack, .. } in live {
                stacks.give_back(stack);
            }
        }
    }

    #[test]
    fn all_colours_come_up() {
        let mut stacks = Stacks::new(Guard::detect(true));
        let carved: Vec<Stack> = (0..COLOURS)
            .map(|_| stacks.take(0).expect("a stack"))
            .collect();
        let mut colours: Vec<usize> = carved.iter().map(|s| s.top() - s.base.get()).collect();
        colours.sort_unstable();
        let all: Vec<usize> = (0..COLOURS).map(|n| n * CACHE_LINE).collect();
        assert_eq!(colours, all);
        carved.into_iter().for_each(|stack| stacks.give_back(stack));
    }

    #[test]
    fn address_questions_know_the_edges() {
        let mut stacks = Stacks::new(Guard::Protect);
        let stack = stacks.take(DEFAULT).expect("a stack");
        let (limit, top) = (stack.limit.get(), stack.top());
        assert!(!stack.bounds().contains(limit - 1) && stack.bounds().contains(limit));
        assert!(stack.bounds().contains(top - 1) && !stack.bounds().contains(top));
        stacks.give_back(stack);
    }

    #[test]
    fn guards_outlive_the_return_of_pages() {
        for guard in guards() {
            let mut stacks = Stacks::new(guard);
            let mut stack = stacks.take(DEFAULT).expect("a stack");
            touch(&stack, 100 << 10);
            assert_eq!(stack.bounds().high_water().expect("mincore"), 100 << 10);
            stack.return_pages(page_size());
            assert_eq!(stack.bounds().high_water().expect("mincore"), 0);
            // The kernel keeps the guard even when it is inside the range (madvise(2)).
            let start = pointer(stack.limit, 0);
            // SAFETY: the slot is owned by this test, which has no references into it.
            unsafe { mman::madvise(start, stack.size(), MmapAdvise::MADV_DONTNEED) }
                .expect("madvise");
            assert!(!readable_at(stack.limit.get()), "{guard:?}");
            assert!(readable_at(stack.limit.get() + page_size()));
            stacks.give_back(stack);
        }
    }

    #[test]
    fn detection_can_be_masked() {
        assert_eq!(Guard::detect(false), Guard::Protect);
    }

    #[test]
    fn refused_marks_fall_back_to_mprotect() {
        let page = page_size();
        let mut stacks = Stacks::new(Guard::Install);
        let arena = stacks.arena(DEFAULT).expect("an arena");
        let start = stacks.arenas[arena].start;
        // Locked memory takes no guard marks (madvise(2)); one page is enough to see it.
        // SAFETY: the page belongs to the arena just made.
        unsafe { mman::mlock(start, page) }.expect("RLIMIT_MEMLOCK allows a page");
        let stack = stacks.take(DEFAULT).expect("a stack");
        assert_eq!(stacks.guard, Guard::Protect);
        assert!(!readable_at(stack.limit.get()));
        stacks.give_back(stack);
    }

    #[test]
    fn an_idle_pool_keeps_little_after_deep_use() {
        for guard in guards() {
            let mut stacks = Stacks::new(guard);
            let deep: Vec<Stack> = (0..200)
                .map(|_| stacks.take(DEFAULT).expect("a stack"))
                .collect();
            deep.iter().for_each(|stack| touch(stack, 200 << 10));
            deep.into_iter().for_each(|stack| stacks.give_back(stack));
            assert_eq!(resident(&stacks), 200 * (200 << 10), "all warm while busy");
            while stacks.excess() > 0 {
                stacks.trim();
            }
            assert_eq!(resident(&stacks), 16 * (200 << 10), "{guard:?}");
            assert_eq!(stacks.stats().warm, IDLE_BYTES / DEFAULT);
            // The newest are the warm ones.
            let newest = stacks.take(DEFAULT).expect("a stack");
            assert_eq!(newest.bounds().high_water().expect("mincore"), 200 << 10);
            stacks.give_back(newest);
        }
    }

    #[test]
    fn a_busy_pool_is_bounded_too() {
        let mut stacks = Stacks::new(Guard::detect(true));
        let limit = BUSY_BYTES / (1 << 20);
        let burst: Vec<Stack> = (0..limit + 10)
            .map(|_| stacks.take(1 << 20).expect("a stack"))
            .collect();
        burst.iter().for_each(|stack| touch(stack, page_size()));
        burst.into_iter().for_each(|stack| stacks.give_back(stack));
        assert_eq!(stacks.stats().warm, limit);
        assert_eq!(resident(&stacks), limit * page_size());
        // Taking more than the warm ones reaches the cold ones.
        let again: Vec<Stack> = (0..limit + 3)
            .map(|_| stacks.take(1 << 20).expect("a stack"))
            .collect();
        let stats = stacks.stats();
        assert_eq!((stats.pooled, stats.warm), (7, 0));
        again.into_iter().for_each(|stack| stacks.give_back(stack));
        assert_eq!(stacks.stats().pooled, limit + 10);
    }

    #[test]
    fn memory_of_a_lost_stack_stays_readable() {
        for guard in guards() {
            let mut stacks = Stacks::new(guard);
            let lost = stacks.take(DEFAULT).expect("a stack");
            let kept = stacks.take(DEFAULT).expect("a stack");
            let base = lost.base();
            write(base - 8, 4711);
            drop(lost);
            stacks.give_back(kept);
            assert_eq!(stacks.stats().live, 1);
            drop(stacks);
            assert!(readable_at(base - 8));
            assert_eq!(read(base - 8), 4711);
        }
    }

    /// In a child process, where no other test can map the same addresses again in between.
    #[test]
    fn a_pool_without_stacks_outside_is_unmapped() {
        const CHILD: &str = "GREENRING_TEST_STACK_CHILD";
        let test = "a_pool_without_stacks_outside_is_unmapped";
        if std::env::var_os(CHILD).is_none() {
            let (_, module) = module_path!().split_once("::").expect("a path in a crate");
            let output = std::process::Command::new(std::env::current_exe().expect("own path"))
                .args(["--exact", &format!("{module}::{test}")])
                .env(CHILD, "1")
                .output()
                .expect("the child runs");
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && stdout.contains("1 passed"),
                "{output:?}"
            );
            return;
        }
        let mut stacks = Stacks::new(Guard::detect(true));
        let stack = stacks.take(MAX_SIZE).expect("a stack");
        let middle = pointer(stack.limit, MAX_SIZE / 2);
        stacks.give_back(stack);
        assert!(!inaccessible(middle));
        drop(stacks);
        assert!(inaccessible(middle));
    }

    #[test]
    #[should_panic(expected = "a pool that did not make it")]
    fn a_foreign_stack_is_refused() {
        let mut mine = Stacks::new(Guard::Protect);
        let mut other = Stacks::new(Guard::Protect);
        let foreign = other.take(0).expect("a stack");
        mine.give_back(foreign);
    }

    #[test]
    fn small_stacks_use_what_a_large_one_left() {
        let mut stacks = Stacks::new(Guard::detect(true));
        let sizes = [FIRST_ARENA - DEFAULT, FIRST_ARENA, DEFAULT];
        let taken = sizes.map(|size| stacks.take(size).expect("a stack"));
        assert_eq!(stacks.stats().arenas, 2);
        assert_eq!(taken[0].top(), taken[2].limit.get());
        taken.into_iter().for_each(|stack| stacks.give_back(stack));
    }

    #[test]
    fn errors_name_the_figure_and_the_setting() {
        let error = Stacks::new(Guard::Protect)
            .take(MAX_SIZE + 1)
            .expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1073741825"), "{error}");

        let error = out_of_mappings(32_744);
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        let text = error.to_string();
        assert!(text.contains("32744"), "{text}");
        assert!(text.ends_with(&format!("vm.max_map_count, which is {}", max_map_count())));
        max_map_count().parse::<u32>().expect("a figure");
    }

    #[test]
    fn bookkeeping_of_a_pooled_stack_is_small() {
        assert!(size_of::<Stack>() <= 32);
        assert_eq!(size_of::<Option<Stack>>(), size_of::<Stack>());
    }
}
