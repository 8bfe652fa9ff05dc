//! Cancellation: who is interrupted, where, and what is never lost by it.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::through::Read;
use greenring::io::Write;
use greenring::thread::{self, JoinHandle};
use greenring::{Cancelled, cancel, time};

/// Sets its flag when it is dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn flag() -> (Flag, Rc<Cell<bool>>) {
    let dropped = Rc::new(Cell::new(false));
    (Flag(Rc::clone(&dropped)), dropped)
}

#[track_caller]
fn assert_cancelled<T>(handle: JoinHandle<T>) {
    let payload = handle.join().err().expect("it was cancelled");
    assert!(Cancelled::is(&payload) && Cancelled::is(&*payload));
}

both_backends! {
    fn a_parked_green_thread_unwinds_with_cancelled_and_runs_its_destructors() {
        let (inside, dropped) = flag();
        let handle = thread::spawn(move || {
            let _inside = inside;
            thread::park();
        });
        thread::yield_now();
        assert!(!dropped.get());
        handle.cancel();
        handle.cancel();
        assert_cancelled(handle);
        assert!(dropped.get());
    }

    // gevent #330.
    fn cancelled_before_it_starts_its_body_never_runs_and_its_captures_are_dropped() {
        let (captured, dropped) = flag();
        let handle = thread::spawn(move || {
            let _captured = captured;
            panic!("the body runs");
        });
        handle.cancel();
        assert!(!handle.is_finished());
        assert_cancelled(handle);
        assert!(dropped.get());
    }

    fn one_that_has_ended_keeps_its_result() {
        let handle = thread::spawn(|| 7);
        thread::yield_now();
        handle.cancel();
        assert_eq!(handle.join().unwrap(), 7);
    }

    fn one_that_never_waits_again_keeps_its_result() {
        let handle = thread::spawn(|| {
            thread::yield_now();
            7
        });
        thread::yield_now();
        // It is ready now, and the interrupt would come at its next wait.
        let other = thread::spawn(|| cancel::shield(|| { thread::yield_now(); 8 }));
        thread::yield_now();
        other.cancel();
        assert_eq!(other.join().unwrap(), 8);
        assert_eq!(handle.join().unwrap(), 7);
    }

    fn cancelling_oneself_is_raised_at_the_next_wait() {
        let reached = Rc::new(Cell::new(0));
        let steps = Rc::clone(&reached);
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let place = Rc::clone(&own);
        let handle = thread::spawn(move || {
            thread::park();
            place.borrow().as_ref().unwrap().cancel();
            steps.set(1);
            assert!(cancel::is_cancelled());
            thread::sleep(Duration::ZERO);
            steps.set(2);
        });
        let thread = handle.thread().clone();
        *own.borrow_mut() = Some(handle);
        thread.unpark();
        let handle = loop {
            thread::yield_now();
            if own.borrow().as_ref().unwrap().is_finished() {
                break own.take().unwrap();
            }
        };
        assert_cancelled(handle);
        assert_eq!(reached.get(), 1);
    }

    fn a_catch_unwind_in_between_does_not_swallow_it() {
        let rounds = Rc::new(Cell::new(0));
        let counted = Rc::clone(&rounds);
        let handle = thread::spawn(move || {
            for _ in 0..3 {
                let caught = catch_unwind(AssertUnwindSafe(thread::park));
                assert!(Cancelled::is(&*caught.unwrap_err()));
                counted.set(counted.get() + 1);
            }
            thread::sleep(Duration::MAX);
        });
        thread::yield_now();
        handle.cancel();
        assert_cancelled(handle);
        assert_eq!(rounds.get(), 3);
    }

    fn one_that_swallows_every_interrupt_does_not_keep_the_hub_to_itself() {
        let done = Rc::new(Cell::new(false));
        let over = Rc::clone(&done);
        let handle = thread::spawn(move || {
            while !over.get() {
                let _ = catch_unwind(AssertUnwindSafe(|| thread::sleep(Duration::MAX)));
            }
        });
        thread::yield_now();
        handle.cancel();
        thread::sleep(Duration::from_millis(5));
        done.set(true);
        handle.join().unwrap();
    }

    fn partners_that_keep_each_other_busy_do_not_hold_an_interrupt_off() {
        use greenring::sync::channel;
        let (sender, receiver) = channel::rendezvous();
        let feeder = thread::spawn(move || while sender.send(1).is_ok() {});
        let eater = thread::spawn(move || loop {
            receiver.recv().unwrap();
        });
        thread::yield_now();
        eater.cancel();
        let result: thread::Result<()> = eater.join();
        assert!(Cancelled::is(&result.unwrap_err()));
        feeder.join().unwrap();
    }

    fn a_destructor_gets_what_it_waits_for() {
        struct Slow(Rc<Cell<u32>>);
        impl Drop for Slow {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(2));
                thread::yield_now();
                self.0.set(self.0.get() + 1);
            }
        }
        let slept = Rc::new(Cell::new(0));
        let (one, two) = (Slow(Rc::clone(&slept)), Slow(Rc::clone(&slept)));
        let handle = thread::spawn(move || {
            let _one = one;
            let _two = two;
            thread::park();
        });
        thread::yield_now();
        handle.cancel();
        assert_cancelled(handle);
        assert_eq!(slept.get(), 2);
    }

    fn a_shield_delays_it_and_shields_nest() {
        let steps = Rc::new(Cell::new(0));
        let counted = Rc::clone(&steps);
        let handle = thread::spawn(move || {
            cancel::shield(|| {
                thread::sleep(Duration::from_millis(1));
                cancel::shield(|| thread::sleep(Duration::from_millis(1)));
                counted.set(1);
                thread::sleep(Duration::from_millis(1));
                assert!(cancel::is_cancelled());
                counted.set(2);
            });
            thread::yield_now();
            counted.set(3);
        });
        thread::yield_now();
        handle.cancel();
        assert_cancelled(handle);
        assert_eq!(steps.get(), 2);
    }

    fn a_time_limit_set_inside_of_a_shield_works() {
        let handle = thread::spawn(|| {
            cancel::shield(|| time::timeout(Duration::from_millis(1), thread::park)).unwrap_err();
        });
        thread::yield_now();
        handle.cancel();
        // Nothing waited after the shield.
        handle.join().unwrap();
    }

    fn a_read_in_flight_is_interrupted_and_its_socket_closed() {
        let (mut ours, mut theirs) = common::connection();
        let handle = thread::spawn(move || {
            let mut buffer = [0; 16];
            theirs.read(&mut buffer).map(drop)
        });
        thread::yield_now();
        handle.cancel();
        assert_cancelled(handle);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the other end is closed");
    }

    fn it_reaches_another_os_thread() {
        let (send, receive) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let handle = thread::spawn(thread::park);
            thread::yield_now();
            // A handle without a result of its own OS thread may be sent.
            send.send(handle).unwrap();
            // This hub sleeps until it is told.
            thread::sleep(Duration::from_millis(1));
            thread::park();
        });
        let handle = receive.recv().unwrap();
        let parked = other.thread().id();
        assert_ne!(parked, std::thread::current().id());
        handle.cancel();
        assert_cancelled(handle);
        drop(other);
    }

    fn spawn_after_is_cancelled_before_it_starts() {
        let handle = thread::spawn_after(Duration::MAX, || panic!("the body runs"));
        thread::yield_now();
        handle.cancel();
        assert_cancelled(handle);
        let begin = Instant::now();
        let handle = thread::spawn_after(Duration::from_millis(3), move || begin.elapsed());
        assert!(handle.join().unwrap() >= Duration::from_millis(3));
    }

    fn a_payload_of_the_same_type_is_an_ordinary_result() {
        let handle = thread::spawn(|| std::panic::resume_unwind(Box::new(Cancelled)));
        assert!(Cancelled::is(&handle.join().unwrap_err()));
    }

    fn joining_in_time_and_not() {
        let mut handle = thread::spawn(|| {
            thread::park();
            5
        });
        assert!(handle.join_timeout(Duration::ZERO).is_none());
        assert!(handle.join_timeout(Duration::from_millis(2)).is_none());
        handle.thread().unpark();
        assert_eq!(handle.join_timeout(Duration::from_secs(60)).unwrap().unwrap(), 5);
        let again = catch_unwind(AssertUnwindSafe(|| handle.join_timeout(Duration::ZERO)));
        let message = again.unwrap_err();
        assert!(message.downcast_ref::<String>().unwrap().contains("only one"));
    }

    fn a_joiner_that_is_interrupted_may_join_again() {
        let inner = thread::spawn(|| {
            thread::park();
            3
        });
        let parked = inner.thread().clone();
        let outer = thread::spawn(move || {
            let mut inner = inner;
            for _ in 0..3 {
                let waited = time::timeout(Duration::from_millis(1), || {
                    inner.join_timeout(Duration::from_secs(60))
                });
                assert!(waited.is_err());
            }
            parked.unpark();
            inner.join().unwrap()
        });
        assert_eq!(outer.join().unwrap(), 3);
    }

    fn joining_oneself_panics_with_the_name() {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let place = Rc::clone(&own);
        let handle = thread::Builder::new()
            .name("ouroboros".into())
            .spawn(move || {
                let own = place.take().unwrap();
                let caught = catch_unwind(AssertUnwindSafe(|| own.join()));
                let message = caught.unwrap_err();
                let message = message.downcast_ref::<String>().unwrap();
                assert!(message.contains("'ouroboros'"), "{message}");
            })
            .unwrap();
        *own.borrow_mut() = Some(handle);
        thread::yield_now();
        assert!(own.borrow().is_none());
    }

    fn wait_any_gives_the_one_that_has_ended_and_leaves_the_rest_alone() {
        let handles: Vec<_> = (0..3).map(|n| thread::spawn(move || { thread::park(); n })).collect();
        let woken = handles[1].thread().clone();
        thread::spawn(move || woken.unpark());
        assert_eq!(thread::wait_any(&handles), 1);
        assert_eq!(thread::wait_any(&handles), 1);
        // Two may watch the same ones.
        let handles = Rc::new(handles);
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                let handles = Rc::clone(&handles);
                thread::spawn(move || thread::wait_any(&handles[2..]))
            })
            .collect();
        thread::yield_now();
        handles[2].cancel();
        for watcher in watchers {
            assert_eq!(watcher.join().unwrap(), 0);
        }
        let abandoned = thread::spawn({
            let handles = Rc::clone(&handles);
            move || thread::wait_any(&handles[..1])
        });
        thread::yield_now();
        abandoned.cancel();
        assert_cancelled(abandoned);
        handles[0].thread().unpark();
        assert_eq!(thread::wait_any(&handles[..1]), 0);
    }

    // gevent #330: who waits for one that never starts is told, too.
    fn many_may_wait_for_one_and_all_are_told_also_if_it_never_starts() {
        for is_started in [false, true] {
            let handle = Rc::new(thread::spawn(thread::park));
            if is_started {
                thread::yield_now();
            }
            let watchers: Vec<_> = (0..100)
                .map(|_| {
                    let handle = Rc::clone(&handle);
                    thread::spawn(move || {
                        greenring::select! { join(&*handle) => {} }
                        handle.is_finished()
                    })
                })
                .collect();
            if is_started {
                thread::yield_now();
            }
            handle.cancel();
            for result in thread::join_all(watchers) {
                assert!(result.unwrap());
            }
        }
    }

    fn join_all_gives_every_result_in_order() {
        let handles = (0..5).rev().map(|n| {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(n));
                assert_ne!(n, 3, "on purpose");
                n
            })
        });
        let results = thread::join_all(handles);
        let results: Vec<_> = results.into_iter().map(Result::ok).collect();
        assert_eq!(results, [Some(4), None, Some(2), Some(1), Some(0)]);
    }

    fn bytes_that_have_arrived_are_not_lost_by_a_race_with_the_cancel() {
        let mut rng = common::Rng::new("cancelled reads");
        let mut read = 0;
        const ROUNDS: usize = 2000;
        for _ in 0..ROUNDS {
            let (mut ours, theirs) = common::connection();
            let theirs = Rc::new(theirs);
            let reader = thread::spawn({
                let theirs = Rc::clone(&theirs);
                move || (&*theirs).read(&mut [0; 8]).unwrap()
            });
            let order = rng.below(3);
            if order != 0 {
                thread::yield_now();
            }
            ours.write_all(b"x").unwrap();
            if order == 2 {
                thread::yield_now();
            }
            reader.cancel();
            match reader.join() {
                Ok(count) => read += count,
                Err(_) => {
                    // Then it is still there.
                    assert_eq!((&*theirs).read(&mut [0; 8]).unwrap(), 1);
                    read += 1;
                }
            }
        }
        assert_eq!(read, ROUNDS);
    }
}
