//! What many green threads that wait cost: memory, mappings, and the time to
//! make, wake, cancel and join them.

#![deny(unsafe_code)]

mod arguments;
mod machine;

use std::fs;
use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use arguments::Arguments;
use greenring::runtime;
use greenring::thread::{self, Builder, JoinHandle};
use machine::{cpu_time, cpu_time_since, describe, getppid_nanoseconds, share_one_cpu};

/// All told, each: a page of stack, its share of the page tables, the control
/// block, the record that the handle shares, and the handle.
const BYTES_GOAL: f64 = 4.75 * 1024.0;

/// The same on stacks of 64 KiB and less, four times as many of which share a
/// page of page tables.
const SMALL_BYTES_GOAL: f64 = 4.4 * 1024.0;
const SMALL_STACK: usize = 64 * 1024;

/// With guard pages that need no mapping of their own (Linux 6.13 and later)
/// the mappings are those of the arenas.
const MAPPINGS_GOAL: f64 = 0.01;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parked: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["count", "stack-size", "timeout"])?;
    if !arguments.select("parked") {
        return Ok(());
    }
    let usual = if arguments.quick() { 1000 } else { 100_000 };
    let count = arguments.value("count")?.unwrap_or(usual);
    let stack_size = arguments.value("stack-size")?;
    let timeout = arguments.value("timeout")?.map(Duration::from_secs);
    let in_words = |error: io::Error| error.to_string();

    let cpu = share_one_cpu(None).map_err(in_words)?;
    println!(
        "{count} parked green threads; {}, CPU {cpu}; hub: {:?}, {}",
        describe(),
        runtime::backend(),
        runtime::backend_reason()
    );
    // The first green thread brings what all share.
    let first = park_all(1, stack_size, timeout).map_err(in_words)?;
    wake_all(&first);
    join_all(first, Result::is_ok);

    let before = Footprint::read().map_err(in_words)?;
    let (parked, making) = timed(|| park_all(count, stack_size, timeout));
    let parked = parked.map_err(in_words)?;
    let during = Footprint::read().map_err(in_words)?;
    let ((), waking) = timed(|| wake_all(&parked));
    let ((), joining) = timed(|| join_all(parked, Result::is_ok));
    let after = Footprint::read().map_err(in_words)?;
    rest();
    let idle = Footprint::read().map_err(in_words)?;

    let (parked, making_again) = timed(|| park_all(count, stack_size, timeout));
    let parked = parked.map_err(in_words)?;
    let ((), cancelling) = timed(|| parked.iter().for_each(JoinHandle::cancel));
    let ((), joining_cancelled) = timed(|| join_all(parked, Result::is_err));
    let getppid = getppid_nanoseconds();

    let each = |bytes: u64| bytes as f64 / count as f64;
    let resident = each(during.resident.saturating_sub(before.resident));
    let tables = each(during.page_tables.saturating_sub(before.page_tables));
    let mappings = each(during.mappings.saturating_sub(before.mappings));
    println!("                      before    parked     ended   and idle");
    let print = |name: &str, read: fn(&Footprint) -> String| {
        let [before, during, after, idle] = [&before, &during, &after, &idle].map(read);
        println!("{name:<18}  {before:>8}  {during:>8}  {after:>8}  {idle:>8}");
    };
    print("resident, MB", |footprint| megabytes(footprint.resident));
    print("page tables, MB", |footprint| {
        megabytes(footprint.page_tables)
    });
    print("mappings", |footprint| footprint.mappings.to_string());
    println!(
        "each: {resident:.0} B resident + {tables:.0} B of page tables = {:.0} B, {mappings:.4} mappings",
        resident + tables
    );
    println!("each, ns of CPU time (getppid: {getppid:.0} ns):");
    let print = |name: &str, time: Duration| {
        println!(
            "  {name:<24} {:>6.0}",
            time.as_nanos() as f64 / count as f64
        );
    };
    print("made and parked", making);
    print("unparked", waking);
    print("run to the end, joined", joining);
    print("made and parked again", making_again);
    print("cancelled", cancelling);
    print("unwound, joined", joining_cancelled);
    if arguments.quick() {
        return Ok(());
    }
    let verdict = |met: bool| if met { "ok" } else { "NOT MET" };
    let goal = match stack_size {
        Some(..=SMALL_STACK) => SMALL_BYTES_GOAL,
        _ => BYTES_GOAL,
    };
    println!(
        "goal: at most {goal:.0} B each all told: {}",
        verdict(resident + tables <= goal)
    );
    println!(
        "goal: no mapping per stack (Linux 6.13 and later): {}",
        verdict(mappings <= MAPPINGS_GOAL)
    );
    Ok(())
}

/// Makes green threads that wait with a little state of their own, and with a
/// timeout if there is one, and returns when all of them do.
fn park_all(
    count: usize,
    stack_size: Option<usize>,
    timeout: Option<Duration>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut handles = Vec::with_capacity(count);
    for number in 0..count {
        let builder = match stack_size {
            Some(size) => Builder::new().stack_size(size),
            None => Builder::new(),
        };
        handles.push(builder.spawn(move || {
            let state = [number as u8; 64];
            match timeout {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
            black_box(state);
        })?);
    }
    // Everybody who was spawned before runs before this one.
    let last = thread::spawn(|| {});
    last.join().expect("it does nothing");
    Ok(handles)
}

fn wake_all(handles: &[JoinHandle<()>]) {
    for handle in handles {
        handle.thread().unpark();
    }
}

fn join_all(handles: Vec<JoinHandle<()>>, expected: fn(&thread::Result<()>) -> bool) {
    for handle in handles {
        assert!(expected(&handle.join()));
    }
}

/// Has nothing to do until the hub has returned what it does not need.
fn rest() {
    const FEW: usize = 16;
    for _ in 0..1000 {
        if runtime::stats().stacks_warm <= FEW {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let start = cpu_time();
    let result = work();
    (result, cpu_time_since(start))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// What the process holds.
struct Footprint {
    /// Bytes of memory in use (`VmRSS`).
    resident: u64,
    /// Bytes of page tables (`VmPTE`), which no resident size contains.
    page_tables: u64,
    /// Mappings, of which a process may have 65530 by default.
    mappings: u64,
}

impl Footprint {
    fn read() -> io::Result<Footprint> {
        // See proc_pid_status(5) and proc_pid_maps(5).
        let status = fs::read_to_string("/proc/self/status")?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next());
            value
                .and_then(|value| value.parse::<u64>().ok())
                .ok_or_else(|| io::Error::other(format!("no {name} in /proc/self/status")))
        };
        Ok(Footprint {
            resident: kilobytes("VmRSS:")? * 1024,
            page_tables: kilobytes("VmPTE:")? * 1024,
            mappings: fs::read_to_string("/proc/self/maps")?.lines().count() as u64,
        })
    }
}
