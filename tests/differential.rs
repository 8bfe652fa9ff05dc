//! greenring does what std does: the same scripts of TCP calls, run by the same
//! program over `std` and over `greenring` on both backends, give the same
//! results, byte for byte and errno for errno.
//!
//! The program is written once, as a macro that is expanded with `use std as
//! rt` and with `use greenring as rt`; nothing else differs. A script runs on
//! one OS thread and in one order. After each step it waits until what the step
//! sent has arrived at the other end, so that the next step finds the same in
//! every run.
//!
//! Reads are plain here, also where suites run with readers
//! (`GREENRING_TEST_READER`): what a reader has read ahead is out of sight of
//! FIONREAD, of a conversion and of the close that resets for unread data.
//!
//! Random scripts are shrunk by proptest, which prints the shortest that
//! differs. `GREENRING_TEST_SCRIPTS` is their number, 60 if not set.

mod common;

use std::time::Duration;

use common::is_available;
use greenring::runtime::{Backend, Builder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The most bytes that may lie unread in one direction: every socket takes so
/// many without waiting.
const ROOM: usize = 32 << 10;

/// How long a step may take to arrive over the loopback before the script is
/// declared wrong; only so that proptest can shrink it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of the two ends of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

/// How a stream is converted and comes back.
#[derive(Clone, Copy, Debug)]
enum Way {
    OwnedFd,
    RawFd,
    StdType,
}

#[derive(Clone, Copy, Debug)]
enum Sides {
    Read,
    Write,
    Both,
}

/// A call on one end. Both ends have a read and a write timeout all the time,
/// so that none waits for ever.
#[derive(Clone, Debug)]
enum Call {
    Read(usize),
    ReadVectored(Vec<usize>),
    Peek(usize),
    Write(usize),
    WriteVectored(Vec<usize>),
    /// Into a socket that has no room, until it says so.
    Fill,
    Drain,
    Shutdown(Sides),
    ReadTimeout(Duration),
    WriteTimeout(Duration),
    NoTimeouts,
    Nonblocking(bool),
    Nodelay(bool),
    Ttl(u32),
    TakeError,
    Addresses,
    /// The end's calls are made through a new clone from then on.
    TryClone,
    /// Its oldest handle is dropped; with the last one the end closes.
    DropOldest,
    /// Makes the close a reset.
    LingerZero,
    Convert(Way),
}

/// What happens on a listener beside the connection.
#[derive(Clone, Copy, Debug)]
enum Visit {
    Connect,
    Accept,
    Nonblocking(bool),
    /// The oldest client that was not accepted closes, or resets.
    Leave {
        reset: bool,
    },
    Close,
}

#[derive(Clone, Debug)]
enum Step {
    On(End, Call),
    Listener(Visit),
}

/// What a step was seen to do.
type Seen = String;

/// The program. `$rt` is what it runs on, `$early` how much too early its time
/// limits may end.
macro_rules! player {
    ($name:ident, $rt:ident, $early:expr) => {
        mod $name {
            use std::collections::VecDeque;
            use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
            use std::time::{Duration, Instant};

            use $rt as rt;

            use nix::poll::PollFlags;
            use nix::sys::socket::{setsockopt, sockopt};
            use nix::sys::time::{TimeVal, TimeValLike};
            use rt::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
            use rt::net::{Shutdown, TcpListener, TcpStream};
            use rt::thread::yield_now;

            use super::common::net::{bytes_from, has_ended, poll_now, reset_on_close, unread};
            use super::{Call, End, PATIENCE, ROOM, Seen, Sides, Step, Visit, Way};

            /// One end, and what a run must know to wait for arrivals.
            struct Side {
                /// Oldest first; calls go to the newest. Empty when closed.
                handles: VecDeque<TcpStream>,
                /// Bytes accepted for sending, and bytes read.
                sent: usize,
                read: usize,
                /// Whether it sent its end, by shutdown or close.
                ended: bool,
                /// Whether it was shut down for reading.
                deaf: bool,
            }

            struct Run {
                sides: [Side; 2],
                /// The connection was reset, so nothing arrives any more.
                reset: bool,
                listener: Option<TcpListener>,
                clients: VecDeque<TcpStream>,
                arrived: usize,
            }

            pub fn play(script: &[Step]) -> Vec<Seen> {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (server, _) = listener.accept().unwrap();
                let sides = [client, server].map(|stream| {
                    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                    stream.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
                    Side { handles: [stream].into(), sent: 0, read: 0, ended: false, deaf: false }
                });
                // A limit that others set, before it was ours.
                let listener = std::net::TcpListener::from(OwnedFd::from(listener));
                setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::milliseconds(1)).unwrap();
                let mut run = Run {
                    sides,
                    reset: false,
                    listener: Some(listener.into()),
                    clients: VecDeque::new(),
                    arrived: 0,
                };
                script
                    .iter()
                    .map(|step| {
                        let seen = match step {
                            Step::On(end, call) => run.call(*end, call),
                            Step::Listener(visit) => run.visit(*visit),
                        };
                        run.settle();
                        format!("{step:?} gives {seen}")
                    })
                    .collect()
            }

            impl Run {
                fn call(&mut self, end: End, call: &Call) -> Seen {
                    let (mine, theirs) = match end {
                        End::Client => (0, 1),
                        End::Server => (1, 0),
                    };
                    let room = ROOM.saturating_sub(self.sides[mine].sent - self.sides[theirs].read);
                    // Bytes that come after an end to somebody who will not
                    // read are answered by a reset.
                    let peer = &self.sides[theirs];
                    let peer_closed = peer.handles.is_empty() || peer.ended && peer.deaf;
                    let to_come = peer.sent;
                    let side = &mut self.sides[mine];
                    let Some(stream) = side.handles.back() else {
                        return "nothing: it is closed".into();
                    };
                    let mut stream: &TcpStream = stream;
                    let begin = Instant::now();
                    match call {
                        Call::Read(length) => {
                            let mut buffer = vec![0; *length];
                            let result = stream.read(&mut buffer);
                            let seen = received(stream, begin, &result, &[&buffer], side.read);
                            side.read += result.unwrap_or(0);
                            seen
                        }
                        Call::ReadVectored(lengths) => {
                            let mut buffers: Vec<_> = lengths.iter().map(|l| vec![0; *l]).collect();
                            let mut parts: Vec<_> =
                                buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
                            let result = stream.read_vectored(&mut parts);
                            let buffers: Vec<&[u8]> = buffers.iter().map(|b| &b[..]).collect();
                            let seen = received(stream, begin, &result, &buffers, side.read);
                            side.read += result.unwrap_or(0);
                            seen
                        }
                        Call::Peek(length) => {
                            let mut buffer = vec![0; *length];
                            let result = stream.peek(&mut buffer);
                            received(stream, begin, &result, &[&buffer], side.read)
                        }
                        Call::Write(length) => {
                            let bytes = bytes_from(side.sent, (*length).min(room));
                            let result = stream.write(&bytes);
                            let seen = outcome(&result);
                            let count = result.unwrap_or(0);
                            side.sent += count;
                            self.reset |= count > 0 && peer_closed;
                            seen
                        }
                        Call::WriteVectored(lengths) => {
                            let mut start = side.sent;
                            let mut parts = Vec::new();
                            for length in lengths {
                                let length = (*length).min(room / lengths.len());
                                parts.push(bytes_from(start, length));
                                start += length;
                            }
                            let parts: Vec<_> = parts.iter().map(|b| IoSlice::new(b)).collect();
                            let result = stream.write_vectored(&parts);
                            let seen = outcome(&result);
                            let count = result.unwrap_or(0);
                            side.sent += count;
                            self.reset |= count > 0 && peer_closed;
                            seen
                        }
                        Call::Fill => loop {
                            // How much fits is the kernel's business.
                            match stream.write(&bytes_from(side.sent, 1 << 20)) {
                                Ok(count) => {
                                    side.sent += count;
                                    self.reset |= count > 0 && peer_closed;
                                    if self.reset {
                                        break "a reset".into();
                                    }
                                }
                                result => break outcome(&result),
                            }
                        },
                        Call::Drain => {
                            let mut buffer = vec![0; 1 << 20];
                            loop {
                                match stream.read(&mut buffer) {
                                    Ok(count) if count > 0 => {
                                        let expected = bytes_from(side.read, count);
                                        assert!(buffer[..count] == expected, "at {}", side.read);
                                        side.read += count;
                                    }
                                    // The rest is on its way.
                                    Err(error)
                                        if error.kind() == ErrorKind::WouldBlock
                                            && side.read < to_come => {}
                                    result => break outcome(&result),
                                }
                            }
                        }
                        Call::Shutdown(sides) => {
                            let how = match sides {
                                Sides::Read => Shutdown::Read,
                                Sides::Write => Shutdown::Write,
                                Sides::Both => Shutdown::Both,
                            };
                            let result = stream.shutdown(how);
                            side.ended |= result.is_ok() && !matches!(sides, Sides::Read);
                            side.deaf |= result.is_ok() && !matches!(sides, Sides::Write);
                            outcome(&result)
                        }
                        Call::ReadTimeout(limit) => {
                            let set = outcome(&stream.set_read_timeout(Some(*limit)));
                            format!("{set}, then {}", outcome(&stream.read_timeout()))
                        }
                        Call::WriteTimeout(limit) => {
                            let set = outcome(&stream.set_write_timeout(Some(*limit)));
                            format!("{set}, then {}", outcome(&stream.write_timeout()))
                        }
                        Call::NoTimeouts => {
                            let before = (stream.read_timeout().unwrap(), stream.write_timeout().unwrap());
                            stream.set_read_timeout(None).unwrap();
                            stream.set_write_timeout(None).unwrap();
                            let seen = (stream.read_timeout().unwrap(), stream.write_timeout().unwrap());
                            stream.set_read_timeout(before.0).unwrap();
                            stream.set_write_timeout(before.1).unwrap();
                            format!("{seen:?} after {before:?}")
                        }
                        Call::Nonblocking(on) => outcome(&stream.set_nonblocking(*on)),
                        Call::Nodelay(on) => {
                            let set = outcome(&stream.set_nodelay(*on));
                            format!("{set}, then {}", outcome(&stream.nodelay()))
                        }
                        Call::Ttl(ttl) => {
                            let set = outcome(&stream.set_ttl(*ttl));
                            format!("{set}, then {}", outcome(&stream.ttl()))
                        }
                        Call::TakeError => match stream.take_error() {
                            Ok(taken) => format!("{:?}", taken.map(|error| error.raw_os_error())),
                            result => outcome(&result),
                        },
                        Call::Addresses => {
                            let local = outcome(&stream.local_addr().map(|address| address.ip()));
                            format!("{local}, {}", outcome(&stream.peer_addr().map(|a| a.ip())))
                        }
                        Call::TryClone => {
                            let clone = stream.try_clone();
                            let seen = outcome(&clone.as_ref().map(|_| ()).map_err(copy));
                            side.handles.extend(clone);
                            seen
                        }
                        Call::DropOldest => {
                            let last = side.handles.len() == 1;
                            if last {
                                // With unread data it is a reset.
                                self.reset |= unread(stream) > 0 || !is_gentle(stream);
                                side.ended = true;
                            }
                            side.handles.pop_front();
                            format!("{}", if last { "a close" } else { "one clone less" })
                        }
                        Call::LingerZero => {
                            reset_on_close(stream);
                            "done".into()
                        }
                        Call::Convert(way) => {
                            let stream = side.handles.pop_back().expect("it is open");
                            side.handles.push_back(match way {
                                Way::OwnedFd => OwnedFd::from(stream).into(),
                                Way::StdType => std::net::TcpStream::from(stream).into(),
                                // SAFETY: the descriptor is handed over.
                                Way::RawFd => unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) },
                            });
                            "done".into()
                        }
                    }
                }

                fn visit(&mut self, visit: Visit) -> Seen {
                    let Some(listener) = &self.listener else {
                        return "nothing: it is closed".into();
                    };
                    match visit {
                        Visit::Connect => {
                            let client = TcpStream::connect(listener.local_addr().unwrap());
                            let seen = outcome(&client.as_ref().map(|_| ()).map_err(copy));
                            self.arrived += usize::from(client.is_ok());
                            self.clients.extend(client);
                            seen
                        }
                        Visit::Accept => match listener.accept() {
                            Ok((stream, peer)) => {
                                self.arrived -= 1;
                                let client = self.clients.pop_front();
                                let same = client.is_some_and(|c| c.local_addr().unwrap() == peer);
                                // Inherited, and not inherited.
                                let limit = stream.read_timeout();
                                let read = outcome(&(&stream).read(&mut [0; 4]));
                                format!("the oldest: {same}; {limit:?}; reads {read}")
                            }
                            result => outcome(&result.map(drop)),
                        },
                        Visit::Nonblocking(on) => outcome(&listener.set_nonblocking(on)),
                        Visit::Leave { reset } => match self.clients.front() {
                            // The place in the queue stays.
                            Some(client) if !reset => outcome(&client.shutdown(Shutdown::Write)),
                            Some(client) => {
                                reset_on_close(client);
                                outcome(&client.shutdown(Shutdown::Both))
                            }
                            None => "nothing: nobody waits".into(),
                        },
                        Visit::Close => {
                            self.listener = None;
                            for client in &self.clients {
                                wait_until(|| poll_now(client, PollFlags::POLLIN) != PollFlags::empty());
                            }
                            self.arrived = 0;
                            let results: Vec<_> = self
                                .clients
                                .drain(..)
                                .map(|client| outcome(&(&client).read(&mut [0; 4])))
                                .collect();
                            format!("{results:?}")
                        }
                    }
                }

                /// Waits until all that was sent has arrived.
                fn settle(&mut self) {
                    for (mine, theirs) in [(0, 1), (1, 0)] {
                        let (side, other) = (&self.sides[mine], &self.sides[theirs]);
                        let Some(stream) = side.handles.back() else { continue };
                        if self.reset {
                            wait_until(|| poll_now(stream, PollFlags::empty()).contains(PollFlags::POLLHUP));
                        } else {
                            // What does not fit arrives when there is room.
                            let expected = other.sent - side.read;
                            wait_until(|| unread(stream) >= expected.min(ROOM));
                            if other.ended && expected <= ROOM {
                                wait_until(|| has_ended(stream));
                            }
                        }
                    }
                    if let Some(listener) = &self.listener {
                        let some = self.arrived > 0;
                        wait_until(|| poll_now(listener, PollFlags::POLLIN).is_empty() != some);
                    }
                }
            }

            fn wait_until(mut condition: impl FnMut() -> bool) {
                let begin = Instant::now();
                while !condition() {
                    assert!(begin.elapsed() < PATIENCE, "what was sent does not arrive");
                    yield_now();
                }
            }

            /// Whether a close sends an end rather than a reset.
            fn is_gentle(stream: &TcpStream) -> bool {
                use nix::sys::socket::getsockopt;
                getsockopt(stream, sockopt::Linger).unwrap().l_onoff == 0
            }

            fn copy(error: &io::Error) -> io::Error {
                match error.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::new(error.kind(), error.to_string()),
                }
            }

            fn outcome<T: std::fmt::Debug>(result: &io::Result<T>) -> Seen {
                match result {
                    Ok(value) => format!("{value:?}"),
                    Err(error) => format!("{:?}, {:?}, {error}", error.kind(), error.raw_os_error()),
                }
            }

            /// A receive's outcome, whether it got the right bytes, and that it was
            /// not early.
            fn received(
                stream: &TcpStream,
                begin: Instant,
                result: &io::Result<usize>,
                buffers: &[&[u8]],
                position: usize,
            ) -> Seen {
                let waited = begin.elapsed();
                if matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock) {
                    let nonblocking = nix::fcntl::fcntl(stream, nix::fcntl::FcntlArg::F_GETFL);
                    let limit = stream.read_timeout().unwrap().expect("a limit is set");
                    let waits = nonblocking.unwrap() & libc::O_NONBLOCK == 0;
                    assert!(!waits || waited + $early >= limit, "{waited:?} of {limit:?}");
                }
                let bytes = buffers.concat();
                let count = *result.as_ref().unwrap_or(&0);
                // The rest of the buffers is as it was.
                let right = bytes[..count] == bytes_from(position, count)
                    && bytes[count..].iter().all(|byte| *byte == 0);
                format!("{}, right: {right}", outcome(result))
            }
        }
    };
}

// The kernel counts a socket's limit in ticks, of which the first has begun.
player!(over_std, std, Duration::from_millis(10));
player!(over_greenring, greenring, Duration::ZERO);

/// Runs a script over std, on an OS thread that never had a ring: what is left
/// to do for a ring that was closed interrupts system calls that have a time
/// limit (EINTR).
fn play_over_std(script: &[Step]) -> Vec<Seen> {
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| over_std::play(script));
        playing.join().expect("std plays every script")
    })
}

/// What a script does over std and on each backend.
fn compare(script: &[Step]) -> Result<(), String> {
    let expected = play_over_std(script);
    for backend in [Backend::Uring, Backend::Epoll] {
        if !is_available(backend) {
            continue;
        }
        let seen = Builder::new()
            .backend(backend)
            .run(|| over_greenring::play(script))
            .expect("the hub runs");
        if let Some(step) = (0..script.len()).find(|step| seen[*step] != expected[*step]) {
            return Err(format!(
                "step {step} differs on {backend}\n  std:  {}\n  ours: {}\nafter\n  {}",
                expected[step],
                seen[step],
                expected[..step].join("\n  ")
            ));
        }
    }
    Ok(())
}

fn limits() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::from_nanos(1)),
        Just(Duration::from_millis(5)),
        Just(Duration::ZERO),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let lengths = || prop::collection::vec(prop_oneof![Just(0), 1..2000usize], 1..5);
    let sides = prop_oneof![Just(Sides::Read), Just(Sides::Write), Just(Sides::Both)];
    let ways = prop_oneof![Just(Way::OwnedFd), Just(Way::RawFd), Just(Way::StdType)];
    prop_oneof![
        6 => (1..6000usize).prop_map(Call::Write),
        6 => (1..6000usize).prop_map(Call::Read),
        2 => lengths().prop_map(Call::WriteVectored),
        2 => lengths().prop_map(Call::ReadVectored),
        2 => (1..6000usize).prop_map(Call::Peek),
        1 => prop_oneof![Just(Call::Read(0)), Just(Call::Peek(0)), Just(Call::Write(0))],
        1 => sides.prop_map(Call::Shutdown),
        1 => limits().prop_map(Call::ReadTimeout),
        1 => limits().prop_map(Call::WriteTimeout),
        1 => Just(Call::NoTimeouts),
        2 => any::<bool>().prop_map(Call::Nonblocking),
        1 => any::<bool>().prop_map(Call::Nodelay),
        1 => (0..300u32).prop_map(Call::Ttl),
        1 => Just(Call::TakeError),
        1 => Just(Call::Addresses),
        1 => Just(Call::TryClone),
        1 => Just(Call::DropOldest),
        1 => Just(Call::LingerZero),
        2 => ways.prop_map(Call::Convert),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let ends = prop_oneof![Just(End::Client), Just(End::Server)];
    let visits = prop_oneof![
        4 => Just(Visit::Connect),
        3 => Just(Visit::Accept),
        1 => any::<bool>().prop_map(Visit::Nonblocking),
        1 => any::<bool>().prop_map(|reset| Visit::Leave { reset }),
        1 => Just(Visit::Close),
    ];
    prop_oneof![
        8 => (ends, calls()).prop_map(|(end, call)| Step::On(end, call)),
        1 => visits.prop_map(Step::Listener),
    ]
}

#[test]
fn random_scripts_give_what_they_give_over_std() {
    let _watchdog = common::Watchdog::start(Duration::from_secs(180));
    let cases = match std::env::var("GREENRING_TEST_SCRIPTS") {
        Ok(cases) => cases.parse().expect("GREENRING_TEST_SCRIPTS is a number"),
        Err(_) => 60,
    };
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let scripts = prop::collection::vec(steps(), 1..40);
    let result = TestRunner::new(config).run(&scripts, |script| {
        compare(&script).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Runs a script that makes a documented surprise happen, and checks that it
/// did: `expected` are parts of what std is seen to do, by step.
fn surprise(script: &[Step], expected: &[(usize, &str)]) {
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    let seen = play_over_std(script);
    for (step, part) in expected {
        assert!(seen[*step].contains(part), "std: {}", seen[*step]);
    }
    if let Err(difference) = compare(script) {
        panic!("{difference}");
    }
}

use Call::{
    Addresses, Drain, DropOldest, Fill, LingerZero, Peek, Read, TakeError, TryClone, Write,
};
use End::{Client, Server};
use Step::{Listener, On};

#[test]
fn an_empty_read_waits_and_then_gives_zero() {
    let script = [
        On(Client, Read(0)),
        On(Client, Peek(0)),
        On(Client, Call::ReadVectored(vec![0, 0])),
        On(Client, Call::Nonblocking(true)),
        On(Client, Read(0)),
        On(Server, Write(3)),
        On(Client, Read(0)),
        On(Client, Read(9)),
    ];
    surprise(
        &script,
        &[
            (0, "gives 0"),
            (4, "WouldBlock"),
            (6, "gives 0"),
            (7, "gives 3"),
        ],
    );
}

#[test]
fn limits_are_shared_rounded_and_survive_conversions() {
    let tiny = Duration::from_micros(1);
    let mut script = vec![
        On(Client, Call::ReadTimeout(tiny)),
        On(Client, Call::ReadTimeout(Duration::MAX)),
        On(Client, Call::ReadTimeout(Duration::ZERO)),
        On(Client, Call::ReadTimeout(Duration::from_millis(10))),
        On(Client, TryClone),
        On(Client, Call::WriteTimeout(tiny)),
        On(Client, Read(1)),
    ];
    for way in [Way::OwnedFd, Way::RawFd, Way::StdType] {
        script.extend([
            On(Client, Call::Convert(way)),
            On(Client, Read(1)),
            On(Client, Call::NoTimeouts),
        ]);
    }
    surprise(
        &script,
        &[(1, "None"), (2, "InvalidInput"), (6, "WouldBlock")],
    );
}

#[test]
fn nonblocking_mode_is_shared_by_clones_and_not_inherited() {
    let script = [
        On(Client, TryClone),
        On(Client, Call::Nonblocking(true)),
        On(Client, DropOldest),
        On(Client, Read(1)),
        On(Client, Fill),
        On(Client, Call::Convert(Way::OwnedFd)),
        On(Client, Read(1)),
        On(Server, Drain),
        Listener(Visit::Nonblocking(true)),
        Listener(Visit::Accept),
        Listener(Visit::Connect),
        Listener(Visit::Accept),
        Listener(Visit::Nonblocking(false)),
        Listener(Visit::Accept),
    ];
    surprise(
        &script,
        &[
            (3, "WouldBlock"),
            (4, "WouldBlock"),
            (9, "WouldBlock"),
            (13, "WouldBlock"),
        ],
    );
}

#[test]
fn a_closed_connection_has_no_peer() {
    let script = [
        On(Client, Call::Shutdown(Sides::Write)),
        On(Client, Call::Shutdown(Sides::Write)),
        On(Client, Addresses),
        On(Server, Read(1)),
        On(Server, Call::Shutdown(Sides::Write)),
        On(Client, Read(1)),
        On(Client, Addresses),
        On(Client, Call::Shutdown(Sides::Both)),
        On(Server, Write(1)),
    ];
    surprise(
        &script,
        &[(6, "NotConnected"), (7, "NotConnected"), (8, "BrokenPipe")],
    );
}

#[test]
fn closing_with_unread_data_resets() {
    let script = [
        On(Server, Write(100)),
        On(Client, Read(10)),
        On(Client, DropOldest),
        On(Server, Read(1)),
        On(Server, Read(1)),
        On(Server, Write(1)),
        On(Server, Addresses),
    ];
    surprise(
        &script,
        &[(3, "ConnectionReset"), (4, "gives 0"), (5, "BrokenPipe")],
    );
}

#[test]
fn a_reset_leaves_what_arrived_before() {
    let script = [
        On(Server, Write(100)),
        On(Server, LingerZero),
        On(Server, DropOldest),
        On(Client, Peek(10)),
        On(Client, TakeError),
        On(Client, Read(60)),
        On(Client, Read(60)),
        On(Client, Read(60)),
        On(Client, Write(1)),
    ];
    surprise(&script, &[(8, "BrokenPipe")]);
}

#[test]
fn a_listener_that_closes_resets_its_queue() {
    let script = [
        Listener(Visit::Accept),
        Listener(Visit::Connect),
        Listener(Visit::Connect),
        Listener(Visit::Leave { reset: false }),
        Listener(Visit::Accept),
        Listener(Visit::Connect),
        Listener(Visit::Leave { reset: true }),
        Listener(Visit::Close),
    ];
    surprise(
        &script,
        &[
            (0, "WouldBlock"),
            (4, "the oldest: true"),
            (7, "ConnectionReset"),
        ],
    );
}

#[test]
fn a_full_socket_times_out_and_goes_on() {
    let script = [
        On(Client, Fill),
        On(Client, Write(1)),
        On(Server, Drain),
        On(Client, Write(7)),
        On(Server, Read(9)),
        On(Client, Call::Shutdown(Sides::Read)),
        On(Server, Write(5)),
        On(Client, Read(2)),
        On(Client, Read(9)),
        On(Client, Read(9)),
    ];
    surprise(
        &script,
        &[
            (0, "WouldBlock"),
            (7, "gives 2"),
            (8, "gives 3"),
            (9, "gives 0"),
        ],
    );
}
