//! What the test suites share.
//!
//! Every behaviour test runs on both backends:
//!
//! ```ignore
//! both_backends! {
//!     fn a_read_sees_what_was_written() { … }
//! }
//! ```
//!
//! Environment, for running the same binaries under other conditions:
//!
//! - `GREENRING_DISABLE`, `GREENRING_RING_ENTRIES`: as for any program.
//! - `GREENRING_TEST_REFUSE=eperm` or `=enosys`: a seccomp filter refuses
//!   io_uring with that errno. The uring half of each test then asserts that
//!   the backend is refused and that the refusal names the errno.
//! - `GREENRING_TEST_READER=1`: streams are read through a `reader()`, see
//!   [`through`].
//! - `GREENRING_SHUFFLE`: as for any program; the tests of the order first in,
//!   first out skip themselves.
//! - `GREENRING_TEST_SEED`: replays randomised tests.

#![allow(dead_code)] // Each test binary uses its own part of this.

pub mod files;
pub mod net;
pub mod places;
pub mod seccomp;
pub mod storm;
pub mod through;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenring::runtime::{Backend, Builder};

/// No test takes longer, except when something waits for ever.
const LONGEST: Duration = Duration::from_secs(180);

/// Expands each test to one per backend, `name::uring` and `name::epoll`. The
/// body runs on the root of a hub of its own.
#[macro_export]
macro_rules! both_backends {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn body() $body

            #[test]
            fn uring() {
                $crate::common::on(greenring::runtime::Backend::Uring, body);
            }

            #[test]
            fn epoll() {
                $crate::common::on(greenring::runtime::Backend::Epoll, body);
            }
        }
    )*};
}

/// As [`both_backends!`], each test alone in a process of its own: for what is
/// counted per process (descriptors, OS threads, memory) and for what cannot be
/// undone (limits, signal dispositions).
#[macro_export]
macro_rules! both_backends_alone {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn body() $body

            #[test]
            fn uring() {
                let test = concat!(stringify!($name), "::uring");
                $crate::common::alone(test, greenring::runtime::Backend::Uring, body);
            }

            #[test]
            fn epoll() {
                let test = concat!(stringify!($name), "::epoll");
                $crate::common::alone(test, greenring::runtime::Backend::Epoll, body);
            }
        }
    )*};
}

/// Runs `body` on a hub with this backend, in a child process that runs nothing
/// but the test `test`.
pub fn alone(test: &str, backend: Backend, body: fn()) {
    if is_child("alone") {
        return on(backend, body);
    }
    let output = run_child(test, "alone", []);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    print!("{stdout}");
    assert!(output.status.success(), "{}:\n{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "{test} names no test");
}

/// Runs `body` on a hub with this backend, or asserts its refusal.
pub fn on(backend: Backend, body: fn()) {
    on_builder(Builder::new().backend(backend), backend, body);
}

/// As [`on`], for a hub that is configured further.
pub fn on_builder(builder: Builder, backend: Backend, body: impl FnOnce()) {
    if let Ok(seed) = std::env::var(SHUFFLE) {
        println!("{SHUFFLE}={seed}");
    }
    through::begin();
    seccomp::refuse_if_asked();
    let _watchdog = Watchdog::start(LONGEST);
    let result = builder.run(body);
    match seccomp::refused() {
        Some(errno) if backend == Backend::Uring => {
            let text = result.expect_err("io_uring is refused").to_string();
            assert!(text.contains(errno), "the refusal names {errno}: {text}");
        }
        _ => result.expect("the hub runs"),
    }
}

const SHUFFLE: &str = "GREENRING_SHUFFLE";

/// Whether ready green threads run in a random order. For tests of the order
/// first in, first out, which skip themselves then; says so.
pub fn is_shuffled() -> bool {
    let is_shuffled = std::env::var_os(SHUFFLE).is_some();
    if is_shuffled {
        println!("skipped: it asserts the order first in, first out, and {SHUFFLE} is set");
    }
    is_shuffled
}

/// Whether hubs with this backend can be had in this process.
pub fn is_available(backend: Backend) -> bool {
    seccomp::refuse_if_asked();
    !(backend == Backend::Uring && seccomp::refused().is_some())
}

/// Ends the process when a test hangs, so that it fails instead.
pub struct Watchdog {
    /// Hangs up when the test is over.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub fn start(limit: Duration) -> Watchdog {
        let (alive, over) = mpsc::channel();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {test} has not ended after {limit:?}");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

/// A small generator for randomised tests; its seed is printed, and
/// `GREENRING_TEST_SEED` replays it.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(test: &str) -> Rng {
        let seed = match std::env::var("GREENRING_TEST_SEED") {
            Ok(seed) => seed.parse().expect("GREENRING_TEST_SEED is a number"),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.expect("after 1970").as_nanos() as u64
            }
        };
        println!("{test}: GREENRING_TEST_SEED={seed}");
        Rng::with_seed(seed)
    }

    pub fn with_seed(seed: u64) -> Rng {
        Rng(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// splitmix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Descriptors that the process has open.
pub fn open_descriptors() -> usize {
    // The listing itself opens one.
    std::fs::read_dir("/proc/self/fd").expect("procfs").count() - 1
}

/// OS threads of the process.
pub fn os_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("procfs")
        .count()
}

/// Resident memory in bytes.
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("statm has a second field");
    pages * 4096
}

const CHILD: &str = "GREENRING_TEST_CHILD";

/// Whether this process is the child that `run_child` made for `scenario`.
pub fn is_child(scenario: &str) -> bool {
    std::env::var_os(CHILD).as_deref() == Some(OsStr::new(scenario))
}

/// Runs the test `test` of this binary again, alone, in a child process that
/// sees [`is_child`] for `scenario`, and gives its exit and its output.
///
/// Backtraces are off, so that output is comparable.
pub fn run_child<'a>(
    test: &str,
    scenario: &str,
    environment: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Output {
    Command::new(std::env::current_exe().expect("the test binary"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, scenario)
        .env("RUST_BACKTRACE", "0")
        .envs(environment)
        .output()
        .expect("the test binary starts")
}

/// What a child process said, and how it ended.
#[derive(Debug)]
pub struct Child {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Child {
    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    #[track_caller]
    pub fn assert_success(&self) {
        assert!(self.status.success(), "{self:#?}");
    }

    /// Asserts that its standard error has all of `parts`, in this order.
    #[track_caller]
    pub fn assert_says(&self, parts: &[&str]) {
        let mut rest = self.stderr.as_str();
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => panic!("stderr lacks {part:?} here: {self:#?}"),
            }
        }
    }
}

/// As [`run_child`], under the name of the test for a scenario, with the output
/// as text.
pub fn child<'a>(
    test: &str,
    scenario: &str,
    environment: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Child {
    let output = run_child(test, scenario, environment);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("running 1 test"),
        "no test {test}: {stdout}"
    );
    Child {
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the test `test` again as a child on each backend, which its implicit
/// hubs take from the environment, and has `check` look at the outcome. Where
/// io_uring is refused, that child must have said so.
pub fn child_on_each_backend(
    test: &str,
    scenario: &str,
    environment: &[(&str, &str)],
    check: impl Fn(&Child),
) {
    seccomp::refuse_if_asked();
    for backend in [Backend::Uring, Backend::Epoll] {
        let name = backend.to_string();
        let chosen = [("GREENRING_BACKEND", name.as_str())];
        let child = child(test, scenario, environment.iter().copied().chain(chosen));
        match seccomp::refused() {
            Some(errno) if backend == Backend::Uring => child.assert_says(&[errno]),
            _ => {
                println!("{scenario} on {backend}: {:?}", child.status);
                check(&child);
            }
        }
    }
}

/// Has the kernel end this process, a child, if it should hang. No OS thread
/// is needed for that, unlike for a [`Watchdog`].
pub fn end_after(seconds: u32) {
    // SAFETY: takes a plain value.
    unsafe { libc::alarm(seconds) };
}

/// Ends the process at once with this exit code.
pub fn end_with(code: i32) -> ! {
    // SAFETY: takes a plain value.
    unsafe { libc::_exit(code) }
}

/// Runs `body` in a forked child, where no other OS thread exists, and gives
/// its exit code: `body`'s, 101 after a panic, or a signal's negated number.
///
/// No destructor runs at the child's end.
pub fn forked(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls nothing that an OS thread it has lost might have
    // been in the middle of: glibc makes malloc usable after a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork(2): {}", std::io::Error::last_os_error());
    if pid == 0 {
        end_after(60);
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
        end_with(code);
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call, and the child is nobody else's.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(
        waited,
        pid,
        "waitpid(2): {}",
        std::io::Error::last_os_error()
    );
    if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

/// Two ends of a connection: a Unix socket pair, to which the TCP face does
/// not object and which needs no port.
pub fn connection() -> (greenring::net::TcpStream, greenring::net::TcpStream) {
    let (one, other) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    (
        std::os::fd::OwnedFd::from(one).into(),
        std::os::fd::OwnedFd::from(other).into(),
    )
}

/// Waits until the OS thread sleeps in a system call by which a hub waits.
pub fn until_asleep(os_thread: libc::pid_t) {
    let waits = [
        libc::SYS_io_uring_enter,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
    ];
    loop {
        let path = format!("/proc/self/task/{os_thread}/syscall");
        let syscall = std::fs::read_to_string(path).expect("procfs");
        let number = syscall.split(' ').next();
        let number = number.and_then(|number| number.trim().parse().ok());
        if number.is_some_and(|number| waits.contains(&number)) {
            return;
        }
        thread::yield_now();
    }
}
