//! What std documents of `std::thread` holds for green threads, and on OS
//! threads without a hub, on both backends.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use greenring::runtime::{self, Builder, stats};
use greenring::thread::{self, JoinHandle};

type Log<T> = Rc<RefCell<Vec<T>>>;

/// Yields until `condition` holds. Whoever hangs here is ended by the watchdog.
fn yield_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Yields often enough for every ready green thread to run, several times.
fn yield_a_while() {
    for _ in 0..10 {
        thread::yield_now();
    }
}

/// Calls a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// ----- spawning and joining ---------------------------------------------------

both_backends! {
    fn green_threads_start_in_order_and_not_before_their_spawner_waits() {
        if common::is_shuffled() {
            return;
        }
        let log: Log<u32> = Rc::default();
        let handles: Vec<_> = (0..100)
            .map(|n| {
                let log = Rc::clone(&log);
                thread::spawn(move || log.borrow_mut().push(n))
            })
            .collect();
        assert!(log.borrow().is_empty(), "started before the spawner waited");
        assert_eq!(stats().switches, 0);
        thread::yield_now();
        assert_eq!(*log.borrow(), (0..100).collect::<Vec<_>>());
        assert!(handles.iter().all(JoinHandle::is_finished));
    }

    fn a_green_thread_starts_those_it_spawned_when_it_parks() {
        let log: Log<&str> = Rc::default();
        let theirs = Rc::clone(&log);
        thread::spawn(move || {
            let log = Rc::clone(&theirs);
            let inner = thread::spawn(move || log.borrow_mut().push("inner"));
            theirs.borrow_mut().push("outer");
            inner.join().unwrap();
            theirs.borrow_mut().push("joined");
        })
        .join()
        .unwrap();
        assert_eq!(*log.borrow(), ["outer", "inner", "joined"]);
    }

    fn join_gives_the_result() {
        let handle = thread::spawn(|| String::from("result"));
        assert_eq!(handle.join().unwrap(), "result");
        // One that ended long ago, and one that is not Send.
        let handle = thread::spawn(|| Rc::new(7));
        yield_until(|| handle.is_finished());
        assert_eq!(*handle.join().unwrap(), 7);
        // A large and a zero-sized one.
        assert_eq!(thread::spawn(|| [3_u8; 10_000]).join().unwrap(), [3; 10_000]);
        thread::spawn(|| ()).join().unwrap();
    }

    fn join_gives_the_payload_of_a_panic() {
        let text = thread::spawn(|| panic!("plain")).join().unwrap_err();
        assert_eq!(text.downcast_ref::<&str>(), Some(&"plain"));
        let number = 3;
        let text = thread::spawn(move || panic!("number {number}")).join().unwrap_err();
        assert_eq!(text.downcast_ref::<String>().unwrap(), "number 3");
        let any = thread::spawn(|| panic_any(42_u64)).join().unwrap_err();
        assert_eq!(any.downcast_ref::<u64>(), Some(&42));
        let resumed = thread::spawn(|| resume_unwind(Box::new('c'))).join().unwrap_err();
        assert_eq!(resumed.downcast_ref::<char>(), Some(&'c'));
        assert!(!greenring::Cancelled::is(&resumed));
    }

    fn detached_green_threads_go_on() {
        let steps = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&steps);
        drop(thread::spawn(move || {
            for _ in 0..10 {
                theirs.set(theirs.get() + 1);
                thread::yield_now();
            }
        }));
        yield_until(|| steps.get() == 10);
    }

    fn a_panic_of_a_detached_one_ends_only_that_one() {
        let steps = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&steps);
        let sibling = thread::spawn(move || {
            for _ in 0..10 {
                theirs.set(theirs.get() + 1);
                thread::yield_now();
            }
        });
        drop(thread::spawn(|| panic!("a detached green thread, on purpose")));
        yield_until(|| stats().live == 1);
        assert!(!sibling.is_finished());
        sibling.join().unwrap();
        assert_eq!(steps.get(), 10);
    }

    fn spawning_nests() {
        fn nest(depth: u32) -> u32 {
            if depth == 0 {
                return 0;
            }
            1 + thread::spawn(move || nest(depth - 1)).join().unwrap()
        }
        assert_eq!(nest(1000), 1000);
        assert_eq!(stats().most_live, 1000);
    }

    fn ten_thousand_at_once() {
        let handles: Vec<_> = (0..10_000_u64)
            .map(|n| {
                thread::spawn(move || {
                    thread::park();
                    n
                })
            })
            .collect();
        assert_eq!(stats().live, 10_000);
        thread::yield_now();
        for handle in &handles {
            assert!(!handle.is_finished());
            handle.thread().unpark();
        }
        let sum: u64 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
        assert_eq!(sum, 9_999 * 10_000 / 2);
        assert_eq!(stats().live, 0);
    }

    fn joins_may_come_in_any_order_and_from_green_threads() {
        let first = thread::spawn(|| {
            thread::yield_now();
            1
        });
        let second = thread::spawn(|| {
            yield_a_while();
            2
        });
        let joiner = thread::spawn(move || second.join().unwrap() + first.join().unwrap());
        assert_eq!(joiner.join().unwrap(), 3);
    }

    fn joining_oneself_panics() {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let theirs = Rc::clone(&own);
        let handle = thread::spawn(move || {
            let own = theirs.borrow_mut().take().unwrap();
            let failed = catch_unwind(AssertUnwindSafe(|| own.join())).unwrap_err();
            let text = failed.downcast_ref::<&str>().expect("a sentence");
            assert!(text.contains("cannot join itself"), "{text}");
        });
        let thread = handle.thread().clone();
        *own.borrow_mut() = Some(handle);
        yield_until(|| stats().live == 0);
        assert!(own.borrow().is_none());
        thread.unpark();
    }

    fn is_finished_changes_when_the_green_thread_has_ended() {
        let go = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&go);
        let handle = thread::spawn(move || yield_until(|| theirs.get()));
        assert!(!handle.is_finished());
        yield_a_while();
        assert!(!handle.is_finished());
        go.set(true);
        yield_until(|| handle.is_finished());
        handle.join().unwrap();
    }

    fn it_can_be_joined_from_another_os_thread() {
        let go = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&go);
        let handle = thread::spawn(move || {
            yield_until(|| theirs.load(Ordering::Acquire));
            "result"
        });
        let joiner = std::thread::spawn(move || {
            go.store(true, Ordering::Release);
            let result = handle.join().unwrap();
            assert_eq!(stats().blocks, 0, "joining has started a hub");
            result
        });
        yield_until(|| joiner.is_finished());
        assert_eq!(joiner.join().unwrap(), "result");
    }

    fn it_can_be_joined_from_another_hub() {
        let backend = runtime::backend();
        let go = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&go);
        let handle = thread::spawn(move || {
            yield_until(|| theirs.load(Ordering::Acquire));
            panic_any(5_i32)
        });
        let joiner = std::thread::spawn(move || {
            let joined = move || {
                go.store(true, Ordering::Release);
                thread::spawn(move || handle.join().map(|()| 0).unwrap_err()).join().unwrap()
            };
            Builder::new().backend(backend).run(joined).unwrap()
        });
        yield_until(|| joiner.is_finished());
        assert_eq!(joiner.join().unwrap().downcast_ref::<i32>(), Some(&5));
    }

    fn the_result_stays_when_the_hub_has_ended() {
        let backend = runtime::backend();
        let (ended, cancelled) = std::thread::spawn(move || {
            Builder::new()
                .backend(backend)
                .run(|| {
                    let ended = thread::spawn(|| 1);
                    thread::yield_now();
                    (ended, thread::spawn(|| 2))
                })
                .unwrap()
        })
        .join()
        .unwrap();
        assert!(ended.is_finished() && cancelled.is_finished());
        assert_eq!(ended.join().unwrap(), 1);
        assert!(greenring::Cancelled::is(&cancelled.join().unwrap_err()));
    }
}

// ----- what belongs to a green thread -------------------------------------------

both_backends! {
    fn a_detached_result_is_dropped_on_its_green_thread() {
        let place = Rc::new(Cell::new(None));
        let theirs = Rc::clone(&place);
        let handle = thread::spawn(move || {
            OnDrop(move || {
                // It may even wait there.
                thread::yield_now();
                theirs.set(Some(thread::current().id()));
            })
        });
        let id = handle.thread().id();
        drop(handle);
        yield_until(|| stats().live == 0);
        assert_eq!(place.get(), Some(id));
    }

    fn a_result_that_is_there_is_dropped_by_its_handle() {
        let place = Arc::new(std::sync::Mutex::new(None));
        let theirs = Arc::clone(&place);
        let handle = thread::spawn(move || {
            OnDrop(move || *theirs.lock().unwrap() = Some(std::thread::current().id()))
        });
        yield_until(|| handle.is_finished());
        assert_eq!(*place.lock().unwrap(), None);
        let elsewhere = std::thread::spawn(move || drop(handle));
        let id = elsewhere.thread().id();
        elsewhere.join().unwrap();
        assert_eq!(*place.lock().unwrap(), Some(id));
    }

    fn captures_and_locals_are_gone_before_join_returns() {
        let alive = Rc::new(());
        let captured = Rc::clone(&alive);
        thread::spawn(move || {
            let _local = Rc::clone(&captured);
            thread::yield_now();
        })
        .join()
        .unwrap();
        assert_eq!(Rc::strong_count(&alive), 1);
        let captured = Rc::clone(&alive);
        let panicked = thread::spawn(move || {
            let _local = Rc::clone(&captured);
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    fn large_and_aligned_captures_arrive_whole() {
        #[repr(align(128))]
        struct Aligned([u8; 128]);
        let medium = [1_u8; 512];
        let large = [2_u8; 5_000];
        let aligned = Aligned([3; 128]);
        let handle = thread::spawn(move || {
            let aligned = &aligned;
            assert_eq!(std::ptr::from_ref(aligned).addr() % 128, 0);
            assert!(aligned.0.iter().all(|byte| *byte == 3));
            medium.iter().chain(&large).map(|byte| u32::from(*byte)).sum::<u32>()
        });
        assert_eq!(handle.join().unwrap(), 512 + 10_000);
        macro_rules! captures_of {
            ($($size:literal)*) => {$({
                let bytes = [5_u8; $size];
                let handle = thread::spawn(move || bytes.iter().filter(|b| **b == 5).count());
                assert_eq!(handle.join().unwrap(), $size);
            })*};
        }
        captures_of!(1 480 488 496 504 508 512 516 520 768 1000 1016 1024 1032 2048);
    }

    fn names_and_ids() {
        let named = thread::Builder::new()
            .name("worker-3".to_owned())
            .spawn(|| (thread::current().name().map(str::to_owned), thread::current().id()))
            .unwrap();
        let handle = named.thread().clone();
        assert_eq!(handle.name(), Some("worker-3"));
        assert_eq!(named.join().unwrap(), (Some("worker-3".to_owned()), handle.id()));
        let unnamed = thread::spawn(|| thread::current().name().map(str::to_owned));
        assert_eq!(unnamed.thread().name(), None);
        assert_eq!(unnamed.join().unwrap(), None);
        // The root goes by its OS thread's name.
        assert_eq!(thread::current().name(), std::thread::current().name());
        assert_eq!(thread::current().id(), thread::current().id());
        let mut ids = HashSet::from([thread::current().id()]);
        for _ in 0..100 {
            // The block is used again, the id is not.
            let handle = thread::spawn(|| thread::current().id());
            assert!(ids.insert(handle.join().unwrap()));
        }
        let elsewhere = std::thread::spawn(|| {
            let id = thread::current().id();
            assert_eq!(id, thread::current().id());
            id
        });
        assert!(ids.insert(elsewhere.join().unwrap()));
    }

    fn debug_shows_what_std_shows() {
        let handle = thread::Builder::new().name("shown".to_owned()).spawn(|| {}).unwrap();
        assert_eq!(format!("{handle:?}"), "JoinHandle { .. }");
        let thread = format!("{:?}", handle.thread());
        assert!(thread.starts_with("Thread { id: ThreadId("), "{thread}");
        assert!(thread.contains("name: Some(\"shown\")"), "{thread}");
        let builder = thread::Builder::new().stack_size(4);
        assert!(format!("{builder:?}").contains("stack_size: Some(4)"), "{builder:?}");
    }

    fn a_name_with_a_zero_byte_panics() {
        let builder = thread::Builder::new().name("a\0b".to_owned());
        assert!(catch_unwind(AssertUnwindSafe(|| builder.spawn(|| {}))).is_err());
        assert_eq!(stats().spawned, 0);
    }

    fn a_stack_size_that_cannot_be_had_is_an_error() {
        for size in [usize::MAX, (1 << 30) + 1] {
            let error = thread::Builder::new().stack_size(size).spawn(|| {}).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&size.to_string()), "{error}");
        }
        assert_eq!((stats().live, stats().blocks), (0, 1));
        // Small ones are rounded up, and the most is allowed.
        for size in [0, 1, 4096, 16_384, 1 << 30] {
            let small = thread::Builder::new().stack_size(size).spawn(move || size).unwrap();
            assert_eq!(small.join().unwrap(), size);
        }
    }

    fn what_a_refused_closure_owns_may_spawn_when_it_is_dropped() {
        let ran = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&ran);
        let owned = OnDrop(move || {
            let ran = Rc::clone(&theirs);
            thread::spawn(move || ran.set(true)).join().unwrap();
        });
        let refused = thread::Builder::new().stack_size(usize::MAX).spawn(move || drop(owned));
        assert!(refused.is_err());
        assert!(ran.get());
    }

    fn recursion_within_the_stack() {
        #[inline(never)]
        fn descend(bytes: usize) -> usize {
            let frame = std::hint::black_box([1_u8; 1000]);
            if bytes <= 2000 {
                return frame.len();
            }
            descend(bytes - 2000) + usize::from(frame[999])
        }
        // A debug build's frame is about twice the array.
        thread::spawn(|| descend(100_000)).join().unwrap();
        let large = thread::Builder::new().stack_size(16 << 20);
        large.spawn(|| descend(8 << 20)).unwrap().join().unwrap();
    }

    fn a_borrowing_closure_can_be_spawned_unchecked() {
        let mut numbers = vec![1, 2, 3];
        let builder = thread::Builder::new();
        // SAFETY: joined before `numbers` is used again.
        let handle = unsafe { builder.spawn_unchecked(|| numbers.push(4)) }.unwrap();
        handle.join().unwrap();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    fn green_threads_share_the_locals_of_their_os_thread() {
        thread_local!(static LOCAL: Cell<u32> = const { Cell::new(1) });
        LOCAL.set(2);
        assert_eq!(thread::spawn(|| LOCAL.replace(3)).join().unwrap(), 2);
        assert_eq!(LOCAL.get(), 3);
        let shared = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&shared);
        thread::spawn(move || theirs.set(1)).join().unwrap();
        assert_eq!(shared.get(), 1);
    }
}

// ----- parking ------------------------------------------------------------------

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

both_backends! {
    fn an_unpark_beforehand_makes_park_return_at_once() {
        thread::current().unpark();
        thread::park();
        let handle = thread::spawn(|| {
            thread::current().unpark();
            thread::park();
        });
        handle.join().unwrap();
        // Also before it has begun.
        let handle = thread::spawn(thread::park);
        handle.thread().unpark();
        handle.join().unwrap();
    }

    fn two_unparks_are_one_token() {
        let passed = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&passed);
        let handle = thread::spawn(move || {
            for _ in 0..3 {
                thread::park();
                theirs.set(theirs.get() + 1);
            }
        });
        handle.thread().unpark();
        handle.thread().unpark();
        yield_a_while();
        assert_eq!(passed.get(), 1);
        // And while it is parked.
        handle.thread().unpark();
        handle.thread().unpark();
        yield_a_while();
        assert_eq!(passed.get(), 2);
        handle.thread().unpark();
        handle.join().unwrap();
        assert_eq!(passed.get(), 3);
    }

    fn unparked_green_threads_run_in_the_order_of_the_unparks() {
        if common::is_shuffled() {
            return;
        }
        let log: Log<usize> = Rc::default();
        let handles: Vec<_> = (0..10)
            .map(|n| {
                let log = Rc::clone(&log);
                thread::spawn(move || {
                    thread::park();
                    log.borrow_mut().push(n);
                })
            })
            .collect();
        thread::yield_now();
        let order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];
        for n in order {
            handles[n].thread().unpark();
        }
        thread::yield_now();
        assert_eq!(*log.borrow(), order);
    }

    fn an_unpark_from_another_os_thread_ends_a_park() {
        let root = thread::current();
        let unparked = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&unparked);
        let elsewhere = std::thread::spawn(move || {
            theirs.store(true, Ordering::Release);
            root.unpark();
        });
        while !unparked.load(Ordering::Acquire) {
            thread::park();
        }
        elsewhere.join().unwrap();
    }

    fn an_unpark_during_a_sleep_is_kept_for_the_next_park() {
        const NAP: Duration = Duration::from_millis(20);
        let handle = thread::spawn(|| {
            let begin = Instant::now();
            thread::sleep(NAP);
            assert!(begin.elapsed() >= NAP, "the unpark has shortened the sleep");
            thread::park();
        });
        thread::yield_now();
        assert_eq!(stats().timers_armed, 1, "it sleeps");
        handle.thread().unpark();
        let thread = handle.thread().clone();
        std::thread::spawn(move || thread.unpark()).join().unwrap();
        handle.join().unwrap();
    }

    fn an_unpark_that_comes_with_the_deadline_does_not_shorten_the_next_wait() {
        const NAP: Duration = Duration::from_millis(20);
        let handle = thread::spawn(|| {
            thread::park_timeout(Duration::from_millis(1));
            let begin = Instant::now();
            thread::sleep(NAP);
            assert!(begin.elapsed() >= NAP, "the unpark has shortened the sleep");
        });
        thread::yield_now();
        let thread = handle.thread().clone();
        let parked = Instant::now();
        std::thread::spawn(move || thread.unpark()).join().unwrap();
        // The loop sees the unpark and the deadline in the same turn.
        while parked.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        handle.join().unwrap();
    }

    fn an_unpark_during_a_join_is_kept_for_the_next_park() {
        let go = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&go);
        let joined = thread::spawn(move || yield_until(|| theirs.get()));
        let flag = Rc::clone(&go);
        let joiner = thread::spawn(move || {
            joined.join().unwrap();
            assert!(flag.get());
            thread::park();
        });
        yield_a_while();
        joiner.thread().unpark();
        yield_a_while();
        assert!(!joiner.is_finished());
        go.set(true);
        joiner.join().unwrap();
    }

    fn park_timeout_waits_that_long_and_no_longer_than_an_unpark() {
        const TIMEOUT: Duration = Duration::from_millis(5);
        let begin = Instant::now();
        thread::park_timeout(TIMEOUT);
        assert!(begin.elapsed() >= TIMEOUT);
        thread::park_timeout(Duration::ZERO);
        let handle = thread::spawn(|| thread::park_timeout(LONG));
        let forever = thread::spawn(|| thread::park_timeout(Duration::MAX));
        thread::yield_now();
        assert_eq!(stats().timers_armed, 1, "a deadline that cannot be told is none");
        handle.thread().unpark();
        forever.thread().unpark();
        handle.join().unwrap();
        forever.join().unwrap();
        assert_eq!(stats().timers_armed, 0);
        // The token is there already.
        thread::current().unpark();
        thread::park_timeout(LONG);
        // It was taken: this one waits.
        let begin = Instant::now();
        thread::park_timeout(TIMEOUT);
        assert!(begin.elapsed() >= TIMEOUT);
    }

    fn an_unpark_of_one_that_has_ended_wakes_nobody() {
        let ended = thread::spawn(|| {});
        let old = ended.thread().clone();
        ended.join().unwrap();
        // In the same block.
        let handle = thread::spawn(thread::park);
        assert_eq!(stats().blocks, 2);
        thread::yield_now();
        old.unpark();
        yield_a_while();
        assert!(!handle.is_finished());
        handle.thread().unpark();
        handle.join().unwrap();
    }

    fn yield_now_goes_round() {
        if common::is_shuffled() {
            return;
        }
        let log: Log<u32> = Rc::default();
        let handles: Vec<_> = (0..3)
            .map(|n| {
                let log = Rc::clone(&log);
                thread::spawn(move || {
                    for _ in 0..4 {
                        log.borrow_mut().push(n);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
        assert_eq!(*log.borrow(), [0, 1, 2].repeat(4));
    }
}

// ----- sleeping -------------------------------------------------------------------

both_backends! {
    fn sleep_is_never_early() {
        for nanoseconds in [1, 1000, 65_535, 65_537, 1_000_000, 3_500_000] {
            let time = Duration::from_nanos(nanoseconds);
            let begin = Instant::now();
            thread::sleep(time);
            assert!(begin.elapsed() >= time);
            let deadline = Instant::now() + time;
            thread::sleep_until(deadline);
            assert!(Instant::now() >= deadline);
        }
    }

    fn sleepers_wake_in_the_order_of_their_deadlines() {
        if common::is_shuffled() {
            return;
        }
        let log: Log<u64> = Rc::default();
        let base = Instant::now() + Duration::from_millis(30);
        let handles: Vec<_> = [4, 2, 5, 1, 3]
            .map(|n| {
                let log = Rc::clone(&log);
                thread::spawn(move || {
                    thread::sleep_until(base + Duration::from_millis(n));
                    log.borrow_mut().push(n);
                })
            })
            .into();
        thread::yield_now();
        let in_time = Instant::now() < base;
        for handle in handles {
            handle.join().unwrap();
        }
        // If this OS thread was stopped for that long, some were armed late.
        if in_time {
            assert_eq!(*log.borrow(), [1, 2, 3, 4, 5]);
        }
    }

    fn others_run_while_one_sleeps() {
        let slept = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&slept);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            theirs.set(true);
        });
        let mut turns = 0_u64;
        while !slept.get() {
            thread::yield_now();
            turns += 1;
        }
        assert!(turns > 1, "the sleep has stopped the hub");
    }

    fn a_zero_sleep_lets_the_others_run() {
        let ran = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&ran);
        thread::spawn(move || theirs.set(true));
        thread::sleep(Duration::ZERO);
        assert!(ran.get());
        thread::sleep_until(Instant::now());
        thread::sleep_until(Instant::now() - Duration::from_millis(1));
    }

    fn very_long_sleeps_do_not_end() {
        let ended = Rc::new(Cell::new(0));
        for time in [Duration::MAX, LONG, 1000 * 365 * 24 * LONG, Duration::from_nanos(u64::MAX)] {
            let ended = Rc::clone(&ended);
            thread::spawn(move || {
                thread::sleep(time);
                ended.set(ended.get() + 1);
            });
        }
        let far = Instant::now() + 300 * 365 * 24 * LONG;
        let theirs = Rc::clone(&ended);
        thread::spawn(move || {
            thread::sleep_until(far);
            theirs.set(theirs.get() + 1);
        });
        // The nearest deadline beside them still counts.
        thread::sleep(Duration::from_millis(1));
        yield_a_while();
        assert_eq!((ended.get(), stats().live), (0, 5));
    }
}

// ----- OS threads without a hub ------------------------------------------------------

/// Nothing here may start a hub, which would show as its root's block.
#[track_caller]
fn assert_no_hub() {
    assert_eq!(
        format!("{:?}", stats()),
        format!("{:?}", runtime::Stats::default())
    );
    assert_eq!(stats().blocks, 0);
}

#[test]
fn an_os_thread_without_a_hub_waits_as_std_and_starts_none() {
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    let named = std::thread::Builder::new().name("bare".to_owned());
    let bare = named.spawn(|| {
        assert_eq!(thread::current().name(), Some("bare"));
        assert_eq!(thread::current().id(), thread::current().id());
        thread::current().unpark();
        thread::park();
        let begin = Instant::now();
        thread::park_timeout(Duration::from_millis(2));
        thread::sleep(Duration::from_millis(2));
        thread::sleep_until(Instant::now() + Duration::from_millis(2));
        assert!(begin.elapsed() >= Duration::from_millis(6));
        thread::sleep(Duration::ZERO);
        thread::yield_now();
        let me = thread::current();
        let unparked = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&unparked);
        let other = std::thread::spawn(move || {
            theirs.store(true, Ordering::Release);
            me.unpark();
        });
        while !unparked.load(Ordering::Acquire) {
            thread::park();
        }
        other.join().unwrap();
        assert_no_hub();
    });
    bare.unwrap().join().unwrap();
}

#[test]
fn an_os_thread_without_a_hub_joins_without_starting_one() {
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    let (handles, received) = mpsc::channel();
    let done = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&done);
    let home = std::thread::spawn(move || {
        let waits = thread::spawn(move || {
            yield_until(|| theirs.load(Ordering::Acquire) == 1);
            1
        });
        let panics = thread::spawn(|| panic!("on purpose"));
        let cancelled = thread::spawn(thread::park);
        let (waiting, over) = (waits.thread().clone(), stats().live);
        assert_eq!((waiting.name(), over), (None, 3));
        handles.send((waits, panics, cancelled)).unwrap();
        yield_until(|| stats().live == 1);
        // The last one is abandoned with the implicit hub.
    });
    let (waits, panics, abandoned) = received.recv().unwrap();
    assert!(!waits.is_finished());
    done.store(1, Ordering::Release);
    assert_eq!(waits.join().unwrap(), 1);
    assert_eq!(
        panics.join().unwrap_err().downcast_ref(),
        Some(&"on purpose")
    );
    let error = abandoned.join().unwrap_err();
    assert!(greenring::Cancelled::is(&error));
    assert_no_hub();
    home.join().unwrap();
}
