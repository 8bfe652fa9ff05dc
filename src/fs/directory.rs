//! Directories: their entries, and how they are made.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::on_path;
use crate::blocking::{Lane, offload};

/// Entries that one job of the offload pool reads.
const BATCH: usize = 64;

/// Lists a directory, without `.` and `..`, in no order.
///
/// # Errors
///
/// Those of opendir(3).
///
/// # Examples
///
/// ```
/// let mut names = Vec::new();
/// for entry in greenring::fs::read_dir(".")? {
///     names.push(entry?.file_name());
/// }
/// assert!(names.contains(&"Cargo.toml".into()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref();
    let listing = on_path(path, |path| {
        let mut listing = Listing {
            std: Some(fs::read_dir(path)?),
            read: VecDeque::new(),
        };
        listing.read_on();
        Ok(listing)
    })?;
    Ok(ReadDir {
        path: path.to_owned(),
        listing: Arc::new(Mutex::new(listing)),
    })
}

/// The entries of a directory, as `std::fs::ReadDir`. Made by [`read_dir`].
///
/// Entries are read ahead, 64 at a time. What happens in the directory
/// meanwhile may be seen or not, as readdir(3) has it.
///
/// # Examples
///
/// See [`read_dir`].
pub struct ReadDir {
    path: PathBuf,
    /// Shared with the job that reads on, so that nothing is lost of what it
    /// reads for somebody who is interrupted meanwhile. The job alone holds it
    /// for long.
    listing: Arc<Mutex<Listing>>,
}

struct Listing {
    /// None when all is read.
    std: Option<fs::ReadDir>,
    read: VecDeque<io::Result<DirEntry>>,
}

impl Listing {
    /// Reads the next entries if there are none; may block.
    fn read_on(&mut self) {
        while self.read.len() < BATCH
            && let Some(std) = &mut self.std
        {
            match std.next() {
                Some(entry) => self.read.push_back(entry.map(DirEntry::new)),
                None => self.std = None,
            }
        }
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        loop {
            // It is held by a job that was left to itself, or by nobody.
            if let Ok(mut listing) = self.listing.try_lock() {
                match listing.read.pop_front() {
                    None if listing.std.is_some() => {}
                    entry => return entry,
                }
            }
            let listing = Arc::clone(&self.listing);
            let job = move || {
                let mut listing: MutexGuard<'_, Listing> =
                    listing.lock().unwrap_or_else(PoisonError::into_inner);
                if listing.read.is_empty() {
                    listing.read_on();
                }
            };
            offload(Lane::Files, job);
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.path).finish()
    }
}

/// An entry of a directory, as `std::fs::DirEntry`.
///
/// # Examples
///
/// ```
/// for entry in greenring::fs::read_dir("src")? {
///     let entry = entry?;
///     if entry.file_type()?.is_file() {
///         assert!(entry.metadata()?.len() > 0);
///     }
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DirEntry {
    std: Arc<fs::DirEntry>,
    /// As it was when the entry was read, if it could be told.
    file_type: Option<FileType>,
}

impl DirEntry {
    /// Asks some file systems for the type, and so may block.
    fn new(std: fs::DirEntry) -> DirEntry {
        DirEntry {
            file_type: std.file_type().ok(),
            std: Arc::new(std),
        }
    }

    /// The path that was given to [`read_dir`], with the entry's name.
    ///
    /// # Examples
    ///
    /// ```
    /// for entry in greenring::fs::read_dir("src")? {
    ///     assert!(entry?.path().starts_with("src"));
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.std.path()
    }

    /// What is known of the file; a symbolic link is not followed. statx(2).
    ///
    /// # Errors
    ///
    /// Those of lstat(2): the file may have gone.
    ///
    /// # Examples
    ///
    /// See [`DirEntry`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        let entry = Arc::clone(&self.std);
        offload(Lane::Files, move || entry.metadata())
    }

    /// Its type; a symbolic link is not followed. Most file systems tell it with
    /// the name, so that nothing need be read for it.
    ///
    /// # Errors
    ///
    /// Those of lstat(2).
    ///
    /// # Examples
    ///
    /// See [`DirEntry`].
    pub fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => self.metadata().map(|metadata| metadata.file_type()),
        }
    }

    /// Its name alone.
    ///
    /// # Examples
    ///
    /// See [`read_dir`].
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.std.file_name()
    }

    /// The inode's number.
    pub(crate) fn inode(&self) -> u64 {
        self.std.ino()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}

/// Makes a directory. mkdir(2).
///
/// # Errors
///
/// Those of mkdir(2): `AlreadyExists`, or `NotFound` for a parent.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("create-dir-{}", std::process::id()));
/// fs::create_dir(&path)?;
/// # fs::remove_dir(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn create_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    DirBuilder::new().create(path)
}

/// Makes a directory and those above it that are not there.
///
/// # Errors
///
/// Those of mkdir(2); a directory that is there is none. What was made until
/// then stays.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("create-dir-all-{}", std::process::id()));
/// fs::create_dir_all(path.join("deep/down"))?;
/// # fs::remove_dir_all(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn create_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

/// How a directory is made, as `std::fs::DirBuilder`.
///
/// # Examples
///
/// ```
/// use greenring::fs::{self, DirBuilder};
/// use greenring::os::unix::fs::DirBuilderExt;
///
/// let path = std::env::temp_dir().join(format!("dir-builder-{}", std::process::id()));
/// DirBuilder::new().mode(0o700).create(&path)?;
/// # fs::remove_dir(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DirBuilder {
    recursive: bool,
    mode: u32,
}

impl DirBuilder {
    /// Makes one directory, which may be used by everybody whom the umask does
    /// not exclude.
    ///
    /// # Examples
    ///
    /// See [`DirBuilder`].
    #[expect(clippy::new_without_default, reason = "as in std")]
    #[must_use]
    pub fn new() -> DirBuilder {
        DirBuilder {
            recursive: false,
            mode: 0o777,
        }
    }

    /// Whether directories above it are made too, and it may be there already.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::DirBuilder;
    ///
    /// DirBuilder::new().recursive(true).create("src")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// Makes the directory. mkdir(2).
    ///
    /// # Errors
    ///
    /// Those of [`create_dir`] or [`create_dir_all`].
    ///
    /// # Examples
    ///
    /// See [`DirBuilder`].
    pub fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let builder = self.std();
        on_path(path.as_ref(), move |path| builder.create(path))
    }

    /// What [`os::unix::fs::DirBuilderExt`](crate::os::unix::fs::DirBuilderExt)
    /// sets.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.mode = mode;
    }

    fn std(&self) -> fs::DirBuilder {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(self.recursive).mode(self.mode);
        builder
    }
}

impl fmt::Debug for DirBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std().fmt(f)
    }
}
