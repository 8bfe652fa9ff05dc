//! Green threads, under the names of `std::thread`.
//!
//! [`spawn`] makes a green thread of the calling OS thread's hub, which is
//! started if there is none yet. A green thread never moves to another OS
//! thread, so its closure need not be `Send`: `Rc` and `RefCell` work as in
//! single-threaded code.
//!
//! Green threads start in the order in which they were spawned, not before
//! their spawner waits or yields, and run one at a time. Everything but spawning
//! may also be done on an OS thread without a hub, where it does what std does.
//!
//! # Difference from std
//!
//! - The closure and its result need not be `Send`.
//! - Green threads end with their OS thread: whatever is still going on when
//!   it ends is abandoned, and the destructors of its frames do not run. Join
//!   what must be finished.
//! - The stack is 256 KiB (std: 2 MiB), or what [`Builder::stack_size`] or
//!   `GREENRING_STACK_SIZE` says; `RUST_MIN_STACK` is not looked at.
//! - A loop that waits for a flag lets nobody else run unless it calls something
//!   that waits, or [`yield_now`]; `is_finished`, `current` and `unpark` do not.
//! - std's thread-locals are shared by the green threads of an OS thread, and
//!   are made for code that runs to its end. Do not wait in the initialiser of
//!   one, nor in the destructor of one, nor inside `with` of one that others may
//!   replace or that may be destroyed meanwhile: a reference to it could outlive
//!   it. std cannot prevent that, and neither can greenring. Those made by
//!   [`greenring::thread_local!`](crate::thread_local) belong to one green thread
//!   each, and one may wait in all these places.
//! - The first spawn puts a hook of its own before the process's panic hook,
//!   which says which green thread panics and where it was spawned. std knows
//!   the OS thread only: its own message, and `std::thread::current()`, name
//!   that one.

mod builder;
mod guests;
mod join_handle;
mod local;
mod packet;
mod scope;

use std::fmt;
use std::num::NonZeroU64;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

#[doc(no_inline)]
pub use std::thread::{Result, available_parallelism, panicking};

pub use builder::Builder;
pub(crate) use builder::install_panic_hook;
pub(crate) use guests::{Guests, Seat};
pub use join_handle::{JoinHandle, join_all, wait_any};
pub use local::{AccessError, LocalKey};
pub use scope::{Scope, ScopedJoinHandle, scope};

use crate::cancel;
use crate::hub::{self, SharedRecord, Wait, Why};

/// Spawns a green thread of the calling OS thread's hub.
///
/// # Panics
///
/// If no stack can be had or the hub cannot be started; [`Builder::spawn`]
/// gives an error instead.
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::rc::Rc;
///
/// let shared = Rc::new(20);
/// let theirs = Rc::clone(&shared);
/// let handle = thread::spawn(move || *theirs + 1);
/// assert_eq!(handle.join().unwrap() + *shared, 41);
/// ```
///
/// Neither the closure nor its result may borrow from the spawner, which may be
/// gone before they are:
///
/// ```compile_fail,E0373
/// use greenring::thread;
///
/// let text = String::from("borrowed");
/// thread::spawn(|| text.len()); // error: `move` it in instead
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    Builder::new()
        .spawn(f)
        .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
}

/// Spawns a green thread that begins with a [`sleep`] of `delay`.
///
/// Cancelled before that is over, `f` never runs. It takes its stack at once.
///
/// # Panics
///
/// As [`spawn`].
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::time::{Duration, Instant};
///
/// let begin = Instant::now();
/// let handle = thread::spawn_after(Duration::from_millis(5), move || begin.elapsed());
/// assert!(handle.join().unwrap() >= Duration::from_millis(5));
/// ```
#[track_caller]
pub fn spawn_after<F, T>(delay: Duration, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let start = Instant::now().checked_add(delay);
    spawn(move || {
        sleep_to(start);
        f()
    })
}

/// The handle of the calling green thread, or of the OS thread outside one.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let handle = thread::spawn(|| thread::current().id());
/// let id = handle.thread().id();
/// assert_eq!(handle.join().unwrap(), id);
/// ```
#[must_use]
pub fn current() -> Thread {
    Thread(hub::current())
}

/// Lets every other ready green thread run before the caller goes on.
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::{cell::Cell, rc::Rc};
///
/// let started = Rc::new(Cell::new(false));
/// let flag = Rc::clone(&started);
/// thread::spawn(move || flag.set(true));
/// thread::yield_now();
/// assert!(started.get());
/// ```
pub fn yield_now() {
    cancel::yield_now();
}

/// Waits for at least `dur`; the others go on.
///
/// An [`unpark`](Thread::unpark) meanwhile does not end it; its token stays for
/// the next [`park`].
///
/// # Difference from std
///
/// A sleep of zero is a [`yield_now`].
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::time::{Duration, Instant};
///
/// let begin = Instant::now();
/// thread::sleep(Duration::from_millis(5));
/// assert!(begin.elapsed() >= Duration::from_millis(5));
/// ```
pub fn sleep(dur: Duration) {
    if dur.is_zero() {
        return yield_now();
    }
    sleep_to(Instant::now().checked_add(dur));
}

/// Waits until `deadline` has passed; the others go on.
///
/// (In std of Rust 1.95 it is not stable yet.)
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_millis(5);
/// thread::sleep_until(deadline);
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until(deadline: Instant) {
    sleep_to(Some(deadline));
}

/// `None` is a deadline too far away to be expressed; a century is as good.
fn sleep_to(deadline: Option<Instant>) {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let deadline = deadline.unwrap_or_else(|| Instant::now() + CENTURY);
    // Nobody has an unparker for this wait.
    cancel::park(Wait::begin(), Why::Sleep, 0, Some(deadline));
}

/// Waits until the caller's token is available, and takes it.
///
/// [`Thread::unpark`] makes it available, also beforehand. As in std the call
/// may return without reason: wait for a condition in a loop.
///
/// # Panics
///
/// On the root of a hub, if nothing could ever unpark it: nothing is ready, no
/// operation is in flight, no deadline is set, no signal is handled and the
/// process has no other OS thread. The message lists the hub's green threads.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let main = thread::current();
/// thread::spawn(move || main.unpark());
/// thread::park();
/// ```
pub fn park() {
    park_to(None);
}

/// As [`park`], for at most `dur`.
///
/// # Panics
///
/// As [`park`], if `dur` is too long to be expressed as a deadline.
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::time::Duration;
///
/// thread::park_timeout(Duration::from_millis(1)); // nobody unparks
/// ```
pub fn park_timeout(dur: Duration) {
    match Instant::now().checked_add(dur) {
        Some(deadline) => park_to(Some(deadline)),
        None => park_to(None),
    }
}

fn park_to(deadline: Option<Instant>) {
    let record = hub::current();
    let identity = record.identity();
    if identity.take_token() {
        return;
    }
    let wait = Wait::begin();
    // The token may have come before there was a wait to end.
    if identity.await_token(&wait) {
        cancel::park(wait, Why::Park, 0, deadline);
    }
    identity.take_token();
}

/// Identifies a green thread or an OS thread; unique in the process for ever.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let other = thread::spawn(|| {});
/// assert_ne!(thread::current().id(), other.thread().id());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId(pub(crate) NonZeroU64);

/// A handle to a green thread, or to an OS thread.
///
/// It may be sent to other OS threads, whatever the green thread works with.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let handle = thread::Builder::new().name("worker".into()).spawn(|| {})?;
/// assert_eq!(handle.thread().name(), Some("worker"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Thread(SharedRecord);

impl Thread {
    /// Makes its token available, which ends its [`park`]; from any OS thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// let parked = thread::spawn(thread::park);
    /// parked.thread().unpark();
    /// parked.join().unwrap();
    /// ```
    pub fn unpark(&self) {
        self.0.identity().unpark();
    }

    /// Its identifier.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// assert_eq!(thread::current().id(), thread::current().id());
    /// ```
    #[must_use]
    pub fn id(&self) -> ThreadId {
        ThreadId(self.0.identity().id())
    }

    /// The name it was given, or the OS thread's.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// let unnamed = thread::spawn(|| {});
    /// assert_eq!(unnamed.thread().name(), None);
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.identity().name()
    }
}

impl Thread {
    /// Whether its hub has not ended; if it has, the green thread runs no more.
    pub(crate) fn is_on_a_hub(&self) -> bool {
        self.0.identity().is_on_a_hub()
    }

    /// Cancels the green thread.
    #[track_caller]
    pub(crate) fn cancel(&self) {
        cancel::require_unwinding("cancelling a green thread");
        hub::cancel(self.0.identity());
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

// As std's: what the handle shows is never left half changed.
impl UnwindSafe for Thread {}
impl RefUnwindSafe for Thread {}
