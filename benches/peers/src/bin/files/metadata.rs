//! Questions about files: the metadata of 1000 files at once.

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenring::runtime::Backend;

use crate::comparison::{Goal, Row, by};
use crate::machine::cpu_time;
use crate::runtimes::on_tokio;
use crate::scratch::{Clock, measured, on, small_files, wall};

/// Where there is no ring, the offload pool does everything.
const ALONE: &str = "greenring, epoll";

const POOL: &str = "a pool of 64 OS threads, std channels";

pub const ROWS: &[Row] = &[Row {
    name: "metadata, 1000 at once",
    contestants: &[
        by("greenring, io_uring", |n| {
            on_greenring(n, Backend::Uring, cpu_time)
        }),
        by(ALONE, |n| on_greenring(n, Backend::Epoll, cpu_time)),
        by("tokio::fs", |n| measured(cpu_time, || on_tokio_fs(n))),
        by(POOL, |n| measured(cpu_time, || on_a_pool(n))),
        by("std, one after the other", |n| {
            measured(cpu_time, || on_std(n))
        }),
    ],
    goals: &[Goal::Ratio(ALONE, 1.0)],
}];

pub const ON_ALL_CPUS: &[Row] = &[Row {
    name: "metadata, 1000 at once, on the wall",
    contestants: &[
        by("greenring, io_uring", |n| {
            on_greenring(n, Backend::Uring, wall)
        }),
        by(ALONE, |n| on_greenring(n, Backend::Epoll, wall)),
        by("tokio::fs", |n| measured(wall, || on_tokio_fs(n))),
        by(POOL, |n| measured(wall, || on_a_pool(n))),
        by("std, one after the other", |n| measured(wall, || on_std(n))),
    ],
    goals: &[Goal::Ratio(ALONE, 1.0)],
}];

/// How often everybody asks, so that all ask `n` times together.
fn rounds(n: u64) -> u64 {
    n.div_ceil(small_files().len() as u64)
}

fn on_greenring(n: u64, backend: Backend, clock: Clock) -> Duration {
    on(backend, || {
        measured(clock, || {
            greenring::thread::scope(|scope| {
                for file in small_files() {
                    scope.spawn(move || {
                        for _ in 0..rounds(n) {
                            greenring::fs::metadata(file).expect("the file");
                        }
                    });
                }
            });
        })
    })
}

fn on_tokio_fs(n: u64) {
    on_tokio(async {
        let asking: Vec<_> = small_files()
            .iter()
            .map(|file| {
                tokio::spawn(async move {
                    for _ in 0..rounds(n) {
                        tokio::fs::metadata(file).await.expect("the file");
                    }
                })
            })
            .collect();
        for each in asking {
            each.await.expect("it ends");
        }
    });
}

/// What an offload pool costs at the least: a question and an answer by channel
/// each, and nobody waits in between.
fn on_a_pool(n: u64) {
    let (ask, questions) = mpsc::channel::<&'static Path>();
    let (answer, answers) = mpsc::channel();
    let questions = Arc::new(Mutex::new(questions));
    std::thread::scope(|scope| {
        for _ in 0..64 {
            let (questions, answer) = (Arc::clone(&questions), answer.clone());
            scope.spawn(move || {
                loop {
                    let question = questions.lock().expect("nobody panics").recv();
                    let Ok(file) = question else { return };
                    let metadata = std::fs::metadata(file).expect("the file");
                    answer.send(metadata).expect("somebody listens");
                }
            });
        }
        for _ in 0..rounds(n) {
            for file in small_files() {
                ask.send(file).expect("somebody listens");
            }
            answers.iter().take(small_files().len()).for_each(drop);
        }
        drop(ask);
    });
}

fn on_std(n: u64) {
    for _ in 0..rounds(n) {
        for file in small_files() {
            std::fs::metadata(file).expect("the file");
        }
    }
}
