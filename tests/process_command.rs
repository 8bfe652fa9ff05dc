//! Commands: std's, run by std and by greenring, do and say the same.

mod common;

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::PathBuf;

use greenring::os::unix::process::CommandExt as _;
use greenring::process::{self, Command, ExitStatus, Stdio};
use greenring::thread;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A private directory, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("greenring-{name}-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        // What a process that was killed and had our id has left behind.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What came of a command, comparable.
#[derive(Debug, PartialEq)]
enum Outcome {
    Ended(ExitStatus, Vec<u8>, Vec<u8>),
    Failed(ErrorKind, Option<i32>, String),
}

fn outcome(result: io::Result<process::Output>) -> Outcome {
    match result {
        Ok(output) => Outcome::Ended(output.status, output.stdout, output.stderr),
        Err(error) => Outcome::Failed(error.kind(), error.raw_os_error(), error.to_string()),
    }
}

fn texts(value: impl Debug) -> [String; 2] {
    [format!("{value:?}"), format!("{value:#?}")]
}

/// Builds the same command for std and for greenring by the expression given,
/// and asserts that all that is seen of the two is equal.
macro_rules! same {
    ($program:expr, |$command:ident| $build:expr) => {{
        let (shown, first, second) = same!(Command, $program, |$command| $build);
        let expected = same!(std::process::Command, $program, |$command| $build);
        assert_eq!(
            (&shown, &first, &second),
            (&expected.0, &expected.1, &expected.2)
        );
        first
    }};
    ($kind:ty, $program:expr, |$command:ident| $build:expr) => {{
        let mut $command = <$kind>::new($program);
        let _ = $build;
        let shown = (
            texts(&$command),
            $command.get_program().to_owned(),
            texts($command.get_args()),
            $command.get_args().len(),
            texts($command.get_envs()),
            $command.get_envs().len(),
            $command.get_current_dir().map(ToOwned::to_owned),
        );
        let outcomes = (outcome($command.output()), outcome($command.output()));
        assert_eq!(format!("{:?}", $command), shown.0[0]);
        (shown, outcomes.0, outcomes.1)
    }};
}

both_backends! {
    fn commands_do_as_stds() {
        same!("true", |command| &mut command);
        same!("echo", |command| command.arg("one").args(["two", "three four"]));
        let script = "cat; pwd; echo err >&2; exit 3";
        same!("sh", |command| command.args(["-c", script]).current_dir("/"));
        same!("env", |command| command.env_clear().env("A", "1").envs([("B", "2"), ("C", "3")]));
        same!("env", |command| {
            command.env_clear().env("A", "1").env("B", "2").env_remove("A").env_remove("C")
        });
        same!("sh", |command| command.args(["-c", "echo ${HOME-none}"]).env_remove("HOME"));
        same!("sh", |command| command.arg0("other").args(["-c", "echo $0"]));
        same!("sh", |command| command.args(["-c", "kill -9 $$"]).process_group(0));
        same!("sh", |command| command.args(["-c", "echo x"]).stdout(Stdio::null()));
        same!("cat", |command| command.arg(OsStr::from_bytes(b"\xff\xfe")).env("LC_ALL", "C"));
        same!("cat", |command| command.arg("/proc/version").stdin(Stdio::null()));
    }

    fn commands_that_cannot_be_run_fail_as_stds() {
        let directory = Directory::new("command");
        let plain = directory.0.join("plain");
        std::fs::write(&plain, "#!/bin/sh\n").unwrap();
        let broken = directory.0.join("broken");
        // By another process: children of other tests that are about to start
        // would still have it open for writing here.
        let script = "printf '#!/not/there\n' >broken && chmod 755 broken";
        let made = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(&directory.0)
            .status();
        assert!(made.unwrap().success());

        let kind = |outcome| match outcome {
            Outcome::Failed(kind, ..) => kind,
            ended => panic!("{ended:?}"),
        };
        assert_eq!(kind(same!("/not/there", |command| &mut command)), ErrorKind::NotFound);
        assert_eq!(kind(same!("greenring-not-there", |command| &mut command)), ErrorKind::NotFound);
        assert_eq!(kind(same!(&plain, |command| &mut command)), ErrorKind::PermissionDenied);
        assert_eq!(kind(same!(&directory.0, |command| &mut command)), ErrorKind::PermissionDenied);
        assert_eq!(kind(same!(&broken, |command| &mut command)), ErrorKind::NotFound);
        assert_eq!(kind(same!("", |command| &mut command)), ErrorKind::NotFound);
        let nowhere = same!("true", |command| command.current_dir("/not/there"));
        assert_eq!(kind(nowhere), ErrorKind::NotFound);
        assert_eq!(kind(same!("tr\0ue", |command| &mut command)), ErrorKind::InvalidInput);
        assert_eq!(kind(same!("true", |command| command.arg("a\0b"))), ErrorKind::InvalidInput);
        same!("true", |command| command.arg("x".repeat(1 << 22)));
        same!("true", |command| command.process_group(-7));
    }

    fn ids_are_set_or_refused_as_by_std() {
        same!("id", |command| command.uid(65534).gid(65534).current_dir("/"));
        let own = std::fs::metadata("/proc/self").unwrap();
        same!("id", |command| command.gid(own.gid()).uid(own.uid()));
    }

    fn a_core_dump_is_told_as_by_std() {
        let directory = Directory::new("core");
        for limit in ["0", "unlimited"] {
            let script = format!("ulimit -c {limit} 2>/dev/null; kill -QUIT $$");
            let place = &directory.0;
            let outcome = same!("sh", |command| command.args(["-c", &script]).current_dir(place));
            let Outcome::Ended(status, ..) = outcome else { panic!("{outcome:?}") };
            assert_eq!(status.signal(), Some(libc::SIGQUIT));
            if limit == "0" {
                assert!(!status.core_dumped());
            }
        }
    }

    fn children_and_their_ends_are_shown_as_stds() {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped())
            .spawn().unwrap();
        let mut command = std::process::Command::new("cat");
        let mut std = command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped())
            .spawn().unwrap();
        assert_eq!(texts(&child), texts(&std));
        assert_eq!(texts(&child.stdin), texts(&std.stdin));
        assert_eq!(texts(&child.stdout), texts(&std.stdout));
        assert_eq!(texts(&child.stderr), texts(&std.stderr));
        child.wait().unwrap();
        std.wait().unwrap();
        assert_eq!(texts(&child), texts(&std));
    }

    fn children_get_no_blocked_signals_and_the_default_sigpipe() {
        greenring::signal::on(libc::SIGUSR1, || {}).unwrap();
        let cat = || Command::new("cat").arg("/proc/self/status").output().unwrap();
        let output = thread::spawn(cat).join().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mask = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
        };
        assert_eq!(mask("SigBlk"), 0);
        assert_eq!(mask("SigIgn") & 1 << (libc::SIGPIPE - 1), 0);
        assert_eq!(mask("SigCgt"), 0);
    }

    fn pre_exec_runs_in_the_child_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let mut command = Command::new("true");
        for digit in [b"1", b"2", b"3"] {
            let writes = move || {
                // SAFETY: `digit` is static; write(2) may be called after fork(2).
                match unsafe { libc::write(fd, digit.as_ptr().cast(), 1) } {
                    1 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            };
            // SAFETY: it makes one system call and allocates nothing.
            unsafe { command.pre_exec(writes) };
        }
        assert!(command.status().unwrap().success());
        assert!(thread::spawn(move || command.status().unwrap()).join().unwrap().success());
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "123123");
    }

    fn an_error_of_pre_exec_comes_back_as_in_std() {
        for error in [libc::EPERM, libc::ENOENT, 12345] {
            let fails = move || Err(io::Error::from_raw_os_error(error));
            // SAFETY: it makes an error of a number, which allocates nothing.
            let outcome = same!("true", |command| unsafe { command.pre_exec(fails) });
            assert!(matches!(outcome, Outcome::Failed(_, Some(code), _) if code == error));
        }
    }

    fn a_pre_exec_that_waits_ends_the_child_with_a_message() {
        let mut command = Command::new("true");
        let waits = || {
            thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        };
        // SAFETY: not what the contract asks for; the hub is to find out.
        unsafe { command.pre_exec(waits) };
        let output = command.output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("fork"), "{message}");
        assert!(Command::new("true").status().unwrap().success(), "the parent goes on");
    }

    fn a_child_is_of_the_os_thread_that_spawns_it() {
        // The children see the affinity of the OS thread.
        let pinned = std::thread::spawn(move || {
            pin_to_cpu_0();
            let arguments = ["Cpus_allowed_list", "/proc/self/status"];
            let command = move || Command::new("grep").args(arguments).output();
            thread::spawn(command).join().unwrap().unwrap()
        });
        let text = String::from_utf8(pinned.join().unwrap().stdout).unwrap();
        assert_eq!(text.split_whitespace().last(), Some("0"));
    }

    fn parent_id_is_that_of_the_parent() {
        let output = Command::new("sh").args(["-c", "echo $PPID"]).output().unwrap();
        assert_eq!(output.stdout, format!("{}\n", process::id()).into_bytes());
        assert_eq!(greenring::os::unix::process::parent_id(), std::os::unix::process::parent_id());
    }
}

fn pin_to_cpu_0() {
    // SAFETY: a set of CPUs is plain bits, and outlives the call.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut cpus);
        let result = libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus);
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

/// Takes all descriptors that can be had.
struct NoDescriptors(Vec<std::fs::File>);

impl NoDescriptors {
    fn begin() -> NoDescriptors {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 100.min(hard), hard).unwrap();
        let mut all = NoDescriptors(Vec::new());
        assert!(all.fill() > 10);
        all
    }

    fn leave(&mut self, free: usize) {
        self.0.truncate(self.0.len() - free);
    }

    /// Takes those that are free again, and counts them.
    fn fill(&mut self) -> usize {
        for count in 0.. {
            match std::fs::File::open("/dev/null") {
                Ok(file) => self.0.push(file),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    return count;
                }
            }
        }
        unreachable!("the limit is 100")
    }
}

/// The open descriptors, each with its flags.
fn descriptors() -> Vec<(i32, i32)> {
    let names = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = names.map(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap()
    });
    let numbers: Vec<i32> = numbers.collect();
    // SAFETY: asks for the flags of a descriptor, or of none.
    let flags = |number| unsafe { libc::fcntl(number, libc::F_GETFD) };
    let flagged = numbers.into_iter().map(|number| (number, flags(number)));
    // The listing's own is closed by now.
    flagged.filter(|(_, flags)| *flags >= 0).collect()
}

both_backends_alone! {
    fn without_descriptors_commands_fail_as_stds_and_children_are_waited_for() {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut full = NoDescriptors::begin();
        let mut failed = 0;
        for free in 0..12 {
            full.leave(free);
            let outcome = same!("true", |command| command.stdin(Stdio::piped()));
            failed += usize::from(matches!(outcome, Outcome::Failed(..)));
            assert_eq!(full.fill(), free, "no descriptor stays behind");
        }
        assert!((1..12).contains(&failed), "{failed} of 12");

        let waits = thread::spawn(move || child.wait_with_output());
        thread::yield_now();
        stdin.write_all(b"still").unwrap();
        drop(stdin);
        assert_eq!(waits.join().unwrap().unwrap().stdout, b"still");
    }

    fn nothing_that_a_child_needs_is_inherited_by_the_next() {
        let before = descriptors();
        let mut child = Command::new("cat");
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let waits = thread::spawn(move || child.wait());
        thread::yield_now();
        let mut new = descriptors();
        new.retain(|descriptor| !before.contains(descriptor));
        // The two pipes and the pidfd.
        assert_eq!(new.len(), 3, "{new:?}");
        assert!(new.iter().all(|(_, flags)| flags & libc::FD_CLOEXEC != 0), "{new:?}");
        drop(stdin);
        waits.join().unwrap().unwrap();
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn exec_replaces_the_process() {
    if common::is_child("exec") {
        let error = thread::spawn(|| {
            let missing = Command::new("/not/there").exec();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            Command::new("sh")
                .args(["-c", "echo replaced >&2; exit 7"])
                .exec()
        });
        panic!("{}", error.join().unwrap());
    }
    common::child_on_each_backend("exec_replaces_the_process", "exec", &[], |child| {
        assert_eq!(child.status.code(), Some(7), "{child:?}");
        child.assert_says(&["replaced"]);
    });
}

#[test]
fn a_program_ends_with_its_exit_code_from_a_green_thread() {
    if common::is_child("exit") {
        thread::spawn(|| process::exit(9)).join().unwrap()
    }
    common::child_on_each_backend(
        "a_program_ends_with_its_exit_code_from_a_green_thread",
        "exit",
        &[],
        |child| assert_eq!(child.status.code(), Some(9), "{child:?}"),
    );
}
