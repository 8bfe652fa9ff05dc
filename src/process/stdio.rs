//! The parent's ends of a child's standard streams.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::process::{self};

use crate::fd::{File, Reader, descriptor_traits};

/// Writes to a child's standard input, as `std::process::ChildStdin`.
///
/// The child sees the end of its input when this is dropped.
///
/// # Examples
///
/// ```
/// use greenring::process::{Command, Stdio};
/// use std::io::Write;
///
/// let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// child.stdin.take().unwrap().write_all(b"through")?;
/// assert_eq!(child.wait_with_output()?.stdout, b"through");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ChildStdin(pub(crate) File<process::ChildStdin>);

/// Reads from a child's standard output, as `std::process::ChildStdout`.
///
/// # Examples
///
/// ```
/// use greenring::process::{Command, Stdio};
/// use std::io::Read;
///
/// let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
/// let mut text = String::new();
/// child.stdout.take().unwrap().read_to_string(&mut text)?;
/// assert_eq!(text, "hello\n");
/// assert!(child.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ChildStdout(pub(crate) File<process::ChildStdout>);

impl ChildStdout {
    /// Reads the pipe by buffers that the kernel lends, where it has any: nothing is
    /// copied, and a pipe that is idle holds no memory. See [`Reader`].
    ///
    /// # Panics
    ///
    /// The pipe has a reader already.
    ///
    /// # Difference from std
    ///
    /// std has no such method; `std::io::BufReader` is the nearest.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::BufRead;
    /// use greenring::process::{Command, Stdio};
    ///
    /// let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// let out = child.stdout.take().unwrap();
    /// let lines: Vec<_> = out.reader().lines().map(Result::unwrap).collect();
    /// assert_eq!(lines, ["hello"]);
    /// # child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.0)
    }
}

/// Reads from a child's standard error, as `std::process::ChildStderr`.
///
/// # Examples
///
/// ```
/// use greenring::process::{Command, Stdio};
/// use std::io::Read;
///
/// let mut child = Command::new("sh").args(["-c", "echo oh >&2"]).stderr(Stdio::piped()).spawn()?;
/// let mut text = String::new();
/// child.stderr.take().unwrap().read_to_string(&mut text)?;
/// assert_eq!(text, "oh\n");
/// assert!(child.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ChildStderr(pub(crate) File<process::ChildStderr>);

impl ChildStderr {
    /// Reads the pipe by buffers that the kernel lends, where it has any: nothing is
    /// copied, and a pipe that is idle holds no memory. See [`Reader`].
    ///
    /// # Panics
    ///
    /// The pipe has a reader already.
    ///
    /// # Difference from std
    ///
    /// std has no such method; `std::io::BufReader` is the nearest.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::BufRead;
    /// use greenring::process::{Command, Stdio};
    ///
    /// let mut child = Command::new("sh").args(["-c", "echo oh >&2"]).stderr(Stdio::piped()).spawn()?;
    /// let err = child.stderr.take().unwrap();
    /// let lines: Vec<_> = err.reader().lines().map(Result::unwrap).collect();
    /// assert_eq!(lines, ["oh"]);
    /// # child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.0)
    }
}

impl Write for &ChildStdin {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for ChildStdin {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(buffers)
    }
}

impl Read for ChildStderr {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(buffers)
    }
}

descriptor_traits!(
    ChildStdin,
    process::ChildStdin,
    File::new,
    File::into_std,
    stdio
);
descriptor_traits!(
    ChildStdout,
    process::ChildStdout,
    File::new,
    File::into_std,
    stdio
);
descriptor_traits!(
    ChildStderr,
    process::ChildStderr,
    File::new,
    File::into_std,
    stdio
);
