//! A crowd of clients and the server that they talk to, on one hub.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use greenring::io::{self, Read, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::os::fd::OwnedFd;
use greenring::runtime::{self, Stats};
use greenring::time::{Duration, Instant};
use greenring::{inspect, thread};

use super::conversation::{Conversation, Tally};
use super::script::Script;

/// How long it may take until what was let go of is back.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing may be received before that is taken for the end.
const SILENCE: Duration = Duration::from_secs(60);

/// What a crowd is to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The number of the first conversation.
    pub first: u64,
    /// Conversations begin until so many requests were answered.
    pub requests: u64,
    /// Conversations at a time.
    pub connections: usize,
}

/// The clients' side of the crowd.
struct Crowd {
    plan: Plan,
    address: SocketAddr,
    next: Cell<u64>,
    tally: Rc<Tally>,
    /// Conversations that have not ended.
    open: RefCell<HashMap<u64, Rc<Conversation>>>,
}

impl Crowd {
    /// Says each minute how far the crowd is, and ends the process if it stands still.
    fn watch(&self) {
        let moved = || {
            let open = self.open.borrow();
            let open = open.values().map(|conversation| conversation.received());
            self.tally.bytes.get() + open.sum::<u64>()
        };
        loop {
            let before = moved();
            thread::sleep(SILENCE);
            if moved() == before {
                inspect::print();
                for conversation in self.open.borrow().values() {
                    eprintln!("{conversation:#?}");
                }
                eprintln!("soak: nothing was received for {SILENCE:?}: {}", self.tally);
                std::process::exit(1);
            }
            println!("soak: {}", self.tally);
        }
    }

    /// One conversation after the other.
    fn talk(&self) {
        while self.tally.requests.get() < self.plan.requests {
            let number = self.next.replace(self.next.get() + 1);
            let script = Script::new(self.plan.seed, number);
            let is_tcp = script.is_tcp;
            let conversation = Conversation::new(script, self.plan.seed, Rc::clone(&self.tally));
            let open = Rc::clone(&conversation);
            self.open.borrow_mut().insert(number, open);
            let stream = if is_tcp {
                self.connect(number)
            } else {
                let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
                let server = Rc::clone(&conversation);
                // The faces of streams do not look at the family.
                let far = TcpStream::from(OwnedFd::from(far));
                thread::spawn(move || server.answer(far));
                TcpStream::from(OwnedFd::from(near))
            };
            let verdict = conversation.ask(stream);
            self.open.borrow_mut().remove(&number);
            if let Err(wrong) = verdict {
                let seed = self.plan.seed;
                panic!("seed {seed}, conversation {number}: {wrong}");
            }
        }
    }

    fn connect(&self, number: u64) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.write_all(&number.to_le_bytes()).expect("a number");
        stream
    }

    fn serve(self: &Rc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let crowd = Rc::clone(self);
            thread::spawn(move || {
                let mut number = [0; 8];
                stream.read_exact(&mut number).expect("a number");
                stream.set_nodelay(true).expect("TCP_NODELAY");
                let number = u64::from_le_bytes(number);
                let conversation = crowd.open.borrow().get(&number).map(Rc::clone);
                conversation.expect("a number of ours").answer(stream);
            });
        }
    }
}

/// Has a crowd talk on the calling OS thread's hub, and sees to it that nothing is
/// left of it. Gives the number that the next conversation would have.
///
/// # Panics
///
/// A conversation has not gone as its script says, or something is left.
pub fn run(plan: Plan, tally: &Rc<Tally>) -> io::Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let crowd = Rc::new(Crowd {
        plan,
        address: listener.local_addr()?,
        next: Cell::new(plan.first),
        tally: Rc::clone(tally),
        open: RefCell::default(),
    });
    let before = Holdings::now();
    let serving = Rc::clone(&crowd);
    let server = thread::spawn(move || serving.serve(&listener));
    let watching = Rc::clone(&crowd);
    let watch = thread::spawn(move || watching.watch());
    let clients = (0..plan.connections).map(|_| {
        let crowd = Rc::clone(&crowd);
        thread::spawn(move || crowd.talk())
    });
    for client in thread::join_all(clients) {
        client.expect("the conversations are as they should be");
    }
    for helper in [server, watch] {
        helper.cancel();
        assert!(helper.join().is_err(), "it was cancelled");
    }
    let deadline = Instant::now() + PATIENCE;
    // The listener is closed by now.
    let expected = Holdings {
        descriptors: before.descriptors - 1,
        ..before
    };
    while Holdings::now() != expected {
        let now = Holdings::now();
        assert!(
            Instant::now() < deadline,
            "{now:?} are left, {expected:?} are expected\n{}",
            greenring::inspect::snapshot()
        );
        thread::sleep(Duration::from_millis(1));
    }
    Ok(crowd.next.get())
}

/// What must not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    in_flight: usize,
    green_threads: usize,
    readers: usize,
    buffers_lent: usize,
    timers: usize,
}

impl Holdings {
    fn now() -> Holdings {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs").count();
        let Stats {
            in_flight,
            live,
            readers,
            buffers_lent,
            timers_armed,
            ..
        } = runtime::stats();
        Holdings {
            descriptors,
            in_flight,
            green_threads: live,
            readers,
            buffers_lent,
            timers: timers_armed,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests in {} conversations, {} MB; {} broken off, {} cancels, {} timeouts",
            self.requests.get(),
            self.conversations.get(),
            self.bytes.get() / 1_000_000,
            self.broken_off.get(),
            self.cancels.get(),
            self.timeouts.get()
        )
    }
}

/// Resident memory of the process in bytes.
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("statm has a second field");
    pages * 4096
}
