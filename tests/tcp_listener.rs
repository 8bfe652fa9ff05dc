//! TCP listeners as their user sees them.

mod common;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use common::net::{pair, wait_for_parked, wait_until};
use greenring::io::{ErrorKind, Read, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::thread;
use greenring::time::{Duration, Instant};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

both_backends! {
    fn accept_waits_for_a_connection_while_others_run() {
        let (listener, address) = listener();
        let accepting = thread::spawn(move || listener.accept().unwrap());
        wait_for_parked(1);
        assert!(!accepting.is_finished());
        let mut client = TcpStream::connect(address).unwrap();
        let (mut stream, peer) = accepting.join().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        client.write_all(b"abc").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 3);
    }

    fn connections_are_accepted_in_their_order() {
        let (listener, address) = listener();
        let clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &clients {
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    }

    fn an_accept_that_expects_nobody_takes_who_has_come_all_the_same() {
        let (listener, address) = listener();
        let clone = listener.try_clone().unwrap();
        let accept = |by: &TcpListener, client: &TcpStream| {
            assert_eq!(by.accept().unwrap().1, client.local_addr().unwrap());
        };
        for _ in 0..3 {
            let [one, two, three] = [(); 3].map(|()| TcpStream::connect(address).unwrap());
            accept(&listener, &one);
            // Each of them is wrong about what the other has left.
            accept(&clone, &two);
            accept(&clone, &three);
            let four = TcpStream::connect(address).unwrap();
            accept(&clone, &four);
            let client = thread::spawn(move || TcpStream::connect(address).unwrap());
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.join().unwrap().local_addr().unwrap());
        }
    }

    fn incoming_goes_on_for_ever() {
        let (listener, address) = listener();
        let server = thread::spawn(move || {
            let mut lengths = Vec::new();
            for stream in listener.incoming().take(3) {
                let mut text = Vec::new();
                stream.unwrap().read_to_end(&mut text).unwrap();
                lengths.push(text.len());
            }
            lengths
        });
        for length in 1..4 {
            TcpStream::connect(address).unwrap().write_all(&vec![0; length]).unwrap();
            thread::yield_now();
        }
        assert_eq!(server.join().unwrap(), [1, 2, 3]);
    }

    fn many_green_threads_accept_from_one_listener() {
        const ACCEPTORS: usize = 10;
        let (listener, address) = listener();
        let listener = std::rc::Rc::new(listener);
        let acceptors: Vec<_> = (0..ACCEPTORS)
            .map(|_| {
                let listener = std::rc::Rc::clone(&listener);
                thread::spawn(move || listener.accept().unwrap().1)
            })
            .collect();
        wait_for_parked(ACCEPTORS);
        let clients: Vec<_> =
            (0..ACCEPTORS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut expected: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
        let mut accepted: Vec<_> = acceptors.into_iter().map(|a| a.join().unwrap()).collect();
        expected.sort();
        accepted.sort();
        assert_eq!(accepted, expected);
    }

    fn bind_tries_each_address_and_gives_the_last_error() {
        let (_taken, taken) = listener();
        let error = TcpListener::bind(taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let bound = TcpListener::bind(&[taken, free][..]).unwrap();
        assert_ne!(bound.local_addr().unwrap(), taken);
        let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let error = TcpListener::bind(&[taken, foreign][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        let none: &[SocketAddr] = &[];
        let error = TcpListener::bind(none).unwrap_err();
        assert_eq!(error.to_string(), std::net::TcpListener::bind(none).unwrap_err().to_string());
    }

    fn a_port_can_be_bound_again_at_once() {
        let (listener, address) = listener();
        let client = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        // Closed first on this side, so that the port is left waiting.
        drop(stream);
        drop(client);
        drop(listener);
        TcpListener::bind(address).unwrap();
    }

    fn dropping_a_listener_resets_connections_that_were_not_accepted() {
        let (listener, address) = listener();
        let client = TcpStream::connect(address).unwrap();
        let reader = thread::spawn(move || (&client).read(&mut [0; 8]).unwrap_err().kind());
        wait_for_parked(1);
        drop(listener);
        assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionReset);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    fn a_clone_keeps_listening() {
        let (listener, address) = listener();
        let clone = listener.try_clone().unwrap();
        assert_eq!(clone.local_addr().unwrap(), address);
        drop(listener);
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(clone.accept().unwrap().1, client.local_addr().unwrap());
    }

    fn a_nonblocking_listener_never_waits() {
        let (listener, address) = listener();
        let clone = listener.try_clone().unwrap();
        clone.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let error = listener.incoming().next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        let mut client = TcpStream::connect(address).unwrap();
        let mut accepted = None;
        wait_until(|| match listener.accept() {
            Ok((stream, _)) => accepted.replace(stream).is_none(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        });
        // The stream waits: the mode is the listener's alone.
        let mut stream = accepted.unwrap();
        let reader = thread::spawn(move || stream.read(&mut [0; 8]).unwrap());
        wait_for_parked(1);
        client.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 1);

        listener.set_nonblocking(false).unwrap();
        let accepting = thread::spawn(move || clone.accept().unwrap());
        wait_for_parked(1);
        let _client = TcpStream::connect(address).unwrap();
        accepting.join().unwrap();
    }

    fn a_receive_timeout_of_the_socket_ends_accept() {
        let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = std.local_addr().unwrap();
        setsockopt(&std, sockopt::ReceiveTimeout, &TimeVal::milliseconds(12)).unwrap();
        let listener = TcpListener::from(std);
        let begin = Instant::now();
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(begin.elapsed() >= Duration::from_millis(12));
        // Connections inherit it, on Linux.
        let _client = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let begin = Instant::now();
        assert_eq!((&stream).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(begin.elapsed() >= Duration::from_millis(12));
        assert_eq!(stream.read_timeout().unwrap(), Some(Duration::from_millis(12)));
    }

    fn conversions_keep_the_mode_and_the_queue() {
        type Way = fn(TcpListener) -> TcpListener;
        let ways: [Way; 3] = [
            |listener| std::net::TcpListener::from(listener).into(),
            |listener| OwnedFd::from(listener).into(),
            // SAFETY: the descriptor is handed over.
            |listener| unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) },
        ];
        for way in ways {
            let (listener, address) = listener();
            let client = TcpStream::connect(address).unwrap();
            let listener = way(listener);
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
            listener.set_nonblocking(true).unwrap();
            let listener = way(listener);
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            listener.set_nonblocking(false).unwrap();

            let std = std::net::TcpListener::from(way(listener));
            assert_eq!(fcntl(&std, FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK, 0);
            let client = TcpStream::connect(address).unwrap();
            assert_eq!(std.accept().unwrap().1, client.local_addr().unwrap());
        }
    }

    fn options_reach_the_socket() {
        let (listener, address) = listener();
        listener.set_ttl(33).unwrap();
        assert_eq!(listener.ttl().unwrap(), 33);
        assert!(listener.take_error().unwrap().is_none());
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().0.ttl().unwrap(), 33);
        drop(client);
    }

    fn descriptors_close_on_exec_and_are_what_they_say() {
        let (listener, address) = listener();
        let listener_clone = listener.try_clone().unwrap();
        let connected = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let clone = accepted.try_clone().unwrap();
        let all = [
            listener.as_fd(),
            listener_clone.as_fd(),
            connected.as_fd(),
            accepted.as_fd(),
            clone.as_fd(),
        ];
        for fd in all {
            assert_ne!(fcntl(fd, FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC, 0);
        }
        assert_eq!(listener.as_fd().as_raw_fd(), listener.as_raw_fd());
        assert_eq!(connected.as_fd().as_raw_fd(), connected.as_raw_fd());
        assert_ne!(clone.as_raw_fd(), accepted.as_raw_fd());
    }

    fn a_listener_prints_as_std_prints_it() {
        let (listener, _) = listener();
        let ours = format!("{listener:?}");
        let incoming = format!("{:?}", listener.incoming());
        assert!(incoming.contains(&ours), "{incoming}");
        assert_eq!(ours, format!("{:?}", std::net::TcpListener::from(listener)));
    }

    fn a_stream_is_no_listener() {
        let (client, _server) = pair();
        let listener = TcpListener::from(OwnedFd::from(client));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
