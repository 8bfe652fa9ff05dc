//! What happens to values, thread-locals and messages when an OS thread, a hub
//! or the process ends around them.

mod common;

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenring::runtime::{Backend, Builder};
use greenring::thread;

const SHORT: Duration = Duration::from_millis(2);

/// A value whose destructor waits.
struct WaitsInDrop(&'static AtomicUsize);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        thread::sleep(SHORT);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn backends() -> impl Iterator<Item = Backend> {
    [Backend::Uring, Backend::Epoll]
        .into_iter()
        .filter(|backend| common::is_available(*backend))
}

#[test]
fn the_result_of_a_detached_green_thread_may_wait_where_it_is_dropped() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    for (round, backend) in backends().enumerate() {
        // The hub ends before the green thread has run.
        let ended = Builder::new().backend(backend).run(|| {
            drop(thread::spawn(|| {
                thread::yield_now();
                WaitsInDrop(&DROPPED)
            }));
            thread::yield_now();
        });
        ended.unwrap();
        assert!(DROPPED.load(Ordering::Relaxed) <= round + 1);
        let ended = Builder::new().backend(backend).run(|| {
            // It has its result already, and waits while it drops it.
            drop(thread::spawn(|| WaitsInDrop(&DROPPED)));
            thread::yield_now();
        });
        ended.unwrap();
    }
    assert!(DROPPED.load(Ordering::Relaxed) >= backends().count());
}

#[test]
fn no_green_thread_goes_on_after_the_end_of_its_hub() {
    static RESUMED: AtomicBool = AtomicBool::new(false);
    static WAITED: AtomicBool = AtomicBool::new(false);

    struct WaitsAtTheEnd;
    impl Drop for WaitsAtTheEnd {
        fn drop(&mut self) {
            // Longer than the green thread sleeps: a loop would resume it.
            thread::sleep(10 * SHORT);
            WAITED.store(true, Ordering::Relaxed);
        }
    }
    std::thread_local! {
        static NAME: RefCell<String> = RefCell::new("alive".to_owned());
        static LAST: WaitsAtTheEnd = const { WaitsAtTheEnd };
    }

    let os_thread = std::thread::spawn(|| {
        // Used before there is a hub, so destroyed after the hub has ended.
        LAST.with(|_| ());
        thread::spawn(|| {
            NAME.with_borrow(|name| {
                thread::sleep(SHORT);
                RESUMED.store(true, Ordering::Relaxed);
                assert_eq!(name, "alive");
            });
        });
        thread::yield_now();
    });
    os_thread.join().unwrap();
    assert!(WAITED.load(Ordering::Relaxed));
    assert!(!RESUMED.load(Ordering::Relaxed));
}

#[test]
fn exit_on_a_green_thread_keeps_its_status() {
    struct WaitsAtTheEnd;
    impl Drop for WaitsAtTheEnd {
        fn drop(&mut self) {
            thread::sleep(SHORT);
        }
    }
    std::thread_local! {
        static LAST: WaitsAtTheEnd = const { WaitsAtTheEnd };
    }

    if common::is_child("exits") {
        let exits = thread::spawn(|| {
            LAST.with(|_| ());
            std::process::exit(3);
        });
        let _ = exits.join();
        unreachable!("the process has ended");
    }
    let test = "exit_on_a_green_thread_keeps_its_status";
    let child = common::child(test, "exits", []);
    assert_eq!(child.status.code(), Some(3), "{}", child.stderr);
}

#[test]
fn a_stderr_that_cannot_be_written_ends_nothing() {
    std::thread_local! {
        static WENT_ON: Cell<bool> = const { Cell::new(false) };
    }
    if common::is_child("full") {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        // SAFETY: plain system call; nobody else owns descriptor 2.
        assert_eq!(unsafe { libc::dup2(full.as_raw_fd(), 2) }, 2);

        let panicked = thread::spawn(|| panic!("on purpose")).join();
        assert!(panicked.is_err());

        // One that does not end in time is reported and abandoned.
        let ended = Builder::new().end_timeout(SHORT).run(|| {
            drop(thread::spawn(|| {
                struct Stubborn;
                impl Drop for Stubborn {
                    fn drop(&mut self) {
                        thread::park();
                    }
                }
                let _stubborn = Stubborn;
                thread::park();
            }));
            thread::yield_now();
        });
        // An idle hub was there from the first part.
        ended.unwrap();
        WENT_ON.set(true);
        std::process::exit(if WENT_ON.get() { 7 } else { 8 });
    }
    let test = "a_stderr_that_cannot_be_written_ends_nothing";
    let child = common::child(test, "full", []);
    assert_eq!(child.status.code(), Some(7), "{}", child.stderr);
}

/// A destructor of a thread-local of main's OS thread joins.
struct Joins(RefCell<Option<thread::JoinHandle<()>>>);

impl Drop for Joins {
    fn drop(&mut self) {
        // The kernel clears up behind main, so nobody has ended it; but nobody
        // runs it any more either.
        let result = self.0.take().expect("it was set").join();
        assert!(greenring::Cancelled::is(&result.unwrap_err()));
        common::end_with(9);
    }
}

#[test]
fn a_join_among_mains_last_destructors_does_not_wait_for_ever() {
    thread_local! {
        static JOINS: Joins = const { Joins(RefCell::new(None)) };
    }
    const TEST: &str = "a_join_among_mains_last_destructors_does_not_wait_for_ever";
    if common::is_child(TEST) {
        // The child of a fork has this OS thread for its main one.
        let code = common::forked(|| {
            JOINS.with(|_| ());
            let parked = thread::spawn(thread::park);
            thread::yield_now();
            JOINS.with(|joins| *joins.0.borrow_mut() = Some(parked));
            std::process::exit(3)
        });
        assert_eq!(code, 9, "the destructor has run to its end");
        return;
    }
    common::child_on_each_backend(TEST, TEST, &[], common::Child::assert_success);
}

/// A descriptor that the kernel has handed over when its green thread never
/// runs again.
#[test]
fn what_was_accepted_for_one_that_never_takes_it_is_closed() {
    const TEST: &str = "what_was_accepted_for_one_that_never_takes_it_is_closed";
    if common::is_child(TEST) {
        common::end_after(60);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let before = common::open_descriptors();
        for _ in 0..20 {
            let theirs = listener.try_clone().unwrap();
            let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            let client = std::thread::spawn(move || {
                let listener = greenring::net::TcpListener::from(theirs);
                thread::spawn(move || {
                    // If the root, which ends the hub, is resumed first, nobody
                    // takes it here.
                    drop(listener.accept());
                    thread::park();
                });
                let client = thread::spawn(move || {
                    // Both come while nobody looks: the root's byte first.
                    std::io::Write::write_all(&mut &other, b"x").unwrap();
                    std::net::TcpStream::connect(address).unwrap()
                });
                let mut one = greenring::net::TcpStream::from(std::os::fd::OwnedFd::from(one));
                std::io::Read::read_exact(&mut one, &mut [0]).unwrap();
                client.join().unwrap()
            });
            let mut client = client.join().unwrap();
            // Perhaps nobody has accepted it yet.
            listener.set_nonblocking(true).unwrap();
            drop(listener.accept());
            listener.set_nonblocking(false).unwrap();
            match std::io::Read::read(&mut client, &mut [0]) {
                Ok(count) => assert_eq!(count, 0),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
        // The listeners of the abandoned green threads are lost with them.
        assert_eq!(common::open_descriptors(), before + 20);
        return;
    }
    common::child_on_each_backend(TEST, TEST, &[], common::Child::assert_success);
}
