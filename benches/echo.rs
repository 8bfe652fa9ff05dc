//! Echo over TCP: greenring on each backend, and std's OS threads.
//!
//! The comparison is in `echo_harness`; the package in `peers` runs it with
//! other runtimes beside these.

#![deny(unsafe_code)]

mod arguments;
mod echo_harness;
mod machine;
mod statistics;

use std::process::ExitCode;

use echo_harness::{EPOLL, THREADS, URING};

fn main() -> ExitCode {
    echo_harness::main(&[URING, EPOLL, THREADS])
}
