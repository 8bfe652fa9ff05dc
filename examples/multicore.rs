//! A server on all cores: on each an OS thread with a hub of its own, all on one
//! port, among which the kernel spreads the connections.
//!
//! ```text
//! cargo run --release --example multicore                     # 127.0.0.1:7007
//! cargo run --release --example multicore -- 0.0.0.0:7007     # until Ctrl-C or SIGTERM
//! cargo run --release --example multicore -- --seconds 1      # drives itself
//! ```
//!
//! What it shows:
//!
//! - `reuse_port`: the servers know nothing of each other and share no lock.
//! - Each hub hears of the same SIGTERM by itself, and stops its server: no
//!   connection is accepted any more, those that are there may finish what they
//!   do, and who takes too long is cancelled.
//! - The counters of a server.

use std::process::ExitCode;
use std::sync::mpsc;

use greenring::io::{self, Read, Write};
use greenring::net::server::{Stats, StreamServer};
use greenring::net::{SocketAddr, TcpStream};
use greenring::runtime;
use greenring::signal::{SIGINT, SIGTERM, Signals};
use greenring::thread;
use greenring::time::{Duration, Instant};

/// How long a connection may go on when the servers stop.
const GRACE: Duration = Duration::from_secs(5);

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

/// One server, on the hub of the calling OS thread, until a signal comes.
fn serve(address: SocketAddr, ready: &mpsc::Sender<SocketAddr>) -> io::Result<Stats> {
    // From here on no signal is missed.
    let mut signals = Signals::new(&[SIGTERM, SIGINT])?;
    let server = StreamServer::bind(address)?.reuse_port(true);
    server.start(|stream, peer| {
        if let Err(error) = echo(stream) {
            eprintln!("multicore: {peer}: {error}");
        }
    })?;
    // std's channel never makes a sender wait.
    let _ = ready.send(server.local_addr()?);
    signals.recv();
    server.stop_timeout(GRACE);
    Ok(server.stats())
}

/// An OS thread with a hub and a server; and the address when it serves.
fn start(address: SocketAddr) -> io::Result<(Server, SocketAddr)> {
    let (ready, address_of) = mpsc::channel();
    let server =
        std::thread::spawn(move || runtime::Builder::new().run(|| serve(address, &ready))?);
    match address_of.recv() {
        Ok(address) => Ok((server, address)),
        // It has failed before.
        Err(_) => Err(join(server).expect_err("it gives its address first")),
    }
}

type Server = std::thread::JoinHandle<io::Result<Stats>>;

fn join(server: Server) -> io::Result<Stats> {
    server.join().expect("a server does not panic")
}

// ----- the clients of a run that drives itself ----------------------------

const CLIENTS: usize = 64;
/// Exchanges on one connection, before the next, which may go to another core.
const EXCHANGES: u64 = 50;

/// Drives the servers from a hub of its own; gives the number of connections.
fn drive(address: SocketAddr, duration: Duration) -> io::Result<u64> {
    let until = Instant::now() + duration;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut connections = 0;
                while Instant::now() < until {
                    converse(address)?;
                    connections += 1;
                }
                Ok(connections)
            })
        })
        .collect();
    let results = clients.into_iter().map(|client| client.join());
    results
        .map(|result| result.expect("a client does not panic"))
        .sum()
}

fn converse(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    for number in 0..EXCHANGES {
        let mut answer = [0; 8];
        stream.write_all(&number.to_be_bytes())?;
        stream.read_exact(&mut answer)?;
        if answer != number.to_be_bytes() {
            return Err(io::Error::other("an answer is not what was sent"));
        }
    }
    Ok(())
}

// ----- both ways to run it ------------------------------------------------

/// Serves on all cores; when `drive_for` is given drives itself for as long and
/// sends itself SIGTERM.
fn run(address: SocketAddr, drive_for: Option<Duration>) -> io::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let (first, address) = start(address)?;
    let mut servers = vec![first];
    while servers.len() < cores {
        servers.push(start(address)?.0);
    }
    println!("{cores} servers on {address}; SIGTERM or Ctrl-C ends them");

    let driven = match drive_for {
        None => None,
        Some(duration) => {
            let connections = runtime::Builder::new().run(|| drive(address, duration))?;
            nix::sys::signal::raise(nix::sys::signal::SIGTERM)?;
            Some(connections?)
        }
    };
    let mut accepted = 0;
    println!("server    accepted  finished  cancelled  panicked  failed");
    for (number, server) in servers.into_iter().enumerate() {
        let stats = join(server)?;
        accepted += stats.accepted;
        println!(
            "{number:<8}{:>10}{:>10}{:>11}{:>10}{:>8}",
            stats.accepted, stats.finished, stats.cancelled, stats.panicked, stats.failed
        );
    }
    match driven {
        Some(connections) if connections != accepted => Err(io::Error::other(format!(
            "{connections} connections were made and {accepted} accepted"
        ))),
        _ => Ok(()),
    }
}

fn main() -> ExitCode {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 7007));
    let mut drive_for = None;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--seconds", seconds] if seconds.parse::<u32>().is_ok() => {
            address.set_port(0);
            drive_for = seconds.parse().ok().map(Duration::from_secs);
        }
        [text] if text.parse::<SocketAddr>().is_ok() => {
            address = text.parse().expect("it was parsed before");
        }
        _ => {
            eprintln!("usage: multicore [ADDRESS:PORT | --seconds N]");
            return ExitCode::from(2);
        }
    }
    match run(address, drive_for) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multicore: {error}");
            ExitCode::FAILURE
        }
    }
}
