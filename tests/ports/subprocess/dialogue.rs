//! A program that is spoken to line by line.

use super::sys::io::{self, BufRead, BufReader, Read, Write};
use super::sys::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use super::sys::sync::mpsc::{self, Receiver, RecvTimeoutError};
use super::sys::thread::{self, JoinHandle};
use super::sys::time::Duration;

pub struct Dialogue {
    child: Child,
    /// None after we have said everything.
    input: Option<ChildStdin>,
    /// A pipe has no time limits; a channel has.
    lines: Receiver<String>,
    errors: JoinHandle<io::Result<String>>,
}

impl Dialogue {
    pub fn start(command: &mut Command) -> io::Result<Dialogue> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("it is piped");
        let mut errors = child.stderr.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        // Nobody waits for the program that waits for a reader of its errors.
        let errors = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text)?;
            Ok(text)
        });
        Ok(Dialogue {
            child,
            input,
            lines,
            errors,
        })
    }

    pub fn say(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line; `None` after the last.
    pub fn hear(&self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// As [`hear`](Dialogue::hear), for so long; fails with `TimedOut`.
    pub fn hear_within(&self, patience: Duration) -> io::Result<Option<String>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub fn ask(&mut self, line: &str) -> io::Result<String> {
        self.say(line)?;
        self.hear()
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub fn is_alive(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Says nothing more; returns the lines that were left, how the program
    /// ended, and its complaints.
    pub fn finish(mut self) -> io::Result<(Vec<String>, ExitStatus, String)> {
        self.input = None;
        let rest = self.lines.iter().collect();
        let status = self.child.wait()?;
        let errors = self.errors.join().expect("reading does not panic")?;
        Ok((rest, status, errors))
    }
}
