//! A value that is written once: std's cell for the value, and our [`Once`] for
//! who writes it, so that nobody ever blocks in std's.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::once::Once;

/// A value that is set once: as [`std::sync::OnceLock`].
///
/// Reading it is one atomic load.
///
/// # Difference from std
///
/// - An initialiser may wait for something: only those who need the value wait
///   with it, and the hub goes on.
/// - An initialiser that is interrupted (see [`cancel`](crate::cancel)) has not
///   run, as one that panics: the next one who comes, or waits, runs its own.
/// - An initialiser that comes back to the same `OnceLock` always panics.
///
/// # Examples
///
/// ```
/// use greenring::sync::OnceLock;
/// use greenring::thread;
///
/// static NAME: OnceLock<String> = OnceLock::new();
///
/// assert!(NAME.get().is_none());
/// let handle = thread::spawn(|| NAME.get_or_init(|| "Ada".to_owned()).len());
/// assert_eq!(handle.join().unwrap(), 3);
/// assert_eq!(NAME.get().unwrap(), "Ada");
/// ```
pub struct OnceLock<T> {
    /// Complete only if the value is there. Whoever runs its initialiser is the
    /// only one who sets the value.
    once: Once,
    value: std::sync::OnceLock<T>,
}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// One without a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    ///
    /// static PORT: OnceLock<u16> = OnceLock::new();
    /// ```
    #[must_use]
    #[inline]
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            once: Once::new(),
            value: std::sync::OnceLock::new(),
        }
    }

    /// The value, if it is there. Never waits.
    ///
    /// # Examples
    ///
    /// See [`OnceLock`].
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, if it is there.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    ///
    /// let mut cell = OnceLock::from(1);
    /// *cell.get_mut().unwrap() += 1;
    /// assert_eq!(cell.get(), Some(&2));
    /// ```
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Waits until the value is there.
    ///
    /// # Panics
    ///
    /// If the initialiser of this `OnceLock` calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    /// use greenring::thread;
    ///
    /// static PORT: OnceLock<u16> = OnceLock::new();
    ///
    /// thread::spawn(|| PORT.set(80).unwrap());
    /// assert_eq!(*PORT.wait(), 80);
    /// ```
    #[inline]
    #[track_caller]
    pub fn wait(&self) -> &T {
        if self.get().is_none() {
            self.once.wait_force();
        }
        self.get().expect("it is initialised")
    }

    /// Sets the value, or waits for the initialiser that somebody else runs.
    ///
    /// # Errors
    ///
    /// There is a value already. The error is the one that was to be set.
    ///
    /// # Panics
    ///
    /// If the initialiser of this `OnceLock` calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    ///
    /// let cell = OnceLock::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// assert_eq!(cell.get(), Some(&1));
    /// ```
    #[inline]
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("it is asked for once"));
        value.map_or(Ok(()), Err)
    }

    /// The value. If there is none, `f` makes it; of several who come, one.
    ///
    /// # Panics
    ///
    /// If `f` does; then there is no value still. If an initialiser of this
    /// `OnceLock` calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    ///
    /// let cell = OnceLock::new();
    /// assert_eq!(*cell.get_or_init(|| 1), 1);
    /// assert_eq!(*cell.get_or_init(|| unreachable!()), 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn get_or_init<F>(&self, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        if let Some(value) = self.get() {
            return value;
        }
        self.once.call_once_force(|_| {
            // Nobody else sets it, so it is stored.
            let _ = self.value.set(f());
        });
        self.get().expect("it is initialised")
    }

    /// The value, if it is there.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    ///
    /// assert_eq!(OnceLock::from(1).into_inner(), Some(1));
    /// ```
    #[inline]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, if it is there: then it can be set again.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::OnceLock;
    ///
    /// let mut cell = OnceLock::from(1);
    /// assert_eq!(cell.take(), Some(1));
    /// assert_eq!(cell.set(2), Ok(()));
    /// ```
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        self.once = Once::new();
        self.value.take()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get()
            .cloned()
            .map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let cell = OnceLock::new();
        cell.get_or_init(|| value);
        cell
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}
