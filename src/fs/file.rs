//! An open file.

#![allow(unsafe_code)] // statx(2) has no safe wrapper.

use std::fs::{self, FileTimes, Metadata, Permissions};
use std::io::{self, IoSlice, IoSliceMut, IsTerminal, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::SystemTime;

use super::OpenOptions;
use crate::blocking::{Lane, borrowed};
use crate::fd::{self, descriptor_traits};

/// An open file, as `std::fs::File`.
///
/// It is closed when it is dropped, and errors of that are not told: call
/// [`sync_all`](File::sync_all) where they matter.
///
/// A file may be anything that has a name. What has an other end, such as a FIFO
/// or a terminal, parks its reader until something comes.
///
/// # Difference from std
///
/// - Whether a FIFO or a terminal is in non-blocking mode is looked at when the
///   file becomes greenring's, and not again.
/// - Reads and writes at the current position take turns among the handles that
///   [`try_clone`](File::try_clone) makes, as in std. With a descriptor that was
///   duplicated by other means they do not, if both are greenring's.
/// - `Read`, `Write` and `Seek` are implemented for `&File`, but cannot be for
///   `Arc<File>`, which would be for std to do: `&*file` is one.
/// - `IsTerminal` can be implemented by std alone;
///   [`is_terminal`](File::is_terminal) is here.
///
/// # Examples
///
/// ```
/// use greenring::fs::File;
/// use greenring::io::{Read, Write};
///
/// let path = std::env::temp_dir().join(format!("file-{}", std::process::id()));
/// File::create(&path)?.write_all(b"kept")?;
/// let mut text = String::new();
/// File::open(&path)?.read_to_string(&mut text)?;
/// assert_eq!(text, "kept");
/// # greenring::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File(pub(crate) fd::File<fs::File>);

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::File::open("Cargo.toml")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing; makes it if it is not there, and empties it if
    /// it is.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    ///
    /// # Examples
    ///
    /// See [`File`].
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file, for reading and writing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if it is there, and those of [`OpenOptions::open`].
    ///
    /// # Examples
    ///
    /// ```
    /// let error = greenring::fs::File::create_new("Cargo.toml").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    /// ```
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).open(path)
    }

    /// The same as [`OpenOptions::new`].
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::File::options().read(true).open("Cargo.toml")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Waits until all that was written is on the disk, with what is known of
    /// the file. fsync(2).
    ///
    /// # Errors
    ///
    /// Those of fsync(2), among them those of earlier writes.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    /// use greenring::io::Write;
    ///
    /// let path = std::env::temp_dir().join(format!("sync-all-{}", std::process::id()));
    /// let mut file = File::create(&path)?;
    /// file.write_all(b"safe")?;
    /// file.sync_all()?;
    /// # greenring::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sync_all(&self) -> io::Result<()> {
        self.on_disk(fs::File::sync_all)
    }

    /// As [`sync_all`](File::sync_all), but of what is known of the file only
    /// what is needed to read it. fdatasync(2).
    ///
    /// # Errors
    ///
    /// Those of fdatasync(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::File::open("Cargo.toml")?;
    /// file.sync_data()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sync_data(&self) -> io::Result<()> {
        self.on_disk(fs::File::sync_data)
    }

    /// Cuts the file, or makes it longer by a hole that reads as zeros.
    /// ftruncate(2). The position stays.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is not open for writing, and those of ftruncate(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    ///
    /// let path = std::env::temp_dir().join(format!("set-len-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// file.set_len(1 << 40)?;
    /// assert_eq!(file.metadata()?.len(), 1 << 40);
    /// # greenring::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.on_disk(|file| file.set_len(size))
    }

    /// What is known of the file. statx(2).
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::File::open("Cargo.toml")?;
    /// assert!(file.metadata()?.is_file());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.on_disk(fs::File::metadata)
    }

    /// Another handle to the same open file, by a duplicate descriptor: they
    /// share the position.
    ///
    /// # Errors
    ///
    /// Descriptors run out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    /// use greenring::io::{Read, Seek};
    ///
    /// let mut file = File::open("Cargo.toml")?;
    /// file.read_exact(&mut [0; 4])?;
    /// assert_eq!(file.try_clone()?.stream_position()?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<File> {
        let duplicate = self.0.std().try_clone()?;
        Ok(File(fd::File::duplicate(&self.0, duplicate)))
    }

    /// Changes the permissions of the file. fchmod(2).
    ///
    /// # Errors
    ///
    /// Those of fchmod(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    ///
    /// let path = std::env::temp_dir().join(format!("permissions-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// let mut permissions = file.metadata()?.permissions();
    /// permissions.set_readonly(true);
    /// file.set_permissions(permissions)?;
    /// assert!(file.metadata()?.permissions().readonly());
    /// # greenring::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_permissions(&self, perm: Permissions) -> io::Result<()> {
        self.on_disk(|file| file.set_permissions(perm))
    }

    /// Changes when the file was last read and changed. futimens(3).
    ///
    /// # Errors
    ///
    /// Those of futimens(3).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::{File, FileTimes};
    /// use std::time::SystemTime;
    ///
    /// let path = std::env::temp_dir().join(format!("times-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// file.set_times(FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH))?;
    /// assert_eq!(file.metadata()?.accessed()?, SystemTime::UNIX_EPOCH);
    /// # greenring::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.on_disk(|file| file.set_times(times))
    }

    /// Changes when the file was last changed. futimens(3).
    ///
    /// # Errors
    ///
    /// Those of futimens(3).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    /// use std::time::SystemTime;
    ///
    /// let path = std::env::temp_dir().join(format!("modified-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// file.set_modified(SystemTime::UNIX_EPOCH)?;
    /// assert_eq!(file.metadata()?.modified()?, SystemTime::UNIX_EPOCH);
    /// # greenring::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Whether it is a terminal, as `std::io::IsTerminal` tells. isatty(3).
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!greenring::fs::File::open("/dev/null")?.is_terminal());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.0.std().is_terminal()
    }

    /// For [`FileExt`](crate::os::unix::fs::FileExt).
    pub(crate) fn as_waiting(&self) -> &fd::File<fs::File> {
        &self.0
    }

    /// Has the offload pool make a call on the file, and waits for it.
    pub(super) fn on_disk<T: Send>(
        &self,
        call: impl FnOnce(&fs::File) -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let file = self.0.std();
        borrowed(Lane::Files, move || call(file))
    }

    /// How much lies behind the position of a file that has one, as far as the
    /// kernel knows without asking a file server.
    fn rest(&self) -> Option<u64> {
        if self.0.nature() != fd::Nature::Storage {
            return None;
        }
        let mut file = self.0.std();
        let position = file.stream_position().ok()?;
        let mut facts = MaybeUninit::<libc::statx>::zeroed();
        let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
        // SAFETY: an empty path that ends with its zero, and room for the facts;
        // both outlive the call.
        let result = unsafe {
            let path = c"".as_ptr();
            libc::statx(
                file.as_raw_fd(),
                path,
                flags,
                libc::STATX_SIZE,
                facts.as_mut_ptr(),
            )
        };
        // SAFETY: it is plain data, and all of it was zero before the call.
        let facts = unsafe { facts.assume_init() };
        (result == 0).then(|| facts.stx_size.saturating_sub(position))
    }
}

/// The most that [`Read::read_to_end`] asks for at once.
const LONGEST_READ: u64 = 1 << 20;

/// The file without a length that is known beforehand.
struct Unmeasured<'a>(&'a File);

impl Read for Unmeasured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.0.read(buffer)
    }
}

/// Bytes at the end of a vector that may not have been read yet, and go if they
/// are not.
struct Reading<'a> {
    buffer: &'a mut Vec<u8>,
    filled: usize,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.filled);
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(buffers)
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let start = buffer.len();
        let mut rest = self.rest().unwrap_or(0);
        buffer.try_reserve(usize::try_from(rest).unwrap_or(usize::MAX))?;
        let mut reading = Reading {
            filled: start,
            buffer,
        };
        while rest > 0 {
            let filled = reading.filled;
            reading
                .buffer
                .resize(filled + rest.min(LONGEST_READ) as usize, 0);
            match self.read(&mut reading.buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    reading.filled += count;
                    rest -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let measured = reading.filled - start;
        drop(reading);
        // The file may have grown, or not have told its length, as in /proc.
        Ok(measured + Unmeasured(self).read_to_end(buffer)?)
    }

    fn read_to_string(&mut self, buffer: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let result = self.read_to_end(&mut bytes);
        match String::from_utf8(bytes) {
            Ok(text) if buffer.is_empty() => *buffer = text,
            Ok(text) => buffer.push_str(&text),
            // The error in std's own form.
            Err(_) => return result.and_then(|_| (&b"\xff"[..]).read_to_string(buffer)),
        }
        result
    }
}

impl Write for &File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(buffers)
    }

    /// Nothing is buffered here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let _turn = self.0.position();
        match to {
            // The length may be for a server to tell.
            SeekFrom::End(_) => self.on_disk(|mut file| file.seek(to)),
            SeekFrom::Start(_) | SeekFrom::Current(_) => self.0.std().seek(to),
        }
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buffer)
    }

    fn read_to_string(&mut self, buffer: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buffer)
    }
}

impl Write for File {
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

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

descriptor_traits!(
    File,
    fs::File,
    fd::File::new,
    fd::File::into_std,
    from_raw,
    stdio
);
