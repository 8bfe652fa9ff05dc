//! The traits and types of `std::io`, re-exported.
//!
//! They work over greenring's types as they do over std's: a
//! [`BufReader`] around a [`TcpStream`](crate::net::TcpStream) parks the green
//! thread where std would block the OS thread.
//!
//! # Standard streams
//!
//! [`stdin`], [`stdout`] and [`stderr`] park where std's block, whatever they are
//! open on: a terminal, a pipe, a file. The flags of their descriptors, which
//! other processes share, are left as they are; one that somebody has set to
//! non-blocking mode is waited for like any other, where std fails with
//! `WouldBlock`. [`print!`](crate::print!), [`println!`](crate::println!),
//! [`eprint!`](crate::eprint!) and [`eprintln!`](crate::eprintln!) write to them.
//!
//! std's macros, which need no import, write to std's handles and block. What
//! they have printed and not flushed is flushed by [`stdout`]`().flush()` too, so
//! that a prompt appears before its answer is waited for; otherwise the two
//! buffers know nothing of each other. `use greenring::{print, println};` makes
//! one of them. (`use greenring::*;` leaves the compiler in doubt whose are
//! meant.)
//!
//! # Reading ahead
//!
//! [`Reader`] lends the kernel's own buffers as a [`BufRead`].
//!
//! # Difference from std
//!
//! - Where several read from one terminal, who does not get the line sits on an
//!   OS thread of the offload pool until there is another one, and can no more be
//!   interrupted than in std.
//! - `is_terminal` is a method of the standard streams, not of
//!   [`std::io::IsTerminal`], which is closed to other types.
//! - [`copy()`] parks, and has the kernel move the bytes between greenring's types.

mod copy;
mod pipe;
mod print;
mod reentrant;
mod stdio;

pub use crate::fd::{Reader, Writer};
pub use copy::copy;
pub use pipe::{PipeReader, PipeWriter, pipe};
#[doc(hidden)]
pub use stdio::{_eprint, _print};
pub use stdio::{Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, stderr, stdin, stdout};

#[doc(no_inline)]
pub use std::io::*;
