//! A state that changes once, and a line of those who wait for that.

use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};

use super::line::Line;
use super::owner::Owner;
use crate::atomic::{AtomicU8, Ordering};
use crate::cancel;
use crate::hub::Why;

/// Nobody has run an initialiser to its end.
const INCOMPLETE: u8 = 0;
/// The last initialiser panicked.
const POISONED: u8 = 1;
/// An initialiser runs.
const RUNNING: u8 = 2;
/// It is done.
const COMPLETE: u8 = 3;

/// Something that is done once, by whoever comes first: as [`std::sync::Once`].
///
/// The others wait until it is done, and the hub goes on: the initialiser may
/// wait for something itself.
///
/// # Poisoning
///
/// As with std, an initialiser that panics poisons: [`call_once`](Self::call_once)
/// panics from then on, and [`call_once_force`](Self::call_once_force) tries
/// again.
///
/// # Difference from std
///
/// - An initialiser that is interrupted (see [`cancel`]) has not
///   run: the next one who comes, or waits, runs its own.
/// - An initialiser that comes back to the same `Once` always panics.
///
/// # Examples
///
/// ```
/// use greenring::sync::Once;
///
/// static START: Once = Once::new();
///
/// START.call_once(|| println!("once"));
/// START.call_once(|| unreachable!());
/// assert!(START.is_completed());
/// ```
#[repr(C)]
pub struct Once {
    /// Who waits for the initialiser that runs, or for one that runs to its end.
    line: Line,
    /// Leaves [`RUNNING`] under the line's lock only.
    state: AtomicU8,
    /// Who runs the initialiser.
    owner: Owner,
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// What the initialiser of [`Once::call_once_force`] is told: as
/// [`std::sync::OnceState`].
///
/// # Examples
///
/// ```
/// use greenring::sync::Once;
///
/// Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
/// ```
pub struct OnceState {
    poisoned: bool,
}

impl Once {
    /// One of which nothing is done.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Once;
    ///
    /// static START: Once = Once::new();
    /// assert!(!START.is_completed());
    /// ```
    #[must_use]
    #[inline]
    #[allow(clippy::new_without_default)] // std's has none.
    pub const fn new() -> Once {
        Once {
            line: Line::new(),
            state: AtomicU8::new(INCOMPLETE),
            owner: Owner::none(),
        }
    }

    /// Runs `f` if it is the first, else waits until the first one is done.
    ///
    /// # Panics
    ///
    /// If an initialiser has panicked; if `f` does; if an initialiser of this
    /// `Once` calls it.
    ///
    /// # Examples
    ///
    /// See [`Once`].
    #[inline]
    #[track_caller]
    pub fn call_once<F>(&self, f: F)
    where
        F: FnOnce(),
    {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(false, &mut |_| f.take().expect("it runs once")());
        }
    }

    /// As [`call_once`](Self::call_once), but tries again if an initialiser has
    /// panicked.
    ///
    /// # Panics
    ///
    /// If `f` does; if an initialiser of this `Once` calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Once;
    /// use std::panic::catch_unwind;
    ///
    /// static START: Once = Once::new();
    ///
    /// assert!(catch_unwind(|| START.call_once(|| panic!("on purpose"))).is_err());
    /// assert!(catch_unwind(|| START.call_once(|| ())).is_err());
    /// START.call_once_force(|state| assert!(state.is_poisoned()));
    /// START.call_once(|| unreachable!());
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once_force<F>(&self, f: F)
    where
        F: FnOnce(&OnceState),
    {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(true, &mut |state| f.take().expect("it runs once")(state));
        }
    }

    /// Whether an initialiser has run to its end.
    ///
    /// # Examples
    ///
    /// See [`Once`].
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.state.load(Ordering::Acquire) == COMPLETE
    }

    /// Waits until somebody's initialiser has run to its end.
    ///
    /// # Panics
    ///
    /// If an initialiser has panicked, or does meanwhile; if an initialiser of
    /// this `Once` calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Once;
    /// use greenring::thread;
    ///
    /// static READY: Once = Once::new();
    ///
    /// thread::spawn(|| READY.call_once(|| ()));
    /// READY.wait();
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        self.wait_while(|state| matches!(state, INCOMPLETE | RUNNING));
        if !self.is_completed() {
            panic_poisoned();
        }
    }

    /// As [`wait`](Self::wait), but goes on waiting if an initialiser has
    /// panicked.
    ///
    /// # Panics
    ///
    /// If an initialiser of this `Once` calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::Once;
    /// use greenring::thread;
    ///
    /// static READY: Once = Once::new();
    ///
    /// thread::spawn(|| READY.call_once(|| panic!("on purpose")));
    /// thread::spawn(|| READY.call_once_force(|_| ()));
    /// READY.wait_force();
    /// ```
    #[track_caller]
    pub fn wait_force(&self) {
        self.wait_while(|state| state != COMPLETE);
    }

    #[cold]
    #[track_caller]
    fn call(&self, forced: bool, f: &mut dyn FnMut(&OnceState)) {
        loop {
            let before = self.state.load(Ordering::Acquire);
            match before {
                COMPLETE => return,
                RUNNING => self.wait_while(|state| state == RUNNING),
                POISONED if !forced => panic_poisoned(),
                _ => {
                    let begun = self.state.compare_exchange(
                        before,
                        RUNNING,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    );
                    if begun.is_ok() {
                        return self.run(before, f);
                    }
                }
            }
        }
    }

    /// Runs an initialiser for the caller, which has changed the state to
    /// [`RUNNING`].
    fn run(&self, before: u8, f: &mut dyn FnMut(&OnceState)) {
        self.owner.set();
        let state = OnceState {
            poisoned: before == POISONED,
        };
        // Only the payload tells for certain an interrupt from a panic.
        let result = catch_unwind(AssertUnwindSafe(|| f(&state)));
        self.owner.clear();
        let line = self.line.lock();
        let after = match &result {
            Ok(()) => COMPLETE,
            Err(payload) if cancel::is_interrupt(&**payload) => before,
            Err(_) => POISONED,
        };
        self.state.store(after, Ordering::Release);
        line.wake_all();
        if let Err(payload) = result {
            resume_unwind(payload);
        }
    }

    /// Waits as long as `waits` is true of the state.
    #[track_caller]
    fn wait_while(&self, waits: impl Fn(u8) -> bool) {
        while waits(self.state.load(Ordering::Acquire)) {
            self.owner.refuse_self("is initialising", self);
            let line = self.line.lock();
            // Looked at under the lock: an initialiser that ends now wakes.
            if waits(self.state.load(Ordering::Acquire)) {
                line.enter().wait(Why::Once, None);
            }
        }
    }
}

#[cold]
#[track_caller]
fn panic_poisoned() -> ! {
    panic!("Once instance has previously been poisoned");
}

impl OnceState {
    /// Whether an earlier initialiser has panicked.
    ///
    /// # Examples
    ///
    /// See [`Once::call_once_force`].
    #[must_use]
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState")
            .field("poisoned", &self.is_poisoned())
            .finish()
    }
}
