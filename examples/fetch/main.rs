//! Porting a blocking program is changing its imports.
//!
//! `client.rs` is a small HTTP client, compiled twice: for std, where each
//! fetch has an OS thread, and for greenring, where each has a green thread and
//! all share one OS thread.
//!
//! ```text
//! cargo run --release --example fetch
//! cargo run --release --example fetch http://example.com/ http://example.org/
//! ```

// The same file twice is the point.
#![allow(clippy::duplicate_mod)]

#[path = ""]
mod with_std {
    use std as rt;

    pub mod client;
}

#[path = ""]
mod with_greenring {
    use greenring as rt;

    pub mod client;
}

mod server;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use greenring::runtime;

/// URLs that are fetched if none is given.
const URLS: usize = 200;

const HELP: &str = "\
Fetches URLs all at once, first with an OS thread for each, then with a green
thread for each, and compares.

  fetch               200 URLs of a server in this process
  fetch URL...        these, which begin with http://
";

type Bodies = Vec<io::Result<Vec<u8>>>;

/// Fetches all, while one more OS thread watches: how long it takes, and how
/// many OS threads it takes at most beside those that were there.
fn watch(fetch_all: impl FnOnce() -> Bodies) -> io::Result<(Bodies, Duration, usize)> {
    let over = AtomicBool::new(false);
    let before = os_threads()? + 1;
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = before;
            while !over.load(Ordering::Relaxed) {
                most = most.max(os_threads()?);
                thread::sleep(Duration::from_millis(2));
            }
            io::Result::Ok(most - before)
        });
        let start = Instant::now();
        let bodies = fetch_all();
        let time = start.elapsed();
        over.store(true, Ordering::Relaxed);
        let most = watcher.join().expect("the watcher does not panic")?;
        Ok((bodies, time, most))
    })
}

/// OS threads of this process, proc(5).
fn os_threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

fn compare(urls: &[String]) -> io::Result<bool> {
    let (std_bodies, std_time, std_threads) = watch(|| with_std::client::fetch_all(urls))?;
    let (bodies, time, threads) = watch(|| with_greenring::client::fetch_all(urls))?;

    // The two lines above, as they stand there.
    let source = include_str!("main.rs").lines().map(str::trim);
    let imports = source.filter(|line| line.starts_with("use ") && line.ends_with(" as rt;"));
    println!("{:<22} {:>9}  OS threads for it", "client.rs with", "time");
    for (import, (time, threads)) in imports.zip([(std_time, std_threads), (time, threads)]) {
        let time = format!("{time:.1?}");
        println!("{import:<22} {time:>9}  {threads}");
    }
    let (backend, reason) = (runtime::backend(), runtime::backend_reason());
    println!("\ngreenring's backend is {backend}: {reason}");

    let mut good = 0;
    for ((url, one), other) in urls.iter().zip(std_bodies).zip(bodies) {
        match (one, other) {
            (Ok(one), Ok(other)) if one == other => good += 1,
            (Ok(one), Ok(other)) => {
                eprintln!(
                    "{url}: bodies of {} and {} bytes differ",
                    one.len(),
                    other.len()
                );
            }
            (one, other) => {
                for (name, result) in [("std", one), ("greenring", other)] {
                    if let Err(error) = result {
                        eprintln!("with {name}: {error}");
                    }
                }
            }
        }
    }
    println!("{good} of {} bodies are equal", urls.len());
    Ok(good == urls.len())
}

fn run(mut urls: Vec<String>) -> io::Result<bool> {
    if urls.is_empty() {
        let address = server::start()?;
        urls.extend((0..URLS).map(|n| format!("http://{address}/{n}")));
        println!(
            "{URLS} URLs of a server that answers after {:?}; one by one they would take {:?}\n",
            server::DELAY,
            server::DELAY * URLS as u32
        );
    }
    compare(&urls)
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let urls: Vec<_> = arguments
        .map(|text| text.to_string_lossy().into_owned())
        .collect();
    if urls.iter().any(|url| url == "--help" || url == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    for url in &urls {
        if let Err(error) = with_std::client::split_url(url) {
            eprintln!("fetch: {url:?} cannot be fetched: {error}");
            return ExitCode::from(2);
        }
    }
    match run(urls) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fetch: {error}");
            ExitCode::FAILURE
        }
    }
}
