//! What is done with a name in the file system.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use super::{on_path, on_paths};

/// Removes a file. unlink(2).
///
/// # Errors
///
/// Those of unlink(2): a directory is `IsADirectory`.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("remove-file-{}", std::process::id()));
/// fs::write(&path, "brief")?;
/// fs::remove_file(&path)?;
/// assert!(!fs::exists(&path)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_file<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path.as_ref(), |path| fs::remove_file(path))
}

/// What is known of a file, of the one a symbolic link leads to. statx(2).
///
/// # Errors
///
/// Those of stat(2).
///
/// # Examples
///
/// ```
/// let metadata = greenring::fs::metadata("Cargo.toml")?;
/// assert!(metadata.is_file() && metadata.len() > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    on_path(path.as_ref(), |path| fs::metadata(path))
}

/// As [`metadata`], but of a symbolic link itself. statx(2).
///
/// # Errors
///
/// Those of lstat(2).
///
/// # Examples
///
/// ```
/// assert!(greenring::fs::symlink_metadata("/proc/self")?.is_symlink());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn symlink_metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    on_path(path.as_ref(), |path| fs::symlink_metadata(path))
}

/// Renames a file or a directory, and replaces what has the new name. rename(2).
///
/// # Errors
///
/// Those of rename(2): both names must be on one file system, else
/// `CrossesDevices`.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let from = std::env::temp_dir().join(format!("rename-from-{}", std::process::id()));
/// let to = from.with_extension("to");
/// fs::write(&from, "moves")?;
/// fs::rename(&from, &to)?;
/// assert_eq!(fs::read(&to)?, b"moves");
/// # fs::remove_file(&to)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn rename<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<()> {
    on_paths(from.as_ref(), to.as_ref(), |from, to| fs::rename(from, to))
}

/// Gives a file a second name. A symbolic link gets one itself. linkat(2).
///
/// # Errors
///
/// Those of link(2): `AlreadyExists`, or `CrossesDevices`.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let original = std::env::temp_dir().join(format!("hard-link-{}", std::process::id()));
/// let link = original.with_extension("link");
/// fs::write(&original, "one file")?;
/// fs::hard_link(&original, &link)?;
/// assert_eq!(fs::read(&link)?, b"one file");
/// # fs::remove_file(&original)?;
/// # fs::remove_file(&link)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn hard_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    on_paths(original.as_ref(), link.as_ref(), |original, link| {
        fs::hard_link(original, link)
    })
}

/// Where a symbolic link leads. readlink(2).
///
/// # Errors
///
/// Those of readlink(2): `InvalidInput` if it is none.
///
/// # Examples
///
/// ```
/// let target = greenring::fs::read_link("/proc/self")?;
/// assert_eq!(target, std::path::Path::new(&std::process::id().to_string()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_link<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    on_path(path.as_ref(), |path| fs::read_link(path))
}

/// The absolute path without links, `.` and `..`. realpath(3).
///
/// # Errors
///
/// Those of realpath(3): all that the path names must exist.
///
/// # Examples
///
/// ```
/// let path = greenring::fs::canonicalize("src/../Cargo.toml")?;
/// assert!(path.is_absolute() && path.ends_with("Cargo.toml"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn canonicalize<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    on_path(path.as_ref(), |path| fs::canonicalize(path))
}

/// Removes an empty directory. rmdir(2).
///
/// # Errors
///
/// Those of rmdir(2): `DirectoryNotEmpty`, or `NotADirectory`.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("remove-dir-{}", std::process::id()));
/// fs::create_dir(&path)?;
/// fs::remove_dir(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path.as_ref(), |path| fs::remove_dir(path))
}

/// Removes a directory with all that is in it; follows no symbolic link.
///
/// Who is interrupted leaves the removal to go on by itself.
///
/// # Errors
///
/// The first one that is met; what was removed until then is gone.
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("remove-dir-all-{}", std::process::id()));
/// fs::create_dir_all(path.join("deep/down"))?;
/// fs::remove_dir_all(&path)?;
/// assert!(!fs::exists(&path)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path.as_ref(), |path| fs::remove_dir_all(path))
}

/// Changes the permissions of a file, of the one a symbolic link leads to.
/// chmod(2).
///
/// # Errors
///
/// Those of chmod(2).
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("set-permissions-{}", std::process::id()));
/// fs::write(&path, "mine")?;
/// let mut permissions = fs::metadata(&path)?.permissions();
/// permissions.set_readonly(true);
/// fs::set_permissions(&path, permissions)?;
/// assert!(fs::metadata(&path)?.permissions().readonly());
/// # fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_permissions<P: AsRef<Path>>(path: P, perm: Permissions) -> io::Result<()> {
    on_path(path.as_ref(), move |path| fs::set_permissions(path, perm))
}

/// Whether a path leads to something; a symbolic link to nothing does not.
///
/// # Errors
///
/// Those of stat(2), if it cannot be told: a directory on the way may not be
/// looked into.
///
/// # Examples
///
/// ```
/// assert!(greenring::fs::exists("Cargo.toml")?);
/// assert!(!greenring::fs::exists("Cargo.toml.or.not")?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    on_path(path.as_ref(), |path| fs::exists(path))
}
