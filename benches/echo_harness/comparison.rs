//! All servers under one load, in turns.

use std::io;
use std::time::Duration;

use super::process::Process;
use super::yardstick::{Speed, Yardstick};
use super::{BASE, Load, Plan, Server};
use crate::statistics::median;

/// From so many connections on they are what the memory goes to.
const CROWD: usize = 1000;

/// What one load came to.
pub struct Comparison {
    pub load: Load,
    pub contestants: Vec<Contestant>,
    pub speed: Speed,
}

/// One server, and what was measured of it.
pub struct Contestant {
    pub server: Server,
    /// One for each round; none if it was refused.
    pub samples: Vec<Sample>,
    /// Bytes of its resident memory before the first connection, and with all
    /// of them open and idle.
    pub resident: [u64; 2],
    pub errors: u64,
    /// Why it cannot run here.
    pub refused: Option<String>,
    processes: Option<Processes>,
}

/// A server and the generator of its load.
struct Processes {
    generator: Process,
    server: Process,
}

/// One round of one server.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Microseconds of the server's CPU per request.
    pub server: f64,
    /// Microseconds of the generator's CPU per request.
    pub generator: f64,
    pub requests_per_second: f64,
    /// Microseconds that 50, 99 and 99.9 % of the requests did not exceed.
    pub latency: [f64; 3],
    /// System calls per request that waited or handed operations over, if the
    /// server counts them.
    pub enters: Option<f64>,
}

impl Sample {
    pub fn of_generator(&self) -> f64 {
        self.server / self.generator
    }
}

impl Comparison {
    /// Starts everybody, then drives them in turn, each round in another order.
    pub fn measure(plan: &Plan, load: Load) -> io::Result<Comparison> {
        let start = |server: &Server| Contestant::start(*server, load);
        let mut contestants: Vec<Contestant> = plan.servers.iter().map(start).collect();
        let mut yardstick = Yardstick::new()?;
        for round in 0..plan.rounds {
            for turn in 0..contestants.len() {
                let index = (round + turn) % contestants.len();
                contestants[index].take_turn(plan.duration);
                yardstick.sample()?;
            }
        }
        for contestant in &mut contestants {
            contestant.processes = None;
        }
        Ok(Comparison {
            load,
            contestants,
            speed: yardstick.speed(),
        })
    }

    pub fn find(&self, name: &str) -> Option<&Contestant> {
        let mut contestants = self.contestants.iter();
        contestants.find(|contestant| contestant.server.name == name)
    }

    /// `figure` of one over that of the other, in each round, in which the machine
    /// was in the same mood for both.
    pub fn ratios(one: &Contestant, other: &Contestant, figure: fn(&Sample) -> f64) -> Vec<f64> {
        let pairs = one.samples.iter().zip(&other.samples);
        pairs
            .map(|(one, other)| figure(one) / figure(other))
            .collect()
    }

    pub fn print(&self) {
        let columns = [
            "us/req",
            "of gen",
            "gen us",
            "/ raw",
            "enters/req",
            "p50 us",
            "p99",
            "p99.9",
            "requests/s",
            "RSS MiB",
        ];
        print!("\n{:<32}", self.load.name());
        columns.iter().for_each(|column| print!(" {column:>10}"));
        println!();
        let base = self.find(BASE);
        for contestant in &self.contestants {
            print!("{:<32}", contestant.server.name);
            if let Some(reason) = &contestant.refused {
                println!(" cannot be measured: {reason}");
                continue;
            }
            let of = |figure: fn(&Sample) -> f64| median(contestant.samples.iter().map(figure));
            let relative =
                base.map(|base| median(Comparison::ratios(contestant, base, Sample::of_generator)));
            let cell = |figure: f64, places: usize| print!(" {figure:>10.places$}");
            let optional = |figure: Option<f64>| match figure {
                Some(figure) => cell(figure, 3),
                None => print!(" {:>10}", "-"),
            };
            cell(of(|sample| sample.server), 2);
            cell(of(Sample::of_generator), 3);
            cell(of(|sample| sample.generator), 2);
            optional(relative);
            optional(contestant.enters());
            cell(of(|sample| sample.latency[0]), 1);
            cell(of(|sample| sample.latency[1]), 1);
            cell(of(|sample| sample.latency[2]), 1);
            cell(of(|sample| sample.requests_per_second), 0);
            cell(contestant.resident[1] as f64 / f64::from(1 << 20), 1);
            match contestant.errors {
                0 => println!(),
                errors => println!(" {errors} ERRORS"),
            }
        }
        let Speed { getppid, message } = self.speed;
        println!("getppid: {getppid:.0} ns; one send and receive: {message:.0} ns");
    }
}

impl Contestant {
    /// Starts a server and connects; one that cannot run here is only noted.
    fn start(server: Server, load: Load) -> Contestant {
        let mut contestant = Contestant {
            server,
            samples: Vec::new(),
            resident: [0; 2],
            errors: 0,
            refused: None,
            processes: None,
        };
        match contestant.connect(load) {
            Ok(processes) => contestant.processes = Some(processes),
            Err(error) => contestant.refused = Some(error.to_string()),
        }
        contestant
    }

    fn connect(&mut self, load: Load) -> io::Result<Processes> {
        let (server, address) = Process::serve(self.server.name, load)?;
        self.resident[0] = server.resident()?;
        let generator = Process::generate(address, load)?;
        self.resident[1] = server.resident()?;
        Ok(Processes { generator, server })
    }

    /// One that fails has no turn any more, nor any figures.
    fn take_turn(&mut self, duration: Duration) {
        let Some(processes) = &mut self.processes else {
            return;
        };
        match processes.drive(duration) {
            Ok((sample, errors)) => {
                self.samples.push(sample);
                self.errors += errors;
            }
            Err(error) => {
                self.refused = Some(error.to_string());
                self.errors += 1;
                self.samples.clear();
                self.processes = None;
            }
        }
    }

    /// The median of the system calls per request, if it counts them.
    pub fn enters(&self) -> Option<f64> {
        self.samples.first()?.enters?;
        let counted = self.samples.iter().filter_map(|sample| sample.enters);
        Some(median(counted))
    }

    /// Bytes of resident memory that each idle connection added, if there are enough
    /// for the program's own pages not to count.
    pub fn resident_each(&self, load: Load) -> Option<f64> {
        let few = load.connect_per_request || load.connections < CROWD;
        if few || self.refused.is_some() {
            return None;
        }
        let added = self.resident[1].saturating_sub(self.resident[0]);
        Some(added as f64 / load.connections as f64)
    }
}

impl Processes {
    fn drive(&mut self, duration: Duration) -> io::Result<(Sample, u64)> {
        let before = self.server.usage()?;
        let load = self.generator.run(duration)?;
        let after = self.server.usage()?;
        let requests = load.requests as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        let sample = Sample {
            server: each(after.cpu.saturating_sub(before.cpu)),
            generator: each(load.cpu),
            requests_per_second: requests / load.elapsed.as_secs_f64(),
            latency: load.latency,
            enters: match (before.enters, after.enters) {
                (Some(before), Some(after)) => Some((after - before) as f64 / requests),
                _ => None,
            },
        };
        Ok((sample, load.errors))
    }
}
