//! The parent's ends of a child's standard streams.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{self, Stdio};

use crate::fd::File;

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

/// What std's type has besides reading or writing.
macro_rules! descriptor {
    ($end:ident) => {
        impl fmt::Debug for $end {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.std().fmt(f)
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.std().as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.0.std().as_raw_fd()
            }
        }

        impl IntoRawFd for $end {
            fn into_raw_fd(self) -> RawFd {
                self.0.into_std().into_raw_fd()
            }
        }

        impl From<OwnedFd> for $end {
            fn from(fd: OwnedFd) -> Self {
                $end(File::new(fd.into()))
            }
        }

        impl From<$end> for OwnedFd {
            fn from(end: $end) -> OwnedFd {
                end.0.into_std().into()
            }
        }

        impl From<process::$end> for $end {
            fn from(end: process::$end) -> Self {
                $end(File::new(end))
            }
        }

        impl From<$end> for process::$end {
            fn from(end: $end) -> Self {
                end.0.into_std()
            }
        }

        impl From<$end> for Stdio {
            fn from(end: $end) -> Stdio {
                end.0.into_std().into()
            }
        }
    };
}

descriptor!(ChildStdin);
descriptor!(ChildStdout);
descriptor!(ChildStderr);
