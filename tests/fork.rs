//! A forked child cannot use its parent's hub, is told so, and does the parent
//! no harm.

mod common;

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use greenring::net::TcpStream;
use greenring::runtime::{Builder, stats};
use greenring::thread::{self, JoinHandle};

use common::{Child, child_on_each_backend, connection, end_after, forked, is_child};

const SENTENCE: &str = "cannot be used in a forked child";

/// Green threads that exchange bytes for ever, one that sleeps, and one that
/// reads from a connection on which nothing comes.
fn live_hub() -> (TcpStream, JoinHandle<u64>) {
    let (mut near, mut far) = connection();
    thread::spawn(move || {
        let mut byte = [0];
        while far.read(&mut byte).unwrap() == 1 {
            far.write_all(&byte).unwrap();
        }
    });
    let pings = thread::spawn(move || {
        for round in 0..200_u64 {
            let byte = [round as u8];
            near.write_all(&byte).unwrap();
            let mut answer = [0];
            near.read_exact(&mut answer).unwrap();
            assert_eq!(answer, byte);
        }
        200
    });
    let (silent, mut reads) = connection();
    thread::spawn(move || {
        let _ = reads.read(&mut [0; 100]);
    });
    thread::spawn(|| thread::sleep(Duration::from_millis(5)));
    while stats().in_flight < 2 {
        thread::yield_now();
    }
    (silent, pings)
}

/// Asserts that every call refuses, in the child.
fn assert_refused(stream: &TcpStream) {
    let (mut sends, mut receives) = (stream, stream);
    let calls: [&mut dyn FnMut(); 8] = [
        &mut || drop(thread::spawn(|| ())),
        &mut || drop(thread::Builder::new().spawn(|| ())),
        &mut || thread::yield_now(),
        &mut || thread::sleep(Duration::from_millis(1)),
        &mut || thread::park(),
        &mut || thread::park_timeout(Duration::from_millis(1)),
        &mut || drop(sends.write(&[1])),
        &mut || drop(receives.read(&mut [0])),
    ];
    for (n, call) in calls.into_iter().enumerate() {
        let payload = catch_unwind(AssertUnwindSafe(call)).expect_err(&format!("call {n}"));
        let text = payload.downcast_ref::<&str>().expect("a sentence");
        assert!(text.contains(SENTENCE), "{text}");
    }
}

#[test]
fn calls_in_a_forked_child_say_what_is_wrong_and_the_parent_goes_on() {
    const TEST: &str = "calls_in_a_forked_child_say_what_is_wrong_and_the_parent_goes_on";
    if is_child(TEST) {
        end_after(30);
        let (silent, pings) = live_hub();
        let code = forked(|| {
            assert_refused(&silent);
            3
        });
        assert_eq!(code, 3);
        assert_eq!(pings.join().unwrap(), 200);
        // Also from a green thread.
        let (silent, pings) = live_hub();
        let code = thread::spawn(move || {
            forked(|| {
                assert_refused(&silent);
                4
            })
        });
        assert_eq!(code.join().unwrap(), 4);
        assert_eq!(pings.join().unwrap(), 200);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

#[test]
fn a_forked_child_may_exit_and_drop_everything() {
    const TEST: &str = "a_forked_child_may_exit_and_drop_everything";
    if is_child(TEST) {
        end_after(30);
        let (silent, pings) = live_hub();
        let mut silent = Some(silent);
        let mut pings = Some(pings);
        // With the destructors of thread-locals.
        assert_eq!(forked(|| std::process::exit(5)), 5);
        let code = forked(|| {
            drop(silent.take());
            drop(pings.take());
            std::process::exit(6)
        });
        assert_eq!(code, 6);
        let exits = thread::spawn(|| forked(|| std::process::exit(7)));
        assert_eq!(exits.join().unwrap(), 7);
        assert_eq!(pings.unwrap().join().unwrap(), 200);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

#[test]
fn a_forked_child_may_leave_the_closure_of_a_hub() {
    const TEST: &str = "a_forked_child_may_leave_the_closure_of_a_hub";
    /// Comes back from the fork twice: with 0 in the child.
    fn fork() -> libc::pid_t {
        // SAFETY: as in `forked`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            end_after(10);
        }
        pid
    }
    fn exit_of(pid: libc::pid_t) -> i32 {
        let mut status = 0;
        // SAFETY: `status` outlives the call, and the child is nobody else's.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        if libc::WIFSIGNALED(status) {
            -libc::WTERMSIG(status)
        } else {
            libc::WEXITSTATUS(status)
        }
    }
    fn leave(code: i32) -> ! {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }
    if is_child(TEST) {
        end_after(30);
        // The closure returns in the child too, with green threads alive.
        let mut child = -1;
        let run = catch_unwind(AssertUnwindSafe(|| {
            Builder::new().run(|| {
                let (silent, pings) = live_hub();
                child = fork();
                if child != 0 {
                    assert_eq!(pings.join().unwrap(), 200);
                    assert_eq!(exit_of(child), 8);
                }
                drop(silent);
            })
        }));
        if child == 0 {
            // An error or a panic, as long as it says what is wrong.
            match run {
                Ok(Ok(())) => {}
                Ok(Err(error)) => assert!(error.to_string().contains(SENTENCE), "{error}"),
                Err(payload) => {
                    let text = payload.downcast_ref::<&str>().expect("a sentence");
                    assert!(text.contains(SENTENCE), "{text}");
                }
            }
            // Nothing of the hub is left behind to stumble over.
            let after = catch_unwind(|| {
                thread::sleep(Duration::from_millis(1));
                stats().blocks
            });
            leave(if matches!(after, Ok(0) | Err(_)) {
                8
            } else {
                9
            });
        }
        run.unwrap().unwrap();
        eprintln!("the parent went on");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["the parent went on"]);
    });
}

#[test]
fn a_forked_child_may_have_a_hub_of_its_own() {
    const TEST: &str = "a_forked_child_may_have_a_hub_of_its_own";
    fn own_hub() -> i32 {
        let (mut near, mut far) = connection();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(1));
            far.write_all(&[1]).unwrap();
        });
        near.read_exact(&mut [0]).unwrap();
        writer.join().unwrap();
        Builder::new()
            .run(|| thread::spawn(|| 6).join().unwrap())
            .unwrap()
    }
    if is_child(TEST) {
        end_after(30);
        // This OS thread has none, though another one has had one.
        std::thread::spawn(|| thread::spawn(|| ()).join().unwrap())
            .join()
            .unwrap();
        assert_eq!(forked(own_hub), 6);
        // And the child's child.
        assert_eq!(forked(|| forked(own_hub)), 6);
        assert_eq!(forked(|| own_hub() + forked(|| 1)), 7);
        assert_eq!(own_hub(), 6);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

/// On the loop nobody is there to be told by a panic.
#[test]
fn a_forked_child_that_comes_back_to_the_loop_is_ended_with_a_sentence() {
    const TEST: &str = "a_forked_child_that_comes_back_to_the_loop_is_ended_with_a_sentence";
    if is_child(TEST) {
        end_after(30);
        let forks = thread::spawn(|| {
            // SAFETY: the child goes back to the loop, which ends it.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                end_after(10);
            }
            pid
        });
        // In the child nobody gets here.
        let pid = forks.join().unwrap();
        assert_ne!(pid, 0, "the child has left the loop");
        let mut status = 0;
        // SAFETY: `status` outlives the call, and the child is nobody else's.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(libc::WIFSIGNALED(status), "{status}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGABRT);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["greenring: fatal: greenring cannot be used in a forked child"]);
    });
}

#[test]
fn files_and_children_before_a_fork_leave_the_child_free() {
    const TEST: &str = "files_and_children_before_a_fork_leave_the_child_free";
    if is_child(TEST) {
        end_after(30);
        let text = greenring::fs::read_to_string("Cargo.toml").unwrap();
        let mut again = String::new();
        let mut file = greenring::fs::File::open("Cargo.toml").unwrap();
        std::io::Read::read_to_string(&mut file, &mut again).unwrap();
        assert_eq!(again, text);
        let status = greenring::process::Command::new("true").status();
        assert!(status.unwrap().success());
        let serves = || {
            let listener = greenring::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let accepts = greenring::spawn(move || listener.accept().map(drop));
            drop(greenring::net::TcpStream::connect(address).unwrap());
            accepts.join().unwrap().unwrap();
            std::process::exit(7)
        };
        assert_eq!(forked(serves), 7);
        eprintln!("it has served");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["it has served"]);
    });
}
