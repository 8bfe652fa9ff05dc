//! The same scripts of UDP calls over `std` and over `greenring` on both
//! backends give the same results; made as `differential.rs` is.
//!
//! Two sockets on the loopback, and a port at which nobody is. A script runs on
//! one OS thread; after a step that sends it waits until the datagram has
//! arrived, or its refusal has come back.
//!
//! `GREENRING_TEST_SCRIPTS` is the number of random scripts, 60 if not set.

mod common;

use std::time::Duration;

use common::is_available;
use greenring::runtime::{Backend, Builder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Somebody to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Second,
    Nobody,
}

/// How a socket is converted and comes back.
#[derive(Clone, Copy, Debug)]
enum Way {
    OwnedFd,
    RawFd,
    StdType,
}

/// A call on one of the two sockets. Both have a read and a write timeout all
/// the time, so that none waits for ever.
#[derive(Clone, Debug)]
enum Call {
    Send(usize),
    SendTo(usize, Place),
    Recv(usize),
    RecvFrom(usize),
    Peek(usize),
    PeekFrom(usize),
    Connect(Place),
    ReadTimeout(Duration),
    WriteTimeout(Duration),
    Nonblocking(bool),
    Ttl(u32),
    Broadcast(bool),
    Groups(u32),
    TakeError,
    Addresses,
    /// The socket's calls are made through a new clone from then on.
    TryClone,
    DropOldest,
    Convert(Way),
}

#[derive(Clone, Debug)]
struct Step {
    /// Which of the two.
    socket: usize,
    call: Call,
}

/// What a step was seen to do.
type Seen = String;

/// The program. `$rt` is what it runs on, `$early` how much too early its time
/// limits may end.
macro_rules! player {
    ($name:ident, $rt:ident, $early:expr) => {
        mod $name {
            use std::collections::VecDeque;
            use std::fmt::Debug;
            use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
            use std::time::{Duration, Instant};

            use $rt as rt;

            use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
            use rt::io::{self, ErrorKind};
            use rt::net::{Ipv4Addr, SocketAddr, UdpSocket};

            use super::common::net::bytes_from;
            use super::{Call, Place, Seen, Step, Way};

            struct Run {
                /// Oldest handle first; calls go to the newest.
                sockets: [VecDeque<UdpSocket>; 2],
                /// By place.
                addresses: [SocketAddr; 3],
                /// Whom each of the two is connected to.
                peers: [Option<Place>; 2],
                nonblocking: [bool; 2],
            }

            pub fn play(script: &[Step]) -> Vec<Seen> {
                let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
                let gone = std::net::UdpSocket::bind("127.0.85.1:0").unwrap();
                let mut run = Run {
                    addresses: [
                        sockets[0].local_addr().unwrap(),
                        sockets[1].local_addr().unwrap(),
                        gone.local_addr().unwrap(),
                    ],
                    sockets: sockets.map(|socket| {
                        let limit = Some(Duration::from_millis(1));
                        socket.set_read_timeout(limit).unwrap();
                        socket.set_write_timeout(limit).unwrap();
                        [socket].into()
                    }),
                    peers: [None; 2],
                    nonblocking: [false; 2],
                };
                drop(gone);
                let play = |step: &Step| format!("{step:?} gives {}", run.step(step));
                script.iter().map(play).collect()
            }

            impl Run {
                fn step(&mut self, step: &Step) -> Seen {
                    let mine = step.socket;
                    let socket = self.sockets[mine].back().unwrap();
                    let begin = Instant::now();
                    match &step.call {
                        Call::Send(length) => {
                            let result = socket.send(&bytes_from(0, *length));
                            if let (Ok(_), Some(peer)) = (&result, self.peers[mine]) {
                                self.settle(mine, peer);
                            }
                            seen(&result)
                        }
                        Call::SendTo(length, place) => {
                            let address = self.addresses[*place as usize];
                            let result = socket.send_to(&bytes_from(0, *length), address);
                            if result.is_ok() {
                                self.settle(mine, *place);
                            }
                            seen(&result)
                        }
                        Call::Recv(length) => {
                            let mut buffer = vec![0; *length];
                            let result = socket.recv(&mut buffer);
                            self.in_time(mine, begin, &result);
                            format!("{}, {}", seen(&result), filled(&buffer, &result))
                        }
                        Call::Peek(length) => {
                            let mut buffer = vec![0; *length];
                            let result = socket.peek(&mut buffer);
                            self.in_time(mine, begin, &result);
                            format!("{}, {}", seen(&result), filled(&buffer, &result))
                        }
                        Call::RecvFrom(length) => {
                            let mut buffer = vec![0; *length];
                            let result = socket.recv_from(&mut buffer);
                            self.received(mine, begin, &buffer, result)
                        }
                        Call::PeekFrom(length) => {
                            let mut buffer = vec![0; *length];
                            let result = socket.peek_from(&mut buffer);
                            self.received(mine, begin, &buffer, result)
                        }
                        Call::Connect(place) => {
                            let result = socket.connect(self.addresses[*place as usize]);
                            if result.is_ok() {
                                self.peers[mine] = Some(*place);
                            }
                            seen(&result)
                        }
                        Call::ReadTimeout(limit) => {
                            let set = seen(&socket.set_read_timeout(Some(*limit)));
                            format!("{set}, then {}", seen(&socket.read_timeout()))
                        }
                        Call::WriteTimeout(limit) => {
                            let set = seen(&socket.set_write_timeout(Some(*limit)));
                            format!("{set}, then {}", seen(&socket.write_timeout()))
                        }
                        Call::Nonblocking(on) => {
                            self.nonblocking[mine] = *on;
                            seen(&socket.set_nonblocking(*on))
                        }
                        Call::Ttl(ttl) => {
                            let set = seen(&socket.set_ttl(*ttl));
                            format!("{set}, then {}", seen(&socket.ttl()))
                        }
                        Call::Broadcast(on) => {
                            let all = (Ipv4Addr::BROADCAST, 9);
                            let set = seen(&socket.set_broadcast(*on));
                            let get = seen(&socket.broadcast());
                            // With leave it would go out to the network.
                            let sent = (!on).then(|| seen(&socket.send_to(b"", all)));
                            format!("{set}, then {get}, then {sent:?}")
                        }
                        Call::Groups(ttl) => {
                            let group = Ipv4Addr::new(239, 255, 85, *ttl as u8);
                            let on = Ipv4Addr::LOCALHOST;
                            [
                                seen(&socket.set_multicast_ttl_v4(*ttl)),
                                seen(&socket.multicast_ttl_v4()),
                                seen(&socket.set_multicast_loop_v4(ttl % 2 == 0)),
                                seen(&socket.multicast_loop_v4()),
                                seen(&socket.set_multicast_loop_v6(true)),
                                seen(&socket.multicast_loop_v6()),
                                seen(&socket.join_multicast_v4(&group, &on)),
                                seen(&socket.join_multicast_v4(&group, &on)),
                                seen(&socket.join_multicast_v4(&on, &on)),
                                seen(&socket.leave_multicast_v4(&group, &on)),
                                seen(&socket.leave_multicast_v4(&group, &on)),
                                seen(&socket.join_multicast_v6(&rt::net::Ipv6Addr::LOCALHOST, 1)),
                            ]
                            .join(", ")
                        }
                        Call::TakeError => match socket.take_error() {
                            Ok(taken) => format!("{:?}", taken.map(|error| error.raw_os_error())),
                            result => seen(&result),
                        },
                        Call::Addresses => {
                            let local = socket.local_addr().map(|address| self.place(address));
                            let peer = socket.peer_addr().map(|address| self.place(address));
                            format!("{}, {}", seen(&local), seen(&peer))
                        }
                        Call::TryClone => {
                            let clone = socket.try_clone().unwrap();
                            self.sockets[mine].push_back(clone);
                            "a clone".into()
                        }
                        Call::DropOldest => {
                            if self.sockets[mine].len() > 1 {
                                self.sockets[mine].pop_front();
                            }
                            "one less".into()
                        }
                        Call::Convert(way) => {
                            let socket = self.sockets[mine].pop_back().unwrap();
                            let socket = match way {
                                Way::OwnedFd => OwnedFd::from(socket).into(),
                                // SAFETY: the descriptor is handed over.
                                Way::RawFd => unsafe {
                                    UdpSocket::from_raw_fd(socket.into_raw_fd())
                                },
                                Way::StdType => std::net::UdpSocket::from(socket).into(),
                            };
                            self.sockets[mine].push_back(socket);
                            "the same".into()
                        }
                    }
                }

                /// Waits until what one of the two has sent shows: at the
                /// other, or as a refusal that a connected sender is told of.
                fn settle(&self, sender: usize, to: Place) {
                    let hears = |place: Place| match place {
                        Place::Nobody => false,
                        place => match self.peers[place as usize] {
                            None => true,
                            Some(peer) => peer as usize == sender,
                        },
                    };
                    let (socket, events) = if hears(to) {
                        (to as usize, PollFlags::POLLIN)
                    } else if self.peers[sender] == Some(to) {
                        (sender, PollFlags::POLLERR)
                    } else {
                        return;
                    };
                    let socket = self.sockets[socket].back().unwrap();
                    let begin = Instant::now();
                    loop {
                        use std::os::fd::AsFd;
                        let mut asked = [PollFd::new(socket.as_fd(), events)];
                        poll(&mut asked, PollTimeout::ZERO).unwrap();
                        if asked[0].revents().unwrap().intersects(events) {
                            return;
                        }
                        assert!(begin.elapsed() < Duration::from_secs(10), "nothing arrives");
                        std::thread::yield_now();
                    }
                }

                fn place(&self, address: SocketAddr) -> String {
                    let places = [Place::First, Place::Second, Place::Nobody];
                    match self.addresses.iter().position(|known| *known == address) {
                        Some(index) => format!("{:?}", places[index]),
                        None => address.to_string(),
                    }
                }

                fn received(
                    &self,
                    mine: usize,
                    begin: Instant,
                    buffer: &[u8],
                    result: io::Result<(usize, SocketAddr)>,
                ) -> Seen {
                    let sender = result.as_ref().ok().map(|(_, sender)| self.place(*sender));
                    let result = result.map(|(count, _)| count);
                    self.in_time(mine, begin, &result);
                    format!(
                        "{} from {sender:?}, {}",
                        seen(&result),
                        filled(buffer, &result)
                    )
                }

                /// A receive that ran out of time did so not too early.
                fn in_time(&self, mine: usize, begin: Instant, result: &io::Result<usize>) {
                    let would_block = result
                        .as_ref()
                        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
                    if would_block && !self.nonblocking[mine] {
                        let limit = self.sockets[mine].back().unwrap().read_timeout().unwrap();
                        assert!(begin.elapsed() + $early >= limit.unwrap());
                    }
                }
            }

            fn seen<T: Debug>(result: &io::Result<T>) -> Seen {
                match result {
                    Ok(value) => format!("{value:?}"),
                    Err(error) => {
                        format!("{:?} {:?} {error}", error.kind(), error.raw_os_error())
                    }
                }
            }

            fn filled(buffer: &[u8], result: &io::Result<usize>) -> Seen {
                let count = *result.as_ref().unwrap_or(&0);
                let right = buffer[..count] == bytes_from(0, count)
                    && buffer[count..].iter().all(|byte| *byte == 0);
                format!("right: {right}")
            }
        }
    };
}

// The kernel counts a socket's limit in ticks, of which the first has begun.
player!(over_std, std, Duration::from_millis(10));
player!(over_greenring, greenring, Duration::ZERO);

/// What a script does over std and on each backend.
fn compare(script: &[Step]) -> Result<(), String> {
    // On an OS thread that never had a ring, whose end interrupts system calls.
    let expected = std::thread::scope(|scope| {
        let playing = scope.spawn(|| over_std::play(script));
        playing.join().expect("std plays every script")
    });
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

fn calls() -> impl Strategy<Value = Call> {
    let sizes = || prop_oneof![1 => Just(0), 6 => 1..1000usize];
    let sent = || prop_oneof![1 => Just(0), 8 => 1..1000usize, 1 => Just(65_508)];
    let places = || {
        prop_oneof![
            2 => Just(Place::First),
            2 => Just(Place::Second),
            1 => Just(Place::Nobody),
        ]
    };
    let limits = || {
        prop_oneof![
            Just(Duration::from_nanos(1)),
            Just(Duration::from_millis(5)),
            Just(Duration::ZERO),
        ]
    };
    let ways = prop_oneof![Just(Way::OwnedFd), Just(Way::RawFd), Just(Way::StdType)];
    prop_oneof![
        6 => (sent(), places()).prop_map(|(length, place)| Call::SendTo(length, place)),
        4 => sent().prop_map(Call::Send),
        3 => sizes().prop_map(Call::Recv),
        3 => sizes().prop_map(Call::RecvFrom),
        1 => sizes().prop_map(Call::Peek),
        1 => sizes().prop_map(Call::PeekFrom),
        3 => places().prop_map(Call::Connect),
        1 => limits().prop_map(Call::ReadTimeout),
        1 => limits().prop_map(Call::WriteTimeout),
        2 => any::<bool>().prop_map(Call::Nonblocking),
        1 => (0..300u32).prop_map(Call::Ttl),
        1 => any::<bool>().prop_map(Call::Broadcast),
        1 => (0..300u32).prop_map(Call::Groups),
        1 => Just(Call::TakeError),
        1 => Just(Call::Addresses),
        1 => Just(Call::TryClone),
        1 => Just(Call::DropOldest),
        2 => ways.prop_map(Call::Convert),
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
    let steps = (0..2usize, calls()).prop_map(|(socket, call)| Step { socket, call });
    let scripts = prop::collection::vec(steps, 1..40);
    let result = TestRunner::new(config).run(&scripts, |script| {
        compare(&script).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_refusal_is_told_once_and_before_what_has_arrived() {
    let on = |socket, call| Step { socket, call };
    let script = [
        on(0, Call::Connect(Place::Second)),
        on(1, Call::SendTo(10, Place::First)),
        // The second now hears nobody who is there.
        on(1, Call::Connect(Place::Nobody)),
        on(0, Call::Send(5)),
        on(0, Call::Peek(20)),
        on(0, Call::Recv(20)),
        on(0, Call::Recv(20)),
        on(0, Call::Send(5)),
        on(0, Call::Send(5)),
        on(0, Call::TakeError),
        on(0, Call::Send(5)),
        on(0, Call::TakeError),
        on(0, Call::TakeError),
    ];
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    let seen = over_std::play(&script);
    assert!(seen[4].contains("ConnectionRefused"), "{seen:#?}");
    assert!(seen[5].contains("gives 10"), "{seen:#?}");
    if let Err(difference) = compare(&script) {
        panic!("{difference}");
    }
}
