//! What costs a waiting program nothing: locks that are free, limits that do
//! not come.

use std::future;
use std::hint::black_box;
use std::sync as std_sync;
use std::time::{Duration, Instant};

use greenring::{sync, time};
use may::sync as may_sync;

use crate::comparison::{Goal, Row, by};
use crate::machine::{cpu_time, cpu_time_since};
use crate::runtimes::{on_greenring, on_may, on_tokio, on_tokio_with_time, timed};

/// A limit that does not pass while the bench runs.
const FAR: Duration = Duration::from_secs(3600);

pub const ROWS: &[Row] = &[
    Row {
        name: "Mutex, locked and unlocked, nobody else there",
        contestants: &[
            by("greenring", |n| on_greenring(move || lock(n))),
            by("std", |n| on_greenring(move || lock_std(n))),
            by("may", |n| on_may(move || lock_may(n))),
            by("tokio", |n| on_tokio(lock_tokio(n))),
        ],
        goals: &[Goal::Ratio("std", 1.3)],
    },
    Row {
        name: "RwLock, read, nobody else there",
        contestants: &[
            by("greenring", |n| on_greenring(move || read(n))),
            by("std", |n| on_greenring(move || read_std(n))),
            by("tokio", |n| on_tokio(read_tokio(n))),
        ],
        goals: &[],
    },
    Row {
        name: "Semaphore, a free permit",
        contestants: &[
            by("greenring", |n| on_greenring(move || permit(n))),
            by("may", |n| on_may(move || permit_may(n))),
            by("tokio", |n| on_tokio(permit_tokio(n))),
        ],
        goals: &[],
    },
    Row {
        name: "timeout that does not come",
        contestants: &[
            by("greenring", |n| on_greenring(move || limit(n))),
            by("tokio, of a future that is ready", |n| {
                on_tokio_with_time(limit_tokio(n))
            }),
            by("the clock alone", read_clock),
        ],
        goals: &[
            Goal::Nanoseconds(60.0),
            Goal::Ratio("tokio, of a future that is ready", 1.0),
        ],
    },
];

fn lock(n: u64) -> Duration {
    let mutex = sync::Mutex::new(0_u64);
    timed(|| (0..n).for_each(|_| *black_box(&mutex).lock().unwrap() += 1))
}

fn lock_std(n: u64) -> Duration {
    let mutex = std_sync::Mutex::new(0_u64);
    timed(|| (0..n).for_each(|_| *black_box(&mutex).lock().unwrap() += 1))
}

fn lock_may(n: u64) -> Duration {
    let mutex = may_sync::Mutex::new(0_u64);
    timed(|| (0..n).for_each(|_| *black_box(&mutex).lock().unwrap() += 1))
}

// tokio's waits are futures, which no closure of `timed` can await.

async fn lock_tokio(n: u64) -> Duration {
    let mutex = tokio::sync::Mutex::new(0_u64);
    let start = cpu_time();
    for _ in 0..n {
        *black_box(&mutex).lock().await += 1;
    }
    cpu_time_since(start)
}

fn read(n: u64) -> Duration {
    let lock = sync::RwLock::new(1_u64);
    timed(|| (0..n).for_each(|_| assert_eq!(*black_box(&lock).read().unwrap(), 1)))
}

fn read_std(n: u64) -> Duration {
    let lock = std_sync::RwLock::new(1_u64);
    timed(|| (0..n).for_each(|_| assert_eq!(*black_box(&lock).read().unwrap(), 1)))
}

async fn read_tokio(n: u64) -> Duration {
    let lock = tokio::sync::RwLock::new(1_u64);
    let start = cpu_time();
    for _ in 0..n {
        assert_eq!(*black_box(&lock).read().await, 1);
    }
    cpu_time_since(start)
}

fn permit(n: u64) -> Duration {
    let semaphore = sync::Semaphore::new(3);
    timed(|| (0..n).for_each(|_| drop(black_box(&semaphore).acquire())))
}

fn permit_may(n: u64) -> Duration {
    let semaphore = may_sync::Semphore::new(3);
    timed(|| {
        for _ in 0..n {
            black_box(&semaphore).wait();
            semaphore.post();
        }
    })
}

async fn permit_tokio(n: u64) -> Duration {
    let semaphore = tokio::sync::Semaphore::new(3);
    let start = cpu_time();
    for _ in 0..n {
        drop(black_box(&semaphore).acquire().await);
    }
    cpu_time_since(start)
}

fn limit(n: u64) -> Duration {
    timed(|| {
        for i in 0..n {
            black_box(time::timeout(FAR, || black_box(i))).unwrap();
        }
    })
}

async fn limit_tokio(n: u64) -> Duration {
    let start = cpu_time();
    for i in 0..n {
        let limited = tokio::time::timeout(FAR, future::ready(black_box(i)));
        black_box(limited.await).unwrap();
    }
    cpu_time_since(start)
}

fn read_clock(n: u64) -> Duration {
    timed(|| {
        for _ in 0..n {
            black_box(Instant::now());
        }
    })
}
