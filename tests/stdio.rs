//! Standard streams: what std's do, parked instead of blocked, whatever they
//! are open on. Each scenario runs in a child process, on each backend.

mod common;

use std::fmt;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use greenring::io::{self, BufRead, Read, Write};
use greenring::runtime::{Backend, Builder};
use greenring::thread;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// What begins and ends what a child says for its parent; the harness writes
/// around it.
const MARK: &str = "\u{1}";

/// A child process that runs `test` as `scenario`, with these streams.
struct Run {
    child: std::process::Child,
}

impl Run {
    fn start(test: &str, backend: Backend, stdin: Stdio, stdout: Stdio) -> Run {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                test,
                "--exact",
                "--nocapture",
                "--test-threads=1",
                "--quiet",
            ])
            .env("GREENRING_TEST_CHILD", "stdio")
            .env("GREENRING_BACKEND", backend.to_string())
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Run { child }
    }

    /// Waits for its good end, and gives what it wrote to standard error.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {stderr}");
        stderr
    }

    /// As [`end`](Run::end), and gives what it said on standard output.
    fn said(mut self) -> String {
        drop(self.child.stdin.take());
        let mut stdout = Vec::new();
        let mut pipe = self.child.stdout.take().unwrap();
        pipe.read_to_end(&mut stdout).unwrap();
        self.end();
        marked(&stdout)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands between the first mark and the last.
fn marked(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let between = text
        .split_once(MARK)
        .and_then(|(_, rest)| rest.rsplit_once(MARK));
    match between {
        Some((between, _)) => between.to_owned(),
        None => panic!("the child has not said it: {text:?}"),
    }
}

/// In the child: runs `body` on a hub and ends the process as a program does.
fn in_child(body: impl FnOnce()) -> bool {
    if !common::is_child("stdio") {
        return false;
    }
    common::end_after(60);
    Builder::new().run(body).unwrap();
    std::process::exit(0);
}

/// The backends that can be had.
fn backends() -> impl Iterator<Item = Backend> {
    [Backend::Uring, Backend::Epoll]
        .into_iter()
        .filter(|backend| common::is_available(*backend))
}

fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

/// A terminal's two ends: the one that is typed at, and the one for programs.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: two places for the descriptors; name, modes and size are not asked.
    let result = unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) };
    assert_eq!(result, 0, "openpty(3): {}", std::io::Error::last_os_error());
    for fd in [master, slave] {
        // SAFETY: takes plain values.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: openpty(3) has just made both.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

/// A private directory, gone at the end.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let name = format!("greenring-stdio-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What a process that was killed and had our id has left behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says `text` to the parent.
fn say(text: impl fmt::Display) {
    greenring::print!("{MARK}{text}{MARK}");
}

/// Echoes lines in capitals, while a sibling goes on.
fn echo_in_capitals() {
    let turns = thread::spawn(|| {
        for _ in 0..100 {
            thread::yield_now();
        }
    });
    greenring::print!("{MARK}");
    for line in io::stdin().lines() {
        greenring::println!("{}", line.unwrap().to_uppercase());
    }
    greenring::print!("{MARK}");
    turns.join().unwrap();
}

#[test]
fn lines_go_through_pipes() {
    if in_child(echo_in_capitals) {
        return;
    }
    for backend in backends() {
        let mut run = Run::start(
            "lines_go_through_pipes",
            backend,
            Stdio::piped(),
            Stdio::piped(),
        );
        let mut stdin = run.child.stdin.take().unwrap();
        stdin.write_all(b"one\ntw").unwrap();
        stdin.write_all(b"o\nthree").unwrap();
        drop(stdin);
        assert_eq!(run.said(), "ONE\nTWO\nTHREE\n");
    }
}

#[test]
fn lines_go_through_files() {
    if in_child(echo_in_capitals) {
        return;
    }
    for backend in backends() {
        let directory = Directory::new("files");
        let (from, to) = (directory.0.join("from"), directory.0.join("to"));
        let lines: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        fs::write(&from, &lines).unwrap();
        let run = Run::start(
            "lines_go_through_files",
            backend,
            File::open(&from).unwrap().into(),
            File::create(&to).unwrap().into(),
        );
        run.end();
        assert_eq!(marked(&fs::read(&to).unwrap()), lines.to_uppercase());
    }
}

#[test]
fn a_read_that_waits_stops_nobody() {
    let is_child = in_child(|| {
        let reads = thread::spawn(|| {
            let mut line = String::new();
            io::stdin().read_line(&mut line).map(|_| line)
        });
        thread::yield_now();
        // The parent answers this.
        greenring::println!("ready");
        say(reads.join().unwrap().unwrap());
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let mut run = Run::start(
            "a_read_that_waits_stops_nobody",
            backend,
            Stdio::piped(),
            Stdio::piped(),
        );
        let mut stdout = std::io::BufReader::new(run.child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready\n") {
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "{line}");
        }
        run.child
            .stdin
            .take()
            .unwrap()
            .write_all(b"answer\n")
            .unwrap();
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        assert_eq!(marked(&rest), "answer\n");
        run.end();
    }
}

#[test]
fn what_is_not_a_whole_line_is_written_at_the_end() {
    let is_child = in_child(|| {
        say("no end of line");
        greenring::print!("{MARK}");
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let run = Run::start(
            "what_is_not_a_whole_line_is_written_at_the_end",
            backend,
            Stdio::null(),
            Stdio::piped(),
        );
        assert_eq!(run.said(), format!("no end of line{MARK}"));
    }
}

#[test]
fn flags_that_others_have_set_stay_and_do_not_show() {
    let is_child = in_child(|| {
        let before = [flags(io::stdin()), flags(io::stdout()), flags(io::stderr())];
        let writes = thread::spawn(|| {
            // More than the pipe holds, so it waits for the parent.
            let text = "x".repeat(300_000);
            say(text);
            io::stdout().flush()
        });
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).unwrap();
        assert_eq!(text, "late");
        writes.join().unwrap().unwrap();
        greenring::eprintln!("done");
        assert_eq!(
            before,
            [flags(io::stdin()), flags(io::stdout()), flags(io::stderr())]
        );
        assert!(before[0].contains(OFlag::O_NONBLOCK));
        assert!(before[1].contains(OFlag::O_NONBLOCK));
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let (stdin, mut writer) = std::io::pipe().unwrap();
        let (mut reader, stdout) = std::io::pipe().unwrap();
        for end in [stdin.as_fd(), stdout.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        let test = "flags_that_others_have_set_stay_and_do_not_show";
        let run = Run::start(test, backend, stdin.into(), stdout.into());
        let mut head = [0; 10_000];
        reader.read_exact(&mut head).unwrap();
        writer.write_all(b"late").unwrap();
        drop(writer);
        let mut bytes = head.to_vec();
        reader.read_to_end(&mut bytes).unwrap();
        let text = run.end();
        assert_eq!(marked(&bytes).len(), 300_000);
        assert!(text.ends_with("done\n"), "{text}");
    }
}

#[test]
fn a_terminal_is_read_by_lines() {
    let is_child = in_child(|| {
        assert!(io::stdin().is_terminal() && io::stdout().lock().is_terminal());
        assert!(!io::stderr().is_terminal());
        echo_in_capitals();
        assert!(!flags(io::stdin()).contains(OFlag::O_NONBLOCK));
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let (master, slave) = terminal();
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        let run = Run::start(
            "a_terminal_is_read_by_lines",
            backend,
            end(&slave),
            end(&slave),
        );
        drop(slave);
        let mut terminal = File::from(master);
        let mut bytes = Vec::new();
        let mut until = |terminal: &mut File, text: &str| {
            while !String::from_utf8_lossy(&bytes).contains(text) {
                let mut buffer = [0; 1024];
                let n = terminal.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..n]);
            }
        };
        terminal.write_all(b"typed\n").unwrap();
        until(&mut terminal, "TYPED\r\n");
        // The character that ends the input.
        terminal.write_all(b"more\n\x04").unwrap();
        until(&mut terminal, &format!("MORE\r\n{MARK}"));
        run.end();
    }
}

#[test]
fn a_closed_stream_is_empty_and_swallows() {
    let is_child = in_child(|| {
        for fd in [0, 1] {
            // SAFETY: nobody in this child uses them but through io.
            assert_eq!(unsafe { libc::close(fd) }, 0);
        }
        let mut text = String::new();
        assert_eq!(io::stdin().read_to_string(&mut text).unwrap(), 0);
        greenring::println!("nobody hears this");
        io::stdout().write_all(&[b'x'; 100_000]).unwrap();
        io::stdout().flush().unwrap();
        greenring::eprint!("{MARK}end{MARK}");
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "a_closed_stream_is_empty_and_swallows";
        let run = Run::start(test, backend, Stdio::piped(), Stdio::null());
        assert_eq!(marked(run.end().as_bytes()), "end");
    }
}

#[test]
fn what_stands_behind_a_descriptor_may_change() {
    let is_child = in_child(|| {
        let (mut reader, writer) = io::pipe().unwrap();
        for n in 0..3 {
            // A device, then a pipe, then the device again.
            greenring::println!("{n} to nobody");
            let to_pipe = |text: &str| {
                // SAFETY: takes plain values.
                assert_eq!(unsafe { libc::dup2(writer.as_fd().as_raw_fd(), 1) }, 1);
                greenring::println!("{text}");
            };
            to_pipe("first");
            let null = File::options().write(true).open("/dev/null").unwrap();
            // SAFETY: takes plain values.
            assert_eq!(unsafe { libc::dup2(null.as_fd().as_raw_fd(), 1) }, 1);
        }
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        greenring::eprint!("{MARK}{text}{MARK}");
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "what_stands_behind_a_descriptor_may_change";
        let run = Run::start(test, backend, Stdio::null(), Stdio::null());
        assert_eq!(marked(run.end().as_bytes()), "first\nfirst\nfirst\n");
    }
}

/// Prints while it is printed.
struct Chatty;

impl fmt::Display for Chatty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        greenring::print!("aside, ");
        f.write_str("said")
    }
}

#[test]
fn what_is_printed_may_print_and_lines_stay_whole() {
    let is_child = in_child(|| {
        say(Chatty);
        greenring::print!("{MARK}");
        let stdout = io::stdout().lock();
        let printers: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                thread::spawn(move || {
                    let mut lock = io::stdout().lock();
                    for _ in 0..3 {
                        write!(lock, "{name}").unwrap();
                        thread::yield_now();
                    }
                    writeln!(lock).unwrap();
                })
            })
            .into();
        let elsewhere = std::thread::spawn(|| greenring::println!("an OS thread"));
        thread::yield_now();
        greenring::println!("the holder again");
        drop(stdout);
        for printer in printers {
            printer.join().unwrap();
        }
        elsewhere.join().unwrap();
        greenring::print!("{MARK}");
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "what_is_printed_may_print_and_lines_stay_whole";
        let said = Run::start(test, backend, Stdio::null(), Stdio::piped()).said();
        let (aside, lines) = said.split_once(&MARK.repeat(2)).unwrap();
        // What is formatted is formatted while the first mark is in the buffer.
        assert_eq!(aside, "aside, said");
        assert!(lines.starts_with("the holder again\n"), "{lines}");
        let mut lines: Vec<_> = lines.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["aaa", "an OS thread", "bbb", "ccc", "the holder again"]
        );
    }
}

#[test]
fn whoever_exits_does_not_wait_for_those_who_print() {
    let is_child = in_child(|| {
        say("begun");
        greenring::println!();
        thread::spawn(|| greenring::println!("{}", "x".repeat(1_000_000)));
        thread::yield_now();
        // The sibling has the lock and waits for room that nobody makes.
        thread::spawn(|| std::process::exit(0)).join().unwrap();
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "whoever_exits_does_not_wait_for_those_who_print";
        let mut run = Run::start(test, backend, Stdio::null(), Stdio::piped());
        assert!(run.child.wait().unwrap().success());
        assert_eq!(run.said(), "begun");
    }
}

#[test]
fn a_green_thread_that_exits_flushes_its_own_half_line() {
    let is_child = in_child(|| {
        let exits = thread::spawn(|| {
            let mut lock = io::stdout().lock();
            write!(lock, "{MARK}half a line{MARK}").unwrap();
            // It holds the lock.
            std::process::exit(0);
        });
        let _ = exits.join();
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "a_green_thread_that_exits_flushes_its_own_half_line";
        let said = Run::start(test, backend, Stdio::null(), Stdio::piped()).said();
        assert_eq!(said, "half a line");
    }
}

/// Prints when its OS thread ends.
struct LastWord;

impl Drop for LastWord {
    fn drop(&mut self) {
        greenring::println!("last word{MARK}");
    }
}

#[test]
fn the_last_words_do_not_wait_for_who_will_never_run() {
    std::thread_local! {
        static LAST: LastWord = const { LastWord };
    }
    if common::is_child("stdio") {
        // Used before the hub is, so it is destroyed after it.
        LAST.with(|_| ());
    }
    let is_child = in_child(|| {
        thread::spawn(|| {
            let lock = io::stdout().lock();
            greenring::print!("{MARK}held, ");
            thread::park();
            drop(lock);
        });
        thread::yield_now();
        std::process::exit(0);
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "the_last_words_do_not_wait_for_who_will_never_run";
        let said = Run::start(test, backend, Stdio::null(), Stdio::piped()).said();
        assert_eq!(said, "held, last word");
    }
}

#[test]
fn a_cancelled_printer_leaves_the_lock_and_what_it_printed() {
    let is_child = in_child(|| {
        let prints = thread::spawn(|| {
            for n in 0.. {
                greenring::println!("{MARK}{n}");
            }
        });
        // Until the pipe is full, and the printer waits for room in it.
        let waits_for_room = || {
            let snapshot = greenring::inspect::snapshot().to_string();
            snapshot.contains("waits for readiness")
        };
        while !waits_for_room() {
            thread::yield_now();
        }
        let waits = thread::spawn(|| greenring::println!("never"));
        thread::yield_now();
        waits.cancel();
        assert!(waits.join().is_err());
        prints.cancel();
        assert!(prints.join().is_err());
        // The parent reads after this.
        greenring::eprintln!("cancelled");
        greenring::println!("{MARK}after{MARK}");
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let test = "a_cancelled_printer_leaves_the_lock_and_what_it_printed";
        let mut run = Run::start(test, backend, Stdio::null(), Stdio::piped());
        let mut line = String::new();
        let mut stderr = std::io::BufReader::new(run.child.stderr.take().unwrap());
        while !line.ends_with("cancelled\n") {
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{line}");
        }
        run.child.stderr = Some(stderr.into_inner());
        let said = run.said();
        let (numbers, after) = said.rsplit_once(MARK).unwrap();
        assert_eq!(after, "after");
        // Every number came once and whole, but for the last: it may be cut.
        for (n, number) in numbers.split(MARK).enumerate() {
            assert_eq!(number, format!("{n}\n"));
        }
    }
}

#[test]
fn hubs_and_os_threads_share_the_streams() {
    let is_child = in_child(|| {
        let backend = greenring::runtime::backend();
        let reader = || {
            let mut lines = Vec::new();
            let mut line = String::new();
            while io::stdin().read_line(&mut line).unwrap() > 0 {
                lines.push(std::mem::take(&mut line));
                thread::yield_now();
            }
            lines
        };
        let elsewhere = std::thread::spawn(move || {
            let here = Builder::new().backend(backend);
            here.run(|| {
                let siblings: Vec<_> = (0..3).map(|_| thread::spawn(reader)).collect();
                siblings
                    .into_iter()
                    .flat_map(|sibling| sibling.join().unwrap())
                    .collect::<Vec<_>>()
            })
            .unwrap()
        });
        let plain = std::thread::spawn(reader);
        let mut lines = thread::spawn(reader).join().unwrap();
        lines.append(&mut elsewhere.join().unwrap());
        lines.append(&mut plain.join().unwrap());
        lines.sort_unstable();
        say(lines.concat());
    });
    if is_child {
        return;
    }
    let text: String = (0..3000).map(|n| format!("{n:04}\n")).collect();
    for backend in backends() {
        let test = "hubs_and_os_threads_share_the_streams";
        let mut run = Run::start(test, backend, Stdio::piped(), Stdio::piped());
        run.child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert_eq!(run.said(), text);
    }
}

#[test]
fn a_terminal_that_nobody_reads_stops_nobody() {
    let is_child = in_child(|| {
        let prints = thread::spawn(|| say("y".repeat(100_000)));
        for _ in 0..1000 {
            thread::yield_now();
        }
        // The parent reads the terminal after this.
        greenring::eprintln!("still here");
        prints.join().unwrap();
    });
    if is_child {
        return;
    }
    for backend in backends() {
        let (master, slave) = terminal();
        let test = "a_terminal_that_nobody_reads_stops_nobody";
        let mut run = Run::start(test, backend, Stdio::null(), slave.into());
        let mut line = String::new();
        let mut stderr = std::io::BufReader::new(run.child.stderr.take().unwrap());
        while !line.ends_with("still here\n") {
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{line}");
        }
        run.child.stderr = Some(stderr.into_inner());
        let mut bytes = Vec::new();
        // A terminal that nobody has open any more fails with EIO.
        let _ = File::from(master).read_to_end(&mut bytes);
        run.end();
        assert_eq!(marked(&bytes).len(), 100_000);
    }
}
