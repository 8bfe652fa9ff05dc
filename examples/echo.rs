//! The main job: an echo server, and clients that drive it and check every byte.
//!
//! ```text
//! cargo run --release --example echo
//! cargo run --release --example echo -- --help
//! ```
//!
//! Who knows `std::net` and `std::thread` knows all that the server and the
//! client below do. What differs is one word in the imports: a thread is a
//! green thread here, and thousands of them share one OS thread.

#[path = "echo/options.rs"]
mod options;
#[path = "echo/report.rs"]
mod report;

use std::cell::RefCell;
use std::fmt::Display;
use std::process::ExitCode;
use std::rc::Rc;

use greenring::io::{self, ErrorKind, Read, Write};
use greenring::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use greenring::runtime::{self, Backend};
use greenring::thread::{self, JoinHandle};
use greenring::time::{Duration, Instant};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

use options::{HELP, Options};
use report::{Measured, Tally, clear_progress, print_table, show_progress};

// ----- the server --------------------------------------------------------

/// Accepts connections, and gives each a green thread.
fn serve(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = echo(stream) {
                eprintln!("echo: a connection to the server failed: {error}");
            }
        });
    }
    Ok(())
}

/// Sends back what comes in, until the other side ends its direction.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

// ----- the client --------------------------------------------------------

/// One connection, driven by a green thread of its own.
struct Client {
    stream: TcpStream,
    number: usize,
    /// Exchanges so far: with `number` it makes each request unlike any other.
    sequence: u64,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Connects, and makes sure by a first exchange that the server has accepted.
    fn connect(server: &[SocketAddr], number: usize, size: usize) -> io::Result<Client> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let (request, answer) = (vec![0; size], vec![0; size]);
        let mut client = Client {
            stream,
            number,
            sequence: 0,
            request,
            answer,
        };
        client.exchange()?;
        Ok(client)
    }

    /// Sends one request after the other until the time is up.
    fn run(&mut self, until: Instant, tally: &RefCell<Tally>) -> io::Result<()> {
        loop {
            let start = Instant::now();
            if start >= until {
                return Ok(());
            }
            self.exchange()?;
            tally.borrow_mut().record(start.elapsed());
        }
    }

    /// Sends a request, and compares the answer with it.
    fn exchange(&mut self) -> io::Result<()> {
        self.fill_request();
        self.stream.write_all(&self.request)?;
        self.stream.read_exact(&mut self.answer)?;
        if self.answer != self.request {
            let text = format!("answer {} is not what was sent", self.sequence);
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        self.sequence += 1;
        Ok(())
    }

    /// Every eight bytes depend on the connection, the sequence number and
    /// their place, so that bytes of another connection, of an older request or
    /// from another place are noticed.
    fn fill_request(&mut self) {
        let mut word = (self.number as u64) << 40 | self.sequence;
        for bytes in self.request.chunks_mut(8) {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            bytes.copy_from_slice(&word.to_be_bytes()[..bytes.len()]);
        }
    }

    /// Waits for the server to close, after our direction was shut down, and
    /// makes sure that it sends nothing more.
    fn expect_end(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.answer)? {
            0 => Ok(()),
            n => {
                let text = format!("{n} bytes came that were not asked for");
                Err(io::Error::new(ErrorKind::InvalidData, text))
            }
        }
    }
}

// ----- the measurement ---------------------------------------------------

/// Clients that connect at once. std's listeners let 128 connections wait for
/// accept(2); beyond them the kernel drops packets, and connecting takes a
/// second or more, listen(2).
const STAGE: usize = 64;

/// Connects all clients, a stage at a time.
fn connect_all(
    server: &[SocketAddr],
    options: &Options,
    tally: &RefCell<Tally>,
) -> io::Result<Vec<Client>> {
    let (server, size) = (Rc::<[SocketAddr]>::from(server), options.size);
    let mut clients = Vec::with_capacity(options.connections);
    while clients.len() < options.connections {
        let stage = clients.len()..options.connections.min(clients.len() + STAGE);
        let connecting = stage.map(|number| {
            let server = Rc::clone(&server);
            thread::spawn(move || {
                Client::connect(&server, number, size)
                    .map_err(context(format!("connection {number}")))
            })
        });
        clients.extend(join_all(connecting.collect())?);
        tally.borrow_mut().connections = clients.len();
    }
    Ok(clients)
}

fn join_all<T>(handles: Vec<JoinHandle<io::Result<T>>>) -> io::Result<Vec<T>> {
    let results = handles.into_iter().map(JoinHandle::join);
    results
        .map(|result| result.expect("no client panics"))
        .collect()
}

/// Drives the server with all clients. On the control connection a byte says
/// that the measurement begins, and another that it ends.
fn drive(
    server: &[SocketAddr],
    options: &Options,
    mut control: Option<TcpStream>,
) -> io::Result<Measured> {
    let mut signal = || match &mut control {
        Some(control) => control.write_all(&[0]),
        None => Ok(()),
    };
    let tally = Rc::new(RefCell::new(Tally::new()));
    let shown = Rc::clone(&tally);
    // Is cancelled when the hub ends.
    thread::spawn(move || show_progress(&shown));
    let clients = connect_all(server, options, &tally)?;

    signal()?;
    let start = Instant::now();
    tally.borrow_mut().start = Some(start);
    let until = start + options.duration;
    let running = clients.into_iter().map(|mut client| {
        let tally = Rc::clone(&tally);
        thread::spawn(move || {
            let result = client.run(until, &tally);
            result.map_err(context(format!("connection {}", client.number)))?;
            Ok(client)
        })
    });
    let mut clients = join_all(running.collect())?;
    let elapsed = start.elapsed();
    signal()?;

    for client in &clients {
        client.stream.shutdown(Shutdown::Write)?;
    }
    for client in &mut clients {
        let result = client.expect_end();
        result.map_err(context(format!("connection {}", client.number)))?;
    }
    let tally = tally.borrow();
    Ok(Measured {
        backend: runtime::backend(),
        reason: runtime::backend_reason(),
        requests: tally.requests,
        elapsed,
        server_cpu: None,
        p50: tally.percentile(50),
        p99: tally.percentile(99),
    })
}

/// Serves until the control connection, which is the first, ends. Gives the CPU
/// time that this OS thread took between the two bytes on it.
fn serve_controlled(listener: TcpListener) -> io::Result<Duration> {
    let (mut control, _) = listener.accept()?;
    thread::spawn(move || {
        if let Err(error) = serve(&listener) {
            eprintln!("echo: no connection is accepted any more: {error}");
        }
    });
    control.read_exact(&mut [0])?;
    let before = cpu_time()?;
    control.read_exact(&mut [0])?;
    let used = cpu_time()? - before;
    control.read_to_end(&mut Vec::new())?;
    Ok(used)
}

/// CPU time of the calling OS thread.
fn cpu_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let time = usage.user_time() + usage.system_time();
    let microseconds = time.tv_sec() * 1_000_000 + time.tv_usec();
    Ok(Duration::from_micros(microseconds as u64))
}

/// Drives a server in this process: two OS threads with a hub each.
fn measure(options: &Options, backend: Option<Backend>) -> io::Result<Measured> {
    let result = hub(backend).run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let control = TcpStream::connect(address)?;
        let server = std::thread::spawn(move || hub(backend).run(|| serve_controlled(listener))?);
        let driven = drive(&[address], options, Some(control));
        let served = server.join().expect("the server does not panic");
        match (driven, served) {
            (Ok(measured), Ok(cpu)) => Ok(Measured {
                server_cpu: Some(cpu),
                ..measured
            }),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(error), Err(cause)) => Err(context(format!("server: {cause}; clients"))(error)),
        }
    });
    clear_progress();
    result?
}

/// A hub with the backend that was asked for, else as the environment says.
fn hub(backend: Option<Backend>) -> runtime::Builder {
    match backend {
        Some(backend) => runtime::Builder::new().backend(backend),
        None => runtime::Builder::new(),
    }
}

/// Says in an error where it happened.
fn context(place: impl Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{place}: {error}"))
}

// ----- the three ways to run it ------------------------------------------

fn listen(address: &str, options: &Options) -> io::Result<()> {
    raise_descriptor_limit(0)?;
    hub(options.backend).run(|| {
        let listener = TcpListener::bind(address).map_err(context(address))?;
        let address = listener.local_addr()?;
        let reason = runtime::backend_reason();
        println!("serving echo on {address}, by {reason}; Ctrl-C ends it");
        serve(&listener)
    })?
}

fn connect(address: &str, options: &Options) -> io::Result<()> {
    raise_descriptor_limit(options.connections)?;
    let result = hub(options.backend).run(|| {
        let addresses: Vec<_> = address
            .to_socket_addrs()
            .map_err(context(address))?
            .collect();
        drive(&addresses, options, None)
    });
    clear_progress();
    print_results(options, &[Ok(result??)]);
    Ok(())
}

fn listen_and_connect(options: &Options) -> io::Result<()> {
    raise_descriptor_limit(2 * options.connections)?;
    if options.backend.is_some() || std::env::var_os("GREENRING_BACKEND").is_some() {
        let measured = measure(options, options.backend)?;
        print_results(options, &[Ok(measured)]);
        return Ok(());
    }
    let uring = match hub(Some(Backend::Uring)).run(|| ()) {
        Ok(()) => Ok(measure(options, Some(Backend::Uring))?),
        // A variable of the environment has a bad value.
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
        Err(error) => Err(format!("uring cannot be had: {error}")),
    };
    let epoll = measure(options, Some(Backend::Epoll))?;
    print_results(options, &[uring, Ok(epoll)]);
    Ok(())
}

fn print_results(options: &Options, rows: &[Result<Measured, String>]) {
    let (connections, size) = (options.connections, options.size);
    println!("{connections} connections, {size} bytes to and fro, every byte checked\n");
    print_table(rows);
}

/// Takes as many descriptors as the process may have.
///
/// # Errors
///
/// There are too few for so many connections and a hub's own.
fn raise_descriptor_limit(connections: usize) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let needed = connections as u64 + 32;
    if needed <= hard {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{needed} descriptors are needed, but the process may have {hard}: give a smaller \
         --connections, or raise the hard limit (ulimit -Hn)"
    )))
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|text| text.to_string_lossy().into_owned());
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(sentence) => {
            eprintln!("echo: {sentence}");
            return ExitCode::from(2);
        }
    };
    let result = match (&options.listen, &options.connect) {
        _ if options.help => {
            print!("{HELP}");
            Ok(())
        }
        (Some(address), _) => listen(address, &options),
        (_, Some(address)) => connect(address, &options),
        (None, None) => listen_and_connect(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
