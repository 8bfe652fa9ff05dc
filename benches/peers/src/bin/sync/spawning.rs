//! Lives of green threads: started, cancelled, joined, in a scope.

use std::future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use greenring::pool::Pool;
use greenring::thread;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::comparison::{Row, by};
use crate::machine::{cpu_time, cpu_time_since};
use crate::runtimes::{on_greenring, on_may, on_tokio, timed};

/// Children of a scope, and members of a pool.
const CHILDREN: u64 = 10;

/// What a pool is given at once.
const ITEMS: u64 = 1000;

pub const ROWS: &[Row] = &[
    Row {
        name: "spawn and join",
        contestants: &[
            by("greenring", |n| on_greenring(move || spawn(n))),
            by("tokio", |n| on_tokio(spawn_tokio(n))),
            by("may", |n| on_may(move || spawn_may(n))),
            by("std", spawn_std),
        ],
        goals: &[],
    },
    Row {
        name: "spawn, let it park, cancel, join",
        contestants: &[
            by("greenring", |n| on_greenring(move || cancel(n))),
            by("tokio", |n| on_tokio(cancel_tokio(n))),
        ],
        goals: &[],
    },
    Row {
        name: "scope of 10 children",
        contestants: &[
            by("greenring", |n| on_greenring(move || scope(n))),
            by("tokio, a JoinSet", |n| on_tokio(scope_tokio(n))),
            by("may", |n| on_may(move || scope_may(n))),
            by("std", scope_std),
        ],
        goals: &[],
    },
    Row {
        name: "Pool::map over 1000 items, 10 at a time, an item",
        contestants: &[
            by("greenring", |n| on_greenring(move || map(n))),
            by("tokio, tasks and a Semaphore", |n| on_tokio(map_tokio(n))),
        ],
        goals: &[],
    },
];

fn spawn(n: u64) -> Duration {
    timed(|| (0..n).for_each(|_| thread::spawn(|| {}).join().unwrap()))
}

async fn spawn_tokio(n: u64) -> Duration {
    let start = cpu_time();
    for _ in 0..n {
        tokio::spawn(async {}).await.unwrap();
    }
    cpu_time_since(start)
}

fn spawn_may(n: u64) -> Duration {
    timed(|| (0..n).for_each(|_| may::go!(|| {}).join().unwrap()))
}

fn spawn_std(n: u64) -> Duration {
    timed(|| (0..n).for_each(|_| std::thread::spawn(|| {}).join().unwrap()))
}

fn cancel(n: u64) -> Duration {
    timed(|| {
        for _ in 0..n {
            let parked = thread::spawn(thread::park);
            thread::yield_now();
            parked.cancel();
            assert!(parked.join().is_err());
        }
    })
}

async fn cancel_tokio(n: u64) -> Duration {
    let start = cpu_time();
    for _ in 0..n {
        let pending = tokio::spawn(future::pending::<()>());
        tokio::task::yield_now().await;
        pending.abort();
        assert!(pending.await.is_err());
    }
    cpu_time_since(start)
}

fn scope(n: u64) -> Duration {
    timed(|| {
        for _ in 0..n {
            thread::scope(|s| {
                for _ in 0..CHILDREN {
                    s.spawn(|| {});
                }
            });
        }
    })
}

async fn scope_tokio(n: u64) -> Duration {
    let start = cpu_time();
    for _ in 0..n {
        let mut children = JoinSet::new();
        for _ in 0..CHILDREN {
            children.spawn(async {});
        }
        children.join_all().await;
    }
    cpu_time_since(start)
}

fn scope_may(n: u64) -> Duration {
    timed(|| {
        for _ in 0..n {
            may::coroutine::scope(|s| {
                for _ in 0..CHILDREN {
                    may::go!(s, || {});
                }
            });
        }
    })
}

fn scope_std(n: u64) -> Duration {
    timed(|| {
        for _ in 0..n {
            std::thread::scope(|s| {
                for _ in 0..CHILDREN {
                    s.spawn(|| {});
                }
            });
        }
    })
}

/// The items of a whole run, as many as a pool is given at a time.
fn portions(n: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..n.div_ceil(ITEMS)).map(move |portion| portion * ITEMS..n.min((portion + 1) * ITEMS))
}

fn map(n: u64) -> Duration {
    let pool = Pool::new(CHILDREN as usize);
    timed(|| {
        for items in portions(n) {
            black_box(pool.map(items, |item| item + 1));
        }
    })
}

async fn map_tokio(n: u64) -> Duration {
    let members = Arc::new(Semaphore::new(CHILDREN as usize));
    let start = cpu_time();
    for items in portions(n) {
        let mut working = Vec::new();
        for item in items {
            let member = Arc::clone(&members).acquire_owned().await;
            working.push(tokio::spawn(async move {
                let _member = member;
                item + 1
            }));
        }
        let mut results = Vec::with_capacity(working.len());
        for item in working {
            results.push(item.await.unwrap());
        }
        black_box(results);
    }
    cpu_time_since(start)
}
