//! What the hub itself costs: switching, spawning, stacks and deadlines, and what
//! stands on them: locks, channels, time limits. No operation of the kernel is in
//! between.
//!
//! criterion measures and prints each row. The table at the end compares the
//! medians with the goals, which hold at 125 ns per `getppid`: the yardstick is
//! taken beside each sample, because the speed of a shared machine drifts.

#![deny(unsafe_code)]

mod machine;
mod statistics;

use std::cell::RefCell;
use std::fmt::Debug;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use greenring::sync::{Event, Mutex, RwLock, Semaphore, channel, mpsc};
use greenring::thread::{self, Builder};
use greenring::{runtime, time, yield_now};
use machine::{cpu_time, cpu_time_since, describe, getppid_nanoseconds, share_one_cpu};
use statistics::median;

/// The speed at which the goals hold: nanoseconds per `getppid`.
const YARDSTICK: f64 = 125.0;

/// Samples of a shorter run say more about the clock than about the hub; they
/// come from the warm-up.
const SHORTEST_SAMPLE: Duration = Duration::from_millis(1);

/// Green threads that are alive at once in the crowded rows.
const CROWD: u64 = 1000;

const SMALL_STACK: usize = 64 * 1024;

/// A deadline that does not pass while the bench runs.
const FAR: Duration = Duration::from_secs(3600);

fn main() {
    let cpu = share_one_cpu(None).expect("a CPU to run on");
    let mut bench = Bench {
        criterion: Criterion::default()
            .sample_size(30)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_millis(1500))
            .configure_from_args(),
        rows: Vec::new(),
    };
    println!(
        "{}, CPU {cpu}; hub: {:?}, {}",
        describe(),
        runtime::backend(),
        runtime::backend_reason()
    );

    bench.measure("yield_now, 2 green threads", Some(15.0), |n| yields(2, n));
    bench.measure("yield_now, 1000 green threads", Some(20.0), |n| {
        yields(CROWD, n)
    });

    bench.measure("spawn+join, one at a time", Some(100.0), |n| {
        on_a_green_thread(n, |n| spawn_and_join_each(n, None))
    });
    bench.measure("spawn+join, one at a time, by the root", None, |n| {
        spawn_and_join_each(n, None)
    });
    bench.measure("spawn+join, 1000 at a time", Some(100.0), |n| {
        on_a_green_thread(n, |n| spawn_and_join_crowds(n, None))
    });
    bench.measure("stack reuse, 64 KiB, one at a time", None, |n| {
        on_a_green_thread(n, |n| spawn_and_join_each(n, Some(SMALL_STACK)))
    });
    bench.measure("stack reuse, 64 KiB, 1000 at a time", None, |n| {
        on_a_green_thread(n, |n| spawn_and_join_crowds(n, Some(SMALL_STACK)))
    });

    bench.measure("park+unpark, one hand-over", None, |n| {
        hand_overs(n, thread::park)
    });
    bench.measure("clock read", None, clock_reads);
    bench.measure_deadlines();
    bench.measure("timeout that does not come", Some(60.0), |n| {
        on_a_green_thread(n, limits)
    });

    bench.measure("Mutex locked and unlocked, free", None, |n| {
        let mutex = Mutex::new(0_u64);
        on_a_green_thread(n, |n| {
            timed(n, move || *black_box(&mutex).lock().unwrap() += 1)
        })
    });
    bench.measure("RwLock read, free", None, |n| {
        let lock = RwLock::new(0_u64);
        on_a_green_thread(n, |n| {
            timed(n, move || {
                black_box(*black_box(&lock).read().unwrap());
            })
        })
    });
    bench.measure("Semaphore, a free permit", None, |n| {
        let semaphore = Semaphore::new(3);
        on_a_green_thread(n, |n| {
            timed(n, move || drop(black_box(&semaphore).acquire()))
        })
    });
    bench.measure("Event that is set, waited for", None, |n| {
        let event = Event::new();
        event.set();
        on_a_green_thread(n, |n| timed(n, move || black_box(&event).wait()))
    });

    bench.measure("mpsc ping-pong, one hop", Some(100.0), |n| {
        hops(n, mpsc::channel, mpsc::Sender::send, mpsc::Receiver::recv)
    });
    bench.measure("bounded(1) ping-pong, one hop", Some(100.0), |n| {
        let channel = || channel::bounded(1);
        hops(n, channel, channel::Sender::send, channel::Receiver::recv)
    });
    bench.measure("channel, sent and received by one", None, |n| {
        let (sender, receiver) = channel::bounded(1);
        on_a_green_thread(n, |n| {
            timed(n, move || {
                sender.send(black_box(1)).unwrap();
                black_box(receiver.recv().unwrap());
            })
        })
    });

    bench.criterion.final_summary();
    bench.print_table();
}

/// A row of the table.
struct Row {
    name: &'static str,
    /// Nanoseconds, at a yardstick of 125 ns.
    goal: Option<f64>,
    samples: Vec<Sample>,
}

/// One run of a row.
struct Sample {
    /// Nanoseconds per iteration.
    each: f64,
    /// Nanoseconds per `getppid` at that moment.
    yardstick: f64,
}

struct Bench {
    criterion: Criterion,
    rows: Vec<Row>,
}

impl Bench {
    /// Measures a row. `run` does its work a number of times and says how long
    /// that took.
    fn measure(&mut self, name: &'static str, goal: Option<f64>, run: impl Fn(u64) -> Duration) {
        let mut samples = Vec::new();
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let elapsed = run(iterations);
                if elapsed >= SHORTEST_SAMPLE {
                    samples.push(Sample {
                        each: per(elapsed, iterations),
                        yardstick: getppid_nanoseconds(),
                    });
                }
                elapsed
            });
        });
        self.rows.push(Row {
            name,
            goal,
            samples,
        });
    }

    /// Measures hand-overs with a deadline, and beside each sample the same
    /// without: the difference, less the clock read that turns the timeout
    /// into a deadline, is what arming and cancelling it costs.
    fn measure_deadlines(&mut self) {
        let differences = RefCell::new(Vec::new());
        self.measure("park_timeout+unpark, one hand-over", None, |n| {
            let without = hand_overs(n, thread::park);
            let clock = clock_reads(n);
            let with = hand_overs(n, || thread::park_timeout(FAR));
            if with >= SHORTEST_SAMPLE {
                differences.borrow_mut().push(Sample {
                    each: per(with, n) - per(without, n) - per(clock, n),
                    yardstick: getppid_nanoseconds(),
                });
            }
            with
        });
        self.rows.push(Row {
            name: "deadline armed and cancelled (the difference)",
            goal: Some(20.0),
            samples: differences.into_inner(),
        });
    }

    /// Prints the rows that were measured; a filter or a quick run leaves some
    /// or all of them without samples.
    fn print_table(&self) {
        let measured: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| !row.samples.is_empty())
            .collect();
        if measured.is_empty() {
            return;
        }
        println!(
            "\n{:<46} {:>8} {:>8} {:>12}",
            "ns, medians", "measured", "getppid", "goal, scaled"
        );
        for row in measured {
            let each = median(row.samples.iter().map(|sample| sample.each));
            let yardstick = median(row.samples.iter().map(|sample| sample.yardstick));
            print!("{:<46} {each:>8.1} {yardstick:>8.1}", row.name);
            match row.goal {
                Some(goal) => {
                    let scaled = goal * yardstick / YARDSTICK;
                    let verdict = if each <= scaled { "ok" } else { "NOT MET" };
                    println!(" {scaled:>12.1} {verdict}");
                }
                None => println!(),
            }
        }
        println!("The goals hold at {YARDSTICK} ns per getppid and are scaled by it.");
    }
}

fn per(elapsed: Duration, iterations: u64) -> f64 {
    elapsed.as_nanos() as f64 / iterations as f64
}

/// What `iterations` would have taken, if `done` took `elapsed`.
fn scale(elapsed: Duration, done: u64, iterations: u64) -> Duration {
    elapsed.mul_f64(iterations as f64 / done as f64)
}

// Programs yield below calls of their own, and so is every wait inside a
// library. A bench that inlines them flatters the switch: the CPU then predicts
// the return that follows it. Work after the call keeps it from becoming a jump.

#[inline(never)]
fn yield_three_deep(n: u64) -> u64 {
    yield_two_deep(n).wrapping_add(black_box(1))
}

#[inline(never)]
fn yield_two_deep(n: u64) -> u64 {
    yield_one_deep(n).wrapping_add(black_box(1))
}

#[inline(never)]
fn yield_one_deep(n: u64) -> u64 {
    yield_now();
    n.wrapping_add(black_box(1))
}

/// Switches among `crowd` green threads. The first of them takes the time,
/// when all have started; in each of its rounds everybody runs once.
fn yields(crowd: u64, iterations: u64) -> Duration {
    let rounds = iterations.div_ceil(crowd);
    let body = move || {
        black_box(yield_three_deep(0));
        let start = cpu_time();
        for round in 0..rounds {
            black_box(yield_three_deep(round));
        }
        cpu_time_since(start)
    };
    let handles: Vec<_> = (0..crowd).map(|_| thread::spawn(body)).collect();
    let times = handles.into_iter().map(|handle| handle.join().unwrap());
    let first = times.collect::<Vec<_>>()[0];
    scale(first, rounds * crowd, iterations)
}

fn on_a_green_thread(iterations: u64, run: impl FnOnce(u64) -> Duration + 'static) -> Duration {
    thread::spawn(move || run(iterations)).join().unwrap()
}

fn spawn_empty(stack_size: Option<usize>) -> thread::JoinHandle<()> {
    let builder = match stack_size {
        Some(size) => Builder::new().stack_size(size),
        None => Builder::new(),
    };
    builder.spawn(|| {}).expect("a stack")
}

fn spawn_and_join_each(iterations: u64, stack_size: Option<usize>) -> Duration {
    let start = cpu_time();
    for _ in 0..iterations {
        spawn_empty(stack_size).join().unwrap();
    }
    cpu_time_since(start)
}

fn spawn_and_join_crowds(iterations: u64, stack_size: Option<usize>) -> Duration {
    let crowds = iterations.div_ceil(CROWD);
    let mut handles = Vec::with_capacity(CROWD as usize);
    let start = cpu_time();
    for _ in 0..crowds {
        handles.extend((0..CROWD).map(|_| spawn_empty(stack_size)));
        for handle in handles.drain(..) {
            handle.join().unwrap();
        }
    }
    scale(cpu_time_since(start), crowds * CROWD, iterations)
}

/// Two green threads wake each other in turn: an iteration is one `unpark` and
/// the wait that it ends. No wait needs a condition, because each unpark finds
/// the other one waiting.
fn hand_overs(iterations: u64, wait: impl Fn() + Copy + 'static) -> Duration {
    let rounds = iterations.div_ceil(2);
    let asking = thread::spawn(move || {
        let me = thread::current();
        let answering = thread::spawn(move || {
            for _ in 0..rounds {
                wait();
                me.unpark();
            }
        });
        let start = cpu_time();
        for _ in 0..rounds {
            answering.thread().unpark();
            wait();
        }
        let elapsed = cpu_time_since(start);
        answering.join().unwrap();
        elapsed
    });
    scale(asking.join().unwrap(), 2 * rounds, iterations)
}

/// Two green threads bounce an item: an iteration is one way of it.
fn hops<S: 'static, R: 'static, E: Debug + 'static, F: Debug + 'static>(
    iterations: u64,
    channel: impl Fn() -> (S, R),
    send: fn(&S, u64) -> Result<(), E>,
    receive: fn(&R) -> Result<u64, F>,
) -> Duration {
    let rounds = iterations.div_ceil(2);
    let (ask, asked) = channel();
    let (answer, answered) = channel();
    let asking = thread::spawn(move || {
        let answering = thread::spawn(move || {
            for _ in 0..rounds {
                send(&answer, receive(&asked).unwrap()).unwrap();
            }
        });
        let start = cpu_time();
        for round in 0..rounds {
            send(&ask, round).unwrap();
            assert_eq!(receive(&answered).unwrap(), round);
        }
        let elapsed = cpu_time_since(start);
        answering.join().unwrap();
        elapsed
    });
    scale(asking.join().unwrap(), 2 * rounds, iterations)
}

fn limits(iterations: u64) -> Duration {
    timed(iterations, || {
        black_box(time::timeout(FAR, || black_box(1))).unwrap();
    })
}

fn timed(iterations: u64, work: impl Fn()) -> Duration {
    let start = cpu_time();
    for _ in 0..iterations {
        work();
    }
    cpu_time_since(start)
}

fn clock_reads(iterations: u64) -> Duration {
    timed(iterations, || {
        black_box(Instant::now());
    })
}
