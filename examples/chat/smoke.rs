//! The server tries itself: many clients talk, one floods a room in which
//! another sleeps, then the process gets its Ctrl-C.

use greenring::io::{self, BufRead, BufReader, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::pool::{Group, Pool};
use greenring::thread;
use greenring::time::{self, Duration};
use nix::sys::signal::{Signal, raise};

use super::{GOODBYE, serve};

/// How many share a room, and what each of them says. All of it fits into a
/// backlog, so nobody may miss a line.
const ROOM: usize = 20;
const LINES: usize = 5;
/// The kernel's buffers hold some megabytes for one who does not read.
const FLOOD: usize = 8 * 1024 * 1024;
/// Lines that the flooder says at once.
const BURST: usize = 16;
/// More than all of it takes anywhere.
const LIMIT: Duration = Duration::from_secs(60);
/// What the one who sleeps is given to go.
const GRACE: Duration = Duration::from_secs(1);

/// Serves `count` clients that come from this very process.
pub fn run(count: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let talking = thread::spawn(move || time::timeout(LIMIT, || talk(address, count))?);
    let summary = serve(listener, GRACE)?;
    let _sleeper = talking.join().expect("the clients do not panic")?;

    summary.print();
    expect(
        summary.clients == count as u64 + 2,
        "all clients were served",
    )?;
    expect(
        summary.cancelled == 1,
        "only the sleeper had to be cancelled",
    )?;
    expect(summary.lost > 0, "the sleeper lost lines")?;
    println!("\n{count} clients heard every line and the goodbye");
    Ok(())
}

/// Lets all clients talk, sends the signal, and listens to the end. Gives back
/// the one who sleeps, whose connection must outlive the server's patience.
fn talk(address: SocketAddr, count: usize) -> io::Result<Client> {
    let result = meet(address, count);
    // Also after a failure: the server waits for it.
    raise(Signal::SIGINT)?;
    let (clients, sleeper) = result?;
    let ends = Group::new().map(clients, Client::expect_goodbye);
    ends.into_iter().collect::<io::Result<()>>()?;
    Ok(sleeper)
}

/// Lets all clients connect and talk. Gives them back, and the one who sleeps.
fn meet(address: SocketAddr, count: usize) -> io::Result<(Vec<Client>, Client)> {
    // A listener lets 128 wait to be accepted, so they do not come all at once.
    let clients = Pool::new(64).map(0..count, |number| {
        Client::connect(
            address,
            &format!("n{number}"),
            &format!("room{}", number / ROOM),
        )
    });
    let mut clients: Vec<Client> = clients.into_iter().collect::<io::Result<_>>()?;
    let sleeper = Client::connect(address, "sleeper", "cellar")?;
    let mut flooder = Client::connect(address, "flooder", "cellar")?;

    let talks = thread::scope(|scope| {
        let flooding = scope.spawn(|| flooder.flood());
        let talks = Group::new().map(clients.iter_mut().enumerate(), |(number, client)| {
            let first = number / ROOM * ROOM;
            client.talk(ROOM.min(count - first) * LINES)
        });
        let flooding = flooding.join().expect("the flooder does not panic");
        talks
            .into_iter()
            .chain([flooding])
            .collect::<io::Result<()>>()
    });
    talks?;
    clients.push(flooder);
    Ok((clients, sleeper))
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, takes a name, and goes into a room.
    fn connect(address: SocketAddr, nick: &str, room: &str) -> io::Result<Client> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(format!("/nick {nick}\n/join {room}\n").as_bytes())?;
        let mut client = Client {
            stream: BufReader::new(stream),
        };
        let joined = format!("* {nick} has joined {room}");
        while client.line()? != joined {}
        Ok(client)
    }

    /// Says its lines, and listens until so many were said in the room.
    fn talk(&mut self, lines: usize) -> io::Result<()> {
        for number in 0..LINES {
            let line = format!("line {number}\n");
            self.stream.get_mut().write_all(line.as_bytes())?;
        }
        let mut heard = 0;
        while heard < lines {
            heard += usize::from(self.line()?.starts_with('<'));
        }
        Ok(())
    }

    /// Says so much that who does not listen misses some, and listens itself.
    fn flood(&mut self) -> io::Result<()> {
        let lines = ("x".repeat(1000) + "\n").repeat(BURST);
        for _ in 0..FLOOD / lines.len() {
            self.stream.get_mut().write_all(lines.as_bytes())?;
            for _ in 0..BURST {
                self.line()?;
            }
        }
        Ok(())
    }

    /// Listens until the goodbye, after which nothing may come.
    fn expect_goodbye(mut self) -> io::Result<()> {
        while self.line()? != GOODBYE {}
        let mut rest = String::new();
        self.stream.read_line(&mut rest)?;
        expect(rest.is_empty(), "nothing follows the goodbye")
    }

    /// The next line.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn expect(is_so: bool, what: &str) -> io::Result<()> {
    if is_so {
        return Ok(());
    }
    Err(io::Error::other(format!("it is not so that {what}")))
}
