//! What each conversation of the soak does: its seed and its number decide all
//! of it but the timing.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

/// A small generator, splitmix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64, number: u64) -> Rng {
        let mut rng = Rng(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Whether one of so many in a hundred is drawn.
    pub fn percent(&mut self, chances: u64) -> bool {
        self.within(0..100) < chances
    }
}

/// Bytes until the content repeats: a prime, so that what is lost or swapped in
/// blocks shows.
const PERIOD: usize = 262_139;

/// The most bytes that are looked at at once.
pub const LONGEST: usize = 64 << 10;

/// What stands at `position` of every stream that begins at `offset`, and some
/// bytes from there on.
pub fn content(offset: u64, position: u64, length: usize) -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    let content = CONTENT.get_or_init(|| {
        let mut rng = Rng::new(0, 0);
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| rng.next() as u8).collect();
        bytes.extend_from_within(..LONGEST);
        bytes
    });
    let start = ((offset + position) % PERIOD as u64) as usize;
    &content[start..start + length.min(LONGEST)]
}

/// How a side receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// By `read` into a buffer of its own.
    Plain,
    /// By what `reader()` lends.
    Reader,
    /// By `reader()`, into a buffer of its own.
    Copied,
    /// By both in turns: a new reader for every other message.
    Mixed,
}

/// What limits each single wait of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    None,
    /// The socket's own timeouts.
    Socket(Duration),
    /// `time::timeout` around each call.
    Closure(Duration),
}

/// How one side behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub receive: Receive,
    pub limit: Limit,
    /// How often its green thread is cancelled and another one goes on for it.
    pub takeovers: u32,
    /// It takes its time before it receives.
    pub is_slow: bool,
    /// The most bytes that it sends or takes at once.
    pub chunk: usize,
}

impl Manner {
    fn new(rng: &mut Rng) -> Manner {
        let limit = Duration::from_micros(rng.within(100..2000));
        Manner {
            receive: match rng.within(0..10) {
                0..3 => Receive::Plain,
                3..6 => Receive::Reader,
                6 => Receive::Copied,
                _ => Receive::Mixed,
            },
            limit: match rng.within(0..10) {
                0 => Limit::Socket(limit),
                1 => Limit::Closure(limit),
                _ => Limit::None,
            },
            takeovers: if rng.percent(20) {
                rng.within(1..5) as u32
            } else {
                0
            },
            is_slow: rng.percent(10),
            chunk: match rng.within(0..4) {
                0 => rng.within(64..4096) as usize,
                _ => LONGEST,
            },
        }
    }
}

/// How a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The client closes when it has all answers.
    ClientCloses,
    /// The client ends its direction after its last request, and then reads.
    ClientHalfCloses,
    /// The server ends its direction after its last answer.
    ServerHalfCloses,
    /// The client goes away when it has sent so many bytes.
    ClientDrops(u64),
    /// As before, and its connection is reset.
    ClientResets(u64),
    /// The server goes away when it has sent so many bytes.
    ServerDrops(u64),
    /// The client's green thread is cancelled, and nobody goes on for it.
    ClientIsCancelled,
    /// The same of the server's.
    ServerIsCancelled,
}

impl Fate {
    /// Whether everything is said before it ends.
    pub fn is_peaceful(self) -> bool {
        matches!(
            self,
            Fate::ClientCloses | Fate::ClientHalfCloses | Fate::ServerHalfCloses
        )
    }
}

/// What a conversation does.
#[derive(Clone, Debug)]
pub struct Script {
    pub number: u64,
    /// TCP over the loopback, else a pair of Unix sockets.
    pub is_tcp: bool,
    /// The client asks on without waiting for the answers.
    pub is_pipelined: bool,
    /// The sockets have room for little that is to be sent.
    pub has_small_buffers: bool,
    pub client: Manner,
    pub server: Manner,
    pub fate: Fate,
    /// Where the content of requests and of answers begins.
    pub offsets: (u64, u64),
    pub messages: Messages,
}

/// Where each request and its answer end, counted in bytes from the first one.
#[derive(Clone)]
pub struct Messages(pub Vec<(u64, u64)>);

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (requests, answers) = self.0.last().copied().unwrap_or_default();
        let count = self.0.len();
        write!(f, "{count} of {requests} bytes, answers of {answers}")
    }
}

/// Most messages are small, as they are in the world.
fn length(rng: &mut Rng) -> u64 {
    match rng.within(0..100) {
        0..70 => 64,
        70..85 => rng.within(1..17),
        85..96 => rng.within(17..4096),
        96..99 => rng.within(4096..20_000),
        _ => rng.within(16_000..200_000),
    }
}

impl Script {
    pub fn new(seed: u64, number: u64) -> Script {
        let rng = &mut Rng::new(seed, number);
        let most = rng.within(1..200);
        let mut messages = Vec::new();
        let (mut request, mut answer) = (0, 0);
        for _ in 0..rng.within(0..most) + 1 {
            request += length(rng);
            answer += length(rng);
            messages.push((request, answer));
        }
        let fate = match rng.within(0..100) {
            0..50 => Fate::ClientCloses,
            50..60 => Fate::ClientHalfCloses,
            60..70 => Fate::ServerHalfCloses,
            70..76 => Fate::ClientDrops(rng.within(0..request)),
            76..82 => Fate::ClientResets(rng.within(0..request)),
            82..88 => Fate::ServerDrops(rng.within(0..answer)),
            88..94 => Fate::ClientIsCancelled,
            _ => Fate::ServerIsCancelled,
        };
        Script {
            number,
            is_tcp: rng.percent(60),
            is_pipelined: rng.percent(30) && fate != Fate::ClientIsCancelled,
            has_small_buffers: rng.percent(20),
            client: Manner::new(rng),
            server: Manner::new(rng),
            fate,
            offsets: (rng.within(0..PERIOD as u64), rng.within(0..PERIOD as u64)),
            messages: Messages(messages),
        }
    }
}
