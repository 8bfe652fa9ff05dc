//! Pipes, as in `std::io`.

#![allow(unsafe_code)] // FromRawFd has an unsafe method.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;

use crate::fd::File;

/// Makes a pipe, pipe2(2) with O_CLOEXEC.
///
/// # Errors
///
/// Those of pipe2(2).
///
/// # Examples
///
/// ```
/// use greenring::io::{self, Read, Write};
///
/// let (mut reader, mut writer) = io::pipe()?;
/// writer.write_all(b"through")?;
/// drop(writer);
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "through");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((
        PipeReader(File::pipe(reader)),
        PipeWriter(File::pipe(writer)),
    ))
}

/// The end of a pipe that is read from, as `std::io::PipeReader`.
///
/// # Difference from std
///
/// O_NONBLOCK is looked at when it becomes greenring's, and not again: after a
/// fcntl(2) on the raw descriptor, `PipeReader::from(OwnedFd::from(end))` looks anew.
/// The same holds for the pipes of a [`Child`](crate::process::Child).
///
/// # Examples
///
/// See [`pipe`].
pub struct PipeReader(pub(super) File<io::PipeReader>);

/// The end of a pipe that is written to, as `std::io::PipeWriter`.
///
/// # Difference from std
///
/// O_NONBLOCK is looked at when it becomes greenring's, and not again: after a
/// fcntl(2) on the raw descriptor, `PipeWriter::from(OwnedFd::from(end))` looks anew.
/// The same holds for the pipes of a [`Child`](crate::process::Child).
///
/// # Examples
///
/// See [`pipe`].
pub struct PipeWriter(pub(super) File<io::PipeWriter>);

impl PipeReader {
    /// A second descriptor of the same end.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) with F_DUPFD_CLOEXEC.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, writer) = greenring::io::pipe()?;
    /// let clone = reader.try_clone()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        let std = self.0.std().try_clone()?;
        Ok(PipeReader(File::duplicate(&self.0, std)))
    }
}

impl PipeWriter {
    /// A second descriptor of the same end: readers see the end of the data when
    /// all are closed.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) with F_DUPFD_CLOEXEC.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, writer) = greenring::io::pipe()?;
    /// let clone = writer.try_clone()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        let std = self.0.std().try_clone()?;
        Ok(PipeWriter(File::duplicate(&self.0, std)))
    }
}

impl Read for &PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(buffers)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for &PipeWriter {
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

impl Write for PipeWriter {
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

/// The descriptor's traits for one end.
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

        impl FromRawFd for $end {
            unsafe fn from_raw_fd(fd: RawFd) -> Self {
                // SAFETY: the caller's promise.
                unsafe { OwnedFd::from_raw_fd(fd) }.into()
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

        impl From<io::$end> for $end {
            fn from(end: io::$end) -> Self {
                $end(File::new(end))
            }
        }

        impl From<$end> for io::$end {
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

descriptor!(PipeReader);
descriptor!(PipeWriter);
