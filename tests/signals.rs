//! A storm of signals, whose handler does not restart system calls: no call of
//! a user fails with `Interrupted`, nothing is lost, no time limit is early and
//! none is put off.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use common::net::{bytes_from, full_listener, pair};
use greenring::io::{ErrorKind, Read, Write};
use greenring::net::{TcpListener, TcpStream, ToSocketAddrs};
use greenring::thread;
use greenring::time::{Duration, Instant};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const MANY: u64 = 10_000;

/// Signals that were handled.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Written to by the handler, read by the sender, which so sends one signal at
/// a time: a pending one would swallow the next.
static ANSWER: OnceLock<EventFd> = OnceLock::new();

extern "C" fn answer(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    // Its success leaves errno alone, and it does not fail.
    let _ = ANSWER.get().map(|answer| answer.write(1));
}

/// Sends SIGUSR1 to the calling OS thread as fast as it handles them, until
/// dropped.
///
/// A test goes on until it has seen [`MANY`] of them.
struct Storm {
    over: Arc<AtomicBool>,
    sender: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn start() -> Storm {
        let action = SigAction::new(
            SigHandler::Handler(answer),
            // Without SA_RESTART.
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler adds to an atomic and writes to a descriptor.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("sigaction");
        // SAFETY: always succeeds.
        let target = unsafe { libc::pthread_self() };
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let answer = ANSWER.get_or_init(|| EventFd::new().expect("eventfd"));
        let sender = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: the target is alive, it waits for this OS thread to end.
                let result = unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                assert_eq!(result, 0, "pthread_kill");
                answer.read().expect("the handler's answer");
                // Lets the target get somewhere, not always equally far.
                for _ in 0..HANDLED.load(Ordering::Relaxed) % 64 {
                    std::hint::spin_loop();
                }
            }
        });
        Storm {
            over,
            sender: Some(sender),
        }
    }

    /// Repeats `round` until the storm has raged for long enough.
    fn rage_during(self, mut round: impl FnMut()) {
        while HANDLED.load(Ordering::Relaxed) < MANY {
            round();
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            // Not `join`: the last signal has to be handled here.
            while !sender.is_finished() {
                std::thread::yield_now();
            }
            sender.join().expect("the sender did not panic");
        }
    }
}

both_backends_alone! {
    fn reads_and_writes_lose_nothing_in_a_storm_of_signals() {
        Storm::start().rage_during(read_and_write);
    }

    fn connects_and_accepts_lose_nothing_in_a_storm_of_signals() {
        Storm::start().rage_during(connect_and_accept);
    }

    fn time_limits_hold_in_a_storm_of_signals() {
        Storm::start().rage_during(let_time_run_out);
    }

    fn names_and_unparks_from_elsewhere_arrive_in_a_storm_of_signals() {
        Storm::start().rage_during(look_a_name_up);
    }
}

/// Streams bytes over several connections, in pieces of all sizes.
fn read_and_write() {
    const PAIRS: usize = 4;
    const BYTES: usize = 100_000;
    let mut handles = Vec::new();
    for _ in 0..PAIRS {
        let (writer, reader) = pair();
        handles.push(thread::spawn(move || {
            let bytes = bytes_from(0, BYTES);
            let mut sent = 0;
            while sent < BYTES {
                let length = 1 + sent % 5000;
                sent += (&writer)
                    .write(&bytes[sent..BYTES.min(sent + length)])
                    .unwrap();
                if sent % 3 == 0 {
                    thread::yield_now();
                }
            }
        }));
        handles.push(thread::spawn(move || {
            let mut buffer = [0; 3000];
            let mut position = 0;
            loop {
                let count = (&reader).read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                assert!(buffer[..count] == bytes_from(position, count));
                position += count;
            }
            assert_eq!(position, BYTES);
        }));
    }
    for handle in handles {
        handle.join().unwrap();
    }
}

/// Serves one connection after the other.
fn connect_and_accept() {
    const CONNECTIONS: usize = 50;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(CONNECTIONS) {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut word = [0; 8];
                stream.read_exact(&mut word).unwrap();
                stream.write_all(&word).unwrap();
            });
        }
    });
    for number in 0..CONNECTIONS as u64 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&number.to_ne_bytes()).unwrap();
        let mut word = [0; 8];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(u64::from_ne_bytes(word), number);
    }
    server.join().unwrap();
}

/// Sleeps, reads and connects for as long as it may take.
fn let_time_run_out() {
    let (stream, _peer) = pair();
    stream
        .set_read_timeout(Some(Duration::from_millis(12)))
        .unwrap();
    let (_listener, address, _filling) = full_listener();
    let slept = Rc::new(Cell::new(0));
    let sleepers: Vec<_> = (1..20)
        .map(|number| {
            let slept = Rc::clone(&slept);
            thread::spawn(move || {
                let time = Duration::from_millis(number);
                let begin = Instant::now();
                thread::sleep(time);
                assert!(begin.elapsed() >= time);
                slept.set(slept.get() + 1);
            })
        })
        .collect();
    let connecting = thread::spawn(move || {
        let limit = Duration::from_millis(15);
        let begin = Instant::now();
        let error = TcpStream::connect_timeout(&address, limit).unwrap_err();
        assert!(begin.elapsed() >= limit);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
    let begin = Instant::now();
    let error = (&stream).read(&mut [0; 8]).unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(12));
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    connecting.join().unwrap();
    for sleeper in sleepers {
        sleeper.join().unwrap();
    }
    assert_eq!(slept.get(), 19);
}

/// Has another OS thread look a name up and unpark this one.
fn look_a_name_up() {
    assert!("127.1:80".to_socket_addrs().unwrap().count() > 0);
}

/// What io_uring or epoll give up when a signal comes is nobody's business,
/// also when the hub sleeps without a limit.
#[test]
fn the_storm_reaches_a_sleeping_hub() {
    common::seccomp::refuse_if_asked();
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    std::thread::spawn(|| {
        let storm = Storm::start();
        let (stream, peer) = pair();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let writing = std::thread::spawn(move || {
            wait.recv().unwrap();
            // Some signals later.
            let before = HANDLED.load(Ordering::Relaxed);
            while HANDLED.load(Ordering::Relaxed) < before + 100 {
                std::thread::yield_now();
            }
            std::net::TcpStream::from(peer).write_all(b"awake").unwrap();
        });
        go.send(()).unwrap();
        assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 5);
        writing.join().unwrap();
        drop(storm);
    })
    .join()
    .unwrap();
}
