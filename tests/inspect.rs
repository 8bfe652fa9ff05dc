//! What `inspect` says of green threads, in every state that they can be in.

mod common;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use greenring::inspect::{self, GreenThread, Snapshot, State};
use greenring::io::{Read, Write};
use greenring::thread::{self, JoinHandle, ThreadId};

use common::{Child, child_on_each_backend, connection, is_child};

/// Spawns a green thread with a name, and lets it run until it waits.
fn waiting<T: 'static>(name: &str, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let builder = thread::Builder::new().name(name.to_owned());
    let handle = builder.spawn(body).expect("a stack");
    thread::yield_now();
    handle
}

#[track_caller]
fn find(snapshot: &Snapshot, id: ThreadId) -> &GreenThread {
    let mut rows = snapshot.green_threads().iter();
    rows.find(|row| row.id() == id)
        .unwrap_or_else(|| panic!("no {id:?} in {snapshot}"))
}

both_backends! {
    fn each_state_is_told_with_what_it_waits_for() {
        let parks = waiting("parks", thread::park);
        let parked = parks.thread().clone();
        let parked_id = parked.id();
        let joins = waiting("joins", move || parks.join().unwrap());
        let (mut near, far) = connection();
        let fd = far.as_raw_fd();
        let reads = waiting("reads", move || {
            let mut far = far;
            far.read(&mut [0]).unwrap()
        });
        let sleeps = waiting("sleeps", || thread::sleep(Duration::from_millis(1)));
        let looks = thread::spawn(inspect::snapshot);
        let ready = thread::spawn(|| ());

        let of_root = inspect::snapshot();
        let root = of_root.root().unwrap();
        assert_eq!((root.state(), root.doing()), (State::Running, "running"));
        assert_eq!(root.id(), thread::current().id());
        assert_eq!((root.spawned_at(), root.stack_size()), (None, None));
        assert_eq!(find(&of_root, ready.thread().id()).state(), State::Ready);
        assert_eq!(of_root.green_threads().len(), 6, "{of_root}");

        let looks_id = looks.thread().id();
        let snapshot = looks.join().unwrap();
        let itself = find(&snapshot, looks_id);
        assert_eq!((itself.state(), itself.name()), (State::Running, None));
        assert_eq!(itself.since(), None);
        let root = snapshot.root().unwrap();
        let joined = format!("green thread 'unnamed' (id {})", number(looks_id));
        assert!(root.doing().ends_with(&joined), "{}", root.doing());

        let row = find(&snapshot, parked_id);
        assert_eq!((row.name(), row.state()), (Some("parks"), State::Parked));
        assert_eq!(row.doing(), "parked until it is unparked");
        assert!(row.spawned_at().unwrap().file().ends_with("tests/inspect.rs"));
        assert!(row.stack_used().unwrap() >= 4096);
        assert_eq!(row.stack_size(), Some(256 * 1024));
        assert_eq!(row.fd(), None);
        let row = find(&snapshot, joins.thread().id());
        let joined = format!("green thread 'parks' (id {})", number(parked_id));
        assert!(row.doing().ends_with(&joined), "{}", row.doing());
        let row = find(&snapshot, reads.thread().id());
        assert_eq!((row.state(), row.fd()), (State::Performing, Some(fd)));
        assert_eq!(row.doing(), format!("waits for recv on descriptor {fd}"));
        // It may have slept enough when the other one looked.
        assert_eq!(find(&of_root, sleeps.thread().id()).doing(), "sleeps");

        near.write_all(&[1]).unwrap();
        parked.unpark();
        assert_eq!(reads.join().unwrap(), 1);
        joins.join().unwrap();
        sleeps.join().unwrap();
        ready.join().unwrap();
        assert!(inspect::snapshot().green_threads().is_empty());
    }

    fn the_end_of_one_that_lives_elsewhere_is_named_by_its_id() {
        let (send, receive) = std::sync::mpsc::channel();
        let elsewhere = std::thread::spawn(move || {
            let parks = waiting("elsewhere", thread::park);
            let thread = parks.thread().clone();
            send.send((parks, thread.clone())).unwrap();
            // Here it lives; it ends when the other hub says so.
            while inspect::snapshot().green_threads().len() == 1 {
                thread::yield_now();
            }
        });
        let (parks, thread) = receive.recv().unwrap();
        let joins = waiting("joins", move || parks.join().unwrap());
        let snapshot = inspect::snapshot();
        let row = find(&snapshot, joins.thread().id());
        let joined = format!("the green thread with id {}", number(thread.id()));
        assert!(row.doing().ends_with(&joined), "{}", row.doing());
        thread.unpark();
        joins.join().unwrap();
        elsewhere.join().unwrap();
    }

    fn since_says_how_long_one_has_waited() {
        let start = Instant::now();
        let early = waiting("early", thread::park);
        thread::sleep(Duration::from_millis(100));
        let late = waiting("late", thread::park);
        let snapshot = inspect::snapshot();
        let elapsed = start.elapsed();
        let since = |handle: &JoinHandle<()>| find(&snapshot, handle.thread().id()).since();
        let (early_since, late_since) = (since(&early).unwrap(), since(&late).unwrap());
        // Two steps of the coarse clock.
        let step = Duration::from_millis(34);
        assert!(early_since + step >= Duration::from_millis(100), "{snapshot}");
        assert!(early_since <= elapsed + step, "{snapshot}");
        assert!(late_since + Duration::from_millis(66) <= early_since, "{snapshot}");
        // What the caller has slept counts for nobody who runs since.
        assert_eq!(snapshot.root().unwrap().since(), None);
        for handle in [early, late] {
            handle.thread().unpark();
            handle.join().unwrap();
        }
    }

    fn the_table_has_a_line_for_each() {
        let handles = [waiting("one", thread::park), waiting("two", thread::park)];
        let snapshot = inspect::snapshot();
        let table = snapshot.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert_eq!(lines[0], "2 green threads");
        assert!(lines[1].starts_with("  root '") && lines[1].ends_with("': running"), "{table}");
        let id = number(handles[1].thread().id());
        let begin = format!(
            "  green thread 'two' (id {id}): parked until it is unparked, spawned at tests/inspect.rs:"
        );
        assert!(lines[3].starts_with(&begin), "{table}");
        assert!(lines[3].contains(", stack used "), "{table}");
        let debug = format!("{snapshot:?}");
        assert!(debug.contains("state: Parked") && debug.contains("Some(\"two\")"), "{debug}");
        for handle in handles {
            handle.thread().unpark();
            handle.join().unwrap();
        }
    }

    fn a_large_hub_can_be_looked_at_from_within() {
        const CROWD: usize = 2000;
        let first = thread::spawn(thread::park);
        let unpark = first.thread().clone();
        let mut handles = vec![first];
        for _ in 0..CROWD {
            let last = handles.pop().unwrap();
            handles.push(thread::spawn(move || last.join().unwrap()));
        }
        thread::yield_now();
        let snapshot = thread::spawn(inspect::snapshot).join().unwrap();
        assert_eq!(snapshot.green_threads().len(), CROWD + 2);
        let joining = snapshot.green_threads().iter().filter(|row| {
            row.state() == State::Parked && row.doing().contains("green thread 'unnamed' (id ")
        });
        assert_eq!(joining.count(), CROWD);
        unpark.unpark();
        handles.pop().unwrap().join().unwrap();
    }
}

/// The number in an id.
fn number(id: ThreadId) -> String {
    let text = format!("{id:?}");
    text.trim_matches(|sign: char| !sign.is_ascii_digit())
        .to_owned()
}

#[test]
fn an_os_thread_without_a_hub_has_an_empty_snapshot_and_gets_no_hub() {
    let snapshot = inspect::snapshot();
    assert!(snapshot.root().is_none());
    assert!(snapshot.green_threads().is_empty());
    assert_eq!(snapshot.to_string(), "this OS thread has no hub");
    assert_eq!(greenring::runtime::stats().blocks, 0);
}

#[test]
fn print_writes_the_table_to_stderr() {
    const TEST: &str = "print_writes_the_table_to_stderr";
    if is_child(TEST) {
        inspect::print();
        let parks = waiting("parks", thread::park);
        inspect::print();
        parks.thread().unpark();
        return parks.join().unwrap();
    }
    child_on_each_backend(TEST, TEST, &[], |child: &Child| {
        child.assert_success();
        child.assert_says(&[
            "greenring: this OS thread has no hub\n",
            "greenring: 1 green thread\n  root '",
            "': running\n  green thread 'parks' (id ",
            "): parked until it is unparked, spawned at tests/inspect.rs:",
        ]);
    });
}
