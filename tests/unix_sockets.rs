//! Unix streams, listeners and datagrams: what parks, and what ends it.

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use std::os::fd::AsRawFd;

use common::Rng;
use common::net::{bytes_from, wait_for_parked};
use common::through::Read;
use greenring::io::{ErrorKind, Write};
use greenring::net::Shutdown;
use greenring::os::linux::net::SocketAddrExt;
use greenring::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use greenring::thread;
use greenring::time::Duration;
use nix::sys::socket::{Backlog, listen};

/// A path that is removed when the test is over.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenring-unix-{}-{count}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An abstract address that nobody else has.
fn address() -> SocketAddr {
    let place = Place::new();
    SocketAddr::from_abstract_name(place.0.to_str().unwrap()).unwrap()
}

both_backends! {
    fn an_accept_ends_when_its_listener_is_shut_down() {
        let listener = UnixListener::bind_addr(&address()).unwrap();
        let clone = listener.try_clone().unwrap();
        let accepts = thread::spawn(move || clone.accept().map(drop));
        thread::yield_now();
        nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
        let error = accepts.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    fn a_hundred_clients_are_served() {
        let place = Place::new();
        let listener = UnixListener::bind(&place.0).unwrap();
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(100) {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; 64];
                    loop {
                        match stream.read(&mut buffer).unwrap() {
                            0 => return,
                            count => stream.write_all(&buffer[..count]).unwrap(),
                        }
                    }
                });
            }
        });
        let clients: Vec<_> = (0..100)
            .map(|n| {
                let path = place.0.clone();
                thread::spawn(move || {
                    let mut stream = UnixStream::connect(path).unwrap();
                    for round in 0..10 {
                        let sent = bytes_from(n + round, 50);
                        stream.write_all(&sent).unwrap();
                        let mut received = [0; 50];
                        stream.read_exact(&mut received).unwrap();
                        assert_eq!(&received[..], sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.join().unwrap();
    }

    fn a_big_write_parks_until_all_is_read() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let sent = bytes_from(0, 4 << 20);
        let expected = sent.clone();
        let writer = thread::spawn(move || {
            assert_eq!(one.write(&sent).unwrap(), sent.len());
        });
        wait_for_parked(1);
        let mut received = Vec::new();
        other.read_to_end(&mut received).unwrap();
        assert!(received == expected);
        writer.join().unwrap();
    }

    fn connecting_to_a_crowded_listener_waits_for_room() {
        let address = address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let address = address.clone();
                thread::spawn(move || {
                    let mut stream = UnixStream::connect_addr(&address).unwrap();
                    let mut greeting = String::new();
                    stream.read_to_string(&mut greeting).unwrap();
                    assert_eq!(greeting, "hello");
                })
            })
            .collect();
        wait_for_parked(8);
        for stream in listener.incoming().take(8) {
            stream.unwrap().write_all(b"hello").unwrap();
        }
        for client in clients {
            client.join().unwrap();
        }
    }

    fn shutdown_releases_who_is_parked_and_a_dropped_clone_nobody() {
        let (one, other) = UnixStream::pair().unwrap();
        let clone = one.try_clone().unwrap();
        let reader = thread::spawn(move || (&clone).read(&mut [0; 8]).unwrap());
        wait_for_parked(1);
        drop(one.try_clone().unwrap());
        thread::yield_now();
        assert!(!reader.is_finished());
        one.shutdown(Shutdown::Both).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        assert_eq!((&other).read(&mut [0; 8]).unwrap(), 0);
        let error = (&other).write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    fn a_writer_that_is_parked_sees_its_reader_leave() {
        let (one, other) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || {
            let error = (&one).write_all(&vec![0; 8 << 20]).unwrap_err();
            assert!(matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ));
        });
        wait_for_parked(1);
        drop(other);
        writer.join().unwrap();
    }

    fn a_dropped_listener_resets_who_waits_for_it() {
        let address = address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let stream = UnixStream::connect_addr(&address).unwrap();
        (&stream).write_all(b"never read").unwrap();
        let reader = thread::spawn(move || (&stream).read(&mut [0; 8]).unwrap_err().kind());
        wait_for_parked(1);
        drop(listener);
        assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionReset);
        let error = UnixStream::connect_addr(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    fn a_sender_waits_for_room_at_its_receiver() {
        let address = address();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let connected = UnixDatagram::unbound().unwrap();
        connected.connect_addr(&address).unwrap();
        let unconnected = UnixDatagram::unbound().unwrap();
        let senders = [
            thread::spawn(move || {
                for n in 0..100_u8 {
                    assert_eq!(connected.send(&[0, n]).unwrap(), 2);
                }
            }),
            thread::spawn(move || {
                for n in 0..100_u8 {
                    assert_eq!(unconnected.send_to_addr(&[1, n], &address).unwrap(), 2);
                }
            }),
        ];
        // The one waits for readiness; the other has nothing that would tell it.
        wait_for_parked(1);
        let mut next = [0; 2];
        for _ in 0..200 {
            let mut datagram = [0; 8];
            let (count, sender) = receiver.recv_from(&mut datagram).unwrap();
            assert!(count == 2 && sender.is_unnamed());
            let from = usize::from(datagram[0]);
            assert_eq!(datagram[1], next[from], "in order");
            next[from] += 1;
        }
        assert_eq!(next, [100, 100]);
        for sender in senders {
            sender.join().unwrap();
        }
    }

    fn datagrams_are_cut_to_the_buffer_and_tell_their_sender() {
        let (one, other) = (Place::new(), Place::new());
        let first = UnixDatagram::bind(&one.0).unwrap();
        let second = UnixDatagram::bind(&other.0).unwrap();
        first.send_to(b"longer than eight", &other.0).unwrap();
        first.send_to(b"", &other.0).unwrap();
        let mut buffer = [0; 8];
        let (count, sender) = second.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], sender.as_pathname()), (&b"longer t"[..], Some(one.0.as_path())));
        let (count, sender) = second.recv_from(&mut buffer).unwrap();
        assert_eq!((count, sender.as_pathname()), (0, Some(one.0.as_path())));
    }

    fn shutdown_releases_a_parked_receiver_of_datagrams() {
        for recv in [
            |socket: &UnixDatagram| socket.recv(&mut [0; 8]),
            |socket: &UnixDatagram| socket.recv_from(&mut [0; 8]).map(|(count, _)| count),
            |socket: &UnixDatagram| socket.recv_fds(&mut [0; 8], 1).map(|(count, _)| count),
        ] {
            let (one, _other) = UnixDatagram::pair().unwrap();
            let clone = one.try_clone().unwrap();
            let receiver = thread::spawn(move || recv(&clone).unwrap());
            wait_for_parked(1);
            one.shutdown(Shutdown::Read).unwrap();
            assert_eq!(receiver.join().unwrap(), 0);
            // Again, when nothing changes any more.
            assert_eq!(recv(&one).unwrap(), 0);
            one.set_nonblocking(true).unwrap();
            assert_eq!(recv(&one).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    fn no_connection_is_lost_when_accepts_time_out() {
        const CONNECTIONS: usize = 200;
        let mut rng = Rng::new("accepts");
        let address = address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let client = thread::spawn(move || {
            for n in 0..CONNECTIONS {
                thread::sleep(Duration::from_micros(rng.below(300)));
                let stream = UnixStream::connect_addr(&address).unwrap();
                (&stream).write_all(&n.to_ne_bytes()).unwrap();
            }
        });
        let mut accepted = 0;
        while accepted < CONNECTIONS {
            let limit = Duration::from_micros(150);
            if let Ok(result) = greenring::time::timeout(limit, || listener.accept()) {
                let mut number = [0; size_of::<usize>()];
                result.unwrap().0.read_exact(&mut number).unwrap();
                assert_eq!(usize::from_ne_bytes(number), accepted);
                accepted += 1;
            }
        }
        client.join().unwrap();
    }
}
