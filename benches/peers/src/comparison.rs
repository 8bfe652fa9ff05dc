//! The same work by everybody, in interleaved rounds.
//!
//! Within a round the machine is in the same mood for all. So each is compared
//! with the first by the ratio within each round, and the median and quartiles
//! of these ratios are printed beside the median times.

#![allow(dead_code)] // Each bench uses its own part of this.

use std::time::Duration;

use crate::machine::getppid_nanoseconds;
use crate::statistics::{median, quantile};

/// The speed at which goals in nanoseconds hold: nanoseconds per `getppid`.
const YARDSTICK: f64 = 125.0;

/// Work that everybody can do.
pub struct Row {
    /// What is done once in an iteration.
    pub name: &'static str,
    /// Who does it; the first is compared with the others.
    pub contestants: &'static [Contestant],
    /// What is asked of the first.
    pub goals: &'static [Goal],
}

/// One way to do the work of a row.
pub struct Contestant {
    /// Whose way.
    pub name: &'static str,
    /// How many iterations a sample has, unless it is as many as fill its time.
    pub count: Option<u64>,
    /// Does the work so many times and says how long that took.
    pub run: fn(u64) -> Duration,
}

/// What the first contestant is to achieve.
pub enum Goal {
    /// At most so many times what this other one takes.
    Ratio(&'static str, f64),
    /// At most so many nanoseconds, at a yardstick of 125 ns per `getppid`.
    Nanoseconds(f64),
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How often everybody has its turn.
    pub rounds: usize,
    /// How long a turn is.
    pub sample: Duration,
    /// Only a try: no figures.
    pub quick: bool,
}

/// Iterations of a try.
const FEW: u64 = 100;

/// Iterations of a sample at the most: what costs nothing would fill no time.
const MOST: u64 = 10_000_000;

/// As many iterations as fill the time of a sample.
pub const fn by(name: &'static str, run: fn(u64) -> Duration) -> Contestant {
    Contestant {
        name,
        count: None,
        run,
    }
}

impl Plan {
    /// Measures a row and prints it.
    pub fn compare(&self, row: &Row) {
        if self.quick {
            for contestant in row.contestants {
                (contestant.run)(FEW);
            }
            println!("{}: works", row.name);
            return;
        }
        let counts = row.contestants.iter().map(|each| self.count(each));
        let counts: Vec<u64> = counts.collect();
        let mut times = vec![Vec::new(); counts.len()];
        let mut yardsticks = Vec::new();
        for round in 0..self.rounds {
            for turn in 0..counts.len() {
                let index = (round + turn) % counts.len();
                let elapsed = (row.contestants[index].run)(counts[index]);
                times[index].push(elapsed.as_nanos() as f64 / counts[index] as f64);
            }
            yardsticks.push(getppid_nanoseconds());
        }
        print(row, &times, median(yardsticks));
    }

    /// How many iterations fill the time of a sample.
    fn count(&self, contestant: &Contestant) -> u64 {
        if let Some(count) = contestant.count {
            return count;
        }
        let mut count = FEW;
        loop {
            // One that was held up says nothing about the next.
            let tries = (0..3).map(|_| (contestant.run)(count));
            let elapsed = tries.min().unwrap_or_default();
            if elapsed > self.sample / 4 || count >= MOST {
                let fitting = count as f64 * self.sample.as_secs_f64() / elapsed.as_secs_f64();
                return (fitting as u64).clamp(FEW, MOST);
            }
            count *= 4;
        }
    }
}

fn print(row: &Row, times: &[Vec<f64>], yardstick: f64) {
    println!("\n{:<46} {:>10} {:>24}", row.name, "ns", "greenring / it");
    let first = &times[0];
    let ratios = |other: &[f64]| -> Vec<f64> {
        let pairs = first.iter().zip(other);
        pairs.map(|(first, other)| first / other).collect()
    };
    for (contestant, times) in row.contestants.iter().zip(times) {
        print!(
            "  {:<44} {:>10.1}",
            contestant.name,
            median(times.iter().copied())
        );
        let ratios = ratios(times);
        let part = |part| quantile(ratios.iter().copied(), part);
        println!(
            " {:>8.2} [{:.2} to {:.2}]",
            part(0.5),
            part(0.25),
            part(0.75)
        );
    }
    for goal in row.goals {
        let (what, measured, limit) = match *goal {
            Goal::Ratio(name, limit) => {
                let mut others = row.contestants.iter().zip(times);
                let other = others.find(|(contestant, _)| contestant.name == name);
                let (_, other) = other.expect("a goal names a contestant");
                let measured = median(ratios(other));
                (format!("of {name} at most"), measured, limit)
            }
            Goal::Nanoseconds(limit) => (
                format!("ns at most, at {yardstick:.0} ns per getppid"),
                median(first.iter().copied()),
                limit * yardstick / YARDSTICK,
            ),
        };
        let verdict = if measured <= limit { "ok" } else { "NOT MET" };
        println!("  goal: {limit:.2} {what}: {measured:.2} {verdict}");
    }
}
