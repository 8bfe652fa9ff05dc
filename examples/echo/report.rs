//! What the echo example counts and shows.

use std::cell::RefCell;

use greenring::io;
use greenring::runtime::{self, Backend};
use greenring::thread;
use greenring::time::{Duration, Instant};

/// What the clients count while they run. They share one: green threads of a
/// hub take turns, so it needs no lock.
pub struct Tally {
    pub connections: usize,
    pub requests: u64,
    /// When the measurement began.
    pub start: Option<Instant>,
    /// Counts of latencies: 32 buckets between a power of two and the next,
    /// from 32 ns.
    latencies: Vec<u64>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            connections: 0,
            requests: 0,
            start: None,
            latencies: vec![0; 59 * 32],
        }
    }

    /// Counts a request.
    pub fn record(&mut self, latency: Duration) {
        let nanoseconds = (latency.as_nanos() as u64).max(32);
        let shift = nanoseconds.ilog2() as usize - 5;
        self.latencies[shift * 32 + (nanoseconds >> shift) as usize - 32] += 1;
        self.requests += 1;
    }

    /// The latency that so many percent of the requests did not exceed, to
    /// about 3 %.
    pub fn percentile(&self, percent: u64) -> Duration {
        let mut left = self.requests * percent / 100;
        let bucket = self.latencies.iter().position(|&count| {
            let is_here = left < count;
            left = left.saturating_sub(count);
            is_here
        });
        let bucket = bucket.unwrap_or(0);
        Duration::from_nanos((bucket as u64 % 32 + 32) << (bucket / 32))
    }
}

/// One measurement.
pub struct Measured {
    pub backend: Backend,
    pub reason: String,
    pub requests: u64,
    pub elapsed: Duration,
    /// What the server's OS thread took; unknown if it is another process's.
    pub server_cpu: Option<Duration>,
    pub p50: Duration,
    pub p99: Duration,
}

impl Measured {
    fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The server's, in microseconds.
    fn cpu_per_request(&self) -> Option<f64> {
        let cpu = self.server_cpu?;
        Some(cpu.as_secs_f64() * 1e6 / self.requests as f64)
    }
}

/// Shows how far the clients are: in one line that is written again and again
/// on a terminal, in a line per second elsewhere.
pub fn show_progress(tally: &RefCell<Tally>) -> ! {
    let is_terminal = io::stderr().is_terminal();
    let backend = runtime::backend();
    loop {
        thread::sleep(Duration::from_millis(if is_terminal { 100 } else { 1000 }));
        let tally = tally.borrow();
        let mut line = format!("{backend}: {} connections", tally.connections);
        if let Some(start) = tally.start {
            let seconds = start.elapsed().as_secs_f64();
            line += &format!(", {} requests in {seconds:.1} s", tally.requests);
        }
        if is_terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }
}

/// Takes the line back.
pub fn clear_progress() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// A line for each measurement, or for why there is none.
pub fn print_table(rows: &[Result<Measured, String>]) {
    let titles = ["backend", "requests/s", "CPU/request", "p50", "p99"];
    print_row(titles.map(String::from), "why this backend");
    for row in rows {
        match row {
            Ok(row) => {
                let cpu = row.cpu_per_request();
                let cells = [
                    row.backend.to_string(),
                    format!("{:.0}", row.requests_per_second()),
                    cpu.map_or("not known".to_owned(), |cpu| format!("{cpu:.2} µs")),
                    format!("{:.1?}", row.p50),
                    format!("{:.1?}", row.p99),
                ];
                print_row(cells, &row.reason);
            }
            Err(why) => println!("{why}"),
        }
    }
    if let [Ok(uring), Ok(epoll)] = rows {
        let cpu = epoll.cpu_per_request().zip(uring.cpu_per_request());
        let ratios = [
            Some((epoll.requests_per_second(), uring.requests_per_second())),
            cpu,
            Some((epoll.p50.as_secs_f64(), uring.p50.as_secs_f64())),
            Some((epoll.p99.as_secs_f64(), uring.p99.as_secs_f64())),
        ];
        let [rate, cpu, p50, p99] = ratios.map(|ratio| {
            ratio.map_or(String::new(), |(epoll, uring)| {
                format!("{:.2}", epoll / uring)
            })
        });
        print_row(["epoll/uring".to_owned(), rate, cpu, p50, p99], "");
    }
}

fn print_row([backend, rate, cpu, p50, p99]: [String; 5], last: &str) {
    let row = format!("{backend:<11} {rate:>11} {cpu:>12} {p50:>9} {p99:>9}  {last}");
    println!("{}", row.trim_end());
}
