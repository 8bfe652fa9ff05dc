//! Configuring a hub, and asking which one is at work.
//!
//! Nothing here is needed to begin: each OS thread gets a hub on first use,
//! configured by the environment:
//!
//! | variable | values | default |
//! |---|---|---|
//! | `GREENRING_BACKEND` | `uring`, `epoll` | io_uring if it can be had, else epoll |
//! | `GREENRING_STACK_SIZE` | bytes, 16384 to 1073741824 | 262144 |
//! | `GREENRING_RING_ENTRIES` | 2 to 32768 | 512 |
//! | `GREENRING_READER_BUFFERS` | 1 to 16384, buffers of 64 KiB that readers share | 1024 |
//! | `GREENRING_DISABLE` | names separated by commas: `uring`, `no_sqarray`, `defer_taskrun`, `no_iowait`, `poll_first`, `accept_poll_first`, `multishot_recv`, `multishot_read`, `guard_install`, `epoll_pwait2` | none |
//! | `GREENRING_WATCHDOG` | milliseconds, 1 to 3600000 | no watchdog |
//! | `GREENRING_TRACE` | milliseconds, 1 to 3600000 | no trace |
//! | `GREENRING_SHUFFLE` | a seed, 0 to 18446744073709551615 | first in, first out |
//!
//! `GREENRING_DISABLE` masks features of the kernel, so that one kernel can test what
//! older ones do. What a [`Builder`] says beats the environment.
//!
//! `GREENRING_WATCHDOG` has an OS thread, one for the process, report on stderr
//! who holds a hub for longer than that: a green thread, with its name and where
//! it was spawned, or a root that keeps its green threads waiting. Once per
//! incident: until it lets go. It may compute, or block the OS thread in a
//! system call or at a std lock that a suspended green thread holds. A hub that
//! is watched takes some tens of nanoseconds more for each switch.
//!
//! `GREENRING_TRACE=1000` has each hub write a line about its work to stderr, at
//! most one a second: how long it worked for and which share of a processor it
//! took, then rates a second, entries and completions for each system call, how
//! many were ready at most, and how many live, are in flight, have a deadline,
//! or run and wait as calls on other OS threads. It is written by the first turn
//! of the loop after the interval and covers all the time since the one before;
//! a hub that has done nothing writes nothing, and one that sleeps is not woken.
//! Without it, [`stats`] has the same numbers and more.
//!
//! `GREENRING_SHUFFLE` makes ready green threads run in a random order instead
//! of first in, first out, to find what a program leaves to the order by
//! mistake. The same seed gives the same order as long as what makes green
//! threads ready comes in the same order. What
//! [`yield_now`](crate::thread::yield_now) promises is kept.
//!
//! A hub writes to stderr in these cases, and no others: a green thread panics
//! or overflows its stack; green threads outlive the time that `run` gives them
//! to end; the watchdog, if there is one, finds a hub held; it is traced and has
//! done something; [`inspect::print`] is called; a root has waited 10 seconds for
//! nothing but another OS thread, in which case the table of its green threads
//! is printed once; and before it ends the process, because a forked child has
//! come back to the loop, green threads that borrow can neither end nor be left,
//! or the runtime itself has failed.
//!
//! [`inspect::print`]: crate::inspect::print

use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use crate::backend::Choice;
use crate::hub::{
    self, Config, INTERVAL_RANGE, READER_BUFFERS_RANGE, RING_ENTRIES_RANGE, STACK_SIZES,
};

pub use crate::backend::Kind as Backend;
pub use crate::hub::Stats;

/// Configures a hub and runs a closure on it.
///
/// # Examples
///
/// ```
/// use greenring::runtime::{self, Backend};
///
/// let backend = runtime::Builder::new()
///     .backend(Backend::Epoll)
///     .run(runtime::backend)?;
/// assert_eq!(backend, Backend::Epoll);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `run`"]
pub struct Builder {
    backend: Option<Backend>,
    stack_size: Option<usize>,
    ring_entries: Option<u32>,
    reader_buffers: Option<u16>,
    name: Option<String>,
    end_timeout: Option<Duration>,
    watchdog: Option<Duration>,
    trace: Option<Duration>,
}

impl Builder {
    /// A hub as the environment configures it.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(greenring::runtime::Builder::new().run(|| 1)?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Asks for a backend by name: that one, or an error from [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::runtime::{Backend, Builder};
    ///
    /// match Builder::new().backend(Backend::Uring).run(|| ()) {
    ///     Ok(()) => println!("io_uring can be had"),
    ///     Err(error) => println!("{error}"), // says why not
    /// }
    /// ```
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = Some(backend);
        self
    }

    /// Sets the size in bytes of the stacks of green threads that are spawned
    /// without a size of their own; 16 KiB to 1 GiB, guard page included.
    ///
    /// # Examples
    ///
    /// ```
    /// let builder = greenring::runtime::Builder::new().stack_size(64 * 1024);
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Sets the number of submission queue entries of the ring, 2 to 32768;
    /// the kernel rounds up to a power of two.
    ///
    /// # Examples
    ///
    /// ```
    /// let builder = greenring::runtime::Builder::new().ring_entries(1024);
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ring_entries(mut self, entries: u32) -> Builder {
        self.ring_entries = Some(entries);
        self
    }

    /// Sets how many buffers of 64 KiB the [readers](crate::io::Reader) of the hub
    /// share at the most, 1 to 16384. The hub begins with 16 and takes more
    /// when they run out, unless those that are held have much in them: bulk data
    /// is to stay in the processor's cache. Memory that was never received into is
    /// not used, and an idle hub keeps that of 64 buffers at the most.
    ///
    /// # Examples
    ///
    /// ```
    /// let builder = greenring::runtime::Builder::new().reader_buffers(4096);
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reader_buffers(mut self, buffers: u16) -> Builder {
        self.reader_buffers = Some(buffers);
        self
    }

    /// Names the hub's root in the table of green threads.
    ///
    /// # Examples
    ///
    /// ```
    /// let builder = greenring::runtime::Builder::new().name("front end");
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Sets how long the end of [`run`](Self::run) waits for cancelled green
    /// threads; 10 seconds if not set. Those that have not ended by then are
    /// reported on stderr and abandoned. What other OS threads have borrowed from
    /// them (the closure of a [`blocking`](crate::blocking()), a buffer that a file
    /// is read into) is waited for all the same, however long.
    ///
    /// One that waits in a destructor while it unwinds holds all others up: as
    /// long as it unwinds, nobody on its OS thread can be cancelled (std counts
    /// panics per OS thread, so nobody can tell whose it is). If it is
    /// abandoned there, `std::thread::panicking` stays true on that OS thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = greenring::runtime::Builder::new().end_timeout(Duration::from_secs(1));
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn end_timeout(mut self, timeout: Duration) -> Builder {
        self.end_timeout = Some(timeout);
        self
    }

    /// Has the watchdog report who holds the hub for longer than `limit`, 1 ms to
    /// an hour, as `GREENRING_WATCHDOG` does; see the [module](self).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = greenring::runtime::Builder::new().watchdog(Duration::from_secs(1));
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn watchdog(mut self, limit: Duration) -> Builder {
        self.watchdog = Some(limit);
        self
    }

    /// Has the hub write a line about what it does to stderr each `interval`, 1 ms
    /// to an hour, as `GREENRING_TRACE` does; see the [module](self).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = greenring::runtime::Builder::new().trace(Duration::from_secs(1));
    /// builder.run(|| ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn trace(mut self, interval: Duration) -> Builder {
        self.trace = Some(interval);
        self
    }

    /// Runs `f` on a new hub of the calling OS thread, and ends the hub.
    ///
    /// When `f` returns, green threads that are still alive are cancelled: each
    /// unwinds from the call in which it waits, and all of them have ended when
    /// `run` returns. An operation in flight is cancelled and its completion
    /// awaited first. A panic of `f` is resumed after that.
    ///
    /// A hub that the OS thread got on first use is ended first if it is idle.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: a value that is not allowed, given here or by the
    ///   environment; the text names it and what is allowed.
    /// - The backend that was asked for cannot be had; the text says why.
    /// - The OS thread runs a hub with live green threads, or this is one.
    /// - No descriptors or memory for a hub.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{runtime, thread};
    ///
    /// let sum = runtime::Builder::new().stack_size(64 * 1024).run(|| {
    ///     let handles: Vec<_> = (0..10).map(|n| thread::spawn(move || n)).collect();
    ///     handles.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>()
    /// })?;
    /// assert_eq!(sum, 45);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn run<T>(self, f: impl FnOnce() -> T) -> io::Result<T> {
        let config = self.config()?;
        match hub::run(config, f)? {
            Ok(value) => Ok(value),
            Err(payload) => resume_unwind(payload),
        }
    }

    fn config(self) -> io::Result<Config> {
        let mut config = Config::from_environment()?;
        if let Some(kind) = self.backend {
            config.choice = Choice::Asked {
                kind,
                by: "runtime::Builder::backend",
            };
        }
        if let Some(size) = self.stack_size {
            check("stack_size", size, STACK_SIZES)?;
            config.stack_size = size;
        }
        if let Some(buffers) = self.reader_buffers {
            check("reader_buffers", buffers, READER_BUFFERS_RANGE)?;
            config.reader_buffers = buffers;
        }
        if let Some(entries) = self.ring_entries {
            check("ring_entries", entries, RING_ENTRIES_RANGE)?;
            config.ring_entries = entries;
        }
        config.name = self.name;
        if let Some(timeout) = self.end_timeout {
            config.end_timeout = timeout;
        }
        if let Some(limit) = self.watchdog {
            check_interval("watchdog", limit)?;
            config.watchdog = Some(limit);
        }
        if let Some(interval) = self.trace {
            check_interval("trace", interval)?;
            config.trace = Some(interval);
        }
        Ok(config)
    }
}

fn check_interval(name: &str, interval: Duration) -> io::Result<()> {
    let milliseconds = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    check(
        &format!("{name}, in milliseconds,"),
        milliseconds,
        INTERVAL_RANGE,
    )
}

fn check<N: PartialOrd + fmt::Display>(
    name: &str,
    value: N,
    allowed: std::ops::RangeInclusive<N>,
) -> io::Result<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "runtime::Builder::{name} is {value}; allowed: {} to {}",
            allowed.start(),
            allowed.end()
        ),
    ))
}

/// The backend of the calling OS thread's hub, which is started if there is none.
///
/// # Panics
///
/// If the hub cannot be started, or has ended with its OS thread.
///
/// # Examples
///
/// ```
/// use greenring::runtime;
///
/// println!("{}: {}", runtime::backend(), runtime::backend_reason());
/// ```
pub fn backend() -> Backend {
    started().0
}

/// Why the hub works with [`backend`], in one sentence.
///
/// # Panics
///
/// As [`backend`].
///
/// # Examples
///
/// ```
/// use greenring::runtime::{self, Backend};
///
/// let reason = runtime::Builder::new()
///     .backend(Backend::Epoll)
///     .run(runtime::backend_reason)?;
/// assert_eq!(reason, "epoll, asked for by runtime::Builder::backend");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn backend_reason() -> String {
    started().1
}

fn started() -> (Backend, String) {
    hub::backend().unwrap_or_else(|error| panic!("no hub can be had: {error}"))
}

/// What the calling OS thread's hub has counted since its start.
///
/// All zero if it has no hub; asking does not start one.
///
/// # Examples
///
/// ```
/// use greenring::{runtime, thread};
///
/// runtime::Builder::new().run(|| {
///     thread::spawn(|| {}).join().unwrap();
///     assert_eq!(runtime::stats().spawned, 1);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stats() -> Stats {
    hub::stats()
}
