//! Green threads over io_uring: plain blocking Rust, std's names, no async.
//!
//! greenring runs stackful coroutines, *green threads*, on a *hub*, one per OS
//! thread. The hub hands socket and file operations and timers to io_uring and parks
//! the green thread until its completion arrives. The code above is ordinary
//! blocking Rust over borrowed buffers; it is ported from std by replacing
//! `std::` in its imports. Where io_uring is forbidden an epoll backend serves
//! with the same behaviour, and [`runtime::backend_reason`] says why.
//!
//! ```no_run
//! use greenring::io::{Read, Write};
//! use greenring::net::TcpListener;
//! use greenring::thread;
//!
//! fn main() -> std::io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:7000")?;
//!     for stream in listener.incoming() {
//!         let mut stream = stream?;
//!         thread::spawn(move || -> std::io::Result<()> {
//!             let mut buffer = [0; 4096];
//!             loop {
//!                 match stream.read(&mut buffer)? {
//!                     0 => return Ok(()),
//!                     n => stream.write_all(&buffer[..n])?,
//!                 }
//!             }
//!         });
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`net`], [`os::unix::net`], [`fs`], [`io`] and [`process`] are std's modules of
//! these names; [`blocking`](blocking()) runs what cannot park, and
//! [`net::server`] serves.
//!
//! Around that stands what concurrent programs need, under std's names where
//! std has it: [`thread`] with scopes, [`sync`] with locks and channels,
//! [`select!`], [`pool`], [`time::timeout`], [`cancel`], [`thread_local!`],
//! [`signal`] and [`block_on`](block_on()). [`inspect`] shows what everybody waits for.
//!
//! # Where a line of code belongs
//!
//! Imports go down or sideways, never up, and never in a circle;
//! `tests/tidy.rs` checks it.
//!
//! ```text
//!  5  runtime  inspect                                  start and look
//!  4  thread  net  io  fs  process  os  time  signal    std's faces: names and docs, no mechanism
//!     pool
//!  3  fd  sync  cancel  blocking  block_on  pauses      typed operations and waiting, on park and perform
//!  2  hub                                               the only place where a stack is switched
//!  1  backend  hub::{stack, switch, timers, run_queue,  leaves: the kernel's side, the switch itself and data
//!              locals}                                  structures
//!  0  atomic  std  libc  nix  io-uring  slab  (corosensei)
//! ```
//!
//! A `TcpStream::read` passes through four rooms: `net/tcp.rs` (the face) →
//! `fd/socket.rs` (builds `Operation::Recv`) → `hub/perform.rs` (slot, submit, park)
//! → `backend/uring.rs` queues the entry, or `backend/epoll.rs` tries the call
//! and waits for readiness. On the way back the hub's loop (`hub/mod.rs`)
//! collects the completion, stores it in the green thread's slot, and resumes
//! the green thread in its turn. A `reader()` goes by `fd/reader.rs` and
//! `hub/source.rs` instead: an operation that goes on, with buffers that
//! `backend/buffers.rs` shares with the kernel.
//!
//! The rule that makes borrowed buffers sound, the landlord rule, is stated in
//! `hub/perform.rs`.
//!
//! # Limits
//!
//! - Linux only; io_uring needs Linux 5.19 (6.1 or later is better), the epoll
//!   backend 4.14.
//! - A green thread stays on its OS thread. To use several cores, run a hub on
//!   each of several OS threads.
//! - A call that blocks the OS thread (a std lock held by a green thread that
//!   waits, a foreign library's I/O, a long computation) stops its hub.
//! - std's thread-locals are shared by the green threads of an OS thread;
//!   [`thread_local!`] gives each its own.
//! - Green threads that are alive when their OS thread ends are abandoned.
//! - With `panic = "abort"` nothing can be cancelled or limited in time, see
//!   [`cancel::supported`].

#![deny(
    missing_docs,
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

#[cfg(not(target_os = "linux"))]
compile_error!("greenring works on Linux only: it stands on io_uring and epoll");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod atomic;
mod backend;
mod block_on;
mod blocking;
mod fd;
mod hub;
mod pauses;

pub mod cancel;
pub mod fs;
pub mod inspect;
pub mod io;
pub mod net;
pub mod os;
pub mod pool;
pub mod process;
pub mod runtime;
pub mod signal;
pub mod sync;
pub mod thread;
pub mod time;

pub use block_on::block_on;
pub use blocking::blocking;
pub use cancel::Cancelled;
pub use thread::{sleep, spawn, yield_now};
