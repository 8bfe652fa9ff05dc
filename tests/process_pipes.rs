//! What goes to children and comes back: pipes, inherited descriptors, output.

mod common;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use greenring::fs::File;
use greenring::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use greenring::time::timeout;
use greenring::{io, thread};

const MIB: usize = 1 << 20;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn cat() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')')
        .next()
        .unwrap()
        .trim_start()
        .starts_with('Z')
}

both_backends! {
    fn a_mebibyte_goes_through_cat_while_it_comes_back() {
        let mut child = cat();
        let mut stdin = child.stdin.take().unwrap();
        let writes = thread::spawn(move || stdin.write_all(&pattern(MIB)));
        let output = child.wait_with_output().unwrap();
        writes.join().unwrap().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == pattern(MIB));
    }

    fn two_children_echo_at_once() {
        let echo = |length: usize| thread::spawn(move || {
            let mut child = cat();
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            for round in 0..50 {
                let sent = vec![round; length];
                stdin.write_all(&sent).unwrap();
                let mut back = vec![0; length];
                stdout.read_exact(&mut back).unwrap();
                assert!(sent == back);
            }
            drop(stdin);
            assert!(child.wait().unwrap().success());
        });
        let pairs = [echo(1), echo(4096), echo(60_000)];
        for pair in pairs {
            pair.join().unwrap();
        }
    }

    fn full_pipes_on_both_streams_do_not_deadlock() {
        // Each stream alone is more than a pipe holds, in both orders.
        for (first, second) in [(1, 2), (2, 1)] {
            let script = format!(
                "head -c 300000 /dev/zero >&{first}; head -c 200000 /dev/zero >&{second}; \
                 head -c 100000 /dev/zero >&{first}; exit 9"
            );
            let output = sh(&script).output().unwrap();
            assert_eq!(output.status.code(), Some(9));
            let lengths = if first == 1 { (400_000, 200_000) } else { (200_000, 400_000) };
            assert_eq!((output.stdout.len(), output.stderr.len()), lengths);
        }
    }

    fn either_stream_may_be_piped_alone() {
        let script = "echo out; head -c 200000 /dev/zero >&2";
        let child = sh(script).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 200_000));
        let child = sh(script).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((&output.stdout[..], output.stderr.len()), (&b"out\n"[..], 0));
    }

    fn output_counts_only_what_was_not_taken() {
        let mut child = sh("echo out; echo err >&2")
            .stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b""[..], &b"err\n"[..]));
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        assert_eq!(text, "out\n");
    }

    fn output_gives_no_input_and_keeps_what_was_chosen() {
        let mut command = sh("cat; test $QUIET || { echo out; echo err >&2; }");
        let output = command.env_remove("QUIET").output().unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        command.env("QUIET", "yes").stderr(Stdio::null()).stdin(Stdio::piped());
        let child = command.spawn().unwrap();
        assert!(child.stdin.is_some() && child.stderr.is_none());
        assert!(child.stdout.is_none(), "output's choice is not spawn's");
        drop(child);
        for _ in 0..2 {
            let output = command.env_remove("QUIET").stdin(Stdio::piped()).output().unwrap();
            assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b""[..]));
        }
    }

    fn output_waits_for_a_grandchild_that_keeps_the_pipe() {
        let (gate, mut opens) = io::pipe().unwrap();
        let child = sh("exec 3<&0; (read x <&3; echo late) & echo early")
            .stdin(gate).stdout(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let waits = thread::spawn(move || child.wait_with_output());
        while !is_zombie(pid) {
            thread::yield_now();
        }
        assert!(!waits.is_finished(), "the end of the pipe is what it waits for");
        opens.write_all(b"now\n").unwrap();
        let output = waits.join().unwrap().unwrap();
        assert_eq!(output.stdout, b"early\nlate\n");
    }

    fn a_write_to_a_child_that_has_ended_is_a_broken_pipe() {
        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().unwrap();
        // More than the pipe holds: a child that another test is about to start
        // may have the other end until its execve(2).
        let error = stdin.write_all(&pattern(MIB)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    fn a_killed_child_ends_the_reads_and_writes_of_its_pipes() {
        let mut child = Command::new("sleep").arg("1000")
            .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let writes = thread::spawn(move || stdin.write_all(&pattern(MIB)));
        let reads = thread::spawn(move || stdout.read(&mut [0; 16]));
        thread::yield_now();
        assert!(!writes.is_finished() && !reads.is_finished());
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(reads.join().unwrap().unwrap(), 0);
        assert_eq!(writes.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    fn a_child_whose_reader_is_gone_ends_by_sigpipe() {
        let mut child = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGPIPE));
    }

    fn a_cancelled_output_closes_the_pipes_and_leaves_the_child() {
        let mut child = sh("echo ready; read x; exit 0");
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let pid = child.id();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let waits = thread::spawn(move || child.wait_with_output());
        thread::yield_now();
        thread::yield_now();
        waits.cancel();
        assert!(greenring::Cancelled::is(&*waits.join().unwrap_err()));
        assert!(!is_zombie(pid), "it was not killed");
        stdin.write_all(b"on\n").unwrap();
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        let status = nix::sys::wait::waitpid(pid, None).expect("nobody has waited for it");
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 0));
    }

    fn children_stand_in_a_pipeline() {
        let mut first = sh("echo b; echo a; echo c").stdout(Stdio::piped()).spawn().unwrap();
        let between = first.stdout.take().unwrap();
        let output = Command::new("sort").stdin(between).output().unwrap();
        assert_eq!(output.stdout, b"a\nb\nc\n");
        assert!(first.wait().unwrap().success());

        // From the back: the second's input is the first's output.
        let mut last = Command::new("sort");
        let mut last = last.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let status = sh("echo z; echo y").stdout(last.stdin.take().unwrap()).status().unwrap();
        assert!(status.success());
        assert_eq!(last.wait_with_output().unwrap().stdout, b"y\nz\n");
    }

    fn a_child_inherits_the_ends_of_a_pipe() {
        let (input, mut to) = io::pipe().unwrap();
        let (mut from, output) = io::pipe().unwrap();
        let mut child = Command::new("cat").stdin(input).stdout(output).spawn().unwrap();
        let writes = thread::spawn(move || to.write_all(&pattern(MIB)));
        let mut back = Vec::new();
        from.read_to_end(&mut back).unwrap();
        writes.join().unwrap().unwrap();
        assert!(back == pattern(MIB));
        assert!(child.wait().unwrap().success());
    }

    fn a_child_inherits_a_connection() {
        let (mut here, there) = common::connection();
        let output = Stdio::from(OwnedFd::from(there.try_clone().unwrap()));
        let mut command = Command::new("cat");
        command.stdin(Stdio::from(OwnedFd::from(there))).stdout(output);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut writer = here.try_clone().unwrap();
        let writes = thread::spawn(move || {
            writer.write_all(&pattern(MIB)).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        here.read_to_end(&mut back).unwrap();
        writes.join().unwrap();
        assert!(back == pattern(MIB));
        assert!(child.wait().unwrap().success());
    }

    fn a_child_inherits_files_and_goes_on_at_their_positions() {
        let path = std::env::temp_dir().join(format!("greenring-stdio-{}-{:?}",
            std::process::id(), std::thread::current().id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"ours ").unwrap();
        let theirs = file.try_clone().unwrap();
        assert!(sh("echo -n theirs").stdout(theirs).status().unwrap().success());
        file.write_all(b" again").unwrap();
        file.seek(SeekFrom::Start(5)).unwrap();
        let output = Command::new("cat").stdin(file).output().unwrap();
        assert_eq!(output.stdout, b"theirs again");
    }

    fn vectored_and_shared_writes_arrive() {
        let mut child = cat();
        let stdin = child.stdin.take().unwrap();
        let buffers = [IoSlice::new(b"one "), IoSlice::new(b"two ")];
        assert_eq!((&stdin).write_vectored(&buffers).unwrap(), 8);
        (&stdin).write_all(b"three").unwrap();
        (&stdin).flush().unwrap();
        drop(stdin);
        let mut stdout = child.stdout.take().unwrap();
        let (mut head, mut tail) = ([0; 4], [0; 64]);
        let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        let mut count = stdout.read_vectored(&mut buffers).unwrap();
        count += stdout.read(&mut tail[count - 4..]).unwrap_or(0);
        assert_eq!((&head, &tail[..count - 4]), (b"one ", &b"two three"[..]));
        child.wait().unwrap();
    }

    fn ends_turn_into_stds_and_descriptors_and_back() {
        let mut child = cat();
        let number = child.stdin.as_ref().unwrap().as_raw_fd();
        assert_eq!(child.stdin.as_ref().unwrap().as_fd().as_raw_fd(), number);
        let std = std::process::ChildStdin::from(child.stdin.take().unwrap());
        let mut stdin = ChildStdin::from(OwnedFd::from(ChildStdin::from(std)));
        assert_eq!(stdin.as_raw_fd(), number);
        stdin.write_all(b"back").unwrap();
        drop(stdin);
        let std = std::process::ChildStdout::from(child.stdout.take().unwrap());
        let stdout = ChildStdout::from(OwnedFd::from(ChildStdout::from(std)));
        // A standard error is one more end to read from.
        let mut stderr = ChildStderr::from(OwnedFd::from(stdout));
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(text, "back");
        child.wait().unwrap();
    }

    fn an_end_in_non_blocking_mode_would_block_as_in_std() {
        let mut child = cat();
        let stdout = OwnedFd::from(child.stdout.take().unwrap());
        let nonblocking = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&stdout, nonblocking).unwrap();
        let error = ChildStdout::from(stdout).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        child.wait().unwrap();
    }
}

both_backends_alone! {
    fn a_storm_of_children_mixes_nothing_up_and_leaves_nothing_behind() {
        let mut rng = common::Rng::new("process_storm");
        let before = common::open_descriptors();
        for _ in 0..20 {
            let children: Vec<_> = (0..12).map(|_| {
                let (length, errors) = (rng.below(200_000), rng.below(200_000));
                let code = rng.below(256) as i32;
                let end = rng.below(4);
                let patience = Duration::from_micros(rng.below(5_000));
                thread::spawn(move || match end {
                    0 | 1 => {
                        let out = format!("head -c {length} /dev/zero");
                        let err = format!("head -c {errors} /dev/zero >&2");
                        let output = sh(&format!("{out}; {err}; exit {code}")).output().unwrap();
                        assert_eq!(output.status.code(), Some(code));
                        let lengths = (output.stdout.len() as u64, output.stderr.len() as u64);
                        assert_eq!(lengths, (length, errors));
                    }
                    2 => {
                        let mut child = sh("read x; exit $x");
                        let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
                        let mut stdin = child.stdin.take().unwrap();
                        assert!(timeout(patience, || child.wait()).is_err());
                        writeln!(stdin, "{code}").unwrap();
                        assert_eq!(child.wait().unwrap().code(), Some(code));
                    }
                    _ => {
                        let mut child = cat();
                        let mut stdin = child.stdin.take().unwrap();
                        let mut stdout = child.stdout.take().unwrap();
                        let reads = thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
                        let _ = timeout(patience, || loop {
                            stdin.write_all(&[7; 4096]).unwrap();
                        });
                        child.kill().unwrap();
                        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
                        reads.join().unwrap().unwrap();
                    }
                })
            }).collect();
            for child in children {
                child.join().unwrap();
            }
        }
        assert_eq!(common::open_descriptors(), before);
    }
}
