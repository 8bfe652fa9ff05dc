//! Reads of 4 KiB that the kernel has cached, by 64 at once.

use std::fs::File;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use greenring::os::unix::fs::FileExt as _;
use greenring::runtime::Backend;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::comparison::{Goal, Row, by};
use crate::machine::cpu_time;
use crate::runtimes::on_tokio;
use crate::scratch::{BLOCK, Clock, file, measured, offset, on, wall};

/// How many read at once.
const READERS: u64 = 64;

const TOKIO: &str = "tokio::fs, seek and read";
const PREAD: &str = "std pread, one after the other";

pub const ROWS: &[Row] = &[Row {
    name: "read_at of 4 KiB, cached, 64 at once",
    contestants: &[
        by("greenring, io_uring", |n| {
            on_greenring(n, Backend::Uring, cpu_time)
        }),
        by("greenring, epoll", |n| {
            on_greenring(n, Backend::Epoll, cpu_time)
        }),
        by("tokio spawn_blocking, pread", |n| {
            measured(cpu_time, || on_tokio_blocking(n))
        }),
        by(TOKIO, |n| measured(cpu_time, || on_tokio_fs(n))),
        by(PREAD, |n| measured(cpu_time, || on_std(n))),
    ],
    goals: &[Goal::Ratio(TOKIO, 1.0 / 3.0), Goal::Ratio(PREAD, 1.5)],
}];

pub const ON_ALL_CPUS: &[Row] = &[Row {
    name: "read_at of 4 KiB, cached, 64 at once, on the wall",
    contestants: &[
        by("greenring, io_uring", |n| {
            on_greenring(n, Backend::Uring, wall)
        }),
        by("greenring, epoll", |n| {
            on_greenring(n, Backend::Epoll, wall)
        }),
        by("tokio spawn_blocking, pread", |n| {
            measured(wall, || on_tokio_blocking(n))
        }),
        by(TOKIO, |n| measured(wall, || on_tokio_fs(n))),
        by(PREAD, |n| measured(wall, || on_std(n))),
    ],
    goals: &[Goal::Ratio(TOKIO, 1.0 / 3.0)],
}];

fn on_greenring(n: u64, backend: Backend, clock: Clock) -> Duration {
    on(backend, || {
        let file = greenring::fs::File::open(file()).expect("the file");
        measured(clock, || {
            greenring::thread::scope(|scope| {
                for reader in 0..READERS {
                    let file = &file;
                    scope.spawn(move || {
                        let mut block = [0; BLOCK];
                        for number in (reader..n).step_by(READERS as usize) {
                            file.read_exact_at(&mut block, offset(number))
                                .expect("a block");
                        }
                    });
                }
            });
        })
    })
}

fn on_tokio_blocking(n: u64) {
    let file = Arc::new(File::open(file()).expect("the file"));
    on_tokio(async {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let file = Arc::clone(&file);
                tokio::spawn(async move {
                    for number in (reader..n).step_by(READERS as usize) {
                        let file = Arc::clone(&file);
                        let read = move || {
                            let mut block = [0; BLOCK];
                            file.read_exact_at(&mut block, offset(number))
                                .expect("a block");
                            block
                        };
                        tokio::task::spawn_blocking(read).await.expect("it ends");
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await.expect("it ends");
        }
    });
}

fn on_tokio_fs(n: u64) {
    on_tokio(async {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                tokio::spawn(async move {
                    let mut file = tokio::fs::File::open(file()).await.expect("the file");
                    let mut block = [0; BLOCK];
                    for number in (reader..n).step_by(READERS as usize) {
                        let place = SeekFrom::Start(offset(number));
                        file.seek(place).await.expect("a place");
                        file.read_exact(&mut block).await.expect("a block");
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await.expect("it ends");
        }
    });
}

fn on_std(n: u64) {
    let file = File::open(file()).expect("the file");
    let mut block = [0; BLOCK];
    for number in 0..n {
        file.read_exact_at(&mut block, offset(number))
            .expect("a block");
    }
}
