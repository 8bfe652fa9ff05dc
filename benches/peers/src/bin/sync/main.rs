//! The concurrency toolkit beside its peers: std, tokio, may, crossbeam-channel.
//!
//! Each row lets everybody do the same work in turn, round after round, and
//! prints medians: see `comparison`. The rows of `uncontended`,
//! `hand_over` and `spawning` share one CPU, and what they measure is CPU time.
//! Those of `throughput` have an OS thread for each side, all CPUs, and the
//! clock on the wall.

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

mod hand_over;
mod spawning;
mod throughput;
mod uncontended;

use std::process::ExitCode;
use std::time::Duration;

use arguments::Arguments;
use comparison::{Plan, Row};
use machine::{describe, share_one_cpu};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sync: {error}");
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
    let milliseconds = arguments.value("milliseconds")?.unwrap_or(20);
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
    println!(
        "{}; greenring on {:?}; {rounds} round(s) of {milliseconds} ms",
        describe(),
        greenring::runtime::backend()
    );

    let alone = selected(&[
        uncontended::ROWS,
        hand_over::ROWS,
        spawning::ROWS,
        hand_over::CROWDED,
    ]);
    if !alone.is_empty() {
        // What it starts inherits its CPU; the main OS thread keeps them all.
        let sharing = std::thread::spawn(move || -> Result<(), String> {
            let cpu = share_one_cpu(None).map_err(|error| error.to_string())?;
            println!("CPU time, everything on CPU {cpu}:");
            alone.iter().for_each(|row| plan.compare(row));
            Ok(())
        });
        sharing.join().map_err(|_| "a row has panicked")??;
    }

    let together = selected(&[throughput::ROWS]);
    if !together.is_empty() {
        println!("\nTime on the wall, all CPUs:");
    }
    together.iter().for_each(|row| plan.compare(row));
    Ok(())
}
