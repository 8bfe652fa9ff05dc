//! How a file is opened.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::fifo;
use super::file::File;

/// How a file is to be opened, as `std::fs::OpenOptions`.
///
/// # Difference from std
///
/// To open a FIFO may wait for its other end, which stops neither the hub nor
/// the offload pool: who waits looks again in pauses of 1 to 50 ms.
///
/// # Examples
///
/// ```
/// use greenring::fs::OpenOptions;
/// use greenring::io::Write;
///
/// let path = std::env::temp_dir().join(format!("options-{}", std::process::id()));
/// let mut log = OpenOptions::new().append(true).create(true).open(&path)?;
/// log.write_all(b"a line\n")?;
/// # greenring::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct OpenOptions {
    std: fs::OpenOptions,
    /// As std's own, which do not tell them.
    custom_flags: i32,
    read: bool,
    write: bool,
    append: bool,
    /// It may make a file, or make one empty.
    changes: bool,
}

impl OpenOptions {
    /// Options that open nothing yet: all are false.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::OpenOptions;
    ///
    /// let error = OpenOptions::new().open("Cargo.toml").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    #[expect(clippy::new_without_default, reason = "as in std")]
    #[must_use]
    pub fn new() -> OpenOptions {
        OpenOptions {
            std: fs::OpenOptions::new(),
            custom_flags: 0,
            read: false,
            write: false,
            append: false,
            changes: false,
        }
    }

    /// Whether it can be read.
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::OpenOptions::new().read(true).open("Cargo.toml")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.std.read(read);
        self.read = read;
        self
    }

    /// Whether it can be written; what it holds stays until it is overwritten.
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::OpenOptions::new().write(true).open("/dev/null")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.std.write(write);
        self.write = write;
        self
    }

    /// Whether each write goes to the end of the file. O_APPEND, open(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::OpenOptions::new().append(true).open("/dev/null")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.std.append(append);
        self.append = append;
        self
    }

    /// Whether what it holds is thrown away; needs [`write`](OpenOptions::write).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut options = greenring::fs::OpenOptions::new();
    /// let file = options.write(true).truncate(true).open("/dev/null")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.std.truncate(truncate);
        self.changes |= truncate;
        self
    }

    /// Whether it is made if it is not there; needs
    /// [`write`](OpenOptions::write) or [`append`](OpenOptions::append).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::{self, OpenOptions};
    ///
    /// let path = std::env::temp_dir().join(format!("create-{}", std::process::id()));
    /// let file = OpenOptions::new().write(true).create(true).open(&path)?;
    /// # fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.std.create(create);
        self.changes |= create;
        self
    }

    /// Whether it must not be there yet and is made; then `create` and
    /// `truncate` say nothing. O_EXCL, open(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::OpenOptions;
    ///
    /// let error = OpenOptions::new().write(true).create_new(true).open("Cargo.toml");
    /// assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    /// ```
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.std.create_new(create_new);
        self.changes |= create_new;
        self
    }

    /// Opens the file. open(2) with O_CLOEXEC.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for options that contradict each other, and those of
    /// open(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::OpenOptions::new().read(true).open("Cargo.toml")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let path = path.as_ref();
        let file = match self.flags_for_the_ring() {
            Some(flags) => fifo::open_by_the_ring(path, flags)?,
            None => None,
        };
        match file {
            Some(file) => Ok(File(file)),
            None => fifo::open(&self.std, self.custom_flags, path).map(File),
        }
    }

    /// The flags of open(2), if it only has to find a file: then the ring does it
    /// without another OS thread, if the name is in the kernel's memory.
    fn flags_for_the_ring(&self) -> Option<i32> {
        if self.changes || self.custom_flags != 0 {
            return None;
        }
        let append = if self.append { libc::O_APPEND } else { 0 };
        match (self.read, self.write || self.append) {
            (true, false) => Some(libc::O_RDONLY),
            (false, true) => Some(libc::O_WRONLY | append),
            (true, true) => Some(libc::O_RDWR | append),
            // std has an error to tell.
            (false, false) => None,
        }
    }

    /// What [`os::unix::fs::OpenOptionsExt`](crate::os::unix::fs::OpenOptionsExt)
    /// sets.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.std.mode(mode);
    }

    pub(crate) fn set_custom_flags(&mut self, flags: i32) {
        self.custom_flags = flags;
        self.std.custom_flags(flags);
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
