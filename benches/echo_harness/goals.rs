//! What is asked of greenring: that under some load it costs at most so many
//! times what another costs.

use super::comparison::{Comparison, Sample};
use super::{BASE, EPOLL, READER, URING};
use crate::statistics::{median, quantile};

/// epoll by hand, likewise.
pub const RAW_EPOLL: &str = "raw_epoll";

struct Goal {
    /// The load, as text.
    sheet: &'static str,
    server: &'static str,
    other: &'static str,
    limit: f64,
}

const fn goal(sheet: &'static str, server: &'static str, other: &'static str, limit: f64) -> Goal {
    Goal {
        sheet,
        server,
        other,
        limit,
    }
}

const GOALS: &[Goal] = &[
    goal("50", READER.name, BASE, 1.05),
    goal("1000", READER.name, BASE, 1.12),
    goal("10000", READER.name, BASE, 1.02),
    goal("50", URING.name, BASE, 1.10),
    goal("1000", URING.name, BASE, 1.17),
    goal("10000", URING.name, BASE, 1.03),
    goal("50", URING.name, RAW_EPOLL, 1.0),
    goal("50", URING.name, "tokio", 1.0),
    goal("50", URING.name, "monoio", 1.0),
    goal("50", URING.name, "compio", 1.0),
    goal("50", URING.name, "may", 1.0),
    goal("1000", URING.name, RAW_EPOLL, 1.0),
    goal("1000", URING.name, "tokio", 1.0),
    goal("1000", URING.name, "monoio", 1.0),
    goal("1000", URING.name, "compio", 1.0),
    goal("1000", URING.name, "may", 1.0),
    goal("10000", URING.name, RAW_EPOLL, 1.0),
    goal("10000", URING.name, "tokio", 1.0),
    goal("10000", URING.name, "monoio", 1.0),
    goal("10000", URING.name, "compio", 1.0),
    goal("10000", URING.name, "may", 1.0),
    goal("1", URING.name, BASE, 1.0),
    goal("1", URING.name, EPOLL.name, 1.05),
    goal("50:65536", URING.name, RAW_EPOLL, 1.0),
    goal("50:65536", READER.name, RAW_EPOLL, 1.0),
    goal("50", URING.name, EPOLL.name, 0.97),
    goal("1000", URING.name, EPOLL.name, 0.97),
];

/// From this payload on the generator's time says nothing: it copies as much as
/// the server, but not in the same pieces. Then it is the server's CPU time alone.
const COPIES: usize = 64 * 1024;

/// A goal, and what was measured.
pub struct Verdict {
    /// The load and the two servers, for people.
    pub row: String,
    pub limit: f64,
    /// The median of the ratios within each round.
    pub measured: f64,
    /// Their quartiles.
    pub quartiles: [f64; 2],
    pub met: bool,
}

/// The verdicts on all goals whose servers were measured.
pub fn verdicts(comparisons: &[Comparison]) -> Vec<Verdict> {
    let judge = |goal: &Goal| {
        let load = goal.sheet.parse().expect("a goal names a load");
        let comparison = comparisons
            .iter()
            .find(|comparison| comparison.load == load)?;
        let one = comparison.find(goal.server)?;
        let other = comparison.find(goal.other)?;
        let figure = match load.payload >= COPIES {
            true => |sample: &Sample| sample.server,
            false => Sample::of_generator,
        };
        let ratios = Comparison::ratios(one, other, figure);
        if ratios.is_empty() {
            return None;
        }
        let part = |part| quantile(ratios.iter().copied(), part);
        let measured = median(ratios.iter().copied());
        Some(Verdict {
            row: format!("{}: {} / {}", load.name(), goal.server, goal.other),
            limit: goal.limit,
            measured,
            quartiles: [part(0.25), part(0.75)],
            met: measured <= goal.limit,
        })
    };
    GOALS.iter().filter_map(judge).collect()
}

impl Verdict {
    pub fn print(&self) {
        let [low, high] = self.quartiles;
        let verdict = if self.met { "ok" } else { "NOT MET" };
        println!(
            "{:<64} at most {:.2}: {:.3} [{low:.3} to {high:.3}] {verdict}",
            self.row, self.limit, self.measured
        );
    }
}
