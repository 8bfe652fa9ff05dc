//! A pipeline: letters are written, sorted, stamped and delivered, by stages
//! with channels between them.
//!
//! ```text
//! cargo run --release --example pipeline
//! cargo run --release --example pipeline -- --seconds 60   # or until Ctrl-C
//!
//!   express  ──8──┐
//!                 ├── sort ──[ express first, 64 ]── stamp ──16── deliver
//!   standard ──8──┘                                  stamp
//! ```
//!
//! What it shows:
//!
//! - Stages that wait for one of several things, by `select!`.
//! - Back-pressure: every queue has a bound, so the slowest stage, stamping, sets
//!   the pace of all. The table shows the queues before it full.
//! - Priorities: express letters overtake the others in a `PriorityQueue`.
//! - Computing on OS threads, which share channels and queues with the green
//!   threads and need no hub.
//! - An end from the front to the back: when the writers stop, each stage
//!   finishes what it has and then sees that nothing more will come.

#[path = "pipeline/letter.rs"]
mod letter;
#[path = "pipeline/report.rs"]
mod report;

use std::process::ExitCode;

use greenring::io;
use greenring::sync::channel::{self, Receiver, Sender};
use greenring::sync::{Arc, Event, PriorityQueue, Semaphore};
use greenring::time::{Duration, Instant};
use greenring::{runtime, select, signal, thread};

use letter::{Class, Letter, Stamped};
use report::{Depths, Table, Totals};

const HELP: &str = "\
Writes, sorts, stamps and delivers letters, until the time is up or Ctrl-C.

  --seconds N    1 to 86400 (3)
  --help         this text
";

/// Letters that wait to be sorted, of each class.
const WRITTEN: usize = 8;
/// Letters that wait to be stamped.
const SORTED: usize = 64;
/// Letters that wait to be delivered.
const STAMPED: usize = 16;
/// An express letter is written so often; the others whenever there is room.
const EXPRESS: Duration = Duration::from_millis(5);
/// The time between two rows of the table.
const ROW: Duration = Duration::from_millis(500);

// ----- writing -------------------------------------------------------------

/// Writes letters as fast as the next stage takes them; returns how many.
fn write_standard(out: Sender<Letter>, stop: &Event) -> u64 {
    let mut written = 0;
    loop {
        select! {
            // The letter is written only when there is room for it: whoever
            // waits here has not yet used anything up, and loses nothing.
            send(&out, Letter::write(Class::Standard, written)) -> sent => {
                sent.expect("the sorter receives until the writers have gone");
                written += 1;
            }
            wait(stop) => return written,
        }
    }
}

/// Writes a letter from time to time; returns how many.
fn write_express(out: Sender<Letter>, stop: &Event) -> u64 {
    let mut written = 0;
    // Two things to wait for, but no `select!`: waiting with a timeout does it.
    while !stop.wait_timeout(EXPRESS) {
        let sent = out.send(Letter::write(Class::Express, written));
        sent.expect("the sorter receives until the writers have gone");
        written += 1;
    }
    written
}

// ----- sorting and stamping ------------------------------------------------

/// The queue between sorting and stamping. Everybody shares it, so nobody can
/// close it by dropping an end: a `None` says that nothing more will come. It is
/// less than every letter, so it comes out last.
struct Sorted {
    letters: PriorityQueue<Option<Letter>>,
    /// The queue has no bound of its own; these permits are its room.
    room: Semaphore,
}

impl Sorted {
    fn put(&self, letter: Letter) {
        self.room.acquire().forget();
        self.letters.push(Some(letter));
    }

    fn take(&self) -> Option<Letter> {
        let letter = self.letters.pop();
        self.room.add_permits(1);
        letter
    }
}

/// Moves letters of both classes into the one queue until both have ended.
fn sort(express: &Receiver<Letter>, standard: &Receiver<Letter>, sorted: &Sorted) {
    // A channel that has ended is always ready, to say so. So the loop is left
    // when the first has, and what is left is the other.
    let rest = loop {
        // Of several that are ready `select!` takes any: standard letters cannot
        // keep express ones out, nor the other way round.
        select! {
            recv(express) -> letter => match letter {
                Ok(letter) => sorted.put(letter),
                Err(_) => break standard,
            },
            recv(standard) -> letter => match letter {
                Ok(letter) => sorted.put(letter),
                Err(_) => break express,
            },
        }
    };
    rest.iter().for_each(|letter| sorted.put(letter));
}

/// Stamps letters until there are no more. It runs on an OS thread of its own,
/// because it computes: on the hub everybody else would wait for it.
fn stamp(sorted: &Sorted, out: &Sender<Stamped>) {
    while let Some(letter) = sorted.take() {
        let sent = out.send(letter.stamp());
        sent.expect("the deliverer receives until the stampers have gone");
    }
}

// ----- delivering ----------------------------------------------------------

/// Counts what comes, and prints a row from time to time.
fn deliver(stamped: &Receiver<Stamped>, depths: impl Fn() -> Depths) -> Totals {
    let mut totals = Totals::default();
    let mut table = Table::begin();
    let mut next_row = Instant::now() + ROW;
    loop {
        select! {
            recv(stamped) -> letter => match letter {
                Ok(letter) => totals.count(&letter),
                Err(_) => return totals,
            },
            timer(next_row.saturating_duration_since(Instant::now())) => {
                table.row(&depths(), &totals);
                next_row += ROW;
            }
        }
    }
}

// ----- the pipeline --------------------------------------------------------

/// Runs all stages for this time, or until Ctrl-C. An error if a letter was lost.
fn run(time: Duration) -> io::Result<()> {
    let (express_out, express) = channel::bounded(WRITTEN);
    let (standard_out, standard) = channel::bounded(WRITTEN);
    let (stamped_out, stamped) = channel::bounded(STAMPED);
    let stop = Event::new();
    // The stampers may outlive this function as far as the compiler knows, so
    // they share in the queue; the green threads borrow it, like all the rest.
    let sorted = Arc::new(Sorted {
        letters: PriorityQueue::new(),
        room: Semaphore::new(SORTED),
    });
    // One core is left to the green threads.
    let cores = thread::available_parallelism()?.get();
    let stampers: Vec<_> = (1..cores.max(2))
        .map(|_| {
            let (sorted, out) = (Arc::clone(&sorted), stamped_out.clone());
            std::thread::spawn(move || stamp(&sorted, &out))
        })
        .collect();
    // The clones are the stampers'. Without this one the channel ends with them.
    drop(stamped_out);
    let depths = || Depths {
        express: (express.len(), WRITTEN),
        standard: (standard.len(), WRITTEN),
        sorted: (sorted.letters.len(), SORTED),
        stamped: (stamped.len(), STAMPED),
    };

    let start = Instant::now();
    let (written, totals) = thread::scope(|scope| {
        let writers = [
            scope.spawn(|| write_express(express_out, &stop)),
            scope.spawn(|| write_standard(standard_out, &stop)),
        ];
        scope.spawn(|| {
            sort(&express, &standard, &sorted);
            stampers.iter().for_each(|_| sorted.letters.push(None));
        });
        let delivering = scope.spawn(|| deliver(&stamped, depths));

        let interrupt = thread::spawn(signal::ctrl_c);
        let result = select! {
            join(&interrupt) => interrupt.join().expect("waiting for a signal does not panic"),
            timer(time) => {
                interrupt.cancel();
                Ok(())
            }
        };
        // Whatever has come, the stages are to end, else the scope would not.
        stop.set();
        result?;
        let written = writers.map(|writer| writer.join().expect("the writers do not panic"));
        let totals = delivering.join().expect("the deliverer does not panic");
        io::Result::Ok((written, totals))
    })?;
    for stamper in stampers {
        // They have ended or are about to, so this holds the hub up for nothing
        // worth mentioning.
        stamper.join().expect("the stampers do not panic");
    }
    totals.print(start.elapsed());
    totals.check(written)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments
        .iter()
        .map(|text| text.to_string_lossy())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let seconds = match arguments[..] {
        ["--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        [] => Ok(3),
        ["--seconds", seconds] => match seconds.parse() {
            Ok(seconds @ 1..=86_400) => Ok(seconds),
            _ => Err("--seconds needs a number from 1 to 86400"),
        },
        _ => Err("these arguments are not known; --help says which are"),
    };
    let seconds = match seconds {
        Ok(seconds) => seconds,
        Err(sentence) => {
            eprintln!("pipeline: {sentence}");
            return ExitCode::from(2);
        }
    };
    let time = Duration::from_secs(seconds);
    match runtime::Builder::new().run(|| run(time)).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}
