//! `std::time`, re-exported.

#[doc(no_inline)]
pub use std::time::*;
