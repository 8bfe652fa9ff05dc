//! Extensions for Unix, as in `std::os::unix`.
//!
//! `JoinHandleExt` is missing: a green thread has no pthread of its own.

pub mod fs;
pub mod net;
pub mod process;

#[doc(no_inline)]
pub use std::os::unix::io;
