//! Latencies, counted by their size, with an error of less than one per cent.

use std::time::Duration;

/// Each power of two is divided into so many steps, itself a power of two.
const STEPS: u64 = 128;

/// How many requests took how long.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram {
            counts: vec![0; 64 * STEPS as usize],
            total: 0,
        }
    }

    pub fn record(&mut self, latency: Duration, requests: u64) {
        let nanoseconds = latency.as_nanos() as u64;
        self.counts[step(nanoseconds)] += requests;
        self.total += requests;
    }

    /// What this part of the requests did not exceed, in microseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return middle(step) / 1000.0;
            }
        }
        0.0
    }
}

/// Below [`STEPS`] every number has a step of its own; above, the highest bits
/// choose it.
fn step(value: u64) -> usize {
    let shift = (value | 1).ilog2().saturating_sub(STEPS.ilog2());
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The middle of what a step counts.
fn middle(step: usize) -> f64 {
    let step = step as u64;
    let shift = (step / STEPS).saturating_sub(1);
    let low = (step - shift * STEPS) << shift;
    low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_within_a_per_cent() {
        let mut histogram = Histogram::new();
        (1..=100_000).for_each(|each| histogram.record(Duration::from_nanos(each * 37), 1));
        for part in [0.001, 0.5, 0.99, 0.999, 1.0] {
            let ratio = histogram.quantile(part) / (part * 3700.0);
            assert!((0.99..1.01).contains(&ratio), "{part}: {ratio}");
        }
    }
}
