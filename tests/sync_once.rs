//! What is done once: `Once`, `OnceLock` and `LazyLock`, by std's documentation,
//! with initialisers that wait, panic and are cancelled.

mod common;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::places::PLACES;
use greenring::sync::{Event, LazyLock, Once, OnceLock};
use greenring::thread::{self, JoinHandle};
use greenring::{Cancelled, time};

const MOMENT: Duration = Duration::from_millis(1);

/// Lives as long as the process.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

#[track_caller]
fn assert_cancelled<T>(handle: JoinHandle<T>) {
    let payload = handle.join().err().expect("it was cancelled");
    assert!(Cancelled::is(&payload), "{}", text(&*payload));
}

fn text(payload: &(dyn Any + Send)) -> String {
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => (*payload.downcast_ref::<&str>().expect("a text")).to_owned(),
    }
}

#[track_caller]
fn assert_panics(part: &str, f: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    let text = text(&*payload);
    assert!(text.contains(part), "{text:?} lacks {part:?}");
}

/// Counts its drops.
#[derive(Clone)]
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) {
    for handle in handles {
        handle.join().unwrap();
    }
}

// ----- Once -------------------------------------------------------------------------

both_backends! {
    fn the_first_initialiser_runs_and_all_others_wait_for_it() {
        let (once, runs) = (leaked(Once::new()), leaked(AtomicUsize::new(0)));
        let call = || {
            once.call_once(|| {
                assert!(!once.is_completed());
                for _ in 0..10 {
                    thread::yield_now();
                }
                runs.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(runs.load(Ordering::Relaxed), 1);
        };
        let places = PLACES.into_iter().cycle().take(12);
        let others: Vec<_> = places.map(|place| place.run(call)).collect();
        call();
        for other in others {
            other.join();
        }
        assert!(once.is_completed());
        once.call_once(|| unreachable!());
        once.call_once_force(|_| unreachable!());
    }

    fn a_panic_poisons_a_once_until_one_is_forced() {
        for place in PLACES {
            let once = leaked(Once::new());
            assert!(place.run(|| once.call_once(|| panic!("on purpose"))).outcome().is_err());
            assert!(!once.is_completed());
            assert_panics("Once instance has previously been poisoned", || once.call_once(|| ()));
            assert_panics("Once instance has previously been poisoned", || once.wait());
            let again = catch_unwind(AssertUnwindSafe(|| {
                once.call_once_force(|state| {
                    assert!(state.is_poisoned());
                    panic!("on purpose, too");
                });
            }));
            assert!(again.is_err());
            let mut called = false;
            once.call_once_force(|state| {
                called = true;
                assert!(state.is_poisoned());
                assert_eq!(format!("{state:?}"), "OnceState { poisoned: true }");
            });
            assert!(called && once.is_completed());
            once.call_once(|| unreachable!());
            once.wait();
        }
    }

    fn those_who_wait_for_an_initialiser_that_panics_panic() {
        for place in PLACES {
            let (once, go_on) = (leaked(Once::new()), leaked(Event::new()));
            let begun = leaked(Event::new());
            let other = place.run(move || {
                once.call_once(|| {
                    begun.set();
                    go_on.wait();
                    panic!("on purpose");
                });
            });
            begun.wait();
            let calls = thread::spawn(|| once.call_once(|| unreachable!()));
            let waits = thread::spawn(|| once.wait());
            let forces = thread::spawn(|| once.wait_force());
            thread::yield_now();
            go_on.set();
            assert!(other.outcome().is_err());
            assert!(calls.join().is_err() && waits.join().is_err());
            assert!(!forces.is_finished());
            once.call_once_force(|state| assert!(state.is_poisoned()));
            forces.join().unwrap();
        }
    }

    fn those_who_wait_for_one_that_is_forced_are_content() {
        let (once, go_on) = (leaked(Once::new()), leaked(Event::new()));
        assert!(catch_unwind(|| once.call_once(|| panic!("on purpose"))).is_err());
        let forces = thread::spawn(|| once.call_once_force(|_| go_on.wait()));
        thread::yield_now();
        let calls = thread::spawn(|| once.call_once(|| unreachable!()));
        let waits = thread::spawn(|| once.wait());
        thread::yield_now();
        assert!(!calls.is_finished() && !waits.is_finished());
        go_on.set();
        join_all([forces, calls, waits]);
    }

    fn one_can_wait_before_anybody_has_begun() {
        for place in PLACES {
            let (once, done) = (leaked(Once::new()), leaked(AtomicUsize::new(0)));
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    place.run(|| {
                        once.wait();
                        assert_eq!(done.load(Ordering::Relaxed), 1);
                    })
                })
                .collect();
            thread::yield_now();
            once.call_once(|| done.store(1, Ordering::Relaxed));
            for waiter in waiters {
                waiter.join();
            }
        }
    }

    // Hazard 31.
    fn a_cancelled_initialiser_leaves_it_to_the_next() {
        let once = leaked(Once::new());
        let first = thread::spawn(|| once.call_once(thread::park));
        thread::yield_now();
        let second = thread::spawn(|| {
            let mut called = false;
            once.call_once(|| called = true);
            called
        });
        let third = thread::spawn(|| once.wait());
        thread::yield_now();
        first.cancel();
        assert_cancelled(first);
        assert!(second.join().unwrap());
        third.join().unwrap();
        assert!(once.is_completed());
    }

    fn one_whose_time_has_passed_stays_as_it_was() {
        let once = leaked(Once::new());
        assert!(time::timeout(MOMENT, || once.call_once(thread::park)).is_err());
        assert!(catch_unwind(|| once.call_once(|| panic!("on purpose"))).is_err());
        assert!(time::timeout(MOMENT, || once.call_once_force(|_| thread::park())).is_err());
        assert_panics("poisoned", || once.call_once(|| ()));
        once.call_once_force(|state| assert!(state.is_poisoned()));
    }

    fn a_cancelled_waiter_leaves_the_initialiser_alone() {
        let (once, go_on) = (leaked(Once::new()), leaked(Event::new()));
        let runs = thread::spawn(|| once.call_once(|| go_on.wait()));
        thread::yield_now();
        let calls = thread::spawn(|| once.call_once(|| unreachable!()));
        let waits = thread::spawn(|| once.wait());
        thread::yield_now();
        calls.cancel();
        waits.cancel();
        assert_cancelled(calls);
        assert_cancelled(waits);
        go_on.set();
        runs.join().unwrap();
        assert!(once.is_completed());
    }

    fn an_initialiser_that_comes_back_panics() {
        let once = leaked(Once::new());
        let worker = thread::Builder::new().name("worker-3".to_owned());
        let worker = worker.spawn(|| {
            assert_panics("green thread worker-3 (id ", || once.call_once(|| once.call_once(|| ())));
        });
        worker.unwrap().join().unwrap();
        let others: [fn(&Once); 3] = [
            |once| once.call_once_force(|_| ()),
            |once| once.wait(),
            |once| once.wait_force(),
        ];
        for other in others {
            let once = Once::new();
            assert_panics("is initialising", || once.call_once(|| other(&once)));
            assert_panics("poisoned", || once.call_once(|| ()));
        }
        let cell = OnceLock::<i32>::new();
        assert_panics("is initialising", || {
 cell.get_or_init(|| *cell.get_or_init(|| 1));
 });
        assert_eq!(*cell.get_or_init(|| 2), 2);
        static LAZY: LazyLock<i32> = LazyLock::new(recursive);
        fn recursive() -> i32 {
            if thread::current().name() == Some("never") { 1 } else { *LAZY }
        }
        let lazy = catch_unwind(|| *LAZY);
        // The second backend finds it poisoned.
        let said = text(&*lazy.unwrap_err());
        assert!(said.contains("is initialising") || said.contains("poisoned"), "{said}");
    }
}

// ----- OnceLock ---------------------------------------------------------------------

both_backends! {
    fn one_value_is_set_and_everybody_gets_it() {
        let (cell, made) = (leaked(OnceLock::new()), leaked(AtomicUsize::new(0)));
        let get = || {
            *cell.get_or_init(|| {
                thread::yield_now();
                thread::sleep(MOMENT);
                made.fetch_add(1, Ordering::Relaxed)
            })
        };
        let places = PLACES.into_iter().cycle().take(12);
        let others: Vec<_> = places.map(|place| place.run(get)).collect();
        assert_eq!(get(), 0);
        for other in others {
            assert_eq!(other.join(), 0);
        }
        assert_eq!(cell.get(), Some(&0));
        assert_eq!(cell.set(7), Err(7));
    }

    fn waiting_for_a_value_ends_when_it_is_set() {
        for place in PLACES {
            let cell = leaked(OnceLock::new());
            let other = place.run(|| *cell.wait());
            thread::yield_now();
            assert_eq!(cell.set(5), Ok(()));
            assert_eq!(other.join(), 5);
            assert_eq!(*cell.wait(), 5);
        }
    }

    fn setting_waits_for_the_initialiser_that_runs() {
        let (cell, go_on) = (leaked(OnceLock::new()), leaked(Event::new()));
        let runs = thread::spawn(|| {
            *cell.get_or_init(|| {
                go_on.wait();
                1
            })
        });
        thread::yield_now();
        let sets = thread::spawn(|| cell.set(2));
        thread::yield_now();
        assert!(!sets.is_finished() && cell.get().is_none());
        go_on.set();
        assert_eq!(runs.join().unwrap(), 1);
        assert_eq!(sets.join().unwrap(), Err(2));
    }

    fn a_value_can_be_made_again_after_a_panic_or_a_cancellation() {
        let cell = leaked(OnceLock::new());
        let fails = catch_unwind(AssertUnwindSafe(|| *cell.get_or_init(|| panic!("on purpose"))));
        assert!(fails.is_err() && cell.get().is_none());
        let parks = thread::spawn(|| {
            cell.get_or_init(|| {
                thread::park();
                1
            });
        });
        thread::yield_now();
        let next = thread::spawn(|| *cell.get_or_init(|| 2));
        thread::yield_now();
        assert!(cell.get().is_none());
        parks.cancel();
        assert_cancelled(parks);
        assert_eq!(next.join().unwrap(), 2);
    }
}

#[test]
fn a_once_lock_drops_its_value_once() {
    let drops = Rc::new(Cell::new(0));
    let counted = || Counted(Rc::clone(&drops));
    drop(OnceLock::<Counted>::new());
    assert_eq!(drops.get(), 0);
    drop(OnceLock::from(counted()));
    assert_eq!(drops.get(), 1);
    let mut cell = OnceLock::new();
    assert!(cell.set(counted()).is_ok() && cell.set(counted()).is_err());
    assert_eq!(drops.get(), 2);
    let taken = cell.take();
    assert!(taken.is_some() && cell.get().is_none() && cell.take().is_none());
    assert!(cell.set(counted()).is_ok());
    drop((cell.into_inner(), taken));
    assert_eq!(drops.get(), 4);
}

#[test]
fn a_once_lock_can_be_set_again_when_its_value_is_taken_or_its_initialiser_failed() {
    let mut cell = OnceLock::from(1);
    *cell.get_mut().unwrap() += 1;
    assert_eq!(cell.take(), Some(2));
    assert_eq!(cell.get_mut(), None);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        *cell.get_or_init(|| panic!("on purpose"))
    }));
    assert_eq!(cell.take(), None);
    assert_eq!(*cell.get_or_init(|| 3), 3);
    assert_eq!(cell.clone(), cell);
    assert_ne!(cell, OnceLock::default());
    assert_eq!(OnceLock::<u8>::new().clone().into_inner(), None);
}

#[test]
fn what_is_done_once_looks_like_stds() {
    assert_eq!(
        format!("{:?}", Once::new()),
        format!("{:?}", std::sync::Once::new())
    );
    let (ours, std) = (OnceLock::new(), std::sync::OnceLock::new());
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    let _ = (ours.set(1), std.set(1));
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{std:?} {std:#?}"));
    let (ours, std) = (LazyLock::new(|| 1), std::sync::LazyLock::new(|| 1));
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    assert_eq!(*ours, *std);
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{std:?} {std:#?}"));
}

/// As std's, it may hold references to what is dropped before it.
#[test]
fn a_once_lock_may_refer_to_what_dies_with_it() {
    let cell = OnceLock::new();
    let name = String::from("Ada");
    assert!(cell.set(&name).is_ok());
    assert_eq!(cell.get().unwrap().len(), 3);
}

// ----- LazyLock ---------------------------------------------------------------------

both_backends! {
    fn a_lazy_value_is_made_once_while_others_wait() {
        for place in PLACES {
            let made = leaked(AtomicUsize::new(0));
            let lazy = leaked(LazyLock::new(move || {
                thread::sleep(MOMENT);
                made.fetch_add(1, Ordering::Relaxed) + 1
            }));
            assert_eq!(LazyLock::get(lazy), None);
            let others: Vec<_> = (0..4).map(|_| place.run(|| **lazy)).collect();
            assert_eq!(**lazy, 1);
            for other in others {
                assert_eq!(other.join(), 1);
            }
            assert_eq!(LazyLock::get(lazy), Some(&1));
        }
    }

    // Hazard 31.
    fn a_lazy_value_is_made_although_who_makes_it_is_cancelled() {
        let go_on = leaked(Event::new());
        let lazy = leaked(LazyLock::new(|| {
            go_on.wait();
            5
        }));
        let first = thread::spawn(|| {
            assert_eq!(**lazy, 5);
            thread::park();
        });
        thread::yield_now();
        first.cancel();
        let waits = thread::spawn(|| **lazy);
        thread::yield_now();
        go_on.set();
        assert_cancelled(first);
        assert_eq!(waits.join().unwrap(), 5);

        let lazy = leaked(LazyLock::new(|| {
            thread::sleep(2 * MOMENT);
            6
        }));
        assert_eq!(time::timeout(MOMENT, || **lazy), Ok(6));
    }

    fn one_who_waits_for_a_lazy_value_can_be_cancelled() {
        let go_on = leaked(Event::new());
        let lazy = leaked(LazyLock::new(|| {
            go_on.wait();
            5
        }));
        let makes = thread::spawn(|| **lazy);
        thread::yield_now();
        let waits = thread::spawn(|| **lazy);
        thread::yield_now();
        waits.cancel();
        assert_cancelled(waits);
        go_on.set();
        assert_eq!(makes.join().unwrap(), 5);
    }

    fn a_lazy_value_that_could_not_be_made_never_is() {
        const POISONED: &str = "LazyLock instance has previously been poisoned";
        for place in PLACES {
            let go_on = leaked(Event::new());
            let begun = leaked(Event::new());
            let lazy = leaked(LazyLock::<i32, _>::new(|| {
                begun.set();
                go_on.wait();
                panic!("on purpose")
            }));
            let makes = place.run(|| **lazy);
            begun.wait();
            let waits = thread::spawn(|| **lazy);
            thread::yield_now();
            go_on.set();
            assert!(makes.outcome().is_err());
            assert_eq!(text(&*waits.join().unwrap_err()), POISONED);
            assert_panics(POISONED, || assert_eq!(*LazyLock::force(lazy), 0));
            assert_panics(POISONED, || assert_eq!(*LazyLock::force(lazy), 0));
            assert_eq!(LazyLock::get(lazy), None);
        }
    }
}

#[test]
fn a_lazy_value_can_be_changed_by_its_owner() {
    let mut lazy = LazyLock::new(|| vec![1]);
    assert_eq!(LazyLock::get_mut(&mut lazy), None);
    LazyLock::force_mut(&mut lazy).push(2);
    lazy.push(3);
    LazyLock::get_mut(&mut lazy).unwrap().push(4);
    assert_eq!(*lazy, [1, 2, 3, 4]);
    assert_eq!(*LazyLock::<u8>::default(), 0);
    let mut fails = LazyLock::<u8, _>::new(|| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(|| *LazyLock::force_mut(&mut fails))).is_err());
    assert_panics("poisoned", || {
        assert_eq!(*LazyLock::force_mut(&mut fails), 0)
    });
    assert_eq!(LazyLock::get_mut(&mut fails), None);
}

#[test]
fn a_lazy_value_and_what_makes_it_are_dropped_once() {
    let drops = Rc::new(Cell::new(0));
    let counted = Counted(Rc::clone(&drops));
    drop(LazyLock::new(move || drop(counted)));
    assert_eq!(drops.get(), 1, "never made");
    let counted = Counted(Rc::clone(&drops));
    let lazy = LazyLock::new(move || counted);
    let _: &Counted = &lazy;
    assert_eq!(drops.get(), 1);
    drop(lazy);
    assert_eq!(drops.get(), 2);
}

#[test]
fn they_serve_as_statics() {
    static ONCE: Once = Once::new();
    static CELL: OnceLock<String> = OnceLock::new();
    static LAZY: LazyLock<String> = LazyLock::new(|| "lazy".to_owned());
    ONCE.call_once(|| CELL.set("cell".to_owned()).unwrap());
    assert_eq!((CELL.wait().as_str(), LAZY.as_str()), ("cell", "lazy"));
}
