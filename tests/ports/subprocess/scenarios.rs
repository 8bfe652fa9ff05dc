//! What the programs are asked; all are in any Unix.

use super::dialogue::Dialogue;
use super::sys::io::{self, BufRead, BufReader, Read, Write};
use super::sys::os::unix::process::ExitStatusExt;
use super::sys::process::{Command, ExitStatus, Stdio};
use super::sys::sync::mpsc;
use super::sys::thread;
use super::sys::time::Duration;

/// What the scenarios return, as text.
pub type Outcome = io::Result<Vec<String>>;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn show(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {signal:?}"),
    }
}

/// Twenty calculators, each asked fifty questions one after the other.
pub fn many_dialogues() -> Outcome {
    let askers: Vec<_> = (0..20)
        .map(|n| {
            thread::spawn(move || -> Outcome {
                let script = "while read -r a b; do echo $((a * b)); done; echo done >&2; exit 3";
                let mut calculator = Dialogue::start(&mut shell(script))?;
                let mut said = Vec::new();
                for question in 0..50 {
                    said.push(calculator.ask(&format!("{n} {question}"))?);
                }
                let (rest, status, errors) = calculator.finish()?;
                said.push(format!("{rest:?} {} {errors:?}", show(status)));
                Ok(said)
            })
        })
        .collect();
    let mut outcome = Vec::new();
    for asker in askers {
        outcome.push(asker.join().unwrap()?.join(" "));
    }
    Ok(outcome)
}

/// More in both directions than the pipes hold: one writes, one reads.
pub fn bulk_through_a_filter() -> Outcome {
    let mut child = Command::new("tr")
        .args(["a-z", "A-Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().expect("it is piped");
    let mut output = child.stdout.take().expect("it is piped");
    let text = "the quick brown fox\n".repeat(100_000);
    let expected = text.to_uppercase();
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let mut translated = String::new();
    output.read_to_string(&mut translated)?;
    writer.join().unwrap()?;
    let status = child.wait()?;
    Ok(vec![(translated == expected).to_string(), show(status)])
}

/// A pipeline of three programs, with us at both ends.
pub fn pipeline() -> Outcome {
    let mut sort = Command::new("sort")
        .arg("-n")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let sorted = sort.stdout.take().expect("it is piped");
    let mut head = Command::new("head")
        .args(["-n", "5"])
        .stdin(sorted)
        .stdout(Stdio::piped())
        .spawn()?;
    let first = head.stdout.take().expect("it is piped");
    let mut sed = Command::new("sed")
        .arg("s/^/number /")
        .stdin(first)
        .stdout(Stdio::piped())
        .spawn()?;
    let last = sed.stdout.take().expect("it is piped");

    let mut input = sort.stdin.take().expect("it is piped");
    for n in (0..2000).rev() {
        writeln!(input, "{n}")?;
    }
    drop(input);
    let mut outcome = BufReader::new(last)
        .lines()
        .collect::<io::Result<Vec<_>>>()?;
    for mut child in [head, sed] {
        outcome.push(show(child.wait()?));
    }
    // It may have been cut short by head, or have finished before.
    sort.wait()?;
    Ok(outcome)
}

/// A program that says nothing is not waited for longer than one wants, while
/// its sibling is answered.
pub fn silent_program() -> Outcome {
    let mut silent = Dialogue::start(&mut shell("echo ready; exec sleep 600"))?;
    let mut sibling = Dialogue::start(&mut Command::new("cat"))?;
    let mut outcome = vec![format!("{:?}", silent.hear())];
    let (timed_out, has_timed_out) = mpsc::channel();
    let waiter = thread::spawn(move || -> Outcome {
        let error = silent.hear_within(Duration::from_millis(50)).unwrap_err();
        timed_out.send(()).unwrap();
        let alive = silent.is_alive()?;
        silent.kill()?;
        let (rest, status, _) = silent.finish()?;
        Ok(vec![format!(
            "{:?}, alive: {alive}, {rest:?}, {}",
            error.kind(),
            show(status)
        )])
    });
    while has_timed_out.try_recv().is_err() {
        assert_eq!(sibling.ask("are you there?")?, "are you there?");
    }
    outcome.extend(waiter.join().unwrap()?);
    let (_, status, _) = sibling.finish()?;
    outcome.push(show(status));
    Ok(outcome)
}

/// How programs can end, and how they can fail to begin.
pub fn ends() -> Outcome {
    let mut outcome = Vec::new();
    for script in [
        "exit 0",
        "exit 42",
        "kill -TERM $$",
        "echo out; echo err >&2; exit 1",
    ] {
        let output = shell(script).output()?;
        let (out, err) = (output.stdout.escape_ascii(), output.stderr.escape_ascii());
        outcome.push(format!("{}, {out}, {err}", show(output.status)));
    }
    for mut command in [Command::new("/no/such/program"), Command::new("/")] {
        outcome.push(format!("{:?}", command.spawn().unwrap_err().kind()));
    }
    let mut nowhere = Command::new("true");
    outcome.push(format!(
        "{:?}",
        nowhere
            .current_dir("/no/such/directory")
            .status()
            .unwrap_err()
            .kind()
    ));

    // Who says nothing any more may still be spoken to.
    let mut deaf = Dialogue::start(&mut shell("exec 0<&-; echo deaf; read -r line < /dev/null"))?;
    outcome.push(format!("{:?}", deaf.hear()));
    let error = loop {
        if let Err(error) = deaf.say("hello?") {
            break error;
        }
    };
    outcome.push(format!("{:?}", error.kind()));
    let (_, status, _) = deaf.finish()?;
    outcome.push(show(status));
    Ok(outcome)
}

/// The surroundings that a program is given.
pub fn surroundings() -> Outcome {
    let output = shell("echo \"$GREETING $OTHER\"; pwd; wc -c")
        .env("GREETING", "hello")
        .env("OTHER", "nobody")
        .env_remove("OTHER")
        .current_dir("/usr")
        .stdin(Stdio::null())
        .output()?;
    let mut bare = Command::new("/usr/bin/env");
    let bare = bare.env_clear().env("ONLY", "this").output()?;
    Ok(vec![
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&bare.stdout).into_owned(),
    ])
}
