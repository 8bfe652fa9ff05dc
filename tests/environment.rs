//! What surrounds a hub: the environment's variables, a kernel that refuses
//! io_uring, exhausted limits, and a process in which nothing can go on.

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenring::runtime::{self, Backend, Builder, stats};
use greenring::thread;

use common::{
    Child, child, child_on_each_backend, connection, end_after, forked, is_available, is_child,
    seccomp,
};

/// The text of a panic's payload.
fn text(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().expect("a text")).to_owned(),
    }
}

/// An environment as if nothing were set; children inherit this one's.
const PLAIN: [(&str, &str); 4] = [
    ("GREENRING_READER_BUFFERS", "1024"),
    ("GREENRING_DISABLE", ""),
    ("GREENRING_RING_ENTRIES", "512"),
    ("GREENRING_STACK_SIZE", "262144"),
];

// ----- variables --------------------------------------------------------------------------

#[test]
fn a_wrong_value_is_refused_by_name() {
    const TEST: &str = "a_wrong_value_is_refused_by_name";
    if is_child(TEST) {
        end_after(30);
        let error = Builder::new().run(|| ()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        // What code says does not make a wrong value right.
        Builder::new()
            .backend(Backend::Epoll)
            .stack_size(65_536)
            .run(|| ())
            .unwrap_err();
        // The implicit hub says the same, wherever it is wanted.
        let (mut near, _far) = connection();
        let ways: [&mut dyn FnMut(); 4] = [
            &mut || drop(thread::spawn(|| ())),
            &mut || drop(thread::Builder::new().spawn(|| ())),
            &mut || drop(near.write(&[1])),
            &mut || drop(runtime::backend_reason()),
        ];
        for way in ways {
            let panicked = text(catch_unwind(AssertUnwindSafe(way)).unwrap_err());
            assert!(panicked.contains(&error.to_string()), "{panicked}");
        }
        assert_eq!(stats().blocks, 0);
        // What needs no hub works.
        thread::sleep(Duration::from_millis(1));
        thread::yield_now();
        eprintln!("the sentence: {error}");
        return;
    }
    for (variable, value, allowed) in [
        ("GREENRING_BACKEND", "iouring", "uring, epoll"),
        ("GREENRING_BACKEND", "", "uring, epoll"),
        ("GREENRING_BACKEND", "Uring", "uring, epoll"),
        ("GREENRING_STACK_SIZE", "64k", "16384 to 1073741824"),
        ("GREENRING_STACK_SIZE", "16383", "16384 to 1073741824"),
        ("GREENRING_STACK_SIZE", "-1", "16384 to 1073741824"),
        (
            "GREENRING_STACK_SIZE",
            "99999999999999999999999",
            "16384 to 1073741824",
        ),
        ("GREENRING_RING_ENTRIES", "1", "2 to 32768"),
        ("GREENRING_RING_ENTRIES", "32769", "2 to 32768"),
        ("GREENRING_RING_ENTRIES", "", "2 to 32768"),
        ("GREENRING_DISABLE", "uring,bogus", "guard_install"),
        ("GREENRING_DISABLE", "uring epoll", "guard_install"),
        ("GREENRING_READER_BUFFERS", "0", "from 1 to 16384"),
        ("GREENRING_READER_BUFFERS", "64k", "from 1 to 16384"),
        ("GREENRING_TRACE", "0", "milliseconds from 1 to 3600000"),
        ("GREENRING_TRACE", "1s", "milliseconds from 1 to 3600000"),
    ] {
        let environment = PLAIN.into_iter().chain([(variable, value)]);
        let child = child(TEST, TEST, environment);
        child.assert_success();
        child.assert_says(&["the sentence: ", variable, &format!("{value:?}"), allowed]);
    }
}

#[test]
fn what_code_says_is_checked_too() {
    for (builder, says) in [
        (
            Builder::new().reader_buffers(16_385),
            "reader_buffers is 16385; allowed: 1 to 16384",
        ),
        (
            Builder::new().stack_size(16_383),
            "stack_size is 16383; allowed: 16384 to 1073741824",
        ),
        (
            Builder::new().stack_size(usize::MAX),
            "allowed: 16384 to 1073741824",
        ),
        (
            Builder::new().ring_entries(1),
            "ring_entries is 1; allowed: 2 to 32768",
        ),
        (Builder::new().ring_entries(32_769), "allowed: 2 to 32768"),
        (
            Builder::new().trace(Duration::ZERO),
            "trace, in milliseconds, is 0; allowed: 1 to 3600000",
        ),
    ] {
        let error = builder.run(|| unreachable!("refused")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn code_beats_the_environment() {
    const TEST: &str = "code_beats_the_environment";
    /// More than the environment's stacks have.
    #[inline(never)]
    fn deep() -> usize {
        std::hint::black_box([1_u8; 300_000]).len()
    }
    if is_child(TEST) {
        end_after(30);
        // The environment alone.
        assert_eq!(runtime::backend(), Backend::Epoll);
        assert_eq!(
            runtime::backend_reason(),
            "epoll, asked for by GREENRING_BACKEND"
        );
        for backend in [Backend::Uring, Backend::Epoll] {
            if !is_available(backend) {
                continue;
            }
            let builder = Builder::new()
                .backend(backend)
                .stack_size(2 << 20)
                .ring_entries(64);
            let run = builder.run(|| {
                assert_eq!(runtime::backend(), backend);
                let reason = runtime::backend_reason();
                assert!(
                    reason.ends_with("asked for by runtime::Builder::backend"),
                    "{reason}"
                );
                thread::spawn(deep).join().unwrap()
            });
            assert_eq!(run.unwrap(), 300_000);
        }
        return;
    }
    let environment = [
        ("GREENRING_BACKEND", "epoll"),
        ("GREENRING_STACK_SIZE", "65536"),
    ];
    child(TEST, TEST, environment).assert_success();
}

#[test]
fn the_size_of_the_ring_is_what_the_environment_says() {
    const TEST: &str = "the_size_of_the_ring_is_what_the_environment_says";
    /// How often the submission queue is full when 200 submit in one turn.
    fn full() -> u64 {
        for _ in 0..200 {
            let (mut near, far) = connection();
            thread::spawn(move || {
                let _far = far;
                let _ = near.read(&mut [0]);
            });
        }
        while stats().in_flight < 200 {
            thread::yield_now();
        }
        stats().queue_full
    }
    if is_child(TEST) {
        end_after(30);
        if is_available(Backend::Uring) {
            let builder = || Builder::new().backend(Backend::Uring);
            assert!(builder().run(full).unwrap() >= 40);
            assert_eq!(builder().ring_entries(512).run(full).unwrap(), 0);
        }
        return;
    }
    let environment = [("GREENRING_RING_ENTRIES", "4"), ("GREENRING_DISABLE", "")];
    child(TEST, TEST, environment).assert_success();
}

// ----- the choice of the backend --------------------------------------------------------------

/// A hub that does a little of everything.
fn works() {
    let (mut near, mut far) = connection();
    let echo = thread::spawn(move || {
        let mut buffer = [0; 5];
        far.read_exact(&mut buffer).unwrap();
        far.write_all(&buffer).unwrap();
    });
    near.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    near.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
    echo.join().unwrap();
    thread::sleep(Duration::from_millis(1));
}

fn refused_with(errno: i32, name: &str) {
    end_after(30);
    seccomp::refuse_io_uring(errno);
    // By name: an error, and nothing is tried instead.
    let error = Builder::new()
        .backend(Backend::Uring)
        .run(|| ())
        .unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    assert!(
        error.to_string().contains("runtime::Builder::backend"),
        "{error}"
    );
    // The automatic choice says why.
    let (backend, reason) = Builder::new()
        .run(|| {
            works();
            (runtime::backend(), runtime::backend_reason())
        })
        .unwrap();
    assert_eq!(backend, Backend::Epoll);
    assert!(
        reason.starts_with("epoll, the automatic choice, because "),
        "{reason}"
    );
    assert!(reason.contains(name), "{reason}");
    works();
    assert_eq!(runtime::backend_reason(), reason);
    eprintln!("it works");
}

#[test]
fn where_io_uring_is_refused_epoll_serves_and_says_why() {
    const TEST: &str = "where_io_uring_is_refused_epoll_serves_and_says_why";
    // An earlier filter of this process would win over the child's.
    let refused = seccomp::refused();
    if is_child("EPERM") {
        return refused_with(libc::EPERM, "EPERM");
    }
    if is_child("ENOSYS") {
        return refused_with(libc::ENOSYS, "ENOSYS");
    }
    for errno in ["EPERM", "ENOSYS"] {
        if refused.is_none_or(|already| already == errno) {
            let child = child(TEST, errno, PLAIN);
            child.assert_success();
            child.assert_says(&["it works"]);
        }
    }
}

#[test]
fn a_backend_asked_for_by_the_environment_that_cannot_be_had_is_said() {
    const TEST: &str = "a_backend_asked_for_by_the_environment_that_cannot_be_had_is_said";
    if is_child(TEST) {
        end_after(30);
        if seccomp::refused().is_none() {
            seccomp::refuse_io_uring(libc::EPERM);
        }
        let error = Builder::new().run(|| ()).unwrap_err().to_string();
        assert!(
            error.contains("GREENRING_BACKEND asks for the backend uring"),
            "{error}"
        );
        let panicked = text(catch_unwind(|| thread::spawn(|| ())).map(drop).unwrap_err());
        assert!(panicked.contains(&error), "{panicked}");
        let (mut near, _far) = connection();
        let panicked = text(catch_unwind(AssertUnwindSafe(|| near.write(&[1]))).unwrap_err());
        assert!(panicked.contains(&error), "{panicked}");
        return;
    }
    child(
        TEST,
        TEST,
        [("GREENRING_BACKEND", "uring"), ("GREENRING_DISABLE", "")],
    )
    .assert_success();
}

#[test]
fn a_masked_io_uring_is_refused_too() {
    const TEST: &str = "a_masked_io_uring_is_refused_too";
    if is_child(TEST) {
        end_after(30);
        assert_eq!(runtime::backend(), Backend::Epoll);
        assert!(runtime::backend_reason().contains("masked by GREENRING_DISABLE"));
        let error = Builder::new()
            .backend(Backend::Uring)
            .run(|| ())
            .unwrap_err();
        assert!(
            error.to_string().contains("masked by GREENRING_DISABLE"),
            "{error}"
        );
        works();
        return;
    }
    child(TEST, TEST, [("GREENRING_DISABLE", "uring")]).assert_success();
}

// ----- limits ------------------------------------------------------------------------------

fn set_limit(resource: libc::__rlimit_resource_t, limit: u64) {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both structures are valid for the calls.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &raw mut old), 0);
        let new = libc::rlimit {
            rlim_cur: limit.min(old.rlim_max),
            ..old
        };
        assert_eq!(libc::setrlimit(resource, &raw const new), 0);
    }
}

#[test]
fn out_of_descriptors_is_an_error_that_passes() {
    const TEST: &str = "out_of_descriptors_is_an_error_that_passes";
    if is_child(TEST) {
        end_after(30);
        // However many of those that a hub needs can still be had.
        for spare in 0..5 {
            std::thread::spawn(move || {
                let (mut near, _far) = connection();
                let open = || std::fs::File::open("/dev/null").unwrap();
                // The lowest free ones, until none is left between others.
                let mut taken = vec![open()];
                while taken.last().unwrap().as_raw_fd() < 100 {
                    taken.push(open());
                }
                let last = taken.last().unwrap().as_raw_fd() as u64;
                set_limit(libc::RLIMIT_NOFILE, last + 1 + spare);
                let results = [
                    Builder::new().run(|| ()),
                    thread::Builder::new().spawn(|| ()).map(drop),
                    near.write(&[1]).map(drop),
                ];
                set_limit(libc::RLIMIT_NOFILE, 1000);
                drop(taken);
                for result in results {
                    eprintln!("{spare} to spare: {result:?}");
                    match result {
                        Ok(()) => assert!(spare >= 2, "a hub needs a bell and a backend"),
                        Err(error) => {
                            assert!(spare < 4, "{error}");
                            let text = error.to_string();
                            let named = ["EMFILE", "Too many open files"];
                            assert!(named.iter().any(|name| text.contains(name)), "{error}");
                        }
                    }
                }
                // It passes.
                while stats().live > 0 {
                    thread::yield_now();
                }
                Builder::new().run(|| ()).unwrap();
                works();
            })
            .join()
            .unwrap();
        }
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

#[test]
fn a_hub_needs_no_locked_memory() {
    const TEST: &str = "a_hub_needs_no_locked_memory";
    if is_child(TEST) {
        end_after(30);
        set_limit(libc::RLIMIT_MEMLOCK, 0);
        works();
        for _ in 0..20 {
            std::thread::spawn(works).join().unwrap();
        }
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

#[test]
fn out_of_address_space_is_an_error_and_nothing_is_lost() {
    const TEST: &str = "out_of_address_space_is_an_error_and_nothing_is_lost";
    if is_child(TEST) {
        end_after(30);
        // Makes room for what this test itself needs at the limit.
        let spare = vec![0_u8; 4 << 20];
        works();
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kilobytes = size.and_then(|rest| rest.split_whitespace().next());
        let kilobytes: u64 = kilobytes
            .and_then(|number| number.parse().ok())
            .expect("VmSize");
        set_limit(libc::RLIMIT_AS, kilobytes * 1024 + (100 << 20));
        let spawn = |n: usize| {
            let builder = thread::Builder::new().stack_size(1 << 20);
            builder.spawn(move || {
                thread::park();
                n
            })
        };
        let mut handles = Vec::with_capacity(1000);
        let error = loop {
            match spawn(handles.len()) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
            assert!(handles.len() < 1000, "no limit was met");
        };
        drop(spare);
        let count = handles.len();
        eprintln!("after {count}: {error}");
        // Refused large arenas are halved: the room was used.
        assert!(count >= 64, "only {count}");
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
        assert_eq!(stats().live, count);
        for handle in &handles {
            handle.thread().unpark();
        }
        let sum: usize = handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .sum();
        assert_eq!(sum, (0..count).sum());
        // What was given back can be had again.
        let again = spawn(7).unwrap();
        again.thread().unpark();
        assert_eq!(again.join().unwrap(), 7);
        works();
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

// ----- nothing can go on -----------------------------------------------------------------------

#[test]
fn a_wait_that_nothing_can_end_panics_with_a_table() {
    const TEST: &str = "a_wait_that_nothing_can_end_panics_with_a_table";
    if is_child(TEST) {
        end_after(60);
        // Its only OS thread, unlike this process's.
        let code = forked(|| {
            let run = Builder::new().name("the root").run(|| {
                let first = thread::Builder::new().name("first".to_owned());
                let first = first.spawn(thread::park).unwrap();
                let thread = first.thread().clone();
                let second = thread::Builder::new().name("second".to_owned());
                let second = second.spawn(move || first.join().unwrap()).unwrap();
                let root = thread::current();
                let attempts = Rc::new(Cell::new(0));
                while attempts.get() < 2 {
                    attempts.set(attempts.get() + 1);
                    let verdict = catch_unwind(thread::park).unwrap_err();
                    let verdict = text(verdict);
                    eprintln!("the verdict: {verdict}");
                }
                // The hub can be used as before.
                works();
                thread.unpark();
                second.join().unwrap();
                root.unpark();
                thread::park();
                // And its end is orderly.
                thread::spawn(thread::park);
                thread::yield_now();
                thread::spawn(thread::park).join().unwrap();
            });
            run.unwrap();
            0
        });
        assert_eq!(code, 101, "the last verdict was not caught");
        // An implicit hub, and an operation in flight: it is no verdict.
        let code = forked(|| {
            let (mut near, mut far) = connection();
            thread::spawn(move || {
                // Long after the root has begun to wait.
                thread::sleep(Duration::from_millis(20));
                far.write_all(&[1]).unwrap();
            });
            let reader = thread::spawn(move || near.read(&mut [0]).unwrap());
            reader.join().unwrap();
            let joined = catch_unwind(|| thread::spawn(thread::park).join());
            assert!(text(joined.unwrap_err()).contains("would last for ever"));
            7
        });
        assert_eq!(code, 7);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&[
            "the verdict: this wait would last for ever",
            "root 'the root'",
            "green thread 'first' (id ",
            "parked until it is unparked, spawned at tests/environment.rs:",
            "green thread 'second' (id ",
            "waits for the end of another one: green thread 'first' (id ",
            "), spawned at tests/environment.rs:",
            "the verdict: this wait would last for ever",
        ]);
    });
}

#[test]
fn another_os_thread_may_end_any_wait() {
    const TEST: &str = "another_os_thread_may_end_any_wait";
    if is_child(TEST) {
        end_after(30);
        let code = forked(|| {
            let unparked = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&unparked);
            let waiting = thread::spawn(move || {
                while !theirs.load(Ordering::Acquire) {
                    thread::park();
                }
            });
            let thread = waiting.thread().clone();
            // SAFETY: has no preconditions.
            let hub = unsafe { libc::gettid() };
            std::thread::spawn(move || {
                common::until_asleep(hub);
                unparked.store(true, Ordering::Release);
                thread.unpark();
            });
            waiting.join().unwrap();
            5
        });
        assert_eq!(code, 5);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}
