//! What Unix adds to files, as in `std::os::unix::fs`.
//!
//! # Difference from std
//!
//! The traits over greenring's own types are greenring's, with std's methods,
//! because std's can be implemented by std's types alone. Those over
//! [`Metadata`](crate::fs::Metadata), [`Permissions`](crate::fs::Permissions)
//! and [`FileType`](crate::fs::FileType) are std's.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs;
use std::path::Path;

#[doc(no_inline)]
pub use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use crate::blocking::{Lane, borrowed};
use crate::fs::{DirBuilder, DirEntry, File, OpenOptions, on_path, on_paths};

mod sealed {
    /// Keeps the traits ours, so that methods can be added to them.
    pub trait Sealed {}
    impl Sealed for crate::fs::DirBuilder {}
    impl Sealed for crate::fs::DirEntry {}
    impl Sealed for crate::fs::OpenOptions {}
}

/// Reads and writes of a [`File`] at an offset, which leave its position alone.
///
/// # Examples
///
/// ```
/// use greenring::fs::File;
/// use greenring::os::unix::fs::FileExt;
///
/// let file = File::open("Cargo.toml")?;
/// let mut word = [0; 7];
/// file.read_exact_at(&mut word, 1)?;
/// assert_eq!(&word, b"package");
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait FileExt {
    /// Reads from an offset in bytes. pread(2).
    ///
    /// # Errors
    ///
    /// Those of pread(2): what has no position cannot.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    /// use greenring::os::unix::fs::FileExt;
    ///
    /// // Behind the end.
    /// assert_eq!(File::open("Cargo.toml")?.read_at(&mut [0; 8], 1 << 40)?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads from an offset until the buffer is full.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before, and those of pread(2).
    ///
    /// # Examples
    ///
    /// See [`FileExt`].
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                // The error in std's own form.
                Ok(0) => return io::empty().read_exact(buf),
                Ok(count) => {
                    buf = &mut buf[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes to an offset in bytes. pwrite(2).
    ///
    /// Linux appends to a file that was opened for that, wherever the offset.
    ///
    /// # Errors
    ///
    /// Those of pwrite(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::{self, File};
    /// use greenring::os::unix::fs::FileExt;
    ///
    /// let path = std::env::temp_dir().join(format!("write-at-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// assert_eq!(file.write_at(b"behind a hole", 4096)?, 13);
    /// assert_eq!(fs::metadata(&path)?.len(), 4109);
    /// # fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes the whole buffer to an offset.
    ///
    /// # Errors
    ///
    /// `WriteZero` if the file takes no more, and those of pwrite(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::{self, File};
    /// use greenring::os::unix::fs::FileExt;
    ///
    /// let path = std::env::temp_dir().join(format!("write-all-at-{}", std::process::id()));
    /// File::create(&path)?.write_all_at(b"at the begin", 0)?;
    /// # fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                // The error in std's own form.
                Ok(0) => return (&mut [][..]).write_all(buf),
                Ok(count) => {
                    buf = &buf[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl FileExt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_waiting().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.as_waiting().write_at(buf, offset)
    }
}

/// What Unix adds to [`OpenOptions`].
///
/// # Examples
///
/// ```
/// use greenring::fs::{self, OpenOptions};
/// use greenring::os::unix::fs::{OpenOptionsExt, PermissionsExt};
///
/// let path = std::env::temp_dir().join(format!("open-mode-{}", std::process::id()));
/// let mut options = OpenOptions::new();
/// let file = options.write(true).create(true).mode(0o600).open(&path)?;
/// assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
/// # fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait OpenOptionsExt: sealed::Sealed {
    /// The mode of a file that is made, less the umask; else it is 0o666.
    ///
    /// # Examples
    ///
    /// See [`OpenOptionsExt`].
    fn mode(&mut self, mode: u32) -> &mut Self;

    /// Further flags of open(2), in place of those that were set by this before.
    ///
    /// With O_NONBLOCK a FIFO or a terminal fails with `WouldBlock` where it
    /// would have to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::OpenOptions;
    /// use greenring::os::unix::fs::OpenOptionsExt;
    ///
    /// let mut options = OpenOptions::new();
    /// let error = options.read(true).custom_flags(libc::O_NOFOLLOW).open("/proc/self");
    /// assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ELOOP));
    /// ```
    fn custom_flags(&mut self, flags: i32) -> &mut Self;
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.set_mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.set_custom_flags(flags);
        self
    }
}

/// What Unix adds to [`DirEntry`].
///
/// # Examples
///
/// ```
/// use greenring::os::unix::fs::DirEntryExt;
///
/// for entry in greenring::fs::read_dir("src")? {
///     assert_ne!(entry?.ino(), 0);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait DirEntryExt: sealed::Sealed {
    /// The number of the inode, `d_ino` of readdir(3).
    ///
    /// # Examples
    ///
    /// See [`DirEntryExt`].
    fn ino(&self) -> u64;
}

impl DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.inode()
    }
}

/// What Unix adds to [`DirBuilder`].
///
/// # Examples
///
/// See [`DirBuilder`].
pub trait DirBuilderExt: sealed::Sealed {
    /// The mode of the directories that are made, less the umask; else 0o777.
    ///
    /// # Examples
    ///
    /// See [`DirBuilder`].
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.set_mode(mode);
        self
    }
}

/// Makes a symbolic link that leads to `original`, be it there or not.
/// symlink(2).
///
/// # Errors
///
/// Those of symlink(2).
///
/// # Examples
///
/// ```
/// use greenring::fs;
/// use greenring::os::unix::fs::symlink;
///
/// let link = std::env::temp_dir().join(format!("symlink-{}", std::process::id()));
/// symlink("anywhere", &link)?;
/// assert_eq!(fs::read_link(&link)?.as_os_str(), "anywhere");
/// # fs::remove_file(&link)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn symlink<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    on_paths(original.as_ref(), link.as_ref(), |original, link| {
        fs::symlink(original, link)
    })
}

/// Changes whose a file is; `None` changes nothing. chown(2).
///
/// # Errors
///
/// Those of chown(2): `PermissionDenied` for most users.
///
/// # Examples
///
/// ```
/// greenring::os::unix::fs::chown(std::env::temp_dir(), None, None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn chown<P: AsRef<Path>>(dir: P, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    on_path(dir.as_ref(), move |dir| fs::chown(dir, uid, gid))
}

/// As [`chown`], of an open file. fchown(2).
///
/// # Errors
///
/// Those of fchown(2).
///
/// # Examples
///
/// ```
/// let file = greenring::fs::File::open("Cargo.toml")?;
/// greenring::os::unix::fs::fchown(&file, None, None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn fchown<F: AsFd>(fd: F, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let fd = fd.as_fd();
    borrowed(Lane::Files, move || fs::fchown(fd, uid, gid))
}

/// As [`chown`], of a symbolic link itself. lchown(2).
///
/// # Errors
///
/// Those of lchown(2).
///
/// # Examples
///
/// ```
/// greenring::os::unix::fs::lchown(std::env::temp_dir(), None, None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn lchown<P: AsRef<Path>>(dir: P, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    on_path(dir.as_ref(), move |dir| fs::lchown(dir, uid, gid))
}

/// Makes a directory the root of all paths of the process. chroot(2).
///
/// # Errors
///
/// Those of chroot(2): `PermissionDenied` for most users.
///
/// # Examples
///
/// ```
/// let error = greenring::os::unix::fs::chroot("Cargo.toml").unwrap_err();
/// assert_ne!(error.kind(), std::io::ErrorKind::NotFound);
/// ```
pub fn chroot<P: AsRef<Path>>(dir: P) -> io::Result<()> {
    on_path(dir.as_ref(), |dir| fs::chroot(dir))
}
