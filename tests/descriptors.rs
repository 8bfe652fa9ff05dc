//! Descriptors that others close, that run out, and that come and go in
//! numbers; and SIGPIPE, which no write may raise.
//!
//! `GREENRING_TEST_CONNECTIONS` is the number of connections that come and go,
//! 50 000 if not set.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use common::net::{bytes_from, pair, poll_now, reset_on_close, wait_for_parked, wait_until};
use common::{Rng, open_descriptors, resident_bytes};
use greenring::io::{self, ErrorKind, IoSlice, Read, Write};
use greenring::net::{TcpListener, TcpStream};
use greenring::time::Duration;
use greenring::{runtime, thread};
use nix::poll::PollFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Closes a descriptor behind its owner's back. The owner must be one that
/// never closes it again.
fn close_raw(fd: RawFd) {
    // SAFETY: as `close_raw` demands, this is the last to use the number.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// A stream whose descriptor somebody else will close.
fn unowned(stream: TcpStream) -> Rc<ManuallyDrop<TcpStream>> {
    Rc::new(ManuallyDrop::new(stream))
}

both_backends_alone! {
    /// As in std, where another OS thread sits in the system call: it holds
    /// the file, so that the close wakes nobody. On epoll the kernel forgets
    /// the file at once, and only a time limit or the hub's end ends the wait.
    fn a_close_by_number_wakes_nobody_and_harms_nobody() {
        let (stream, _peer) = pair();
        let fd = stream.as_raw_fd();
        let stream = unowned(stream);
        let reading = Rc::clone(&stream);
        let reader = thread::spawn(move || (&mut &**reading).read(&mut [0; 8]).unwrap());
        wait_for_parked(1);
        close_raw(fd);
        for _ in 0..50 {
            thread::yield_now();
        }
        assert!(!reader.is_finished());

        // The number comes back as another socket, with another reader.
        let (mut other, mut other_peer) = pair();
        let reused = [other.as_raw_fd(), other_peer.as_raw_fd()].contains(&fd);
        assert!(reused, "the lowest free number is taken first");
        if other.as_raw_fd() != fd {
            std::mem::swap(&mut other, &mut other_peer);
        }
        let foreign = thread::spawn(move || {
            let mut buffer = [0; 8];
            let count = other.read(&mut buffer).unwrap();
            buffer[..count].to_vec()
        });
        wait_for_parked(2);
        other_peer.write_all(b"foreign").unwrap();
        assert_eq!(foreign.join().unwrap(), b"foreign");
        assert!(!reader.is_finished());
        // The hub ends now, with the reader where it is.
    }

    fn a_time_limit_ends_a_read_whose_descriptor_was_closed() {
        let (stream, _peer) = pair();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let fd = stream.as_raw_fd();
        let stream = unowned(stream);
        let reading = Rc::clone(&stream);
        let reader = thread::spawn(move || (&mut &**reading).read(&mut [0; 8]).map_err(|e| e.kind()));
        thread::yield_now();
        close_raw(fd);
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::WouldBlock));
        assert_eq!(runtime::stats().in_flight, 0);
    }

    /// Readers are parked while their descriptors are closed and the numbers
    /// become other sockets; each socket's bytes name it.
    fn a_storm_of_closes_and_reuse_confuses_nobody() {
        const ROUNDS: usize = 150;
        const PAIRS: usize = 12;
        let mut rng = Rng::new("close storm");
        let descriptors = open_descriptors();
        for round in 0..ROUNDS {
            let mut peers = Vec::new();
            let mut streams = Vec::new();
            let mut victims = Vec::new();
            let read_all = |stream: Rc<ManuallyDrop<TcpStream>>, start: usize| {
                thread::spawn(move || {
                    let mut position = start;
                    let mut buffer = [0; 16];
                    match (&mut &**stream).read(&mut buffer) {
                        Ok(count) => {
                            assert_eq!(buffer[..count], bytes_from(position, count));
                            position += count;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                    position - start
                })
            };
            for number in 0..PAIRS {
                let (stream, peer) = pair();
                stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                let start = (round * PAIRS + number) * 1000;
                victims.push(stream.as_raw_fd());
                streams.push((unowned(stream), start));
                peers.push((peer, start));
            }
            let readers: Vec<_> = streams
                .into_iter()
                .map(|(stream, start)| read_all(stream, start))
                .collect();
            // They start, and park unless their time has run out already.
            thread::yield_now();
            // Some are closed by number, and their numbers taken at once.
            let mut fresh = Vec::new();
            for fd in victims {
                match rng.below(3) {
                    0 => thread::yield_now(),
                    1 => thread::sleep(Duration::from_micros(rng.below(300))),
                    _ => {}
                }
                close_raw(fd);
                if rng.below(2) == 0 {
                    let (stream, mut peer) = pair();
                    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
                    fresh.push(thread::spawn(move || {
                        let mut buffer = [0; 16];
                        let count = (&stream).read(&mut buffer).unwrap();
                        assert_eq!(buffer[..count], *b"fresh");
                    }));
                    if rng.below(2) == 0 {
                        thread::yield_now();
                    }
                    peer.write_all(b"fresh").unwrap();
                }
            }
            for (peer, start) in &peers {
                // Nobody may be left to hear it.
                let _ = (&mut &*peer).write(&bytes_from(*start, 8));
            }
            for reader in fresh {
                reader.join().unwrap();
            }
            for reader in readers {
                reader.join().unwrap();
            }
        }
        assert_eq!(runtime::stats().in_flight, 0);
        assert_eq!(open_descriptors(), descriptors);
    }

    fn descriptors_that_run_out_fail_accept_and_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut first = TcpStream::connect(address).unwrap();
        let second = TcpStream::connect(address).unwrap();
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64.min(most), most).unwrap();
        let mut filling = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            filling.push(file);
        }

        let failing = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        };
        for _ in 0..3 {
            failing(listener.accept().map(drop));
            failing(listener.incoming().next().unwrap().map(drop));
            failing(TcpStream::connect(address).map(drop));
            failing(first.try_clone().map(drop));
            // The hub goes on.
            thread::sleep(Duration::from_micros(100));
            thread::spawn(|| {}).join().unwrap();
        }

        filling.pop();
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, first.local_addr().unwrap());
        failing(listener.accept().map(drop));
        first.write_all(b"still here").unwrap();
        assert_eq!((&stream).read(&mut [0; 16]).unwrap(), 10);

        // A server that waits for room, rather than for a connection.
        let server = thread::spawn(move || loop {
            match listener.accept() {
                Ok((_, peer)) => return peer,
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
            }
            thread::sleep(Duration::from_millis(1));
        });
        thread::yield_now();
        drop(stream);
        assert_eq!(server.join().unwrap(), second.local_addr().unwrap());
    }

    fn connections_come_and_go_and_leave_nothing() {
        const AT_ONCE: usize = 32;
        let total = match std::env::var("GREENRING_TEST_CONNECTIONS") {
            Ok(total) => total.parse().expect("GREENRING_TEST_CONNECTIONS is a number"),
            Err(_) => 50_000,
        };
        let descriptors = open_descriptors();
        // One port on every address of the loopback network.
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Rc::new(Cell::new(total));
        let mut settled = None;
        for _ in 0..10 {
            let goal = left.get() - total / 10;
            let clients: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    let left = Rc::clone(&left);
                    thread::spawn(move || {
                        while left.get() > goal {
                            let number = left.get();
                            left.set(number - 1);
                            let address = ([127, (number >> 14) as u8, (number >> 7) as u8 & 127, 1], port);
                            let mut stream = TcpStream::connect(std::net::SocketAddr::from(address)).unwrap();
                            stream.write_all(b"x").unwrap();
                            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1);
                            // Ended by a reset, the port is free again.
                            reset_on_close(&stream);
                        }
                    })
                })
                .collect();
            for _ in 0..total / 10 {
                let (stream, _) = listener.accept().unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; 1];
                    while let Ok(1..) = (&stream).read(&mut buffer) {
                        (&stream).write_all(&buffer).unwrap();
                    }
                });
            }
            for client in clients {
                client.join().unwrap();
            }
            wait_until(|| runtime::stats().live == 0);
            let now = (runtime::stats().blocks, resident_bytes());
            // The first tenth brings everything to its level.
            let (blocks, resident) = *settled.get_or_insert(now);
            assert!(now.0 <= blocks + AT_ONCE, "{} blocks after {blocks}", now.0);
            assert!(now.1 < resident + (4 << 20), "{} bytes after {resident}", now.1);
        }
        println!("{total} connections, {} blocks", runtime::stats().blocks);
        assert_eq!(runtime::stats().in_flight, 0);
        drop(listener);
        assert_eq!(open_descriptors(), descriptors);
    }

    fn no_write_raises_sigpipe() {
        // As in a program that is not Rust's, or that wants to die of it.
        // SAFETY: installs no handler.
        unsafe {
            use nix::sys::signal::{SigHandler, Signal, signal};
            signal(Signal::SIGPIPE, SigHandler::SigDfl).unwrap();
        }
        type Writing = fn(&mut TcpStream) -> io::Result<usize>;
        let ways: [Writing; 3] = [
            |stream| stream.write(b"x"),
            |stream| stream.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]),
            |stream| {
                stream.set_nonblocking(true)?;
                stream.write(b"x")
            },
        ];
        for write in ways {
            let (mut stream, peer) = pair();
            drop(peer);
            // Its answer is a reset.
            stream.write_all(b"x").unwrap();
            wait_until(|| poll_now(&stream, PollFlags::POLLIN).contains(PollFlags::POLLHUP));
            for _ in 0..2 {
                let error = write(&mut stream).unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                    "{error}"
                );
            }

            let (mut stream, _peer) = pair();
            stream.shutdown(greenring::net::Shutdown::Write).unwrap();
            assert_eq!(write(&mut stream).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
        // Parked when it happens, so that it is not the first attempt that fails.
        let parked: [Writing; 2] = [
            |stream| stream.write_all(&vec![1; 12 << 20]).map(|()| 0),
            |stream| loop {
                let _ = stream.write_vectored(&[IoSlice::new(&vec![1; 12 << 20]), IoSlice::new(b"y")])?;
            },
        ];
        for write in parked {
            let (mut stream, _peer) = pair();
            let clone = stream.try_clone().unwrap();
            let writer = thread::spawn(move || write(&mut stream).unwrap_err().kind());
            wait_for_parked(1);
            clone.shutdown(greenring::net::Shutdown::Write).unwrap();
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        }
    }
}
