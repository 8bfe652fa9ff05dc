//! A server, or the generator of its load, in a process of its own: this
//! program, executed again.
//!
//! Both ends talk in lines over the child's stdin and stdout. The child begins
//! with `ready` and, if it is a server, where it listens; then it answers each
//! line that it reads. The end of its stdin ends it, so that it never outlives its parent.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::alarm;

use super::generator::{Generator, Outcome};
use super::load::Load;
use crate::machine::cpu_time;

/// The first argument of a server; its name and the load follow.
const SERVE: &str = "--serve";

/// The first argument of a generator; the server's address and the load follow.
const GENERATE: &str = "--generate";

/// A server that is not ready by then ends itself, in seconds.
const START: u32 = 30;

/// What this process is to be, if it is a child.
pub enum Part {
    Serve(String, Control),
    Generate(SocketAddr, Load),
}

impl Part {
    /// Reads the arguments of the process.
    pub fn read() -> Result<Option<Part>, String> {
        let arguments: Vec<String> = env::args().skip(1).collect();
        match &arguments[..] {
            [part, name, load] if part == SERVE => {
                alarm::set(START);
                let load = load.parse()?;
                Ok(Some(Part::Serve(name.clone(), Control { load })))
            }
            [part, address, load] if part == GENERATE => {
                let address = address
                    .parse()
                    .map_err(|_| format!("{address}: no address"))?;
                Ok(Some(Part::Generate(address, load.parse()?)))
            }
            _ => Ok(None),
        }
    }
}

/// A server's end: what it is to bear, and where it says that it is ready.
pub struct Control {
    load: Load,
}

impl Control {
    pub fn load(&self) -> Load {
        self.load
    }

    /// Tells the parent where the server listens. From now on an OS thread
    /// answers its questions; `enters` counts the system calls that waited or
    /// handed operations over.
    pub fn listening(
        self,
        address: SocketAddr,
        mut enters: impl FnMut() -> io::Result<Option<u64>> + Send + 'static,
    ) -> io::Result<()> {
        alarm::cancel();
        say(&format!("ready {address}"))?;
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                answer_all(|_| {
                    let enters = enters()?;
                    let enters = enters.map_or("-".to_owned(), |count| count.to_string());
                    Ok(format!("{} {enters}", cpu_time().as_nanos()))
                })
            })?;
        Ok(())
    }
}

/// The generator's whole life.
pub fn generate(address: SocketAddr, load: Load) -> io::Result<()> {
    let mut generator = Generator::connect(address, load)?;
    say("ready")?;
    answer_all(|line| {
        let nanoseconds = line.parse().map_err(io::Error::other)?;
        let outcome = generator.run(Duration::from_nanos(nanoseconds))?;
        let [p50, p99, p999] = outcome.latency;
        Ok(format!(
            "{} {} {} {} {p50} {p99} {p999}",
            outcome.requests,
            outcome.errors,
            outcome.cpu.as_nanos(),
            outcome.elapsed.as_nanos()
        ))
    })
}

/// Answers the parent's lines until there are no more, then ends the process.
fn answer_all(mut answer: impl FnMut(&str) -> io::Result<String>) -> ! {
    for line in io::stdin().lines() {
        let answered = line.and_then(|line| say(&answer(&line)?));
        if let Err(error) = answered {
            eprintln!("echo: {error}");
            process::exit(1);
        }
    }
    process::exit(0);
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// The parent's end. Dropping it ends the child.
pub struct Process {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a server has used since its start.
pub struct Usage {
    pub cpu: Duration,
    pub enters: Option<u64>,
}

impl Process {
    /// A server for such a load, and where it listens.
    pub fn serve(server: &str, load: Load) -> io::Result<(Process, SocketAddr)> {
        let mut process = Process::start(&[SERVE, server, &load.to_string()])?;
        let line = process.answer()?;
        let address = line
            .strip_prefix("ready ")
            .and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| unexpected(&line))?;
        Ok((process, address))
    }

    /// A generator whose connections are open and warm.
    pub fn generate(address: SocketAddr, load: Load) -> io::Result<Process> {
        let mut process = Process::start(&[GENERATE, &address.to_string(), &load.to_string()])?;
        match process.answer()? {
            line if line == "ready" => Ok(process),
            line => Err(unexpected(&line)),
        }
    }

    fn start(arguments: &[&str]) -> io::Result<Process> {
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().expect("a pipe was asked for");
        let answers = child.stdout.take().expect("a pipe was asked for");
        Ok(Process {
            child,
            questions,
            answers: BufReader::new(answers),
        })
    }

    /// What the server has used.
    pub fn usage(&mut self) -> io::Result<Usage> {
        self.questions.write_all(b"usage\n")?;
        let line = self.answer()?;
        let (cpu, enters) = line.split_once(' ').ok_or_else(|| unexpected(&line))?;
        Ok(Usage {
            cpu: Duration::from_nanos(parse(Some(cpu), &line)?),
            enters: enters.parse().ok(),
        })
    }

    /// Lets the generator run.
    pub fn run(&mut self, duration: Duration) -> io::Result<Outcome> {
        writeln!(self.questions, "{}", duration.as_nanos())?;
        let line = self.answer()?;
        let mut parts = line.split(' ');
        Ok(Outcome {
            requests: parse(parts.next(), &line)?,
            errors: parse(parts.next(), &line)?,
            cpu: Duration::from_nanos(parse(parts.next(), &line)?),
            elapsed: Duration::from_nanos(parse(parts.next(), &line)?),
            latency: [
                parse(parts.next(), &line)?,
                parse(parts.next(), &line)?,
                parse(parts.next(), &line)?,
            ],
        })
    }

    /// Bytes of the child's resident memory.
    pub fn resident(&self) -> io::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(parse::<u64>(kibibytes, &text)? * 1024)
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!("the child has ended, {status}")));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither can fail but for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse<T: FromStr>(part: Option<&str>, line: &str) -> io::Result<T> {
    let parsed = part.and_then(|part| part.parse().ok());
    parsed.ok_or_else(|| unexpected(line))
}

fn unexpected(line: &str) -> io::Error {
    io::Error::other(format!("the child said '{line}'"))
}
