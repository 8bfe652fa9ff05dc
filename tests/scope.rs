//! Scopes: green threads that borrow, whatever happens to them, to their
//! handles and to their host; on both backends.

mod common;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenring::runtime::{Builder as HubBuilder, stats};
use greenring::thread::{self, ScopedJoinHandle};
use greenring::{Cancelled, cancel, time};

use common::{child_on_each_backend, forked, is_child};

const LONG: Duration = Duration::from_secs(60);

fn text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

fn caught<T>(f: impl FnOnce() -> T) -> Box<dyn Any + Send> {
    catch_unwind(AssertUnwindSafe(f)).err().expect("it unwinds")
}

/// Runs its closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Parks until it is cancelled, then takes some time to write into what it
/// borrows.
fn write_late(borrowed: &Cell<u32>) {
    let _late = OnDrop(|| {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(1));
            thread::yield_now();
            borrowed.set(borrowed.get() + 1);
        }
    });
    thread::sleep(Duration::MAX);
}

both_backends! {
    fn guests_borrow_and_the_scope_waits_for_them() {
        let mut numbers = vec![1, 2, 3];
        let mut sum = 0;
        let length = thread::scope(|s| {
            s.spawn(|| {
                thread::sleep(Duration::from_millis(1));
                sum = numbers.iter().sum();
            });
            s.spawn(thread::yield_now);
            numbers.len()
        });
        numbers.push(4);
        assert_eq!((length, sum), (3, 6));
        for number in &mut numbers {
            thread::scope(|s| {
                s.spawn(|| *number *= 2);
            });
        }
        assert_eq!(numbers, [2, 4, 6, 8]);
        assert_eq!(thread::scope(|_| 5), 5);
        assert_eq!(stats().live, 0);
    }

    fn results_of_all_types_come_through_the_handles() {
        let text = String::from("borrowed");
        thread::scope(|s| {
            let borrowed: ScopedJoinHandle<'_, &str> = s.spawn(|| &text[..3]);
            let bound = s.spawn(|| Rc::new(1));
            let unit = s.spawn(|| ());
            let large = s.spawn(|| [7_u8; 4096]);
            assert_eq!(borrowed.join().unwrap(), "bor");
            assert_eq!(*bound.join().unwrap(), 1);
            unit.join().unwrap();
            assert!(large.join().unwrap().iter().all(|&byte| byte == 7));
        });
    }

    fn guests_spawn_guests_and_scopes_nest() {
        let count = Cell::new(0);
        let add = || count.set(count.get() + 1);
        thread::scope(|s| {
            s.spawn(|| {
                s.spawn(|| {
                    thread::yield_now();
                    s.spawn(add);
                    add();
                });
                // Its own guests may borrow from this frame.
                let here = Cell::new(0);
                thread::scope(|inner| {
                    inner.spawn(|| here.set(1));
                    s.spawn(add);
                });
                count.set(count.get() + here.get());
            });
        });
        assert_eq!(count.get(), 4);
    }

    fn a_panic_that_nobody_joined_is_the_scopes() {
        let message = text(caught(|| thread::scope(|s| {
            s.spawn(|| panic!("on purpose"));
        })));
        assert_eq!(message, "a scoped thread panicked");
        // A handle that was dropped or forgotten has told nobody.
        let message = text(caught(|| thread::scope(|s| {
            std::mem::forget(s.spawn(|| panic!("on purpose")));
        })));
        assert_eq!(message, "a scoped thread panicked");
    }

    fn a_panic_that_was_joined_is_not() {
        let message = thread::scope(|s| {
            let mut timed = s.spawn(|| panic!("in time"));
            let ended = timed.join_timeout(LONG).unwrap().unwrap_err();
            (text(s.spawn(|| panic!("on purpose")).join().unwrap_err()), text(ended))
        });
        assert_eq!(message, ("on purpose".to_owned(), "in time".to_owned()));
    }

    fn a_panic_of_the_host_wins_and_does_not_cancel_guests() {
        let ended = Cell::new(false);
        let message = text(caught(|| thread::scope(|s| {
            s.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                ended.set(true);
                panic!("the guest's");
            });
            panic!("the host's");
        })));
        assert_eq!(message, "the host's");
        assert!(ended.get());
    }

    // std: test_scoped_threads_drop_result_before_join.
    fn a_result_that_nobody_takes_is_dropped_before_the_scope_ends() {
        let borrowed = Cell::new(0);
        struct Slow<'a>(&'a Cell<u32>);
        impl Drop for Slow<'_> {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(2));
                self.0.set(self.0.get() + 1);
            }
        }
        thread::scope(|s| {
            s.spawn(|| Slow(&borrowed));
        });
        assert_eq!(borrowed.get(), 1);
        thread::scope(|s| {
            let handle = s.spawn(|| Slow(&borrowed));
            thread::yield_now();
            drop(handle);
        });
        assert_eq!(borrowed.get(), 2);
    }

    // Hazard 13. std's scope waits for ever for a forgotten handle's result.
    fn forgotten_handles_do_not_let_guests_outlive_the_scope() {
        let count = Cell::new(0);
        for _ in 0..3 {
            thread::scope(|s| {
                std::mem::forget(s.spawn(|| {
                    thread::sleep(Duration::from_millis(1));
                    count.set(count.get() + 1);
                    [1; 100]
                }));
            });
        }
        assert_eq!(count.get(), 3);
        assert_eq!(stats().live, 0);
    }

    // Hazard 13.
    fn swapped_handles_join_whom_they_name() {
        let (one, two) = (Cell::new(0), Cell::new(0));
        thread::scope(|s| {
            let mut first = s.spawn(|| { thread::yield_now(); one.set(1); 1 });
            let mut second = s.spawn(|| { thread::yield_now(); two.set(2); 2 });
            std::mem::swap(&mut first, &mut second);
            assert_eq!((first.join().unwrap(), two.get()), (2, 2));
            std::mem::forget(second);
        });
        assert_eq!(one.get(), 1);
    }

    fn an_outer_handle_may_be_joined_in_an_inner_scope() {
        thread::scope(|outer| {
            let handle = outer.spawn(|| { thread::sleep(Duration::from_millis(1)); 3 });
            let joined = thread::scope(|inner| inner.spawn(|| handle.join().unwrap()).join());
            assert_eq!(joined.unwrap(), 3);
        });
    }

    fn a_builder_names_guests_and_refuses_before_they_take_a_place() {
        thread::scope(|s| {
            let named = thread::Builder::new().name("guest".into());
            let handle = named.spawn_scoped(s, || thread::current().name().map(String::from));
            assert_eq!(handle.unwrap().join().unwrap().as_deref(), Some("guest"));
            let huge = thread::Builder::new().stack_size(usize::MAX / 2);
            assert!(huge.spawn_scoped(s, || ()).is_err());
            let zero = thread::Builder::new().name("a\0b".into());
            let message = text(caught(|| zero.spawn_scoped(s, || ())));
            assert!(message.contains("zero byte"), "{message}");
            assert!(format!("{s:?}").contains("num_running_threads: 0"));
        });
    }

    fn cancelling_the_host_cancels_guests_and_waits_for_their_destructors() {
        let host = thread::spawn(|| {
            let borrowed = Cell::new(0);
            // Tells when the frame goes.
            let _frame = OnDrop(|| assert_eq!(borrowed.get(), 6));
            thread::scope(|s| {
                s.spawn(|| write_late(&borrowed));
                s.spawn(|| write_late(&borrowed));
            });
        });
        thread::yield_now();
        thread::yield_now();
        host.cancel();
        assert!(Cancelled::is(&host.join().unwrap_err()));
        assert_eq!(stats().live, 0);
    }

    fn an_interrupt_in_the_body_cancels_guests_too() {
        let host = thread::spawn(|| {
            let borrowed = Cell::new(0);
            let _frame = OnDrop(|| assert_eq!(borrowed.get(), 3));
            thread::scope(|s| {
                s.spawn(|| write_late(&borrowed));
                thread::park();
            });
        });
        thread::yield_now();
        thread::yield_now();
        host.cancel();
        assert!(Cancelled::is(&host.join().unwrap_err()));
    }

    fn a_time_limit_around_a_scope_ends_it() {
        let borrowed = Cell::new(0);
        let limited = time::timeout(Duration::from_millis(2), || {
            thread::scope(|s| {
                s.spawn(|| write_late(&borrowed));
            });
        });
        assert!(limited.is_err());
        assert_eq!(borrowed.get(), 3);
        // One inside of a guest ends that wait only.
        let inside = thread::scope(|s| {
            let limited = || time::timeout(Duration::from_millis(1), thread::park);
            s.spawn(limited).join().unwrap()
        });
        assert!(inside.is_err());
    }

    fn one_who_is_spawned_while_an_interrupted_scope_waits_is_cancelled_too() {
        let limited = time::timeout(Duration::from_millis(1), || {
            thread::scope(|s| {
                s.spawn(|| {
                    let _late = OnDrop(|| {
                        s.spawn(|| thread::sleep(Duration::MAX));
                    });
                    thread::park();
                });
            });
        });
        assert!(limited.is_err());
        assert_eq!(stats().live, 0);
    }

    fn a_payload_from_elsewhere_is_a_panic_and_cancels_nobody() {
        let foreign = thread::spawn(thread::park);
        foreign.cancel();
        let foreign = foreign.join().unwrap_err();
        let ended = Cell::new(false);
        let payload = caught(|| thread::scope(|s| {
            s.spawn(|| {
                thread::sleep(Duration::from_millis(1));
                ended.set(true);
            });
            resume_unwind(foreign);
        }));
        assert!(Cancelled::is(&*payload));
        assert!(ended.get(), "the guest was not cancelled");
    }

    fn a_cancelled_guest_is_no_panic_and_cancelled_early_it_never_runs() {
        let dropped = Cell::new(false);
        thread::scope(|s| {
            let captured = OnDrop(|| dropped.set(true));
            let handle = s.spawn(move || {
                let _captured = captured;
                panic!("the body runs");
            });
            handle.cancel();
        });
        assert!(dropped.get());
        thread::scope(|s| {
            let handle = s.spawn(thread::park);
            thread::yield_now();
            s.cancel();
            assert!(Cancelled::is(&handle.join().unwrap_err()));
        });
    }

    fn with_fail_fast_the_first_panic_cancels_the_others() {
        let message = text(caught(|| thread::scope(|s| {
            s.fail_fast();
            for _ in 0..10 {
                s.spawn(|| thread::sleep(Duration::MAX));
            }
            s.spawn(|| panic!("on purpose"));
        })));
        assert_eq!(message, "a scoped thread panicked");
        let cancelled = thread::scope(|s| {
            s.fail_fast();
            let waiting = s.spawn(|| thread::sleep(Duration::from_millis(2)));
            // A cancelled one is no failure.
            let other = s.spawn(thread::park);
            other.cancel();
            thread::yield_now();
            waiting.join()
        });
        cancelled.unwrap();
    }

    fn a_scope_in_a_destructor_of_an_unwinding_green_thread_works() {
        let host = thread::spawn(|| {
            let _unwinding = OnDrop(|| {
                let sum = Cell::new(0);
                thread::scope(|s| {
                    for n in 1..=3 {
                        let sum = &sum;
                        s.spawn(move || {
                            thread::sleep(Duration::from_millis(1));
                            sum.set(sum.get() + n);
                        });
                    }
                });
                assert_eq!(sum.get(), 6);
            });
            panic_any(7_u8);
        });
        assert_eq!(host.join().unwrap_err().downcast_ref::<u8>(), Some(&7));
        let host = thread::spawn(|| {
            let _unwinding = OnDrop(|| {
                assert_eq!(thread::scope(|s| s.spawn(|| { thread::yield_now(); 1 }).join().unwrap()), 1);
            });
            thread::park();
        });
        thread::yield_now();
        host.cancel();
        assert!(Cancelled::is(&host.join().unwrap_err()));
    }

    fn a_shield_around_a_scope_holds_the_interrupt_back() {
        let finished = Rc::new(Cell::new(false));
        let inside = Rc::clone(&finished);
        let host = thread::spawn(move || {
            cancel::shield(|| thread::scope(|s| {
                s.spawn(|| {
                    thread::sleep(Duration::from_millis(2));
                    inside.set(true);
                });
            }));
            thread::yield_now();
            unreachable!("the interrupt comes behind the shield");
        });
        thread::yield_now();
        host.cancel();
        assert!(Cancelled::is(&host.join().unwrap_err()));
        assert!(finished.get());
    }

    fn scopes_of_two_green_threads_interleave() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let opened = Rc::new(Cell::new(false));
        let hosts: Vec<_> = [true, false]
            .into_iter()
            .map(|is_first| {
                let (order, opened) = (Rc::clone(&order), Rc::clone(&opened));
                thread::spawn(move || {
                    let sum = Cell::new(0);
                    thread::scope(|s| {
                        for n in 1..=3 {
                            let (sum, opened) = (&sum, &opened);
                            s.spawn(move || {
                                // The first to begin is the last to end.
                                while is_first && !opened.get() {
                                    thread::yield_now();
                                }
                                sum.set(sum.get() + n);
                            });
                        }
                    });
                    order.borrow_mut().push(is_first);
                    opened.set(true);
                    sum.get()
                })
            })
            .collect();
        for host in hosts {
            assert_eq!(host.join().unwrap(), 6);
        }
        assert_eq!(*order.borrow(), [false, true]);
    }

    fn an_interrupted_join_leaves_the_panic_untold() {
        let message = text(caught(|| thread::scope(|s| {
            let failing = s.spawn(|| {
                thread::sleep(Duration::from_millis(3));
                panic!("on purpose");
            });
            let limited = time::timeout(Duration::from_millis(1), || failing.join());
            assert!(limited.is_err());
        })));
        assert_eq!(message, "a scoped thread panicked");
    }

    fn many_guests_leave_nothing_behind() {
        let count = Cell::new(0);
        thread::scope(|s| {
            for n in 0..2000 {
                let count = &count;
                s.spawn(move || {
                    if n % 3 == 0 {
                        thread::yield_now();
                    }
                    count.set(count.get() + 1);
                });
            }
        });
        assert_eq!(count.get(), 2000);
        assert_eq!(stats().live, 0);
    }
}

#[test]
fn a_result_that_can_be_sent_is_joined_on_another_os_thread() {
    let _watchdog = common::Watchdog::start(LONG);
    let text = String::from("borrowed");
    let length = thread::scope(|s| {
        let handle = s.spawn(|| {
            thread::sleep(Duration::from_millis(1));
            text.len()
        });
        std::thread::scope(|os| {
            let joiner = os.spawn(|| handle.join().unwrap());
            while !joiner.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
            joiner.join().unwrap()
        })
    });
    assert_eq!(length, 8);
}

#[test]
fn the_end_of_a_hub_ends_the_scope_of_a_detached_green_thread_in_order() {
    let _watchdog = common::Watchdog::start(LONG);
    for backend in [
        greenring::runtime::Backend::Uring,
        greenring::runtime::Backend::Epoll,
    ] {
        if !common::is_available(backend) {
            continue;
        }
        let ended = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&ended);
        let run = HubBuilder::new().backend(backend).run(move || {
            thread::spawn(move || {
                let borrowed = Cell::new(0);
                let _frame = OnDrop(|| log.borrow_mut().push(borrowed.get()));
                thread::scope(|s| {
                    s.spawn(|| write_late(&borrowed));
                    s.spawn(|| write_late(&borrowed));
                });
            });
            thread::yield_now();
            thread::yield_now();
        });
        run.unwrap();
        assert_eq!(*ended.borrow(), [6], "on {backend}");
    }
}

#[test]
fn a_scope_that_could_never_end_cancels_its_guests_and_panics_with_the_table() {
    const TEST: &str = "a_scope_that_could_never_end_cancels_its_guests_and_panics_with_the_table";
    if is_child(TEST) {
        let code = forked(|| {
            let borrowed = Cell::new(0);
            let message = text(caught(|| {
                thread::scope(|s| {
                    let builder = thread::Builder::new().name("stuck".into());
                    builder
                        .spawn_scoped(s, || {
                            let _late = OnDrop(|| borrowed.set(1));
                            thread::park();
                        })
                        .unwrap();
                });
            }));
            eprintln!("{message}");
            i32::from(borrowed.get() == 1)
        });
        assert_eq!(code, 1);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["would last for ever", "'stuck'", "tests/scope.rs:"]);
    });
}

#[test]
fn a_scope_whose_guests_cannot_even_be_cancelled_ends_the_process() {
    const TEST: &str = "a_scope_whose_guests_cannot_even_be_cancelled_ends_the_process";
    if is_child(TEST) {
        let code = forked(|| {
            let borrowed = Cell::new(0);
            thread::scope(|s| {
                s.spawn(|| {
                    cancel::shield(|| {
                        loop {
                            thread::park();
                        }
                    });
                    borrowed.set(1);
                });
            });
            0
        });
        assert_eq!(code, -libc::SIGABRT);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&[
            "can neither end nor be left",
            "would last for ever",
            "tests/scope.rs:",
        ]);
    });
}

/// Hosts that are cancelled, timed out and fail while their guests write into
/// their frames.
#[test]
fn frames_outlive_guests_in_a_storm() {
    fn storm() {
        let mut rng = common::Rng::new("scopes");
        // Frames that were gone before their guests, also of detached hosts.
        let frames_gone_early = Rc::new(Cell::new(0));
        for _ in 0..300 {
            let early = Rc::clone(&frames_gone_early);
            let (guests, act, rounds) = (rng.below(6), rng.below(4), rng.below(4));
            let panics = rng.below(4) == 0;
            let host = thread::spawn(move || {
                let canary = Cell::new(0x5afe_u64);
                let alive = Cell::new(0_u64);
                let _frame = OnDrop(|| {
                    if (canary.get(), alive.get()) != (0x5afe, 0) {
                        early.set(early.get() + 1);
                    }
                });
                let run = || {
                    thread::scope(|s| {
                        for guest in 0..guests {
                            let (canary, alive) = (&canary, &alive);
                            alive.set(alive.get() + 1);
                            // Dropped at its normal end, too, where waits
                            // are interrupted.
                            let gone = OnDrop(|| {
                                cancel::shield(thread::yield_now);
                                assert_eq!(canary.get(), 0x5afe);
                                alive.set(alive.get() - 1);
                            });
                            s.spawn(move || {
                                let _gone = gone;
                                for _ in 0..rounds + guest {
                                    thread::sleep(Duration::from_micros(guest * 50));
                                }
                                assert!(!panics || guest != 1, "on purpose");
                            });
                        }
                    });
                };
                match act {
                    0 => drop(time::timeout(Duration::from_micros(100), run)),
                    _ => run(),
                }
            });
            for _ in 0..rng.below(4) {
                thread::yield_now();
            }
            if act == 1 {
                host.cancel();
            }
            if act != 2 {
                let failed = host.join().is_err();
                assert!(!failed || act == 1 || panics);
            }
        }
        while stats().live > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(frames_gone_early.get(), 0);
    }
    for backend in [
        greenring::runtime::Backend::Uring,
        greenring::runtime::Backend::Epoll,
    ] {
        common::on(backend, storm);
    }
}
