//! The yardstick: echo servers of equal work, by hand and on other runtimes,
//! beside greenring's. A package of its own, so that nobody else compiles those.
//!
//! It prints tables and verdicts, and writes them down as `report.json` and as a
//! page; as `echo` it only prints. With `--from report.json` it measures nothing
//! and draws that report again, beside it.

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

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;
use std::{fs, io};

use arguments::Arguments;
use echo_harness::{OPTIONS, Plan};
use report::Report;
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
    let names = [&OPTIONS[..], &["out", "from"]].concat();
    let arguments = Arguments::read(&names)?;
    let out: Option<PathBuf> = arguments.value("out")?;
    if let Some(from) = arguments.value::<PathBuf>("from")? {
        let out = out.as_deref().or(from.parent());
        let again = read(&from).and_then(|report| write(&report, out));
        return again.map_err(|error| format!("{}: {error}", from.display()));
    }
    let sheets: &[&str] = match arguments.quick() {
        true => &FEW_SHEETS,
        false => &SHEETS,
    };
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let plan = Plan::read(&arguments, &SERVERS, sheets)?;
    let cpu = arguments.value("cpu")?;
    let comparisons = plan.compare(cpu).map_err(|error| error.to_string())?;
    if arguments.select("report") {
        let directory = PathBuf::from(DIRECTORY);
        let out = out.or_else(|| (!plan.quick).then_some(directory));
        let report = report::report(date, &plan, &comparisons);
        let written = report.and_then(|report| write(&report, out.as_deref()));
        written.map_err(|error| error.to_string())?;
    }
    plan.check(&comparisons)
}

/// The report of an earlier run.
fn read(path: &Path) -> io::Result<Report> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Draws the report and, if there is a directory to leave it in, writes it there:
/// the raw figures, the page, and the chart and the table that the README shows.
fn write(report: &Report, out: Option<&Path>) -> io::Result<()> {
    let files = [
        ("report.json", serde_json::to_string_pretty(report)?),
        ("report.html", report::page::render(report)?),
        ("summary.svg", report::page::summary_svg(report)?),
        ("summary.md", report::page::summary_table(report)),
    ];
    let Some(out) = out else {
        return Ok(());
    };
    fs::create_dir_all(out)?;
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
