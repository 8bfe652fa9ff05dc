//! A server in a process of its own: this program, executed again.
//!
//! Both talk in lines over the child's stdin and stdout. The child begins with
//! `ready ADDRESS`; then each line that it reads is answered with
//! `CPU_NANOSECONDS ENTERS`, the latter `-` if it does not count them. The end
//! of its stdin ends it, so that it never outlives its parent.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::unistd::alarm;

use crate::machine::cpu_time;

/// The first argument of a child; the server's name follows.
pub const SERVE: &str = "--serve";

/// A server that is not ready by then ends itself, in seconds.
const START: u32 = 30;

/// The name of the server that this process is to be, if it is a child.
pub fn asked_to_serve() -> Option<String> {
    let mut arguments = env::args().skip(1);
    arguments
        .next()
        .filter(|argument| argument == SERVE)
        .and_then(|_| arguments.next())
}

/// The child's end: where a server says that it is ready.
pub struct Control(());

impl Control {
    pub(super) fn new() -> Control {
        alarm::set(START);
        Control(())
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
                for line in io::stdin().lines() {
                    let answered = line.and_then(|_| {
                        let enters = enters()?;
                        let enters = enters.map_or("-".to_owned(), |count| count.to_string());
                        say(&format!("{} {enters}", cpu_time().as_nanos()))
                    });
                    if let Err(error) = answered {
                        eprintln!("echo server: {error}");
                        process::exit(1);
                    }
                }
                process::exit(0);
            })?;
        Ok(())
    }
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
    pub fn start(server: &str) -> io::Result<Process> {
        let mut child = Command::new(env::current_exe()?)
            .args([SERVE, server])
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

    /// Where it listens; it says so once.
    pub fn address(&mut self) -> io::Result<SocketAddr> {
        let line = self.answer()?;
        line.strip_prefix("ready ")
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| unexpected(&line))
    }

    pub fn usage(&mut self) -> io::Result<Usage> {
        self.questions.write_all(b"usage\n")?;
        let line = self.answer()?;
        let (cpu, enters) = line.split_once(' ').ok_or_else(|| unexpected(&line))?;
        Ok(Usage {
            cpu: Duration::from_nanos(cpu.parse().map_err(|_| unexpected(&line))?),
            enters: enters.parse().ok(),
        })
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!("the server has ended, {status}")));
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

fn unexpected(line: &str) -> io::Error {
    io::Error::other(format!("the server said '{line}'"))
}
