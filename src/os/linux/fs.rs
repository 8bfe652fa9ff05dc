//! What Linux adds to files, as in `std::os::linux::fs`.

#[doc(no_inline)]
pub use std::os::linux::fs::MetadataExt;
