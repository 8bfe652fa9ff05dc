//! Time limits on closures, and intervals.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::through::Read;
use greenring::time::{self, MissedTickBehavior, interval, timeout, timeout_at};
use greenring::{Cancelled, cancel, thread};

const SOON: Duration = Duration::from_millis(2);
const LATE: Duration = Duration::from_secs(600);

both_backends! {
    fn whoever_finishes_in_time_wins() {
        assert_eq!(timeout(LATE, || 1), Ok(1));
        assert_eq!(timeout(Duration::MAX, || { thread::yield_now(); 2 }), Ok(2));
        assert_eq!(timeout_at(Instant::now() + LATE, || { thread::sleep(SOON); 3 }), Ok(3));
        // However late, if nothing waits.
        let late = timeout(Duration::ZERO, || std::hint::black_box(4));
        assert_eq!(late, Ok(4));
    }

    fn whoever_waits_too_long_is_interrupted_and_unwound() {
        let dropped = Rc::new(Cell::new(false));
        struct Guard(Rc<Cell<bool>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let guard = Guard(Rc::clone(&dropped));
        let begin = Instant::now();
        timeout(SOON, move || {
            let _guard = guard;
            thread::park();
        })
        .unwrap_err();
        assert!(begin.elapsed() >= SOON);
        assert!(dropped.get());
        // The limit is gone.
        thread::sleep(SOON * 2);
        thread::yield_now();
    }

    fn a_zero_limit_interrupts_the_first_wait() {
        let reached = Cell::new(0);
        timeout(Duration::ZERO, || {
            reached.set(1);
            thread::sleep(LATE);
            reached.set(2);
        })
        .unwrap_err();
        assert_eq!(reached.get(), 1);
        timeout_at(Instant::now() - Duration::from_millis(1), thread::park).unwrap_err();
    }

    fn reads_sleeps_joins_and_yields_are_interrupted() {
        let (mut ours, _theirs) = common::connection();
        timeout(SOON, || ours.read(&mut [0; 4])).unwrap_err();
        timeout(SOON, || thread::sleep(LATE)).unwrap_err();
        let parked = thread::spawn(thread::park);
        let unpark = parked.thread().clone();
        timeout(SOON, || parked.join()).unwrap_err();
        unpark.unpark();
        timeout(SOON, || loop { thread::yield_now() }).unwrap_err();
    }

    fn a_socket_that_is_always_ready_does_not_hold_the_limit_off() {
        use greenring::io::Write;
        let (mut ours, theirs) = common::connection();
        let feeder = thread::spawn(move || {
            let mut theirs = theirs;
            while theirs.write_all(&[0; 4096]).is_ok() {}
        });
        timeout(SOON, || while ours.read(&mut [0; 64]).unwrap() > 0 {}).unwrap_err();
        drop(ours);
        feeder.join().unwrap();
    }

    fn limits_nest_and_each_is_caught_by_its_own_call() {
        let outer = timeout(LATE, || {
            let inner = timeout(SOON, thread::park);
            inner.unwrap_err();
            thread::yield_now();
            "outer went on"
        });
        assert_eq!(outer, Ok("outer went on"));

        let outer = timeout(SOON, || timeout(LATE, thread::park).is_ok());
        assert!(outer.is_err(), "the inner limit lets the outer one pass");
    }

    fn of_two_that_are_due_the_outer_one_wins() {
        let went_on = Cell::new(false);
        let outer = timeout(Duration::ZERO, || {
            let _ = timeout(Duration::ZERO, thread::park);
            went_on.set(true);
        });
        outer.unwrap_err();
        assert!(!went_on.get());
    }

    fn a_cancellation_goes_through_every_limit() {
        let handle = thread::spawn(|| {
            let _ = timeout(LATE, || timeout(LATE, thread::park));
            panic!("went on");
        });
        thread::yield_now();
        handle.cancel();
        assert!(Cancelled::is(&handle.join().unwrap_err()));
    }

    fn cancelled_and_out_of_time_it_is_cancelled() {
        let handle = thread::spawn(|| {
            let _ = timeout(Duration::ZERO, || {
                cancel::shield(thread::park);
                thread::park();
            });
            panic!("went on");
        });
        thread::yield_now();
        handle.cancel();
        handle.thread().unpark();
        assert!(Cancelled::is(&handle.join().unwrap_err()));
    }

    fn a_catch_unwind_in_between_does_not_swallow_it() {
        let rounds = Cell::new(0);
        timeout(SOON, || {
            for _ in 0..3 {
                catch_unwind(AssertUnwindSafe(thread::park)).unwrap_err();
                rounds.set(rounds.get() + 1);
            }
            thread::park();
        })
        .unwrap_err();
        assert_eq!(rounds.get(), 3);
    }

    fn a_panic_goes_through_with_its_payload() {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            timeout(LATE, || std::panic::panic_any(17)).unwrap();
        }));
        assert_eq!(caught.unwrap_err().downcast_ref::<i32>(), Some(&17));
    }

    fn a_payload_that_was_kept_is_nobody_elses_limit() {
        let mut kept = None;
        timeout(SOON, || {
            kept = catch_unwind(AssertUnwindSafe(thread::park)).err();
            Ok::<(), ()>(())
        })
        .unwrap()
        .unwrap();
        let kept = kept.unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            timeout(LATE, || std::panic::resume_unwind(kept)).unwrap();
        }));
        assert!(caught.is_err(), "it is an ordinary panic now");
    }

    fn a_shield_hides_the_limits_around_it() {
        let steps = Cell::new(0);
        timeout(Duration::ZERO, || {
            cancel::shield(|| {
                thread::sleep(SOON);
                steps.set(1);
            });
            thread::yield_now();
            steps.set(2);
        })
        .unwrap_err();
        assert_eq!(steps.get(), 1);
    }

    fn what_a_destructor_waits_for_it_gets_also_when_time_is_up() {
        struct Slow<'a>(&'a Cell<bool>);
        impl Drop for Slow<'_> {
            fn drop(&mut self) {
                thread::sleep(SOON);
                self.0.set(true);
            }
        }
        let slept = Cell::new(false);
        timeout(SOON, || {
            let _slow = Slow(&slept);
            thread::park();
        })
        .unwrap_err();
        assert!(slept.get());
    }

    fn a_limit_fires_while_a_sibling_unwinds_slowly() {
        struct Slow;
        impl Drop for Slow {
            fn drop(&mut self) {
                thread::park();
            }
        }
        let unwinding = thread::spawn(|| {
            let _slow = Slow;
            std::panic::resume_unwind(Box::new("quietly"));
        });
        thread::yield_now();
        // It waits in its destructor: this one is held back until that is over.
        let unpark = unwinding.thread().clone();
        let helper = thread::spawn(move || {
            thread::sleep(SOON * 3);
            unpark.unpark();
        });
        timeout(SOON, thread::park).unwrap_err();
        helper.join().unwrap();
        unwinding.join().unwrap_err();
    }

    fn ten_thousand_limits_come_and_go() {
        for n in 0..10_000 {
            assert_eq!(timeout(LATE, || n), Ok(n));
        }
        let handles: Vec<_> = (0..1000)
            .map(|n| thread::spawn(move || {
                let dur = Duration::from_micros(n * 7 % 5000);
                timeout(dur, thread::park).unwrap_err();
            }))
            .collect();
        for result in thread::join_all(handles) {
            result.unwrap();
        }
        assert_eq!(greenring::runtime::stats().timers_armed, 0);
    }

    fn an_interval_ticks_at_once_and_then_never_early() {
        let period = Duration::from_millis(3);
        let begin = Instant::now();
        let mut interval = interval(period);
        let first = interval.tick();
        for n in 1..4 {
            let due = interval.tick();
            assert_eq!(due, first + period * n);
            assert!(Instant::now() >= due);
        }
        assert!(begin.elapsed() >= period * 3);
    }

    fn missed_ticks_come_as_one_asks() {
        let period = Duration::from_millis(4);
        for behavior in [
            MissedTickBehavior::Burst,
            MissedTickBehavior::Delay,
            MissedTickBehavior::Skip,
        ] {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(behavior);
            let first = interval.tick();
            thread::sleep(period * 3 + period / 2);
            let late = Instant::now();
            assert_eq!(interval.tick(), first + period, "the one that was missed first");
            let next = interval.tick();
            match behavior {
                MissedTickBehavior::Burst => assert_eq!(next, first + period * 2),
                MissedTickBehavior::Delay => assert!(next >= late + period),
                MissedTickBehavior::Skip => {
                    assert!(next >= late);
                    let steps = (next - first).as_nanos();
                    assert_eq!(steps % period.as_nanos(), 0);
                }
            }
        }
    }

    fn an_interrupted_tick_is_not_lost() {
        let mut interval = interval(Duration::from_millis(20));
        let first = interval.tick();
        timeout(Duration::from_millis(1), || interval.tick()).unwrap_err();
        assert_eq!(interval.tick(), first + Duration::from_millis(20));
    }

    fn an_interval_of_zero_is_refused() {
        assert!(catch_unwind(|| time::interval(Duration::ZERO)).is_err());
    }
}

#[test]
fn a_limit_on_an_os_thread_without_a_hub_works_too() {
    timeout(SOON, thread::park).unwrap_err();
    timeout(SOON, || thread::sleep(LATE)).unwrap_err();
}
