//! The traits and types of `std::io`, re-exported.
//!
//! They work over greenring's types as they do over std's: a
//! [`BufReader`] around a [`TcpStream`](crate::net::TcpStream) parks the green
//! thread where std would block the OS thread.
//!
//! # Difference from std
//!
//! `stdin`, `stdout` and `stderr` are std's own for now: they block the OS
//! thread, as they do in a std program. `copy` waits as its reader and its
//! writer do.

mod pipe;

pub use pipe::{PipeReader, PipeWriter, pipe};

#[doc(no_inline)]
pub use std::io::*;
