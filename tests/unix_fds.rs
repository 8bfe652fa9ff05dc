//! Descriptors passed over Unix sockets: they arrive, and none leaks.

mod common;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use common::net::wait_for_parked;
use common::{Rng, child_on_each_backend, end_after, is_child, open_descriptors};
use greenring::io::{self, ErrorKind, Read, Write};
use greenring::os::unix::net::{UnixDatagram, UnixStream};
use greenring::thread;
use greenring::time::{Duration, timeout};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

/// What both kinds of sockets have.
trait Passes {
    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize>;
    fn receive(&self, bytes: &mut [u8], most: usize) -> io::Result<(usize, Vec<OwnedFd>)>;
}

macro_rules! passes {
    ($($socket:ty),*) => {$(
        impl Passes for $socket {
            fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
                self.send_fds(bytes, fds)
            }

            fn receive(&self, bytes: &mut [u8], most: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
                self.recv_fds(bytes, most)
            }
        }
    )*};
}

passes!(UnixStream, UnixDatagram);

/// Pairs of both kinds.
fn pairs() -> [(Box<dyn Passes>, Box<dyn Passes>); 2] {
    let (one, other) = UnixStream::pair().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    [
        (Box::new(one), Box::new(other)),
        (Box::new(left), Box::new(right)),
    ]
}

fn closes_on_exec(fd: &OwnedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC != 0
}

both_backends_alone! {
    fn a_thousand_descriptors_pass_and_none_is_left() {
        let before = open_descriptors();
        for (one, other) in pairs() {
            let (_reader, writer) = io::pipe().unwrap();
            let sender = thread::spawn(move || {
                for n in 0..250_u8 {
                    assert_eq!(one.send(&[n], &[writer.as_fd(); 4]).unwrap(), 1);
                }
            });
            for n in 0..250 {
                let mut byte = [0];
                let (count, fds) = other.receive(&mut byte, 4).unwrap();
                assert_eq!((count, byte[0], fds.len()), (1, n, 4));
                assert!(fds.iter().all(closes_on_exec));
            }
            sender.join().unwrap();
        }
        assert_eq!(open_descriptors(), before);
    }

    fn as_many_as_one_message_takes() {
        let before = open_descriptors();
        for (one, other) in pairs() {
            let (_reader, writer) = io::pipe().unwrap();
            one.send(b"x", &[writer.as_fd(); 253]).unwrap();
            assert_eq!(other.receive(&mut [0], usize::MAX).unwrap().1.len(), 253);
            let error = one.send(b"x", &[writer.as_fd(); 254]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            one.send(b"none", &[]).unwrap();
            let (count, fds) = other.receive(&mut [0; 8], 9).unwrap();
            assert_eq!((count, fds.len()), (4, 0));
        }
        assert_eq!(open_descriptors(), before);
    }

    fn more_than_were_asked_for_are_an_error_and_closed() {
        let before = open_descriptors();
        for (one, other) in pairs() {
            for (passed, most) in [(1, 0), (2, 1), (40, 3), (253, 252), (253, 0)] {
                one.send(b"x", &vec![io::stdout().as_fd(); passed]).unwrap();
                one.send(b"next", &[io::stdout().as_fd()]).unwrap();
                let error = other.receive(&mut [0], most).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                let (count, fds) = other.receive(&mut [0; 8], 1).unwrap();
                assert_eq!((count, fds.len()), (4, 1));
            }
        }
        assert_eq!(open_descriptors(), before);
    }

    fn a_socket_that_receives_credentials_too_has_room() {
        let before = open_descriptors();
        {
            let (one, other) = UnixStream::pair().unwrap();
            setsockopt(&other, sockopt::PassCred, &true).unwrap();
            for count in [0, 1, 7, 253] {
                one.send_fds(b"x", &vec![one.as_fd(); count]).unwrap();
                assert_eq!(other.recv_fds(&mut [0], count).unwrap().1.len(), count);
            }
            one.send_fds(b"x", &[one.as_fd(); 8]).unwrap();
            other.recv_fds(&mut [0], 7).unwrap_err();
        }
        assert_eq!(open_descriptors(), before);
    }

    fn descriptors_that_run_out_are_an_error_and_closed() {
        let before = open_descriptors();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        for (one, other) in pairs() {
            one.send(b"x", &[io::stdout().as_fd(); 20]).unwrap();
            let room = open_descriptors() as u64 + 10;
            setrlimit(Resource::RLIMIT_NOFILE, room, hard).unwrap();
            let error = other.receive(&mut [0], 20).unwrap_err();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        }
        assert_eq!(open_descriptors(), before);
    }

    fn what_is_read_plainly_or_never_brings_nothing() {
        let before = open_descriptors();
        for _ in 0..100 {
            let (one, mut other) = UnixStream::pair().unwrap();
            one.send_fds(b"read", &[one.as_fd(); 3]).unwrap();
            one.send_fds(b"unread", &[one.as_fd(); 3]).unwrap();
            assert_eq!(other.read(&mut [0; 4]).unwrap(), 4);
        }
        assert_eq!(open_descriptors(), before);
    }

    fn a_socket_travels_over_a_socket_and_brings_another() {
        let before = open_descriptors();
        {
            let (one, other) = UnixStream::pair().unwrap();
            let (inner, outer) = UnixStream::pair().unwrap();
            let (mut innermost, far) = UnixStream::pair().unwrap();
            // The innermost one waits within the inner one while that travels.
            inner.send_fds(b"innermost", &[far.as_fd()]).unwrap();
            one.send_fds(b"outer", &[outer.as_fd()]).unwrap();
            drop((inner, outer, far));

            let receiver = thread::spawn(move || {
                let (_, mut fds) = other.recv_fds(&mut [0; 16], 1).unwrap();
                let outer = UnixStream::from(fds.remove(0));
                let (count, mut fds) = outer.recv_fds(&mut [0; 16], 1).unwrap();
                assert_eq!(count, 9);
                UnixStream::from(fds.remove(0)).write_all(b"arrived").unwrap();
            });
            let mut text = String::new();
            innermost.read_to_string(&mut text).unwrap();
            assert_eq!(text, "arrived");
            receiver.join().unwrap();
        }
        assert_eq!(open_descriptors(), before);
    }

    fn a_stream_needs_a_byte_and_a_datagram_does_not() {
        let (one, _other) = UnixStream::pair().unwrap();
        let error = one.send_fds(b"", &[one.as_fd()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let (one, other) = UnixDatagram::pair().unwrap();
        assert_eq!(one.send_fds(b"", &[one.as_fd()]).unwrap(), 0);
        let (count, fds) = other.recv_fds(&mut [], 1).unwrap();
        assert_eq!((count, fds.len()), (0, 1));
    }

    fn time_limits_and_modes_are_those_of_a_read_and_a_write() {
        for nonblocking in [false, true] {
            let (one, other) = UnixStream::pair().unwrap();
            one.set_nonblocking(nonblocking).unwrap();
            one.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            one.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
            let error = one.recv_fds(&mut [0], 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let error = loop {
                if let Err(error) = one.send_fds(&[0; 4096], &[]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            drop(other);
            // What it had not read.
            let error = one.recv_fds(&mut [0], 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(one.recv_fds(&mut [0], 1).unwrap().0, 0);
            let error = one.send_fds(&[0], &[one.as_fd()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }

    fn a_timeout_that_races_with_an_arrival_loses_no_descriptor() {
        let messages = match std::env::var("GREENRING_TEST_ROUNDS") {
            Ok(rounds) => rounds.parse::<usize>().unwrap() / 10,
            Err(_) => 3000,
        };
        let mut rng = Rng::new("descriptors against timeouts");
        let before = open_descriptors();
        for (one, other) in pairs() {
            let (_reader, writer) = io::pipe().unwrap();
            let mut pauses = rng.clone();
            let sender = thread::spawn(move || {
                for n in 0..messages {
                    thread::sleep(Duration::from_micros(20 + pauses.below(120)));
                    one.send(&n.to_ne_bytes(), &[writer.as_fd(); 2]).unwrap();
                }
            });
            let (mut received, mut timeouts) = (0, 0);
            while received < messages {
                let limit = Duration::from_micros(40 + rng.below(80));
                let mut number = [0; size_of::<usize>()];
                match timeout(limit, || other.receive(&mut number, 2)) {
                    Ok(result) => {
                        let (count, fds) = result.unwrap();
                        assert_eq!((count, fds.len()), (number.len(), 2));
                        assert_eq!(usize::from_ne_bytes(number), received);
                        received += 1;
                    }
                    Err(_) => timeouts += 1,
                }
            }
            sender.join().unwrap();
            println!("{timeouts} timeouts beside {received} messages");
        }
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn what_arrives_when_the_hub_ends_is_closed() {
    const TEST: &str = "what_arrives_when_the_hub_ends_is_closed";
    if is_child(TEST) {
        end_after(60);
        let before = open_descriptors();
        for _ in 0..50 {
            let (one, other) = UnixStream::pair().unwrap();
            let (stays, raw) = (one.as_raw_fd(), other.as_raw_fd());
            // The abandoned green thread must own neither: what it owns leaks.
            let pair = std::sync::Arc::new((one, other));
            let ends = std::sync::Arc::clone(&pair);
            std::thread::spawn(move || {
                let (_one, other) = &*ends;
                let other: &'static UnixStream =
                    // SAFETY: the pair outlives this OS thread, which is joined.
                    unsafe { &*std::ptr::from_ref(other) };
                thread::spawn(move || {
                    let _ = other.recv_fds(&mut [0; 8], 4);
                    unreachable!("it is abandoned");
                });
                wait_for_parked(1);
                // It has arrived when the hub ends, and nobody runs any more.
                ends.0.send_fds(b"x", &[ends.0.as_fd(); 4]).unwrap();
            })
            .join()
            .unwrap();
            assert_eq!((pair.0.as_raw_fd(), pair.1.as_raw_fd()), (stays, raw));
        }
        assert_eq!(open_descriptors(), before);
        eprintln!("nothing is left");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["nothing is left"]);
    });
}
