//! `UdpSocket`: datagrams, modes, groups, and who waits for whom.

mod common;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;

use common::Rng;
use common::net::{bytes_from, wait_for_parked, wait_until};
use greenring::io::{self, ErrorKind};
use greenring::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket, wait_readable, wait_writable};
use greenring::time::{Duration, Instant, timeout};
use greenring::{runtime, thread};
use nix::fcntl::{FcntlArg, fcntl};

const LONG: Option<Duration> = Some(Duration::from_secs(60));

fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two sockets that are each other's peer.
fn connected() -> (UdpSocket, UdpSocket) {
    let ((one, first), (other, second)) = (bound(), bound());
    one.connect(second).unwrap();
    other.connect(first).unwrap();
    (one, other)
}

/// Two ends of which a write to one waits until the other was read: over the
/// loopback no send buffer fills up, but a Unix socket's peer does.
fn filling() -> (UdpSocket, UdpSocket) {
    let (one, other) = UnixDatagram::pair().unwrap();
    (OwnedFd::from(one).into(), OwnedFd::from(other).into())
}

/// An address of the loopback at which nobody is.
fn nobody() -> SocketAddr {
    let gone = std::net::UdpSocket::bind("127.0.84.1:0").unwrap();
    gone.local_addr().unwrap()
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn is_nonblocking(fd: &impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK != 0
}

/// A socket in another shape.
type Way = fn(UdpSocket) -> UdpSocket;

/// All ways out of greenring and back in.
const WAYS: [Way; 4] = [
    |socket| std::net::UdpSocket::from(socket).into(),
    |socket| OwnedFd::from(socket).into(),
    // SAFETY: the descriptor is handed over.
    |socket| unsafe { UdpSocket::from_raw_fd(socket.into_raw_fd()) },
    |socket| socket.try_clone().unwrap(),
];

both_backends! {
    fn datagrams_keep_their_borders_and_their_senders() {
        let ((here, address), (one, first), (other, second)) = (bound(), bound(), bound());
        assert_eq!(one.send_to(b"alpha", address).unwrap(), 5);
        assert_eq!(other.send_to(b"", address).unwrap(), 0);
        assert_eq!(one.send_to(b"gamma", address).unwrap(), 5);
        assert_eq!(other.send_to(b"delta", address).unwrap(), 5);
        let mut buffer = [0; 16];
        assert_eq!(here.recv_from(&mut buffer).unwrap(), (5, first));
        assert_eq!(&buffer, b"alpha\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(here.recv_from(&mut buffer).unwrap(), (0, second));
        // What does not fit is lost, and the next datagram is the next.
        assert_eq!(here.recv_from(&mut buffer[..2]).unwrap(), (2, first));
        assert_eq!(here.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"delta");
    }

    fn a_look_leaves_the_datagram() {
        let ((here, address), (there, sender)) = (bound(), bound());
        there.send_to(b"hello", address).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(here.peek_from(&mut buffer).unwrap(), (5, sender));
        assert_eq!(here.peek(&mut buffer[..2]).unwrap(), 2);
        assert_eq!(here.peek_from(&mut []).unwrap(), (0, sender));
        assert_eq!(here.peek(&mut buffer).unwrap(), 5);
        assert_eq!(here.recv(&mut buffer).unwrap(), 5);
        here.set_nonblocking(true).unwrap();
        assert_eq!(kind(here.peek(&mut buffer)), ErrorKind::WouldBlock);
        assert_eq!(kind(here.peek_from(&mut buffer)), ErrorKind::WouldBlock);
    }

    fn an_empty_buffer_takes_a_datagram_or_runs_out_of_time() {
        let ((here, address), (there, sender)) = (bound(), bound());
        for receive in [
            |socket: &UdpSocket| socket.recv(&mut []),
            |socket: &UdpSocket| socket.recv_from(&mut []).map(|(count, _)| count),
        ] {
            there.send_to(b"lost", address).unwrap();
            there.send_to(b"kept", address).unwrap();
            assert_eq!(receive(&here).unwrap(), 0);
            assert_eq!(here.recv_from(&mut [0; 8]).unwrap(), (4, sender));
            here.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            assert_eq!(kind(receive(&here)), ErrorKind::WouldBlock);
            here.set_read_timeout(None).unwrap();
            // It waits for as long as it takes otherwise.
            let waits = thread::spawn({
                let here = here.try_clone().unwrap();
                move || receive(&here).unwrap()
            });
            wait_for_parked(1);
            there.send_to(b"lost", address).unwrap();
            assert_eq!(waits.join().unwrap(), 0);
        }
    }

    fn the_longest_datagram_is_udps() {
        let (one, other) = connected();
        let longest = bytes_from(0, 65_507);
        assert_eq!(one.send(&longest).unwrap(), longest.len());
        let mut buffer = vec![0; 70_000];
        assert_eq!(other.recv(&mut buffer).unwrap(), longest.len());
        assert!(buffer[..longest.len()] == longest);
        let address = other.local_addr().unwrap();
        for length in [65_508, 1 << 20] {
            let too_long = vec![0; length];
            let error = one.send(&too_long).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            let error = one.send_to(&too_long, address).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        }
    }

    fn who_receives_waits_alone() {
        let (here, address) = bound();
        let waits = thread::spawn(move || here.recv_from(&mut [0; 8]).unwrap());
        wait_for_parked(1);
        let (one, other) = connected();
        for _ in 0..100 {
            one.send(b"ping").unwrap();
            assert_eq!(other.recv(&mut [0; 8]).unwrap(), 4);
        }
        assert!(!waits.is_finished());
        one.connect(address).unwrap();
        one.send(b"x").unwrap();
        assert_eq!(waits.join().unwrap(), (1, one.local_addr().unwrap()));
    }

    fn each_datagram_goes_to_one_of_those_who_wait() {
        const WAITING: usize = 20;
        let (here, address) = bound();
        let here = Rc::new(here);
        let waiting: Vec<_> = (0..WAITING)
            .map(|number| {
                // Half of them through a clone of their own.
                let here = match number % 2 {
                    0 => Rc::clone(&here),
                    _ => Rc::new(here.try_clone().unwrap()),
                };
                thread::spawn(move || {
                    let mut word = [0; 8];
                    assert_eq!(here.recv(&mut word).unwrap(), 8);
                    usize::from_ne_bytes(word)
                })
            })
            .collect();
        wait_for_parked(WAITING);
        let (there, _) = bound();
        for number in 0..WAITING {
            there.send_to(&number.to_ne_bytes(), address).unwrap();
        }
        let mut received: Vec<usize> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
        received.sort_unstable();
        assert!(received.into_iter().eq(0..WAITING));
    }

    fn a_connected_socket_hears_its_peer_only() {
        let (one, other) = connected();
        let (stranger, _) = bound();
        let address = one.local_addr().unwrap();
        assert_eq!(one.peer_addr().unwrap(), other.local_addr().unwrap());
        assert_eq!(kind(stranger.peer_addr()), ErrorKind::NotConnected);
        assert_eq!(stranger.send(b"x").unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
        stranger.send_to(b"unheard", address).unwrap();
        other.send(b"heard").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(one.recv_from(&mut buffer).unwrap(), (5, other.local_addr().unwrap()));
        assert_eq!(&buffer[..5], b"heard");
        // Another connect replaces the first.
        one.connect(stranger.local_addr().unwrap()).unwrap();
        stranger.send_to(b"now", address).unwrap();
        assert_eq!(one.recv(&mut buffer).unwrap(), 3);
    }

    fn a_peer_that_is_not_there_refuses() {
        let (socket, _) = bound();
        socket.connect(nobody()).unwrap();
        // The next call tells of it, a receive that waits already as well.
        for _ in 0..3 {
            assert_eq!(socket.send(b"x").unwrap(), 1);
            assert_eq!(kind(socket.recv(&mut [0; 8])), ErrorKind::ConnectionRefused);
            let waits = thread::spawn({
                let socket = socket.try_clone().unwrap();
                move || socket.recv_from(&mut [0; 8]).map(drop)
            });
            wait_for_parked(1);
            socket.send(b"x").unwrap();
            assert_eq!(kind(waits.join().unwrap()), ErrorKind::ConnectionRefused);
            socket.send(b"x").unwrap();
            assert!(wait_readable(&socket, LONG).unwrap());
            let error = socket.take_error().unwrap().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(socket.take_error().unwrap().is_none());
        }
        // Who is not connected is not told.
        let (socket, _) = bound();
        socket.send_to(b"x", nobody()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert_eq!(kind(socket.recv(&mut [0; 8])), ErrorKind::WouldBlock);
    }

    fn a_receive_that_takes_too_long_would_block_and_never_early() {
        let (socket, _) = bound();
        let mut rng = Rng::new("receive timeouts");
        for round in 0..12 {
            let limit = Duration::from_micros(1 + rng.below(20_000));
            socket.set_read_timeout(Some(limit)).unwrap();
            let begin = Instant::now();
            let mut buffer = [0; 8];
            let result = match round % 4 {
                0 => socket.recv(&mut buffer),
                1 => socket.peek(&mut buffer),
                2 => socket.recv_from(&mut buffer).map(|(count, _)| count),
                _ => socket.peek_from(&mut buffer).map(|(count, _)| count),
            };
            assert!(begin.elapsed() >= limit);
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        }
    }

    fn a_full_send_buffer_makes_senders_wait() {
        let (one, other) = filling();
        one.set_nonblocking(true).unwrap();
        let mut sent = 0u32;
        while one.send(&sent.to_ne_bytes()).is_ok() {
            sent += 1;
        }
        assert_eq!(kind(one.send(b"more")), ErrorKind::WouldBlock);
        one.set_nonblocking(false).unwrap();
        let limit = Duration::from_millis(5);
        one.set_write_timeout(Some(limit)).unwrap();
        let begin = Instant::now();
        assert_eq!(kind(one.send(b"more")), ErrorKind::WouldBlock);
        assert!(begin.elapsed() >= limit);
        one.set_write_timeout(None).unwrap();

        let (first, count) = (sent, 50);
        let sends = thread::spawn(move || {
            for number in first..first + count {
                assert_eq!(one.send(&number.to_ne_bytes()).unwrap(), 4);
            }
        });
        wait_for_parked(1);
        assert!(!sends.is_finished());
        for number in 0..first + count {
            let mut word = [0; 4];
            assert_eq!(other.recv(&mut word).unwrap(), 4);
            assert_eq!(u32::from_ne_bytes(word), number);
        }
        sends.join().unwrap();
    }

    fn modes_are_shared_by_clones_and_survive_conversions() {
        for way in WAYS {
            let (socket, _) = bound();
            let rounded = {
                let std = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                std.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                std.read_timeout().unwrap()
            };
            socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            socket.set_write_timeout(LONG).unwrap();
            let socket = way(socket);
            assert_eq!(socket.read_timeout().unwrap(), rounded);
            assert_eq!(socket.write_timeout().unwrap(), LONG);
            assert_eq!(kind(socket.recv(&mut [0; 8])), ErrorKind::WouldBlock);

            let clone = socket.try_clone().unwrap();
            clone.set_read_timeout(None).unwrap();
            clone.set_nonblocking(true).unwrap();
            assert!(is_nonblocking(&socket));
            let socket = way(socket);
            assert_eq!(socket.read_timeout().unwrap(), None);
            assert_eq!(kind(socket.recv_from(&mut [0; 8])), ErrorKind::WouldBlock);
            socket.set_nonblocking(false).unwrap();
            assert!(!is_nonblocking(&way(socket)));
        }
        let (socket, _) = bound();
        assert!(!is_nonblocking(&socket));
        let expected = "cannot set a 0 duration timeout";
        for result in [
            socket.set_read_timeout(Some(Duration::ZERO)),
            socket.set_write_timeout(Some(Duration::ZERO)),
        ] {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, expected));
        }
    }

    fn it_prints_as_std_does_and_keeps_its_descriptor() {
        let std = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (expected, raw) = (format!("{std:?}"), std.as_raw_fd());
        let socket = UdpSocket::from(std);
        assert_eq!(format!("{socket:?}"), expected);
        assert_eq!(socket.as_raw_fd(), raw);
        assert_eq!(socket.as_fd().as_raw_fd(), raw);
        assert_eq!(socket.into_raw_fd(), raw);
        // SAFETY: it was just given away.
        drop(unsafe { OwnedFd::from_raw_fd(raw) });
    }

    fn the_first_address_is_sent_to_and_the_first_possible_one_connected() {
        let ((here, address), (there, _)) = (bound(), bound());
        let port = address.port();
        assert_eq!(there.send_to(b"x", &[address, nobody()][..]).unwrap(), 1);
        assert_eq!(here.recv(&mut [0; 8]).unwrap(), 1);
        // An address of the other family cannot be had here.
        let other_family = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert!(there.send_to(b"x", &[other_family, address][..]).is_err());
        there.connect(&[other_family, address][..]).unwrap();
        assert_eq!(there.peer_addr().unwrap(), address);
        // Not an address to Rust: the C library looks it up, elsewhere.
        there.connect(format!("127.1:{port}")).unwrap();
        assert_eq!(there.send_to(b"y", ("127.1", port)).unwrap(), 1);
        assert_eq!(here.recv(&mut [0; 8]).unwrap(), 1);
        assert_ne!(UdpSocket::bind("127.1:0").unwrap().local_addr().unwrap().port(), 0);

        let std = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let seen = |result: io::Result<()>| {
            let error = result.unwrap_err();
            (error.kind(), error.raw_os_error(), error.to_string())
        };
        let none: &[SocketAddr] = &[];
        assert_eq!(seen(there.send_to(b"", none).map(drop)), seen(std.send_to(b"", none).map(drop)));
        assert_eq!(seen(there.connect(none)), seen(std.connect(none)));
        assert_eq!(
            seen(UdpSocket::bind(none).map(drop)),
            seen(std::net::UdpSocket::bind(none).map(drop))
        );
        for text in ["", "localhost", "localhost:x", ":80", "nul\0:80", "192.0.2.1:0"] {
            let ours = UdpSocket::bind(text).map(drop);
            assert_eq!(seen(ours), seen(std::net::UdpSocket::bind(text).map(drop)), "{text:?}");
        }
        for text in ["", "localhost", "localhost:x", ":80", "nul\0:80"] {
            assert_eq!(seen(there.connect(text)), seen(std.connect(text)), "{text:?}");
            let ours = there.send_to(b"", text).map(drop);
            assert_eq!(seen(ours), seen(std.send_to(b"", text).map(drop)), "{text:?}");
        }
    }

    fn a_group_gets_what_is_sent_to_it() {
        // Nobody else's: who is bound to all addresses hears every group that
        // anybody on the machine has joined.
        let [.., high, low] = std::process::id().to_be_bytes();
        let group = Ipv4Addr::new(239, 192 + runtime::backend() as u8, high, low);
        let here = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = here.local_addr().unwrap().port();
        here.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(
            kind(here.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)),
            ErrorKind::AddrInUse
        );
        let (there, sender) = bound();
        assert!(there.multicast_loop_v4().unwrap());
        there.set_multicast_ttl_v4(3).unwrap();
        assert_eq!(there.multicast_ttl_v4().unwrap(), 3);
        there.send_to(b"group", (group, port)).unwrap();
        assert_eq!(here.recv_from(&mut [0; 8]).unwrap(), (5, sender));

        here.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(
            kind(here.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)),
            ErrorKind::AddrNotAvailable
        );
        // A datagram of its own behind it shows that none came.
        there.send_to(b"group", (group, port)).unwrap();
        there.send_to(b"alone", (Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(here.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"alone");

        there.set_multicast_loop_v4(false).unwrap();
        assert!(!there.multicast_loop_v4().unwrap());
    }

    fn a_group_of_version_6_does_too() {
        let Ok(here) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
            return println!("skipped: no IPv6");
        };
        let loopback = 1;
        let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x4772, runtime::backend() as u16);
        let port = here.local_addr().unwrap().port();
        here.join_multicast_v6(&group, loopback).unwrap();
        let there = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        assert!(there.multicast_loop_v6().unwrap());
        let address = std::net::SocketAddrV6::new(group, port, 0, loopback);
        match there.send_to(b"group", address) {
            Ok(_) => {
                let (count, sender) = here.recv_from(&mut [0; 8]).unwrap();
                assert_eq!((count, sender.port()), (5, there.local_addr().unwrap().port()));
            }
            // The loopback has no route to groups on every machine.
            Err(error) => {
                let std = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
                let expected = std.send_to(b"group", address).unwrap_err();
                assert_eq!(error.raw_os_error(), expected.raw_os_error());
                println!("skipped the delivery: {error}");
            }
        }
        here.leave_multicast_v6(&group, loopback).unwrap();
        assert!(here.leave_multicast_v6(&group, loopback).is_err());
        there.set_multicast_loop_v6(false).unwrap();
        assert!(!there.multicast_loop_v6().unwrap());
        there.connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        there.send(b"alone").unwrap();
        let seen = here.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(seen, (5, there.local_addr().unwrap()));
    }

    fn a_broadcast_needs_leave() {
        let here = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = here.local_addr().unwrap().port();
        let (there, sender) = bound();
        let everybody = (Ipv4Addr::new(127, 255, 255, 255), port);
        assert!(!there.broadcast().unwrap());
        assert_eq!(kind(there.send_to(b"all", everybody)), ErrorKind::PermissionDenied);
        there.set_broadcast(true).unwrap();
        assert!(there.broadcast().unwrap());
        there.send_to(b"all", everybody).unwrap();
        assert_eq!(here.recv_from(&mut [0; 8]).unwrap(), (3, sender));
        there.set_ttl(9).unwrap();
        assert_eq!(there.ttl().unwrap(), 9);
    }

    fn a_limit_that_races_a_datagram_loses_none() {
        let (one, other) = connected();
        let mut rng = Rng::new("raced receives");
        let (mut sent, mut received, mut raced) = (0u64, 0u64, 0);
        while sent < 2000 {
            let limit = Duration::from_micros(rng.below(60));
            let sends = thread::spawn({
                let one = one.try_clone().unwrap();
                let pause = Duration::from_micros(rng.below(60));
                move || {
                    thread::sleep(pause);
                    one.send(&sent.to_ne_bytes()).unwrap();
                }
            });
            sent += 1;
            let mut word = [0xee; 16];
            let result = timeout(limit, || match sent % 2 {
                0 => other.recv(&mut word).unwrap(),
                _ => other.recv_from(&mut word).unwrap().0,
            });
            match result {
                Ok(count) => assert_eq!(count, 8),
                Err(_) => {
                    raced += 1;
                    // Nothing was put into the buffer of a receive that failed.
                    assert_eq!(word, [0xee; 16]);
                    sends.join().unwrap();
                    assert_eq!(other.recv(&mut word).unwrap(), 8);
                }
            }
            assert_eq!(u64::from_ne_bytes(word[..8].try_into().unwrap()), received);
            assert_eq!(&word[8..], [0xee; 8]);
            received += 1;
        }
        println!("{raced} of {sent} receives ran out of time");
    }

    fn a_socket_may_be_used_by_another_os_thread() {
        let ((here, address), (there, _)) = (bound(), bound());
        let here = std::sync::Arc::new(here);
        let elsewhere = std::thread::spawn({
            let here = std::sync::Arc::clone(&here);
            move || {
                let mut word = [0; 8];
                (0..100).all(|_| here.recv(&mut word).is_ok())
            }
        });
        for _ in 0..100 {
            there.send_to(b"x", address).unwrap();
            thread::yield_now();
        }
        wait_until(|| elsewhere.is_finished());
        assert!(elsewhere.join().unwrap());
    }

    fn readiness_and_receives_go_together() {
        let ((here, address), (there, _)) = (bound(), bound());
        assert!(!wait_readable(&here, Some(Duration::ZERO)).unwrap());
        assert!(wait_writable(&here, None).unwrap());
        there.send_to(b"x", address).unwrap();
        assert!(wait_readable(&here, LONG).unwrap());
        assert_eq!(here.recv(&mut [0; 8]).unwrap(), 1);
        assert!(!wait_readable(&here, Some(Duration::ZERO)).unwrap());
    }

    fn what_is_no_socket_is_taken_over_and_fails_later() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let socket = UdpSocket::from(OwnedFd::from(file));
        let not_a_socket = Some(libc::ENOTSOCK);
        assert_eq!(socket.recv(&mut [0]).unwrap_err().raw_os_error(), not_a_socket);
        assert_eq!(socket.recv_from(&mut [0]).unwrap_err().raw_os_error(), not_a_socket);
        assert_eq!(socket.send(&[0]).unwrap_err().raw_os_error(), not_a_socket);
        assert_eq!(socket.send_to(&[0], "127.0.0.1:9").unwrap_err().raw_os_error(), not_a_socket);
    }
}
