//! A client library as they are written in C works on green threads.
//!
//! The library below knows nothing of greenring. It owns its socket, does all
//! reading and writing itself, never blocks, and says what it waits for, as
//! libpq (`PQconnectPoll`, `PQflush`, `PQconsumeInput`, `PQsocket`) and curl's
//! multi interface do. Between two calls it may close its socket and open
//! another, which then has the same number. [`drive`] is all that it takes to
//! use it.

mod common;

use std::os::fd::BorrowedFd;

use common::net::{bytes_from, refusing, wait_for_parked};
use common::{Rng, open_descriptors};
use greenring::io::{self, ErrorKind, Read, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream, wait_readable, wait_writable};
use greenring::sync::Event;
use greenring::thread;
use greenring::time::{Duration, timeout};
use library::{Connection, Want};

/// The library.
mod library {
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::{AsRawFd, OwnedFd, RawFd};

    use nix::errno::Errno;
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, recv,
        send, setsockopt, socket, sockopt,
    };

    /// What a connection waits for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Want {
        Read,
        Write,
        /// It is done with what it was told to do.
        Nothing,
    }

    enum Phase {
        Connecting,
        Greeted,
        Connected,
    }

    /// A connection to a server that answers each question with one answer,
    /// both preceded by their length.
    pub struct Connection {
        socket: OwnedFd,
        /// Those that were not tried yet, the next one last.
        hosts: Vec<SocketAddr>,
        phase: Phase,
        unsent: Vec<u8>,
        received: Vec<u8>,
    }

    impl Connection {
        /// Begins to connect to the first of the hosts that answers: wait until
        /// the socket is writable.
        pub fn start(hosts: &[SocketAddr]) -> io::Result<Connection> {
            let mut hosts: Vec<_> = hosts.iter().rev().copied().collect();
            let first = hosts.pop().expect("a host");
            Ok(Connection {
                socket: begin(first)?,
                hosts,
                phase: Phase::Connecting,
                unsent: Vec::new(),
                received: Vec::new(),
            })
        }

        /// The socket at present: it may be another one after each call.
        pub fn socket(&self) -> RawFd {
            self.socket.as_raw_fd()
        }

        /// Begins to ask a question.
        pub fn ask(&mut self, question: &[u8]) {
            self.unsent.extend((question.len() as u32).to_ne_bytes());
            self.unsent.extend(question);
        }

        /// Goes on as far as it can.
        pub fn poll(&mut self) -> io::Result<Want> {
            match self.phase {
                Phase::Connecting => match getsockopt(&self.socket, sockopt::SocketError)? {
                    0 => {
                        self.phase = Phase::Greeted;
                        self.poll()
                    }
                    errno => {
                        let Some(next) = self.hosts.pop() else {
                            return Err(io::Error::from_raw_os_error(errno));
                        };
                        // The old one is closed first, as libraries do.
                        self.socket = {
                            let null = std::fs::File::open("/dev/null")?;
                            drop(std::mem::replace(&mut self.socket, null.into()));
                            begin(next)?
                        };
                        Ok(Want::Write)
                    }
                },
                Phase::Greeted => {
                    if self.receive()? == 0 {
                        return Ok(Want::Read);
                    }
                    assert_eq!(self.received.remove(0), b'!');
                    self.phase = Phase::Connected;
                    Ok(Want::Nothing)
                }
                Phase::Connected => {
                    while !self.unsent.is_empty() {
                        match send(self.socket(), &self.unsent, MsgFlags::MSG_NOSIGNAL) {
                            Ok(count) => drop(self.unsent.drain(..count)),
                            Err(Errno::EAGAIN) => return Ok(Want::Write),
                            Err(errno) => return Err(errno.into()),
                        }
                    }
                    while self.length().is_none() {
                        if self.receive()? == 0 {
                            return Ok(Want::Read);
                        }
                    }
                    Ok(Want::Nothing)
                }
            }
        }

        /// The answer, if it is there.
        pub fn answer(&mut self) -> Option<Vec<u8>> {
            let length = self.length()?;
            let answer = self.received.drain(..4 + length).skip(4).collect();
            Some(answer)
        }

        /// The length of an answer that is complete.
        fn length(&self) -> Option<usize> {
            let length = self.received.first_chunk()?;
            let length = u32::from_ne_bytes(*length) as usize;
            (self.received.len() >= 4 + length).then_some(length)
        }

        /// Reads what there is, once: how much it was.
        fn receive(&mut self) -> io::Result<usize> {
            let mut buffer = [0; 4096];
            match recv(self.socket(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    Ok(count)
                }
                Err(Errno::EAGAIN) => Ok(0),
                Err(errno) => Err(errno.into()),
            }
        }
    }

    fn begin(host: SocketAddr) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        // So that long questions do not fit.
        setsockopt(&socket, sockopt::SndBuf, &16_384)?;
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(host)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// How often a connection has waited.
#[derive(Default, Debug)]
struct Waits {
    reads: usize,
    writes: usize,
}

fn socket_of(connection: &Connection) -> BorrowedFd<'_> {
    // SAFETY: the library closes its socket in calls only that may change it.
    unsafe { BorrowedFd::borrow_raw(connection.socket()) }
}

/// Has the connection do what it was told to, and waits for it. `Ok(false)` if
/// a wait took longer than `limit`, after which it can be driven on.
fn drive(
    connection: &mut Connection,
    mut want: Want,
    limit: Option<Duration>,
    waits: &mut Waits,
) -> io::Result<bool> {
    loop {
        let socket = socket_of(connection);
        let ready = match want {
            Want::Nothing => return Ok(true),
            Want::Read => {
                waits.reads += 1;
                wait_readable(socket, limit)?
            }
            Want::Write => {
                waits.writes += 1;
                wait_writable(socket, limit)?
            }
        };
        if !ready {
            return Ok(false);
        }
        want = connection.poll()?;
    }
}

fn connect(hosts: &[SocketAddr]) -> io::Result<Connection> {
    let mut connection = Connection::start(hosts)?;
    drive(&mut connection, Want::Write, None, &mut Waits::default())?;
    Ok(connection)
}

fn ask(connection: &mut Connection, question: &[u8], waits: &mut Waits) -> io::Result<Vec<u8>> {
    connection.ask(question);
    let want = connection.poll()?;
    drive(connection, want, None, waits)?;
    Ok(connection.answer().expect("it is complete"))
}

/// Greets, and answers every question with its bytes in reverse order.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"!")?;
    loop {
        let mut length = [0; 4];
        match stream.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        let mut question = vec![0; u32::from_ne_bytes(length) as usize];
        // In small pieces, so that the other end has to wait.
        for piece in question.chunks_mut(10_000) {
            stream.read_exact(piece)?;
            thread::yield_now();
        }
        question.reverse();
        stream.write_all(&length)?;
        for piece in question.chunks(10_000) {
            stream.write_all(piece)?;
            thread::yield_now();
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

both_backends! {
    fn a_hundred_connections_work_at_once() {
        const CONNECTIONS: u64 = 100;
        let (listener, address) = listener();
        let server = thread::spawn(move || {
            let serving: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    let (stream, _) = listener.accept().unwrap();
                    thread::spawn(|| serve(stream).unwrap())
                })
                .collect();
            serving.into_iter().for_each(|served| served.join().unwrap());
        });
        let (_guard, nobody) = refusing();
        let seed = Rng::new("foreign clients").next();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                thread::spawn(move || {
                    let mut rng = Rng::with_seed(seed + number);
                    let mut waits = Waits::default();
                    // Some find nobody at first, and go on to the next host.
                    let hosts = [nobody, nobody, address];
                    let mut connection = connect(&hosts[rng.below(3) as usize..]).unwrap();
                    for _ in 0..5 {
                        let length = match rng.below(3) {
                            0 => 150_000,
                            _ => rng.below(5000) as usize,
                        };
                        let question = bytes_from(number as usize, length);
                        let mut answer = ask(&mut connection, &question, &mut waits).unwrap();
                        answer.reverse();
                        assert!(answer == question);
                    }
                    waits
                })
            })
            .collect();
        let mut all = Waits::default();
        for client in clients {
            let waits = client.join().unwrap();
            all.reads += waits.reads;
            all.writes += waits.writes;
        }
        server.join().unwrap();
        println!("{all:?}");
        assert!(all.reads > 100 && all.writes > 0);
    }

    fn a_socket_may_be_replaced_by_one_of_the_same_number() {
        let (listener, address) = listener();
        let server = thread::spawn(move || {
            for _ in 0..50 {
                serve(listener.accept().unwrap().0).unwrap();
            }
        });
        let (_guard, nobody) = refusing();
        let mut same = 0;
        for round in 0..50 {
            let mut connection = Connection::start(&[nobody, nobody, address]).unwrap();
            let before = connection.socket();
            drive(&mut connection, Want::Write, None, &mut Waits::default()).unwrap();
            same += usize::from(connection.socket() == before);
            let answer = ask(&mut connection, &[1, 2, round], &mut Waits::default()).unwrap();
            assert_eq!(answer, [round, 2, 1]);
        }
        server.join().unwrap();
        println!("{same} of 50 kept their number");
    }

    fn who_runs_out_of_time_can_go_on() {
        let (listener, address) = listener();
        let may_answer = std::rc::Rc::new(Event::new());
        let server = thread::spawn({
            let may_answer = may_answer.clone();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"!").unwrap();
                stream.read_exact(&mut [0; 9]).unwrap();
                may_answer.wait();
                stream.write_all(&1u32.to_ne_bytes()).unwrap();
                stream.write_all(b"x").unwrap();
            }
        });
        let mut connection = connect(&[address]).unwrap();
        let mut waits = Waits::default();
        connection.ask(b"hurry");
        let mut want = connection.poll().unwrap();
        for _ in 0..5 {
            let limit = Some(Duration::from_millis(1));
            assert!(!drive(&mut connection, want, limit, &mut waits).unwrap());
            want = Want::Read;
        }
        // As does the limit of the whole, which unwinds.
        let result = timeout(Duration::from_millis(1), || {
            drive(&mut connection, want, None, &mut Waits::default())
        });
        assert!(result.is_err());
        may_answer.set();
        assert!(drive(&mut connection, want, None, &mut waits).unwrap());
        assert_eq!(connection.answer().unwrap(), b"x");
        // The server has gone.
        server.join().unwrap();
        let error = ask(&mut connection, b"again?", &mut waits).unwrap_err();
        let expected = [ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(expected.contains(&error.kind()), "{error}");
    }

    fn nobody_there_is_an_error() {
        let (_guard, nobody) = refusing();
        let error = connect(&[nobody, nobody]).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

both_backends_alone! {
    fn connections_that_are_given_up_leave_nothing() {
        const CLIENTS: usize = 20;
        let (listener, address) = listener();
        // Waits for a greeting that does not come.
        let connect = move |limit| {
            let mut connection = Connection::start(&[address]).unwrap();
            wait_writable(socket_of(&connection), None).unwrap();
            let want = connection.poll().unwrap();
            drive(&mut connection, want, limit, &mut Waits::default()).unwrap()
        };
        let open = || {
            let ours = connect(Some(Duration::ZERO));
            drop(listener.accept().unwrap());
            assert!(!ours);
            open_descriptors()
        };
        let before = open();
        for _ in 0..20 {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| thread::spawn(move || connect(None)))
                .collect();
            let served: Vec<_> = (0..CLIENTS).map(|_| listener.accept().unwrap()).collect();
            wait_for_parked(CLIENTS);
            clients.iter().for_each(|client| client.cancel());
            for client in clients {
                assert!(client.join().is_err());
            }
            drop(served);
            assert_eq!(open(), before);
        }
    }
}
