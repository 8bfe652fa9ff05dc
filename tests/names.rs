//! Names become addresses as in std, and a resolver that hangs stops nobody but
//! who asked.
//!
//! Some tests need a resolver of their own: they run in a child process whose
//! `/etc/resolv.conf` is another file, by a mount namespace. Where that is not
//! allowed they say so and pass.

mod common;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use common::net::{pair, wait_until};
use common::{is_child, on, os_threads};
use greenring::io::{self, ErrorKind, Read, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket, lookup_host};
use greenring::runtime::{self, Backend};
use greenring::time::{Duration, timeout};
use greenring::{blocking, thread};

/// All there is to see of a result.
fn seen<T>(result: io::Result<T>) -> Result<T, (ErrorKind, Option<i32>, String)> {
    result.map_err(|error| (error.kind(), error.raw_os_error(), error.to_string()))
}

/// Compares what std makes of an address with what we make of it.
fn assert_same<A>(address: A)
where
    A: ToSocketAddrs + std::net::ToSocketAddrs + Debug,
{
    let ours = ToSocketAddrs::to_socket_addrs(&address).map(Vec::from_iter);
    let std = std::net::ToSocketAddrs::to_socket_addrs(&address).map(Vec::from_iter);
    let std = seen(std);
    assert_eq!(seen(ours), std, "{address:?}");
    assert_eq!(
        seen(lookup_host(&address).map(Vec::from_iter)),
        std,
        "{address:?}"
    );
}

/// A type of the user's with addresses of its own.
struct Ports(Vec<u16>);

impl ToSocketAddrs for Ports {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let addresses = self.0.iter().map(|port| ([127, 0, 0, 1], *port).into());
        Ok(addresses.collect::<Vec<_>>().into_iter())
    }
}

both_backends! {
    fn addresses_and_local_names_resolve_as_in_std() {
        let v4: SocketAddrV4 = "127.0.0.1:80".parse().unwrap();
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 1, 2);
        assert_same(v4);
        assert_same(v6);
        assert_same(SocketAddr::from(v6));
        assert_same((*v4.ip(), 80));
        assert_same((IpAddr::from(*v6.ip()), 80));
        assert_same(&[SocketAddr::from(v4), SocketAddr::from(v6)][..]);
        for host in ["localhost", "127.0.0.1", "::1", "[::1]", "127.1", ""] {
            assert_same((host, 80));
            assert_same((host.to_owned(), 80));
        }
        for text in ["localhost:80", "127.0.0.1:80", "[::1]:80", "127.1:0"] {
            assert_same(text);
            assert_same(text.to_owned());
        }
    }

    fn the_names_of_this_machine_resolve_as_in_std() {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let names: BTreeSet<&str> = hosts
            .lines()
            .flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace())
            .collect();
        for name in names {
            assert_same((name, 7));
            assert_same(format!("{name}:7"));
        }
    }

    fn numbers_in_all_spellings_resolve_as_in_std() {
        for host in [
            "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0", "::", "::ffff:127.0.0.1",
            "fe80::1%lo", "fe80::1%1", "ff02::1%lo", "::1%lo", "fe80::1%no-such-interface",
        ] {
            assert_same((host, 7));
            assert_same(format!("{host}:7"));
        }
        for address in ["[::]:7", "[::ffff:127.0.0.1]:7", "[fe80::1%1]:7"] {
            assert_same(address);
        }
        let scoped = lookup_host(("fe80::1%lo", 7)).map(Vec::from_iter);
        if let Ok(&[SocketAddr::V6(address)]) = scoped.as_deref() {
            assert_eq!(address.scope_id(), 1);
        } else {
            println!("skipped: no IPv6: {scoped:?}");
        }
        // What is too long for a name is refused without a question.
        assert_same(("a".repeat(5000).as_str(), 7));
    }

    fn bad_text_fails_as_in_std() {
        for text in [
            "", ":", ":80", "localhost", "localhost:", "localhost:http", "localhost:65536",
            "127.0.0.1", "[::1]", "::1", "a name with spaces:80", "nul\0:80",
        ] {
            assert_same(text);
            let ours = seen(TcpStream::connect(text).map(drop));
            assert_eq!(ours, seen(std::net::TcpStream::connect(text).map(drop)), "{text:?}");
            let ours = seen(TcpListener::bind(text).map(drop));
            assert_eq!(ours, seen(std::net::TcpListener::bind(text).map(drop)), "{text:?}");
        }
        assert_eq!(seen("localhost:x".to_socket_addrs()).unwrap_err().0, ErrorKind::InvalidInput);
    }

    fn connecting_by_name_works() {
        let listener = TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for round in 0..2 {
            let mut client = match round {
                0 => TcpStream::connect(("localhost", port)),
                // Not an address to Rust: the C library looks it up.
                _ => TcpStream::connect(format!("127.1:{port}")),
            }
            .unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(b"x").unwrap();
            assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
        }
    }

    fn a_type_of_the_users_can_be_an_address() {
        let (_guard, refused) = common::net::refusing();
        let listener = TcpListener::bind(Ports(vec![refused.port(), 0])).unwrap();
        let good = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(Ports(vec![refused.port(), good])).unwrap();
        assert_eq!(client.peer_addr().unwrap().port(), good);
    }

    fn others_run_while_a_name_is_looked_up() {
        let lookup = thread::spawn(|| "127.1:80".to_socket_addrs().unwrap().count());
        thread::yield_now();
        // It has been handed to another OS thread, and its answer is taken only
        // when this one waits.
        assert!(!lookup.is_finished());
        assert!(lookup.join().unwrap() > 0);
    }
}

/// A loopback address for the resolver of one test of one backend.
fn resolver(test: u8) -> SocketAddr {
    let backend = match runtime::backend() {
        Backend::Uring => 0,
        Backend::Epoll => 1,
    };
    ([127, 0, 83, 2 * test + backend + 1], 53).into()
}

/// Runs the test `test` of this binary again with `scenario`, in a child
/// process that asks the resolver which `resolver(number)` names.
fn with_resolver(test: &str, scenario: &str, backend: Backend, number: u8, options: &str) {
    let backend_number = u8::from(backend == Backend::Epoll);
    let address = format!("127.0.83.{}", 2 * number + backend_number + 1);
    let name = format!("greenring-resolv-{}-{address}", std::process::id());
    let file = std::env::temp_dir().join(name);
    let text = format!("nameserver {address}\noptions {options}\n");
    std::fs::write(&file, text).expect("a temporary file");

    let mut command = Command::new("unshare");
    command.arg("--mount");
    if std::fs::metadata("/proc/self").expect("procfs").uid() != 0 {
        command.arg("--map-root-user");
    }
    let output = command
        .args([
            "sh",
            "-c",
            // Nobody but a name server knows `localhost` in the last scenario.
            r#"mount --bind "$0" /etc/resolv.conf &&
               if [ "$GREENRING_TEST_CHILD" = "no hosts" ]; then
                   mount --bind /dev/null /etc/hosts
               fi && exec "$@""#,
        ])
        .arg(&file)
        .arg(std::env::current_exe().expect("the test binary"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("GREENRING_TEST_CHILD", scenario)
        .output();
    std::fs::remove_file(&file).expect("the temporary file is there");
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("skipped: unshare(1): {error}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !stdout.contains("running 1 test") {
        return println!("skipped: no mount namespace: {stderr}");
    }
    print!("{stdout}");
    assert!(output.status.success(), "{}:\n{stderr}", output.status);
}

/// A resolver that never answers; `None` where there may be none.
fn silent_resolver(number: u8) -> Option<UdpSocket> {
    match UdpSocket::bind(resolver(number)) {
        Ok(socket) => {
            socket.set_nonblocking(true).unwrap();
            Some(socket)
        }
        Err(error) => {
            println!("skipped: no socket for a resolver: {error}");
            None
        }
    }
}

/// Asks a resolver that never answers, from many green threads.
fn ask_a_silent_resolver() {
    const ASKING: usize = 200;
    let Some(silent) = silent_resolver(0) else {
        return;
    };
    let before = os_threads();
    let asking: Vec<_> = (0..ASKING)
        .map(|number| {
            thread::spawn(move || {
                let name = format!("host-{number}.example.com:80");
                match number % 4 {
                    0 => lookup_host(name).map(drop),
                    1 => TcpStream::connect(name).map(drop),
                    2 => UdpSocket::bind(name).map(drop),
                    _ => TcpListener::bind(name).map(drop),
                }
            })
        })
        .collect();
    // Its question came and will not be answered.
    wait_until(|| silent.recv(&mut [0; 512]).is_ok());

    // Everybody else goes on.
    let (mut client, mut server) = pair();
    let echo = thread::spawn(move || {
        let mut word = [0; 4];
        while server.read_exact(&mut word).is_ok() {
            server.write_all(&word).unwrap();
        }
    });
    for round in 0..200u32 {
        client.write_all(&round.to_ne_bytes()).unwrap();
        let mut word = [0; 4];
        client.read_exact(&mut word).unwrap();
        assert_eq!(word, round.to_ne_bytes());
    }
    drop(client);
    echo.join().unwrap();
    thread::sleep(Duration::from_millis(5));
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect(("localhost", port)).unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    // Other blocking calls have OS threads of their own.
    let calls: Vec<_> = (0..100u64)
        .map(|number| thread::spawn(move || blocking(|| number)))
        .collect();
    let sum: u64 = calls.into_iter().map(|call| call.join().unwrap()).sum();
    assert_eq!(sum, (0..100).sum());

    // Whoever asks can stop waiting.
    let soon = Duration::from_millis(5);
    let (socket, name) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        "late.example.com:80",
    );
    assert!(timeout(soon, || lookup_host(name)).is_err());
    assert!(timeout(soon, || TcpStream::connect(name)).is_err());
    assert!(timeout(soon, || socket.connect(name)).is_err());
    assert!(timeout(soon, || socket.send_to(b"", name)).is_err());
    let (cancelled, others): (Vec<_>, Vec<_>) = asking
        .into_iter()
        .enumerate()
        .partition(|(number, _)| number % 2 == 0);
    cancelled.iter().for_each(|(_, handle)| handle.cancel());
    for (_, handle) in cancelled {
        assert!(handle.join().is_err());
    }

    assert!(others.iter().all(|(_, handle)| !handle.is_finished()));
    let more = os_threads() - before;
    // 16 for names, and as many as the other calls have needed.
    assert!(
        (1..=16 + 64).contains(&more),
        "{more} OS threads for {ASKING} names"
    );
    // The hub ends without waiting for the answers.
    std::mem::forget(silent);
}

/// Has many ask a resolver that never answers and give up, before it can have
/// been asked for all of them.
fn give_up_on_a_silent_resolver() {
    const ASKING: usize = 200;
    let Some(silent) = silent_resolver(2) else {
        return;
    };
    let asking: Vec<_> = (0..ASKING)
        .map(|number| {
            thread::spawn(move || {
                let name = format!("host-{number}.example.com:80");
                timeout(Duration::from_millis(5), || lookup_host(name)).is_err()
            })
        })
        .collect();
    for handle in asking {
        assert!(handle.join().unwrap());
    }
    // Looked up behind all that were asked for before.
    assert!(lookup_host("127.1:80").is_ok());
    let mut asked = BTreeSet::new();
    let mut question = [0; 512];
    while let Ok(count) = silent.recv(&mut question) {
        // The name begins behind a header of twelve bytes and its length.
        let name = &question[13..count];
        asked.insert(name.split(|byte| *byte < b' ').next().unwrap().to_vec());
    }
    assert!(
        (1..=16).contains(&asked.len()),
        "{} of {ASKING} names",
        asked.len()
    );
}

/// Asks for `localhost` where only the silent resolver could know it.
fn ask_for_localhost_without_hosts() {
    let Some(silent) = silent_resolver(3) else {
        return;
    };
    let asks = thread::spawn(|| seen(TcpStream::connect("localhost:80").map(drop)));
    wait_until(|| silent.recv(&mut [0; 512]).is_ok());
    // The hub goes on, and so it can tell who it is that waits.
    assert!(!asks.is_finished());
    let ours = asks.join().unwrap();
    assert_eq!(
        ours,
        seen(std::net::TcpStream::connect("localhost:80").map(drop))
    );
    assert!(ours.is_err());
}

/// Asks where nobody listens, so that the answer comes at once.
fn ask_a_missing_resolver() {
    for name in ["no-such-host.example.com:80", "no.dots.at.all.invalid.:0"] {
        assert_same(name);
        let ours = seen(TcpStream::connect(name).map(drop));
        assert_eq!(ours, seen(std::net::TcpStream::connect(name).map(drop)));
        let (_, errno, text) = ours.unwrap_err();
        assert_eq!(errno, None);
        let expected = "failed to lookup address information: ";
        assert!(text.starts_with(expected), "{text}");
    }
    assert_same(("no-such-host.example.com", 80));
}

/// A test that runs in a child with a resolver of its own, on each backend.
macro_rules! with_resolver {
    ($name:ident, $body:path, $scenario:literal, $number:literal, $options:literal) => {
        mod $name {
            use super::*;

            fn run(test: &str, backend: Backend) {
                if is_child($scenario) {
                    return on(backend, $body);
                }
                with_resolver(test, $scenario, backend, $number, $options);
            }

            #[test]
            fn uring() {
                run(concat!(stringify!($name), "::uring"), Backend::Uring);
            }

            #[test]
            fn epoll() {
                run(concat!(stringify!($name), "::epoll"), Backend::Epoll);
            }
        }
    };
}

with_resolver!(
    a_resolver_that_hangs_stops_nobody_else,
    ask_a_silent_resolver,
    "silent resolver",
    0,
    "timeout:60 attempts:1"
);

with_resolver!(
    a_name_that_cannot_be_looked_up_fails_as_in_std,
    ask_a_missing_resolver,
    "missing resolver",
    1,
    "timeout:1 attempts:1"
);

with_resolver!(
    what_nobody_waits_for_any_more_is_not_looked_up,
    give_up_on_a_silent_resolver,
    "resolver given up",
    2,
    "timeout:1 attempts:1"
);

with_resolver!(
    the_hub_goes_on_where_even_localhost_is_asked_for,
    ask_for_localhost_without_hosts,
    "no hosts",
    3,
    "timeout:1 attempts:1"
);
