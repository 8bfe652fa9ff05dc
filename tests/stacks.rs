//! Stacks: what an overflow says, how many there can be, and what they cost;
//! on both backends.

mod common;

use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use greenring::Cancelled;
use greenring::runtime::stats;
use greenring::thread::{self, JoinHandle};

use common::{child_on_each_backend, end_after, is_child, resident_bytes};

const SIZE: usize = 64 << 10;

/// Uses up any stack, a small frame at a time.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    if black_box(depth) == u64::MAX {
        return 0;
    }
    descend(depth + 1) + black_box(frame)[7]
}

/// Has one frame that is larger than a stack and its guard page together, and
/// touches only its far end.
#[inline(never)]
fn leap() -> u8 {
    let mut frame: std::mem::MaybeUninit<[u8; 4 * SIZE]> = std::mem::MaybeUninit::uninit();
    let start = frame.as_mut_ptr().cast::<u8>();
    // SAFETY: the first byte of the array, which is not read before.
    unsafe {
        start.write_volatile(1);
        black_box(start).read_volatile()
    }
}

fn digger(body: fn()) {
    let digger = thread::Builder::new()
        .name("digger".to_owned())
        .stack_size(SIZE);
    digger.spawn(body).unwrap().join().unwrap();
}

fn assert_overflow_is_named(child: &common::Child) {
    assert_eq!(child.signal(), Some(libc::SIGABRT), "{child:#?}");
    child.assert_says(&[
        "green thread 'digger' has overflowed its stack of 65536 bytes",
        "thread::Builder::stack_size",
        "GREENRING_STACK_SIZE",
    ]);
}

#[test]
fn an_overflow_by_recursion_is_named() {
    const TEST: &str = "an_overflow_by_recursion_is_named";
    if is_child(TEST) {
        end_after(60);
        digger(|| assert_eq!(descend(0), 0));
        return;
    }
    child_on_each_backend(TEST, TEST, &[], assert_overflow_is_named);
}

#[test]
fn an_overflow_by_one_frame_that_skips_the_guard_is_named() {
    const TEST: &str = "an_overflow_by_one_frame_that_skips_the_guard_is_named";
    if is_child(TEST) {
        end_after(60);
        // Below it in the arena lies another stack, which must not be hit.
        let below = thread::Builder::new()
            .stack_size(SIZE)
            .spawn(thread::park)
            .unwrap();
        thread::yield_now();
        digger(|| assert_eq!(leap(), 0));
        drop(below);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], assert_overflow_is_named);
}

#[test]
fn an_overflow_without_guard_marks_is_named() {
    const TEST: &str = "an_overflow_without_guard_marks_is_named";
    if is_child(TEST) {
        end_after(60);
        digger(|| assert_eq!(descend(0), 0));
        return;
    }
    let environment = [("GREENRING_DISABLE", "guard_install")];
    child_on_each_backend(TEST, TEST, &environment, assert_overflow_is_named);
}

#[test]
fn an_overflow_of_the_default_size_names_what_the_environment_says() {
    const TEST: &str = "an_overflow_of_the_default_size_names_what_the_environment_says";
    if is_child(TEST) {
        end_after(60);
        thread::spawn(|| descend(0)).join().unwrap();
        return;
    }
    let environment = [("GREENRING_STACK_SIZE", "131072")];
    child_on_each_backend(TEST, TEST, &environment, |child| {
        assert_eq!(child.signal(), Some(libc::SIGABRT), "{child:#?}");
        child.assert_says(&["green thread 'unnamed'", "stack of 131072 bytes"]);
    });
}

#[test]
fn an_overflow_on_an_os_thread_of_foreign_code_is_named() {
    const TEST: &str = "an_overflow_on_an_os_thread_of_foreign_code_is_named";
    extern "C" fn foreign(_: *mut libc::c_void) -> *mut libc::c_void {
        digger(|| assert_eq!(descend(0), 0));
        std::ptr::null_mut()
    }
    if is_child(TEST) {
        end_after(60);
        let mut id = 0;
        // SAFETY: the function has the right type and takes no argument.
        unsafe {
            let made =
                libc::pthread_create(&raw mut id, std::ptr::null(), foreign, std::ptr::null_mut());
            assert_eq!(made, 0);
            libc::pthread_join(id, std::ptr::null_mut());
        }
        return;
    }
    child_on_each_backend(TEST, TEST, &[], assert_overflow_is_named);
}

#[test]
fn an_overflow_of_an_os_thread_is_still_stds() {
    const TEST: &str = "an_overflow_of_an_os_thread_is_still_stds";
    if is_child(TEST) {
        end_after(60);
        thread::spawn(|| {}).join().unwrap();
        let plain = std::thread::Builder::new()
            .name("plain".to_owned())
            .stack_size(1 << 20);
        let overflow = || {
            // On the root of a hub.
            thread::spawn(|| {}).join().unwrap();
            descend(0)
        };
        plain.spawn(overflow).unwrap().join().unwrap();
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        assert_eq!(child.signal(), Some(libc::SIGABRT), "{child:#?}");
        child.assert_says(&["thread 'plain'", "has overflowed its stack"]);
        assert!(!child.stderr.contains("green thread"), "{child:#?}");
    });
}

#[test]
fn any_other_fault_is_a_plain_one() {
    const TEST: &str = "any_other_fault_is_a_plain_one";
    fn fault() {
        let nowhere = std::ptr::without_provenance_mut::<u64>(black_box(4096));
        // SAFETY: not sound, and meant so: nothing is mapped there.
        unsafe { nowhere.write_volatile(1) };
    }
    if is_child("on a green thread") {
        end_after(60);
        thread::spawn(fault).join().unwrap();
    } else if is_child("on the root") {
        end_after(60);
        thread::spawn(|| {}).join().unwrap();
        fault();
    } else {
        for scenario in ["on a green thread", "on the root"] {
            child_on_each_backend(TEST, scenario, &[], |child| {
                assert_eq!(child.signal(), Some(libc::SIGSEGV), "{child:#?}");
                assert!(!child.stderr.contains("overflowed"), "{child:#?}");
            });
        }
    }
}

// ----- many ---------------------------------------------------------------------------

const MANY: usize = 100_000;

/// Bytes that one parked green thread may cost all told: its stack's pages and
/// their page tables, its block, its record. A debug build's frames are larger
/// than a page.
const MOST_BYTES: usize = if cfg!(debug_assertions) {
    13 * 1024
} else {
    4800 * 1024 / 1000
};

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps")
        .expect("procfs")
        .lines()
        .count()
}

/// Resident memory and page tables.
fn cost() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let tables = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
    let kilobytes = tables.and_then(|rest| rest.split_whitespace().next());
    let kilobytes: usize = kilobytes
        .and_then(|number| number.parse().ok())
        .expect("VmPTE");
    resident_bytes() + kilobytes * 1024
}

/// Whether the kernel has MADV_GUARD_INSTALL, which Linux 6.13 brought.
fn has_guard_marks() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 13)
}

#[test]
fn a_hundred_thousand_wait_at_once_and_leave_little() {
    const TEST: &str = "a_hundred_thousand_wait_at_once_and_leave_little";
    if is_child(TEST) {
        end_after(150);
        thread::spawn(|| {}).join().unwrap();
        let mut peaks = Vec::new();
        let begin = cost();
        for round in 0..2 {
            let mappings_before = mappings();
            let mut handles: Vec<JoinHandle<usize>> = Vec::with_capacity(MANY);
            for n in 0..MANY {
                handles.push(thread::spawn(move || {
                    thread::park();
                    n
                }));
            }
            // Each runs until it parks.
            thread::yield_now();
            assert_eq!(stats().live, MANY);
            let peak = cost();
            let each = (peak - begin) / MANY;
            eprintln!("round {round}: {each} bytes each");
            assert!(
                each <= MOST_BYTES,
                "{each} bytes for each, more than {MOST_BYTES}"
            );
            let more = mappings() - mappings_before;
            assert!(more < 100, "{more} mappings for stacks");
            peaks.push(peak);
            for handle in &handles {
                handle.thread().unpark();
            }
            for (n, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.join().unwrap(), n);
            }
            // An idle hub returns what it does not need.
            let mut naps = 0;
            while stats().stacks_warm > 16 {
                thread::sleep(Duration::from_millis(20));
                naps += 1;
                assert!(
                    naps < 1000,
                    "an idle hub keeps {} warm stacks",
                    stats().stacks_warm
                );
            }
            assert_eq!(stats().stacks_pooled, MANY);
            let left = cost().saturating_sub(begin);
            eprintln!("round {round}: {left} bytes left of {}", peak - begin);
            assert!(
                left < (peak - begin) / 4,
                "{left} bytes stay of {}",
                peak - begin
            );
        }
        assert!(
            peaks[1] < peaks[0] + peaks[0] / 10,
            "the second round costs more: {peaks:?}"
        );
        eprintln!("all came and went");
        return;
    }
    if !has_guard_marks() {
        println!("before Linux 6.13 there cannot be as many; see the next test");
        return;
    }
    child_on_each_backend(TEST, TEST, &[("GREENRING_DISABLE", "")], |child| {
        println!("{}", child.stderr);
        child.assert_success();
        child.assert_says(&["all came and went"]);
    });
}

#[test]
fn a_hundred_thousand_are_cancelled_and_joined() {
    const TEST: &str = "a_hundred_thousand_are_cancelled_and_joined";
    if is_child(TEST) {
        end_after(150);
        let dropped = Rc::new(Cell::new(0));
        // By the root, and by a green thread, which has a turn among them.
        for by_a_green_thread in [false, true] {
            dropped.set(0);
            let count = Rc::clone(&dropped);
            let cancel_all = move || {
                let handles: Vec<JoinHandle<()>> = (0..MANY)
                    .map(|_| {
                        let counted = Counted(Rc::clone(&count));
                        thread::Builder::new()
                            .stack_size(SIZE)
                            .spawn(move || {
                                let _counted = counted;
                                thread::park();
                            })
                            .unwrap()
                    })
                    .collect();
                thread::yield_now();
                handles.iter().for_each(JoinHandle::cancel);
                for handle in handles {
                    assert!(Cancelled::is(&handle.join().unwrap_err()));
                }
            };
            if by_a_green_thread {
                thread::spawn(cancel_all).join().unwrap();
            } else {
                cancel_all();
            }
            assert_eq!(dropped.get(), MANY);
            assert_eq!(stats().live, 0);
        }
        eprintln!("all were cancelled");
        return;
    }
    if !has_guard_marks() {
        println!("before Linux 6.13 there cannot be as many");
        return;
    }
    child_on_each_backend(TEST, TEST, &[("GREENRING_DISABLE", "")], |child| {
        child.assert_success();
        child.assert_says(&["all were cancelled"]);
    });
}

/// Counts itself when it is dropped.
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn out_of_mappings_is_an_error_that_names_the_setting() {
    const TEST: &str = "out_of_mappings_is_an_error_that_names_the_setting";
    if is_child(TEST) {
        end_after(150);
        // While the limit is reached nothing can be mapped, also not by this
        // test. These mappings make room for what it needs afterwards.
        let spare: Vec<_> = (0..64).map(|_| vec![0_u8; 1 << 20]).collect();
        let mut handles = Vec::with_capacity(2 * MANY);
        let error = loop {
            let builder = thread::Builder::new().stack_size(16 << 10);
            match builder.spawn(|| {
                thread::park();
                1
            }) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
            if handles.len() == 2 * MANY {
                break std::io::Error::other("no limit was met");
            }
        };
        drop(spare);
        let count = handles.len();
        eprintln!("after {count}: {:?}: {error}", error.kind());
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        assert_eq!(stats().live, count);
        // Nothing is lost and the hub goes on.
        for handle in &handles {
            handle.thread().unpark();
        }
        let sum: usize = handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .sum();
        assert_eq!(sum, count);
        let again: Vec<_> = (0..count)
            .map(|_| {
                thread::Builder::new()
                    .stack_size(16 << 10)
                    .spawn(|| 1)
                    .unwrap()
            })
            .collect();
        assert_eq!(
            again
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .sum::<usize>(),
            count
        );
        eprintln!("the hub went on");
        return;
    }
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").expect("procfs");
    let limit: usize = limit.trim().parse().expect("a number");
    if limit > 2 * MANY {
        println!("vm.max_map_count is {limit}: this test does not go that far");
        return;
    }
    child_on_each_backend(
        TEST,
        TEST,
        &[("GREENRING_DISABLE", "guard_install")],
        |child| {
            println!("{}", child.stderr);
            child.assert_success();
            child.assert_says(&["the hub went on"]);
        },
    );
}
