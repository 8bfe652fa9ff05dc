//! Both implementations against the contract, and against each other.

#![allow(unsafe_code)] // Drives coroutines without a hub.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::*;

use super::super::stack::{Guard, MIN_SIZE, Stack, Stacks};
use super::{corosensei, x86_64};

/// The contract.
trait Switch: Default {
    const LARGEST_BODY: usize;
    unsafe fn start<F: FnOnce()>(&self, stack: Stack, body: F);
    unsafe fn resume(&self) -> Option<Stack>;
    unsafe fn suspend(&self);
    unsafe fn pass_to(&self, next: &Self);
    fn prefetch(&self);
}

macro_rules! implement {
    ($($module:ident)*) => {$(
        impl Switch for $module::Coroutine {
            const LARGEST_BODY: usize = $module::LARGEST_BODY;
            unsafe fn start<F: FnOnce()>(&self, stack: Stack, body: F) {
                // SAFETY: the caller's promise.
                unsafe { self.start(stack, body) }
            }
            unsafe fn resume(&self) -> Option<Stack> {
                // SAFETY: the caller's promise.
                unsafe { self.resume() }
            }
            unsafe fn suspend(&self) {
                // SAFETY: the caller's promise.
                unsafe { self.suspend() }
            }
            unsafe fn pass_to(&self, next: &Self) {
                // SAFETY: the caller's promise.
                unsafe { self.pass_to(next) }
            }
            fn prefetch(&self) {
                $module::prefetch(std::ptr::from_ref(self).addr());
                self.prefetch();
            }
        }
    )*};
}

implement! { corosensei x86_64 }

/// Runs a test that is generic over the switch with either.
macro_rules! with_both {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn ours() {
                super::$name::<super::x86_64::Coroutine>();
            }

            #[test]
            fn corosensei() {
                super::$name::<super::corosensei::Coroutine>();
            }
        }
    )*};
}

with_both! {
    a_body_arrives_whole_whatever_its_size_and_alignment
    the_stack_is_aligned_for_vectors
    a_stack_comes_back_and_serves_again
    what_is_dropped_while_suspended_is_forgotten
    a_backtrace_names_the_callers_and_ends
}

fn stacks() -> Stacks {
    Stacks::new(Guard::detect(true))
}

/// Runs a body that never suspends.
fn run<C: Switch>(stack: Stack, body: impl FnOnce()) -> Stack {
    let coroutine = C::default();
    // Of one that was never started there is nothing to fetch.
    coroutine.prefetch();
    // SAFETY: a new coroutine, whose body ends before this frame does.
    unsafe {
        coroutine.start(stack, body);
        coroutine.prefetch();
        coroutine.resume().expect("its body ends at once")
    }
}

fn a_body_arrives_whole_whatever_its_size_and_alignment<C: Switch>() {
    #[repr(align(256))]
    struct Aligned(u64);

    let mut stacks = stacks();
    // Without optimisation a body is copied more often than twice.
    let mut stack = stacks.take(4 * MIN_SIZE).unwrap();
    let arrived = &Cell::new(0);
    macro_rules! try_bytes {
        ($($bytes:literal)*) => {$(
            let bytes: [u8; $bytes] = std::array::from_fn(|at| at as u8);
            let body = move || {
                assert!(black_box(&bytes).iter().enumerate().all(|(at, byte)| *byte == at as u8));
                arrived.set(arrived.get() + 1);
            };
            if size_of_val(&body) <= C::LARGEST_BODY {
                stack = run::<C>(stack, body);
            }
        )*};
    }
    try_bytes! { 0 1 15 64 500 504 1000 1016 }
    let aligned = Aligned(7);
    stack = run::<C>(stack, move || {
        let aligned = black_box(&aligned);
        assert_eq!(black_box(&raw const *aligned as usize) % 256, 0);
        assert_eq!(aligned.0, 7);
        arrived.set(arrived.get() + 1);
    });
    assert!(arrived.get() >= 6, "{}", arrived.get());
    stacks.give_back(stack);
}

fn the_stack_is_aligned_for_vectors<C: Switch>() {
    #[repr(align(16))]
    struct Vector([f32; 4]);

    let mut stacks = stacks();
    let taken: Vec<Stack> = (0..40).map(|_| stacks.take(MIN_SIZE).unwrap()).collect();
    for stack in taken {
        let stack = run::<C>(stack, || {
            let vector = Vector([1.0; 4]);
            let place = &raw const *black_box(&vector);
            assert_eq!(black_box(place as usize) % 16, 0);
            assert_eq!(vector.0.iter().sum::<f32>(), 4.0);
        });
        stacks.give_back(stack);
    }
}

fn a_stack_comes_back_and_serves_again<C: Switch>() {
    let mut stacks = stacks();
    let count = &Cell::new(0);
    for round in 0..1000 {
        let coroutine = C::default();
        let stack = stacks.take(MIN_SIZE).unwrap();
        let base = stack.base();
        // SAFETY: both the coroutine and what its body borrows outlive it.
        unsafe {
            coroutine.start(stack, || {
                (0..round % 4).for_each(|_| coroutine.suspend());
                count.set(count.get() + 1);
            });
            for _ in 0..round % 4 {
                assert!(coroutine.resume().is_none());
            }
            let stack = coroutine.resume().expect("it has ended");
            assert_eq!(stack.base(), base);
            stacks.give_back(stack);
        }
    }
    assert_eq!(count.get(), 1000);
    assert_eq!(stacks.stats().live, 0);
}

fn what_is_dropped_while_suspended_is_forgotten<C: Switch>() {
    struct Witness<'a>(&'a Cell<bool>);

    impl Drop for Witness<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    let dropped = Cell::new(false);
    let mut stacks = stacks();
    let coroutine = C::default();
    // SAFETY: suspended for ever, it does not use what it borrows again.
    unsafe {
        coroutine.start(stacks.take(MIN_SIZE).unwrap(), || {
            let _witness = Witness(&dropped);
            coroutine.suspend();
        });
        assert!(coroutine.resume().is_none());
    }
    drop(coroutine);
    assert!(!dropped.get());
}

#[inline(never)]
fn somewhere_deep(depth: u32) -> String {
    if depth > 0 {
        return black_box(somewhere_deep(depth - 1));
    }
    Backtrace::force_capture().to_string()
}

fn a_backtrace_names_the_callers_and_ends<C: Switch>() {
    let mut stacks = stacks();
    let mut text = String::new();
    let stack = stacks.take(64 << 10).unwrap();
    let stack = run::<C>(stack, || text = somewhere_deep(5));
    stacks.give_back(stack);
    assert_eq!(text.matches("somewhere_deep").count(), 6, "{text}");
    let frames = text.lines().filter(|line| !line.contains(" at ")).count();
    assert!(frames < 100, "{text}");
    // Ours shows where it has come from to its own end, and no further.
    if std::any::type_name::<C>().contains("x86_64") {
        assert!(text.contains("x86_64::main"), "{text}");
        assert!(!text.contains("::resume"), "{text}");
    }
}

// ----- the two against each other -------------------------------------------

/// What one of a random program's coroutines does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Ready,
    Running,
    Ended,
}

/// A random program: coroutines that suspend, pass, start others, compute and
/// unwind, all drawn from one sequence of numbers, which so depends on the order
/// in which they run.
struct Program<C> {
    coroutines: Vec<C>,
    status: RefCell<Vec<Status>>,
    stacks: RefCell<Stacks>,
    numbers: Cell<u64>,
    running: Cell<usize>,
    trace: RefCell<Vec<(usize, String)>>,
}

const MOST_COROUTINES: usize = 40;

impl<C: Switch> Program<C> {
    /// The trace of the program that `seed` names.
    fn trace(seed: u64) -> Vec<(usize, String)> {
        let program = Program {
            coroutines: (0..MOST_COROUTINES).map(|_| C::default()).collect(),
            status: RefCell::default(),
            stacks: RefCell::new(stacks()),
            numbers: Cell::new(seed),
            running: Cell::new(usize::MAX),
            trace: RefCell::default(),
        };
        (0..4).for_each(|_| program.start());
        while let Some(index) = program.draw_ready() {
            program.note(index, "is resumed".to_owned());
            program.set_running(index);
            // SAFETY: it is ready.
            let stack = unsafe { program.coroutines[index].resume() };
            let last = program.running.get();
            if let Some(stack) = stack {
                program.status.borrow_mut()[last] = Status::Ended;
                program.note(last, "has ended".to_owned());
                program.stacks.borrow_mut().give_back(stack);
            }
        }
        assert_eq!(program.stacks.borrow().stats().live, 0);
        program.trace.into_inner()
    }

    fn note(&self, index: usize, what: String) {
        self.trace.borrow_mut().push((index, what));
    }

    fn draw(&self, limit: usize) -> usize {
        let mut number = self.numbers.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.numbers.set(number);
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((number ^ (number >> 31)) % limit as u64) as usize
    }

    fn draw_ready(&self) -> Option<usize> {
        let status = self.status.borrow();
        let ready: Vec<usize> = (0..status.len())
            .filter(|index| status[*index] == Status::Ready)
            .collect();
        (!ready.is_empty()).then(|| ready[self.draw(ready.len())])
    }

    fn set_running(&self, index: usize) {
        self.status.borrow_mut()[index] = Status::Running;
        self.running.set(index);
    }

    fn start(&self) {
        let index = self.status.borrow().len();
        if index == MOST_COROUTINES {
            return;
        }
        let size = MIN_SIZE << (2 + self.draw(3));
        let stack = self.stacks.borrow_mut().take(size).unwrap();
        self.status.borrow_mut().push(Status::Ready);
        // SAFETY: the program stays where it is until all have ended.
        unsafe { self.coroutines[index].start(stack, move || self.live(index)) };
    }

    fn live(&self, me: usize) {
        for step in 0..self.draw(8) {
            match self.draw(6) {
                0 => self.start(),
                1 => self.suspend(me),
                2 => self.pass(me),
                3 => {
                    let depth = self.draw(12);
                    let sum = self.compute(me, depth);
                    self.note(me, format!("computes {sum}"));
                }
                4 => self.unwind(me),
                _ => self.note(me, format!("is at step {step}")),
            }
        }
    }

    fn suspend(&self, me: usize) {
        self.status.borrow_mut()[me] = Status::Ready;
        // SAFETY: it runs on it.
        unsafe { self.coroutines[me].suspend() };
        assert_eq!(self.running.get(), me);
    }

    fn pass(&self, me: usize) {
        let Some(next) = self.draw_ready() else {
            return self.note(me, "is alone".to_owned());
        };
        self.note(me, format!("passes to {next}"));
        self.status.borrow_mut()[me] = Status::Ready;
        self.set_running(next);
        // SAFETY: it runs on the one, and the other is ready.
        unsafe { self.coroutines[me].pass_to(&self.coroutines[next]) };
        assert_eq!(self.running.get(), me);
    }

    /// Floating-point numbers and frames that live across switches.
    #[inline(never)]
    fn compute(&self, me: usize, depth: usize) -> f64 {
        let [x, y, z] = [1.5, 2.5, 3.5].map(|number| black_box(number * (me + depth) as f64));
        let inner = if depth == 0 {
            self.suspend(me);
            0.0
        } else {
            self.compute(me, depth - 1)
        };
        if self.draw(4) == 0 {
            self.pass(me);
        }
        x + y * z + inner
    }

    /// A panic that is caught, or an unwinding that suspends on its way.
    fn unwind(&self, me: usize) {
        struct Suspends<'a, C: Switch>(&'a Program<C>, usize);

        impl<C: Switch> Drop for Suspends<'_, C> {
            fn drop(&mut self) {
                self.0.suspend(self.1);
            }
        }

        let number = self.draw(100);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _suspends = number.is_multiple_of(2).then_some(Suspends(self, me));
            if number.is_multiple_of(3) {
                self.suspend(me);
            }
            resume_unwind(Box::new(number))
        }));
        let payload = caught.expect_err("it unwinds").downcast::<usize>();
        self.note(me, format!("has caught {}", payload.expect("a number")));
    }
}

proptest! {
    #[test]
    fn a_random_program_runs_alike_on_both(seed: u64) {
        let trace = Program::<x86_64::Coroutine>::trace(seed);
        prop_assert!(trace.len() >= 8);
        prop_assert_eq!(trace, Program::<corosensei::Coroutine>::trace(seed));
    }
}
