//! Files and datagrams beside their peers: std on OS threads, tokio::fs.
//!
//! Each row lets everybody do the same work in turn, round after round, and
//! prints medians: see `comparison`. The first rows share one CPU, and what they
//! measure is CPU time, with that of pools and of the kernel's workers; those
//! after them have all CPUs and the clock on the wall.

#![deny(unsafe_code)]

#[path = "../../../../arguments/mod.rs"]
mod arguments;
#[path = "../../comparison.rs"]
mod comparison;
#[path = "../../../../machine/mod.rs"]
mod machine;
#[path = "../../runtimes.rs"]
mod runtimes;
#[path = "../../../../statistics/mod.rs"]
mod statistics;

mod copying;
mod datagrams;
mod metadata;
mod reading;
mod scratch;

use std::process::ExitCode;
use std::time::Duration;

use arguments::Arguments;
use comparison::{Plan, Row};
use machine::{describe, share_one_cpu};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("files: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["rounds", "milliseconds"])?;
    let quick = arguments.quick();
    let rounds = arguments
        .value("rounds")?
        .unwrap_or(if quick { 1 } else { 11 });
    let milliseconds = arguments.value("milliseconds")?.unwrap_or(100);
    if rounds == 0 || milliseconds == 0 {
        return Err("--rounds and --milliseconds must be above zero".to_owned());
    }
    let plan = Plan {
        rounds,
        sample: Duration::from_millis(milliseconds),
        quick,
    };
    let selected = |rows: &[&'static [Row]]| -> Vec<&'static Row> {
        let rows = rows.iter().copied().flatten();
        rows.filter(|row| arguments.select(row.name)).collect()
    };
    println!("{}; {rounds} round(s) of {milliseconds} ms", describe());

    let alone = selected(&[reading::ROWS, metadata::ROWS, datagrams::ROWS]);
    if !alone.is_empty() {
        // What it starts inherits its CPU; the main OS thread keeps them all.
        let sharing = std::thread::spawn(move || -> Result<(), String> {
            let cpu = share_one_cpu(None).map_err(|error| error.to_string())?;
            println!("CPU time, everything on CPU {cpu}:");
            alone.iter().for_each(|row| plan.compare(row));
            Ok(())
        });
        sharing.join().map_err(|_| "a row has panicked")??;
        // The OS threads of pools keep the CPU they were made on.
        std::thread::sleep(Duration::from_secs(if quick { 0 } else { 12 }));
    }

    let together = selected(&[reading::ON_ALL_CPUS, metadata::ON_ALL_CPUS, copying::ROWS]);
    if !together.is_empty() {
        println!("\nTime on the wall, all CPUs:");
    }
    together.iter().for_each(|row| plan.compare(row));
    scratch::remove();
    Ok(())
}
