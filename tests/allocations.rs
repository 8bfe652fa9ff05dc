//! Neither an operation nor a wait allocates memory; on both backends.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use greenring::thread;

use common::connection;

thread_local! {
    /// Allocations of this OS thread. Without a destructor, so that the
    /// allocator may count at any time.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
struct Counting;

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations in 1000 calls of `step`, after as many to warm up.
fn allocations(mut step: impl FnMut()) -> u64 {
    for _ in 0..1000 {
        step();
    }
    let begin = ALLOCATIONS.get();
    for _ in 0..1000 {
        step();
    }
    ALLOCATIONS.get() - begin
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1000);
    assert_eq!(allocations(|| ()), 0);
}

both_backends! {
    fn sending_and_receiving_allocate_nothing() {
        let (mut near, mut far) = connection();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(1..) = far.read(&mut buffer) {
                far.write_all(&buffer).unwrap();
            }
        });
        let count = allocations(|| {
            // It waits, because the other one has to answer.
            near.write_all(&[1; 64]).unwrap();
            near.read_exact(&mut [0; 64]).unwrap();
            let halves = [IoSlice::new(&[1; 32]), IoSlice::new(&[2; 32])];
            assert_eq!(near.write_vectored(&halves).unwrap(), 64);
            near.peek(&mut [0; 64]).unwrap();
            near.read_exact(&mut [0; 64]).unwrap();
        });
        assert_eq!(count, 0);
    }

    fn time_limits_allocate_nothing() {
        let (mut near, mut far) = connection();
        near.set_read_timeout(Some(Duration::from_secs(3600))).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(1..) = far.read(&mut buffer) {
                far.write_all(&buffer).unwrap();
            }
        });
        let count = allocations(|| {
            near.write_all(&[1; 64]).unwrap();
            near.read_exact(&mut [0; 64]).unwrap();
        });
        assert_eq!(count, 0);
    }

    fn a_time_limit_that_passes_allocates_nothing() {
        let (mut near, _far) = connection();
        near.set_read_timeout(Some(Duration::from_micros(100))).unwrap();
        for round in 0..20 {
            let begin = ALLOCATIONS.get();
            let error = near.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            // The first ones may fill pools.
            assert!(round < 10 || ALLOCATIONS.get() == begin);
        }
    }

    fn yielding_and_sleeping_allocate_nothing() {
        let over = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&over);
        thread::spawn(move || {
            while !theirs.get() {
                thread::yield_now();
            }
        });
        assert_eq!(allocations(thread::yield_now), 0);
        assert_eq!(allocations(|| thread::sleep(Duration::from_micros(1))), 0);
        assert_eq!(allocations(|| thread::park_timeout(Duration::from_micros(1))), 0);
        over.set(true);
    }

    fn parking_and_unparking_allocate_nothing() {
        let root = thread::current();
        let over = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&over);
        let other = thread::spawn(move || {
            while !theirs.get() {
                thread::park();
                root.unpark();
            }
        });
        let other_thread = other.thread().clone();
        let count = allocations(|| {
            other_thread.unpark();
            thread::park();
        });
        assert_eq!(count, 0);
        over.set(true);
        other_thread.unpark();
        other.join().unwrap();
    }

    fn spawning_allocates_the_record_only() {
        assert_eq!(allocations(|| thread::spawn(|| ()).join().unwrap()), 1000);
        // Also when a hundred are alive at once.
        let handles: RefCell<Vec<_>> = RefCell::new(Vec::with_capacity(100));
        let count = allocations(|| {
            let mut handles = handles.borrow_mut();
            handles.extend((0..100).map(|_| thread::spawn(thread::yield_now)));
            handles.drain(..).for_each(|handle| handle.join().unwrap());
        });
        assert_eq!(count, 100_000);
    }
}
