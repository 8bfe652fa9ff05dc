//! A chat server: people connect by TCP and talk in rooms, a line at a time.
//!
//! ```text
//! cargo run --release --example chat                # then, elsewhere: nc 127.0.0.1 7007
//! cargo run --release --example chat -- --smoke 100
//! ```
//!
//! What it shows:
//!
//! - A connection has two green threads in a scope, a reader and a writer, with
//!   a bounded channel between those who talk and the writer.
//! - Who reads slowly holds up nobody: lines that find the channel full are
//!   dropped, and the reader is told how many.
//! - Ctrl-C ends it gracefully: no new connection, a goodbye to everybody, some
//!   time to take it, and an end for those who do not.

#[path = "chat/hall.rs"]
mod hall;
#[path = "chat/smoke.rs"]
mod smoke;

use std::process::ExitCode;
use std::rc::Rc;

use greenring::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use greenring::net::{Shutdown, TcpListener, TcpStream};
use greenring::pool::Group;
use greenring::sync::channel::{self, Receiver};
use greenring::time::Duration;
use greenring::{runtime, signal, thread};

use hall::{Hall, Line, Seat};

const HELP: &str = "\
Serves a chat, until Ctrl-C.

  chat                on 127.0.0.1:7007
  chat ADDR           on this address
  chat --smoke N      tries itself with N clients, 1 to 400, and ends
  chat --help         this text

Clients say lines, or /join ROOM, /nick NAME, /who, /quit. `nc ADDR` is one.
";

/// Lines that wait for a client at most; what comes then is dropped.
const BACKLOG: usize = 256;
/// The longest line, in bytes. A longer one counts as several.
const LONGEST: u64 = 1024;
/// How long a client may take nothing before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to go after the goodbye.
const GRACE: Duration = Duration::from_secs(2);
/// What the server waits after a failed accept, for descriptors to be freed.
const PAUSE: Duration = Duration::from_millis(100);

/// What the last line of every connection is.
const GOODBYE: &str = "* goodbye";

// ----- one client ----------------------------------------------------------

/// Serves a client until it has gone, or was told to and went.
fn attend(hall: &Hall, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (outbox, lines) = channel::bounded(BACKLOG);
    // Both borrow the stream: no clone, no `Arc`. When the client is cancelled,
    // so is the writer, and the scope ends when both have.
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            write_lines(stream, &lines).inspect_err(|_| {
                // The reader must end, too. A connection that cannot even be
                // shut down is broken, and the reader notices that itself.
                let _ = stream.shutdown(Shutdown::Both);
            })
        });
        let seat = hall.enter(outbox);
        let read = read_lines(stream, &seat);
        // With the seat goes the outbox, and so the writer says goodbye.
        drop(seat);
        read.and(writer.join().expect("the writer does not panic"))
    })
}

/// Takes what a client says, until it quits or ends its direction.
fn read_lines(stream: &TcpStream, seat: &Seat) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.by_ref().take(LONGEST).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        // What controls a terminal is not passed on to those of others.
        let text = text.replace(char::is_control, "");
        let (command, argument) = text.split_once(' ').unwrap_or((&text, ""));
        match (command, argument.trim()) {
            ("", "") => {}
            ("/quit", _) => break,
            ("/who", _) => seat.who(),
            ("/join", room) if is_name(room) => seat.join(room),
            ("/nick", nick) if is_name(nick) => seat.rename(nick),
            ("/join" | "/nick", _) => seat.tell("* a name has 1 to 32 letters and digits"),
            (command, _) if command.starts_with('/') => {
                seat.tell(&format!("* {command} is not known"));
            }
            _ => seat.say(&text),
        }
        line.clear();
        // Lines that have come together do not make the reader wait in between,
        // and so would fill the queues before any writer gets its turn.
        thread::yield_now();
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.chars().all(char::is_alphanumeric)
}

/// Sends what is queued until the outbox is closed and empty, then says goodbye
/// and ends this direction, which lets the client end the other.
fn write_lines(mut stream: &TcpStream, lines: &Receiver<Line>) -> io::Result<()> {
    let mut batch = String::new();
    while let Ok(line) = lines.recv() {
        // All that is there goes out at once.
        for line in std::iter::once(line).chain(lines.try_iter()) {
            batch.push_str(&line);
            batch.push('\n');
        }
        stream.write_all(batch.as_bytes())?;
        batch.clear();
    }
    stream.write_all(format!("{GOODBYE}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

// ----- the server ----------------------------------------------------------

/// How it went.
struct Summary {
    clients: u64,
    /// Lines that slow readers have lost.
    lost: u64,
    /// Clients that did not go when they were told to.
    cancelled: usize,
}

/// Serves until SIGINT, and then until all clients have gone.
fn serve(listener: TcpListener, grace: Duration) -> io::Result<Summary> {
    let hall = Rc::new(Hall::default());
    let clients = Group::new();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| accept(&listener, &hall, &clients));
        let waited = signal::ctrl_c();
        // From here on Ctrl-C does what it always does: a second one ends the
        // process at once.
        accepting.cancel();
        waited
    })?;
    // Nobody can connect any more.
    drop(listener);
    hall.close();
    let mut cancelled = 0;
    if !clients.join_timeout(grace) {
        cancelled = clients.len();
        clients.cancel();
        clients.join();
    }
    Ok(Summary {
        clients: hall.come(),
        lost: hall.lost(),
        cancelled,
    })
}

/// Accepts until it is cancelled.
fn accept(listener: &TcpListener, hall: &Rc<Hall>, clients: &Group) {
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                let hall = Rc::clone(hall);
                clients.spawn(move || {
                    // A connection that breaks is no more than a client that has
                    // gone; its seat has told the others.
                    match attend(&hall, &stream) {
                        Ok(()) => {}
                        // What std's streams say when their timeout has passed.
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            eprintln!("chat: {address} has taken nothing for {PATIENCE:?}");
                        }
                        Err(error) => eprintln!("chat: {address}: {error}"),
                    }
                });
            }
            // Of that connection, which is gone, or of too many descriptors: a
            // server goes on.
            Err(error) => {
                eprintln!("chat: a connection could not be accepted: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
}

fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    println!("serving a chat on {address}; Ctrl-C ends it");
    let summary = serve(listener, GRACE)?;
    summary.print();
    Ok(())
}

impl Summary {
    fn print(&self) {
        println!("\nclients   lines lost   cancelled");
        let Summary {
            clients,
            lost,
            cancelled,
        } = self;
        println!("{clients:>7}   {lost:>10}   {cancelled:>9}");
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments
        .iter()
        .map(|text| text.to_string_lossy())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    // `run` ends the hub in an orderly way: whatever is left then is cancelled,
    // and its destructors run.
    let hub = runtime::Builder::new();
    let result = match arguments[..] {
        ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(Ok(()))
        }
        [] => hub.run(|| run("127.0.0.1:7007")),
        ["--smoke", count] => match count.parse() {
            Ok(count @ 1..=400) => hub.run(|| smoke::run(count)),
            _ => {
                return refuse(&format!(
                    "--smoke needs a number from 1 to 400, not {count:?}"
                ));
            }
        },
        [address] if !address.starts_with('-') => hub.run(|| run(address)),
        _ => return refuse("these arguments are not known; --help says which are"),
    };
    match result.flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(sentence: &str) -> ExitCode {
    eprintln!("chat: {sentence}");
    ExitCode::from(2)
}
