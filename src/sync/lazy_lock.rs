//! A value that is made when it is first needed: the cell, and what makes it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::once_lock::OnceLock;
use crate::atomic::{Mutex, lock};
use crate::cancel;

/// A value that is made when it is first needed: as [`std::sync::LazyLock`].
///
/// Reading it is one atomic load.
///
/// # Poisoning
///
/// As with std, if the initialiser panics every later access does: it ran once.
///
/// # Difference from std
///
/// - The initialiser may wait for something: only those who need the value wait
///   with it, and the hub goes on.
/// - It is consumed when it runs, so nothing interrupts it, as in
///   [`cancel::shield`]: a cancelled green thread or a time
///   limit that has passed cannot spoil the value for everybody.
/// - One that comes back to the same `LazyLock` always panics.
///
/// # Examples
///
/// ```
/// use greenring::sync::LazyLock;
/// use std::collections::HashMap;
///
/// static AGES: LazyLock<HashMap<&str, u32>> = LazyLock::new(|| HashMap::from([("Ada", 36)]));
///
/// assert_eq!(AGES["Ada"], 36);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    /// Gone once it has begun to run.
    init: Mutex<Option<F>>,
}

impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// One whose value `f` will make.
    ///
    /// # Examples
    ///
    /// See [`LazyLock`].
    #[inline]
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock {
            value: OnceLock::new(),
            init: Mutex::new(Some(f)),
        }
    }

    /// The value, which is made or waited for if it is not there; as
    /// dereferencing.
    ///
    /// # Panics
    ///
    /// If the initialiser panics, or has panicked; if it calls this.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::LazyLock;
    ///
    /// let lazy = LazyLock::new(|| 92);
    /// assert_eq!(LazyLock::force(&lazy), &92);
    /// assert_eq!(&*lazy, &92);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(|| {
            let init = lock(&this.init).take();
            match init {
                Some(init) => cancel::shield(init),
                None => panic!("LazyLock instance has previously been poisoned"),
            }
        })
    }

    /// The value, which is made if it is not there; as dereferencing mutably.
    ///
    /// # Panics
    ///
    /// If the initialiser panics, or has panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::LazyLock;
    ///
    /// let mut lazy = LazyLock::new(|| 92);
    /// *LazyLock::force_mut(&mut lazy) += 1;
    /// *lazy += 1;
    /// assert_eq!(*lazy, 94);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        this.value.get_mut().expect("it is initialised")
    }
}

impl<T, F> LazyLock<T, F> {
    /// The value, if it is there. Never waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::LazyLock;
    ///
    /// let lazy = LazyLock::new(|| 92);
    /// assert_eq!(LazyLock::get(&lazy), None);
    /// LazyLock::force(&lazy);
    /// assert_eq!(LazyLock::get(&lazy), Some(&92));
    /// ```
    #[inline]
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        this.value.get()
    }

    /// The value, if it is there.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::sync::LazyLock;
    ///
    /// let mut lazy = LazyLock::new(|| 92);
    /// assert_eq!(LazyLock::get_mut(&mut lazy), None);
    /// LazyLock::force(&lazy);
    /// *LazyLock::get_mut(&mut lazy).unwrap() = 44;
    /// assert_eq!(*lazy, 44);
    /// ```
    #[inline]
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        this.value.get_mut()
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_tuple("LazyLock");
        match LazyLock::get(self) {
            Some(value) => d.field(value),
            None => d.field(&format_args!("<uninit>")),
        };
        d.finish()
    }
}
