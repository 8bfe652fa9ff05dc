//! greenring's Unix sockets do what std's do: the same scripts of calls, run by
//! the same program over `std` and over `greenring` on both backends, give the
//! same results, byte for byte and errno for errno.
//!
//! As in `tests/differential.rs`: the program is written once, as a macro that is
//! expanded with `use std as rt` and with `use greenring as rt`. What is sent over
//! a Unix socket has arrived when the call returns, so nothing waits for that.
//!
//! Reads are plain, for the reasons named there.
//!
//! `GREENRING_TEST_SCRIPTS` is the number of random scripts, 60 if not set.

mod common;

use std::time::Duration;

use common::is_available;
use greenring::runtime::{Backend, Builder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A call on one of the two streams of a pair. Each has time limits all the
/// time, so that none waits for ever.
#[derive(Clone, Debug)]
enum OnStream {
    Read(usize),
    ReadVectored(Vec<usize>),
    Write(usize),
    WriteVectored(Vec<usize>),
    /// Until there is no more room.
    Fill(usize),
    Drain,
    Shutdown(u8),
    Nonblocking(bool),
    Limit(Duration),
    TakeError,
    Addresses,
    /// Calls are made through a new clone from then on.
    TryClone,
    /// The oldest handle is dropped; with the last the stream closes.
    DropOldest,
    Convert,
}

/// A call on one of three datagram sockets: two have names, and nobody has a
/// further one.
#[derive(Clone, Debug)]
enum OnDatagram {
    SendTo(usize, usize),
    Send(usize),
    Connect(usize),
    Recv(usize),
    RecvFrom(usize),
    /// For writing. A receive from a socket that was shut down for reading takes
    /// the ring a while, perhaps longer than its time limit.
    Shutdown,
    Nonblocking(bool),
    Limit(Duration),
    TakeError,
    Addresses,
    Convert,
}

/// What a call was seen to do.
type Seen = String;

const SHORT: Duration = Duration::from_millis(4);

macro_rules! player {
    ($name:ident, $rt:ident) => {
        mod $name {
            use std::collections::VecDeque;
            use std::fmt::Debug;
            use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
            use std::path::Path;

            use $rt as rt;

            use nix::sys::socket::{
                AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket,
            };
            use rt::io::{self, IoSlice, IoSliceMut, Read, Write};
            use rt::net::Shutdown;
            use rt::os::linux::net::SocketAddrExt;
            use rt::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

            use super::common::net::bytes_from;
            use super::{OnDatagram, OnStream, SHORT, Seen};

            fn show<T: Debug>(result: io::Result<T>) -> Seen {
                match result {
                    Ok(value) => format!("{value:?}"),
                    Err(error) => {
                        format!("{:?} {:?} {error}", error.kind(), error.raw_os_error())
                    }
                }
            }

            /// As `Debug`, without the descriptor's number.
            fn anonymous(socket: &(impl Debug + AsRawFd)) -> Seen {
                format!("{socket:?}").replace(&format!("fd: {}", socket.as_raw_fd()), "fd")
            }

            fn how(sides: u8) -> Shutdown {
                [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(sides % 3)]
            }

            /// Bytes sent and bytes read through one end.
            #[derive(Default)]
            struct Side {
                handles: VecDeque<UnixStream>,
                sent: usize,
                read: usize,
            }

            pub fn streams(script: &[(bool, OnStream)]) -> Vec<Seen> {
                let (one, other) = UnixStream::pair().unwrap();
                let mut sides = [one, other].map(|stream| {
                    stream.set_read_timeout(Some(SHORT)).unwrap();
                    stream.set_write_timeout(Some(SHORT)).unwrap();
                    Side {
                        handles: [stream].into(),
                        ..Side::default()
                    }
                });
                let mut seen = Vec::new();
                for (end, call) in script {
                    seen.push(on_stream(&mut sides[usize::from(*end)], call));
                }
                seen
            }

            fn on_stream(side: &mut Side, call: &OnStream) -> Seen {
                let Some(stream) = side.handles.back() else {
                    return "closed".into();
                };
                let mut stream: &UnixStream = stream;
                match call {
                    OnStream::Read(room) => {
                        let mut buffer = vec![0; *room];
                        let result = stream.read(&mut buffer);
                        if let Ok(count) = result {
                            assert_eq!(buffer[..count], bytes_from(side.read, count));
                            side.read += count;
                        }
                        show(result)
                    }
                    OnStream::ReadVectored(rooms) => {
                        let mut buffers: Vec<_> = rooms.iter().map(|room| vec![0; *room]).collect();
                        let mut slices: Vec<_> = buffers
                            .iter_mut()
                            .map(|buffer| IoSliceMut::new(buffer))
                            .collect();
                        let result = stream.read_vectored(&mut slices);
                        if let Ok(count) = result {
                            assert_eq!(buffers.concat()[..count], bytes_from(side.read, count));
                            side.read += count;
                        }
                        show(result)
                    }
                    OnStream::Write(length) => {
                        let result = stream.write(&bytes_from(side.sent, *length));
                        side.sent += *result.as_ref().unwrap_or(&0);
                        show(result)
                    }
                    OnStream::WriteVectored(lengths) => {
                        let mut start = side.sent;
                        let buffers: Vec<_> = lengths
                            .iter()
                            .map(|length| {
                                start += length;
                                bytes_from(start - length, *length)
                            })
                            .collect();
                        let slices: Vec<_> =
                            buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
                        let result = stream.write_vectored(&slices);
                        side.sent += *result.as_ref().unwrap_or(&0);
                        show(result)
                    }
                    OnStream::Fill(length) => {
                        let mut total = 0;
                        loop {
                            match stream.write(&bytes_from(side.sent, *length)) {
                                Ok(count) => {
                                    total += count;
                                    side.sent += count;
                                }
                                result => return format!("{total} {}", show(result)),
                            }
                        }
                    }
                    OnStream::Drain => {
                        let mut total = 0;
                        let mut buffer = [0; 4096];
                        loop {
                            match stream.read(&mut buffer) {
                                Ok(count) if count > 0 => {
                                    assert_eq!(buffer[..count], bytes_from(side.read, count));
                                    side.read += count;
                                    total += count;
                                }
                                result => return format!("{total} {}", show(result)),
                            }
                        }
                    }
                    OnStream::Shutdown(sides) => show(stream.shutdown(how(*sides))),
                    OnStream::Nonblocking(on) => show(stream.set_nonblocking(*on)),
                    OnStream::Limit(limit) => {
                        let set = [
                            show(stream.set_read_timeout(Some(*limit))),
                            show(stream.set_write_timeout(Some(*limit))),
                        ];
                        let got = (
                            stream.read_timeout().unwrap(),
                            stream.write_timeout().unwrap(),
                        );
                        format!("{set:?} {got:?}")
                    }
                    OnStream::TakeError => show(stream.take_error()),
                    OnStream::Addresses => anonymous(stream),
                    OnStream::TryClone => {
                        let clone = stream.try_clone().unwrap();
                        side.handles.push_back(clone);
                        "cloned".into()
                    }
                    OnStream::DropOldest => {
                        side.handles.pop_front();
                        format!("{} left", side.handles.len())
                    }
                    OnStream::Convert => {
                        let stream = side.handles.pop_back().unwrap();
                        side.handles.push_back(OwnedFd::from(stream).into());
                        "converted".into()
                    }
                }
            }

            pub fn datagrams(prefix: &str, script: &[(usize, OnDatagram)]) -> Vec<Seen> {
                let names: Vec<_> = (0..3)
                    .map(|n| SocketAddr::from_abstract_name(format!("{prefix}-{n}")).unwrap())
                    .collect();
                let mut sockets = vec![
                    UnixDatagram::bind_addr(&names[0]).unwrap(),
                    UnixDatagram::bind_addr(&names[1]).unwrap(),
                    UnixDatagram::unbound().unwrap(),
                ];
                for socket in &sockets {
                    socket.set_read_timeout(Some(SHORT)).unwrap();
                    socket.set_write_timeout(Some(SHORT)).unwrap();
                }
                let mut seen = Vec::new();
                for (who, call) in script {
                    if let OnDatagram::Convert = call {
                        let socket = sockets.remove(*who);
                        let raw = socket.into_raw_fd();
                        // SAFETY: the descriptor is handed over.
                        sockets.insert(*who, unsafe { UnixDatagram::from_raw_fd(raw) });
                        continue;
                    }
                    seen.push(on_datagram(&sockets[*who], &names, call));
                }
                seen
            }

            fn on_datagram(socket: &UnixDatagram, names: &[SocketAddr], call: &OnDatagram) -> Seen {
                match call {
                    OnDatagram::SendTo(length, to) => {
                        show(socket.send_to_addr(&bytes_from(0, *length), &names[*to]))
                    }
                    OnDatagram::Send(length) => show(socket.send(&bytes_from(0, *length))),
                    OnDatagram::Connect(to) => show(socket.connect_addr(&names[*to])),
                    OnDatagram::Recv(room) => {
                        let mut buffer = vec![0; *room];
                        let result = socket.recv(&mut buffer);
                        format!("{} {buffer:?}", show(result))
                    }
                    OnDatagram::RecvFrom(room) => {
                        let mut buffer = vec![0; *room];
                        let result = socket.recv_from(&mut buffer);
                        format!("{} {buffer:?}", show(result))
                    }
                    OnDatagram::Shutdown => show(socket.shutdown(Shutdown::Write)),
                    OnDatagram::Nonblocking(on) => show(socket.set_nonblocking(*on)),
                    OnDatagram::Limit(limit) => {
                        let set = [
                            show(socket.set_read_timeout(Some(*limit))),
                            show(socket.set_write_timeout(Some(*limit))),
                        ];
                        let got = (
                            socket.read_timeout().unwrap(),
                            socket.write_timeout().unwrap(),
                        );
                        format!("{set:?} {got:?}")
                    }
                    OnDatagram::TakeError => show(socket.take_error()),
                    OnDatagram::Addresses => anonymous(socket),
                    OnDatagram::Convert => unreachable!("done by the caller"),
                }
            }

            /// What needs no chance: names, listeners and ends of connections.
            pub fn walk(directory: &Path) -> Vec<Seen> {
                let mut seen: Vec<Seen> = Vec::new();
                let path = |name: &str| directory.join(name);
                std::fs::write(path("file"), "").unwrap();

                // Names that lead nowhere.
                let long = path(&"x".repeat(108));
                let with_zero = Path::new("a\0b");
                for name in [
                    &path("none"),
                    &path("file"),
                    &long,
                    with_zero,
                    Path::new(""),
                ] {
                    let stream = UnixStream::connect(name);
                    seen.push(show(stream.map(drop)));
                    let datagram = UnixDatagram::unbound().unwrap();
                    seen.push(show(datagram.connect(name)));
                    seen.push(show(datagram.send_to(b"x", name)));
                    if name != Path::new("") {
                        seen.push(show(UnixListener::bind(name).map(drop)));
                        seen.push(show(UnixDatagram::bind(name).map(drop)));
                        let _ = std::fs::remove_file(path("none"));
                    }
                }
                let nobody = SocketAddr::from_abstract_name("greenring nobody").unwrap();
                let unnamed = UnixDatagram::unbound().unwrap().local_addr().unwrap();
                for address in [&nobody, &unnamed] {
                    seen.push(show(UnixStream::connect_addr(address).map(drop)));
                    let datagram = UnixDatagram::unbound().unwrap();
                    seen.push(show(datagram.connect_addr(address)));
                    seen.push(show(datagram.send_to_addr(b"x", address)));
                }
                // An empty address has the kernel choose one.
                let chosen = UnixListener::bind_addr(&unnamed).unwrap();
                let chosen = chosen.local_addr().unwrap();
                seen.push(format!("{}", chosen.as_abstract_name().unwrap().len()));

                // A listener, and clients of every kind of name.
                let listener = UnixListener::bind(path("listener")).unwrap();
                seen.push(show(UnixListener::bind(path("listener")).map(drop)));
                seen.push(show(listener.local_addr()));
                seen.push(anonymous(&listener));
                seen.push(format!("{:?}", listener.incoming().size_hint()));
                let wrong = UnixDatagram::unbound().unwrap();
                seen.push(show(wrong.connect(path("listener"))));
                listener.set_nonblocking(true).unwrap();
                seen.push(show(listener.accept().map(drop)));
                listener.set_nonblocking(false).unwrap();
                for name in [
                    UnixAddr::new_abstract(b"greenring\0\xffclient").unwrap(),
                    UnixAddr::new_abstract(&[b'c'; 107]).unwrap(),
                    UnixAddr::new(&path("client")).unwrap(),
                    UnixAddr::new_unnamed(),
                ] {
                    let client = socket(
                        AddressFamily::Unix,
                        SockType::Stream,
                        SockFlag::SOCK_CLOEXEC,
                        None,
                    )
                    .unwrap();
                    bind(client.as_raw_fd(), &name).unwrap();
                    let to = UnixAddr::new(&path("listener")).unwrap();
                    connect(client.as_raw_fd(), &to).unwrap();
                    let client = UnixStream::from(client);
                    let (accepted, peer) = listener.accept().unwrap();
                    if name.path_len() > 0 {
                        seen.push(format!("{peer:?}"));
                        seen.push(anonymous(&client));
                        seen.push(anonymous(&accepted));
                    }
                    assert_eq!(
                        format!("{:?}", accepted.peer_addr().unwrap()),
                        format!("{peer:?}")
                    );
                    let datagram = UnixDatagram::bind(path("datagram")).unwrap();
                    drop(client);
                    drop(accepted);
                    let _ = std::fs::remove_file(path("client"));
                    std::fs::remove_file(path("datagram")).unwrap();
                    drop(datagram);
                }
                let client = UnixStream::connect(path("listener")).unwrap();
                let accepted = listener.into_iter().next().unwrap().unwrap();
                seen.push(show(client.peer_addr()));

                // A close with unread data resets, one without ends.
                (&client).write_all(b"unread").unwrap();
                drop(accepted);
                seen.push(show((&client).read(&mut [0; 8])));
                seen.push(show((&client).read(&mut [0; 8])));
                seen.push(show((&client).write(b"x")));
                seen.push(show((&client).write(b"")));
                seen.push(show(client.shutdown(Shutdown::Both)));
                seen.push(show(client.shutdown(Shutdown::Both)));
                seen.push(show(client.peer_addr()));
                seen.push(show(client.take_error()));

                // A dropped listener resets who was not accepted, and refuses.
                let waiting = UnixStream::connect(path("listener")).unwrap();
                (&waiting).write_all(b"never read").unwrap();
                let silent = UnixStream::connect(path("listener")).unwrap();
                drop(listener);
                for stream in [&waiting, &silent] {
                    seen.push(show((&*stream).read(&mut [0; 8])));
                    seen.push(show((&*stream).read(&mut [0; 8])));
                    seen.push(show((&*stream).write(b"x")));
                    seen.push(show(stream.take_error()));
                }
                seen.push(show(UnixStream::connect(path("listener")).map(drop)));
                let pending = UnixListener::bind(path("second")).unwrap();
                let waiting = UnixStream::connect(path("second")).unwrap();
                (&waiting).write_all(b"never read").unwrap();
                drop(pending);
                seen.push(show(waiting.take_error()));
                seen.push(show(waiting.take_error()));

                // Datagrams.
                let receiver = UnixDatagram::bind(path("receiver")).unwrap();
                let sender = UnixDatagram::bind(path("sender")).unwrap();
                seen.push(anonymous(&receiver));
                sender.connect(path("receiver")).unwrap();
                seen.push(anonymous(&sender));
                seen.push(show(sender.send(b"datagram")));
                let mut bytes = [0; 4];
                seen.push(show(receiver.recv_from(&mut bytes)));
                seen.push(show(sender.send(&vec![0; 1 << 20])));
                seen.push(show(receiver.send_to(b"back", path("sender"))));
                seen.push(show(sender.recv(&mut bytes)));
                drop(receiver);
                seen.push(show(sender.send(b"x")));
                seen
            }
        }
    };
}

player!(on_std, std);
player!(on_greenring, greenring);

/// Runs the program on an OS thread that has never had a ring: what is left to do
/// of a ring's end counts as a signal, which std's calls return for.
fn of_std(program: impl FnOnce() -> Vec<Seen> + Send) -> Vec<Seen> {
    std::thread::scope(|scope| scope.spawn(program).join()).unwrap()
}

/// Runs the program on hubs of greenring, and asserts that each does as std.
fn compare(std: &[Seen], ours: impl Fn() -> Vec<Seen>) -> Result<(), TestCaseError> {
    for backend in [Backend::Uring, Backend::Epoll] {
        if is_available(backend) {
            let seen = Builder::new().backend(backend).run(&ours).unwrap();
            prop_assert_eq!(&seen, std, "on {}", backend);
        }
    }
    Ok(())
}

fn runner() -> TestRunner {
    let cases = match std::env::var("GREENRING_TEST_SCRIPTS") {
        Ok(scripts) => scripts.parse().expect("GREENRING_TEST_SCRIPTS is a number"),
        Err(_) => 60,
    };
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

fn limits() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(SHORT),
        Just(Duration::from_millis(9)),
        Just(Duration::ZERO)
    ]
}

fn stream_calls() -> impl Strategy<Value = OnStream> {
    let length = || prop_oneof![Just(0), 1..100_usize, 1..70_000_usize];
    let lengths = || proptest::collection::vec(length(), 0..4);
    prop_oneof![
        4 => length().prop_map(OnStream::Read),
        2 => lengths().prop_map(OnStream::ReadVectored),
        4 => length().prop_map(OnStream::Write),
        2 => lengths().prop_map(OnStream::WriteVectored),
        1 => (1..100_000_usize).prop_map(OnStream::Fill),
        1 => Just(OnStream::Drain),
        1 => any::<u8>().prop_map(OnStream::Shutdown),
        1 => any::<bool>().prop_map(OnStream::Nonblocking),
        1 => limits().prop_map(OnStream::Limit),
        1 => Just(OnStream::TakeError),
        1 => Just(OnStream::Addresses),
        1 => Just(OnStream::TryClone),
        1 => Just(OnStream::DropOldest),
        1 => Just(OnStream::Convert),
    ]
}

fn datagram_calls() -> impl Strategy<Value = OnDatagram> {
    let length = || prop_oneof![Just(0), 1..40_usize];
    prop_oneof![
        8 => (length(), 0..3_usize).prop_map(|(length, to)| OnDatagram::SendTo(length, to)),
        4 => length().prop_map(OnDatagram::Send),
        2 => (0..3_usize).prop_map(OnDatagram::Connect),
        3 => length().prop_map(OnDatagram::Recv),
        3 => length().prop_map(OnDatagram::RecvFrom),
        1 => Just(OnDatagram::Shutdown),
        1 => any::<bool>().prop_map(OnDatagram::Nonblocking),
        1 => limits().prop_map(OnDatagram::Limit),
        1 => Just(OnDatagram::TakeError),
        1 => Just(OnDatagram::Addresses),
        1 => Just(OnDatagram::Convert),
    ]
}

#[test]
fn names_listeners_and_ends_are_as_in_std() {
    let directory = std::env::temp_dir().join(format!("greenring-walk-{}", std::process::id()));
    let fresh = || {
        let _ = std::fs::remove_dir_all(&directory);
        // What a process that was killed and had our id has left behind.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
    };
    fresh();
    let std = of_std(|| on_std::walk(&directory));
    let result = compare(&std, || {
        fresh();
        on_greenring::walk(&directory)
    });
    std::fs::remove_dir_all(&directory).unwrap();
    result.unwrap();
}

#[test]
fn scripts_on_streams_give_what_std_gives() {
    let scripts = proptest::collection::vec((any::<bool>(), stream_calls()), 1..25);
    runner()
        .run(&scripts, |script| {
            let std = of_std(|| on_std::streams(&script));
            compare(&std, || on_greenring::streams(&script))
        })
        .unwrap();
}

#[test]
fn scripts_on_datagrams_give_what_std_gives() {
    let prefix = format!("greenring-differential-{}", std::process::id());
    let scripts = proptest::collection::vec((0..3_usize, datagram_calls()), 1..40);
    runner()
        .run(&scripts, |script| {
            let std = of_std(|| on_std::datagrams(&prefix, &script));
            compare(&std, || on_greenring::datagrams(&prefix, &script))
        })
        .unwrap();
}
