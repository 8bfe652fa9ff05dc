//! Compares echo servers by the CPU time that a request costs them.
//!
//! Each server is a process of its own; this one is the load generator, the
//! same for all. Everything shares one CPU and takes turns (see
//! `machine::share_one_cpu`). A round drives each server once, so that what
//! the machine does meanwhile falls on all of them; the medians over the rounds
//! are printed, then the goals with their verdicts.

mod generator;
mod process;
mod servers;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::machine::{describe, getppid_nanoseconds, share_one_cpu};
use crate::statistics::{median, quantile};
use generator::{Generator, Load};
pub use process::Control;
use process::{Process, SERVE};
pub use servers::{EPOLL, THREADS, URING};

/// Bytes of a request, and of its reply.
pub const SIZE: usize = 64;

/// What the servers read into, whatever they are made of.
pub const BUFFER: usize = 4096;

/// An echo server to measure.
pub struct Server {
    /// The name of its row.
    pub name: &'static str,
    /// Serves for ever, in a process of its own, after telling its control
    /// where it listens.
    pub serve: fn(Control) -> io::Result<()>,
}

/// At this number of connections a request costs `server` at most `factor`
/// times what it costs `other`.
struct Goal {
    connections: usize,
    server: &'static str,
    other: &'static str,
    factor: f64,
}

const GOALS: [Goal; 5] = [
    Goal {
        connections: 1,
        server: URING.name,
        other: EPOLL.name,
        factor: 1.05,
    },
    Goal {
        connections: 50,
        server: URING.name,
        other: EPOLL.name,
        factor: 1.0,
    },
    Goal {
        connections: 50,
        server: URING.name,
        other: "tokio",
        factor: 1.0,
    },
    Goal {
        connections: 1000,
        server: URING.name,
        other: EPOLL.name,
        factor: 1.0,
    },
    Goal {
        connections: 1000,
        server: URING.name,
        other: "tokio",
        factor: 1.05,
    },
];

/// What is measured, and how long.
struct Plan {
    connections: Vec<usize>,
    rounds: usize,
    duration: Duration,
    /// Only a try: no verdicts.
    quick: bool,
}

/// The whole program: compares the servers, or is one of them.
pub fn main(servers: &[Server]) -> ExitCode {
    let result = match process::asked_to_serve() {
        Some(name) => serve(servers, &name),
        None => compare(servers),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(servers: &[Server], name: &str) -> Result<(), String> {
    let server = servers
        .iter()
        .find(|server| server.name == name)
        .ok_or_else(|| format!("{SERVE} {name}: no such server"))?;
    (server.serve)(Control::new()).map_err(|error| error.to_string())
}

fn compare(servers: &[Server]) -> Result<(), String> {
    let arguments = Arguments::read(&["connections", "rounds", "seconds", "cpu"])?;
    if !arguments.select("echo") {
        return Ok(());
    }
    let quick = arguments.quick();
    let connections = match arguments.value::<String>("connections")? {
        None if quick => vec![1, 50],
        None => vec![1, 50, 1000],
        Some(list) => list
            .split(',')
            .map(|number| match number.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("--connections {list}: not numbers above zero")),
            })
            .collect::<Result<_, _>>()?,
    };
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
    let plan = Plan {
        connections,
        rounds,
        duration,
        quick,
    };
    let cpu = share_one_cpu(arguments.value("cpu")?).map_err(|error| error.to_string())?;
    generator::allow_many_connections().map_err(|error| error.to_string())?;
    println!(
        "echo of {SIZE} B; {}; servers and generator in turns on CPU {cpu}, {} round(s) of {seconds} s",
        describe(),
        plan.rounds
    );
    plan.compare(&servers::selected(servers)?)
        .map_err(|error| error.to_string())
}

impl Plan {
    fn compare(&self, servers: &[&Server]) -> io::Result<()> {
        let mut verdicts = Vec::new();
        for &connections in &self.connections {
            let mut contestants = Vec::new();
            for server in servers {
                match Contestant::start(server, connections) {
                    Ok(contestant) => contestants.push(contestant),
                    Err(error) if servers::may_be_refused(server) => {
                        println!("{}: cannot be measured: {error}", server.name);
                    }
                    Err(error) => {
                        return Err(io::Error::new(
                            error.kind(),
                            format!("{}: {error}", server.name),
                        ));
                    }
                }
            }
            let yardstick = self.run_rounds(&mut contestants)?;
            print_rows(connections, yardstick, &contestants);
            verdicts.extend(
                GOALS
                    .iter()
                    .filter(|goal| goal.connections == connections)
                    .map(|goal| goal.verdict(&contestants)),
            );
        }
        if !self.quick {
            println!("\ngoals, by `of gen`; the quartiles of the rounds in brackets");
            for verdict in verdicts {
                println!("{verdict}");
            }
        }
        Ok(())
    }

    /// Drives everybody in turn, each round in another order, and gives the
    /// median of the nanoseconds per `getppid`.
    fn run_rounds(&self, contestants: &mut [Contestant]) -> io::Result<f64> {
        let mut yardsticks = Vec::new();
        for round in 0..self.rounds {
            for turn in 0..contestants.len() {
                let index = (round + turn) % contestants.len();
                contestants[index].drive(self.duration)?;
                yardsticks.push(getppid_nanoseconds());
            }
        }
        Ok(median(yardsticks))
    }
}

/// One server with its connections and what was measured of it.
struct Contestant {
    name: &'static str,
    process: Process,
    generator: Generator,
    samples: Vec<Sample>,
}

/// One round of one server.
struct Sample {
    /// Microseconds of the server's CPU per request.
    server: f64,
    /// Microseconds of the generator's CPU per request.
    generator: f64,
    requests_per_second: f64,
    /// Calls of io_uring_enter(2) or epoll_wait(2) per request, if the server
    /// counts them.
    enters: Option<f64>,
}

impl Sample {
    fn of_generator(&self) -> f64 {
        self.server / self.generator
    }
}

impl Contestant {
    /// Starts a server and connects; a request on each connection warms up.
    fn start(server: &Server, connections: usize) -> io::Result<Contestant> {
        let mut process = Process::start(server.name)?;
        let generator = Generator::connect(process.address()?, connections)?;
        Ok(Contestant {
            name: server.name,
            process,
            generator,
            samples: Vec::new(),
        })
    }

    fn drive(&mut self, duration: Duration) -> io::Result<()> {
        let before = self.process.usage()?;
        let load: Load = self.generator.run(duration)?;
        let after = self.process.usage()?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / load.requests as f64;
        self.samples.push(Sample {
            server: each(after.cpu.saturating_sub(before.cpu)),
            generator: each(load.cpu),
            requests_per_second: load.requests as f64 / load.elapsed.as_secs_f64(),
            enters: match (before.enters, after.enters) {
                (Some(before), Some(after)) => Some((after - before) as f64 / load.requests as f64),
                _ => None,
            },
        });
        Ok(())
    }
}

fn print_rows(connections: usize, yardstick: f64, contestants: &[Contestant]) {
    println!(
        "\n{:<24} {:>8} {:>7} {:>8} {:>11} {:>11}",
        format!("{connections} connection(s)"),
        "us/req",
        "of gen",
        "gen us",
        "enters/req",
        "requests/s"
    );
    for contestant in contestants {
        let of = |value: fn(&Sample) -> f64| median(contestant.samples.iter().map(value));
        print!(
            "{:<24} {:>8.2} {:>7.3} {:>8.2}",
            contestant.name,
            of(|sample| sample.server),
            of(Sample::of_generator),
            of(|sample| sample.generator)
        );
        match contestant.samples.iter().find_map(|sample| sample.enters) {
            Some(_) => print!(" {:>11.3}", of(|sample| sample.enters.unwrap_or_default())),
            None => print!(" {:>11}", "-"),
        }
        println!(" {:>11.0}", of(|sample| sample.requests_per_second));
    }
    println!("getppid: {yardstick:.0} ns");
}

impl Goal {
    /// Judges by the ratio within each round, in which the machine was in the
    /// same mood for both.
    fn verdict(&self, contestants: &[Contestant]) -> String {
        let Goal {
            connections,
            server,
            other,
            factor,
        } = self;
        let goal =
            format!("{connections:>5} connection(s): {server} / {other} at most {factor:.2}");
        let find = |name| {
            contestants
                .iter()
                .find(|contestant| contestant.name == name)
        };
        let (Some(one), Some(two)) = (find(*server), find(*other)) else {
            return format!(
                "{goal}: not measured here (tokio: cargo run --release -p greenring-peers)"
            );
        };
        let ratios = |value: fn(&Sample) -> f64| -> Vec<f64> {
            let pairs = one.samples.iter().zip(&two.samples);
            pairs.map(|(one, two)| value(one) / value(two)).collect()
        };
        let of_generator = ratios(Sample::of_generator);
        let ratio = median(of_generator.iter().copied());
        let low = quantile(of_generator.iter().copied(), 0.25);
        let high = quantile(of_generator.iter().copied(), 0.75);
        let cpu = median(ratios(|sample| sample.server));
        let verdict = if ratio <= *factor { "ok" } else { "NOT MET" };
        format!("{goal}: {ratio:.3} [{low:.3} to {high:.3}] (us/req alone: {cpu:.3}) {verdict}")
    }
}
