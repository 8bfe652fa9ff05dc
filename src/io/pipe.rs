//! Pipes, as in `std::io`.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::fd::{File, Reader, descriptor_traits};

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

    /// Reads the pipe by buffers that the kernel lends, where it has any: nothing is
    /// copied, and a pipe that is idle holds no memory. See [`Reader`].
    ///
    /// Bytes that were received and not consumed stay with the pipe.
    ///
    /// # Panics
    ///
    /// The pipe, or a clone, has a reader already.
    ///
    /// # Difference from std
    ///
    /// std has no such method; `std::io::BufReader` is the nearest.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{self, BufRead, Write};
    ///
    /// let (reader, mut writer) = io::pipe()?;
    /// writer.write_all(b"a line\nand more")?;
    /// let mut line = String::new();
    /// reader.reader().read_line(&mut line)?;
    /// assert_eq!(line, "a line\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.0)
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

descriptor_traits!(
    PipeReader,
    io::PipeReader,
    File::new,
    File::into_std,
    from_raw,
    stdio
);
descriptor_traits!(
    PipeWriter,
    io::PipeWriter,
    File::new,
    File::into_std,
    from_raw,
    stdio
);
