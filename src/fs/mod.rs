//! Files, as in `std::fs`.
//!
//! What takes a path is std's own function, run by an OS thread of the offload
//! pool while the caller parks, so results and errors are std's. A [`File`] that
//! is there is opened, read and written through the ring, or, where there is
//! none, by the pool too.
//!
//! # Interrupts
//!
//! A caller that is [cancelled](crate::thread::JoinHandle::cancel) or runs into
//! a [`timeout`](crate::time::timeout) leaves a function of this module at once;
//! what it asked for goes on by itself, and a file that was opened is closed
//! again. A call on an open [`File`] that reaches the disk is waited for first.
//!
//! # Difference from std
//!
//! - The calls are made on other OS threads than the caller's. What Linux keeps
//!   per OS thread is theirs there: `/proc/thread-self`, the user id of
//!   setfsuid(2), a working directory of its own by unshare(2). Links such as
//!   `/proc/self` are as in std.
//! - [`OpenOptions`], [`DirBuilder`], [`ReadDir`] and [`DirEntry`] are
//!   greenring's own types, and so are their extensions in
//!   [`os::unix::fs`](crate::os::unix::fs). Types that never wait, such as
//!   [`Metadata`], are std's.
//! - The deprecated `soft_link` is missing; it is
//!   [`os::unix::fs::symlink`](crate::os::unix::fs::symlink).
//! - `close(2)` is called where a [`File`] is dropped, and the hub waits for it.
//!   On network file systems it may take a round trip, which
//!   [`File::sync_all`] before it saves; of a large file that was removed it
//!   frees the room, up to 50 ms for each 100 MiB. `blocking(move || drop(file))`
//!   has another OS thread do it.

mod contents;
mod directory;
mod fifo;
mod file;
mod lock;
mod open;
mod paths;

use std::io;
use std::path::Path;

pub use contents::{copy, read, read_to_string, write};
pub use directory::{DirBuilder, DirEntry, ReadDir, create_dir, create_dir_all, read_dir};
pub use file::File;
pub use open::OpenOptions;
pub use paths::{
    canonicalize, exists, hard_link, metadata, read_link, remove_dir, remove_dir_all, remove_file,
    rename, set_permissions, symlink_metadata,
};
#[doc(no_inline)]
pub use std::fs::{FileTimes, FileType, Metadata, Permissions, TryLockError};

use crate::blocking::{Lane, offload};

/// Has the offload pool make a call that is about one path.
pub(crate) fn on_path<T: Send + 'static>(
    path: &Path,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    offload(Lane::Files, move || call(&path))
}

/// As [`on_path`], about two.
pub(crate) fn on_paths<T: Send + 'static>(
    one: &Path,
    other: &Path,
    call: impl FnOnce(&Path, &Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (one, other) = (one.to_owned(), other.to_owned());
    offload(Lane::Files, move || call(&one, &other))
}
