//! The yardstick: echo servers of equal work, by hand and on other runtimes,
//! beside greenring's. A package of its own, so that nobody else compiles those.
//!
//! Without arguments it prints its tables and verdicts; `report` writes them
//! down too.

#![deny(unsafe_code)]

#[path = "../../arguments/mod.rs"]
mod arguments;
#[path = "../../echo_harness/mod.rs"]
mod echo_harness;
#[path = "../../machine/mod.rs"]
mod machine;
#[allow(dead_code)] // Filled by the driver to come.
mod report;
mod servers;
#[path = "../../statistics/mod.rs"]
mod statistics;

use std::process::ExitCode;

use arguments::Arguments;
use echo_harness::{OPTIONS, Plan};
use servers::SERVERS;

/// The loads of a whole run.
const SHEETS: [&str; 8] = [
    "1",
    "50",
    "1000",
    "10000",
    "50:4096",
    "50:65536",
    "50:64:16",
    "50:64:connect",
];

/// Those of a try.
const FEW_SHEETS: [&str; 3] = ["1", "50:4096:4", "8:64:connect"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    if echo_harness::be_a_child(&SERVERS)? {
        return Ok(());
    }
    let arguments = Arguments::read(&OPTIONS)?;
    let sheets: &[&str] = match arguments.quick() {
        true => &FEW_SHEETS,
        false => &SHEETS,
    };
    let plan = Plan::read(&arguments, &SERVERS, sheets)?;
    let compared = plan.compare(arguments.value("cpu")?);
    compared.map(drop).map_err(|error| error.to_string())
}
