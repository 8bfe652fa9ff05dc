//! Echo over TCP: greenring on each backend, and std's OS threads.
//!
//! The comparison is in `echo_harness`; the package in `peers` runs it with
//! other runtimes beside these.

#![deny(unsafe_code)]

mod arguments;
#[allow(dead_code, unused_imports)] // The package in `peers` uses the rest.
mod echo_harness;
mod machine;
mod statistics;

use std::process::ExitCode;

use arguments::Arguments;
use echo_harness::{EPOLL, OPTIONS, Plan, READER, Server, THREADS, URING};

const SERVERS: [Server; 4] = [READER, URING, EPOLL, THREADS];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    if echo_harness::be_a_child(&SERVERS)? {
        return Ok(());
    }
    let arguments = Arguments::read(&OPTIONS)?;
    if !arguments.select("echo") {
        return Ok(());
    }
    let sheets: &[&str] = match arguments.quick() {
        true => &["1", "50"],
        false => &["1", "50", "1000"],
    };
    let plan = Plan::read(&arguments, &SERVERS, sheets)?;
    let comparisons = plan.compare(arguments.value("cpu")?);
    plan.check(&comparisons.map_err(|error| error.to_string())?)
}
