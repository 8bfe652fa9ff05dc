//! Cancellations and time limits by the hundred thousand, against operations
//! that complete at that very moment. Nothing is lost, written to dead frames or
//! leaked.
//!
//! `GREENRING_TEST_ROUNDS` sets the number of rounds, 100 000 by default.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use common::through::{Read, plainly};
use common::{Rng, open_descriptors};
use greenring::io::Write;
use greenring::net::{TcpListener, TcpStream};
use greenring::runtime::stats;
use greenring::time::timeout;
use greenring::{Cancelled, cancel, thread};

fn rounds() -> u64 {
    match std::env::var("GREENRING_TEST_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("GREENRING_TEST_ROUNDS is a number"),
        Err(_) => 100_000,
    }
}

/// What must be level before and after a storm.
#[derive(Debug, PartialEq)]
struct Level {
    descriptors: usize,
    live: usize,
    in_flight: usize,
    timers: usize,
}

fn level() -> Level {
    let stats = stats();
    Level {
        descriptors: open_descriptors(),
        live: stats.live,
        in_flight: stats.in_flight,
        timers: stats.timers_armed,
    }
}

/// Counts what is alive of its kind.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(alive: &Rc<Cell<usize>>) -> Counted {
        alive.set(alive.get() + 1);
        Counted(Rc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A buffer whose surroundings must not be written to.
struct Canaried {
    bytes: [u8; 64],
}

const CANARY: u8 = 0xc5;

impl Canaried {
    fn new() -> Canaried {
        Canaried {
            bytes: [CANARY; 64],
        }
    }

    /// Reads up to 8 bytes into the middle.
    fn read(&mut self, mut stream: &TcpStream) -> std::io::Result<&[u8]> {
        let count = stream.read(&mut self.bytes[24..32])?;
        Ok(&self.bytes[24..24 + count])
    }

    #[track_caller]
    fn check(&self) {
        let around = self.bytes[..24].iter().chain(&self.bytes[32..]);
        assert!(around.copied().all(|byte| byte == CANARY));
    }
}

/// The bytes 0, 1, 2 … of which a reader has taken some.
#[derive(Default)]
struct Sequence(Cell<u64>);

impl Sequence {
    #[track_caller]
    fn take(&self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(*byte, self.0.get() as u8, "a byte was lost or came twice");
            self.0.set(self.0.get() + 1);
        }
    }
}

fn feed(mut stream: &TcpStream, mut next: u64, mut rng: Rng, until: u64) {
    while next < until {
        let count = (1 + rng.below(12)).min(until - next);
        let bytes: Vec<u8> = (next..next + count).map(|n| n as u8).collect();
        stream.write_all(&bytes).unwrap();
        next += count;
        match rng.below(4) {
            0 => thread::sleep(Duration::from_micros(rng.below(150))),
            1 => {}
            _ => thread::yield_now(),
        }
    }
}

both_backends_alone! {
    // Hazards 1 and 2.
    fn reads_under_limits_that_pass_at_any_moment_lose_no_byte() {
        let mut rng = Rng::new("limits");
        let before = level();
        let until = rounds();
        let (ours, theirs) = common::connection();
        let feeder = {
            let rng = Rng::with_seed(rng.next());
            thread::spawn(move || feed(&theirs, 0, rng, until))
        };
        let sequence = Sequence::default();
        let mut passed = 0_u64;
        let mut total = 0_u64;
        while sequence.0.get() < until {
            let mut canaried = Canaried::new();
            let limit = Duration::from_micros(rng.below(120));
            let result = timeout(limit, || canaried.read(&ours).map(|bytes| sequence.take(bytes)));
            canaried.check();
            total += 1;
            match result {
                Ok(read) => read.unwrap(),
                Err(_) => passed += 1,
            }
        }
        println!("{passed} of {total} limits passed");
        assert!(passed > 0 && passed < total);
        feeder.join().unwrap();
        drop(ours);
        assert_eq!(level(), before);
    }

    fn readers_that_are_cancelled_at_any_moment_lose_no_byte() {
        let mut rng = Rng::new("cancels");
        let before = level();
        let until = rounds();
        let (ours, theirs) = common::connection();
        let (ours, sequence) = (Rc::new(ours), Rc::new(Sequence::default()));
        let feeder = {
            let rng = Rng::with_seed(rng.next());
            thread::spawn(move || feed(&theirs, 0, rng, until))
        };
        let mut cancelled = 0_u64;
        while sequence.0.get() < until {
            let reader = thread::spawn({
                let (ours, sequence) = (Rc::clone(&ours), Rc::clone(&sequence));
                move || {
                    while sequence.0.get() < until {
                        let mut canaried = Canaried::new();
                        sequence.take(canaried.read(&ours).unwrap());
                        canaried.check();
                    }
                }
            });
            for _ in 0..rng.below(6) {
                thread::yield_now();
            }
            if rng.below(8) == 0 {
                thread::sleep(Duration::from_micros(rng.below(100)));
            }
            reader.cancel();
            cancelled += u64::from(reader.join().is_err());
        }
        println!("{cancelled} readers were cancelled");
        assert!(cancelled > 0);
        feeder.join().unwrap();
        drop(ours);
        assert_eq!(level(), before);
    }

    // Hazard 2; gevent #1044.
    fn accepts_and_connects_that_are_interrupted_leak_no_descriptor() {
        let mut rng = Rng::new("accepts");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Rc::new(listener);
        let before = level();
        let (mut accepted, mut interrupted) = (0, 0);
        // Ports are few, so fewer rounds.
        for _ in 0..rounds() / 50 {
            let acceptor = thread::spawn({
                let listener = Rc::clone(&listener);
                move || listener.accept().map(drop).unwrap()
            });
            let limit = Duration::from_micros(rng.below(150));
            let connector = thread::spawn(move || {
                timeout(limit, || {
                    let stream = TcpStream::connect(address).unwrap();
                    // A reset leaves no port in TIME_WAIT.
                    socket_option_linger(&stream);
                })
            });
            for _ in 0..rng.below(5) {
                thread::yield_now();
            }
            if rng.below(2) == 0 {
                acceptor.cancel();
            }
            interrupted += usize::from(connector.join().unwrap().is_err());
            acceptor.cancel();
            accepted += usize::from(acceptor.join().is_ok());
        }
        println!("{accepted} accepted, {interrupted} connects interrupted");
        // What nobody accepted is still in the listener's queue.
        drop(listener);
        assert_eq!(level().live, before.live);
        assert_eq!(level().descriptors, before.descriptors - 1);
    }

    // Hazard 7.
    fn cancels_from_another_os_thread_find_whom_they_mean() {
        let mut rng = Rng::new("cancels from afar");
        let alive = Rc::new(Cell::new(0));
        let (quiet, _other_end) = common::connection();
        let quiet = Rc::new(quiet);
        let before = level();
        let (send, receive) = std::sync::mpsc::channel::<thread::JoinHandle<()>>();
        let mut theirs = Rng::with_seed(rng.next());
        let canceller = std::thread::spawn(move || {
            let mut ended = [0_u64; 2];
            let mut waiting: Vec<thread::JoinHandle<()>> = Vec::new();
            for handle in receive {
                waiting.push(handle);
                if waiting.len() > 100 || theirs.below(4) == 0 {
                    // Some have ended, and their blocks belong to others.
                    let pick = theirs.below(waiting.len() as u64) as usize;
                    let handle = waiting.swap_remove(pick);
                    handle.cancel();
                    ended[usize::from(handle.join().is_err())] += 1;
                }
            }
            waiting.iter().for_each(thread::JoinHandle::cancel);
            for handle in waiting {
                ended[usize::from(handle.join().is_err())] += 1;
            }
            ended
        });
        let count = rounds() / 10;
        for _ in 0..count {
            let counted = Counted::new(&alive);
            let quiet = Rc::clone(&quiet);
            let mut rng = Rng::with_seed(rng.next());
            send.send(thread::spawn(move || {
                let _counted = counted;
                for _ in 0..rng.below(20) {
                    wait_for_something(&mut rng, &quiet);
                }
            }))
            .unwrap();
            while alive.get() > 200 {
                thread::sleep(Duration::from_micros(50));
            }
        }
        drop(send);
        while !canceller.is_finished() {
            thread::sleep(Duration::from_micros(200));
        }
        let [finished, cancelled] = canceller.join().unwrap();
        println!("{finished} finished, {cancelled} were cancelled");
        assert_eq!(finished + cancelled, count);
        assert_eq!(alive.get(), 0);
        drop(quiet);
        // Those whose joiner was cancelled are still to run to their end.
        while level().live > before.live {
            thread::yield_now();
        }
        assert_eq!(level().timers, before.timers);
    }

    fn whatever_it_waits_for_a_cancelled_green_thread_ends_once() {
        plainly("a stream has one reader at a time");
        let mut rng = Rng::new("waits");
        let alive = Rc::new(Cell::new(0));
        let (quiet, _other_end) = common::connection();
        let quiet = Rc::new(quiet);
        let before = level();
        let mut cancelled = 0;
        for _ in 0..rounds() / 100 {
            let handles: Vec<_> = (0..100)
                .map(|_| {
                    let counted = Counted::new(&alive);
                    let quiet = Rc::clone(&quiet);
                    let mut rng = Rng::with_seed(rng.next());
                    thread::spawn(move || {
                        let _counted = counted;
                        loop {
                            wait_for_something(&mut rng, &quiet);
                        }
                    })
                })
                .collect();
            for _ in 0..rng.below(4) {
                thread::yield_now();
            }
            if rng.below(10) == 0 {
                thread::sleep(Duration::from_micros(rng.below(300)));
            }
            for handle in &handles {
                handle.cancel();
                if rng.below(50) == 0 {
                    thread::yield_now();
                }
            }
            for handle in handles {
                let result: thread::Result<()> = handle.join();
                assert!(Cancelled::is(&result.unwrap_err()));
                cancelled += 1;
            }
            assert_eq!(alive.get(), 0, "every frame was unwound");
        }
        println!("{cancelled} cancelled");
        drop(quiet);
        // Those whose joiner was cancelled are still to run to their end.
        while level().live > before.live {
            thread::yield_now();
        }
        assert_eq!(level().timers, before.timers);
        assert_eq!(level().in_flight, before.in_flight);
    }
}

/// One of the ways to wait, each interruptible.
fn wait_for_something(rng: &mut Rng, quiet: &TcpStream) {
    match rng.below(10) {
        0 => thread::park(),
        1 => thread::sleep(Duration::from_micros(rng.below(500))),
        2 => thread::sleep(Duration::MAX),
        3 => drop((&*quiet).read(&mut [0; 16])),
        4 => thread::yield_now(),
        5 => thread::park_timeout(Duration::from_micros(rng.below(100))),
        6 => {
            let inner = thread::spawn(thread::yield_now);
            inner.join().unwrap();
        }
        7 => {
            let limit = Duration::from_micros(rng.below(200));
            let _ = timeout(limit, || {
                timeout(limit / 2, || (&*quiet).read(&mut [0; 16]))
            });
        }
        8 => {
            cancel::shield(|| thread::sleep(Duration::from_micros(rng.below(100))));
        }
        _ => {
            // A scope whose guests wait for ever, too.
            let caught = catch_unwind(AssertUnwindSafe(|| {
                thread::scope(|s| {
                    s.spawn(thread::park);
                    s.spawn(|| thread::sleep(Duration::MAX));
                    thread::sleep(Duration::from_micros(rng.below(100)));
                    s.cancel();
                });
            }));
            if let Err(payload) = caught {
                std::panic::resume_unwind(payload);
            }
        }
    }
}

fn socket_option_linger(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "setsockopt(2)");
}
