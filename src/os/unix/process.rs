//! What Unix adds to processes, as in `std::os::unix::process`.

#![allow(unsafe_code)] // `pre_exec` is unsafe, as std's.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;

#[doc(no_inline)]
pub use std::os::unix::process::{ExitStatusExt, parent_id};

use crate::process::Command;

mod sealed {
    /// Keeps the trait ours, so that methods can be added to it.
    pub trait Sealed {}
    impl Sealed for crate::process::Command {}
}

/// What Unix adds to a [`Command`].
///
/// # Difference from std
///
/// It is a trait of its own with std's methods, because std's can be
/// implemented by std's command alone. The deprecated `before_exec` is missing.
///
/// # Examples
///
/// ```
/// use greenring::os::unix::process::CommandExt;
/// use greenring::process::Command;
///
/// let output = Command::new("sh").arg0("renamed").args(["-c", "echo $0"]).output()?;
/// assert_eq!(output.stdout, b"renamed\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait CommandExt: sealed::Sealed {
    /// Sets the child's user id; a failing setuid(2) makes `spawn` fail.
    ///
    /// If the parent is root, the child's supplementary groups are dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use greenring::os::unix::process::CommandExt;
    /// use greenring::process::Command;
    ///
    /// let output = Command::new("id").uid(65534).gid(65534).output()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn uid(&mut self, id: u32) -> &mut Command;

    /// Sets the child's group id; a failing setgid(2) makes `spawn` fail.
    ///
    /// # Examples
    ///
    /// See [`uid`](CommandExt::uid).
    fn gid(&mut self, id: u32) -> &mut Command;

    /// Has the child run `f` between fork(2) and execve(2); several run in
    /// order, and the first error ends the child and is returned by `spawn`.
    ///
    /// # Safety
    ///
    /// The child has one OS thread and a copy of everything else, locks that
    /// others held included. `f` must do nothing but what is safe in a signal
    /// handler, signal-safety(7): not allocate, not lock, not panic. It must call
    /// nothing of greenring that waits: the hub is the parent's.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::process::CommandExt;
    /// use greenring::process::Command;
    /// use std::io;
    ///
    /// let mut command = Command::new("true");
    /// // SAFETY: it makes an error of a number, which allocates nothing.
    /// unsafe { command.pre_exec(|| Err(io::Error::from_raw_os_error(7))) };
    /// assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(7));
    /// ```
    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static;

    /// Replaces this process by the command, execve(2); returns only if that
    /// fails.
    ///
    /// Nothing is dropped, and all green threads and OS threads are gone. After
    /// a failure the process may be changed in part, as after std's `exec`: its
    /// standard streams, directory and ids.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use greenring::os::unix::process::CommandExt;
    /// use greenring::process::Command;
    ///
    /// let error = Command::new("sh").arg("script").exec();
    /// panic!("sh cannot be run: {error}");
    /// ```
    #[must_use]
    fn exec(&mut self) -> io::Error;

    /// Sets the child's argument 0, which is the program otherwise.
    ///
    /// # Examples
    ///
    /// See [`CommandExt`].
    fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command;

    /// Sets the child's process group; 0 makes a new one of the child's own id.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::os::unix::process::CommandExt;
    /// use greenring::process::Command;
    ///
    /// assert!(Command::new("true").process_group(0).status()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn process_group(&mut self, pgroup: i32) -> &mut Command;
}

impl CommandExt for Command {
    fn uid(&mut self, id: u32) -> &mut Command {
        self.as_std_mut().uid(id);
        self
    }

    fn gid(&mut self, id: u32) -> &mut Command {
        self.as_std_mut().gid(id);
        self
    }

    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise.
        unsafe { self.as_std_mut().pre_exec(f) };
        self
    }

    fn exec(&mut self) -> io::Error {
        self.as_std_mut().exec()
    }

    fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.as_std_mut().arg0(arg);
        self
    }

    fn process_group(&mut self, pgroup: i32) -> &mut Command {
        self.as_std_mut().process_group(pgroup);
        self
    }
}
