//! The yardstick: echo servers of equal work, by hand and on other runtimes,
//! beside greenring's. A package of its own, so that nobody else compiles those.
//!
//! It prints tables and verdicts, and writes them down as `report.json` and as a
//! page; as `echo` it only prints.

#![deny(unsafe_code)]

#[path = "../../arguments/mod.rs"]
mod arguments;
#[path = "../../echo_harness/mod.rs"]
mod echo_harness;
#[path = "../../machine/mod.rs"]
mod machine;
mod report;
mod servers;
#[path = "../../statistics/mod.rs"]
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;
use std::{fs, io};

use arguments::Arguments;
use echo_harness::{Comparison, OPTIONS, Plan};
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

/// Where a report goes unless it is told.
const DIRECTORY: &str = "target/report";

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
    let names = [&OPTIONS[..], &["out"]].concat();
    let arguments = Arguments::read(&names)?;
    let sheets: &[&str] = match arguments.quick() {
        true => &FEW_SHEETS,
        false => &SHEETS,
    };
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let plan = Plan::read(&arguments, &SERVERS, sheets)?;
    let cpu = arguments.value("cpu")?;
    let comparisons = plan.compare(cpu).map_err(|error| error.to_string())?;
    if arguments.select("report") {
        let out = arguments.value("out")?;
        write(date, &plan, &comparisons, out).map_err(|error| error.to_string())?;
    }
    plan.check(&comparisons)
}

/// Writes the report; a try that names no directory leaves no file behind.
fn write(
    date: String,
    plan: &Plan,
    comparisons: &[Comparison],
    out: Option<PathBuf>,
) -> io::Result<()> {
    let report = report::report(date, plan, comparisons)?;
    let page = report::page::render(&report)?;
    if plan.quick && out.is_none() {
        return Ok(());
    }
    let out = out.unwrap_or_else(|| PathBuf::from(DIRECTORY));
    fs::create_dir_all(&out)?;
    let json = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
    for (name, text) in [("report.json", json), ("report.html", page)] {
        let path = out.join(name);
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
