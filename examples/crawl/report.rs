//! What the crawl example counts and shows.

use std::cell::RefCell;

use greenring::io;
use greenring::time::{self, Duration};

use super::client::Page;

/// Cells of the progress bar.
const WIDTH: usize = 30;
/// How many of the slowest pages are told.
const SLOWEST: usize = 5;
/// How many of the failures are told.
const FAILURES: usize = 10;

/// What became of a page.
pub struct Visit {
    pub path: String,
    pub page: io::Result<Page>,
    pub attempts: u32,
    pub timeouts: u32,
    /// From the first request to the end, pauses included.
    pub time: Duration,
}

/// What the progress bar shows. The crawler writes it and the bar reads it:
/// green threads of a hub take turns, so it needs no lock.
#[derive(Default)]
pub struct Progress {
    /// Pages that are known of.
    found: usize,
    visited: usize,
    bytes: usize,
    retries: u32,
}

impl Progress {
    /// Counts a visit, after which so many pages are known of.
    pub fn note(&mut self, visit: &Visit, found: usize) {
        self.found = found;
        self.visited += 1;
        self.bytes += visit.bytes();
        self.retries += visit.attempts - 1;
    }
}

impl Visit {
    fn bytes(&self) -> usize {
        self.page.as_ref().map_or(0, |page| page.bytes)
    }
}

/// Keeps a line on stderr up to date until it is cancelled.
pub fn show_progress(progress: &RefCell<Progress>) {
    let mut interval = time::interval(Duration::from_millis(50));
    loop {
        interval.tick();
        let Progress {
            found,
            visited,
            bytes,
            retries,
        } = *progress.borrow();
        let done = "#".repeat(WIDTH * visited / found.max(1));
        let size = bytes / 1024;
        eprint!("\r\x1b[K[{done:-<WIDTH$}] {visited}/{found} pages, {size} KiB, {retries} retries");
    }
}

/// Takes the line back.
pub fn clear_progress() {
    eprint!("\r\x1b[K");
}

/// Prints the totals, the slowest pages and the failures.
pub fn print_summary(visits: &[Visit], elapsed: Duration) {
    let pages = visits.iter().filter(|visit| visit.page.is_ok()).count();
    let kib = visits.iter().map(Visit::bytes).sum::<usize>() / 1024;
    let retries: u32 = visits.iter().map(|visit| visit.attempts - 1).sum();
    let timeouts: u32 = visits.iter().map(|visit| visit.timeouts).sum();
    let failed = visits.len() - pages;
    println!(
        "{:>7} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "pages", "KiB", "retries", "timeouts", "failed", "time"
    );
    println!(
        "{pages:>7} {kib:>9} {retries:>9} {timeouts:>9} {failed:>9} {:>10}",
        seconds(elapsed)
    );
    let total = visits.iter().map(|visit| visit.time).sum();
    println!(
        "\nOne after the other it would have taken {}.",
        seconds(total)
    );

    let mut slowest: Vec<_> = visits.iter().collect();
    slowest.sort_by_key(|visit| std::cmp::Reverse(visit.time));
    println!(
        "\n{:<20} {:>9} {:>9} {:>10}",
        "slowest", "attempts", "timeouts", "time"
    );
    for visit in slowest.into_iter().take(SLOWEST) {
        let Visit {
            path,
            attempts,
            timeouts,
            time,
            ..
        } = visit;
        println!(
            "{path:<20} {attempts:>9} {timeouts:>9} {:>10}",
            seconds(*time)
        );
    }

    if failed > 0 {
        println!("\n{:<20} why", "failed");
    }
    let failures = visits
        .iter()
        .filter_map(|visit| Some((&visit.path, visit.page.as_ref().err()?)));
    for (path, error) in failures.take(FAILURES) {
        println!("{path:<20} {error}");
    }
    if failed > FAILURES {
        println!("and {} more", failed - FAILURES);
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
