//! What the green threads of a hub do, and what they wait for.
//!
//! The same table is in the panic of a wait that nothing can end, in the report
//! of a hub that has been silent for 10 seconds, and in that of a hub's end that
//! takes too long. It costs nothing while nobody looks.
//!
//! The environment variable `GREENRING_WATCHDOG` has an OS thread look for what
//! this module cannot see: a green thread that does not let go of its hub. See
//! [`runtime`](crate::runtime).
//!
//! # Examples
//!
//! ```
//! use greenring::{inspect, thread};
//!
//! let waiting = thread::Builder::new().name("waiting".into()).spawn(thread::park)?;
//! thread::yield_now();
//! let snapshot = inspect::snapshot();
//! assert_eq!(snapshot.green_threads()[0].name(), Some("waiting"));
//! // root 'main': running
//! // green thread 'waiting' (id 2): parked until it is unparked, spawned at …
//! println!("{snapshot}");
//! # waiting.thread().unpark();
//! # waiting.join().unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

use crate::hub::{self, Row};
use crate::thread::ThreadId;

pub use crate::hub::Standing as State;

/// Looks at the calling OS thread's hub: its root, and every green thread that
/// has not ended.
///
/// On an OS thread without a hub the snapshot is empty; asking does not start
/// one. For each green thread the kernel is asked how much of its stack was
/// touched, so this is for people and tests, not for a hot path.
///
/// # Examples
///
/// ```
/// use greenring::{inspect, thread};
///
/// let sleeps = thread::spawn(|| thread::sleep(std::time::Duration::from_millis(1)));
/// thread::yield_now();
/// let snapshot = inspect::snapshot();
/// assert_eq!(snapshot.green_threads()[0].doing(), "sleeps");
/// sleeps.join().unwrap();
/// ```
#[must_use]
pub fn snapshot() -> Snapshot {
    let mut rows = hub::rows().into_iter().map(GreenThread);
    Snapshot {
        root: rows.next(),
        green_threads: rows.collect(),
    }
}

/// Prints a [`snapshot`] to stderr.
///
/// # Examples
///
/// ```
/// greenring::thread::spawn(greenring::inspect::print).join().unwrap();
/// ```
pub fn print() {
    hub::say(&format!("greenring: {}", snapshot()));
}

/// What a hub's green threads did at one moment, in the order of the hub's
/// table. It is displayed as a table with a line each.
///
/// # Examples
///
/// ```
/// use greenring::inspect;
///
/// let nothing = std::thread::spawn(inspect::snapshot).join().unwrap();
/// assert_eq!(nothing.to_string(), "this OS thread has no hub");
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    root: Option<GreenThread>,
    green_threads: Vec<GreenThread>,
}

impl Snapshot {
    /// The OS thread's own stack; `None` if it has no hub.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{inspect, thread};
    ///
    /// let snapshot = thread::spawn(inspect::snapshot).join().unwrap();
    /// let root = snapshot.root().unwrap();
    /// assert_eq!(root.id(), thread::current().id());
    /// assert_eq!(root.state(), inspect::State::Parked); // it joins
    /// ```
    #[must_use]
    pub fn root(&self) -> Option<&GreenThread> {
        self.root.as_ref()
    }

    /// The green threads that had not ended, without the root.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{inspect, thread};
    ///
    /// let handles: Vec<_> = (0..3).map(|_| thread::spawn(|| {})).collect();
    /// assert_eq!(inspect::snapshot().green_threads().len(), 3);
    /// thread::join_all(handles);
    /// assert!(inspect::snapshot().green_threads().is_empty());
    /// ```
    #[must_use]
    pub fn green_threads(&self) -> &[GreenThread] {
        &self.green_threads
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(root) = &self.root else {
            return f.write_str("this OS thread has no hub");
        };
        let count = self.green_threads.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} green thread{plural}\n  {root}")?;
        for green_thread in &self.green_threads {
            write!(f, "\n  {green_thread}")?;
        }
        Ok(())
    }
}

/// One line of a [`Snapshot`]: a green thread, or the root.
///
/// # Examples
///
/// ```
/// use greenring::{inspect, thread};
///
/// let spawned = thread::spawn(inspect::snapshot).join().unwrap();
/// let itself = &spawned.green_threads()[0];
/// assert_eq!(itself.state(), inspect::State::Running);
/// assert!(itself.spawned_at().unwrap().line() > 0);
/// assert!(itself.stack_used().unwrap() <= itself.stack_size().unwrap());
/// assert_eq!((itself.fd(), itself.since()), (None, None));
/// ```
#[derive(Clone)]
pub struct GreenThread(Row);

impl GreenThread {
    /// Its id; the root's is that of its OS thread.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn id(&self) -> ThreadId {
        ThreadId(self.0.id)
    }

    /// Its name; the root's is that of its hub, or else of its OS thread.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Whether it ran, was about to, or waited.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn state(&self) -> State {
        self.0.standing
    }

    /// What it did or waited for, in words for people: `ready`, `waits for
    /// recv on descriptor 7`, `waits for a Mutex at 0x7f10c4000b70`. Other
    /// versions may word it otherwise.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn doing(&self) -> &str {
        &self.0.doing
    }

    /// The descriptor that its operation works on.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.0.descriptor
    }

    /// For how long it had not run, or has existed if it had not run yet;
    /// `None` for the caller.
    ///
    /// Known to 17 ms, and counted from the beginning of the hub's turn, so it
    /// is longer by the time that others have held the hub in that turn.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn since(&self) -> Option<Duration> {
        self.0.since
    }

    /// Where it was spawned; `None` for the root.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.0.spawned_at
    }

    /// The most bytes of its stack that it had used, in whole pages. A pooled
    /// stack that was given to it counts what its predecessor had used. `None`
    /// for the root, or if the kernel does not tell.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn stack_used(&self) -> Option<usize> {
        self.0.stack.map(|(used, _)| used)
    }

    /// Bytes of its stack, guard page included; `None` where
    /// [`stack_used`](Self::stack_used) is.
    ///
    /// # Examples
    ///
    /// See [`GreenThread`].
    #[must_use]
    pub fn stack_size(&self) -> Option<usize> {
        self.0.stack.map(|(_, size)| size)
    }
}

impl fmt::Debug for GreenThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenThread")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("state", &self.state())
            .field("doing", &self.doing())
            .field("since", &self.since())
            .field("spawned_at", &self.spawned_at())
            .field("stack_used", &self.stack_used())
            .field("stack_size", &self.stack_size())
            .finish()
    }
}

impl fmt::Display for GreenThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
