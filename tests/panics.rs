//! Panics of green threads: what is said, who sees it, and that everything
//! else goes on; on both backends.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use greenring::runtime::stats;
use greenring::thread;

use common::{child_on_each_backend, connection, end_after, is_child};

/// Calls a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The text of a panic's payload.
fn text(payload: Box<dyn std::any::Any + Send>) -> &'static str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .expect("a plain text")
}

// ----- what stands on stderr ------------------------------------------------------

#[test]
fn a_panic_is_told_under_the_green_threads_name() {
    const TEST: &str = "a_panic_is_told_under_the_green_threads_name";
    if is_child(TEST) {
        end_after(60);
        let worker = thread::Builder::new().name("worker-3".to_owned());
        let line = line!() + 1;
        let worker = worker.spawn(|| panic!("of the worker"));
        eprintln!("spawned in line {line}");
        assert_eq!(text(worker.unwrap().join().unwrap_err()), "of the worker");
        thread::spawn(|| panic!("of a nameless one"))
            .join()
            .unwrap_err();
        eprintln!("now the root:");
        let root = catch_unwind(|| panic!("of the root")).unwrap_err();
        assert_eq!(text(root), "of the root");
        std::thread::spawn(|| panic!("of an OS thread"))
            .join()
            .unwrap_err();
        eprintln!("that was all");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        let (_, line) = child.stderr.split_once("spawned in line ").unwrap();
        let line = line.lines().next().unwrap();
        child.assert_says(&[
            &format!("green thread 'worker-3', spawned at tests/panics.rs:{line}:"),
            ", panics:\n",
            "panicked at tests/panics.rs:",
            "of the worker\n",
            "green thread 'unnamed', spawned at tests/panics.rs:",
            "of a nameless one\n",
            "now the root:\n",
            "of the root\n",
            "of an OS thread\n",
            "that was all\n",
        ]);
        let (_, after) = child.stderr.split_once("now the root:").unwrap();
        assert!(!after.contains("green thread"), "{child:#?}");
        assert_eq!(
            child.stderr.matches("green thread '").count(),
            2,
            "{child:#?}"
        );
    });
}

#[test]
fn the_line_stands_before_what_the_programs_own_hook_says() {
    const TEST: &str = "the_line_stands_before_what_the_programs_own_hook_says";
    if is_child(TEST) {
        end_after(60);
        panic::set_hook(Box::new(|info| {
            let text = info.payload_as_str().unwrap_or("no text");
            eprintln!("the program's hook: {text}");
        }));
        thread::spawn(|| panic!("one")).join().unwrap_err();
        thread::spawn(|| panic!("two")).join().unwrap_err();
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&[
            "green thread 'unnamed'",
            "the program's hook: one\n",
            "green thread 'unnamed'",
            "the program's hook: two\n",
        ]);
        assert!(!child.stderr.contains("panicked at"), "{child:#?}");
        assert_eq!(child.stderr.matches("spawned at").count(), 2, "{child:#?}");
    });
}

#[test]
fn cancellation_and_resumed_panics_say_nothing() {
    const TEST: &str = "cancellation_and_resumed_panics_say_nothing";
    if is_child(TEST) {
        end_after(60);
        let run = greenring::runtime::Builder::new().run(|| {
            thread::spawn(thread::park);
            thread::spawn(|| panic::resume_unwind(Box::new(1)));
            thread::yield_now();
        });
        run.unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        assert!(!child.stderr.contains("panic"), "{child:#?}");
    });
}

// ----- unwinding and waiting ---------------------------------------------------------

both_backends! {
    fn a_destructor_may_wait_while_it_unwinds() {
        let log: Rc<RefCell<Vec<&str>>> = Rc::default();
        let theirs = Rc::clone(&log);
        let handle = thread::spawn(move || {
            let (mut near, far) = connection();
            let log = Rc::clone(&theirs);
            let _waits = OnDrop(move || {
                log.borrow_mut().push("unwinds");
                thread::yield_now();
                thread::sleep(Duration::from_millis(1));
                let mut far = far.try_clone().unwrap();
                let sender = thread::spawn(move || far.write_all(b"x").unwrap());
                near.read_exact(&mut [0]).unwrap();
                sender.join().unwrap();
                log.borrow_mut().push("has waited");
            });
            let log = Rc::clone(&theirs);
            let _earlier = OnDrop(move || log.borrow_mut().push("first"));
            panic!("the original");
        });
        assert_eq!(text(handle.join().unwrap_err()), "the original");
        assert_eq!(*log.borrow(), ["first", "unwinds", "has waited"]);
        assert!(!std::thread::panicking());
    }

    fn siblings_go_on_while_one_waits_in_the_middle_of_unwinding() {
        let release = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&release);
        let unwinding = thread::spawn(move || {
            let _waits = OnDrop(|| {
                while !theirs.get() {
                    thread::park();
                }
            });
            panic!("of the one that waits");
        });
        thread::yield_now();
        assert!(!unwinding.is_finished());
        // As documented: std counts panics by OS thread.
        assert!(std::thread::panicking());
        // A sibling computes, sleeps, does I/O, joins, and panics itself.
        let sibling = thread::spawn(|| {
            let (mut near, mut far) = connection();
            thread::sleep(Duration::from_millis(1));
            let reader = thread::spawn(move || {
                let mut buffer = [0; 4];
                far.read_exact(&mut buffer).unwrap();
                buffer
            });
            thread::yield_now();
            near.write_all(b"ping").unwrap();
            assert_eq!(&reader.join().unwrap(), b"ping");
            let inner = thread::spawn(|| panic!("of an inner one"));
            assert_eq!(text(inner.join().unwrap_err()), "of an inner one");
            let caught = catch_unwind(|| panic!("caught"));
            assert_eq!(text(caught.unwrap_err()), "caught");
            panic!("of the sibling");
        });
        assert_eq!(text(sibling.join().unwrap_err()), "of the sibling");
        assert!(!unwinding.is_finished());
        release.set(true);
        unwinding.thread().unpark();
        assert_eq!(text(unwinding.join().unwrap_err()), "of the one that waits");
        assert!(!std::thread::panicking());
        // And a lock that is used now is not poisoned.
        let lock = Mutex::new(1);
        drop(lock.lock().unwrap());
        assert!(!lock.is_poisoned());
    }

    fn several_wait_in_the_middle_of_unwinding_at_once() {
        let order: Rc<RefCell<Vec<usize>>> = Rc::default();
        let handles: Vec<_> = (0..5)
            .map(|n| {
                let order = Rc::clone(&order);
                thread::spawn(move || {
                    let _waits = OnDrop(move || {
                        thread::park();
                        order.borrow_mut().push(n);
                    });
                    panic::panic_any(n);
                })
            })
            .collect();
        thread::yield_now();
        // Not in the order in which they began.
        for n in [2, 0, 4, 1, 3] {
            handles[n].thread().unpark();
            thread::yield_now();
        }
        assert_eq!(*order.borrow(), [2, 0, 4, 1, 3]);
        for (n, handle) in handles.into_iter().enumerate() {
            let payload = handle.join().unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&n));
        }
        assert!(!std::thread::panicking());
    }

    fn what_is_caught_stays_in_the_green_thread() {
        let handle = thread::spawn(|| {
            for round in 0..3 {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    thread::yield_now();
                    panic::panic_any(round);
                }));
                assert_eq!(caught.unwrap_err().downcast_ref(), Some(&round));
                assert!(!std::thread::panicking());
                thread::yield_now();
            }
            "fine"
        });
        let sibling = thread::spawn(|| {
            for _ in 0..10 {
                thread::yield_now();
            }
        });
        assert_eq!(handle.join().unwrap(), "fine");
        sibling.join().unwrap();
    }

    fn a_panic_in_a_destructor_of_a_capture_comes_back() {
        let captured = OnDrop(|| panic!("of a capture"));
        let handle = thread::spawn(move || {
            let _captured = &captured;
            thread::yield_now();
        });
        assert_eq!(text(handle.join().unwrap_err()), "of a capture");
        let local = thread::spawn(|| {
            let _local = OnDrop(|| panic!("of a local"));
        });
        assert_eq!(text(local.join().unwrap_err()), "of a local");
        assert_eq!(stats().live, 0);
    }

    fn the_root_may_panic_while_green_threads_wait() {
        let handle = thread::spawn(thread::park);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            // It waits in the middle of unwinding too.
            let _waits = OnDrop(|| thread::spawn(thread::yield_now).join().unwrap());
            thread::yield_now();
            panic!("of the root");
        }));
        assert_eq!(text(caught.unwrap_err()), "of the root");
        handle.thread().unpark();
        handle.join().unwrap();
    }

    fn a_thousand_panics_leave_nothing_behind() {
        for round in 0..10 {
            let handles: Vec<_> = (0..100)
                .map(|n| {
                    thread::spawn(move || {
                        thread::yield_now();
                        panic::panic_any(n);
                    })
                })
                .collect();
            for (n, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.join().unwrap_err().downcast_ref(), Some(&(n as i32)));
            }
            assert_eq!((stats().live, stats().blocks), (0, 101), "in round {round}");
        }
    }
}
