//! Deadlines: never early, in order, and looked at once a turn; on both
//! backends.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenring::runtime::stats;
use greenring::thread;

use common::{Rng, connection};

/// 10^5 sleeps in a release build.
const SLEEPERS: usize = if cfg!(debug_assertions) {
    2_000
} else {
    10_000
};

/// What a deadline may be rounded up by: one tick of the wheel.
const TICK: Duration = Duration::from_nanos(1 << 16);

both_backends! {
    fn a_hundred_thousand_sleeps_are_never_early() {
        let mut rng = Rng::new("a_hundred_thousand_sleeps_are_never_early");
        let handles: Vec<_> = (0..SLEEPERS)
            .map(|_| {
                let seed = rng.next();
                thread::spawn(move || {
                    let mut rng = Rng::with_seed(seed);
                    for round in 0..10 {
                        // Up to 60 ms, most of them much shorter.
                        let nanoseconds = rng.next() % (1_u64 << (10 + rng.below(17)));
                        let time = Duration::from_nanos(nanoseconds);
                        let begin = Instant::now();
                        match round % 3 {
                            0 => thread::sleep_until(begin + time),
                            1 => thread::park_timeout(time),
                            _ => thread::sleep(time),
                        }
                        let waited = begin.elapsed();
                        assert!(waited >= time, "{waited:?} instead of {time:?}");
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
        assert_eq!(stats().timers_armed, 0);
        assert!(stats().timers_fired >= 9 * SLEEPERS as u64);
    }

    fn deadlines_pass_in_order() {
        if common::is_shuffled() {
            return;
        }
        let mut rng = Rng::new("deadlines_pass_in_order");
        let woken: Rc<RefCell<Vec<Instant>>> = Rc::default();
        let base = Instant::now() + Duration::from_millis(100);
        for _ in 0..2000 {
            let deadline = base + Duration::from_nanos(rng.below(100_000_000));
            let woken = Rc::clone(&woken);
            thread::spawn(move || {
                thread::sleep_until(deadline);
                woken.borrow_mut().push(deadline);
            });
        }
        thread::yield_now();
        // Those that were armed when theirs had passed come late, of course:
        // there are none unless this OS thread was stopped for so long.
        let late = Instant::now();
        while stats().live > 0 {
            thread::yield_now();
        }
        let woken = woken.borrow();
        assert_eq!(woken.len(), 2000);
        let in_time: Vec<_> = woken.iter().filter(|deadline| **deadline > late).collect();
        for pair in in_time.windows(2) {
            assert!(*pair[1] + TICK > *pair[0], "{:?} early", *pair[0] - *pair[1]);
        }
    }

    fn equal_deadlines_pass_in_the_order_of_arming() {
        if common::is_shuffled() {
            return;
        }
        let woken: Rc<RefCell<Vec<u32>>> = Rc::default();
        let deadline = Instant::now() + Duration::from_millis(20);
        for n in 0..100 {
            let woken = Rc::clone(&woken);
            thread::spawn(move || {
                thread::sleep_until(deadline);
                woken.borrow_mut().push(n);
            });
        }
        while stats().live > 0 {
            thread::yield_now();
        }
        assert_eq!(*woken.borrow(), (0..100).collect::<Vec<_>>());
    }

    fn a_deadline_that_passes_in_a_long_turn_counts_at_its_end() {
        let end = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&end);
        let sleeper = thread::spawn(|| {
            thread::sleep(Duration::from_millis(2));
            stats().turns
        });
        thread::spawn(move || {
            // Computes long beyond it without letting go.
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            theirs.set(stats().turns);
        });
        let woken = sleeper.join().unwrap();
        assert!(woken - end.get() <= 2, "{} turns late", woken - end.get());
    }

    fn time_limits_of_reads_are_never_early() {
        let mut rng = Rng::new("time_limits_of_reads_are_never_early");
        let handles: Vec<_> = (0..200)
            .map(|_| {
                let limit = Duration::from_nanos(1 + rng.below(30_000_000));
                thread::spawn(move || {
                    let (mut near, _far) = connection();
                    near.set_read_timeout(Some(limit)).unwrap();
                    for _ in 0..3 {
                        let begin = Instant::now();
                        let error = near.read(&mut [0; 10]).unwrap_err();
                        let waited = begin.elapsed();
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        assert!(waited >= limit, "{waited:?} instead of {limit:?}");
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
        assert_eq!((stats().timers_armed, stats().in_flight), (0, 0));
    }

    fn deadlines_that_do_not_pass_leave_nothing_armed() {
        let handles: Vec<_> = (0..1000)
            .map(|_| thread::spawn(|| thread::park_timeout(Duration::from_secs(3600))))
            .collect();
        thread::yield_now();
        assert_eq!(stats().timers_armed, 1000);
        for handle in &handles {
            handle.thread().unpark();
        }
        for handle in handles {
            handle.join().unwrap();
        }
        assert_eq!((stats().timers_armed, stats().timers_fired), (0, 0));
    }

    fn a_near_deadline_is_met_beside_far_ones() {
        // Far ones sit on higher levels of the wheel and move down in time.
        for power in 0..60 {
            let far = Instant::now().checked_add(Duration::from_nanos(1_u64 << power));
            if let Some(far) = far.filter(|far| *far > Instant::now() + Duration::from_secs(60)) {
                thread::spawn(move || thread::sleep_until(far));
            }
        }
        thread::yield_now();
        let armed = stats().timers_armed;
        for milliseconds in [1, 5, 20, 70] {
            let time = Duration::from_millis(milliseconds);
            let begin = Instant::now();
            thread::sleep(time);
            assert!(begin.elapsed() >= time);
        }
        assert_eq!(stats().timers_armed, armed);
    }
}
