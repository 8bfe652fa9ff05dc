//! `runtime::stats` and `GREENRING_TRACE`: what a hub counts of a known amount of
//! work, and what it says of it.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use greenring::io::{Read, Write};
use greenring::runtime::{self, Backend, Builder, Stats, stats};
use greenring::{blocking, thread};

use common::{
    child_on_each_backend, connection, end_after, forked, is_child, on_builder, until_asleep,
};

/// What `work` makes the hub count.
fn counted(work: impl FnOnce()) -> Stats {
    let before = stats();
    work();
    stats().since(&before)
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

// ----- counters ---------------------------------------------------------------------------

both_backends! {
    fn each_yield_is_a_switch() {
        const YIELDS: u64 = 1000;
        let work = counted(|| {
            let yields = || (0..YIELDS).for_each(|_| thread::yield_now());
            thread::spawn(yields).join().unwrap();
        });
        // And one to begin with.
        assert_eq!((work.switches, work.spawned), (YIELDS + 1, 1));
        // A turn has a budget of switches, and a crowd of one uses it up.
        assert!(work.turns >= YIELDS / 256, "{work}");
        assert!(work.switches_per_turn() > 1.0, "{work}");
        assert_eq!((work.submitted, work.direct, work.in_flight), (0, 0, 0));
    }

    fn the_high_water_marks_stay_where_the_flood_was() {
        const CROWD: usize = 300;
        let crowd: Vec<_> = (0..CROWD).map(|_| thread::spawn(|| ())).collect();
        assert_eq!((stats().ready, stats().live), (CROWD, CROWD));
        thread::join_all(crowd);
        let after = stats();
        assert_eq!((after.ready, after.live), (0, 0));
        assert_eq!((after.most_ready, after.most_live), (CROWD, CROWD));
        assert_eq!(after.blocks, CROWD + 1);
        // Each had a stack of 256 KiB unless the environment says something else.
        assert_eq!(after.stacks_pooled, CROWD);
        assert!(after.stacks_warm <= CROWD);
        assert!(after.stack_bytes >= CROWD * 16 * 1024, "{after}");
    }

    fn each_operation_is_submitted_or_done_at_once() {
        const ROUNDS: u64 = 100;
        let (mut near, mut far) = connection();
        let work = counted(|| {
            let echo = thread::spawn(move || {
                for _ in 0..ROUNDS {
                    let mut byte = [0];
                    assert_eq!(far.read(&mut byte).unwrap(), 1);
                    assert_eq!(far.write(&byte).unwrap(), 1);
                }
            });
            for _ in 0..ROUNDS {
                assert_eq!(near.write(&[1]).unwrap(), 1);
                assert_eq!(near.read(&mut [0]).unwrap(), 1);
            }
            echo.join().unwrap();
        });
        assert_eq!(work.submitted + work.direct, 4 * ROUNDS, "{work}");
        assert_eq!(work.completed, work.submitted, "{work}");
        assert_eq!((work.in_flight, work.discarded), (0, 0));
        assert!(work.operations_per_enter() > 0.0, "{work}");
        assert!(work.completions_per_enter() > 0.0, "{work}");
        match runtime::backend() {
            // What was queued was taken; the watch of the bell comes to that.
            Backend::Uring => assert!(work.entries >= work.submitted, "{work}"),
            _ => assert_eq!(work.entries, 0),
        }
    }

    fn deadlines_that_pass_and_those_that_do_not_are_counted() {
        const SLEEPERS: usize = 10;
        let work = counted(|| {
            let sleeps = || thread::sleep(Duration::from_millis(1));
            thread::join_all((0..SLEEPERS).map(|_| thread::spawn(sleeps)));
        });
        assert_eq!((work.timers_set, work.timers_fired), (10, 10));
        assert_eq!((work.timers_armed, work.most_timers_armed), (0, SLEEPERS));

        let (mut near, mut far) = connection();
        near.set_read_timeout(Some(Duration::from_secs(3600))).unwrap();
        let work = counted(|| {
            let reads = thread::spawn(move || near.read(&mut [0]).unwrap());
            until(|| stats().in_flight == 1);
            assert_eq!(stats().timers_armed, 1);
            far.write_all(&[1]).unwrap();
            reads.join().unwrap();
        });
        assert_eq!((work.timers_set, work.timers_fired), (1, 0));
        assert_eq!(work.timers_armed, 0);
    }

    fn what_other_os_threads_ask_is_mail_and_only_sleepers_are_rung() {
        let parks = thread::spawn(thread::park);
        let waits = parks.thread().clone();
        let here = nix::unistd::gettid().as_raw();
        let before = stats();
        let other = std::thread::spawn(move || {
            until_asleep(here);
            waits.unpark();
        });
        parks.join().unwrap();
        other.join().unwrap();
        let work = stats().since(&before);
        assert_eq!((work.mail, work.bell_rings), (1, 1), "{work}");
    }

    fn the_block_of_lines_has_a_line_for_each_subject() {
        let work = counted(|| thread::spawn(thread::yield_now).join().unwrap());
        let block = work.to_string();
        let subjects: Vec<_> = block.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(
            subjects,
            [
                "kernel",
                "operations",
                "queues",
                "readers",
                "loop",
                "green threads",
                "stacks",
                "timers",
                "other OS threads",
                "offload, in the process",
            ]
        );
        assert!(block.contains("of 2 switches"), "{block}");
        assert!(block.contains("1 spawned, 0 alive"), "{block}");
    }
}

both_backends_alone! {
    fn calls_on_other_os_threads_are_counted_for_the_process() {
        // More than the pool runs at once.
        const CALLS: usize = 70;
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let released = Arc::clone(&released);
                thread::spawn(move || {
                    blocking(move || released.lock().unwrap().recv().unwrap_err());
                })
            })
            .collect();
        until(|| stats().offload_running + stats().offload_queued == CALLS);
        until(|| stats().offload_running == 64);
        assert_eq!((stats().offload_queued, stats().most_offload), (CALLS - 64, CALLS));
        drop(release);
        thread::join_all(calls);
        // An OS thread tells the result before it counts itself idle.
        until(|| stats().offload_running == 0);
        assert_eq!((stats().offload_queued, stats().most_offload), (0, CALLS));
    }
}

#[test]
fn a_tiny_ring_tells_that_it_is_too_small() {
    const SOCKETS: usize = 100;
    for backend in [Backend::Uring, Backend::Epoll] {
        let builder = Builder::new().backend(backend).ring_entries(4);
        on_builder(builder, backend, || {
            let mut peers = Vec::new();
            let mut readers = Vec::new();
            for _ in 0..SOCKETS {
                let (near, mut far) = connection();
                peers.push(near);
                readers.push(thread::spawn(move || far.read_exact(&mut [0]).unwrap()));
            }
            let work = counted(|| {
                until(|| stats().in_flight == SOCKETS);
                // Not by way of the hub, which sees them all at once.
                for peer in &peers {
                    // SAFETY: the descriptor is open, and the byte outlives the call.
                    let sent =
                        unsafe { libc::send(peer.as_raw_fd(), [1_u8].as_ptr().cast(), 1, 0) };
                    assert_eq!(sent, 1);
                }
                thread::join_all(readers);
            });
            if backend == Backend::Uring {
                assert!(work.queue_full >= SOCKETS as u64 / 4 - 1, "{work}");
                assert!(work.overflows > 0, "{work}");
            } else {
                assert_eq!((work.queue_full, work.overflows), (0, 0));
            }
        });
    }
}

/// Runs `body` on hubs with so many buffers for readers, where the kernel chooses
/// from them.
fn with_buffers(buffers: u16, body: impl Fn()) {
    for backend in [Backend::Uring, Backend::Epoll] {
        let builder = Builder::new().backend(backend).reader_buffers(buffers);
        on_builder(builder, backend, || {
            let (near, far) = connection();
            (&far).write_all(&[1]).unwrap();
            let mut reader = near.reader();
            assert_eq!(reader.fill_buf().unwrap(), [1]);
            if stats().buffers == 0 {
                println!("{backend}: readers have buffers of their own");
                return;
            }
            drop(reader);
            drop((near, far));
            body();
            let after = stats();
            assert_eq!((after.buffers_lent, after.in_flight), (0, 0), "{after}");
            assert_eq!(after.readers, 0, "{after}");
        });
    }
}

#[test]
fn a_buffer_is_lent_until_it_is_consumed() {
    with_buffers(3, || {
        let (near, mut far) = connection();
        far.write_all(&[1; 10]).unwrap();
        let mut reader = near.reader();
        reader.fill_buf().unwrap();
        assert_eq!((stats().buffers_lent, stats().buffers), (1, 3));
        reader.consume(9);
        assert_eq!(stats().buffers_lent, 1);
        reader.consume(1);
        assert_eq!((stats().buffers_lent, stats().readers), (0, 1));
    });
}

#[test]
fn readers_that_find_no_buffer_are_counted() {
    with_buffers(1, || {
        let pairs: Vec<_> = (0..3).map(|_| connection()).collect();
        let mut readers: Vec<_> = pairs.iter().map(|(near, _)| near.reader()).collect();
        let work = counted(|| {
            for ((_, far), reader) in pairs.iter().zip(&mut readers) {
                { far }.write_all(&[3]).unwrap();
                assert_eq!(reader.fill_buf().unwrap(), [3]);
            }
        });
        assert_eq!((work.buffers_lent, work.held_back), (1, 0), "{work}");
        assert!(work.starved >= 2, "{work}");
    });
}

#[test]
fn a_reader_that_nobody_reads_is_held_back() {
    const LENGTH: usize = 4 << 20;
    with_buffers(1024, || {
        let (near, mut far) = connection();
        far.write_all(&[1]).unwrap();
        let mut reader = near.reader();
        reader.fill_buf().unwrap();
        let writes = thread::spawn(move || far.write_all(&vec![2; LENGTH]).unwrap());
        until(|| stats().held_back > 0);
        assert!(stats().buffers_lent > 1);
        assert!(!writes.is_finished());
        let mut left = 1 + LENGTH;
        while left > 0 {
            let length = reader.fill_buf().unwrap().len();
            reader.consume(length);
            left -= length;
        }
        writes.join().unwrap();
        assert_eq!(stats().starved, 0);
    });
}

#[test]
fn an_os_thread_without_a_hub_has_counted_nothing() {
    let bare = std::thread::spawn(stats).join().unwrap();
    assert_eq!(bare, Stats::default());
    assert_eq!(bare.operations_per_enter(), 0.0);
}

// ----- the trace --------------------------------------------------------------------------

const TRACED: &[(&str, &str)] = &[("GREENRING_TRACE", "20")];

/// Counts the lines of the trace on this process's stderr, on their way to the
/// parent.
struct TraceLines {
    count: Arc<AtomicUsize>,
    stderr: File,
    counts: Option<std::thread::JoinHandle<()>>,
}

impl TraceLines {
    fn count() -> TraceLines {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: duplicates an open descriptor, which is owned here.
        let stderr = unsafe { File::from_raw_fd(libc::dup(2)) };
        // SAFETY: replaces stderr, which nobody owns.
        assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 2) }, 2);
        let count = Arc::new(AtomicUsize::new(0));
        let lines = Arc::clone(&count);
        let mut on = stderr.try_clone().expect("a descriptor");
        let counts = std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let line = line.expect("a line");
                std::io::Write::write_all(&mut on, format!("{line}\n").as_bytes()).expect("stderr");
                if line.contains("greenring: trace: ") {
                    lines.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        TraceLines {
            count,
            stderr,
            counts: Some(counts),
        }
    }

    /// Lets others run until there are so many lines.
    fn wait_for(&self, lines: usize) -> impl FnOnce() + use<> {
        let count = Arc::clone(&self.count);
        move || until(|| count.load(Ordering::SeqCst) >= lines)
    }
}

impl Drop for TraceLines {
    fn drop(&mut self) {
        // SAFETY: as above. This closes the last end that is written to.
        unsafe { libc::dup2(self.stderr.as_raw_fd(), 2) };
        if let Some(counts) = self.counts.take() {
            let _ = counts.join();
        }
    }
}

fn trace_lines(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines();
    lines
        .filter(|line| line.starts_with("greenring: trace: "))
        .collect()
}

#[test]
fn a_busy_hub_says_what_it_does_again_and_again() {
    const TEST: &str = "a_busy_hub_says_what_it_does_again_and_again";
    if is_child(TEST) {
        end_after(30);
        let lines = TraceLines::count();
        let work = lines.wait_for(3);
        Builder::new()
            .name("busy")
            .run(|| {
                let yields = thread::spawn(work);
                thread::spawn(|| thread::sleep(Duration::ZERO))
                    .join()
                    .unwrap();
                yields.join().unwrap();
            })
            .unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, TRACED, |child| {
        child.assert_success();
        let lines = trace_lines(&child.stderr);
        assert!(lines.len() >= 3, "{child:#?}");
        for line in lines {
            assert!(
                line.starts_with("greenring: trace: root 'busy' (OS thread "),
                "{line}"
            );
            for part in [
                " s, CPU ",
                "switches/s ",
                "SQEs/enter ",
                "ready at most ",
                "offload 0+0",
            ] {
                assert!(line.contains(part), "{part:?} in {line}");
            }
            assert!(!line.contains("switches/s 0,"), "{line}");
        }
    });
}

#[test]
fn a_hub_that_sleeps_is_not_woken_to_say_so() {
    const TEST: &str = "a_hub_that_sleeps_is_not_woken_to_say_so";
    const LONG: Duration = Duration::from_millis(400);
    if is_child(TEST) {
        end_after(30);
        let begin = Instant::now();
        // Twenty intervals.
        let sleeps = || counted(|| thread::sleep(LONG));
        let work = Builder::new().run(sleeps).unwrap();
        assert!(begin.elapsed() >= LONG);
        // One for the deadline, and a few on its way through the wheel.
        assert!(work.turns <= 6, "{work}");
        return;
    }
    child_on_each_backend(TEST, TEST, TRACED, |child| {
        child.assert_success();
        let lines = trace_lines(&child.stderr);
        // For all of it, when the deadline has passed.
        assert_eq!(lines.len(), 1, "{child:#?}");
        assert!(!lines[0].contains("): 0.0"), "{}", lines[0]);
    });
}

#[test]
fn a_traced_hub_in_which_nothing_can_go_on_still_says_so() {
    const TEST: &str = "a_traced_hub_in_which_nothing_can_go_on_still_says_so";
    if is_child(TEST) {
        // A test has other OS threads beside it, a forked child has none.
        let code = forked(|| {
            thread::spawn(thread::yield_now).join().unwrap();
            thread::park();
            0
        });
        assert_eq!(code, 101);
        return;
    }
    child_on_each_backend(TEST, TEST, &[("GREENRING_TRACE", "1")], |child| {
        child.assert_success();
        child.assert_says(&["this wait would last for ever"]);
    });
}

#[test]
fn code_asks_for_a_trace_and_silence_is_the_default() {
    const TEST: &str = "code_asks_for_a_trace_and_silence_is_the_default";
    if is_child(TEST) {
        end_after(30);
        let lines = TraceLines::count();
        Builder::new()
            .name("silent")
            .run(|| counted(|| thread::sleep(Duration::from_millis(5))))
            .unwrap();
        let traced = Builder::new().name("asked").trace(Duration::from_millis(1));
        let said = lines.wait_for(1);
        traced.run(|| thread::spawn(said).join().unwrap()).unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["greenring: trace: root 'asked' (OS thread "]);
        assert!(!child.stderr.contains("'silent'"), "{child:#?}");
    });
}
