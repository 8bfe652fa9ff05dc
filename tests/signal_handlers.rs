//! `greenring::signal`: who receives a signal, what becomes of those who handled
//! it before, and that nothing of it outlives its last receiver.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{
    Child, child_on_each_backend, connection, end_after, forked, is_child, open_descriptors,
};
use greenring::runtime::{self, Builder};
use greenring::signal::{
    self, SIGALRM, SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signals,
};
use greenring::thread;

// ----- what the tests stand on ---------------------------------------------

/// Raises a signal on the calling OS thread, which has handled it on return.
fn raise(signal: i32) {
    // SAFETY: takes a plain value; the tests catch what they raise.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// What the process does about a signal.
fn action_of(signal: i32) -> libc::sigaction {
    // SAFETY: all zeros is a value of this C structure, and asking changes
    // nothing.
    unsafe {
        let mut action = std::mem::zeroed();
        let asked = libc::sigaction(signal, std::ptr::null(), &raw mut action);
        assert_eq!(asked, 0);
        action
    }
}

fn set_action(signal: i32, action: &libc::sigaction) {
    // SAFETY: the tests' handlers touch atomics only.
    let set = unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// An action with a mask, to see whether it comes back whole.
fn action(function: libc::sighandler_t, flags: i32) -> libc::sigaction {
    let mut action = action_of(SIGWINCH);
    action.sa_sigaction = function;
    action.sa_flags = flags;
    // SAFETY: a mask on this frame.
    unsafe { libc::sigaddset(&raw mut action.sa_mask, libc::SIGURG) };
    action
}

#[track_caller]
fn assert_same(one: &libc::sigaction, other: &libc::sigaction) {
    // What the C library adds.
    const RESTORER: i32 = 0x0400_0000;
    assert_eq!(one.sa_sigaction, other.sa_sigaction);
    assert_eq!(one.sa_flags & !RESTORER, other.sa_flags & !RESTORER);
    for signal in 1..=64 {
        // SAFETY: masks that are borrowed.
        let has = |mask| unsafe { libc::sigismember(mask, signal) };
        assert_eq!(has(&one.sa_mask), has(&other.sa_mask), "{signal}");
    }
}

/// Calls of the handlers below.
static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plain(signal: i32) {
    assert_eq!(signal, SIGUSR1);
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// Who sent the last signal.
static SENDER: AtomicI32 = AtomicI32::new(0);

extern "C" fn full(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    assert_eq!(signal, SIGUSR1);
    assert!(!context.is_null());
    // SAFETY: what the kernel passes to a handler of three arguments.
    SENDER.store(unsafe { (*info).si_pid() }, Ordering::Relaxed);
    CALLS.fetch_add(1, Ordering::Relaxed);
}

fn plain_function() -> libc::sighandler_t {
    let function: extern "C" fn(i32) = plain;
    function as libc::sighandler_t
}

fn full_function() -> libc::sighandler_t {
    let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = full;
    function as libc::sighandler_t
}

fn calls() -> usize {
    CALLS.load(Ordering::Relaxed)
}

// ----- receiving -----------------------------------------------------------

both_backends_alone! {
    fn a_signal_ends_the_wait_for_it() {
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        let log = Rc::new(RefCell::new(Vec::new()));
        let theirs = Rc::clone(&log);
        let waiting = thread::spawn(move || {
            theirs.borrow_mut().push("waits");
            let signal = signals.recv();
            theirs.borrow_mut().push("has it");
            signal
        });
        while runtime::stats().in_flight < 1 {
            thread::yield_now();
        }
        log.borrow_mut().push("raises");
        raise(SIGUSR1);
        assert_eq!(waiting.join().unwrap(), SIGUSR1);
        assert_eq!(*log.borrow(), ["waits", "raises", "has it"]);
    }

    fn a_signal_that_came_before_is_received_once() {
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        assert_eq!(signals.try_recv(), None);
        for _ in 0..3 {
            raise(SIGUSR1);
        }
        assert_eq!(signals.recv(), SIGUSR1);
        assert_eq!(signals.try_recv(), None);
        raise(SIGUSR1);
        assert_eq!(signals.try_recv(), Some(SIGUSR1));
        assert_eq!(signals.recv_timeout(Duration::ZERO), None);
    }

    fn of_several_signals_each_is_received() {
        let real_time = libc::SIGRTMIN() + 1;
        let all = [real_time, SIGUSR2, SIGALRM, SIGUSR1, SIGUSR1, libc::SIGRTMAX()];
        let mut signals = Signals::new(&all).unwrap();
        all.into_iter().for_each(raise);
        let mut received = Vec::new();
        while let Some(signal) = signals.try_recv() {
            received.push(signal);
        }
        assert_eq!(received, [SIGUSR1, SIGUSR2, SIGALRM, real_time, libc::SIGRTMAX()]);
        assert_eq!(signals.try_recv(), None);
    }

    fn all_64_signals_may_wait_at_a_time() {
        let all: Vec<i32> = (1..=64).filter(|signal| Signals::new(&[*signal]).is_ok()).collect();
        assert!(all.len() >= 50, "{all:?}");
        let mut signals = Signals::new(&all).unwrap();
        for _ in 0..20 {
            all.iter().copied().for_each(raise);
            for signal in &all {
                assert_eq!(signals.recv(), *signal);
            }
            assert_eq!(signals.try_recv(), None);
        }
    }

    fn every_receiver_of_a_signal_receives_it_and_no_other() {
        let mut one = Signals::new(&[SIGUSR1]).unwrap();
        let mut both = Signals::new(&[SIGUSR1, SIGUSR2]).unwrap();
        let mut other = Signals::new(&[SIGUSR2]).unwrap();
        raise(SIGUSR1);
        assert_eq!(one.recv(), SIGUSR1);
        assert_eq!(both.recv(), SIGUSR1);
        assert_eq!(other.try_recv(), None);
        drop(one);
        raise(SIGUSR1);
        raise(SIGUSR2);
        assert_eq!((both.recv(), both.recv()), (SIGUSR1, SIGUSR2));
        assert_eq!(other.recv(), SIGUSR2);
        assert_eq!(other.try_recv(), None);
    }

    fn a_receiver_does_not_hear_what_an_earlier_one_left_behind() {
        let first = Signals::new(&[SIGUSR1, SIGUSR2]).unwrap();
        raise(SIGUSR1);
        raise(SIGUSR2);
        drop(first);
        let mut second = Signals::new(&[SIGUSR1]).unwrap();
        assert_eq!(second.try_recv(), None);
        raise(SIGUSR1);
        assert_eq!(second.recv(), SIGUSR1);
    }

    fn a_time_limit_ends_the_wait_but_not_early() {
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        let begin = Instant::now();
        assert_eq!(signals.recv_timeout(Duration::from_millis(20)), None);
        assert!(begin.elapsed() >= Duration::from_millis(20));
        // The byte of a signal that was taken with another one's is no signal.
        raise(SIGUSR1);
        assert_eq!(signals.recv(), SIGUSR1);
        assert_eq!(signals.recv_timeout(Duration::from_millis(20)), None);
        assert!(begin.elapsed() >= Duration::from_millis(40));
        thread::spawn(|| raise(SIGUSR1));
        assert_eq!(signals.recv_timeout(Duration::MAX), Some(SIGUSR1));
    }

    fn ctrl_c_waits_for_sigint() {
        for _ in 0..3 {
            let before = action_of(SIGINT);
            let waiting = thread::spawn(signal::ctrl_c);
            thread::yield_now();
            raise(SIGINT);
            waiting.join().unwrap().unwrap();
            assert_same(&action_of(SIGINT), &before);
        }
    }

    fn a_signal_of_the_process_comes_from_any_os_thread() {
        let mut signals = Signals::new(&[SIGTERM]).unwrap();
        let sender = std::thread::spawn(|| {
            // SAFETY: takes plain values, and the signal is caught.
            assert_eq!(unsafe { libc::kill(libc::getpid(), SIGTERM) }, 0);
        });
        assert_eq!(signals.recv(), SIGTERM);
        sender.join().unwrap();
        let sender = std::thread::spawn(|| raise(SIGTERM));
        assert_eq!(signals.recv(), SIGTERM);
        sender.join().unwrap();
    }

    fn hubs_on_several_os_threads_receive_the_same_signal() {
        const HUBS: usize = 3;
        const ROUNDS: usize = 50;
        let backend = runtime::backend();
        let (ready, all_ready) = mpsc::channel();
        let hubs: Vec<_> = (0..HUBS)
            .map(|_| {
                let ready = ready.clone();
                std::thread::spawn(move || {
                    Builder::new().backend(backend).run(|| {
                        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
                        for _ in 0..ROUNDS {
                            ready.send(()).unwrap();
                            assert_eq!(signals.recv(), SIGUSR1);
                        }
                    })
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            for _ in 0..HUBS {
                all_ready.recv().unwrap();
            }
            raise(SIGUSR1);
        }
        for hub in hubs {
            hub.join().unwrap().unwrap();
        }
    }

    fn a_receiver_outlives_the_hub_it_was_used_on() {
        let backend = runtime::backend();
        std::thread::spawn(move || {
            let mut signals = Signals::new(&[SIGUSR1]).unwrap();
            for _ in 0..3 {
                let run = Builder::new().backend(backend).run(|| {
                    thread::spawn(|| raise(SIGUSR1));
                    signals.recv()
                });
                assert_eq!(run.unwrap(), SIGUSR1);
            }
        })
        .join()
        .unwrap();
    }

    fn the_end_of_a_child_process_is_received() {
        let mut signals = Signals::new(&[SIGCHLD]).unwrap();
        for _ in 0..3 {
            let mut child = Command::new("true").spawn().unwrap();
            assert_eq!(signals.recv(), SIGCHLD);
            assert!(child.wait().unwrap().success());
        }
    }

    fn errno_is_not_disturbed() {
        use nix::errno::Errno;
        let _signals = Signals::new(&[SIGUSR1]).unwrap();
        for _ in 0..3 {
            Errno::set_raw(77);
            raise(SIGUSR1);
            assert_eq!(Errno::last_raw(), 77);
        }
    }
}

// ----- who handled it before -------------------------------------------------

both_backends_alone! {
    fn an_earlier_handler_is_still_called_and_comes_back() {
        let own_process = std::process::id() as i32;
        for (function, flags) in [
            (plain_function(), 0),
            (plain_function(), libc::SA_NODEFER | libc::SA_RESTART),
            (full_function(), libc::SA_SIGINFO),
            (full_function(), libc::SA_SIGINFO | libc::SA_ONSTACK),
        ] {
            let earlier = action(function, flags);
            set_action(SIGUSR1, &earlier);
            let earlier = action_of(SIGUSR1);
            let before = calls();
            let mut signals = Signals::new(&[SIGUSR1]).unwrap();
            let more = Signals::new(&[SIGUSR1]).unwrap();
            SENDER.store(0, Ordering::Relaxed);
            raise(SIGUSR1);
            assert_eq!(calls(), before + 1);
            let sender = SENDER.load(Ordering::Relaxed);
            assert_eq!(sender, if flags & libc::SA_SIGINFO == 0 { 0 } else { own_process });
            assert_eq!(signals.recv(), SIGUSR1);
            drop(signals);
            assert_ne!(action_of(SIGUSR1).sa_sigaction, function);
            drop(more);
            assert_same(&action_of(SIGUSR1), &earlier);
            raise(SIGUSR1);
            assert_eq!(calls(), before + 2);
        }
    }

    fn an_earlier_handler_for_one_time_is_called_one_time() {
        set_action(SIGUSR1, &action(plain_function(), libc::SA_RESETHAND));
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        for _ in 0..3 {
            raise(SIGUSR1);
            assert_eq!(signals.recv(), SIGUSR1);
            assert_eq!(calls(), 1);
        }
        drop(signals);
        assert_eq!(action_of(SIGUSR1).sa_sigaction, libc::SIG_DFL);
        // One that was not called comes back.
        set_action(SIGUSR1, &action(plain_function(), libc::SA_RESETHAND));
        drop(Signals::new(&[SIGUSR1]).unwrap());
        raise(SIGUSR1);
        assert_eq!(calls(), 2);
    }

    fn a_signal_that_was_ignored_is_ignored_again() {
        set_action(SIGUSR1, &action(libc::SIG_IGN, 0));
        let earlier = action_of(SIGUSR1);
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        raise(SIGUSR1);
        assert_eq!(signals.recv(), SIGUSR1);
        drop(signals);
        assert_same(&action_of(SIGUSR1), &earlier);
        raise(SIGUSR1);
    }

    fn the_flags_for_children_are_kept() {
        let flags = libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT;
        set_action(SIGCHLD, &action(libc::SIG_DFL, flags));
        let _signals = Signals::new(&[SIGCHLD]).unwrap();
        assert_eq!(action_of(SIGCHLD).sa_flags & flags, flags);
    }

    fn a_handler_that_comes_on_top_is_left_alone() {
        come_on_top();
        let before = calls();
        {
            // Ours is called by the one on top, once.
            let mut signals = Signals::new(&[SIGUSR1]).unwrap();
            raise(SIGUSR1);
            assert_eq!(calls(), before + 1);
            assert_eq!(signals.recv(), SIGUSR1);
            assert_eq!(signals.try_recv(), None);
        }
        raise(SIGUSR1);
        assert_eq!(calls(), before + 2);
        assert_eq!(action_of(SIGUSR1).sa_sigaction, on_top_function());
    }

    fn a_receiver_comes_back_over_an_action_that_calls_nobody() {
        let mut one = Signals::new(&[SIGUSR1]).unwrap();
        set_action(SIGUSR1, &action(libc::SIG_IGN, 0));
        raise(SIGUSR1);
        assert_eq!(one.try_recv(), None);
        let two = Signals::new(&[SIGUSR1]).unwrap();
        raise(SIGUSR1);
        assert_eq!(one.try_recv(), Some(SIGUSR1));
        drop((one, two));
        assert_eq!(action_of(SIGUSR1).sa_sigaction, libc::SIG_IGN);
    }
}

/// What the handler on top calls.
static BENEATH: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_top(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let beneath = BENEATH.load(Ordering::Relaxed);
    type Full = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: an SA_SIGINFO handler, as `come_on_top` has seen.
    let beneath = unsafe { std::mem::transmute::<usize, Full>(beneath) };
    beneath(signal, info, context);
}

fn on_top_function() -> libc::sighandler_t {
    let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_top;
    function as libc::sighandler_t
}

/// Puts a handler before greenring's that calls it, as a good neighbour does,
/// and drops the only receiver; gives greenring's action.
fn come_on_top() -> libc::sigaction {
    let signals = Signals::new(&[SIGUSR1]).unwrap();
    let beneath = action_of(SIGUSR1);
    assert_ne!(beneath.sa_flags & libc::SA_SIGINFO, 0);
    BENEATH.store(beneath.sa_sigaction, Ordering::Relaxed);
    set_action(SIGUSR1, &action(on_top_function(), libc::SA_SIGINFO));
    drop(signals);
    beneath
}

#[test]
fn the_default_action_comes_back() {
    const TEST: &str = "the_default_action_comes_back";
    if is_child(TEST) {
        end_after(30);
        let mut signals = Signals::new(&[SIGTERM]).unwrap();
        raise(SIGTERM);
        assert_eq!(signals.recv(), SIGTERM);
        drop(signals);
        eprintln!("still here");
        raise(SIGTERM);
        eprintln!("immortal");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        assert_eq!(child.signal(), Some(SIGTERM), "{child:?}");
        child.assert_says(&["still here"]);
    });
}

/// The handler on top goes, and puts greenring's into force that nobody needs.
#[test]
fn a_handler_that_was_left_behind_does_not_swallow_the_signal() {
    const TEST: &str = "a_handler_that_was_left_behind_does_not_swallow_the_signal";
    if is_child(TEST) {
        end_after(30);
        let beneath = come_on_top();
        raise(SIGUSR1);
        assert_eq!(calls(), 1);
        set_action(SIGUSR1, &beneath);
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        raise(SIGUSR1);
        assert_eq!(signals.recv(), SIGUSR1);
        drop(signals);
        assert_eq!(action_of(SIGUSR1).sa_sigaction, libc::SIG_DFL);
        let beneath = come_on_top();
        set_action(SIGUSR1, &beneath);
        eprintln!("still here");
        raise(SIGUSR1);
        eprintln!("immortal");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        assert_eq!(child.signal(), Some(SIGUSR1), "{child:?}");
        child.assert_says(&["still here"]);
    });
}

// ----- handlers --------------------------------------------------------------

/// Yields until `is_so`.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

both_backends_alone! {
    fn a_handler_keeps_its_state() {
        let sum = Rc::new(Cell::new(0));
        let shared = Rc::clone(&sum);
        let mut calls = 0;
        signal::on(SIGUSR1, move || {
            calls += 1;
            shared.set(shared.get() + calls);
        })
        .unwrap();
        for expected in [1, 3, 6, 10] {
            raise(SIGUSR1);
            until(|| sum.get() == expected);
        }
    }

    fn a_handler_may_wait_and_the_others_go_on() {
        let (mut near, mut far) = connection();
        let handled = Rc::new(Cell::new(0));
        let count = Rc::clone(&handled);
        signal::on(SIGUSR1, move || {
            thread::sleep(Duration::from_millis(1));
            let mut byte = [0];
            far.read_exact(&mut byte).unwrap();
            count.set(count.get() + 1);
        })
        .unwrap();
        for round in 1..=3 {
            raise(SIGUSR1);
            for _ in 0..100 {
                assert_eq!(thread::spawn(|| 5).join().unwrap(), 5);
            }
            thread::sleep(Duration::from_millis(3));
            assert_eq!(handled.get(), round - 1);
            // What comes while it waits makes one more call.
            near.write_all(&[1]).unwrap();
            until(|| handled.get() == round);
        }
    }

    fn what_comes_during_a_call_makes_the_next_call() {
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        let handler = Rc::new(RefCell::new(None));
        let own = Rc::clone(&handler);
        signal::on(SIGUSR1, move || {
            count.set(count.get() + 1);
            if count.get() == 1 {
                *own.borrow_mut() = Some(thread::current());
                thread::park();
            }
        })
        .unwrap();
        raise(SIGUSR1);
        until(|| calls.get() == 1);
        raise(SIGUSR1);
        raise(SIGUSR1);
        thread::yield_now();
        assert_eq!(calls.get(), 1);
        handler.borrow().as_ref().unwrap().unpark();
        until(|| calls.get() == 2);
        thread::sleep(Duration::from_millis(1));
        assert_eq!(calls.get(), 2);
    }

    fn a_signal_may_have_several_handlers() {
        let log = Rc::new(RefCell::new(Vec::new()));
        for name in ["one", "two"] {
            let log = Rc::clone(&log);
            signal::on(SIGUSR1, move || log.borrow_mut().push(name)).unwrap();
        }
        raise(SIGUSR1);
        until(|| log.borrow().len() == 2);
        log.borrow_mut().sort_unstable();
        assert_eq!(*log.borrow(), ["one", "two"]);
    }

    fn the_end_of_a_hub_ends_its_handlers() {
        let backend = runtime::backend();
        set_action(SIGUSR1, &action(plain_function(), 0));
        let earlier = action_of(SIGUSR1);
        std::thread::spawn(move || {
            let dropped = Rc::new(());
            let theirs = [Rc::clone(&dropped), Rc::clone(&dropped)];
            let [idle, busy] = theirs;
            let run = Builder::new().backend(backend).run(|| {
                signal::on(SIGUSR2, move || drop(Rc::clone(&idle))).unwrap();
                let called = Rc::new(Cell::new(false));
                let call = Rc::clone(&called);
                signal::on(SIGUSR1, move || {
                    call.set(true);
                    let _kept = Rc::clone(&busy);
                    thread::sleep(Duration::MAX);
                })
                .unwrap();
                // One that has not started yet when the hub ends.
                raise(SIGUSR1);
                until(|| called.get());
                signal::on(SIGUSR1, || unreachable!("it never started")).unwrap();
            });
            run.unwrap();
            assert_eq!(Rc::strong_count(&dropped), 1);
        })
        .join()
        .unwrap();
        assert_same(&action_of(SIGUSR1), &earlier);
        assert_eq!(action_of(SIGUSR2).sa_sigaction, libc::SIG_DFL);
    }

    fn a_handler_that_raises_its_own_signal_starves_nobody() {
        let backend = runtime::backend();
        std::thread::spawn(move || {
            // Returns also, though the handler always has something to do.
            Builder::new().backend(backend).run(|| {
                signal::on(SIGUSR1, || raise(SIGUSR1)).unwrap();
                raise(SIGUSR1);
                for _ in 0..1000 {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(1));
            })
        })
        .join()
        .unwrap()
        .unwrap();
    }
}

#[test]
fn a_handlers_panic_is_told_and_the_handler_stays() {
    const TEST: &str = "a_handlers_panic_is_told_and_the_handler_stays";
    if is_child(TEST) {
        end_after(30);
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        signal::on(SIGUSR1, move || {
            count.set(count.get() + 1);
            assert!(count.get() != 1, "on purpose");
        })
        .unwrap();
        for expected in 1..4 {
            raise(SIGUSR1);
            until(|| calls.get() == expected);
        }
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["green thread 'on SIGUSR1'", file!(), "panics", "on purpose"]);
    });
}

// ----- the process -----------------------------------------------------------

both_backends_alone! {
    fn receivers_that_come_and_go_leak_no_descriptor() {
        let before = open_descriptors();
        for round in 0..1000 {
            let mut signals = Signals::new(&[SIGUSR1, SIGTERM]).unwrap();
            if round % 10 == 0 {
                raise(SIGTERM);
                assert_eq!(signals.recv(), SIGTERM);
            }
        }
        assert_eq!(open_descriptors(), before + 2);
        let three: Vec<_> = (0..3).map(|_| Signals::new(&[SIGUSR1]).unwrap()).collect();
        assert_eq!(open_descriptors(), before + 6);
        drop(three);
        let three: Vec<_> = (0..3).map(|_| Signals::new(&[SIGUSR2]).unwrap()).collect();
        assert_eq!(open_descriptors(), before + 6);
        drop(three);
    }

    fn a_storm_of_signals_loses_nothing() {
        const MANY: u32 = 10_000;
        static SENT: AtomicU32 = AtomicU32::new(0);
        let (mut near, mut far) = connection();
        let echo = thread::spawn(move || {
            let mut byte = [0];
            while far.read(&mut byte).unwrap() == 1 {
                far.write_all(&byte).unwrap();
            }
        });
        // The pair is made, and stays.
        drop(Signals::new(&[SIGUSR1]).unwrap());
        let before = open_descriptors();
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        let receiver = thread::spawn(move || {
            let mut received = 0;
            loop {
                assert_eq!(signals.recv(), SIGUSR1);
                received += 1;
                // The last one is never lost.
                if SENT.load(Ordering::SeqCst) == MANY {
                    // It may be about to be sent, so it must stay caught.
                    return (received, signals);
                }
            }
        });
        let sender = std::thread::spawn(|| {
            for _ in 0..MANY {
                SENT.fetch_add(1, Ordering::SeqCst);
                // SAFETY: takes plain values, and the signal is caught.
                unsafe { libc::kill(libc::getpid(), SIGUSR1) };
            }
        });
        let mut pings = 0_u32;
        while pings < 100 || !receiver.is_finished() {
            let byte = [pings as u8];
            near.write_all(&byte).unwrap();
            let mut answer = [0];
            near.read_exact(&mut answer).unwrap();
            assert_eq!(answer, byte);
            pings += 1;
        }
        let (received, signals) = receiver.join().unwrap();
        println!("{received} of {MANY} received during {pings} pings");
        sender.join().unwrap();
        drop(signals);
        drop(near);
        echo.join().unwrap();
        assert_eq!(open_descriptors(), before - 2);
    }

    fn receivers_come_and_go_in_a_storm_of_signals() {
        static OVER: AtomicU32 = AtomicU32::new(0);
        // What no receiver is there for is counted by the earlier handler.
        set_action(SIGUSR1, &action(plain_function(), libc::SA_RESTART));
        let sender = std::thread::spawn(|| {
            let mut sent = 0;
            while OVER.load(Ordering::Relaxed) == 0 {
                raise(SIGUSR1);
                sent += 1;
            }
            sent
        });
        for round in 0..500 {
            let mut signals = Signals::new(&[SIGUSR1]).unwrap();
            if round % 2 == 0 {
                assert_eq!(signals.recv(), SIGUSR1);
            }
        }
        OVER.store(1, Ordering::Relaxed);
        let sent: usize = sender.join().unwrap();
        assert_eq!(calls(), sent);
        assert_eq!(action_of(SIGUSR1).sa_sigaction, plain_function());
    }

    fn child_processes_start_as_always() {
        /// What a child sees of its own signals.
        fn signals_of_a_child() -> Vec<String> {
            let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("Sig"));
            lines.filter(|line| !line.starts_with("SigQ")).map(str::to_owned).collect()
        }
        let before = signals_of_a_child();
        let _signals = Signals::new(&[SIGINT, SIGTERM, SIGCHLD, SIGUSR1]).unwrap();
        signal::on(SIGUSR2, || ()).unwrap();
        thread::yield_now();
        assert_eq!(signals_of_a_child(), before);
        let none = |name: &str| format!("{name}:\t0000000000000000");
        assert!(before.contains(&none("SigBlk")), "{before:?}");
        assert!(before.contains(&none("SigCgt")), "{before:?}");
    }
}

#[test]
fn a_forked_child_does_not_tell_its_parent() {
    const TEST: &str = "a_forked_child_does_not_tell_its_parent";
    if is_child(TEST) {
        end_after(60);
        // No hub yet, so that the child may have one of its own.
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        drop(Signals::new(&[SIGUSR1]).unwrap());
        let code = forked(|| {
            raise(SIGUSR1);
            // What the parent has vacant is not the child's.
            let before = open_descriptors();
            let mut own = Signals::new(&[SIGUSR1]).unwrap();
            assert_eq!(open_descriptors(), before + 2);
            assert_eq!(own.try_recv(), None);
            raise(SIGUSR1);
            assert_eq!(own.recv(), SIGUSR1);
            drop(own);
            raise(SIGUSR1);
            let again = Signals::new(&[SIGUSR1]).unwrap();
            drop(again);
            3
        });
        assert_eq!(code, 3);
        assert_eq!(signals.try_recv(), None);
        raise(SIGUSR1);
        assert_eq!(signals.recv(), SIGUSR1);
        // Amid a hub, too.
        let waiting = thread::spawn(move || signals.recv());
        until(|| runtime::stats().in_flight == 1);
        let before = runtime::stats().completed;
        let code = forked(|| {
            raise(SIGUSR1);
            4
        });
        assert_eq!(code, 4);
        thread::sleep(Duration::from_millis(1));
        // Its wait was not even ended in vain.
        assert_eq!(runtime::stats().completed, before);
        assert!(!waiting.is_finished());
        raise(SIGUSR1);
        assert_eq!(waiting.join().unwrap(), SIGUSR1);
        // What the child drops is its own copy.
        let mut signals = Some(Signals::new(&[SIGUSR1]).unwrap());
        let code = forked(|| {
            drop(signals.take());
            raise(SIGUSR1);
            5
        });
        assert_eq!(code, -SIGUSR1);
        raise(SIGUSR1);
        assert_eq!(signals.unwrap().recv(), SIGUSR1);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}

// ----- arguments and types ---------------------------------------------------

#[test]
fn what_cannot_be_received_is_refused_by_name() {
    for (signal, part) in [
        (libc::SIGKILL, "SIGKILL cannot be caught"),
        (libc::SIGSTOP, "SIGSTOP cannot be caught"),
        (libc::SIGSEGV, "SIGSEGV tells of a fault"),
        (libc::SIGBUS, "SIGBUS tells of a fault"),
        (libc::SIGFPE, "SIGFPE tells of a fault"),
        (libc::SIGILL, "SIGILL tells of a fault"),
        (0, "signal 0 does not exist"),
        (-1, "signal -1 does not exist"),
        (65, "signal 65 does not exist"),
        (i32::MIN, "signal -2147483648 does not exist"),
        (i32::MAX, "signal 2147483647 does not exist"),
        (32, "signal 32 is kept by the C library"),
        (33, "signal 33 is kept by the C library"),
    ] {
        let errors = [
            Signals::new(&[signal]).unwrap_err(),
            Signals::new(&[SIGWINCH, signal]).unwrap_err(),
            signal::on(signal, || ()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(action_of(SIGWINCH).sa_sigaction, libc::SIG_DFL);
    }
    let error = Signals::new(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "no signal was named to receive");
}

#[test]
fn a_receiver_tells_its_signals() {
    let signals = Signals::new(&[libc::SIGIO, libc::SIGURG, libc::SIGRTMIN() + 7]).unwrap();
    let real_time = format!("signal {}", libc::SIGRTMIN() + 7);
    assert_eq!(
        format!("{signals:?}"),
        format!("Signals {{SIGURG, SIGIO, {real_time}}}")
    );
}

#[test]
fn a_receiver_stays_on_its_os_thread() {
    /// Implemented once for all types, and once more for those that have the
    /// trait, in which case `check` does not know which one is meant.
    trait Unless<Reason> {
        fn check() {}
    }
    struct Send_;
    struct Sync_;
    impl<T> Unless<()> for T {}
    impl<T: Send> Unless<Send_> for T {}
    impl<T: Sync> Unless<Sync_> for T {}
    <Signals as Unless<_>>::check();
    fn is_unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe + Unpin>() {}
    is_unwind_safe::<Signals>();
}
