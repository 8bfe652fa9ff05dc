//! `GREENRING_WATCHDOG`: who holds a hub is reported, once, and nobody else.
//!
//! Nothing here sleeps until a report may have come: a child reads its own
//! stderr, and who is to be reported holds its hub until that has happened.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use greenring::runtime::Builder;
use greenring::thread::{self, JoinHandle};

use common::{Child, child_on_each_backend, end_after, forked, is_child};

const WATCHED: &[(&str, &str)] = &[("GREENRING_WATCHDOG", "50")];

/// This process's stderr as it is written, and on its way to the parent.
struct Reports {
    written: BufReader<PipeReader>,
    stderr: File,
}

impl Reports {
    fn capture() -> Reports {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: duplicates open descriptors; the first result is owned here,
        // the second call replaces stderr, which nobody owns.
        let stderr = unsafe {
            let stderr = File::from_raw_fd(libc::dup(2));
            assert_eq!(libc::dup2(writer.as_raw_fd(), 2), 2);
            stderr
        };
        Reports {
            written: BufReader::new(reader),
            stderr,
        }
    }

    /// Blocks the OS thread until the watchdog has reported something.
    fn next(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.written.read_line(&mut line).expect("a line");
            self.stderr.write_all(line.as_bytes()).expect("stderr");
            if line.contains("watchdog: ") {
                return line;
            }
        }
    }

    /// Asserts that nothing but `lines` was ever reported.
    fn assert_no_more(mut self) {
        eprintln!("the end");
        let mut line = String::new();
        self.written.read_line(&mut line).expect("a line");
        assert_eq!(line, "the end\n");
    }
}

fn named<T: 'static>(name: &str, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).expect("a stack")
}

/// Blocks an OS thread with a hub of its own, on a green thread, until told.
fn blocks_elsewhere(name: &'static str) -> impl FnOnce() {
    let (release, released) = mpsc::channel::<()>();
    let os_thread = std::thread::spawn(move || {
        named(name, move || released.recv().unwrap_err())
            .join()
            .unwrap();
    });
    move || {
        drop(release);
        os_thread.join().unwrap();
    }
}

#[test]
fn a_system_call_that_blocks_is_reported_once_with_who_makes_it() {
    const TEST: &str = "a_system_call_that_blocks_is_reported_once_with_who_makes_it";
    if is_child(TEST) {
        end_after(30);
        let mut reports = Reports::capture();
        Builder::new()
            .name("the root")
            .run(move || {
                let other = thread::spawn(thread::park);
                let first = named("first", move || {
                    reports.next();
                    // It goes on to block while another incident comes and goes.
                    let release = blocks_elsewhere("elsewhere");
                    reports.next();
                    release();
                    reports
                });
                let mut reports = first.join().unwrap();
                // Another incident of the same hub.
                let second = named("second", move || {
                    reports.next();
                    reports
                });
                second.join().unwrap().assert_no_more();
                other.thread().unpark();
            })
            .unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, WATCHED, |child| {
        child.assert_success();
        child.assert_says(&[
            "greenring: watchdog: green thread 'first' (id ",
            ", spawned at tests/watchdog.rs:",
            ") has held the hub of root 'the root' for ",
            " ms and blocks its OS thread in a system call or a lock: no other",
            "greenring: watchdog: green thread 'elsewhere' (id ",
            "greenring: watchdog: green thread 'second' (id ",
        ]);
        assert_eq!(child.stderr.matches("watchdog: ").count(), 3, "{child:?}");
    });
}

#[test]
fn a_computation_is_reported() {
    const TEST: &str = "a_computation_is_reported";
    if is_child(TEST) {
        end_after(30);
        let mut reports = Reports::capture();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let reader = std::thread::spawn(move || {
            reports.next();
            seen.store(true, Ordering::Release);
            reports
        });
        let computes = named("computes", move || {
            while !over.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
        });
        computes.join().unwrap();
        return reader.join().unwrap().assert_no_more();
    }
    child_on_each_backend(TEST, TEST, WATCHED, |child| {
        child.assert_success();
        child.assert_says(&["green thread 'computes' (id ", " ms and computes: no other"]);
    });
}

// HAZARDS: a std lock of a dependency that is held across a park.
#[test]
fn a_std_lock_held_by_one_that_waits_is_reported_with_who_waits_for_it() {
    const TEST: &str = "a_std_lock_held_by_one_that_waits_is_reported_with_who_waits_for_it";
    if is_child(TEST) {
        end_after(30);
        let mut reports = Reports::capture();
        std::thread::spawn(move || {
            reports.next();
            // Nothing else can end the deadlock.
            std::process::exit(0);
        });
        let mutex: &Mutex<()> = Box::leak(Box::default());
        let holder = named("holder", || {
            let _guard = mutex.lock().unwrap();
            thread::park();
        });
        let blocked = named("blocked", || drop(mutex.lock().unwrap()));
        holder.join().unwrap();
        blocked.join().unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, WATCHED, |child| {
        child.assert_success();
        child.assert_says(&["green thread 'blocked' (id ", "blocks its OS thread"]);
        assert!(!child.stderr.contains("'holder'"), "{child:?}");
    });
}

#[test]
fn a_root_is_reported_if_it_keeps_green_threads_waiting() {
    const TEST: &str = "a_root_is_reported_if_it_keeps_green_threads_waiting";
    if is_child(TEST) {
        end_after(30);
        let mut reports = Reports::capture();
        let root = Builder::new().name("the root");
        root.run(move || {
            thread::spawn(|| ()).join().unwrap();
            // Nobody waits for it yet.
            let release = blocks_elsewhere("elsewhere");
            reports.next();
            release();
            let waits = thread::spawn(|| ());
            reports.next();
            waits.join().unwrap();
            // From a wait's end, too.
            let parks = thread::spawn(thread::park);
            thread::yield_now();
            reports.next();
            parks.thread().unpark();
            parks.join().unwrap();
            reports.assert_no_more();
        })
        .unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, WATCHED, |child| {
        child.assert_success();
        child.assert_says(&[
            "green thread 'elsewhere' (id ",
            "watchdog: root 'the root' has held its hub for ",
            "watchdog: root 'the root' has held its hub for ",
        ]);
    });
}

#[test]
fn hubs_that_sleep_or_have_ended_or_have_no_green_threads_are_no_incidents() {
    const TEST: &str = "hubs_that_sleep_or_have_ended_or_have_no_green_threads_are_no_incidents";
    if is_child(TEST) {
        end_after(30);
        let mut reports = Reports::capture();
        // It sleeps until the end, with green threads.
        let (started, starts) = mpsc::channel();
        let here = std::thread::spawn(move || {
            named("parked", thread::park);
            let sleeps = named("sleeps", || thread::sleep(Duration::from_secs(3600)));
            thread::yield_now();
            // SAFETY: has no preconditions.
            started.send(unsafe { libc::gettid() }).unwrap();
            sleeps.join().unwrap();
        });
        common::until_asleep(starts.recv().unwrap());
        // Its green threads were cancelled, and it blocks at once.
        let (ended, ends) = mpsc::channel::<()>();
        let gone = std::thread::spawn(move || {
            Builder::new()
                .run(|| drop(named("cancelled", thread::park)))
                .unwrap();
            // One that is abandoned with its hub.
            ends.recv().unwrap_err();
        });
        thread::spawn(|| ()).join().unwrap();
        let release = blocks_elsewhere("elsewhere");
        reports.next();
        release();
        drop(ended);
        gone.join().unwrap();
        reports.assert_no_more();
        assert!(!here.is_finished());
        return;
    }
    child_on_each_backend(TEST, TEST, WATCHED, |child| {
        child.assert_success();
        child.assert_says(&["green thread 'elsewhere' (id "]);
    });
}

// gevent: test___monitor, no report of what yields.
#[test]
fn one_that_yields_is_not_reported_however_long_it_takes() {
    const TEST: &str = "one_that_yields_is_not_reported_however_long_it_takes";
    if is_child(TEST) {
        end_after(30);
        let reports = Reports::capture();
        let start = Instant::now();
        let yields = named("yields", move || {
            while start.elapsed() < Duration::from_millis(1500) {
                thread::yield_now();
            }
        });
        let sleeps = named("sleeps", move || {
            while start.elapsed() < Duration::from_millis(1500) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        yields.join().unwrap();
        sleeps.join().unwrap();
        return reports.assert_no_more();
    }
    child_on_each_backend(
        TEST,
        TEST,
        &[("GREENRING_WATCHDOG", "600")],
        Child::assert_success,
    );
}

#[test]
fn its_os_thread_is_nobody_who_could_end_a_wait() {
    const TEST: &str = "its_os_thread_is_nobody_who_could_end_a_wait";
    if is_child(TEST) {
        end_after(30);
        // Its only OS thread, but for the watchdog's.
        let code = forked(|| {
            let joined = catch_unwind(|| thread::spawn(thread::park).join());
            let text = joined.unwrap_err();
            let text = text.downcast_ref::<String>().expect("a sentence");
            assert!(text.contains("would last for ever"), "{text}");
            assert_eq!(common::os_threads(), 2);
            7
        });
        assert_eq!(code, 7);
        return;
    }
    child_on_each_backend(TEST, TEST, WATCHED, Child::assert_success);
}

#[test]
fn a_forked_child_of_a_watched_process_has_a_watchdog_of_its_own() {
    const TEST: &str = "a_forked_child_of_a_watched_process_has_a_watchdog_of_its_own";
    if is_child(TEST) {
        end_after(30);
        let mut reports = Reports::capture();
        let release = blocks_elsewhere("elsewhere");
        reports.next();
        let mut reports = Some(reports);
        // The parent's hub goes on to be blocked, for the parent.
        let code = forked(|| {
            let mut reports = reports.take().unwrap();
            let blocks = named("in the child", move || {
                assert!(reports.next().contains("'in the child'"));
                reports
            });
            blocks.join().unwrap().assert_no_more();
            8
        });
        assert_eq!(code, 8);
        release();
        // And with a hub of the forking OS thread that is left behind.
        let mut reports = reports.unwrap();
        let blocks = named("in the parent", move || {
            assert_eq!(forked(|| 9), 9);
            reports.next();
            reports
        });
        blocks.join().unwrap().assert_no_more();
        return;
    }
    child_on_each_backend(TEST, TEST, WATCHED, |child| {
        child.assert_success();
        child.assert_says(&["'elsewhere'", "'in the child'", "'in the parent'"]);
    });
}

#[test]
fn a_builder_may_ask_for_it_and_the_limit_is_checked() {
    const TEST: &str = "a_builder_may_ask_for_it_and_the_limit_is_checked";
    if is_child(TEST) {
        end_after(30);
        for limit in [Duration::from_micros(999), Duration::from_millis(3_600_001)] {
            let error = Builder::new().watchdog(limit).run(|| ()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains("runtime::Builder::watchdog"), "{text}");
            assert!(text.ends_with("1 to 3600000"), "{text}");
        }
        assert_eq!(common::os_threads(), 2, "this one's and the test harness's");
        let mut reports = Reports::capture();
        let watched = Builder::new().watchdog(Duration::from_millis(50));
        watched
            .run(|| {
                named("asked for", move || drop(reports.next()))
                    .join()
                    .unwrap()
            })
            .unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["green thread 'asked for' (id "]);
    });
}
