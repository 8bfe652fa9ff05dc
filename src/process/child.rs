//! A process that was spawned, and the wait for its end.

#![allow(unsafe_code)] // pidfd_open(2) has no safe wrapper.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::process::{self, ExitStatus, Output};

use super::stdio::{ChildStderr, ChildStdin, ChildStdout};
use crate::fd::{self, Interest, Limit};
use crate::hub;
use crate::pauses::Pauses;
use crate::thread;

/// A child process, as `std::process::Child`.
///
/// Dropping it neither kills the child nor waits for it: a child that ends and
/// is never waited for remains as a zombie until the parent ends.
///
/// It can be made of a `std::process::Child` that another library has spawned.
///
/// # Examples
///
/// ```
/// use greenring::process::Command;
///
/// let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn()?;
/// assert_eq!(child.wait()?.code(), Some(3));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Child {
    /// Its pipes are in the fields below.
    std: process::Child,

    /// Writes to the child's standard input, if it is piped.
    pub stdin: Option<ChildStdin>,

    /// Reads from the child's standard output, if it is piped.
    pub stdout: Option<ChildStdout>,

    /// Reads from the child's standard error, if it is piped.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// Ends the child with SIGKILL; `Ok` too if it was waited for already.
    ///
    /// # Errors
    ///
    /// Those of kill(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::process::ExitStatusExt;
    /// use greenring::process::Command;
    ///
    /// let mut child = Command::new("sleep").arg("1000").spawn()?;
    /// child.kill()?;
    /// assert_eq!(child.wait()?.signal(), Some(9));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill(&mut self) -> io::Result<()> {
        self.std.kill()
    }

    /// The child's process id.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::{self, Command};
    ///
    /// let mut child = Command::new("true").spawn()?;
    /// assert_ne!(child.id(), process::id());
    /// child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> u32 {
        self.std.id()
    }

    /// Waits until the child has ended, and tells how; again the same whenever
    /// it is called again.
    ///
    /// It closes the child's piped [`stdin`](Child::stdin) first. A wait that is
    /// cancelled or runs into a [`timeout`](crate::time::timeout) leaves the
    /// child as it is, to be waited for again.
    ///
    /// # Errors
    ///
    /// Those of waitpid(2): ECHILD if somebody else has waited for the child, or
    /// SIGCHLD is ignored, when the kernel keeps no status. In the latter case
    /// it comes after the child's end, as in std.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::Command;
    /// use greenring::time::timeout;
    /// use std::time::Duration;
    ///
    /// let mut child = Command::new("sleep").arg("1000").spawn()?;
    /// if timeout(Duration::from_millis(10), || child.wait()).is_err() {
    ///     child.kill()?;
    /// }
    /// assert!(!child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        if !hub::has_hub() {
            return self.std.wait();
        }
        if let Some(status) = self.std.try_wait()? {
            return Ok(status);
        }
        // Not sooner: until it was waited for the number is the child's. Where
        // SIGCHLD is ignored it is so while the child lives, so the loop looks
        // again before it waits for whoever has the number now.
        let pidfd = open_pidfd(self.id()).ok();
        let mut has_ended = false;
        let mut pauses = Pauses::short();
        loop {
            if let Some(status) = self.std.try_wait()? {
                return Ok(status);
            }
            match &pidfd {
                Some(pidfd) if !has_ended => {
                    // What the hub cannot wait for is looked at now and then.
                    fd::wait_for(pidfd.as_fd(), Interest::Readable, Limit::Forever).ok();
                    has_ended = true;
                }
                // Also for a child that has ended but belongs to a debugger yet.
                _ => pauses.sleep(),
            }
        }
    }

    /// How the child has ended, if it has; never waits.
    ///
    /// It does not close the child's piped [`stdin`](Child::stdin).
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::{Command, Stdio};
    ///
    /// let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    /// assert_eq!(child.try_wait()?, None);
    /// assert!(child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.std.try_wait()
    }

    /// Reads what is piped of standard output and standard error, both at once,
    /// then waits until the child has ended.
    ///
    /// It closes the child's piped [`stdin`](Child::stdin) first. A pipe ends
    /// when all that have inherited it have closed it, which may be long after
    /// the child's end.
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait) and those of read(2); no stack for a green
    /// thread that reads one of the pipes. The child is then left to itself.
    ///
    /// # Difference from std
    ///
    /// std panics when reading fails. On an OS thread without a hub this is std's.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::process::{Command, Stdio};
    ///
    /// let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// let output = child.wait_with_output()?;
    /// assert!(output.status.success());
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        if !hub::has_hub() {
            return process::Child::from(self).wait_with_output();
        }
        let (stdout, stderr) = read_both(self.stdout.take(), self.stderr.take())?;
        let status = self.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

/// pidfd_open(2), Linux 5.3: a descriptor that is readable once the process has
/// ended. It has O_CLOEXEC.
fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes plain values.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made it, and it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Reads both to their ends, at once: who fills the one would otherwise wait for
/// its reader for ever, as it waits for the end of the other.
fn read_both(
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    if stdout.is_none() || stderr.is_none() {
        return Ok((read(stdout)?, read(stderr)?));
    }
    thread::scope(|scope| {
        let errors = thread::Builder::new().spawn_scoped(scope, || read(stderr))?;
        let stdout = read(stdout)?;
        let stderr = errors
            .join()
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
        Ok((stdout, stderr))
    })
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

/// With its pipes.
impl From<Child> for process::Child {
    fn from(child: Child) -> process::Child {
        let mut std = child.std;
        std.stdin = child.stdin.map(Into::into);
        std.stdout = child.stdout.map(Into::into);
        std.stderr = child.stderr.map(Into::into);
        std
    }
}

/// With its pipes.
impl From<process::Child> for Child {
    fn from(mut child: process::Child) -> Child {
        Child {
            stdin: child.stdin.take().map(Into::into),
            stdout: child.stdout.take().map(Into::into),
            stderr: child.stderr.take().map(Into::into),
            std: child,
        }
    }
}
