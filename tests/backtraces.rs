//! Backtraces of green threads: they name the callers, and they end.

mod common;

use std::backtrace::Backtrace;
use std::hint::black_box;

use common::{child_on_each_backend, is_child};
use greenring::thread;

#[inline(never)]
fn descend(depth: u32, end: fn() -> String) -> String {
    thread::yield_now();
    if depth > 0 {
        return black_box(descend(depth - 1, end));
    }
    end()
}

fn callers(backtrace: &str) -> usize {
    backtrace.matches("backtraces::descend").count()
}

both_backends! {
    fn a_captured_backtrace_names_the_callers_and_ends() {
        let end = || Backtrace::force_capture().to_string();
        let [short, long] = [3, 9].map(|depth| thread::spawn(move || descend(depth, end)));
        for (handle, expected) in [(short, 4), (long, 10)] {
            let text = handle.join().unwrap();
            assert_eq!(callers(&text), expected, "{text}");
            assert!(text.lines().count() < 300, "{text}");
        }
    }
}

#[test]
fn a_panic_prints_one_and_is_caught() {
    const TEST: &str = "a_panic_prints_one_and_is_caught";
    if is_child(TEST) {
        let handle = thread::spawn(|| descend(5, || panic!("on purpose")));
        assert!(handle.join().is_err());
        return;
    }
    child_on_each_backend(TEST, TEST, &[("RUST_BACKTRACE", "full")], |child| {
        child.assert_success();
        child.assert_says(&["on purpose"]);
        assert_eq!(callers(&child.stderr), 6, "{}", child.stderr);
    });
}
