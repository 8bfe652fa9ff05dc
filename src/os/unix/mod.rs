//! Extensions for Unix, as in `std::os::unix`.
//!
//! `JoinHandleExt` is missing: a green thread has no pthread of its own.

pub mod fs;
pub mod net;
pub mod process;

#[doc(no_inline)]
pub use std::os::unix::io;

#[doc(no_inline)]
pub use std::os::unix::ffi;

/// All the traits of this module, for a `use` of everything.
///
/// # Examples
///
/// ```
/// use greenring::fs::File;
/// use greenring::os::unix::prelude::*;
///
/// let file = File::open("Cargo.toml")?;
/// assert!(file.as_raw_fd() >= 0 && file.metadata()?.size() > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub mod prelude {
    #[doc(no_inline)]
    pub use super::ffi::{OsStrExt, OsStringExt};
    #[doc(no_inline)]
    pub use super::fs::{
        DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
    };
    #[doc(no_inline)]
    pub use super::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
    #[doc(no_inline)]
    pub use super::process::{CommandExt, ExitStatusExt};
}
