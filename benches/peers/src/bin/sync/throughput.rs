//! Items from some senders to one receiver on another OS thread.
//!
//! greenring's senders are green threads of one hub and its receiver is one of
//! another; tokio has two workers; std and crossbeam-channel have an OS thread
//! for everybody.

use std::sync::Barrier;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use greenring::sync::{channel, mpsc};
use tokio::sync::mpsc as tokio_mpsc;

use crate::comparison::{Goal, Row, by};

/// Room of the bounded channels.
const ROOM: usize = 1024;

const TOKIO: &str = "tokio mpsc, 2 workers";

pub const ROWS: &[Row] = &[
    Row {
        name: "between hubs, 1 sender, unbounded",
        contestants: &[
            by("greenring mpsc", |n| pour_unbounded(n, 1)),
            by(TOKIO, |n| pour_tokio_unbounded(n, 1)),
            by("crossbeam, OS threads", |n| {
                pour_crossbeam(n, 1, crossbeam_channel::unbounded())
            }),
            by("std mpsc, OS threads", |n| pour_std_unbounded(n, 1)),
        ],
        goals: &[Goal::Ratio(TOKIO, 1.0)],
    },
    Row {
        name: "between hubs, 4 senders, unbounded",
        contestants: &[
            by("greenring mpsc", |n| pour_unbounded(n, 4)),
            by(TOKIO, |n| pour_tokio_unbounded(n, 4)),
            by("crossbeam, OS threads", |n| {
                pour_crossbeam(n, 4, crossbeam_channel::unbounded())
            }),
            by("std mpsc, OS threads", |n| pour_std_unbounded(n, 4)),
        ],
        goals: &[Goal::Ratio(TOKIO, 1.0)],
    },
    Row {
        name: "between hubs, 1 sender, bounded(1024)",
        contestants: &[
            by("greenring bounded", |n| pour_bounded(n, 1)),
            by(TOKIO, |n| pour_tokio_bounded(n, 1)),
            by("crossbeam, OS threads", |n| {
                pour_crossbeam(n, 1, crossbeam_channel::bounded(ROOM))
            }),
            by("std mpsc, OS threads", |n| pour_std_bounded(n, 1)),
        ],
        goals: &[Goal::Ratio(TOKIO, 1.0)],
    },
    Row {
        name: "between hubs, 4 senders, bounded(1024)",
        contestants: &[
            by("greenring bounded", |n| pour_bounded(n, 4)),
            by(TOKIO, |n| pour_tokio_bounded(n, 4)),
            by("crossbeam, OS threads", |n| {
                pour_crossbeam(n, 4, crossbeam_channel::bounded(ROOM))
            }),
            by("std mpsc, OS threads", |n| pour_std_bounded(n, 4)),
        ],
        goals: &[Goal::Ratio(TOKIO, 1.0)],
    },
];

/// Sends `n` items by as many senders as asked for.
macro_rules! senders {
    ($n:expr, $senders:expr, $to:expr, $spawn:expr) => {{
        let share: u64 = $n / $senders;
        let sending: Vec<_> = (0..$senders)
            .map(|_| {
                let to = $to.clone();
                $spawn(move || (0..share).for_each(|i| to.send(i).unwrap()))
            })
            .collect();
        drop($to);
        sending
    }};
}

/// `send` and `receive` on an OS thread each; from when both have started until
/// all is received.
fn between_os_threads<S: Send + 'static, R>(
    to: S,
    from: R,
    send: impl FnOnce(S) + Send + 'static,
    receive: impl FnOnce(R) + Send,
    start: fn(),
) -> Duration
where
    R: Send,
{
    let both = Barrier::new(2);
    std::thread::scope(|s| {
        s.spawn(|| {
            start();
            both.wait();
            send(to);
        });
        let receiving = s.spawn(|| {
            start();
            both.wait();
            let start = Instant::now();
            receive(from);
            start.elapsed()
        });
        receiving.join().expect("it does not panic")
    })
}

fn pour_unbounded(n: u64, senders: u64) -> Duration {
    let (to, from) = mpsc::channel();
    between_os_threads(
        to,
        from,
        move |to| {
            let sending = senders!(n, senders, to, greenring::spawn);
            sending.into_iter().for_each(|each| each.join().unwrap());
        },
        move |from| receive(move || from.into_iter().count(), n / senders * senders),
        greenring::yield_now,
    )
}

fn pour_bounded(n: u64, senders: u64) -> Duration {
    let (to, from) = channel::bounded(ROOM);
    between_os_threads(
        to,
        from,
        move |to| {
            let sending = senders!(n, senders, to, greenring::spawn);
            sending.into_iter().for_each(|each| each.join().unwrap());
        },
        move |from| receive(move || from.iter().count(), n / senders * senders),
        greenring::yield_now,
    )
}

/// Receives all on a green thread.
fn receive(count: impl FnOnce() -> usize + 'static, expected: u64) {
    let received = greenring::spawn(count).join().unwrap();
    assert_eq!(received as u64, expected);
}

fn pour_crossbeam(
    n: u64,
    senders: u64,
    (to, from): (
        crossbeam_channel::Sender<u64>,
        crossbeam_channel::Receiver<u64>,
    ),
) -> Duration {
    let start = Instant::now();
    let sending = senders!(n, senders, to, std::thread::spawn);
    assert_eq!(from.iter().count() as u64, n / senders * senders);
    finish(start, sending)
}

fn pour_std_unbounded(n: u64, senders: u64) -> Duration {
    let (to, from) = std_mpsc::channel();
    let start = Instant::now();
    let sending = senders!(n, senders, to, std::thread::spawn);
    assert_eq!(from.iter().count() as u64, n / senders * senders);
    finish(start, sending)
}

fn pour_std_bounded(n: u64, senders: u64) -> Duration {
    let (to, from) = std_mpsc::sync_channel(ROOM);
    let start = Instant::now();
    let sending = senders!(n, senders, to, std::thread::spawn);
    assert_eq!(from.iter().count() as u64, n / senders * senders);
    finish(start, sending)
}

fn finish(start: Instant, sending: Vec<std::thread::JoinHandle<()>>) -> Duration {
    let elapsed = start.elapsed();
    sending.into_iter().for_each(|each| each.join().unwrap());
    elapsed
}

fn two_workers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime")
}

fn pour_tokio_unbounded(n: u64, senders: u64) -> Duration {
    let runtime = two_workers();
    let (to, mut from) = tokio_mpsc::unbounded_channel();
    let start = Instant::now();
    let receiving = runtime.spawn(async move {
        let mut received = 0;
        while from.recv().await.is_some() {
            received += 1;
        }
        received
    });
    for _ in 0..senders {
        let to = to.clone();
        runtime.spawn(async move { (0..n / senders).for_each(|i| to.send(i).unwrap()) });
    }
    drop(to);
    assert_eq!(runtime.block_on(receiving).unwrap(), n / senders * senders);
    start.elapsed()
}

fn pour_tokio_bounded(n: u64, senders: u64) -> Duration {
    let runtime = two_workers();
    let (to, mut from) = tokio_mpsc::channel(ROOM);
    let start = Instant::now();
    let receiving = runtime.spawn(async move {
        let mut received = 0;
        while from.recv().await.is_some() {
            received += 1;
        }
        received
    });
    for _ in 0..senders {
        let to = to.clone();
        runtime.spawn(async move {
            for i in 0..n / senders {
                to.send(i).await.unwrap();
            }
        });
    }
    drop(to);
    assert_eq!(runtime.block_on(receiving).unwrap(), n / senders * senders);
    start.elapsed()
}
