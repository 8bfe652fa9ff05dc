//! A crawler: it follows the links of a site, many pages at a time, and gets
//! along with a server that is slow, fails, or does not answer.
//!
//! ```text
//! cargo run --release --example crawl
//! cargo run --release --example crawl -- --pages 2000 --at-once 100
//! ```
//!
//! What it shows:
//!
//! - A [`Pool`] bounds how many requests there are at a time; `imap_unordered`
//!   gives pages as they come, while the links in them feed the pool.
//! - `time::timeout` limits a whole request, whatever it waits for, without a
//!   word of it in the client.
//! - What fails is tried again, later each time and at random moments, so that
//!   many who fail together do not come again together.

#[path = "crawl/client.rs"]
mod client;
#[path = "crawl/options.rs"]
mod options;
#[path = "crawl/report.rs"]
mod report;
#[path = "crawl/site.rs"]
mod site;

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::rc::Rc;

use greenring::io::{self, ErrorKind};
use greenring::net::SocketAddr;
use greenring::pool::Pool;
use greenring::sync::channel;
use greenring::time::{self, Duration, Instant};
use greenring::{runtime, thread};

use options::{HELP, Options};
use report::{Progress, Visit, print_summary, show_progress};

/// How often a page is asked for before it is given up.
const ATTEMPTS: u32 = 5;
/// The longest pause after the first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(20);

/// Visits every page that can be reached from `/`.
fn crawl(server: SocketAddr, options: &Options, progress: &RefCell<Progress>) -> Vec<Visit> {
    let (at_once, limit) = (options.at_once, options.timeout);
    // A circle: the pool takes paths out, the loop puts links in. So the channel
    // has no bound; else the pool could wait for the loop to take a page, and
    // the loop for the pool to take a path.
    let (frontier, paths) = channel::unbounded();
    let mut known = HashSet::new();
    let mut note = |path: &str| {
        if known.insert(path.to_owned()) {
            let sent = frontier.send(path.to_owned());
            sent.expect("the channel is open while pages are to be visited");
        }
        known.len()
    };
    let mut found = note("/");

    let mut visits = Vec::new();
    let pool = Pool::new(at_once);
    for visit in pool.imap_unordered(paths, move |path| visit(server, path, limit)) {
        for link in visit.page.iter().flat_map(|page| &page.links) {
            found = note(link);
        }
        progress.borrow_mut().note(&visit, found);
        visits.push(visit);
        // Without a page on its way nobody finds a further one.
        if visits.len() == found {
            frontier.close();
        }
    }
    visits
}

/// Fetches a page, again and again while that may help.
fn visit(server: SocketAddr, path: String, limit: Duration) -> Visit {
    let start = Instant::now();
    let (mut attempts, mut timeouts) = (0, 0);
    let page = loop {
        attempts += 1;
        // Whatever `get` waits for when the time is up, it is interrupted there,
        // and its connection is closed on the way out.
        let fetched = time::timeout(limit, || client::get(server, &path));
        let fetched = fetched.unwrap_or_else(|elapsed| Err(elapsed.into()));
        match fetched {
            Ok(page) => break Ok(page),
            Err(error) => {
                timeouts += u32::from(error.kind() == ErrorKind::TimedOut);
                // A page that is not there will not be there the next time.
                if error.kind() == ErrorKind::NotFound || attempts == ATTEMPTS {
                    break Err(error);
                }
            }
        }
        thread::sleep(pause(attempts));
    };
    Visit {
        path,
        page,
        attempts,
        timeouts,
        time: start.elapsed(),
    }
}

/// What to wait after so many failures: anything from nothing to a time that
/// doubles with each. If all waited as long, all would come again at once.
fn pause(failures: u32) -> Duration {
    let longest = PAUSE * 2u32.pow(failures - 1);
    // std has no random numbers, but the keys of its hash tables are.
    let random = RandomState::new().hash_one(failures);
    longest.mul_f64(random as f64 / u64::MAX as f64)
}

/// Crawls the site and prints how it went. An error if a page was not found.
fn run(options: &Options) -> io::Result<()> {
    let server = site::start(options.pages)?;
    let progress = Rc::new(RefCell::new(Progress::default()));
    let shown = Rc::clone(&progress);
    let is_quiet = options.quiet || !io::stderr().is_terminal();
    let showing = (!is_quiet).then(|| thread::spawn(move || show_progress(&shown)));

    let start = Instant::now();
    let visits = crawl(server, options, &progress);
    let elapsed = start.elapsed();
    if let Some(showing) = showing {
        // It never ends by itself, so it ends by being cancelled.
        showing.cancel();
        let _cancelled = showing.join();
        report::clear_progress();
    }

    print_summary(&visits, elapsed);
    let pages = visits.iter().filter(|visit| visit.page.is_ok()).count();
    if pages == options.pages {
        return Ok(());
    }
    let sentence = format!("{pages} of {} pages were fetched", options.pages);
    Err(io::Error::other(sentence))
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|text| text.to_string_lossy().into_owned());
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(sentence) => {
            eprintln!("crawl: {sentence}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match runtime::Builder::new().run(|| run(&options)).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crawl: {error}");
            ExitCode::FAILURE
        }
    }
}
