//! `blocking`: closures on other OS threads, which the caller waits for.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use greenring::{blocking, thread, time};

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
