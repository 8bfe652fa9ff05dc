//! From what the harness has measured to a report.

use std::process::Command;
use std::{env, fs, io};

use super::{Goal, Latency, Machine, Report, Row, Sheet, Spread};
use crate::echo_harness::{BASE, Comparison, Contestant, Plan, Sample, Verdict, verdicts};
use crate::machine::{kernel, processor};
use crate::statistics::{median, quantile};

/// What cargo has resolved the peers to.
const LOCK: &str = include_str!("../../../../Cargo.lock");

const MIB: f64 = (1 << 20) as f64;

/// The report of a run that began at `date`.
pub fn report(date: String, plan: &Plan, comparisons: &[Comparison]) -> io::Result<Report> {
    Ok(Report {
        date,
        machine: machine(comparisons)?,
        command: command(),
        rounds: plan.rounds,
        seconds: plan.duration.as_secs_f64(),
        sheets: comparisons.iter().map(sheet).collect(),
        goals: verdicts(comparisons).into_iter().map(goal).collect(),
    })
}

fn machine(comparisons: &[Comparison]) -> io::Result<Machine> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let processors = processors
        .lines()
        .filter(|line| line.starts_with("processor"));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|line| line.trim().strip_suffix(" kB"));
    let memory: u64 = memory.and_then(|kib| kib.parse().ok()).unwrap_or_default();
    let commit = ["describe", "--always", "--dirty", "--exclude=*"];
    let commit = said(
        "git",
        &[&["-C", env!("CARGO_MANIFEST_DIR")], &commit[..]].concat(),
    );
    let reason = greenring::runtime::Builder::new().run(greenring::runtime::backend_reason)?;
    Ok(Machine {
        kernel: kernel(),
        cpu: processor(),
        cpus: processors.count(),
        memory_mib: memory / 1024,
        rustc: rustc(),
        getppid_ns: median(comparisons.iter().map(|each| each.speed.getppid)),
        send_recv_ns: median(comparisons.iter().map(|each| each.speed.message)),
        greenring: format!("{} ({commit})", version("greenring")),
        backend_reason: reason,
    })
}

/// The command that runs this again.
fn command() -> String {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments = arguments.join(" ");
    format!("cargo run --release -p greenring-peers -- {arguments}")
}

fn rustc() -> String {
    said("rustc", &["--version"])
}

/// What a program prints; the report is no worse without it.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let said = output.ok().filter(|output| output.status.success());
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
    said.map_or("not known".to_owned(), |said| said.trim().to_owned())
}

/// The version of what a server is made of, by the first word of its name.
fn version(server: &str) -> String {
    match server.split(' ').next().unwrap_or_default() {
        "std" => rustc(),
        name => {
            let entry = format!("name = \"{name}\"\nversion = \"");
            let version = LOCK.split(&entry).nth(1);
            let version = version.and_then(|rest| rest.split('"').next());
            version.unwrap_or_default().to_owned()
        }
    }
}

fn sheet(comparison: &Comparison) -> Sheet {
    let load = comparison.load;
    let rows = comparison.contestants.iter();
    Sheet {
        name: load.name(),
        connections: load.connections,
        payload: load.payload,
        pipelining: load.pipelining,
        connect_per_request: load.connect_per_request,
        rows: rows.map(|contestant| row(comparison, contestant)).collect(),
    }
}

fn row(comparison: &Comparison, contestant: &Contestant) -> Row {
    let of = |figure: fn(&Sample) -> f64| spread(contestant.samples.iter().map(figure).collect());
    let of_gen = match comparison.find(BASE) {
        Some(base) => Comparison::ratios(contestant, base, Sample::of_generator),
        None => Vec::new(),
    };
    Row {
        server: contestant.server.name.to_owned(),
        version: version(contestant.server.name),
        cpu_us_per_request: of(|sample| sample.server),
        of_gen: spread(of_gen),
        requests_per_second: of(|sample| sample.requests_per_second),
        latency_us: Latency {
            p50: of(|sample| sample.latency[0]),
            p99: of(|sample| sample.latency[1]),
            p999: of(|sample| sample.latency[2]),
        },
        rss_mib: contestant.resident[1] as f64 / MIB,
        rss_per_idle_connection: contestant.resident_each(comparison.load),
        enters_per_request: contestant.enters(),
        errors: contestant.errors,
        refused: contestant.refused.clone(),
    }
}

fn spread(rounds: Vec<f64>) -> Spread {
    let part = |part| quantile(rounds.iter().copied(), part);
    Spread {
        median: part(0.5),
        lower: part(0.25),
        upper: part(0.75),
        rounds,
    }
}

fn goal(verdict: Verdict) -> Goal {
    Goal {
        row: verdict.row,
        limit: verdict.limit,
        measured: verdict.measured,
        met: verdict.met,
    }
}
