//! What `std::os` adds to std's types, for greenring's.

pub mod linux;
pub mod unix;

#[doc(no_inline)]
pub use std::os::{fd, raw};
