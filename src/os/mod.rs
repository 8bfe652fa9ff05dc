//! What `std::os` adds to std's types, for greenring's.

pub mod linux;

#[doc(no_inline)]
pub use std::os::fd;
