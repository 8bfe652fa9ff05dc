//! Child processes, under the names of `std::process`.
//!
//! A [`Command`] is std's with another `spawn`; what waits parks the green
//! thread: [`Child::wait`], [`Command::output`], a read from a [`ChildStdout`].
//! An end is waited for with pidfd_open(2), on any hub and on OS threads
//! without one. SIGCHLD is never touched, so a program may have a handler for
//! it and other libraries may have children.
//!
//! ```
//! use greenring::process::Command;
//! use greenring::thread;
//!
//! let handles: Vec<_> = (0..4)
//!     .map(|n| thread::spawn(move || Command::new("echo").arg(n.to_string()).output()))
//!     .collect();
//! for (n, handle) in handles.into_iter().enumerate() {
//!     let output = handle.join().unwrap()?;
//!     assert_eq!(output.stdout, format!("{n}\n").into_bytes());
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Difference from std
//!
//! - Between fork(2) and execve(2) the caller's OS thread waits, and with it its
//!   hub, see [`Command::spawn`]. Everything else that waits parks.
//! - An error of reading is returned by [`Child::wait_with_output`] and
//!   [`Command::output`]; std panics.
//! - A green thread that is cancelled in one of the waiting calls leaves the
//!   child to itself, as dropping the [`Child`] does: it is neither killed nor
//!   waited for.
//! - Before Linux 5.3, and where pidfd_open(2) is forbidden or no descriptor is
//!   left, the child is looked at every now and then, at most 50 ms apart.

mod child;
mod command;
mod stdio;

#[doc(no_inline)]
pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id,
};

pub use child::Child;
pub use command::Command;
pub use stdio::{ChildStderr, ChildStdin, ChildStdout};
