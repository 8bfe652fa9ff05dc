//! A soak: very many conversations over TCP and Unix sockets, each byte of which
//! is known, with everything that may happen to a connection.
//!
//! ```text
//! cargo run --release --example soak                              # 100 000 requests
//! cargo run --release --example soak -- --requests 10000000      # five minutes
//! cargo run --release --example soak -- --seed 7 --connections 200
//! ```
//!
//! Both sides live on one hub. They receive by `read` and by `reader()`, in turns
//! too; they ask one by one or on and on; they are slow, have small buffers, time
//! limits of a millisecond, and are cancelled while another green thread goes on in
//! their place. They close, close one direction, go away in the middle of a message
//! or reset the connection. What arrives is compared with what was sent, and at the
//! end all descriptors, operations, green threads, readers, buffers, deadlines and
//! the memory have to be back.
//!
//! A seed, which is printed, decides what each conversation does, but not when.
//!
//! Shares of the requests go through rings of 4 entries, once with 2 buffers for all
//! readers, and through epoll.

#[path = "soak/conversation.rs"]
mod conversation;
#[path = "soak/crowd.rs"]
mod crowd;
#[path = "soak/script.rs"]
mod script;

use std::process::ExitCode;
use std::rc::Rc;

use greenring::runtime::{self, Backend, Builder};
use greenring::time::{Instant, SystemTime, UNIX_EPOCH};

use conversation::Tally;
use crowd::{Plan, resident_bytes};

/// Hubs that are tried: a name, what they are like, and their share of the
/// requests in percent.
const HUBS: [(&str, Backend, u32, u16, u64); 4] = [
    ("io_uring", Backend::Uring, 512, 1024, 50),
    ("io_uring, 4 entries", Backend::Uring, 4, 1024, 10),
    ("io_uring, 4 entries, 2 buffers", Backend::Uring, 4, 2, 20),
    ("epoll", Backend::Epoll, 512, 1024, 20),
];

/// Percent of the requests that a first hub like each of these serves, after which
/// memory is looked at.
const WARM_UP: u64 = 5;

/// Bytes of memory that the allocator may have kept for itself.
const SLACK: usize = 16 << 20;

struct Arguments {
    requests: u64,
    seed: u64,
    connections: usize,
}

impl Arguments {
    fn read() -> Result<Arguments, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut read = Arguments {
            requests: 100_000,
            seed: now.map_or(0, |now| now.as_nanos() as u64),
            connections: 256,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let number = arguments.next().and_then(|value| value.parse().ok());
            let number = number.ok_or_else(|| format!("{name} needs a number"))?;
            match name.as_str() {
                "--requests" => read.requests = number,
                "--seed" => read.seed = number,
                "--connections" => read.connections = number.clamp(1, 10_000) as usize,
                _ => {
                    let known = "--requests, --seed, --connections";
                    return Err(format!("{name} is not known; known: {known}"));
                }
            }
        }
        Ok(read)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Arguments {
        requests,
        seed,
        connections,
    } = arguments;
    println!("soak: --requests {requests} --seed {seed} --connections {connections}");
    let mut first = 0;
    for (name, backend, entries, buffers, share) in HUBS {
        let builder = Builder::new().backend(backend);
        let builder = builder.ring_entries(entries).reader_buffers(buffers);
        let requests = requests * share / 100;
        let mut soak = |requests| {
            builder.clone().run(|| {
                let tally = Rc::new(Tally::default());
                let plan = Plan {
                    seed,
                    first,
                    requests,
                    connections,
                };
                first = crowd::run(plan, &tally)?;
                Ok::<_, greenring::io::Error>((tally, runtime::stats(), resident_bytes()))
            })
        };
        let warm_up = soak(requests * WARM_UP / 100);
        let begin = Instant::now();
        let before = resident_bytes();
        match warm_up
            .and_then(|warm_up| warm_up)
            .and_then(|_| soak(requests)?)
        {
            Ok((tally, stats, resident)) => {
                println!("{name}: {tally}, in {:.1?}\n{stats}", begin.elapsed());
                let after = resident_bytes();
                println!(
                    "memory: {} kB before, {} kB at the end, {} kB after it\n",
                    before >> 10,
                    resident >> 10,
                    after >> 10
                );
                assert!(after <= before + SLACK, "the memory has grown");
            }
            Err(error) if backend == Backend::Uring => println!("{name}: skipped, {error}\n"),
            Err(error) => {
                eprintln!("soak: {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
