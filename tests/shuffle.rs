//! `GREENRING_SHUFFLE`: ready green threads in a random order that replays.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use greenring::thread;

use common::{Child, child_on_each_backend, is_child};

/// The order in which 50 green threads run, and run again when unparked.
fn order() -> Vec<usize> {
    let log: Rc<RefCell<Vec<usize>>> = Rc::default();
    let handles: Vec<_> = (0..50)
        .map(|n| {
            let log = Rc::clone(&log);
            thread::spawn(move || {
                log.borrow_mut().push(n);
                thread::park();
                log.borrow_mut().push(n);
            })
        })
        .collect();
    thread::yield_now();
    // Everybody had a turn, as `yield_now` promises in any order.
    assert_eq!(log.borrow().len(), 50);
    for handle in &handles {
        handle.thread().unpark();
    }
    for handle in handles {
        handle.join().unwrap();
    }
    log.take()
}

fn print_order() {
    eprintln!("order: {:?}", order());
    // Another hub of the same process begins with the same seed.
    let again = std::thread::spawn(order).join().unwrap();
    eprintln!("again: {again:?}");
}

#[track_caller]
fn orders(child: &Child) -> [String; 2] {
    child.assert_success();
    ["order: ", "again: "].map(|prefix| {
        let line = child
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix(prefix));
        line.unwrap_or_else(|| panic!("{child:#?}")).to_owned()
    })
}

#[test]
fn a_seed_gives_an_order_that_replays_and_another_seed_another() {
    const TEST: &str = "a_seed_gives_an_order_that_replays_and_another_seed_another";
    if is_child(TEST) {
        return print_order();
    }
    let seen = RefCell::new(Vec::new());
    for seed in ["1", "2", "18446744073709551615", "1"] {
        child_on_each_backend(TEST, TEST, &[("GREENRING_SHUFFLE", seed)], |child| {
            let [order, again] = orders(child);
            assert_eq!(order, again);
            seen.borrow_mut().push((seed, order));
        });
    }
    let seen = seen.into_inner();
    for (seed, order) in &seen {
        for (other_seed, other) in &seen {
            assert_eq!(seed == other_seed, order == other, "{seed} {other_seed}");
        }
    }
}

#[test]
fn without_a_seed_the_order_is_first_in_first_out() {
    const TEST: &str = "without_a_seed_the_order_is_first_in_first_out";
    if is_child(TEST) {
        if common::is_shuffled() {
            return;
        }
        let in_order: Vec<usize> = (0..50).chain(0..50).collect();
        return assert_eq!(order(), in_order);
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

#[test]
fn a_bad_seed_is_refused_by_name() {
    const TEST: &str = "a_bad_seed_is_refused_by_name";
    if is_child(TEST) {
        let error = greenring::runtime::Builder::new().run(|| ()).unwrap_err();
        return eprintln!("{error}");
    }
    child_on_each_backend(TEST, TEST, &[("GREENRING_SHUFFLE", "yes")], |child| {
        child.assert_success();
        child.assert_says(&[
            "the environment variable GREENRING_SHUFFLE is \"yes\"; allowed: a number from 0 to",
        ]);
    });
}
