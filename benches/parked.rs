//! What many green threads that wait cost: memory, mappings, and the time to
//! make and to wake them.

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
const BYTES_GOAL: f64 = 4.9 * 1024.0;

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
    let arguments = Arguments::read(&["count", "stack-size"])?;
    if !arguments.select("parked") {
        return Ok(());
    }
    let usual = if arguments.quick() { 1000 } else { 100_000 };
    let count = arguments.value("count")?.unwrap_or(usual);
    let stack_size = arguments.value("stack-size")?;
    let in_words = |error: io::Error| error.to_string();

    let cpu = share_one_cpu(None).map_err(in_words)?;
    println!(
        "{count} parked green threads; {}, CPU {cpu}; hub: {:?}, {}",
        describe(),
        runtime::backend(),
        runtime::backend_reason()
    );
    // The first green thread brings what all share.
    wake_and_join(park_all(1, stack_size).map_err(in_words)?);

    let before = Footprint::read().map_err(in_words)?;
    let start = cpu_time();
    let parked = park_all(count, stack_size).map_err(in_words)?;
    let creating = cpu_time_since(start);
    let during = Footprint::read().map_err(in_words)?;
    let start = cpu_time();
    wake_and_join(parked);
    let waking = cpu_time_since(start);
    let after = Footprint::read().map_err(in_words)?;

    let start = cpu_time();
    let parked = park_all(count, stack_size).map_err(in_words)?;
    let creating_again = cpu_time_since(start);
    let start = cpu_time();
    wake_and_join(parked);
    let waking_again = cpu_time_since(start);

    let each = |bytes: u64| bytes as f64 / count as f64;
    let resident = each(during.resident.saturating_sub(before.resident));
    let tables = each(during.page_tables.saturating_sub(before.page_tables));
    let mappings = each(during.mappings.saturating_sub(before.mappings));
    let nanoseconds = |time: Duration| time.as_nanos() as f64 / count as f64;
    println!("                      before    parked   after all have ended");
    println!(
        "resident, MB        {:>8.1}  {:>8.1}  {:>8.1}",
        megabytes(before.resident),
        megabytes(during.resident),
        megabytes(after.resident)
    );
    println!(
        "page tables, MB     {:>8.1}  {:>8.1}  {:>8.1}",
        megabytes(before.page_tables),
        megabytes(during.page_tables),
        megabytes(after.page_tables)
    );
    println!(
        "mappings            {:>8}  {:>8}  {:>8}",
        before.mappings, during.mappings, after.mappings
    );
    println!(
        "each: {resident:.0} B resident + {tables:.0} B of page tables = {:.0} B, {mappings:.4} mappings",
        resident + tables
    );
    println!(
        "each: made and parked in {:.0} ns, woken and joined in {:.0} ns; again: {:.0} ns, {:.0} ns \
         (getppid: {:.0} ns)",
        nanoseconds(creating),
        nanoseconds(waking),
        nanoseconds(creating_again),
        nanoseconds(waking_again),
        getppid_nanoseconds()
    );
    if arguments.quick() {
        return Ok(());
    }
    let verdict = |met: bool| if met { "ok" } else { "NOT MET" };
    println!(
        "goal: at most {BYTES_GOAL:.0} B each all told: {}",
        verdict(resident + tables <= BYTES_GOAL)
    );
    println!(
        "goal: no mapping per stack (Linux 6.13 and later): {}",
        verdict(mappings <= MAPPINGS_GOAL)
    );
    Ok(())
}

/// Makes green threads that wait with a little state of their own, and returns
/// when all of them do.
fn park_all(count: usize, stack_size: Option<usize>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut handles = Vec::with_capacity(count);
    for number in 0..count {
        let builder = match stack_size {
            Some(size) => Builder::new().stack_size(size),
            None => Builder::new(),
        };
        handles.push(builder.spawn(move || {
            let state = [number as u8; 64];
            thread::park();
            black_box(state);
        })?);
    }
    // Everybody who was spawned before runs before this one.
    let last = thread::spawn(|| {});
    last.join().expect("it does nothing");
    Ok(handles)
}

fn wake_and_join(handles: Vec<JoinHandle<()>>) {
    for handle in &handles {
        handle.thread().unpark();
    }
    for handle in handles {
        handle.join().expect("it only waited");
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
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
