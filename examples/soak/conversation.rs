//! A conversation of the soak: two sides of a connection, each of which knows
//! what the other has to say.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenring::io::{self, BufRead, ErrorKind, IoSlice, Read, Reader, Write};
use greenring::net::{Shutdown, TcpStream};
use greenring::sync::Event;
use greenring::time::{self, Duration};
use greenring::{Cancelled, thread};
use nix::sys::socket::{setsockopt, sockopt};

use super::script::{Fate, LONGEST, Limit, Manner, Receive, Rng, Script, content};

/// Why a side did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// Its script has it go away here.
    Cut,
    /// It was cancelled, and nobody went on for it.
    Cancelled,
    /// The other side has ended its direction.
    End,
    /// The connection is broken.
    Broken(io::Error),
    /// What arrived is not what was sent.
    Wrong(String),
}

pub type Outcome = Result<(), Stop>;

/// One direction of a conversation.
#[derive(Debug)]
struct Way {
    offset: u64,
    planned: u64,
    /// Where the sender goes away.
    cut: u64,
    /// Bytes that were sent, or may have been if the connection is broken.
    sent: Cell<u64>,
    received: Cell<u64>,
}

impl Way {
    fn new(offset: u64, planned: u64, cut: Option<u64>) -> Way {
        Way {
            offset,
            planned,
            cut: cut.unwrap_or(u64::MAX),
            sent: Cell::new(0),
            received: Cell::new(0),
        }
    }

    /// Compares what has arrived with what was to be sent, and counts it.
    fn take(&self, bytes: &[u8]) -> Result<usize, String> {
        let position = self.received.get();
        for (index, part) in bytes.chunks(LONGEST).enumerate() {
            let start = position + (index * LONGEST) as u64;
            let expected = content(self.offset, start, part.len());
            if part != expected {
                let mut pairs = part.iter().zip(expected);
                let first = pairs.position(|(is, should)| is != should);
                let first = first.expect("they differ");
                return Err(format!(
                    "byte {} is {} instead of {}; {} bytes arrived from {position} on",
                    start + first as u64,
                    part[first],
                    expected[first],
                    bytes.len()
                ));
            }
        }
        add(&self.received, bytes.len() as u64);
        Ok(bytes.len())
    }

    fn is_complete(&self) -> bool {
        self.sent.get() == self.planned && self.received.get() == self.planned
    }
}

/// What the soak counts.
#[derive(Debug, Default)]
pub struct Tally {
    pub conversations: Cell<u64>,
    /// Requests that were answered.
    pub requests: Cell<u64>,
    pub bytes: Cell<u64>,
    pub timeouts: Cell<u64>,
    pub cancels: Cell<u64>,
    /// Conversations that were broken off.
    pub broken_off: Cell<u64>,
}

pub fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

/// What both sides of a connection share.
#[derive(Debug)]
pub struct Conversation {
    pub script: Script,
    requests: Way,
    answers: Way,
    /// Requests of which the client has the answer, and those that the server
    /// has answered.
    asked: Cell<usize>,
    answered: Cell<usize>,
    server: RefCell<Option<Outcome>>,
    server_is_done: Event,
    rng: RefCell<Rng>,
    tally: Rc<Tally>,
}

impl Conversation {
    pub fn new(script: Script, seed: u64, tally: Rc<Tally>) -> Rc<Conversation> {
        let (requests, answers) = script.messages.0.last().copied().expect("one at least");
        let (client_cut, server_cut) = match script.fate {
            Fate::ClientDrops(at) | Fate::ClientResets(at) => (Some(at), None),
            Fate::ServerDrops(at) => (None, Some(at)),
            _ => (None, None),
        };
        Rc::new(Conversation {
            requests: Way::new(script.offsets.0, requests, client_cut),
            answers: Way::new(script.offsets.1, answers, server_cut),
            asked: Cell::new(0),
            answered: Cell::new(0),
            server: RefCell::new(None),
            server_is_done: Event::new(),
            rng: RefCell::new(Rng::new(!seed, script.number)),
            tally,
            script,
        })
    }

    /// Bytes that both sides have received until now.
    pub fn received(&self) -> u64 {
        self.requests.received.get() + self.answers.received.get()
    }

    /// The client's part, and the verdict on both.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub fn ask(self: &Rc<Self>, stream: TcpStream) -> Result<(), String> {
        let client = Side::new(self, stream, self.script.client);
        let resets = matches!(self.script.fate, Fate::ClientResets(_));
        let outcome = if self.script.is_pipelined {
            let asking = Rc::clone(&client);
            let asks = thread::spawn(move || {
                let outcome = asking.supervise(false, Side::ask_on);
                if outcome.is_err() {
                    // Who listens sees the end.
                    let _ = asking.stream.shutdown(Shutdown::Both);
                }
                outcome
            });
            let listens = client.supervise(false, Side::listen);
            asks.join().expect("it does not panic").and(listens)
        } else {
            let dies = self.script.fate == Fate::ClientIsCancelled;
            client.supervise(dies, Side::ask_and_listen)
        };
        if resets {
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&client.stream, sockopt::Linger, &linger).expect("SO_LINGER");
        }
        drop(client);
        self.server_is_done.wait();
        let server = self.server.take();
        let verdict = match &server {
            None => Err("the server's side has panicked".to_owned()),
            Some(server) => self.verdict(&outcome, server),
        };
        add(&self.tally.conversations, 1);
        add(&self.tally.requests, self.asked.get() as u64);
        add(&self.tally.bytes, self.received());
        if outcome.is_err() {
            add(&self.tally.broken_off, 1);
        }
        verdict
            .map_err(|wrong| format!("{wrong}\nclient {outcome:?}, server {server:?}\n{self:#?}"))
    }

    /// The server's part.
    pub fn answer(self: &Rc<Self>, stream: TcpStream) {
        struct Done<'a>(&'a Event);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        let _done = Done(&self.server_is_done);
        let server = Side::new(self, stream, self.script.server);
        let dies = self.script.fate == Fate::ServerIsCancelled;
        let outcome = server.supervise(dies, Side::serve);
        drop(server);
        *self.server.borrow_mut() = Some(outcome);
    }

    /// What must be so when both sides have ended.
    fn verdict(&self, client: &Outcome, server: &Outcome) -> Result<(), String> {
        let Conversation {
            requests, answers, ..
        } = self;
        for (name, way) in [("request", requests), ("answer", answers)] {
            let (sent, received) = (way.sent.get(), way.received.get());
            if received > sent || sent > way.planned {
                return Err(format!("{received} bytes of {name}s received, {sent} sent"));
            }
        }
        for outcome in [client, server] {
            match outcome {
                Err(Stop::Wrong(text)) => return Err(text.clone()),
                Err(Stop::Broken(error))
                    if !matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ) =>
                {
                    return Err(format!("an unexpected error: {error}"));
                }
                _ => {}
            }
        }
        let is_exact = |way: &Way, at: u64| way.sent.get() == at && way.received.get() == at;
        let is_well = match self.script.fate {
            fate if fate.is_peaceful() => {
                client.is_ok() && server.is_ok() && requests.is_complete() && answers.is_complete()
            }
            // Nothing was under way but what was cut, so all of that arrives,
            // and then the end.
            Fate::ClientDrops(at) if !self.script.is_pipelined => {
                matches!((client, server), (Err(Stop::Cut), Err(Stop::End)))
                    && is_exact(requests, at)
            }
            Fate::ServerDrops(at) if !self.script.is_pipelined => {
                matches!((client, server), (Err(Stop::End), Err(Stop::Cut)))
                    && is_exact(answers, at)
            }
            Fate::ClientDrops(_) | Fate::ClientResets(_) => client.is_err() && server.is_err(),
            Fate::ServerDrops(_) => client.is_err() && matches!(server, Err(Stop::Cut)),
            // Whether the cancel came before the end is a matter of timing.
            _ => true,
        };
        is_well
            .then_some(())
            .ok_or_else(|| "it did not end as its script says".to_owned())
    }
}

/// One side of a connection.
struct Side {
    talk: Rc<Conversation>,
    stream: TcpStream,
    manner: Manner,
    /// It has ended its direction.
    has_shut: Cell<bool>,
}

/// Where a side's bytes come from at present.
enum Source<'a> {
    Plain(Vec<u8>),
    Reader(Reader<'a>),
    Copied(Reader<'a>, Vec<u8>),
}

impl Side {
    fn new(talk: &Rc<Conversation>, stream: TcpStream, manner: Manner) -> Rc<Side> {
        if talk.script.has_small_buffers {
            // Not for what comes in: two full directions of TCP with little room
            // there drop each other's segments, and with them what they
            // acknowledge, until they try once in two minutes (Linux 6.18).
            setsockopt(&stream, sockopt::SndBuf, &(16 << 10)).expect("SO_SNDBUF");
        }
        if let Limit::Socket(limit) = manner.limit {
            stream.set_read_timeout(Some(limit)).expect("SO_RCVTIMEO");
            stream.set_write_timeout(Some(limit)).expect("SO_SNDTIMEO");
        }
        Rc::new(Side {
            talk: Rc::clone(talk),
            stream,
            manner,
            has_shut: Cell::new(false),
        })
    }

    /// Runs one of the parts below. Its green thread is cancelled now and then,
    /// and another one goes on where that was; if it `dies`, at last none does.
    fn supervise(self: &Rc<Self>, dies: bool, part: fn(&Side) -> Outcome) -> Outcome {
        let mut cancels = self.manner.takeovers + u32::from(dies);
        while cancels > 0 {
            let side = Rc::clone(self);
            let worker = thread::spawn(move || part(&side));
            self.pause();
            worker.cancel();
            match worker.join() {
                Ok(outcome) => return outcome,
                Err(payload) if Cancelled::is(&*payload) => {
                    add(&self.talk.tally.cancels, 1);
                    cancels -= 1;
                }
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        if dies {
            return Err(Stop::Cancelled);
        }
        part(self)
    }

    /// Lets others run for a while.
    fn pause(&self) {
        let rng = &self.talk.rng;
        if rng.borrow_mut().percent(10) {
            let micros = rng.borrow_mut().within(10..2000);
            thread::sleep(Duration::from_micros(micros));
        } else {
            let yields = rng.borrow_mut().within(1..20);
            (0..yields).for_each(|_| thread::yield_now());
        }
    }

    // ----- the parts ---------------------------------------------------------

    fn ask_and_listen(&self) -> Outcome {
        let mut source = self.source(self.talk.asked.get());
        while let Some((request, answer)) = self.next(&self.talk.asked) {
            self.send(&self.talk.requests, request)?;
            self.receive(&self.talk.answers, &mut source, answer)?;
            self.has_done(&self.talk.asked, &mut source);
        }
        if self.talk.script.fate == Fate::ClientHalfCloses {
            self.shut()?;
        }
        self.hear_the_end(&mut source)
    }

    fn ask_on(&self) -> Outcome {
        self.send(&self.talk.requests, self.talk.requests.planned)?;
        if self.talk.script.fate == Fate::ClientHalfCloses {
            self.shut()?;
        }
        Ok(())
    }

    fn listen(&self) -> Outcome {
        let mut source = self.source(self.talk.asked.get());
        while let Some((_, answer)) = self.next(&self.talk.asked) {
            self.receive(&self.talk.answers, &mut source, answer)?;
            self.has_done(&self.talk.asked, &mut source);
        }
        self.hear_the_end(&mut source)
    }

    fn serve(&self) -> Outcome {
        let mut source = self.source(self.talk.answered.get());
        while let Some((request, answer)) = self.next(&self.talk.answered) {
            self.receive(&self.talk.requests, &mut source, request)?;
            self.send(&self.talk.answers, answer)?;
            self.has_done(&self.talk.answered, &mut source);
        }
        if self.talk.script.fate == Fate::ServerHalfCloses {
            self.shut()?;
        }
        expect_end(self.receive(&self.talk.requests, &mut source, u64::MAX))
    }

    /// Of the answers, where the server is the first to close.
    fn hear_the_end(&self, source: &mut Source<'_>) -> Outcome {
        match self.talk.script.fate {
            Fate::ClientHalfCloses | Fate::ServerHalfCloses => {
                expect_end(self.receive(&self.talk.answers, source, u64::MAX))
            }
            _ => Ok(()),
        }
    }

    // ----- what they consist of ------------------------------------------------

    /// Where the next request and its answer end.
    fn next(&self, done: &Cell<usize>) -> Option<(u64, u64)> {
        self.talk.script.messages.0.get(done.get()).copied()
    }

    fn has_done<'a>(&'a self, done: &Cell<usize>, source: &mut Source<'a>) {
        done.set(done.get() + 1);
        if self.manner.receive == Receive::Mixed {
            // The one before goes first: a stream has one reader.
            *source = Source::Plain(Vec::new());
            *source = self.source(done.get());
        }
    }

    fn source(&self, message: usize) -> Source<'_> {
        match self.manner.receive {
            Receive::Reader => Source::Reader(self.stream.reader()),
            Receive::Copied => Source::Copied(self.stream.reader(), Vec::new()),
            Receive::Mixed if message.is_multiple_of(2) => Source::Reader(self.stream.reader()),
            _ => Source::Plain(Vec::new()),
        }
    }

    fn shut(&self) -> Outcome {
        if !self.has_shut.replace(true) {
            let shut = self.stream.shutdown(Shutdown::Write);
            return shut.map_err(Stop::Broken);
        }
        Ok(())
    }

    /// Sends up to this position.
    fn send(&self, way: &Way, end: u64) -> Outcome {
        // A write of all that ends early does not tell how much was sent.
        let is_calm = self.manner.limit == Limit::None
            && self.manner.takeovers == 0
            && self.talk.script.fate.is_peaceful();
        loop {
            let sent = way.sent.get();
            if sent == end {
                return Ok(());
            }
            if sent == way.cut {
                return Err(Stop::Cut);
            }
            let most = (end.min(way.cut) - sent).min(self.manner.chunk as u64);
            let bytes = content(way.offset, sent, most as usize);
            let mut stream = &self.stream;
            self.limited(|| {
                let count = if is_calm {
                    stream.write_all(bytes)?;
                    bytes.len()
                } else if sent.is_multiple_of(3) {
                    let (first, second) = bytes.split_at(bytes.len() / 2);
                    stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])?
                } else {
                    stream.write(bytes)?
                };
                add(&way.sent, count as u64);
                if count == 0 {
                    return Err(io::Error::from(ErrorKind::WriteZero));
                }
                Ok(())
            })
            .map_err(Stop::Broken)?;
        }
    }

    /// Receives up to this position, and perhaps what follows.
    fn receive(&self, way: &Way, source: &mut Source<'_>, end: u64) -> Outcome {
        while way.received.get() < end {
            if self.manner.is_slow {
                self.pause();
            }
            let mut arrived = Ok(1);
            self.limited(|| {
                let (mut stream, most) = (&self.stream, self.manner.chunk);
                // What was compared counts before anything else may wait.
                arrived = match source {
                    Source::Plain(buffer) => {
                        buffer.resize(most, 0);
                        let count = stream.read(buffer)?;
                        way.take(&buffer[..count])
                    }
                    Source::Copied(reader, buffer) => {
                        buffer.resize(most, 0);
                        let count = reader.read(buffer)?;
                        way.take(&buffer[..count])
                    }
                    Source::Reader(reader) => {
                        let bytes = reader.fill_buf()?;
                        let taken = way.take(&bytes[..bytes.len().min(most)]);
                        reader.consume(*taken.as_ref().unwrap_or(&0));
                        taken
                    }
                };
                Ok(())
            })
            .map_err(Stop::Broken)?;
            match arrived {
                Ok(0) => return Err(Stop::End),
                Ok(_) => {}
                Err(wrong) => return Err(Stop::Wrong(wrong)),
            }
        }
        Ok(())
    }

    /// Makes a call under the limit, over and over until it comes in time.
    fn limited(&self, mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        loop {
            let result = match self.manner.limit {
                Limit::None => return call(),
                Limit::Socket(_) => call(),
                Limit::Closure(limit) => time::timeout(limit, &mut call)
                    .unwrap_or_else(|_| Err(ErrorKind::WouldBlock.into())),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    add(&self.talk.tally.timeouts, 1);
                }
                other => return other,
            }
        }
    }
}

fn expect_end(outcome: Outcome) -> Outcome {
    match outcome {
        Err(Stop::End) => Ok(()),
        other => other,
    }
}
