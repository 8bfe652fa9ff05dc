//! Servers that run out of something, whose handlers panic, whose peers go away
//! or whose listeners fail.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use common::net::{reset_on_close, wait_until};
use common::{Child, Rng, child_on_each_backend, end_after, forked, is_child, open_descriptors};
use greenring::net::server::StreamServer;
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::thread;
use greenring::time::{Duration, Instant};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn echo(mut stream: TcpStream, _: SocketAddr) {
    let mut buffer = [0; 256];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

fn server() -> (StreamServer, SocketAddr) {
    let server = StreamServer::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

fn exchange(mut stream: &TcpStream, byte: u8) {
    stream.write_all(&[byte]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [byte]);
}

/// Uses up all descriptors that the process may have.
fn fill_descriptors() -> Vec<File> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 128.min(most), most).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Panics when it is dropped.
struct Grenade(Rc<Cell<bool>>);

impl Drop for Grenade {
    fn drop(&mut self) {
        self.0.set(true);
        panic!("dropped");
    }
}

both_backends_alone! {
    fn descriptors_that_run_out_cost_pauses_and_no_connection() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let clients = [(); 5].map(|()| TcpStream::connect(address).unwrap());
        for client in &clients {
            exchange(client, 1);
        }
        // These wait in the queue, and there is no descriptor for them: nothing
        // here lets the acceptor run.
        let late = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let filling = fill_descriptors();
        wait_until(|| server.stats().pauses >= 3);
        let pauses = server.stats().pauses;
        assert!(pauses < 10, "{pauses} pauses: they grow");
        // Those who are there are served.
        for client in &clients {
            exchange(client, 2);
        }
        drop(filling);
        for stream in late {
            let stream = TcpStream::from(stream);
            exchange(&stream, 3);
        }
        drop(clients);
        server.stop();
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.finished, stats.failed), (8, 8, 0));
    }

    fn a_server_that_pauses_stops_at_once() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let _late = std::net::TcpStream::connect(address).unwrap();
        let _filling = fill_descriptors();
        // The longest pause is a second.
        wait_until(|| server.stats().pauses >= 7);
        let begin = Instant::now();
        server.stop();
        assert!(begin.elapsed() < Duration::from_millis(500));
        assert_eq!(server.stats().accepted, 0);
    }
}

both_backends_alone! {
    fn nothing_is_left_open() {
        let before = {
            // What the hub opens once is open.
            serve_and_stop();
            open_descriptors()
        };
        for _ in 0..10 {
            serve_and_stop();
        }
        assert_eq!(open_descriptors(), before);
    }
}

fn serve_and_stop() {
    let (server, address) = server();
    server.start(echo).unwrap();
    let clients = [(); 8].map(|()| TcpStream::connect(address).unwrap());
    for client in &clients {
        exchange(client, 5);
    }
    server.stop_timeout(Duration::ZERO);
    assert_eq!(server.stats().cancelled, 8);
}

both_backends! {
    fn a_handler_that_panics_ends_its_connection_only() {
        let (server, address) = server();
        server
            .start(|mut stream, peer| {
                let mut order = [0];
                stream.read_exact(&mut order).unwrap();
                assert_ne!(order, [0], "as ordered");
                echo(stream, peer);
            })
            .unwrap();
        for _ in 0..10 {
            let mut bad = TcpStream::connect(address).unwrap();
            let mut good = TcpStream::connect(address).unwrap();
            good.write_all(&[1]).unwrap();
            bad.write_all(&[0]).unwrap();
            assert_eq!(bad.read(&mut [0]).unwrap(), 0);
            exchange(&good, 1);
        }
        server.stop();
        let stats = server.stats();
        assert_eq!((stats.panicked, stats.finished, stats.cancelled), (10, 10, 0));
    }

    fn panics_give_their_places_back() {
        let (server, address) = server();
        let server = server.pool(2);
        server.start(|_, _| panic!("always")).unwrap();
        for _ in 0..20 {
            let mut client = TcpStream::connect(address).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        server.stop();
        assert_eq!(server.stats().panicked, 20);
    }

    fn a_panic_while_the_handlers_captures_are_dropped_ends_the_server_properly() {
        let (server, address) = server();
        let dropped = Rc::new(Cell::new(false));
        let grenade = Grenade(Rc::clone(&dropped));
        server
            .start(move |stream, peer| {
                let _grenade = &grenade;
                echo(stream, peer);
            })
            .unwrap();
        let client = TcpStream::connect(address).unwrap();
        exchange(&client, 1);
        drop(client);
        wait_until(|| server.stats().finished == 1);
        // Now the acceptor is the last owner.
        server.stop();
        assert!(dropped.get());
    }

    fn what_the_handler_has_captured_may_wait_and_stop_when_it_is_dropped() {
        struct Stops(Rc<StreamServer>, Rc<Cell<bool>>);
        impl Drop for Stops {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(5));
                self.0.stop();
                self.0.wait().unwrap();
                self.1.set(true);
            }
        }
        let server = Rc::new(server().0);
        let done = Rc::new(Cell::new(false));
        let stops = Stops(Rc::clone(&server), Rc::clone(&done));
        server
            .start(move |_, _| {
                let _stops = &stops;
            })
            .unwrap();
        server.stop();
        assert!(done.get());
    }

    fn connections_that_are_reset_disturb_nobody() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let steady = TcpStream::connect(address).unwrap();
        let mut rng = Rng::new("connections_that_are_reset_disturb_nobody");
        for number in 0..300 {
            let mut client = TcpStream::connect(address).unwrap();
            if rng.below(2) == 0 {
                reset_on_close(&client);
            }
            if rng.below(2) == 0 {
                client.write_all(b"some bytes").unwrap();
            }
            if rng.below(2) == 0 {
                thread::yield_now();
            }
            drop(client);
            exchange(&steady, number as u8);
        }
        drop(steady);
        server.stop();
        let stats = server.stats();
        assert_eq!(stats.accepted + stats.failed, 301, "{stats:?}");
        assert_eq!(stats.finished, stats.accepted, "{stats:?}");
    }

    fn a_storm_of_connections_does_not_hold_up_the_end() {
        let (server, address) = server();
        server.start(|_, _| {}).unwrap();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                thread::spawn(move || {
                    let mut count = 0;
                    while let Ok(mut stream) = TcpStream::connect(address) {
                        // Served, or in the queue when the listener was closed.
                        match stream.read(&mut [0]) {
                            Ok(0) => count += 1,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                            }
                            Ok(_) => unreachable!("nothing is sent"),
                        }
                    }
                    count
                })
            })
            .collect();
        wait_until(|| server.stats().finished > 200);
        server.stop();
        let stats = server.stats();
        let served: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(stats.accepted, stats.finished);
        assert_eq!(served, stats.finished);
    }

    fn a_listener_that_fails_ends_the_server_with_its_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clone = listener.try_clone().unwrap();
        let server = StreamServer::from(listener);
        server.start(echo).unwrap();
        let client = TcpStream::connect(clone.local_addr().unwrap()).unwrap();
        exchange(&client, 1);
        // SAFETY: an open descriptor.
        let result = unsafe { libc::shutdown(clone.as_raw_fd(), libc::SHUT_RDWR) };
        assert_eq!(result, 0);
        let error = server.wait().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(server.wait().unwrap_err().raw_os_error(), Some(libc::EINVAL));
        // Its handlers go on.
        exchange(&client, 2);
        drop(client);
        server.stop();
        assert_eq!(server.stats().finished, 1);
    }

    fn what_does_not_listen_ends_the_server_with_an_error() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let server = StreamServer::from(TcpListener::from(OwnedFd::from(one)));
        assert!(server.local_addr().is_err());
        server.start(echo).unwrap();
        assert!(server.wait().is_err());
        server.stop();
    }

    fn handlers_that_were_cancelled_before_they_began_are_counted() {
        let (server, address) = server();
        let began = Rc::new(Cell::new(0));
        let count = Rc::clone(&began);
        server
            .start(move |_, _| {
                count.set(count.get() + 1);
                thread::park();
            })
            .unwrap();
        let clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        server.stop_timeout(Duration::ZERO);
        let stats = server.stats();
        assert_eq!(stats.cancelled, began.get());
        assert_eq!(stats.cancelled + stats.failed, stats.accepted, "{stats:?}");
        for mut client in clients {
            match client.read(&mut [0]) {
                Ok(0) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                Ok(_) => unreachable!("nothing is sent"),
            }
        }
    }
}

#[test]
fn a_forked_child_drops_a_server_without_harm() {
    const TEST: &str = "a_forked_child_drops_a_server_without_harm";
    if is_child(TEST) {
        end_after(30);
        let (server, address) = server();
        server.start(echo).unwrap();
        let client = TcpStream::connect(address).unwrap();
        exchange(&client, 1);
        let server = Cell::new(Some(server));
        let code = forked(|| {
            drop(server.take());
            3
        });
        assert_eq!(code, 3);
        exchange(&client, 2);
        exchange(&TcpStream::connect(address).unwrap(), 3);
        let server = server.take().expect("the child has taken its own");
        drop(client);
        server.stop();
        assert_eq!(server.stats().finished, 2);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], Child::assert_success);
}
