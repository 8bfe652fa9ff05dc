//! Unparks between OS threads: none is lost, none reaches the wrong wait; on
//! both backends.

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenring::runtime::{self, Builder, stats};
use greenring::thread::{self, Thread};

use common::{Rng, connection};

/// Hand-offs in one test; all tests together make some 10^6 in release mode.
const HAND_OFFS: u64 = if cfg!(debug_assertions) {
    15_000
} else {
    120_000
};

/// Two players whose turn it is alternately.
struct Game {
    /// Hand-offs so far; its parity says whose turn it is.
    turn: AtomicU64,
    players: [Mutex<Option<Thread>>; 2],
}

impl Game {
    fn new() -> Arc<Game> {
        Arc::new(Game {
            turn: AtomicU64::new(0),
            players: Default::default(),
        })
    }

    fn sit_down(&self, player: u64) {
        *self.players[player as usize].lock().unwrap() = Some(thread::current());
    }

    /// Plays to the end. Every other unpark comes as early as it can, the rest
    /// after a moment in which the other side may fall asleep.
    fn play(&self, player: u64, mut rng: Rng) {
        self.sit_down(player);
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn >= HAND_OFFS {
                self.unpark(1 - player);
                return;
            }
            if turn % 2 != player {
                thread::park();
                continue;
            }
            for _ in 0..rng.below(4) * rng.below(200) {
                std::hint::spin_loop();
            }
            self.turn.store(turn + 1, Ordering::Release);
            self.unpark(1 - player);
        }
    }

    fn unpark(&self, player: u64) {
        // One that has not sat down looks at the turn before it parks.
        if let Some(thread) = &*self.players[player as usize].lock().unwrap() {
            thread.unpark();
        }
    }
}

both_backends! {
    fn hand_offs_between_two_hubs() {
        let rng = Rng::new("hand_offs_between_two_hubs");
        let game = Game::new();
        let theirs = Arc::clone(&game);
        let backend = runtime::backend();
        let other = std::thread::spawn(move || {
            let rng = Rng::with_seed(2);
            let play = || thread::spawn(move || theirs.play(1, rng)).join().unwrap();
            Builder::new().backend(backend).run(play).unwrap();
        });
        let ours = Arc::clone(&game);
        thread::spawn(move || ours.play(0, rng)).join().unwrap();
        other.join().unwrap();
        assert_eq!(game.turn.load(Ordering::Acquire), HAND_OFFS);
    }

    fn hand_offs_between_two_roots() {
        let rng = Rng::new("hand_offs_between_two_roots");
        let game = Game::new();
        let theirs = Arc::clone(&game);
        let backend = runtime::backend();
        let other = std::thread::spawn(move || {
            let rng = Rng::with_seed(2);
            Builder::new().backend(backend).run(|| theirs.play(1, rng)).unwrap();
        });
        game.play(0, rng);
        other.join().unwrap();
        assert_eq!(game.turn.load(Ordering::Acquire), HAND_OFFS);
    }

    fn hand_offs_between_a_hub_and_an_os_thread_without_one() {
        let rng = Rng::new("hand_offs_between_a_hub_and_an_os_thread_without_one");
        let game = Game::new();
        let theirs = Arc::clone(&game);
        let other = std::thread::spawn(move || {
            theirs.play(1, Rng::with_seed(2));
            assert_eq!(stats().blocks, 0, "it has started a hub");
        });
        let ours = Arc::clone(&game);
        thread::spawn(move || ours.play(0, rng)).join().unwrap();
        other.join().unwrap();
        assert_eq!(game.turn.load(Ordering::Acquire), HAND_OFFS);
    }

    fn hand_offs_while_the_hub_is_busy_with_others() {
        // The hub never sleeps, or only now and then: the other side's mail
        // meets it at every point of its loop.
        let rng = Rng::new("hand_offs_while_the_hub_is_busy_with_others");
        let game = Game::new();
        let theirs = Arc::clone(&game);
        let other = std::thread::spawn(move || theirs.play(1, Rng::with_seed(2)));
        let over = Rc::new(Cell::new(false));
        let (mut near, mut far) = connection();
        let echo = thread::spawn(move || {
            let mut byte = [0];
            while far.read(&mut byte).unwrap() == 1 {
                far.write_all(&byte).unwrap();
            }
        });
        let flag = Rc::clone(&over);
        let noise = thread::spawn(move || {
            while !flag.get() {
                near.write_all(&[1]).unwrap();
                near.read_exact(&mut [0]).unwrap();
                thread::sleep(Duration::from_micros(30));
            }
        });
        let ours = Arc::clone(&game);
        thread::spawn(move || ours.play(0, rng)).join().unwrap();
        over.set(true);
        noise.join().unwrap();
        echo.join().unwrap();
        other.join().unwrap();
        assert_eq!(game.turn.load(Ordering::Acquire), HAND_OFFS);
    }

    fn many_os_threads_unpark_one() {
        const SENDERS: usize = 8;
        const EACH: usize = 2000;
        let sent = Arc::new(AtomicUsize::new(0));
        let root = thread::current();
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (sent, root) = (Arc::clone(&sent), root.clone());
                std::thread::spawn(move || {
                    for _ in 0..EACH {
                        sent.fetch_add(1, Ordering::AcqRel);
                        root.unpark();
                    }
                })
            })
            .collect();
        // The last unpark comes after the last count, so it ends the wait.
        while sent.load(Ordering::Acquire) < SENDERS * EACH {
            thread::park();
        }
        for sender in senders {
            sender.join().unwrap();
        }
        // At the most one token is left.
        thread::current().unpark();
        thread::park();
        let begin = Instant::now();
        thread::park_timeout(Duration::from_millis(2));
        assert!(begin.elapsed() >= Duration::from_millis(2), "a second token");
    }

    fn hand_offs_between_many_pairs_of_one_hub() {
        // Mail arrives while the hub takes other mail out of its box.
        const PAIRS: u64 = 4;
        let others: Vec<_> = (0..PAIRS)
            .map(|n| {
                let game = Game::new();
                let ours = Arc::clone(&game);
                let green = thread::spawn(move || ours.play(0, Rng::with_seed(n)));
                let theirs = Arc::clone(&game);
                let bare = std::thread::spawn(move || theirs.play(1, Rng::with_seed(n + 100)));
                (green, bare)
            })
            .collect();
        for (green, bare) in others {
            green.join().unwrap();
            bare.join().unwrap();
        }
    }

    fn late_unparks_end_no_other_wait() {
        // An OS thread that is stopped in the middle of an unpark ends it when
        // the green thread has long been in another wait.
        const SENDERS: usize = 6;
        let over = Arc::new(AtomicBool::new(false));
        let handles: Vec<_> = (0..8_u8)
            .map(|n| {
                thread::spawn(move || {
                    let nap = Duration::from_micros(200);
                    let (mut near, mut far) = connection();
                    far.set_read_timeout(Some(nap)).unwrap();
                    for round in 0..150_u8 {
                        thread::park_timeout(Duration::from_micros(10));
                        let begin = Instant::now();
                        thread::sleep(nap);
                        assert!(begin.elapsed() >= nap, "a sleep was ended");
                        thread::park_timeout(Duration::from_micros(10));
                        let inner = thread::spawn(move || {
                            thread::sleep(nap);
                            round
                        });
                        assert_eq!(inner.join().unwrap(), round);
                        thread::park_timeout(Duration::from_micros(10));
                        let begin = Instant::now();
                        far.read(&mut [0]).unwrap_err();
                        assert!(begin.elapsed() >= nap, "a read was ended");
                        near.write_all(&[n]).unwrap();
                        far.read_exact(&mut [0]).unwrap();
                    }
                })
            })
            .collect();
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let over = Arc::clone(&over);
                let threads: Vec<_> = handles.iter().map(|h| h.thread().clone()).collect();
                std::thread::spawn(move || {
                    while !over.load(Ordering::Acquire) {
                        threads.iter().for_each(Thread::unpark);
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
        over.store(true, Ordering::Release);
        for sender in senders {
            sender.join().unwrap();
        }
    }

    fn unparks_of_a_hub_that_has_ended_are_ignored() {
        let backend = runtime::backend();
        let other = std::thread::spawn(move || {
            let run = Builder::new().backend(backend).run(|| {
                let handle = thread::spawn(thread::park);
                thread::yield_now();
                handle
            });
            // Its green thread was parked, and the hub is gone.
            let handle = run.unwrap();
            handle.thread().unpark();
            handle
        });
        let handle = other.join().unwrap();
        handle.thread().unpark();
        handle.join().unwrap_err();
    }

    fn joins_across_hubs_are_all_told() {
        const COUNT: usize = 500;
        let backend = runtime::backend();
        let (sender, receiver) = std::sync::mpsc::sync_channel(COUNT);
        let other = std::thread::spawn(move || {
            let run = || {
                for n in 0..COUNT {
                    let handle = thread::spawn(move || {
                        for _ in 0..n % 4 {
                            thread::yield_now();
                        }
                        if n % 3 == 0 {
                            thread::sleep(Duration::from_micros(20));
                        }
                        n
                    });
                    sender.send(handle).unwrap();
                    thread::yield_now();
                }
                while stats().live > 0 {
                    thread::yield_now();
                }
            };
            Builder::new().backend(backend).run(run).unwrap();
        });
        let joiners: Vec<_> = (0..COUNT)
            .map(|_| {
                let handle = receiver.recv().unwrap();
                thread::spawn(move || handle.join().unwrap())
            })
            .collect();
        let sum: usize = joiners.into_iter().map(|joiner| joiner.join().unwrap()).sum();
        assert_eq!(sum, (0..COUNT).sum());
        other.join().unwrap();
    }
}

#[test]
fn hand_offs_between_two_os_threads_without_hubs() {
    let _watchdog = common::Watchdog::start(Duration::from_secs(120));
    let rng = Rng::new("hand_offs_between_two_os_threads_without_hubs");
    let game = Game::new();
    let theirs = Arc::clone(&game);
    let other = std::thread::spawn(move || theirs.play(1, Rng::with_seed(2)));
    game.play(0, rng);
    other.join().unwrap();
    assert_eq!(game.turn.load(Ordering::Acquire), HAND_OFFS);
    assert_eq!(stats().blocks, 0);
}
