//! Locks, conditions, barriers, semaphores and events: what std's documentation
//! says of them, in what order waiters come, what poisons, and what is never
//! lost by a cancellation.

mod common;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::Rng;
use common::places::{PLACES, Place};
use greenring::sync::{
    Arc, Barrier, Condvar, Event, Mutex, MutexGuard, OwnedPermit, Permit, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore, TryLockError,
};
use greenring::thread::{self, JoinHandle};
use greenring::{Cancelled, cancel, time};

const MOMENT: Duration = Duration::from_millis(1);
/// Longer than any test lasts.
const LONG: Duration = Duration::from_secs(3600);

/// Lives as long as the process.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn text(payload: &(dyn Any + Send)) -> String {
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => (*payload.downcast_ref::<&str>().expect("a text")).to_owned(),
    }
}

#[track_caller]
fn assert_cancelled<T>(handle: JoinHandle<T>) {
    let payload = handle.join().err().expect("it was cancelled");
    assert!(Cancelled::is(&payload), "{}", text(&*payload));
}

#[track_caller]
fn assert_panics(part: &str, f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    let text = text(&*payload);
    assert!(text.contains(part), "{text:?} lacks {part:?}");
    text
}

/// Calls a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<usize>>>);

impl Log {
    fn add(&self, what: usize) {
        self.0.borrow_mut().push(what);
    }

    fn take(&self) -> Vec<usize> {
        self.0.take()
    }
}

/// Starts green threads 0, 1, … in this order; each logs its number when `wait`
/// has returned.
fn line_up(n: usize, log: &Log, wait: impl Fn(usize) + 'static) -> Vec<JoinHandle<()>> {
    let wait = Rc::new(wait);
    let handles = (0..n).map(|i| {
        let (log, wait) = (log.clone(), Rc::clone(&wait));
        thread::spawn(move || {
            wait(i);
            log.add(i);
        })
    });
    let handles = handles.collect();
    thread::yield_now();
    handles
}

fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) {
    for handle in handles {
        handle.join().unwrap();
    }
}

// ----- Mutex ------------------------------------------------------------------------

/// A hundred thousand, or less where each stack takes a mapping (before Linux
/// 6.13, here by a mask), of which there are some 65 000.
fn crowd() -> usize {
    let masked = std::env::var("GREENRING_DISABLE").unwrap_or_default();
    if masked.contains("guard_install") {
        println!("10 000 only, because each stack takes two mappings");
        10_000
    } else {
        100_000
    }
}

both_backends! {
    fn only_one_has_the_mutex_wherever_it_lives() {
        let counter = leaked(Mutex::new(0_u64));
        let contend = |place: Place| {
            place.run(move || {
                for round in 0..500 {
                    let mut guard = counter.lock().unwrap();
                    let before = *guard;
                    if round % 8 == 0 {
                        thread::yield_now();
                    }
                    *guard = before + 1;
                }
            })
        };
        let others: Vec<_> = PLACES.into_iter().cycle().take(9).map(contend).collect();
        for other in others {
            other.join();
        }
        assert_eq!(*counter.lock().unwrap(), 9 * 500);
    }

    fn the_mutex_goes_to_those_who_wait_in_the_order_in_which_they_came() {
        if common::is_shuffled() {
            return;
        }
        let mutex = leaked(Mutex::new(()));
        let log = Log::default();
        let guard = mutex.lock().unwrap();
        let handles = line_up(10, &log, |_| drop(mutex.lock().unwrap()));
        drop(guard);
        // It is handed over: a newcomer does not overtake.
        assert!(mutex.try_lock().is_err());
        drop(mutex.lock().unwrap());
        join_all(handles);
        assert_eq!(log.take(), (0..10).collect::<Vec<_>>());
    }

    fn a_hundred_thousand_get_the_mutex_in_their_order() {
        if common::is_shuffled() {
            return;
        }
        let next = leaked(Mutex::new(0));
        let guard = next.lock().unwrap();
        let n = crowd();
        let handles: Vec<_> = (0..n)
            .map(|i| {
                thread::spawn(move || {
                    let mut next = next.lock().unwrap();
                    assert_eq!(*next, i);
                    *next += 1;
                })
            })
            .collect();
        thread::yield_now();
        drop(guard);
        join_all(handles);
        assert_eq!(*next.lock().unwrap(), n);
    }

    fn try_lock_never_waits_and_never_panics() {
        let mutex = leaked(Mutex::new(1));
        let guard = mutex.try_lock().unwrap();
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        for place in PLACES {
            let other = place.run(|| mutex.try_lock().is_err());
            assert!(other.join(), "{place:?}");
        }
        drop(guard);
        for place in PLACES {
            let other = place.run(|| mutex.try_lock().map(|guard| *guard).unwrap());
            assert_eq!(other.join(), 1, "{place:?}");
        }
    }

    fn locking_ones_own_mutex_again_panics_and_names_both() {
        let mutex = leaked(Mutex::new(1));
        let address = format!("{:p}", std::ptr::from_ref(mutex));
        let relock = || {
            let _guard = mutex.lock().unwrap_or_else(|error| error.into_inner());
            assert_panics("has locked", || drop(mutex.lock()))
        };
        let worker = thread::Builder::new().name("worker-3".to_owned());
        let said = worker.spawn(relock).unwrap().join().unwrap();
        for part in ["green thread worker-3 (id ", "Mutex<i32>", &address] {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        let said = thread::spawn(relock).join().unwrap();
        assert!(said.contains("green thread unnamed (id "), "{said:?}");
        let said = Place::OsThread.run(relock).join();
        assert!(said.contains("OS thread unnamed (id "), "{said:?}");
        let said = relock();
        assert!(said.contains("OS thread "), "{said:?}");
        // It was caught inside: the first guard was not dropped by it.
        assert!(!mutex.is_poisoned());
    }

    fn a_mutex_that_one_has_unlocked_can_be_locked_again() {
        let mutex = Mutex::new(0);
        for _ in 0..3 {
            *mutex.lock().unwrap() += 1;
        }
        drop(mutex.try_lock().unwrap());
        assert_eq!(mutex.into_inner().unwrap(), 3);
    }

    // Hazard 34.
    fn every_guard_may_be_dropped_by_a_sibling() {
        let mutex = leaked(Mutex::new(0));
        let lock = leaked(RwLock::new(0));
        let semaphore = leaked(Semaphore::new(1));
        let guard: MutexGuard<'static, i32> = mutex.lock().unwrap();
        let handle = thread::spawn(move || drop(guard));
        // Only the sibling can unlock it, which has not run.
        assert!(mutex.try_lock().is_err());
        handle.join().unwrap();
        drop(mutex.lock().unwrap());
        drop(mutex.lock().unwrap());

        let guard: RwLockReadGuard<'static, i32> = lock.read().unwrap();
        thread::spawn(move || drop(guard)).join().unwrap();
        let guard: RwLockWriteGuard<'static, i32> = lock.write().unwrap();
        thread::spawn(move || drop(guard)).join().unwrap();
        drop(lock.write().unwrap());
        drop(lock.write().unwrap());

        let permit: Permit<'static> = semaphore.acquire();
        for place in PLACES {
            assert!(place.run(|| semaphore.try_acquire().is_none()).join());
        }
        Place::AnotherHub.run(move || drop(permit)).join();
        assert_eq!(semaphore.available(), 1);
    }

    fn a_waiter_that_is_cancelled_leaves_the_line() {
        if common::is_shuffled() {
            return;
        }
        let mutex = leaked(Mutex::new(()));
        let log = Log::default();
        let guard = mutex.lock().unwrap();
        let mut handles = line_up(3, &log, |_| drop(mutex.lock().unwrap()));
        let first = handles.remove(0);
        first.cancel();
        assert_cancelled(first);
        drop(guard);
        join_all(handles);
        assert_eq!(log.take(), [1, 2]);
        assert!(!mutex.is_poisoned());
        assert!(mutex.try_lock().is_ok());
    }

    fn a_waiter_that_was_given_the_mutex_keeps_it_when_it_is_cancelled() {
        if common::is_shuffled() {
            return;
        }
        let mutex = leaked(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let first = thread::spawn(move || {
            *mutex.lock().unwrap() += 1;
            let _guard = mutex.lock().unwrap();
            thread::sleep(LONG);
        });
        let second = thread::spawn(move || *mutex.lock().unwrap() += 1);
        thread::yield_now();
        drop(guard);
        first.cancel();
        assert_cancelled(first);
        second.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 2);
    }

    fn a_time_limit_ends_the_wait_for_a_mutex() {
        let mutex = leaked(Mutex::new(()));
        for place in PLACES {
            let (held, release) = (leaked(Event::new()), leaked(Event::new()));
            let other = place.run(move || {
                let _guard = mutex.lock().unwrap();
                held.set();
                release.wait();
            });
            held.wait();
            assert!(time::timeout(MOMENT, || drop(mutex.lock())).is_err());
            release.set();
            assert!(time::timeout(LONG, || drop(mutex.lock().unwrap())).is_ok());
            other.join();
        }
    }
}

#[test]
fn a_mutex_looks_like_stds() {
    let (ours, std) = (Mutex::new(vec![1]), std::sync::Mutex::new(vec![1]));
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{std:?} {std:#?}"));
    let (one, other) = (ours.lock().unwrap(), std.lock().unwrap());
    // std's quotes around `<locked>` come and go with its versions.
    let std_says = format!("{std:?} {other:?}").replace('"', "");
    assert_eq!(format!("{ours:?} {one:?}").replace('"', ""), std_says);
    drop((one, other));
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guards = (ours.lock().unwrap(), std.lock().unwrap());
        panic!("on purpose");
    }));
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    let (one, other) = (ours.try_lock(), std.try_lock());
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert_eq!(
        format!("{}", Mutex::new("x").lock().unwrap()),
        "x",
        "a guard shows its value"
    );
    assert_eq!(Mutex::<u8>::default().into_inner().unwrap(), 0);
    assert_eq!(Mutex::from(7).into_inner().unwrap(), 7);
}

#[test]
fn values_may_be_unsized() {
    let mutex: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
    mutex.lock().unwrap()[0] = 10;
    assert_eq!(*mutex.lock().unwrap(), [10, 2, 3]);
    let mut boxed: Box<RwLock<dyn Debug>> = Box::new(RwLock::new(5));
    assert_eq!(format!("{:?}", boxed.get_mut().unwrap()), "5");
    assert_eq!(format!("{:?}", &*boxed.read().unwrap()), "5");
    drop(boxed.write().unwrap());
}

#[test]
fn a_lock_drops_its_value_once() {
    let dropped = Rc::new(Cell::new(0));
    let value = || {
        let dropped = Rc::clone(&dropped);
        OnDrop(move || dropped.set(dropped.get() + 1))
    };
    drop(Mutex::new(value()));
    drop(Mutex::new(value()).into_inner().unwrap());
    drop(RwLock::new(value()));
    drop(RwLock::new(value()).into_inner().unwrap());
    assert_eq!(dropped.get(), 4);
}

both_backends! {
    fn one_that_is_abandoned_with_its_hub_does_not_keep_the_mutex_from_the_others() {
        let mutex = leaked(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let (waits, waiting) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let os_thread = std::thread::spawn(move || {
            drop(thread::spawn(|| drop(mutex.lock())));
            thread::yield_now();
            waits.send(()).unwrap();
            ends.recv().unwrap();
        });
        waiting.recv().unwrap();
        let behind = thread::spawn(|| drop(mutex.lock().unwrap()));
        thread::yield_now();
        // The first in the line is told, and does not hear it.
        drop(guard);
        end.send(()).unwrap();
        os_thread.join().unwrap();
        drop(mutex.lock().unwrap());
        behind.join().unwrap();
        assert!(mutex.try_lock().is_ok());
    }
}

#[test]
fn waiting_for_what_nobody_gives_back_is_told() {
    const TEST: &str = "waiting_for_what_nobody_gives_back_is_told";
    // In a process of its own first: a fork while another test prints would
    // leave stderr locked in the child.
    if common::is_child(TEST) {
        let code = common::forked(|| {
            let mutex = leaked(Mutex::new(()));
            thread::spawn(|| std::mem::forget(mutex.lock()))
                .join()
                .unwrap();
            let said = assert_panics("this wait would last for ever", || drop(mutex.lock()));
            assert!(said.contains("waits for a Mutex"), "{said}");
            assert_panics("this wait would last for ever", || Event::new().wait());
            0
        });
        assert_eq!(code, 0);
        return;
    }
    common::child_on_each_backend(TEST, TEST, &[], common::Child::assert_success);
}

// ----- poison -----------------------------------------------------------------------

both_backends! {
    fn a_panic_poisons_what_is_held() {
        for place in PLACES {
            let mutex = leaked(Mutex::new(1));
            let lock = leaked(RwLock::new(1));
            let other = place.run(|| {
                let (_guard, _writer) = (mutex.lock().unwrap(), lock.write().unwrap());
                panic!("on purpose");
            });
            assert!(other.outcome().is_err());
            assert!(mutex.is_poisoned() && lock.is_poisoned());
            assert_eq!(*mutex.lock().unwrap_err().into_inner(), 1);
            assert_eq!(*lock.read().unwrap_err().into_inner(), 1);
            assert_eq!(*lock.write().unwrap_err().into_inner(), 1);
            assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
            assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
            assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
            // A second use without a panic does not heal it.
            assert!(mutex.is_poisoned() && lock.is_poisoned());
            mutex.clear_poison();
            lock.clear_poison();
            assert_eq!(*mutex.lock().unwrap() + *lock.read().unwrap(), 2);
        }
    }

    fn a_poisoned_lock_gives_its_value_with_an_error() {
        let (mut mutex, mut lock) = (Mutex::new(1), RwLock::new(1));
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _guards = (mutex.lock(), lock.write());
            panic!("on purpose");
        }));
        **mutex.get_mut().unwrap_err().get_mut() = 2;
        **lock.get_mut().unwrap_err().get_mut() = 2;
        assert_eq!(mutex.into_inner().unwrap_err().into_inner(), 2);
        assert_eq!(lock.into_inner().unwrap_err().into_inner(), 2);
    }

    fn a_reader_that_panics_does_not_poison() {
        for place in PLACES {
            let lock = leaked(RwLock::new(()));
            let other = place.run(|| {
                let _reader = lock.read().unwrap();
                panic!("on purpose");
            });
            assert!(other.outcome().is_err());
            assert!(!lock.is_poisoned());
            drop(lock.write().unwrap());
        }
    }

    fn a_cancelled_holder_does_not_poison() {
        let mutex = leaked(Mutex::new(()));
        let lock = leaked(RwLock::new(()));
        let handle = thread::spawn(|| {
            let (_guard, _writer) = (mutex.lock().unwrap(), lock.write().unwrap());
            thread::park();
        });
        thread::yield_now();
        handle.cancel();
        assert_cancelled(handle);
        drop((mutex.lock().unwrap(), lock.write().unwrap()));
        let result = time::timeout(MOMENT, || {
            let (_guard, _writer) = (mutex.lock().unwrap(), lock.write().unwrap());
            thread::park();
        });
        assert!(result.is_err());
        drop((mutex.lock().unwrap(), lock.write().unwrap()));
    }

    fn a_panic_after_a_time_limit_that_was_caught_poisons() {
        let mutex = leaked(Mutex::new(()));
        let handle = thread::spawn(|| {
            let _guard = mutex.lock().unwrap();
            time::timeout(Duration::ZERO, thread::park).unwrap_err();
            panic!("on purpose");
        });
        assert!(handle.join().is_err());
        assert!(mutex.is_poisoned());
    }

    // STD.md 10, hazard 10.
    fn a_guard_taken_while_unwinding_does_not_poison() {
        let mutex = leaked(Mutex::new(()));
        let lock = leaked(RwLock::new(()));
        let handle = thread::spawn(|| {
            let _late = OnDrop(|| {
                let (_guard, _writer) = (mutex.lock().unwrap(), lock.write().unwrap());
            });
            panic!("on purpose");
        });
        assert!(handle.join().is_err());
        assert!(!mutex.is_poisoned() && !lock.is_poisoned());
    }

    fn a_sibling_that_waits_in_the_middle_of_unwinding_poisons_nothing_of_others() {
        let (mutex, lock) = (leaked(Mutex::new(())), leaked(RwLock::new(())));
        let (before, go_on) = (leaked(Mutex::new(())), leaked(Event::new()));
        let sibling = thread::spawn(|| {
            thread::yield_now();
            let _late = OnDrop(|| go_on.wait());
            panic!("on purpose");
        });
        let holder = thread::spawn(|| {
            let _before = before.lock().unwrap();
            thread::yield_now();
            thread::yield_now();
            assert!(thread::panicking(), "it is the OS thread's");
            drop((mutex.lock().unwrap(), lock.write().unwrap()));
        });
        holder.join().unwrap();
        assert!(!before.is_poisoned() && !mutex.is_poisoned() && !lock.is_poisoned());
        let held = mutex.lock().unwrap();
        go_on.set();
        assert!(sibling.join().is_err());
        drop(held);
        assert!(!mutex.is_poisoned());
    }
}

// Hazard 30.
#[test]
fn guards_may_be_dropped_by_the_last_destructors_of_an_os_thread() {
    struct Held {
        _guard: MutexGuard<'static, i32>,
        _reader: RwLockReadGuard<'static, i32>,
        _permit: OwnedPermit,
    }
    thread_local! {
        static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
    }
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    for with_hub in [false, true] {
        for hub_first in [false, true] {
            let mutex = leaked(Mutex::new(0));
            let lock = leaked(RwLock::new(0));
            let semaphore = Arc::new(Semaphore::new(1));
            let permits = Arc::clone(&semaphore);
            std::thread::spawn(move || {
                if with_hub && hub_first {
                    thread::yield_now();
                    thread::spawn(|| ()).join().unwrap();
                }
                HELD.set(Some(Held {
                    _guard: mutex.lock().unwrap(),
                    _reader: lock.read().unwrap(),
                    _permit: permits.acquire_owned(),
                }));
                if with_hub && !hub_first {
                    thread::spawn(|| ()).join().unwrap();
                }
            })
            .join()
            .unwrap();
            assert!(mutex.try_lock().is_ok() && lock.try_write().is_ok());
            assert_eq!(semaphore.available(), 1);
        }
    }
}

// ----- RwLock -----------------------------------------------------------------------

both_backends! {
    fn readers_share_and_a_writer_is_alone_wherever_they_live() {
        let lock = leaked(RwLock::new((0_u64, 0_u64)));
        let contend = |(i, place): (usize, Place)| {
            place.run(move || {
                for round in 0..300 {
                    if (round + i) % 3 == 0 {
                        let mut writer = lock.write().unwrap();
                        writer.0 += 1;
                        if round % 8 == 0 {
                            thread::yield_now();
                        }
                        writer.1 += 1;
                    } else {
                        let reader = lock.read().unwrap();
                        if round % 8 == 0 {
                            thread::yield_now();
                        }
                        assert_eq!(reader.0, reader.1);
                    }
                }
            })
        };
        let places = PLACES.into_iter().cycle().take(9).enumerate();
        let others: Vec<_> = places.map(contend).collect();
        for other in others {
            other.join();
        }
        assert_eq!(*lock.read().unwrap(), (900, 900));
    }

    fn a_reader_does_not_overtake_a_writer_that_waits() {
        if common::is_shuffled() {
            return;
        }
        let lock = leaked(RwLock::new(()));
        let log = Log::default();
        let reader = lock.read().unwrap();
        let at_once = lock.read().unwrap();
        let handles = line_up(5, &log, |i| match i {
            0 | 3 => drop(lock.write().unwrap()),
            _ => drop(lock.read().unwrap()),
        });
        assert!(lock.try_read().is_err());
        drop(reader);
        thread::yield_now();
        assert_eq!(log.take(), []);
        drop(at_once);
        join_all(handles);
        assert_eq!(log.take(), [0, 1, 2, 3, 4]);
    }

    fn readers_that_wait_come_in_together() {
        let lock = leaked(RwLock::new(()));
        let together = leaked(Barrier::new(3));
        let log = Log::default();
        let writer = lock.write().unwrap();
        let handles = line_up(3, &log, |_| {
            let _reader = lock.read().unwrap();
            together.wait();
        });
        drop(writer);
        join_all(handles);
        assert_eq!(log.take().len(), 3);
    }

    fn a_cancelled_writer_lets_those_behind_it_in() {
        if common::is_shuffled() {
            return;
        }
        let lock = leaked(RwLock::new(()));
        let log = Log::default();
        let reader = lock.read().unwrap();
        let mut handles = line_up(3, &log, |i| match i {
            0 => drop(lock.write().unwrap()),
            _ => drop(lock.read().unwrap()),
        });
        let writer = handles.remove(0);
        writer.cancel();
        assert_cancelled(writer);
        join_all(handles);
        assert_eq!(log.take(), [1, 2]);
        drop(reader);
        assert!(lock.try_write().is_ok());
    }

    fn a_writer_that_locks_again_panics_and_try_does_not() {
        let lock = leaked(RwLock::new(1));
        let writer = lock.write().unwrap();
        assert_panics("has locked for writing", || drop(lock.read()));
        let said = assert_panics("has locked for writing", || drop(lock.write()));
        let address = format!("{:p}", std::ptr::from_ref(lock));
        assert!(said.contains("RwLock<i32>") && said.contains(&address), "{said}");
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        drop(writer);
        drop(lock.write().unwrap());
    }

    fn a_writer_turns_into_a_reader_in_one_step() {
        for place in PLACES {
            let lock = leaked(RwLock::new(1));
            let mut writer = lock.write().unwrap();
            let other = place.run(move || {
                let mut writer = lock.write().unwrap();
                assert_eq!(*writer, 2);
                *writer = 3;
            });
            thread::yield_now();
            *writer = 2;
            let reader = RwLockWriteGuard::downgrade(writer);
            thread::yield_now();
            assert_eq!(*reader, 2);
            assert!(lock.try_write().is_err());
            drop(reader);
            other.join();
            assert_eq!(*lock.read().unwrap(), 3);
        }
    }

    fn readers_that_wait_come_in_when_the_writer_turns_into_one() {
        if common::is_shuffled() {
            return;
        }
        let lock = leaked(RwLock::new(()));
        let log = Log::default();
        let writer = lock.write().unwrap();
        let handles = line_up(2, &log, |_| drop(lock.read().unwrap()));
        let reader = RwLockWriteGuard::downgrade(writer);
        join_all(handles);
        assert_eq!(log.take(), [0, 1]);
        drop(reader);
        drop(lock.write().unwrap());
    }
}

#[test]
fn an_rwlock_looks_like_stds() {
    let (ours, std) = (RwLock::new("x"), std::sync::RwLock::new("x"));
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{std:?} {std:#?}"));
    let (one, other) = (ours.read().unwrap(), std.read().unwrap());
    assert_eq!(
        format!("{ours:?} {one:?} {one}"),
        format!("{std:?} {other:?} {other}")
    );
    drop((one, other));
    let (one, other) = (ours.write().unwrap(), std.write().unwrap());
    assert_eq!(
        format!("{ours:?} {one:?} {one}"),
        format!("{std:?} {other:?} {other}")
    );
    drop((one, other));
    assert_eq!(RwLock::<u8>::default().into_inner().unwrap(), 0);
    assert_eq!(RwLock::from(7).into_inner().unwrap(), 7);
}

// ----- Condvar ----------------------------------------------------------------------

both_backends! {
    fn a_notification_without_waiters_is_nothing() {
        let (mutex, condvar) = (Mutex::new(()), Condvar::default());
        condvar.notify_one();
        condvar.notify_all();
        let guard = mutex.lock().unwrap();
        let (_guard, result) = condvar.wait_timeout(guard, MOMENT).unwrap();
        assert!(result.timed_out());
    }

    fn waiting_unlocks_the_mutex_and_returns_with_it_locked() {
        for place in PLACES {
            let pair = leaked((Mutex::new(false), Condvar::new()));
            let mut guard = pair.0.lock().unwrap();
            let other = place.run(move || {
                // Only the waiter can have unlocked it.
                *pair.0.lock().unwrap() = true;
                pair.1.notify_one();
            });
            while !*guard {
                guard = pair.1.wait(guard).unwrap();
            }
            assert!(pair.0.try_lock().is_err());
            drop(guard);
            other.join();
        }
    }

    fn notify_one_wakes_them_in_the_order_in_which_they_came() {
        if common::is_shuffled() {
            return;
        }
        let (mutex, condvar) = (leaked(Mutex::new(())), leaked(Condvar::new()));
        let log = Log::default();
        let handles = line_up(4, &log, |_| drop(condvar.wait(mutex.lock().unwrap()).unwrap()));
        for woken in 0..4 {
            thread::yield_now();
            assert_eq!(log.take(), []);
            condvar.notify_one();
            thread::yield_now();
            assert_eq!(log.take(), [woken]);
        }
        join_all(handles);
    }

    fn notify_all_wakes_all_in_the_order_in_which_they_came() {
        if common::is_shuffled() {
            return;
        }
        let (mutex, condvar) = (leaked(Mutex::new(())), leaked(Condvar::new()));
        let log = Log::default();
        let handles = line_up(5, &log, |_| drop(condvar.wait(mutex.lock().unwrap()).unwrap()));
        let guard = mutex.lock().unwrap();
        condvar.notify_all();
        thread::yield_now();
        assert_eq!(log.take(), [], "they wait for the mutex");
        drop(guard);
        join_all(handles);
        assert_eq!(log.take(), [0, 1, 2, 3, 4]);
    }

    fn wait_while_waits_until_the_condition_is_false() {
        for place in PLACES {
            let pair = leaked((Mutex::new(10), Condvar::new()));
            let other = place.run(move || {
                for _ in 0..10 {
                    *pair.0.lock().unwrap() -= 1;
                    pair.1.notify_all();
                    thread::yield_now();
                }
            });
            let left = pair.1.wait_while(pair.0.lock().unwrap(), |left| *left > 0);
            assert_eq!(*left.unwrap(), 0);
            other.join();
        }
    }

    fn a_wait_with_a_time_limit_says_whether_it_ended_by_it() {
        let pair = leaked((Mutex::new(()), Condvar::new()));
        for dur in [Duration::ZERO, MOMENT] {
            let start = Instant::now();
            let (guard, result) = pair.1.wait_timeout(pair.0.lock().unwrap(), dur).unwrap();
            assert!(result.timed_out() && start.elapsed() >= dur);
            drop(guard);
        }
        for (place, dur) in PLACES.into_iter().zip([LONG, Duration::MAX, LONG]) {
            let guard = pair.0.lock().unwrap();
            let other = place.run(|| {
                drop(pair.0.lock().unwrap());
                pair.1.notify_one();
            });
            let (guard, result) = pair.1.wait_timeout(guard, dur).unwrap();
            assert!(!result.timed_out());
            drop(guard);
            other.join();
        }
    }

    fn one_notified_in_time_has_not_timed_out_if_it_gets_the_mutex_late() {
        let pair = leaked((Mutex::new(()), Condvar::new()));
        let waiter = thread::spawn(|| {
            let guard = pair.0.lock().unwrap();
            pair.1.wait_timeout(guard, 20 * MOMENT).unwrap().1.timed_out()
        });
        thread::yield_now();
        let guard = pair.0.lock().unwrap();
        pair.1.notify_one();
        thread::sleep(40 * MOMENT);
        drop(guard);
        assert!(!waiter.join().unwrap());
    }

    fn wait_timeout_while_looks_at_the_condition_last() {
        let pair = leaked((Mutex::new(true), Condvar::new()));
        for dur in [Duration::ZERO, MOMENT] {
            let guard = pair.0.lock().unwrap();
            let (guard, result) = pair.1.wait_timeout_while(guard, dur, |busy| *busy).unwrap();
            assert!(result.timed_out() && *guard);
        }
        *pair.0.lock().unwrap() = false;
        let guard = pair.0.lock().unwrap();
        let (guard, result) =
            pair.1.wait_timeout_while(guard, Duration::ZERO, |busy| *busy).unwrap();
        assert!(!result.timed_out());
        drop(guard);
        *pair.0.lock().unwrap() = true;
        let guard = pair.0.lock().unwrap();
        let other = thread::spawn(|| {
            *pair.0.lock().unwrap() = false;
            pair.1.notify_one();
        });
        let (_guard, result) = pair.1.wait_timeout_while(guard, LONG, |busy| *busy).unwrap();
        assert!(!result.timed_out());
        other.join().unwrap();
    }

    fn a_waiter_returns_with_an_error_if_the_mutex_was_poisoned_meanwhile() {
        for place in PLACES {
            let pair = leaked((Mutex::new(0), Condvar::new()));
            let mut guard = pair.0.lock().unwrap();
            let other = place.run(move || {
                let mut guard = pair.0.lock().unwrap();
                *guard = 1;
                pair.1.notify_all();
                panic!("on purpose");
            });
            let error = loop {
                match pair.1.wait(guard) {
                    Ok(again) => guard = again,
                    Err(error) => break error,
                }
            };
            assert_eq!(**error.get_ref(), 1);
            drop(error);
            assert!(other.outcome().is_err());
            pair.0.clear_poison();
            drop(pair.0.lock().unwrap());
        }
    }

    fn a_cancelled_waiter_does_not_lock_the_mutex_again() {
        let pair = leaked((Mutex::new(()), Condvar::new()));
        let waiter = thread::spawn(|| drop(pair.1.wait(pair.0.lock().unwrap())));
        thread::yield_now();
        let guard = pair.0.lock().unwrap();
        waiter.cancel();
        // Although the mutex is locked, by us.
        assert_cancelled(waiter);
        drop(guard);
        drop(pair.0.lock().unwrap());
    }

    fn an_interrupt_poisons_nothing_although_a_destructor_catches_a_panic() {
        struct Catches;
        impl Drop for Catches {
            fn drop(&mut self) {
                catch_unwind(|| panic!("on purpose")).unwrap_err();
            }
        }
        let mutex = leaked(Mutex::new(()));
        let cancelled = thread::spawn(|| {
            let _guard = mutex.lock().unwrap();
            let _catches = Catches;
            thread::park();
        });
        thread::yield_now();
        cancelled.cancel();
        assert_cancelled(cancelled);
        assert!(!mutex.is_poisoned());
    }

    fn what_was_handed_to_one_that_is_abandoned_is_passed_on() {
        let mutex = leaked(Mutex::new(()));
        let semaphore = leaked(Semaphore::new(0));
        let (sender, receiver) = greenring::sync::channel::unbounded();
        let theirs = receiver.clone();
        // Its implicit hub ends with it, before the green threads have run that
        // are handed something here.
        let worker = std::thread::spawn(move || {
            let guard = mutex.lock().unwrap();
            thread::spawn(|| drop(mutex.lock()));
            thread::spawn(|| semaphore.acquire().forget());
            thread::spawn(move || theirs.recv());
            thread::yield_now();
            drop(guard);
            semaphore.add_permits(1);
            sender.send(7).unwrap();
        });
        worker.join().unwrap();
        assert!(mutex.try_lock().is_ok());
        assert_eq!(semaphore.available(), 1);
        assert_eq!(receiver.try_recv(), Ok(7));
    }

    fn one_that_is_told_of_a_free_lock_and_abandoned_holds_nobody_up() {
        let mutex = leaked(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let (stands, is_standing) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::spawn(move || {
            thread::spawn(|| drop(mutex.lock()));
            thread::yield_now();
            stands.send(()).unwrap();
            // Not the hub's way to wait: what it is told of it does not read.
            ends.recv().unwrap();
        });
        is_standing.recv().unwrap();
        let behind = thread::spawn(|| drop(mutex.lock().unwrap()));
        thread::yield_now();
        drop(guard);
        end.send(()).unwrap();
        worker.join().unwrap();
        behind.join().unwrap();
    }

    fn one_that_was_cancelled_is_not_counted_at_a_barrier() {
        let barrier = leaked(Barrier::new(2));
        let waiter = thread::spawn(|| barrier.wait());
        thread::yield_now();
        waiter.cancel();
        // It has not run since; who comes now is alone.
        let alone = time::timeout(Duration::from_millis(2), || barrier.wait());
        assert!(alone.is_err());
        assert_cancelled(waiter);
        let other = thread::spawn(|| barrier.wait().is_leader());
        assert_ne!(barrier.wait().is_leader(), other.join().unwrap());
    }

    fn a_panic_poisons_although_somebody_was_suspended_beside_an_unwinding_one() {
        struct Parks;
        impl Drop for Parks {
            fn drop(&mut self) {
                thread::park();
            }
        }
        let unwinding = thread::spawn(|| {
            let _parks = Parks;
            std::panic::resume_unwind(Box::new("quietly"));
        });
        thread::yield_now();
        // Suspended while the other one unwinds, and for long.
        let beside = thread::spawn(thread::park);
        thread::yield_now();
        unwinding.thread().unpark();
        unwinding.join().unwrap_err();
        let mutex = leaked(Mutex::new(()));
        let poisons = thread::spawn(|| {
            let _guard = mutex.lock().unwrap();
            panic!("on purpose");
        });
        poisons.join().unwrap_err();
        assert!(mutex.is_poisoned());
        beside.thread().unpark();
        beside.join().unwrap();
    }

    fn no_notification_is_lost_by_a_cancellation() {
        if common::is_shuffled() {
            return;
        }
        let pair = leaked((Mutex::new(()), Condvar::new()));
        let log = Log::default();
        let wait = |_| drop(pair.1.wait(pair.0.lock().unwrap()).unwrap());
        // Cancelled and gone: the notification is for the other.
        let mut handles = line_up(2, &log, wait);
        handles[0].cancel();
        assert_cancelled(handles.remove(0));
        pair.1.notify_one();
        join_all(handles);
        assert_eq!(log.take(), [1]);
        // Cancelled, though it has not run since: the same.
        let mut handles = line_up(2, &log, wait);
        handles[0].cancel();
        pair.1.notify_one();
        assert_cancelled(handles.remove(0));
        join_all(handles);
        assert_eq!(log.take(), [1]);
        // Notified before it is cancelled: it has it and returns.
        let handles = line_up(2, &log, wait);
        pair.1.notify_one();
        handles[0].cancel();
        thread::yield_now();
        assert_eq!(log.take(), [0]);
        pair.1.notify_one();
        join_all(handles);
        assert_eq!(log.take(), [1]);
    }

    fn one_that_was_notified_locks_again_although_it_is_cancelled() {
        let pair = leaked((Mutex::new(0), Condvar::new()));
        let waiter = thread::spawn(|| {
            let mut guard = pair.1.wait(pair.0.lock().unwrap()).unwrap();
            *guard += 1;
            drop(guard);
            thread::park();
        });
        thread::yield_now();
        let guard = pair.0.lock().unwrap();
        pair.1.notify_one();
        thread::yield_now();
        waiter.cancel();
        thread::yield_now();
        assert!(!waiter.is_finished());
        drop(guard);
        assert_cancelled(waiter);
        assert_eq!(*pair.0.lock().unwrap(), 1);
    }

    fn one_condvar_serves_two_mutexes() {
        if common::is_shuffled() {
            return;
        }
        let (mutexes, condvar) = (leaked([Mutex::new(()), Mutex::new(())]), leaked(Condvar::new()));
        let log = Log::default();
        let handles =
            line_up(2, &log, |i| drop(condvar.wait(mutexes[i].lock().unwrap()).unwrap()));
        condvar.notify_all();
        join_all(handles);
        assert_eq!(log.take(), [0, 1]);
    }

    fn two_play_ping_pong_by_a_condvar() {
        for place in PLACES {
            let pair = leaked((Mutex::new(0_u32), Condvar::new()));
            let play = |parity: u32| {
                for _ in 0..300 {
                    let guard = pair.0.lock().unwrap();
                    let mut ball = pair.1.wait_while(guard, |ball| *ball % 2 != parity).unwrap();
                    *ball += 1;
                    pair.1.notify_one();
                }
            };
            let other = place.run(move || play(1));
            play(0);
            other.join();
            assert_eq!(*pair.0.lock().unwrap(), 600);
        }
    }
}

// ----- Barrier ----------------------------------------------------------------------

both_backends! {
    fn a_barrier_lets_go_when_enough_have_come_again_and_again() {
        for n in [1, 2, 6] {
            let (barrier, leaders) = (leaked(Barrier::new(n)), leaked(AtomicUsize::new(0)));
            let inside = leaked(AtomicUsize::new(0));
            let meet = move || {
                for round in 1..=50 {
                    inside.fetch_add(1, Ordering::SeqCst);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::SeqCst);
                    }
                    assert!(inside.load(Ordering::SeqCst) >= round * n);
                }
            };
            let places = PLACES.into_iter().cycle().take(n);
            let others: Vec<_> = places.map(|place| place.run(meet)).collect();
            for other in others {
                other.join();
            }
            assert_eq!(leaders.load(Ordering::SeqCst), 50);
        }
    }

    fn nobody_leaves_a_barrier_before_the_last_has_come() {
        if common::is_shuffled() {
            return;
        }
        let barrier = leaked(Barrier::new(3));
        let log = Log::default();
        let mut handles = line_up(2, &log, |_| assert!(!barrier.wait().is_leader()));
        thread::yield_now();
        assert_eq!(log.take(), []);
        handles.extend(line_up(1, &log, |_| assert!(barrier.wait().is_leader())));
        join_all(handles);
        // The leader does not park.
        assert_eq!(log.take(), [0, 0, 1]);
    }

    fn a_cancelled_waiter_has_not_come() {
        let barrier = leaked(Barrier::new(2));
        let waiter = thread::spawn(|| { barrier.wait(); });
        thread::yield_now();
        waiter.cancel();
        assert_cancelled(waiter);
        let log = Log::default();
        let mut handles = line_up(1, &log, |_| { barrier.wait(); });
        assert_eq!(log.take(), []);
        handles.extend(line_up(1, &log, |_| { barrier.wait(); }));
        join_all(handles);
        // One that was let go is not kept by a cancellation.
        let handle = thread::spawn(|| barrier.wait().is_leader());
        thread::yield_now();
        assert!(barrier.wait().is_leader());
        handle.cancel();
        assert!(!handle.join().unwrap());
    }
}

#[test]
fn a_barrier_of_none_is_one_of_one() {
    for n in [0, 1] {
        let barrier = Barrier::new(n);
        assert!(barrier.wait().is_leader() && barrier.wait().is_leader());
    }
}

#[test]
fn conditions_and_barriers_look_like_stds() {
    let std = (std::sync::Condvar::new(), std::sync::Barrier::new(1));
    let ours = (Condvar::new(), Barrier::new(1));
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    assert_eq!(
        format!("{:?}", ours.1.wait()),
        format!("{:?}", std.1.wait())
    );
    let guards = (Mutex::new(()), std::sync::Mutex::new(()));
    let guards = (guards.0.lock().unwrap(), guards.1.lock().unwrap());
    let results = (
        ours.0.wait_timeout(guards.0, Duration::ZERO).unwrap().1,
        std.0.wait_timeout(guards.1, Duration::ZERO).unwrap().1,
    );
    assert_eq!(format!("{:?}", results.0), format!("{:?}", results.1));
}

// ----- Semaphore --------------------------------------------------------------------

both_backends! {
    fn a_semaphore_bounds_how_many_are_inside_wherever_they_live() {
        let semaphore = leaked(Semaphore::new(3));
        let (inside, most) = (leaked(AtomicUsize::new(0)), leaked(AtomicUsize::new(0)));
        let contend = |place: Place| {
            place.run(move || {
                for _ in 0..100 {
                    let _permit = semaphore.acquire();
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            })
        };
        let others: Vec<_> = PLACES.into_iter().cycle().take(9).map(contend).collect();
        for other in others {
            other.join();
        }
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(semaphore.available(), 3);
    }

    fn permits_go_out_in_the_order_in_which_they_were_asked_for() {
        if common::is_shuffled() {
            return;
        }
        let semaphore = leaked(Semaphore::new(2));
        let log = Log::default();
        let permits = semaphore.acquire_many(2);
        // One that wants many is not overtaken by those that want few.
        let handles = line_up(4, &log, |i| {
            let _permits = semaphore.acquire_many([1, 2, 1, 1][i]);
        });
        semaphore.add_permits(1);
        assert!(semaphore.try_acquire().is_none());
        thread::yield_now();
        drop(permits);
        join_all(handles);
        assert_eq!(log.take(), [0, 1, 2, 3]);
        assert_eq!(semaphore.available(), 3);
    }

    // gevent: acquire with a timeout says False.
    fn a_wait_for_a_permit_ends_with_its_time() {
        let semaphore = Arc::new(Semaphore::new(1));
        for dur in [Duration::ZERO, MOMENT, Duration::MAX] {
            assert!(semaphore.acquire_timeout(dur).is_some(), "a free one needs no time");
        }
        let permit = semaphore.acquire();
        for dur in [Duration::ZERO, MOMENT] {
            let start = Instant::now();
            assert!(semaphore.acquire_timeout(dur).is_none());
            assert!(semaphore.acquire_owned_timeout(dur).is_none());
            assert!(semaphore.acquire_many_timeout(1, dur).is_none());
            assert!(start.elapsed() >= 3 * dur);
        }
        let waits = Arc::clone(&semaphore);
        let waiter = thread::spawn(move || waits.acquire_timeout(LONG).is_some());
        thread::yield_now();
        drop(permit);
        assert!(waiter.join().unwrap());
        assert_eq!(semaphore.available(), 1);
    }

    fn a_semaphore_may_begin_with_nothing() {
        for place in PLACES {
            let semaphore = leaked(Semaphore::new(0));
            assert!(semaphore.try_acquire().is_none());
            let other = place.run(|| semaphore.acquire().forget());
            thread::yield_now();
            semaphore.add_permits(1);
            other.join();
            assert_eq!(semaphore.available(), 0);
        }
    }

    fn forgotten_permits_are_gone_and_owned_ones_outlive_the_borrow() {
        let semaphore = Arc::new(Semaphore::new(4));
        semaphore.acquire().forget();
        semaphore.acquire_many(2).forget();
        assert_eq!(semaphore.available(), 1);
        let permit = semaphore.try_acquire_owned().unwrap();
        assert!(semaphore.try_acquire_owned().is_none());
        let waits = Arc::clone(&semaphore);
        let other = Place::AnotherHub.run(move || drop(waits.acquire_owned()));
        drop(permit);
        other.join();
        semaphore.acquire_owned().forget();
        assert_eq!(semaphore.available(), 0);
        assert_eq!(Arc::strong_count(&semaphore), 1);
        assert_eq!(format!("{semaphore:?}"), "Semaphore { available: 0, .. }");
    }

    fn a_cancelled_waiter_passes_its_permit_on() {
        if common::is_shuffled() {
            return;
        }
        let semaphore = leaked(Semaphore::new(0));
        let log = Log::default();
        let wait = |_| {
            let permit = semaphore.acquire();
            thread::yield_now();
            permit.forget();
        };
        let mut handles = line_up(3, &log, wait);
        handles[0].cancel();
        semaphore.add_permits(1);
        assert_cancelled(handles.remove(0));
        thread::yield_now();
        thread::yield_now();
        assert_eq!(log.take(), [1]);
        // The next one has it already, and loses it by unwinding.
        semaphore.add_permits(1);
        handles[1].cancel();
        assert_cancelled(handles.remove(1));
        assert_eq!(semaphore.available(), 1);
        join_all(handles);
    }

    // gevent #2013: an OS thread without a hub gives back what a hub waits for.
    fn an_os_thread_without_a_hub_serves_those_on_hubs() {
        let semaphore = leaked(Semaphore::new(0));
        let waiters: Vec<_> = (0..10).map(|_| thread::spawn(|| semaphore.acquire().forget())).collect();
        let other = Place::OsThread.run(|| {
            for _ in 0..10 {
                semaphore.add_permits(1);
            }
        });
        join_all(waiters);
        other.join();
        let other = Place::OsThread.run(|| semaphore.acquire().forget());
        semaphore.add_permits(1);
        other.join();
        assert_eq!(semaphore.available(), 0);
    }

    // gevent: two that hand it to each other do not starve the rest.
    fn two_that_duel_for_a_semaphore_both_get_on() {
        for place in PLACES {
            let semaphore = leaked(Semaphore::new(1));
            let duel = || {
                for _ in 0..500 {
                    drop(semaphore.acquire());
                }
            };
            let other = place.run(duel);
            duel();
            other.join();
            assert_eq!(semaphore.available(), 1);
        }
    }
}

#[test]
fn a_semaphore_refuses_more_permits_than_there_can_be() {
    let most = Semaphore::MAX_PERMITS;
    let semaphore = Semaphore::new(most);
    assert_panics("permits", || semaphore.add_permits(1));
    assert_panics("permits", || semaphore.add_permits(usize::MAX));
    assert_panics("permits", || drop(semaphore.acquire_many(most + 1)));
    assert_panics("permits", || drop(semaphore.try_acquire_many(usize::MAX)));
    assert_panics("permits", || drop(Semaphore::new(most + 1)));
    drop(semaphore.acquire_many(most));
    drop(semaphore.acquire_many(0));
    assert_eq!(semaphore.available(), most);
}

// ----- Event ------------------------------------------------------------------------

both_backends! {
    fn an_event_lets_everybody_go_while_it_is_set() {
        for place in PLACES {
            let event = leaked(Event::new());
            let other = place.run(|| {
                event.wait();
                event.is_set()
            });
            thread::yield_now();
            event.set();
            assert!(other.join());
            event.wait();
            event.set();
            assert!(event.wait_timeout(Duration::ZERO));
            event.clear();
            assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
        }
    }

    // Otherwise than gevent since #1520.
    fn who_finds_an_event_set_goes_on_at_once() {
        let event = leaked(Event::new());
        let log = Log::default();
        let handles = line_up(1, &log, |_| event.wait());
        event.set();
        event.wait();
        assert_eq!(log.take(), [], "the one that was woken has not run yet");
        join_all(handles);
    }

    fn an_event_wakes_in_the_order_in_which_they_came() {
        if common::is_shuffled() {
            return;
        }
        let event = leaked(Event::new());
        let log = Log::default();
        let handles = line_up(10, &log, |_| event.wait());
        assert_eq!(log.take(), []);
        event.set();
        join_all(handles);
        assert_eq!(log.take(), (0..10).collect::<Vec<_>>());
    }

    fn setting_and_clearing_wakes_those_who_waited() {
        for round in 0..1000 {
            let event = leaked(Event::new());
            let waits = if round % 2 == 0 { Duration::MAX } else { LONG };
            let waiters: Vec<_> = (0..2).map(|_| thread::spawn(move || event.wait_timeout(waits))).collect();
            thread::yield_now();
            event.set();
            event.clear();
            let late = thread::spawn(|| event.wait_timeout(Duration::ZERO));
            for waiter in waiters {
                assert!(waiter.join().unwrap());
            }
            assert!(!late.join().unwrap());
        }
    }

    fn one_may_wait_again_while_others_are_being_woken() {
        let event = leaked(Event::new());
        let rounds = leaked(AtomicUsize::new(0));
        let handles: Vec<_> = (0..5)
            .map(|_| {
                thread::spawn(|| {
                    event.wait();
                    event.clear();
                    rounds.fetch_add(1, Ordering::SeqCst);
                    event.wait();
                    rounds.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        thread::yield_now();
        event.set();
        thread::yield_now();
        assert_eq!(rounds.load(Ordering::SeqCst), 5);
        event.set();
        join_all(handles);
        assert_eq!(rounds.load(Ordering::SeqCst), 10);
    }

    fn waiting_for_an_event_ends_with_its_time_or_a_cancellation() {
        let event = leaked(Event::new());
        let start = Instant::now();
        assert!(!event.wait_timeout(5 * MOMENT));
        assert!(start.elapsed() >= 5 * MOMENT);
        let cancelled = thread::spawn(|| event.wait());
        let chosen = thread::spawn(|| event.wait());
        thread::yield_now();
        cancelled.cancel();
        assert_cancelled(cancelled);
        event.set();
        chosen.cancel();
        chosen.join().unwrap();
    }

    fn two_signal_each_other_by_events() {
        for place in PLACES {
            let events = leaked([Event::new(), Event::new()]);
            let play = |mine: usize| {
                for _ in 0..300 {
                    events[mine].wait();
                    events[mine].clear();
                    events[1 - mine].set();
                }
            };
            let other = place.run(move || play(1));
            events[0].set();
            play(0);
            other.join();
        }
    }
}

#[test]
fn an_event_says_whether_it_is_set() {
    let event = Event::default();
    assert_eq!(format!("{event:?}"), "Event { is_set: false, .. }");
    event.set();
    assert_eq!(format!("{event:?}"), "Event { is_set: true, .. }");
}

// ----- everything at once -----------------------------------------------------------

/// One that locks, waits, times out and is cancelled at random; how often it has
/// counted under the mutex, and under the lock.
struct Storm {
    mutex: Mutex<u64>,
    lock: RwLock<[u64; 2]>,
    semaphore: Semaphore,
    counted: [std::sync::atomic::AtomicU64; 2],
    stop: AtomicBool,
}

impl Storm {
    fn round(&self, rng: &mut Rng) {
        let limit = Duration::from_micros(rng.below(300));
        let pause = rng.below(4) == 0;
        match rng.below(6) {
            0..2 => {
                let mut guard = self.mutex.lock().unwrap();
                *guard += 1;
                self.counted[0].fetch_add(1, Ordering::Relaxed);
                if pause {
                    thread::sleep(Duration::from_micros(rng.below(50)));
                }
            }
            2 => {
                let mut writer = self.lock.write().unwrap();
                writer[0] += 1;
                self.counted[1].fetch_add(1, Ordering::Relaxed);
                let _completes = OnDrop(|| writer[1] += 1);
                if pause {
                    thread::yield_now();
                }
            }
            3 => {
                let reader = self.lock.read().unwrap();
                assert_eq!(reader[0], reader[1]);
                if pause {
                    thread::yield_now();
                }
            }
            4 => drop(self.semaphore.acquire_many(1 + rng.below(3) as usize)),
            _ => {
                if let Some(permit) = self.semaphore.acquire_timeout(limit) {
                    thread::yield_now();
                    drop(permit);
                }
            }
        }
    }

    /// Some green threads that are cancelled now and then, on the caller's hub.
    fn rage(&'static self, mut rng: Rng) {
        let start = |seed| {
            thread::spawn(move || {
                let mut rng = Rng::with_seed(seed);
                while !self.stop.load(Ordering::Relaxed) {
                    let limit = Duration::from_micros(rng.below(500));
                    match rng.below(3) {
                        0 => drop(time::timeout(limit, || self.round(&mut rng))),
                        _ => self.round(&mut rng),
                    }
                }
            })
        };
        let mut handles: Vec<_> = (0..8).map(|_| start(rng.next())).collect();
        for _ in 0..300 {
            thread::sleep(Duration::from_micros(rng.below(200)));
            let unlucky = &mut handles[rng.below(8) as usize];
            unlucky.cancel();
            let unlucky = std::mem::replace(unlucky, start(rng.next()));
            if let Err(payload) = unlucky.join() {
                assert!(Cancelled::is(&payload), "{}", text(&*payload));
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        join_all(handles);
    }
}

both_backends! {
    fn a_storm_of_locks_limits_and_cancellations_loses_nothing() {
        assert!(cancel::supported());
        let mut rng = Rng::new("a_storm_of_locks_limits_and_cancellations_loses_nothing");
        let storm = leaked(Storm {
            mutex: Mutex::new(0),
            lock: RwLock::new([0; 2]),
            semaphore: Semaphore::new(3),
            counted: Default::default(),
            stop: AtomicBool::new(false),
        });
        let seeds = [rng.next(), rng.next(), rng.next()];
        let hub = Place::AnotherHub.run(move || storm.rage(Rng::with_seed(seeds[0])));
        let os_thread = Place::OsThread.run(move || {
            let mut rng = Rng::with_seed(seeds[1]);
            while !storm.stop.load(Ordering::Relaxed) {
                // Without a limit on closures: that would start a hub.
                storm.round(&mut rng);
            }
        });
        storm.rage(Rng::with_seed(seeds[2]));
        hub.join();
        os_thread.join();
        let counted = [0, 1].map(|i| storm.counted[i].load(Ordering::Relaxed));
        assert_eq!(*storm.mutex.try_lock().unwrap(), counted[0]);
        assert_eq!(*storm.lock.try_write().unwrap(), [counted[1]; 2]);
        assert_eq!(storm.semaphore.available(), 3);
        assert!(storm.semaphore.try_acquire_many(3).is_some());
    }
}
