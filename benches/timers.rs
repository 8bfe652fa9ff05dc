//! What deadlines cost when a million of them are armed: the hub's timer wheel by
//! itself, the very file.

#![deny(unsafe_code)]

mod arguments;
mod machine;
mod statistics;
#[allow(dead_code, unused_imports)] // It offers more than is measured, and has tests.
#[path = "../src/hub/timers.rs"]
mod timers;

use std::hint::black_box;
use std::process::ExitCode;

use arguments::Arguments;
use machine::{cpu_time, cpu_time_since, describe, getppid_nanoseconds, share_one_cpu};
use statistics::median;
use timers::Timers;

/// Nanoseconds for a deadline armed and cancelled, at 125 ns per `getppid`, where
/// the caches serve: a random one of a million is four lines that they do not have.
const GOAL: f64 = 20.0;
const YARDSTICK: f64 = 125.0;

const ROUNDS: usize = 9;

/// As of reads with a timeout: it is always as long, and they come one by one.
const TIMEOUT: u64 = 30_000_000_000;
const APART: u64 = 2_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("timers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["count"])?;
    if !arguments.select("timers") {
        return Ok(());
    }
    let usual = if arguments.quick() { 1000 } else { 1_000_000 };
    let count = arguments.value("count")?.unwrap_or(usual);
    let cpu = share_one_cpu(None).map_err(|error| error.to_string())?;
    println!("{count} deadlines; {}, CPU {cpu}", describe());
    println!("ns each, medians of {ROUNDS}                   getppid   goal, scaled");

    let in_order: Vec<u32> = (0..count).collect();
    let shuffled = shuffle(in_order.clone());
    let arm_all = |order: &[u32]| {
        let mut timers = Timers::new();
        timers.reserve(count as usize).expect("some memory");
        for (turn, &index) in order.iter().enumerate() {
            timers.arm(index, turn as u64 * APART + TIMEOUT);
        }
        timers
    };
    let row = |name: &str, goal: Option<f64>, measure: &dyn Fn() -> f64| {
        let samples: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| (measure() / f64::from(count), getppid_nanoseconds()))
            .collect();
        let each = median(samples.iter().map(|sample| sample.0));
        let yardstick = median(samples.iter().map(|sample| sample.1));
        print!("{name:<38} {each:>6.1} {yardstick:>8.1}");
        match goal {
            Some(goal) if !arguments.quick() => {
                let scaled = goal * yardstick / YARDSTICK;
                let verdict = if each <= scaled { "ok" } else { "NOT MET" };
                println!(" {scaled:>14.1} {verdict}");
            }
            _ => println!(),
        }
    };

    row("armed, cancelled, oldest first", Some(GOAL), &|| {
        nanoseconds(|| {
            let mut timers = arm_all(&in_order);
            for &index in &in_order {
                assert!(timers.cancel(index));
            }
        })
    });
    row("armed, cancelled, shuffled", None, &|| {
        nanoseconds(|| {
            let mut timers = arm_all(&in_order);
            for &index in &shuffled {
                assert!(timers.cancel(index));
            }
        })
    });
    row("one of them cancelled and armed", Some(GOAL), &|| {
        let mut timers = arm_all(&in_order);
        nanoseconds(|| {
            for turn in 0..u64::from(count) {
                assert!(timers.cancel(black_box(7)));
                timers.arm(7, turn * APART + TIMEOUT);
            }
        })
    });
    row("any of them cancelled and armed", None, &|| {
        let mut timers = arm_all(&in_order);
        nanoseconds(|| {
            for (turn, &index) in shuffled.iter().enumerate() {
                assert!(timers.cancel(index));
                timers.arm(index, (turn as u64 + u64::from(count)) * APART + TIMEOUT);
            }
        })
    });
    row("passed, one by one", None, &|| {
        let mut timers = arm_all(&shuffled);
        let mut passed = 0;
        let elapsed = nanoseconds(|| {
            while let Some(next) = timers.next() {
                timers.expire(next, |_| passed += 1);
            }
        });
        assert_eq!(passed, count);
        elapsed
    });
    row("passed, all at once", None, &|| {
        let mut timers = arm_all(&shuffled);
        let mut passed = 0;
        let elapsed = nanoseconds(|| timers.expire(u64::MAX / 2, |_| passed += 1));
        assert_eq!(passed, count);
        elapsed
    });
    Ok(())
}

fn nanoseconds(work: impl FnOnce()) -> f64 {
    let start = cpu_time();
    work();
    cpu_time_since(start).as_nanos() as f64
}

/// The same in a random order, always the same one.
fn shuffle(mut indices: Vec<u32>) -> Vec<u32> {
    let mut state = 1_u64;
    for last in (1..indices.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        indices.swap(last, (state >> 33) as usize % (last + 1));
    }
    indices
}
