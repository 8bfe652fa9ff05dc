//! What is to be run, and with what.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

use super::child::Child;

/// A builder of child processes, as `std::process::Command`.
///
/// It is used again as often as wanted: each [`spawn`](Command::spawn) makes
/// another process.
///
/// # Examples
///
/// ```
/// use greenring::process::Command;
///
/// let output = Command::new("sh").arg("-c").arg("echo hello").output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Command {
    std: process::Command,
    chosen: Chosen,
}

/// Which streams the user has chosen. [`Command::output`] chooses the others,
/// and std does not tell.
#[derive(Clone, Copy, Debug, Default)]
struct Chosen {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Command {
    /// A command that runs `program` without arguments, with the environment, the
    /// directory and the standard streams of the parent.
    ///
    /// A name without a slash is looked for in the `PATH` of the child, if one
    /// was set, else of the parent.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// assert!(Command::new("true").status()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command {
            std: process::Command::new(program),
            chosen: Chosen::default(),
        }
    }

    /// Adds an argument; no shell looks at it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("echo").arg("two words").output()?;
    /// assert_eq!(output.stdout, b"two words\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds several arguments.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("echo").args(["one", "two"]).output()?;
    /// assert_eq!(output.stdout, b"one two\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets a variable of the child's environment.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "echo $NAME"]).env("NAME", "ring").output()?;
    /// assert_eq!(output.stdout, b"ring\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn env<K, V>(&mut self, key: K, value: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.env(key, value);
        self
    }

    /// Sets several variables of the child's environment.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let mut command = Command::new("sh");
    /// let output = command.args(["-c", "echo $A$B"]).envs([("A", "1"), ("B", "2")]).output()?;
    /// assert_eq!(output.stdout, b"12\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn envs<I, K, V>(&mut self, variables: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(variables);
        self
    }

    /// Takes a variable out of the child's environment.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let mut command = Command::new("sh");
    /// let output = command.args(["-c", "echo ${HOME-none}"]).env_remove("HOME").output()?;
    /// assert_eq!(output.stdout, b"none\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Begins with an empty environment for the child, also without what was set
    /// here before.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("/usr/bin/env").env_clear().env("A", "1").output()?;
    /// assert_eq!(output.stdout, b"A=1\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the child's working directory.
    ///
    /// Whether a relative path of a program is looked up there or in the parent's
    /// is not specified, as in std.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("pwd").current_dir("/").output()?;
    /// assert_eq!(output.stdout, b"/\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn current_dir<P: AsRef<Path>>(&mut self, directory: P) -> &mut Command {
        self.std.current_dir(directory);
        self
    }

    /// Chooses the child's standard input: by default the parent's, for
    /// [`output`](Command::output) none.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io;
    /// use greenring::process::Command;
    ///
    /// let (reader, writer) = io::pipe()?;
    /// drop(writer);
    /// assert!(Command::new("cat").stdin(reader).status()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stdin<T: Into<Stdio>>(&mut self, stdio: T) -> &mut Command {
        self.std.stdin(stdio);
        self.chosen.stdin = true;
        self
    }

    /// Chooses the child's standard output: by default the parent's, for
    /// [`output`](Command::output) a pipe.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::{Command, Stdio};
    ///
    /// assert!(Command::new("echo").stdout(Stdio::null()).status()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stdout<T: Into<Stdio>>(&mut self, stdio: T) -> &mut Command {
        self.std.stdout(stdio);
        self.chosen.stdout = true;
        self
    }

    /// Chooses the child's standard error: by default the parent's, for
    /// [`output`](Command::output) a pipe.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::{Command, Stdio};
    ///
    /// let status = Command::new("ls").arg("/not/there").stderr(Stdio::null()).status()?;
    /// assert!(!status.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stderr<T: Into<Stdio>>(&mut self, stdio: T) -> &mut Command {
        self.std.stderr(stdio);
        self.chosen.stderr = true;
        self
    }

    /// Starts the command as a child process.
    ///
    /// By default its standard streams are those of the parent.
    ///
    /// The child is forked on the calling OS thread and inherits what belongs to
    /// that: its affinity, its namespaces, its seccomp filters; PR_SET_PDEATHSIG
    /// tells the end of that OS thread. So this call keeps its hub from
    /// everything else until the program has started. Measured on the wall of a busy
    /// machine: 0.1 ms, in processes of any size, as std uses posix_spawn(3). With a
    /// `pre_exec`, `uid` or `gid`, and where `PATH` is set and looked through, it uses
    /// fork(2), which copies page tables: 0.4 ms, and up to 200 ms for each resident
    /// GiB (25 ms of them on the processor). A large process may rather spawn in
    /// [`blocking`](crate::blocking()), on an OS thread of the offload pool, which
    /// ends when it has been idle.
    ///
    /// # Errors
    ///
    /// As std: among others `NotFound` and `PermissionDenied` of execve(2),
    /// EMFILE, EAGAIN of fork(2), and what a
    /// [`pre_exec`](crate::os::unix::process::CommandExt::pre_exec) has returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    /// use std::io::ErrorKind;
    ///
    /// let mut child = Command::new("true").spawn()?;
    /// assert!(child.wait()?.success());
    /// assert_eq!(Command::new("/not/there").spawn().unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.std.spawn().map(Into::into)
    }

    /// Runs the command to its end and collects what it writes, as
    /// [`Child::wait_with_output`].
    ///
    /// By default standard output and standard error are piped, and standard
    /// input is empty.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "echo out; echo err >&2"]).output()?;
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn output(&mut self) -> io::Result<Output> {
        self.choose_the_rest(Stdio::null, Stdio::piped);
        let child = self.spawn();
        // What `spawn` does when nothing was chosen.
        self.choose_the_rest(Stdio::inherit, Stdio::inherit);
        child?.wait_with_output()
    }

    /// Chooses the streams that the user has not chosen.
    fn choose_the_rest(&mut self, input: fn() -> Stdio, output: fn() -> Stdio) {
        if !self.chosen.stdin {
            self.std.stdin(input());
        }
        if !self.chosen.stdout {
            self.std.stdout(output());
        }
        if !self.chosen.stderr {
            self.std.stderr(output());
        }
    }

    /// Runs the command to its end and tells how it has ended.
    ///
    /// By default its standard streams are those of the parent.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn) and [`Child::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// assert_eq!(Command::new("false").status()?.code(), Some(1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// The program.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// assert_eq!(Command::new("echo").get_program(), "echo");
    /// ```
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// The arguments, without the program.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// let mut command = Command::new("echo");
    /// command.args(["one", "two"]);
    /// assert!(command.get_args().eq(["one", "two"]));
    /// ```
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// The variables that were set, and as `None` those that were removed.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    /// use std::ffi::OsStr;
    ///
    /// let mut command = Command::new("env");
    /// command.env("A", "1").env_remove("B");
    /// let expected = [("A", Some("1")), ("B", None)];
    /// let expected = expected.map(|(key, value)| (OsStr::new(key), value.map(OsStr::new)));
    /// assert!(command.get_envs().eq(expected));
    /// ```
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// The working directory that was set.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    ///
    /// assert_eq!(Command::new("ls").get_current_dir(), None);
    /// ```
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// For the extensions of `os`.
    pub(crate) fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
