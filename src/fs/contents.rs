//! Whole files at once.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::file::File;
use super::open::OpenOptions;
use super::{on_path, on_paths};

/// Reads all that is in a file.
///
/// # Errors
///
/// Those of open(2) and read(2): a directory is `IsADirectory`.
///
/// # Examples
///
/// ```
/// let bytes = greenring::fs::read("Cargo.toml")?;
/// assert!(bytes.starts_with(b"[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read<P: AsRef<Path>>(path: P) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    match on_path(path, |path| if_regular(path, || fs::read(path)))? {
        Some(bytes) => Ok(bytes),
        None => {
            let mut bytes = Vec::new();
            File::open(path)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    }
}

/// Reads all that is in a file, as text.
///
/// # Errors
///
/// `InvalidData` if it is not UTF-8, and those of [`read`].
///
/// # Examples
///
/// ```
/// let text = greenring::fs::read_to_string("Cargo.toml")?;
/// assert!(text.contains("greenring"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    let path = path.as_ref();
    match on_path(path, |path| if_regular(path, || fs::read_to_string(path)))? {
        Some(text) => Ok(text),
        None => {
            let mut text = String::new();
            File::open(path)?.read_to_string(&mut text)?;
            Ok(text)
        }
    }
}

/// Makes these the contents of a file, which is made if it is not there.
///
/// # Errors
///
/// Those of open(2) and write(2).
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("write-{}", std::process::id()));
/// fs::write(&path, "all of it")?;
/// assert_eq!(fs::read(&path)?, b"all of it");
/// # fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    File::create(path)?.write_all(contents.as_ref())
}

/// Copies the contents of a file and its permissions, and tells how many bytes
/// they were. A file that has the new name already is emptied first.
///
/// # Errors
///
/// `InvalidInput` if the source is not a regular file, and those of open(2),
/// read(2) and write(2).
///
/// # Examples
///
/// ```
/// use greenring::fs;
///
/// let path = std::env::temp_dir().join(format!("copy-{}", std::process::id()));
/// let copied = fs::copy("Cargo.toml", &path)?;
/// assert_eq!(copied, fs::metadata("Cargo.toml")?.len());
/// # fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn copy<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<u64> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let copied = on_paths(from, to, |from, to| {
        // What is not there yet will be a regular file.
        let is_special = |path| fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        if is_special(from) || is_special(to) {
            return Ok(None);
        }
        fs::copy(from, to).map(Some)
    })?;
    copied.map_or_else(|| copy_special(from, to), Ok)
}

/// As std copies where one of the two is a FIFO, a device, a directory.
#[cold]
fn copy_special(from: &Path, to: &Path) -> io::Result<u64> {
    let mut from = File::open(from)?;
    let metadata = from.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the source path is neither a regular file nor a symlink to a regular file",
        ));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.set_mode(metadata.mode());
    io::copy(&mut from, &mut options.open(to)?)
}

/// Makes the call if a path does not lead to something special, which may keep
/// its reader waiting; that is for [`File`] to do.
fn if_regular<T>(path: &Path, call: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Ok(None),
        // The call has std's error to tell.
        _ => call().map(Some),
    }
}
