//! What a run of the yardstick came to: the raw figures, as `report.json` holds
//! them, and the page that is drawn from them.
//!
//! Whoever draws conclusions reads these types and nothing else, so a report
//! from another machine or another day can be drawn again.

use serde::{Deserialize, Serialize};

mod collect;
pub mod page;

pub use collect::report;

/// One run of the yardstick.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// When it began: UTC, ISO 8601.
    pub date: String,
    pub machine: Machine,
    /// The command that ran, for whoever wants to run it again.
    pub command: String,
    /// How often every server had its turn on every sheet.
    pub rounds: usize,
    /// How long a turn was.
    pub seconds: f64,
    pub sheets: Vec<Sheet>,
    /// What is asked of greenring, and what it measured.
    pub goals: Vec<Goal>,
}

/// Where it ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    /// The processor's model.
    pub cpu: String,
    /// How many of them there are; the run itself shares one.
    pub cpus: usize,
    pub memory_mib: u64,
    pub rustc: String,
    /// The time of the cheapest system call during the run, the median.
    pub getppid_ns: f64,
    /// The CPU time of a send and a receive of 64 bytes over loopback, without
    /// any waiting, the median: how busy the machine was, and the least that
    /// a request costs.
    #[serde(default)]
    pub send_recv_ns: f64,
    /// The version of greenring, and the commit.
    pub greenring: String,
    /// Which backend greenring chooses here by itself, and why.
    pub backend_reason: String,
}

/// One load, and how every server bore it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sheet {
    /// For people: `64 B, 50 connections`.
    pub name: String,
    pub connections: usize,
    /// Bytes of a request, and of its reply.
    pub payload: usize,
    /// Requests that are sent at once, before the replies to all of them.
    pub pipelining: usize,
    /// Every request comes on a connection of its own; `connections` of them
    /// are open at a time.
    pub connect_per_request: bool,
    pub rows: Vec<Row>,
}

/// One server under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub server: String,
    /// The version of what the server is made of; empty for the raw ones.
    pub version: String,
    /// The server's CPU time, user and system.
    pub cpu_us_per_request: Spread,
    /// That over the generator's own CPU time per request in the same round,
    /// relative to the same figure of `raw_uring` in the same round.
    pub of_gen: Spread,
    pub requests_per_second: Spread,
    pub latency_us: Latency,
    /// Resident memory of the server with all connections open and idle, each
    /// of which has had one request answered.
    pub rss_mib: f64,
    /// Bytes of resident memory that each such connection added.
    pub rss_per_idle_connection: Option<f64>,
    /// System calls that waited or handed operations over, where they are known.
    pub enters_per_request: Option<f64>,
    /// Replies that were wrong or did not come. There must be none.
    pub errors: u64,
    /// Why there are no figures, if there are none: the server could not run here.
    pub refused: Option<String>,
}

/// Time from a request to its reply; with pipelining, to the last reply of
/// those that were sent at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: Spread,
    pub p99: Spread,
    pub p999: Spread,
}

/// A figure over the rounds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    /// The lower quartile.
    pub lower: f64,
    /// The upper quartile.
    pub upper: f64,
    /// What every round said, in their order.
    pub rounds: Vec<f64>,
}

/// What is asked of greenring: a ratio that is at most so much.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Goal {
    /// For people: `64 B, 50 connections: greenring, reader() / raw_uring`.
    pub row: String,
    pub limit: f64,
    pub measured: f64,
    pub met: bool,
}
