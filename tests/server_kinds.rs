//! Servers of Unix sockets, of datagrams, and of sockets that the process was
//! started with.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;

use common::net::wait_until;
use common::{child, is_available, is_child};
use greenring::net::UdpSocket;
use greenring::net::server::{
    DatagramServer, Inherited, InheritedSocket, StreamServer, UnixServer, inherited,
};
use greenring::os::unix::net::{UnixListener, UnixStream};
use greenring::runtime::Backend;
use greenring::sync::Event;
use greenring::thread;
use greenring::time::Duration;

/// A directory of the test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let backend = greenring::runtime::backend();
        let name = format!("greenring-{test}-{backend}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What a process that was killed and had our id has left behind.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy_back(mut stream: impl Read + Write) {
    let mut buffer = [0; 256];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

fn exchange(mut stream: impl Read + Write, byte: u8) {
    stream.write_all(&[byte]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [byte]);
}

both_backends! {
    fn a_unix_server_serves_and_leaves_its_path() {
        let directory = Directory::new("unix-server");
        let path = directory.0.join("socket");
        let server = UnixServer::bind(&path).unwrap().pool(5);
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(path.as_path()));
        // Unlike a TCP server it listens already.
        let early = UnixStream::connect(&path).unwrap();
        server
            .start(|stream, peer| {
                assert!(peer.is_unnamed());
                copy_back(stream);
            })
            .unwrap();
        exchange(&early, 0);
        drop(early);
        let clients = (1..100).map(|number| {
            let path = path.clone();
            thread::spawn(move || exchange(UnixStream::connect(path).unwrap(), number))
        });
        for client in clients.collect::<Vec<_>>() {
            client.join().unwrap();
        }
        let text = format!("{server:?}");
        assert!(text.starts_with("UnixServer { address: "), "{text}");
        server.stop();
        assert_eq!(server.stats().finished, 100);
        // A process that another test starts has the listener until it executes.
        wait_until(|| match UnixStream::connect(&path) {
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        });
        assert_eq!(UnixServer::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let error = server.start(|_, _| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    fn a_unix_server_cancels_who_stays() {
        let directory = Directory::new("unix-server-stop");
        let path = directory.0.join("socket");
        let server = UnixServer::from(UnixListener::bind(&path).unwrap());
        server.start(|stream, _| copy_back(stream)).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        exchange(&client, 1);
        server.stop_timeout(Duration::from_millis(1));
        assert_eq!(server.stats().cancelled, 1);
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        server.wait().unwrap();
    }

    fn datagrams_are_handled_each_for_itself() {
        let server = DatagramServer::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        server
            .start(|socket, datagram, peer| {
                // The first waits for longer than the others.
                thread::sleep(Duration::from_millis(u64::from(20 - datagram[0])));
                socket.send_to(datagram, peer).unwrap();
            })
            .unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..20_u8 {
            client.send_to(&vec![number; usize::from(number) + 1], address).unwrap();
        }
        let mut lengths = Vec::new();
        for _ in 0..20 {
            let mut buffer = [0; 64];
            let (length, peer) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(peer, address);
            assert!(buffer[..length].iter().all(|byte| usize::from(*byte) == length - 1));
            lengths.push(length);
        }
        lengths.sort_unstable();
        assert_eq!(lengths, (1..=20).collect::<Vec<_>>());
        server.stop();
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.finished), (20, 20));
    }

    fn the_longest_and_the_empty_datagram_are_whole() {
        let server = DatagramServer::bind("127.0.0.1:0").unwrap();
        let lengths = Rc::new(Cell::new((0, 0)));
        let seen = Rc::clone(&lengths);
        server
            .start(move |_, datagram, _| seen.set((seen.get().0 + 1, seen.get().1 + datagram.len())))
            .unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[1; 65_507], server.local_addr().unwrap()).unwrap();
        client.send_to(&[], server.local_addr().unwrap()).unwrap();
        wait_until(|| lengths.get() == (2, 65_507));
        server.stop();
    }

    fn a_full_pool_receives_nothing() {
        let server = DatagramServer::bind("127.0.0.1:0").unwrap().pool(2);
        let open = Rc::new(Event::new());
        let gate = Rc::clone(&open);
        server.start(move |_, _, _| gate.wait()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..5 {
            client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        }
        wait_until(|| server.stats().active == 2);
        for _ in 0..100 {
            thread::yield_now();
        }
        assert_eq!(server.stats().accepted, 2);
        open.set();
        wait_until(|| server.stats().finished == 5);
        server.stop();
    }

    fn a_handler_answers_while_its_datagram_server_stops() {
        let server = Rc::new(DatagramServer::bind("127.0.0.1:0").unwrap());
        let address = server.local_addr().unwrap();
        let open = Rc::new(Event::new());
        let gate = Rc::clone(&open);
        server
            .start(move |socket, datagram, peer| {
                gate.wait();
                socket.send_to(datagram, peer).unwrap();
            })
            .unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"late", address).unwrap();
        wait_until(|| server.stats().active == 1);
        let stopping = {
            let server = Rc::clone(&server);
            thread::spawn(move || server.stop())
        };
        server.wait().unwrap();
        open.set();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 4);
        stopping.join().unwrap();
        // The socket is closed, see above.
        wait_until(|| UdpSocket::bind(address).is_ok());
        assert!(format!("{server:?}").starts_with("DatagramServer { address: Some("));
    }

    fn a_datagram_handler_that_panics_is_counted() {
        let server = DatagramServer::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        server
            .start(|socket, datagram, peer| {
                assert_ne!(datagram, b"panic");
                socket.send_to(datagram, peer).unwrap();
            })
            .unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.send(b"panic").unwrap();
        client.send(b"echo").unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 4);
        server.stop_timeout(Duration::from_secs(10));
        assert_eq!((server.stats().panicked, server.stats().finished), (1, 1));
    }

    fn without_an_announcement_nothing_is_inherited() {
        assert!(inherited().unwrap().is_empty());
    }
}

/// Runs the test `test` as a service manager would: with two sockets as its
/// descriptors 3 and 4, announced to it.
fn activate(test: &str, backend: &str, first: OwnedFd, second: OwnedFd, names: &str) {
    let script = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" \"$@\" 3<&0 4<&1 0</dev/null 1>&2";
    // Its standard input and output are the first to be duplicated.
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("GREENRING_TEST_CHILD", test)
        .env("GREENRING_BACKEND", backend)
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?} {text}",
        output.status.signal()
    );
    assert!(text.contains("1 passed"), "{text}");
}

/// The backends that are to be had here, by name.
fn backends() -> impl Iterator<Item = String> {
    let backends = [Backend::Uring, Backend::Epoll].into_iter();
    backends
        .filter(|it| is_available(*it))
        .map(|it| it.to_string())
}

/// What was inherited, of which there is some only once.
fn take_inherited() -> [Inherited; 2] {
    let taken = inherited().unwrap();
    assert!(inherited().unwrap().is_empty());
    for fd in [3, 4] {
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_ne!(flags & libc::O_CLOEXEC as u32, 0);
    }
    taken.try_into().unwrap()
}

#[test]
fn listeners_of_a_service_manager_are_served() {
    const TEST: &str = "listeners_of_a_service_manager_are_served";
    if is_child(TEST) {
        let [tcp, unix] = take_inherited();
        assert_eq!((tcp.name.as_str(), unix.name.as_str()), ("web", "unknown"));
        let (InheritedSocket::Tcp(tcp), InheritedSocket::Unix(unix)) = (tcp.socket, unix.socket)
        else {
            panic!("a TCP and a Unix listener");
        };
        let (tcp, unix) = (StreamServer::from(tcp), UnixServer::from(unix));
        tcp.start(|stream, _| copy_back(stream)).unwrap();
        unix.start(|stream, _| copy_back(stream)).unwrap();
        wait_until(|| tcp.stats().finished + unix.stats().finished == 2);
        tcp.stop();
        unix.stop();
        return;
    }
    for backend in backends() {
        let _watchdog = common::Watchdog::start(Duration::from_secs(60));
        let path = format!("greenring-activation-{backend}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // They come before the service does.
        let client = std::net::TcpStream::connect(address).unwrap();
        let other = std::os::unix::net::UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let clients = std::thread::spawn(move || {
            exchange(client, 1);
            exchange(other, 2);
        });
        activate(TEST, &backend, tcp.into(), unix.into(), "web");
        clients.join().unwrap();
        while std::net::TcpStream::connect(address).is_ok() {}
    }
}

#[test]
fn whatever_is_inherited_is_known_by_its_kind() {
    const TEST: &str = "whatever_is_inherited_is_known_by_its_kind";
    if is_child(TEST) {
        let [udp, file] = take_inherited();
        assert_eq!((udp.name.as_str(), file.name.as_str()), ("dns", "null"));
        assert!(matches!(file.socket, InheritedSocket::Other(_)));
        let InheritedSocket::Udp(udp) = udp.socket else {
            panic!("a UDP socket");
        };
        let server = DatagramServer::from(udp);
        server
            .start(|socket, datagram, peer| {
                socket.send_to(datagram, peer).unwrap();
            })
            .unwrap();
        wait_until(|| server.stats().finished == 1);
        return server.stop();
    }
    for backend in backends() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"query", udp.local_addr().unwrap()).unwrap();
        let null = File::open("/dev/null").unwrap();
        activate(TEST, &backend, udp.into(), null.into(), "dns:null:more");
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
    }
}

#[test]
fn announcements_to_others_and_bad_ones_give_nothing() {
    const TEST: &str = "announcements_to_others_and_bad_ones_give_nothing";
    if is_child(TEST) {
        match inherited() {
            Ok(none) => eprintln!("{}", none.len()),
            Err(error) => eprintln!("{:?} {error}", error.kind()),
        }
        return;
    }
    let said = |process, count| {
        let child = child(TEST, TEST, [("LISTEN_PID", process), ("LISTEN_FDS", count)]);
        child.assert_success();
        child.stderr
    };
    assert_eq!(said("1", "2"), "0\n");
    assert!(said("me", "2").starts_with("InvalidInput LISTEN_PID is \"me\""));
    assert!(said("1", "many").starts_with("InvalidInput LISTEN_FDS is \"many\""));
}
