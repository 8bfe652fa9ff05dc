//! Servers as their user sees them: the life of one, its pool, its end, its
//! address.
//!
//! No test here starts another process: between fork and exec that would have
//! the listeners of all tests, which assert that theirs are closed.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::sync::mpsc;

use common::net::{wait_for_parked, wait_until};
use common::through::Read;
use greenring::net::server::StreamServer;
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::runtime::{Backend, Builder};
use greenring::sync::Event;
use greenring::thread;
use greenring::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

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

/// Sends a byte and reads it again.
fn exchange(mut stream: &TcpStream, byte: u8) {
    stream.write_all(&[byte]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [byte]);
}

#[track_caller]
fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Handlers that wait at a gate, and how many there are.
#[derive(Clone, Default)]
struct Gate {
    open: Rc<Event>,
    waiting: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

impl Gate {
    fn handler(&self) -> impl Fn(TcpStream, SocketAddr) + 'static {
        let gate = self.clone();
        move |_, _| {
            gate.waiting.set(gate.waiting.get() + 1);
            gate.most.set(gate.most.get().max(gate.waiting.get()));
            gate.open.wait();
            gate.waiting.set(gate.waiting.get() - 1);
        }
    }
}

both_backends! {
    fn a_thousand_connections_are_served() {
        const CONNECTIONS: u64 = 1000;
        let (server, address) = server();
        let peers = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&peers);
        server
            .start(move |stream, peer| {
                seen.borrow_mut().push(peer);
                echo(stream, peer);
            })
            .unwrap();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                thread::spawn(move || {
                    let stream = TcpStream::connect(address).unwrap();
                    exchange(&stream, number as u8);
                    exchange(&stream, !number as u8);
                    stream
                })
            })
            .collect();
        let clients: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert_eq!(server.stats().active as u64, CONNECTIONS);
        let mut expected: Vec<_> = clients.iter().map(|it| it.local_addr().unwrap()).collect();
        drop(clients);
        server.stop();
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.finished), (CONNECTIONS, CONNECTIONS));
        assert_eq!((stats.active, stats.failed, stats.panicked), (0, 0, 0));
        // Nothing of the handler is left after the end.
        let mut peers = Rc::try_unwrap(peers).unwrap().into_inner();
        peers.sort();
        expected.sort();
        assert_eq!(peers, expected);
    }

    fn a_full_pool_accepts_nobody() {
        let (server, address) = server();
        let server = server.pool(3);
        let gate = Gate::default();
        server.start(gate.handler()).unwrap();
        let clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        wait_until(|| gate.waiting.get() == 3);
        // Whoever could run has run.
        for _ in 0..100 {
            thread::yield_now();
        }
        assert_eq!(server.stats().accepted, 3);
        assert_eq!(server.stats().active, 3);
        gate.open.set();
        wait_until(|| server.stats().finished == 10);
        assert_eq!(gate.most.get(), 3);
        drop(clients);
        server.stop();
    }

    fn a_pool_of_one_serves_one_after_the_other() {
        let (server, address) = server();
        let server = server.pool(1);
        server.start(echo).unwrap();
        let clients = (0..20).map(|number| {
            thread::spawn(move || exchange(&TcpStream::connect(address).unwrap(), number))
        });
        for client in clients.collect::<Vec<_>>() {
            client.join().unwrap();
        }
        server.stop();
        assert_eq!(server.stats().finished, 20);
    }

    fn stop_waits_for_handlers_and_refuses_connections_at_once() {
        let (server, address) = server();
        let server = Rc::new(server);
        let gate = Gate::default();
        server.start(gate.handler()).unwrap();
        let _clients = [(); 5].map(|()| TcpStream::connect(address).unwrap());
        wait_until(|| gate.waiting.get() == 5);
        let stopping = {
            let server = Rc::clone(&server);
            thread::spawn(move || server.stop())
        };
        server.wait().unwrap();
        assert_refused(address);
        assert!(!stopping.is_finished());
        assert_eq!(server.stats().active, 5);
        gate.open.set();
        stopping.join().unwrap();
        assert_eq!(server.stats().finished, 5);
        assert_eq!(server.stats().cancelled, 0);
    }

    fn stop_timeout_cancels_who_stays() {
        let (server, address) = server();
        let polite = Rc::new(Event::new());
        let leave = Rc::clone(&polite);
        let unwound = Rc::new(Cell::new(0));
        let count = Rc::clone(&unwound);
        server
            .start(move |mut stream, _| {
                struct OnDrop(Rc<Cell<u32>>);
                impl Drop for OnDrop {
                    fn drop(&mut self) {
                        self.0.set(self.0.get() + 1);
                    }
                }
                let _unwound = OnDrop(Rc::clone(&count));
                let mut kind = [0];
                stream.read_exact(&mut kind).unwrap();
                match kind {
                    [0] => leave.wait(),
                    _ => thread::sleep(LONG),
                }
            })
            .unwrap();
        let mut clients = [(); 6].map(|()| TcpStream::connect(address).unwrap());
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&[number as u8 % 2]).unwrap();
        }
        wait_until(|| server.stats().active == 6);
        polite.set();
        let begin = Instant::now();
        server.stop_timeout(Duration::from_millis(50));
        assert!(begin.elapsed() >= Duration::from_millis(50));
        let stats = server.stats();
        assert_eq!((stats.finished, stats.cancelled, stats.active), (3, 3, 0));
        assert_eq!(unwound.get(), 6);
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }

    fn stop_timeout_returns_as_soon_as_all_are_through() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let client = TcpStream::connect(address).unwrap();
        exchange(&client, 7);
        drop(client);
        let begin = Instant::now();
        server.stop_timeout(LONG);
        assert!(begin.elapsed() < LONG);
        assert_eq!(server.stats().finished, 1);
    }

    fn a_stop_right_after_start_leaves_nobody_waiting() {
        let (server, address) = server();
        server.start(echo).unwrap();
        server.stop();
        assert_refused(address);
        assert_eq!(server.stats().accepted, 0);
        server.wait().unwrap();
    }

    fn a_server_that_was_stopped_does_not_start() {
        let (server, address) = server();
        server.stop();
        server.wait().unwrap();
        assert_refused(address);
        let error = server.start(echo).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(server.local_addr().unwrap(), address);
        // The port is free.
        TcpListener::bind(address).unwrap();
    }

    fn a_server_starts_once() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let error = server.start(echo).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        exchange(&TcpStream::connect(address).unwrap(), 1);
        server.stop();
        let error = server.start(echo).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    fn several_may_stop_it_at_once() {
        let (server, address) = server();
        let server = Rc::new(server);
        let gate = Gate::default();
        server.start(gate.handler()).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        wait_until(|| gate.waiting.get() == 1);
        let patient = [(); 3].map(|()| {
            let server = Rc::clone(&server);
            thread::spawn(move || server.stop())
        });
        // The impatient one decides for all.
        server.stop_timeout(Duration::from_millis(1));
        for stopping in patient {
            stopping.join().unwrap();
        }
        assert_eq!(server.stats().cancelled, 1);
        server.stop();
    }

    fn a_stop_that_is_interrupted_has_stopped_accepting() {
        let (server, address) = server();
        let gate = Gate::default();
        server.start(gate.handler()).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        wait_until(|| gate.waiting.get() == 1);
        let stopped = greenring::time::timeout(Duration::from_millis(10), || server.stop());
        assert!(stopped.is_err());
        server.wait().unwrap();
        assert_refused(address);
        assert_eq!(server.stats().active, 1);
        gate.open.set();
        server.stop();
        assert_eq!(server.stats().finished, 1);
    }

    fn a_handler_may_stop_its_server() {
        let (server, address) = server();
        let server = Rc::new(server);
        let stops = Rc::clone(&server);
        let gate = Gate::default();
        let open = Rc::clone(&gate.open);
        server
            .start(move |mut stream, _| {
                let mut order = [0];
                stream.read_exact(&mut order).unwrap();
                match order {
                    [0] => open.wait(),
                    [1] => stops.stop(),
                    _ => stops.stop_timeout(Duration::ZERO),
                }
            })
            .unwrap();
        let mut waits = TcpStream::connect(address).unwrap();
        waits.write_all(&[0]).unwrap();
        wait_until(|| server.stats().active == 1);
        let mut first = TcpStream::connect(address).unwrap();
        let mut second = TcpStream::connect(address).unwrap();
        wait_until(|| server.stats().active == 3);
        first.write_all(&[1]).unwrap();
        server.wait().unwrap();
        assert_refused(address);
        second.write_all(&[2]).unwrap();
        wait_until(|| server.stats().finished == 2);
        // The other handler goes on.
        assert_eq!(server.stats().active, 1);
        gate.open.set();
        server.stop();
        // The handler was the other owner.
        assert!(Rc::into_inner(server).is_some());
    }

    fn a_dropped_server_accepts_no_more_and_its_handlers_go_on() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let client = TcpStream::connect(address).unwrap();
        exchange(&client, 1);
        drop(server);
        wait_until(|| TcpStream::connect(address).is_err());
        exchange(&client, 2);
    }

    fn a_server_that_only_its_handler_owns_goes_on() {
        let (server, address) = server();
        let server = Rc::new(server);
        let owned = Rc::clone(&server);
        server
            .start(move |stream, peer| {
                echo(stream, peer);
                owned.stop();
            })
            .unwrap();
        drop(server);
        let client = TcpStream::connect(address).unwrap();
        exchange(&client, 1);
        drop(client);
        wait_until(|| TcpStream::connect(address).is_err());
    }

    fn a_green_thread_starts_a_server_and_leaves() {
        let (server, address) = thread::spawn(|| {
            let (server, address) = server();
            server.start(echo).unwrap();
            (server, address)
        })
        .join()
        .unwrap();
        exchange(&TcpStream::connect(address).unwrap(), 3);
        server.stop();
    }

    fn connections_wait_in_the_queue_until_there_is_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let server = StreamServer::from(listener);
        assert_eq!(server.local_addr().unwrap(), address);
        server.start(echo).unwrap();
        exchange(&client, 9);
        drop(client);
        server.stop();
        assert_refused(address);
    }

    fn a_non_blocking_listener_is_waited_for_and_stays_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let clone = listener.try_clone().unwrap();
        let server = StreamServer::from(listener);
        server.start(echo).unwrap();
        // It parks; otherwise it would be ready for ever.
        wait_for_parked(1);
        exchange(&TcpStream::connect(address).unwrap(), 4);
        server.stop();
        assert_eq!(clone.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    fn a_time_limit_of_the_listener_ends_nothing() {
        use nix::sys::time::TimeValLike;
        let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let limit = nix::sys::time::TimeVal::milliseconds(1);
        nix::sys::socket::setsockopt(&std, nix::sys::socket::sockopt::ReceiveTimeout, &limit)
            .unwrap();
        let server = StreamServer::from(TcpListener::from(std));
        let address = server.local_addr().unwrap();
        server
            .start(|stream, peer| {
                // A connection inherits the listener's limit.
                stream.set_read_timeout(None).unwrap();
                echo(stream, peer);
            })
            .unwrap();
        thread::sleep(Duration::from_millis(20));
        exchange(&TcpStream::connect(address).unwrap(), 4);
        server.stop();
    }

    fn two_plain_servers_have_no_port_in_common() {
        let (one, address) = server();
        // Which of the two gets it is decided by their start.
        let other = StreamServer::bind(address).unwrap();
        one.start(echo).unwrap();
        let error = other.start(echo).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let error = StreamServer::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        exchange(&TcpStream::connect(address).unwrap(), 1);
        one.stop();
        // It has not been started, so it may try again.
        other.start(echo).unwrap();
        exchange(&TcpStream::connect(address).unwrap(), 2);
        other.stop();
        assert_eq!((one.stats().accepted, other.stats().accepted), (1, 1));
    }

    fn sharing_takes_two() {
        let (plain, address) = server();
        let shares = StreamServer::bind(address).unwrap().reuse_port(true);
        shares.start(echo).unwrap();
        assert_eq!(plain.start(echo).unwrap_err().kind(), ErrorKind::AddrInUse);
        shares.stop();
        plain.start(echo).unwrap();
        let shares = StreamServer::bind(address).map(|it| it.reuse_port(true));
        assert_eq!(shares.unwrap_err().kind(), ErrorKind::AddrInUse);
        plain.stop();
    }

    fn a_port_that_a_listener_has_is_in_use() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = StreamServer::bind(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let (server, address) = server();
        server.start(echo).unwrap();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        server.stop();
        TcpListener::bind(address).unwrap();
    }

    fn any_free_port_is_one_that_nobody_has() {
        let servers: Vec<_> = (0..200).map(|_| server()).collect();
        let mut ports: Vec<_> = servers.iter().map(|(_, address)| address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), servers.len());
    }

    fn servers_that_share_a_port_share_its_connections() {
        let servers: Vec<_> = {
            let (first, address) = server();
            let others = (1..4).map(|_| StreamServer::bind(address).unwrap());
            std::iter::once(first).chain(others).map(|it| it.reuse_port(true)).collect()
        };
        let address = servers[0].local_addr().unwrap();
        for server in &servers {
            assert_eq!(server.local_addr().unwrap(), address);
            server.start(echo).unwrap();
        }
        for number in 0..200 {
            exchange(&TcpStream::connect(address).unwrap(), number);
        }
        let accepted: Vec<_> = servers.iter().map(|server| server.stats().accepted).collect();
        assert_eq!(accepted.iter().sum::<u64>(), 200);
        // That one of four gets nothing of 200 has a chance of 10^-25.
        assert!(accepted.iter().all(|accepted| *accepted > 0), "{accepted:?}");
        // One may go; the others get what comes.
        let (last, rest) = servers.split_last().unwrap();
        last.stop();
        for number in 0..50 {
            exchange(&TcpStream::connect(address).unwrap(), number);
        }
        for server in rest {
            server.stop();
        }
        assert_refused(address);
    }

    fn both_families_are_served() {
        let Ok(server) = StreamServer::bind("[::1]:0") else {
            println!("skipped: there is no IPv6");
            return;
        };
        server.start(echo).unwrap();
        exchange(&TcpStream::connect(server.local_addr().unwrap()).unwrap(), 6);
        server.stop();
    }

    fn bind_tries_each_address_and_gives_the_last_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = (taken.local_addr().unwrap(), taken);
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = StreamServer::bind(&[taken.0, free][..]).unwrap();
        assert_ne!(server.local_addr().unwrap(), taken.0);
        let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let error = StreamServer::bind(&[taken.0, foreign][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        let error = StreamServer::bind("not an address").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    fn a_server_shows_what_it_does() {
        let (server, address) = server();
        server.start(echo).unwrap();
        let text = format!("{server:?}");
        assert!(text.starts_with("StreamServer { address: Some("), "{text}");
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(text.contains("accepted: 0"), "{text}");
        server.stop();
    }

    fn a_pool_of_nobody_is_refused() {
        let payload = std::panic::catch_unwind(|| server().0.pool(0)).unwrap_err();
        let text = payload.downcast::<&str>().unwrap();
        assert!(text.contains("a pool of size zero"), "{text}");
    }
}

/// Runs a test on OS threads of its own, for one backend.
fn on_two_hubs(backend: Backend) {
    common::on(backend, || {});
    if !common::is_available(backend) {
        return;
    }
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    let hub = move || Builder::new().backend(backend);
    let (tell, addresses) = mpsc::channel();
    let (ends, tell_end): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<()>()).unzip();
    let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut servers = Vec::new();
    for end in tell_end {
        let tell = tell.clone();
        servers.push(std::thread::spawn(move || {
            hub()
                .run(|| {
                    let server = StreamServer::bind(address).unwrap().reuse_port(true);
                    server.start(echo).unwrap();
                    tell.send(server.local_addr().unwrap()).unwrap();
                    // std's channel would stop the hub.
                    while end.try_recv() == Err(mpsc::TryRecvError::Empty) {
                        thread::sleep(Duration::from_millis(1));
                    }
                    server.stop();
                    server.stats().finished
                })
                .unwrap()
        }));
        address = addresses.recv().unwrap();
    }
    hub()
        .run(|| {
            for number in 0..100 {
                exchange(&TcpStream::connect(address).unwrap(), number);
            }
        })
        .unwrap();
    drop(ends);
    let finished: Vec<u64> = servers.into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(finished.iter().sum::<u64>(), 100);
    assert!(finished.iter().all(|count| *count > 0), "{finished:?}");
}

mod two_hubs_serve_one_port {
    use super::*;

    #[test]
    fn uring() {
        on_two_hubs(Backend::Uring);
    }

    #[test]
    fn epoll() {
        on_two_hubs(Backend::Epoll);
    }
}

/// A hub ends while a server runs, whose owner may outlive it.
fn a_hub_ends(backend: Backend) {
    common::on(backend, || {});
    if !common::is_available(backend) {
        return;
    }
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    let captured = Rc::new(());
    let (server, address, client) = Builder::new()
        .backend(backend)
        .run(|| {
            let (server, address) = server();
            let captured = Rc::clone(&captured);
            server
                .start(move |stream, peer| {
                    let _captured = &captured;
                    echo(stream, peer);
                })
                .unwrap();
            let client = TcpStream::connect(address).unwrap();
            exchange(&client, 1);
            (server, address, client)
        })
        .unwrap();
    assert_eq!(Rc::strong_count(&captured), 1);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(
        (&std::net::TcpStream::from(client)).read(&mut [0]).unwrap(),
        0
    );
    assert_eq!(server.stats().cancelled, 1);
    assert_eq!(server.stats().active, 0);
    server.stop();
    server.stop_timeout(Duration::ZERO);
    server.wait().unwrap();
}

mod the_end_of_its_hub_ends_a_server {
    use super::*;

    #[test]
    fn uring() {
        a_hub_ends(Backend::Uring);
    }

    #[test]
    fn epoll() {
        a_hub_ends(Backend::Epoll);
    }
}
