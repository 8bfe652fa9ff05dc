//! From one who waits to the next: items between two, a lock among very many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use greenring::sync::{self, channel, mpsc};
use greenring::thread;
use may::sync::mpsc as may_mpsc;
use tokio::sync::mpsc as tokio_mpsc;

use crate::comparison::{Contestant, Goal, Row, by};
use crate::machine::{cpu_time, cpu_time_since};
use crate::runtimes::{on_greenring, on_may, on_tokio, timed};

pub const ROWS: &[Row] = &[Row {
    name: "channel ping-pong, one hop",
    contestants: &[
        by("greenring mpsc", bounce),
        by("greenring bounded(1)", |n| {
            bounce_through(n, || channel::bounded(1))
        }),
        by("greenring rendezvous", |n| {
            bounce_through(n, channel::rendezvous)
        }),
        by("tokio mpsc, current_thread", |n| on_tokio(bounce_tokio(n))),
        by("may mpsc, 1 worker", |n| on_may(move || bounce_may(n))),
        by("std mpsc, 2 OS threads", bounce_std),
        by("crossbeam, 2 OS threads", bounce_crossbeam),
    ],
    goals: &[
        Goal::Nanoseconds(100.0),
        Goal::Ratio("tokio mpsc, current_thread", 1.0),
        Goal::Ratio("may mpsc, 1 worker", 1.0),
    ],
}];

/// They leave memory behind, so they come last.
pub const CROWDED: &[Row] = &[Row {
    name: "Mutex that all wait for, one hand-over",
    contestants: &[
        Contestant {
            name: "greenring, 100 000 green threads, FIFO",
            count: Some(100_000),
            run: contend,
        },
        Contestant {
            name: "greenring, 1000 green threads, FIFO",
            count: Some(1000),
            run: contend,
        },
        Contestant {
            name: "tokio, 100 000 tasks, FIFO",
            count: Some(100_000),
            run: |n| on_tokio(contend_tokio(n)),
        },
        Contestant {
            name: "std, 1000 OS threads",
            count: Some(1000),
            run: contend_std,
        },
    ],
    goals: &[],
}];

/// Two bounce an item: an iteration is a way of it. `$pair` is at both ends of
/// the channels, and `$spawn` starts whoever answers.
macro_rules! bounce {
    ($n:expr, $channel:expr, $spawn:expr) => {{
        let rounds: u64 = $n.div_ceil(2);
        let (ask, asked) = $channel;
        let (answer, answered) = $channel;
        let answering = $spawn(move || {
            for _ in 0..rounds {
                answer.send(asked.recv().unwrap()).unwrap();
            }
        });
        let elapsed = timed(|| {
            for round in 0..rounds {
                ask.send(round).unwrap();
                assert_eq!(answered.recv().unwrap(), round);
            }
        });
        answering.join().unwrap();
        elapsed
    }};
}

fn bounce(n: u64) -> Duration {
    on_greenring(move || bounce!(n, mpsc::channel(), thread::spawn))
}

fn bounce_through(
    n: u64,
    channel: fn() -> (channel::Sender<u64>, channel::Receiver<u64>),
) -> Duration {
    on_greenring(move || bounce!(n, channel(), thread::spawn))
}

fn bounce_may(n: u64) -> Duration {
    bounce!(n, may_mpsc::channel(), |answer| may::go!(answer))
}

fn bounce_std(n: u64) -> Duration {
    bounce!(n, std_mpsc::channel(), std::thread::spawn)
}

fn bounce_crossbeam(n: u64) -> Duration {
    bounce!(n, crossbeam_channel::unbounded(), std::thread::spawn)
}

async fn bounce_tokio(n: u64) -> Duration {
    let rounds = n.div_ceil(2);
    let (ask, mut asked) = tokio_mpsc::unbounded_channel();
    let (answer, mut answered) = tokio_mpsc::unbounded_channel();
    let answering = tokio::spawn(async move {
        for _ in 0..rounds {
            answer.send(asked.recv().await.unwrap()).unwrap();
        }
    });
    let asking = tokio::spawn(async move {
        let start = cpu_time();
        for round in 0..rounds {
            ask.send(round).unwrap();
            assert_eq!(answered.recv().await.unwrap(), round);
        }
        cpu_time_since(start)
    });
    answering.await.unwrap();
    asking.await.unwrap()
}

/// Who has had the lock, and when each had had it once.
struct Log {
    order: Vec<u64>,
    crowd: u64,
    start: Duration,
    elapsed: Duration,
}

impl Log {
    fn of(crowd: u64) -> Log {
        Log {
            order: Vec::with_capacity(2 * crowd as usize),
            crowd,
            start: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }

    fn push(&mut self, who: u64) {
        self.order.push(who);
        if self.order.len() as u64 == self.crowd {
            self.elapsed = cpu_time_since(self.start);
        }
    }

    /// What it took, if everybody has had it in the order of their coming.
    fn in_order(&self) -> Duration {
        let turns = (0..self.crowd).chain(0..self.crowd);
        assert!(self.order.iter().copied().eq(turns), "not FIFO");
        self.elapsed
    }
}

/// Everybody waits for the lock, which is then released, and comes again when
/// it has had it. So nobody ends while the time is taken.
fn contend(n: u64) -> Duration {
    on_greenring(move || {
        let log = Arc::new(sync::Mutex::new(Log::of(n)));
        let mut held = log.lock().unwrap();
        let waiting: Vec<_> = (0..n)
            .map(|i| {
                let log = Arc::clone(&log);
                thread::spawn(move || (0..2).for_each(|_| log.lock().unwrap().push(i)))
            })
            .collect();
        // They run in their turn, up to the lock.
        thread::yield_now();
        held.start = cpu_time();
        drop(held);
        for handle in waiting {
            handle.join().unwrap();
        }
        log.lock().unwrap().in_order()
    })
}

async fn contend_tokio(n: u64) -> Duration {
    let log = Arc::new(tokio::sync::Mutex::new(Log::of(n)));
    let mut held = log.lock().await;
    let come = Arc::new(AtomicU64::new(0));
    let waiting: Vec<_> = (0..n)
        .map(|i| {
            let (log, come) = (Arc::clone(&log), Arc::clone(&come));
            tokio::spawn(async move {
                come.fetch_add(1, Ordering::Relaxed);
                for _ in 0..2 {
                    log.lock().await.push(i);
                }
            })
        })
        .collect();
    while come.load(Ordering::Relaxed) < n {
        tokio::task::yield_now().await;
    }
    held.start = cpu_time();
    drop(held);
    for handle in waiting {
        handle.await.unwrap();
    }
    log.lock().await.in_order()
}

/// As many OS threads as there are iterations. They come once: whoever came
/// again would have the lock at once.
fn contend_std(n: u64) -> Duration {
    let log = Arc::new(std::sync::Mutex::new(Log::of(n)));
    let mut held = log.lock().unwrap();
    let waiting: Vec<_> = (0..n)
        .map(|i| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || log.lock().unwrap().push(i))
        })
        .collect();
    held.start = cpu_time();
    drop(held);
    for handle in waiting {
        handle.join().unwrap();
    }
    log.lock().unwrap().elapsed
}
