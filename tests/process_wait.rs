//! How children end, and how their end is waited for.

mod common;

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use greenring::process::{Child, Command, Stdio};
use greenring::time::timeout;
use greenring::{inspect, thread};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// A child that ends when its standard input does.
fn until_eof() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether the process has ended and was not waited for.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')')
        .next()
        .unwrap()
        .trim_start()
        .starts_with('Z')
}

fn until_zombie(pid: u32) {
    while !is_zombie(pid) {
        thread::yield_now();
    }
}

fn set_action(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handlers here are std's two or add to an atomic number.
    unsafe { sigaction(signal, &action).unwrap() };
}

both_backends! {
    fn an_exit_code_comes_back() {
        for code in [0, 1, 7, 255] {
            let status = sh(&format!("exit {code}")).status().unwrap();
            assert_eq!(status.code(), Some(code));
            assert_eq!(status.success(), code == 0);
        }
    }

    fn the_signal_that_ends_a_child_comes_back() {
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGPIPE] {
            let status = sh(&format!("kill -{signal} $$")).status().unwrap();
            assert_eq!((status.code(), status.signal()), (None, Some(signal)));
            assert!(!status.core_dumped());
        }
    }

    fn siblings_run_while_one_waits() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        let waits = thread::spawn(move || child.wait());
        for _ in 0..10 {
            thread::yield_now();
        }
        assert!(!waits.is_finished());
        let doing = inspect::snapshot().green_threads()[0].doing().to_owned();
        assert_ne!(doing, "sleeps", "it waits for the child's end itself");
        drop(stdin);
        assert!(waits.join().unwrap().unwrap().success());
    }

    fn a_wait_closes_the_childs_input() {
        let mut child = until_eof();
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(child.stdin.is_some(), "try_wait leaves it");
        assert!(child.wait().unwrap().success());
        assert!(child.stdin.is_none());
    }

    fn a_status_is_told_again() {
        let mut child = sh("exit 5").spawn().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(child.wait().unwrap(), status);
        assert_eq!(child.try_wait().unwrap(), Some(status));
        child.kill().expect("there is nothing left to kill");
    }

    fn a_child_that_ended_before_the_wait_is_still_there() {
        let mut child = sh("exit 4").spawn().unwrap();
        until_zombie(child.id());
        assert_eq!(child.wait().unwrap().code(), Some(4));
    }

    fn a_killed_child_ends_its_waiter() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        let pid = child.id();
        let waits = thread::spawn(move || child.wait());
        thread::yield_now();
        // SAFETY: takes plain values; the child was not waited for yet.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
        assert_eq!(waits.join().unwrap().unwrap().signal(), Some(libc::SIGKILL));
        drop(stdin);
    }

    fn a_stopped_child_has_not_ended() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        let pid = child.id() as i32;
        // SAFETY: takes plain values; the child was not waited for yet.
        let signal = |number| assert_eq!(unsafe { libc::kill(pid, number) }, 0);
        signal(libc::SIGSTOP);
        drop(stdin);
        assert!(timeout(Duration::from_millis(5), || child.wait()).is_err());
        signal(libc::SIGCONT);
        assert!(child.wait().unwrap().success());
    }

    fn a_wait_that_ran_out_of_time_is_made_again() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(2), || child.wait()).is_err());
        }
        assert_eq!(child.try_wait().unwrap(), None);
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    fn a_cancelled_wait_leaves_the_child_to_be_waited_for() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        let child = Rc::new(std::cell::RefCell::new(child));
        let theirs = Rc::clone(&child);
        let waits = thread::spawn(move || {
            theirs.borrow_mut().wait().unwrap();
        });
        thread::yield_now();
        waits.cancel();
        assert!(greenring::Cancelled::is(&*waits.join().unwrap_err()));
        drop(stdin);
        assert!(child.borrow_mut().wait().unwrap().success());
    }

    fn two_hundred_children_are_waited_for_at_once() {
        let mut gates = Vec::new();
        let waiters: Vec<_> = (0..200).map(|n| {
            let mut command = sh("read code; exit $code");
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            gates.push((child.stdin.take().unwrap(), n % 100));
            thread::spawn(move || child.wait().unwrap().code())
        }).collect();
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        let sibling = thread::spawn(move || loop {
            counted.set(counted.get() + 1);
            thread::sleep(Duration::from_micros(100));
        });
        thread::sleep(Duration::from_millis(2));
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        for (mut gate, code) in gates {
            writeln!(gate, "{code}").unwrap();
        }
        for (n, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().unwrap(), Some(n as i32 % 100));
        }
        assert!(turns.get() > 0, "the sibling has run");
        sibling.cancel();
        sibling.join().unwrap_err();
    }

    fn a_child_is_waited_for_on_another_hub() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        let waits = std::thread::spawn(move || {
            thread::spawn(move || child.wait().unwrap()).join().unwrap()
        });
        drop(stdin);
        assert!(waits.join().unwrap().success());
    }

    fn a_child_moves_on_to_another_hub_after_a_wait() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        assert!(timeout(Duration::from_millis(2), || child.wait()).is_err());
        let mut child = std::thread::spawn(move || {
            assert!(timeout(Duration::from_millis(2), || child.wait()).is_err());
            child
        }).join().unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    fn a_child_is_spawned_elsewhere_and_waited_for_here() {
        let mut child = greenring::blocking(until_eof);
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(child.wait().unwrap().success());
        let output = greenring::blocking(|| sh("echo out; echo err >&2").output()).unwrap();
        assert_eq!(output.stderr, b"err\n");
    }

    fn an_os_thread_without_a_hub_waits_plainly() {
        let mut child = until_eof();
        let waits = std::thread::spawn(move || {
            let status = child.wait().unwrap();
            let output = sh("echo out; echo err >&2").output().unwrap();
            assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
            assert!(inspect::snapshot().root().is_none(), "no hub was started");
            status
        });
        assert!(waits.join().unwrap().success());
    }

    fn a_dropped_child_goes_on_and_remains() {
        let mut child = until_eof();
        let stdin = child.stdin.take().unwrap();
        let pid = child.id();
        drop(child);
        assert!(!is_zombie(pid), "it was not killed");
        drop(stdin);
        until_zombie(pid);
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        nix::sys::wait::waitpid(pid, None).expect("nobody has waited for it");
    }

    fn a_child_of_std_is_taken_over() {
        let mut command = std::process::Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Child::from(command.spawn().unwrap());
        child.stdin.take().unwrap().write_all(b"over").unwrap();
        let mut back = std::process::Child::from(child);
        assert!(back.stdout.is_some());
        assert!(back.stdin.is_none());
        assert!(back.wait().unwrap().success());
    }

    fn a_status_that_somebody_else_has_taken_is_an_error_as_in_std() {
        let taken = |pid: u32| {
            until_zombie(pid);
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid as i32), None).unwrap();
        };
        let mut std = std::process::Command::new("true").spawn().unwrap();
        taken(std.id());
        let mut child = Command::new("true").spawn().unwrap();
        taken(child.id());
        let expected = std.wait().unwrap_err();
        assert_eq!(expected.raw_os_error(), Some(libc::ECHILD));
        assert_eq!(child.wait().unwrap_err().raw_os_error(), expected.raw_os_error());
        assert_eq!(child.wait_with_output().unwrap_err().raw_os_error(), expected.raw_os_error());
    }
}

static ENDED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    ENDED.fetch_add(1, Ordering::Relaxed);
}

both_backends_alone! {
    fn a_handler_of_sigchld_stays_the_users() {
        set_action(Signal::SIGCHLD, SigHandler::Handler(count));
        for code in 0..10 {
            assert_eq!(sh(&format!("exit {code}")).status().unwrap().code(), Some(code));
        }
        assert_eq!(ENDED.load(Ordering::Relaxed), 10);
    }

    fn greenrings_own_handler_of_sigchld_runs_beside_the_wait() {
        let told = Rc::new(Cell::new(0));
        let counts = Rc::clone(&told);
        greenring::signal::on(libc::SIGCHLD, move || counts.set(counts.get() + 1)).unwrap();
        assert_eq!(sh("exit 6").status().unwrap().code(), Some(6));
        while told.get() == 0 {
            thread::yield_now();
        }
    }

    fn nobody_has_a_handler_of_sigchld() {
        let mut child = until_eof();
        let stdin = child.stdin.take();
        assert!(timeout(Duration::from_millis(2), || child.wait()).is_err());
        drop(stdin);
        child.wait().unwrap();
        let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: it is the default already, as asserted.
        let before = unsafe { sigaction(Signal::SIGCHLD, &action).unwrap() };
        assert!(matches!(before.handler(), SigHandler::SigDfl));
    }

    fn where_sigchld_is_ignored_a_wait_ends_as_in_std() {
        set_action(Signal::SIGCHLD, SigHandler::SigIgn);
        let expected = std::process::Command::new("true").status().unwrap_err();
        assert_eq!(expected.raw_os_error(), Some(libc::ECHILD));
        let error = Command::new("true").status().unwrap_err();
        assert_eq!(error.raw_os_error(), expected.raw_os_error());

        let mut child = until_eof();
        let stdin = child.stdin.take();
        let waits = thread::spawn(move || child.wait());
        assert!(timeout(Duration::from_millis(5), || {
            while !waits.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
        }).is_err(), "it waits for the end");
        drop(stdin);
        let error = waits.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), expected.raw_os_error());
    }

    fn no_descriptor_stays_behind() {
        let round = || {
            for _ in 0..20 {
                sh("echo out; echo err >&2").output().unwrap();
                let mut child = until_eof();
                let stdin = child.stdin.take();
                assert!(timeout(Duration::from_micros(100), || child.wait()).is_err());
                drop(stdin);
                child.wait().unwrap();
                let error = Command::new("/not/there").output().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound);
            }
        };
        round();
        let before = common::open_descriptors();
        round();
        assert_eq!(common::open_descriptors(), before);
    }

    fn without_pidfd_open_a_child_is_looked_at_now_and_then() {
        refuse_pidfd_open(libc::ENOSYS);
        waits_by_looking();
    }

    fn where_pidfd_open_is_forbidden_a_child_is_looked_at_now_and_then() {
        refuse_pidfd_open(libc::EPERM);
        waits_by_looking();
    }
}

fn waits_by_looking() {
    let mut child = until_eof();
    let stdin = child.stdin.take();
    let waits = thread::spawn(move || child.wait());
    thread::yield_now();
    assert_eq!(inspect::snapshot().green_threads()[0].doing(), "sleeps");
    drop(stdin);
    assert!(waits.join().unwrap().unwrap().success());

    let output = sh("echo out; echo err >&2; exit 3").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );

    let mut child = until_eof();
    let stdin = child.stdin.take();
    assert!(timeout(Duration::from_millis(3), || child.wait()).is_err());
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// Makes pidfd_open(2) fail, for all OS threads of the process and for good.
fn refuse_pidfd_open(errno: i32) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        // The system call's number stands at offset 0 of seccomp_data.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_pidfd_open as u32,
        ),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain system calls; the program outlives the second one.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let tsync = libc::SECCOMP_FILTER_FLAG_TSYNC;
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        let result = libc::syscall(libc::SYS_seccomp, mode, tsync, &raw const program);
        assert_eq!(result, 0, "seccomp(2): {}", std::io::Error::last_os_error());
    }
}
