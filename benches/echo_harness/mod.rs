//! Compares echo servers by the CPU time that a request costs them.
//!
//! Each server is a process of its own, and so is the generator of its load.
//! Everything shares one CPU and takes turns (see `machine::share_one_cpu`). A
//! round drives each server once, so that what the machine does meanwhile falls
//! on all of them; medians over the rounds are printed, then the goals with their
//! verdicts.

mod comparison;
mod generator;
mod goals;
mod histogram;
mod load;
mod process;
mod servers;
mod yardstick;

use std::io;
use std::time::Duration;

use io_uring::IoUring;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::arguments::Arguments;
use crate::machine::{describe, share_one_cpu};
pub use comparison::{Comparison, Contestant, Sample};
pub use goals::{RAW_EPOLL, Verdict, verdicts};
pub use load::Load;
pub use process::Control;
use process::Part;
pub use servers::{EPOLL, READER, THREADS, URING};

/// What the options of [`Plan::read`] are called.
pub const OPTIONS: [&str; 5] = ["sheets", "servers", "rounds", "seconds", "cpu"];

/// The server that the others are compared with, if it takes part.
pub const BASE: &str = "raw_uring";

/// What the servers read into at the most, whatever they are made of; only the
/// base may choose what suits it.
pub const BUFFER: usize = 16 * 1024;

/// Descriptors that a server or a generator needs beside its connections.
const SPARE: usize = 64;

/// An echo server to measure.
#[derive(Clone, Copy)]
pub struct Server {
    /// The name of its row.
    pub name: &'static str,
    /// Serves for ever, in a process of its own, after telling its control
    /// where it listens.
    pub serve: fn(Control) -> io::Result<()>,
}

/// What is measured, and how long.
pub struct Plan {
    pub servers: Vec<Server>,
    pub loads: Vec<Load>,
    pub rounds: usize,
    pub duration: Duration,
    /// Only a try: no verdicts.
    pub quick: bool,
}

/// What a child process has to do, if this is one: being a server or a
/// generator, it does not return before its end. To be called before the
/// arguments are read for anything else.
pub fn be_a_child(servers: &[Server]) -> Result<bool, String> {
    let done = match Part::read()? {
        None => return Ok(false),
        Some(Part::Generate(address, load)) => process::generate(address, load),
        Some(Part::Serve(name, control)) => {
            let server = servers.iter().find(|server| server.name == name);
            let server = server.ok_or_else(|| format!("{name}: no such server"))?;
            (server.serve)(control)
        }
    };
    done.map(|()| true).map_err(|error| error.to_string())
}

impl Plan {
    /// What the arguments ask for; `sheets` unless they name others.
    pub fn read(
        arguments: &Arguments,
        servers: &[Server],
        sheets: &[&str],
    ) -> Result<Plan, String> {
        let quick = arguments.quick();
        let seconds: f64 = arguments
            .value("seconds")?
            .unwrap_or(if quick { 0.02 } else { 0.5 });
        let rounds: usize = arguments
            .value("rounds")?
            .unwrap_or(if quick { 1 } else { 7 });
        let duration = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|duration| !duration.is_zero() && rounds > 0)
            .ok_or("--seconds and --rounds must be above zero")?;
        let sheets = match arguments.value::<String>("sheets")? {
            None => sheets.join(","),
            Some(sheets) => sheets,
        };
        let mut loads = Vec::new();
        for sheet in sheets.split(',') {
            loads.push(sheet.parse()?);
        }
        let named: Option<String> = arguments.value("servers")?;
        let is_named = |server: &Server| {
            let mut names = named.iter().flat_map(|names| names.split(','));
            named.is_none() || server.name == BASE || names.any(|name| server.name.contains(name))
        };
        let mut plan = Plan {
            servers: Vec::new(),
            loads,
            rounds,
            duration,
            quick,
        };
        for server in servers.iter().filter(|server| is_named(server)) {
            match servers::is_left_out(server)? {
                true => println!("{}: left out, another backend is asked for", server.name),
                false => plan.servers.push(*server),
            }
        }
        Ok(plan)
    }

    /// Measures sheet after sheet and prints each, then the verdicts.
    pub fn compare(&self, cpu: Option<usize>) -> io::Result<Vec<Comparison>> {
        let cpu = share_one_cpu(cpu)?;
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        println!(
            "echo; {}; servers and generators in turns on CPU {cpu}, {} round(s) of {} s",
            describe(),
            self.rounds,
            self.duration.as_secs_f64()
        );
        if let Err(error) = IoUring::new(1) {
            println!("nothing can be measured: the generator needs io_uring: {error}");
            return Ok(Vec::new());
        }
        let mut comparisons = Vec::new();
        for &load in &self.loads {
            if (load.connections + SPARE) as u64 > most {
                println!(
                    "\n{}: left out, a process has {most} descriptors",
                    load.name()
                );
                continue;
            }
            let comparison = Comparison::measure(self, load)?;
            comparison.print();
            comparisons.push(comparison);
        }
        if !self.quick {
            let verdicts = verdicts(&comparisons);
            println!("\ngoals: a ratio of two servers, and its quartiles");
            verdicts.iter().for_each(Verdict::print);
        }
        Ok(comparisons)
    }

    /// Whether every reply was right, and nobody was refused in a try.
    pub fn check(&self, comparisons: &[Comparison]) -> Result<(), String> {
        let mut contestants = comparisons.iter().flat_map(|each| &each.contestants);
        match contestants.any(|each| each.errors > 0 || self.quick && each.refused.is_some()) {
            true => Err("not every reply came and was right, see above".to_owned()),
            false => Ok(()),
        }
    }
}
