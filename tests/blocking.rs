//! `blocking`: closures on other OS threads, which the caller waits for.

mod common;

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use greenring::{blocking, thread, time};

use common::{child_on_each_backend, end_after, is_child, net, open_descriptors};

both_backends! {
    fn siblings_go_on_while_a_closure_blocks() {
        let (release, released) = mpsc::channel();
        let releases = thread::spawn(move || release.send("released").unwrap());
        // It runs only if the caller parks.
        let told = blocking(move || released.recv().unwrap());
        assert_eq!(told, "released");
        releases.join().unwrap();
    }

    fn a_panic_comes_back() {
        let panic = std::panic::catch_unwind(|| {
            blocking(|| std::panic::resume_unwind(Box::new("on purpose")))
        });
        assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    }

    fn a_cancelled_caller_gets_the_result_and_is_cancelled_at_its_next_wait() {
        let (started, starts) = greenring::sync::mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (got, gets) = mpsc::channel();
        let caller = thread::spawn(move || {
            let borrowed = 7;
            let lent = &borrowed;
            let result = blocking(move || {
                started.send(()).unwrap();
                released.recv().unwrap();
                lent + 1
            });
            got.send(result).unwrap();
            thread::yield_now();
            unreachable!("the cancel has waited until here");
        });
        starts.recv().unwrap();
        caller.cancel();
        thread::yield_now();
        assert!(!caller.is_finished(), "it waits for what borrows from it");
        release.send(()).unwrap();
        let payload = caller.join().unwrap_err();
        assert!(greenring::Cancelled::is(&payload));
        assert_eq!(gets.recv().unwrap(), 8);
    }

    fn a_time_limit_waits_for_the_closure_too() {
        let result = time::timeout(Duration::from_millis(1), || {
            blocking(|| std::thread::sleep(Duration::from_millis(20)));
            greenring::sleep(Duration::from_secs(60));
        });
        result.unwrap_err();
    }

    fn nested_calls_end_however_many_there_are() {
        let callers: Vec<_> = (0..200)
            .map(|n| thread::spawn(move || blocking(move || blocking(move || blocking(move || n)))))
            .collect();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.join().unwrap(), n);
        }
    }
}

/// Says when it is destroyed.
struct Tells(RefCell<Option<mpsc::Sender<&'static str>>>, &'static str);

impl Drop for Tells {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            to.send(self.1).unwrap();
        }
    }
}

thread_local! {
    static BEFORE: Tells = const { Tells(RefCell::new(None), "borrowed value destroyed") };
    static AFTER: Tells = const { Tells(RefCell::new(None), "OS thread ends") };
}

#[test]
fn an_os_thread_that_ends_waits_for_what_borrows_from_its_values() {
    const TEST: &str = "an_os_thread_that_ends_waits_for_what_borrows_from_its_values";
    if is_child(TEST) {
        end_after(60);
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let os_thread = std::thread::spawn(move || {
            // Destroyed after the hub has ended.
            BEFORE.with(|before| before.0.replace(Some(tell.clone())));
            let tells = tell.clone();
            greenring::spawn(move || {
                BEFORE.with(|_borrowed| {
                    blocking(move || {
                        tells.send("closure runs").unwrap();
                        released.recv().unwrap();
                        tells.send("closure ends").unwrap();
                    });
                });
            });
            // Destroyed before the hub ends.
            AFTER.with(|after| after.0.replace(Some(tell)));
            thread::yield_now();
        });
        let mut order = vec![told.recv().unwrap(), told.recv().unwrap()];
        order.sort_unstable();
        assert_eq!(order, ["OS thread ends", "closure runs"]);
        release.send(()).unwrap();
        let order: Vec<_> = told.iter().collect();
        assert_eq!(order, ["closure ends", "borrowed value destroyed"]);
        os_thread.join().unwrap();
        eprintln!("in this order");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["in this order"]);
    });
}

#[test]
fn a_file_that_is_opened_for_somebody_abandoned_is_closed() {
    const TEST: &str = "a_file_that_is_opened_for_somebody_abandoned_is_closed";
    if is_child(TEST) {
        end_after(60);
        let before = open_descriptors();
        for round in 0..200 {
            let opens = move || {
                greenring::spawn(move || {
                    let file = greenring::fs::OpenOptions::new()
                        .append(round % 2 == 0)
                        .read(true)
                        .open("Cargo.toml");
                    drop(file);
                });
                thread::yield_now();
            };
            std::thread::spawn(opens).join().unwrap();
        }
        net::wait_until(|| open_descriptors() == before);
        eprintln!("all are closed");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["all are closed"]);
    });
}
