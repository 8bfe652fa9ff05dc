//! Nobody starves: neither deadlines and I/O beside a crowd, nor the crowd
//! beside one that never has to wait. Counted in turns of the loop, not in
//! time; on both backends.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenring::runtime::stats;
use greenring::{Cancelled, cancel, thread};

use common::{connection, until_asleep};

/// As many that yield for ever, until the flag is set.
fn crowd(size: usize, over: &Rc<Cell<bool>>) {
    for _ in 0..size {
        let over = Rc::clone(over);
        thread::spawn(move || {
            while !over.get() {
                thread::yield_now();
            }
        });
    }
}

both_backends! {
    fn a_yielding_crowd_does_not_hold_up_a_deadline() {
        let over = Rc::new(Cell::new(false));
        crowd(1000, &over);
        let deadline = Instant::now() + Duration::from_millis(10);
        // The turn in which it was first seen that the deadline has passed.
        let passed = Rc::new(Cell::new(None));
        let (theirs, until) = (Rc::clone(&passed), Rc::clone(&over));
        thread::spawn(move || {
            while !until.get() && Instant::now() < deadline {
                thread::yield_now();
            }
            theirs.set(Some(stats().turns));
        });
        let woken = thread::spawn(move || {
            thread::sleep_until(deadline);
            assert!(Instant::now() >= deadline);
            stats().turns
        });
        let woken = woken.join().unwrap();
        over.set(true);
        // A turn is 256 switches: 1000 ready ones go round in 4 turns, and the
        // wheel's tick lasts 66 microseconds.
        if let Some(passed) = passed.get() {
            let late = woken.saturating_sub(passed);
            assert!(late <= 40, "{late} turns late");
        }
    }

    fn a_yielding_crowd_does_not_hold_up_io() {
        const ROUNDS: u64 = 100;
        let over = Rc::new(Cell::new(false));
        crowd(1000, &over);
        let (mut near, mut far) = connection();
        let echo = thread::spawn(move || {
            let mut byte = [0];
            while far.read(&mut byte).unwrap() == 1 {
                far.write_all(&byte).unwrap();
            }
        });
        let ping = thread::spawn(move || {
            let begin = stats().turns;
            for round in 0..ROUNDS {
                near.write_all(&[round as u8]).unwrap();
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [round as u8]);
            }
            stats().turns - begin
        });
        let turns = ping.join().unwrap();
        over.set(true);
        echo.join().unwrap();
        // Four operations a round, each of which waits for the crowd to go
        // round once and for the loop to look.
        assert!(turns <= ROUNDS * 4 * 8, "{turns} turns for {ROUNDS} rounds");
    }

    fn a_yielding_root_does_not_hold_up_others() {
        let slept = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&slept);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            theirs.set(true);
        });
        while !slept.get() {
            thread::yield_now();
        }
    }

    fn what_is_queued_is_handed_over_before_the_root_goes_on() {
        let (mut near, far) = connection();
        let mut far = std::net::TcpStream::from(far);
        thread::spawn(move || near.write_all(b"queued").unwrap());
        // The sibling runs, and does not send at once because the root is ready.
        thread::yield_now();
        // The root blocks its OS thread: no turn of the loop comes before this.
        let mut buffer = [0; 6];
        far.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"queued");
    }

    fn operations_that_are_done_at_once_do_not_keep_the_hub() {
        // There is always data, and always room: nothing ever waits.
        let over = Rc::new(Cell::new(false));
        let sleeper = Rc::clone(&over);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            sleeper.set(true);
        });
        let (mut near, mut far) = connection();
        while !over.get() {
            near.write_all(&[1]).unwrap();
            assert_eq!(far.read(&mut [0; 10]).unwrap(), 1);
        }
    }

    fn operations_that_must_not_wait_do_not_keep_the_hub() {
        let over = Rc::new(Cell::new(false));
        let sleeper = Rc::clone(&over);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            sleeper.set(true);
        });
        let (mut near, _far) = connection();
        near.set_nonblocking(true).unwrap();
        while !over.get() {
            assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    fn an_operation_that_must_not_wait_gives_nobody_a_turn_and_is_not_interrupted() {
        // As under a std lock, which a sibling would block the OS thread for.
        let (near, _far) = connection();
        near.set_nonblocking(true).unwrap();
        let turns = Rc::new(Cell::new(0));
        let counts = Rc::clone(&turns);
        thread::spawn(move || {
            loop {
                counts.set(counts.get() + 1);
                thread::yield_now();
            }
        });
        let probes = thread::spawn(move || {
            cancel::shield(thread::yield_now);
            let before = turns.get();
            for _ in 0..1000 {
                let error = (&near).read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            assert_eq!(turns.get(), before);
            assert!(cancel::is_cancelled());
            thread::yield_now();
            unreachable!("here it is cancelled");
        });
        thread::yield_now();
        probes.cancel();
        assert!(Cancelled::is(&probes.join().unwrap_err()));
    }

    fn token_games_do_not_keep_the_hub() {
        // Two that unpark each other are always ready.
        let over = Rc::new(Cell::new(false));
        let sleeper = Rc::clone(&over);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            sleeper.set(true);
        });
        let first: Rc<RefCell<Option<thread::Thread>>> = Rc::default();
        let theirs = Rc::clone(&first);
        let flag = Rc::clone(&over);
        let second = thread::spawn(move || {
            while !flag.get() {
                thread::park();
                theirs.borrow().as_ref().unwrap().unpark();
            }
        });
        *first.borrow_mut() = Some(thread::current());
        while !over.get() {
            second.thread().unpark();
            thread::park();
        }
        second.thread().unpark();
        second.join().unwrap();
    }

    fn thousands_that_become_ready_at_once_are_served_in_few_turns() {
        const SOCKETS: usize = 4000;
        let served = Rc::new(Cell::new(0));
        let mut peers = Vec::new();
        for n in 0..SOCKETS {
            let (near, mut far) = connection();
            peers.push(near);
            let served = Rc::clone(&served);
            thread::spawn(move || {
                let mut byte = [0];
                far.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [n as u8]);
                served.set(served.get() + 1);
            });
        }
        // All wait.
        while stats().in_flight < SOCKETS {
            thread::yield_now();
        }
        assert_eq!(served.get(), 0);
        // Not by way of the hub, which sees them all at once.
        for (n, peer) in peers.iter().enumerate() {
            let bytes = [n as u8];
            // SAFETY: the descriptor is open, and the byte outlives the call.
            let sent = unsafe {
                use std::os::fd::AsRawFd;
                libc::send(peer.as_raw_fd(), bytes.as_ptr().cast(), 1, 0)
            };
            assert_eq!(sent, 1);
        }
        let begin = stats();
        while served.get() < SOCKETS {
            thread::yield_now();
        }
        let turns = stats().turns - begin.turns;
        assert!(turns <= SOCKETS as u64 / 4, "{turns} turns for {SOCKETS} sockets");
    }

    fn a_turn_enters_the_kernel_once() {
        const PAIRS: usize = 50;
        const ROUNDS: u64 = 100;
        let mut handles = Vec::new();
        for _ in 0..PAIRS {
            let (mut near, mut far) = connection();
            handles.push(thread::spawn(move || {
                for _ in 0..ROUNDS {
                    near.write_all(&[1; 64]).unwrap();
                    near.read_exact(&mut [0; 64]).unwrap();
                }
            }));
            handles.push(thread::spawn(move || {
                for _ in 0..ROUNDS {
                    far.read_exact(&mut [0; 64]).unwrap();
                    far.write_all(&[1; 64]).unwrap();
                }
            }));
        }
        let all = thread::spawn(move || {
            for handle in handles {
                handle.join().unwrap();
            }
        });
        let begin = stats();
        all.join().unwrap();
        let end = stats();
        let turns = end.turns - begin.turns;
        let enters = end.enters - begin.enters;
        // A queue that is full in the middle of a turn is handed over at once.
        let full = end.queue_full - begin.queue_full;
        // A turn over an overflown completion queue may need a second look, and
        // a root that becomes ready hands over what is queued.
        let overflows = end.overflows - begin.overflows;
        assert!(
            enters <= turns + full + overflows + 2,
            "{enters} enters in {turns} turns, {full} times full, {overflows} overflows"
        );
        // And turns are shared: they serve many operations each.
        let operations = PAIRS as u64 * ROUNDS * 4;
        assert!(turns <= operations / 2, "{turns} turns for {operations} operations");
    }
}

// ----- the bell ---------------------------------------------------------------------------

fn os_thread_id() -> libc::pid_t {
    // SAFETY: has no preconditions.
    unsafe { libc::gettid() }
}

both_backends! {
    fn an_awake_hub_is_not_rung() {
        let handles: Vec<_> = (0..100).map(|_| thread::spawn(thread::park)).collect();
        thread::yield_now();
        let begin = stats();
        let threads: Vec<_> = handles.iter().map(|handle| handle.thread().clone()).collect();
        let unparks = std::thread::spawn(move || {
            for _ in 0..10 {
                threads.iter().for_each(thread::Thread::unpark);
            }
        });
        // The hub is awake: its root is busy with something else.
        unparks.join().unwrap();
        for handle in handles {
            handle.join().unwrap();
        }
        assert_eq!(stats().bell_rings, begin.bell_rings);
        assert!(stats().mail >= begin.mail + 100);
    }

    fn a_sleeping_hub_is_rung_once_for_many() {
        const COUNT: usize = 100;
        let sent = Arc::new(AtomicBool::new(false));
        let handles: Vec<_> = (0..COUNT)
            .map(|_| {
                let sent = Arc::clone(&sent);
                thread::spawn(move || {
                    thread::park();
                    // The first one keeps the hub from sleeping again before
                    // all have been unparked.
                    while !sent.load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        thread::yield_now();
        let begin = stats().bell_rings;
        let threads: Vec<_> = handles.iter().map(|handle| handle.thread().clone()).collect();
        let hub = os_thread_id();
        let unparks = std::thread::spawn(move || {
            until_asleep(hub);
            threads.iter().for_each(thread::Thread::unpark);
            sent.store(true, Ordering::Release);
        });
        for handle in handles {
            handle.join().unwrap();
        }
        unparks.join().unwrap();
        assert_eq!(stats().bell_rings - begin, 1);
    }

    fn each_sleep_is_ended_by_one_ring() {
        let hub = os_thread_id();
        let begin = stats().bell_rings;
        for round in 1..=20 {
            let root = thread::current();
            let unparked = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&unparked);
            let unparks = std::thread::spawn(move || {
                until_asleep(hub);
                theirs.store(true, Ordering::Release);
                root.unpark();
            });
            while !unparked.load(Ordering::Acquire) {
                thread::park();
            }
            unparks.join().unwrap();
            assert_eq!(stats().bell_rings - begin, round);
        }
    }
}
