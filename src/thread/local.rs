//! Thread-locals of green threads: the key's face, and the macro that makes it.
//!
//! The values are kept in `hub/locals.rs`. Its invariant 1 is kept here: the
//! user's code sees a value only while the caller holds a count of it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::mem;
use std::rc::Rc;

use crate::atomic::{AtomicUsize, Ordering};
use crate::hub::{self, Local};

/// Declares thread-locals of green threads, as `std::thread_local!` does of OS
/// threads.
///
/// Each `static` becomes a [`LocalKey`], which has a
/// value of its own on every green thread, and one on every OS thread for what
/// runs outside of all green threads, whichever hubs it has in the course of
/// time. A value is made by the initialiser when it is first used, and
/// destroyed at its green thread's end, before `join` returns, or at its OS
/// thread's.
///
/// The syntax is std's: several items, attributes, visibility, `const { … }`
/// initialisers. Write the macro's path, or import it by its name: imported by
/// a glob (`use super::*`) it is ambiguous with the one in std's prelude.
///
/// # Difference from std
///
/// - One may wait anywhere: in an initialiser, in a destructor, and inside
///   [`with`](crate::thread::LocalKey::with).
/// - If the initialiser uses its own key, the value that came first stays, and
///   the later one is dropped (std: the other way round).
/// - A destructor that panics at the end of a green thread does not abort the
///   process. The panic becomes the green thread's result if that was `Ok`.
/// - Green threads that are abandoned, and all when the process exits, leave
///   their values undestroyed, as their other variables.
/// - When the locals of an OS thread have been destroyed, those without
///   destructors are gone, too. That concerns the destructors of std's
///   thread-locals only.
///
/// # Examples
///
/// ```
/// use greenring::thread;
/// use std::cell::Cell;
///
/// greenring::thread_local! {
///     /// The request that the green thread serves.
///     pub static REQUEST: Cell<u32> = const { Cell::new(0) };
///     static NAMES: Vec<String> = Vec::new();
/// }
///
/// let handles: Vec<_> = (1..=3)
///     .map(|id| {
///         thread::spawn(move || {
///             REQUEST.set(id);
///             thread::yield_now(); // the others set theirs
///             REQUEST.get()
///         })
///     })
///     .collect();
/// let served: Vec<u32> = thread::join_all(handles).into_iter().flatten().collect();
/// assert_eq!(served, [1, 2, 3]);
/// assert_eq!(REQUEST.get(), 0);
/// assert!(NAMES.with(Vec::is_empty));
/// ```
#[macro_export]
macro_rules! thread_local {
    () => {};
    (
        $(#[$attribute:meta])* $vis:vis static $name:ident: $type:ty = const $init:block
        $(; $($rest:tt)*)?
    ) => {
        $(#[$attribute])*
        $vis static $name: $crate::thread::LocalKey<$type> = {
            #[allow(clippy::declare_interior_mutable_const)]
            const INIT: $type = $init;
            fn init() -> $type {
                INIT
            }
            $crate::thread::LocalKey::new(init)
        };
        $($crate::thread_local!($($rest)*);)?
    };
    (
        $(#[$attribute:meta])* $vis:vis static $name:ident: $type:ty = $init:expr
        $(; $($rest:tt)*)?
    ) => {
        $(#[$attribute])*
        $vis static $name: $crate::thread::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::thread::LocalKey::new(init)
        };
        $($crate::thread_local!($($rest)*);)?
    };
}

/// A thread-local of green threads, declared by
/// [`greenring::thread_local!`](crate::thread_local): has a value on each green
/// thread, and on each OS thread.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// greenring::thread_local!(static ID: thread::ThreadId = thread::current().id());
///
/// let handle = thread::spawn(|| ID.with(|id| *id));
/// assert_eq!(handle.thread().id(), handle.join().unwrap());
/// ```
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// Its number in the process, from 1; 0 until it is first used.
    number: AtomicUsize,
}

/// The value of a [`LocalKey`] is being destroyed, or has been.
///
/// # Examples
///
/// ```
/// use greenring::thread::AccessError;
///
/// fn describe(error: AccessError) -> String {
///     error.to_string() // "already destroyed"
/// }
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt("already destroyed", f)
    }
}

impl Error for AccessError {}

#[cold]
#[track_caller]
fn refuse(error: AccessError) -> ! {
    panic!("cannot access a Thread Local Storage value during or after destruction: {error:?}")
}

impl<T: 'static> LocalKey<T> {
    /// For the macro.
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey {
            init,
            number: AtomicUsize::new(0),
        }
    }

    /// Calls `f` with the caller's value, which is made first if there is none.
    ///
    /// `f` may wait, and may use this key and others.
    ///
    /// # Panics
    ///
    /// If the value is being destroyed or has been; if the initialiser does,
    /// which is then tried again by the next use; if `f` does.
    ///
    /// # Examples
    ///
    /// ```
    /// greenring::thread_local!(static GREETING: String = "hello".to_owned());
    ///
    /// assert_eq!(GREETING.with(String::len), 5);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => refuse(error),
        }
    }

    /// As [`with`](Self::with), for destructors.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if the value is being destroyed or has been. That does
    /// not happen to a type without a destructor on a green thread.
    ///
    /// # Panics
    ///
    /// If the initialiser does, or `f`.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// struct Last;
    ///
    /// impl Drop for Last {
    ///     fn drop(&mut self) {
    ///         assert!(LAST.try_with(|_| ()).is_err());
    ///     }
    /// }
    ///
    /// greenring::thread_local!(static LAST: Last = const { Last });
    ///
    /// thread::spawn(|| LAST.with(|_| ())).join().unwrap();
    /// ```
    #[inline]
    pub fn try_with<F, R>(&'static self, f: F) -> Result<R, AccessError>
    where
        F: FnOnce(&T) -> R,
    {
        let value = match self.find() {
            Local::Alive(value) => typed(value),
            Local::Unused => self.start((self.init)())?,
            Local::Destroyed => return Err(AccessError),
        };
        Ok(f(&value))
    }

    /// Takes the caller's present value along: a closure that sets a clone of it
    /// on the green thread that runs it, and then runs `f`.
    ///
    /// It is for whatever takes a closure: `spawn`, a builder, a scope, a pool.
    /// Further values are taken along by nesting.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and if cloning panics. The closure does, if the
    /// value of its caller is being destroyed or has been.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    /// use std::cell::Cell;
    ///
    /// greenring::thread_local!(static REQUEST: Cell<u32> = const { Cell::new(0) });
    ///
    /// REQUEST.set(17);
    /// let inherits = thread::spawn(REQUEST.inherit(|| REQUEST.get()));
    /// let does_not = thread::spawn(|| REQUEST.get());
    /// REQUEST.set(18); // too late for them
    /// assert_eq!(inherits.join().unwrap(), 17);
    /// assert_eq!(does_not.join().unwrap(), 0);
    /// ```
    #[track_caller]
    pub fn inherit<R>(&'static self, f: impl FnOnce() -> R) -> impl FnOnce() -> R
    where
        T: Clone,
    {
        let value = self.with(T::clone);
        move || {
            self.put(value);
            f()
        }
    }

    /// Makes `value` the caller's. The one before lives on in those who use it.
    fn put(&'static self, value: T) {
        match self.find() {
            Local::Alive(_) => {
                let number = self.number();
                let value: Rc<dyn Any> = Rc::new(value);
                drop(hub::with_locals(|locals| locals.replace(number, value)));
            }
            Local::Unused => drop(self.start_unused(value)),
            Local::Destroyed => refuse(AccessError),
        }
    }

    #[inline]
    fn find(&'static self) -> Local {
        let number = self.number();
        hub::with_locals(|locals| locals.get(number))
    }

    /// Starts the key with `value`, unless the initialiser that made it has
    /// used the key itself; gives what the caller has then.
    #[cold]
    fn start(&'static self, value: T) -> Result<Rc<T>, AccessError> {
        let number = self.number();
        let value = Rc::new(value);
        let offered: Rc<dyn Any> = Rc::clone(&value) as Rc<dyn Any>;
        let has_destructor = mem::needs_drop::<T>();
        match hub::with_locals(|locals| locals.start(number, offered, has_destructor)) {
            Local::Alive(first) => Ok(typed(first)),
            Local::Unused | Local::Destroyed => Err(AccessError),
        }
    }

    /// As `start`, for a key that was just found to be unused.
    fn start_unused(&'static self, value: T) -> Rc<T> {
        self.start(value)
            .expect("nothing has run since it was found to be unused")
    }

    /// The key's number, which is its place in the tables of values.
    #[inline]
    fn number(&self) -> usize {
        match self.number.load(Ordering::Relaxed) {
            0 => self.take_number(),
            number => number,
        }
    }

    #[cold]
    fn take_number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let first = self
            .number
            .compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        // The number of who comes second on two OS threads is never used.
        first.map_or_else(|taken| taken, |_| number)
    }
}

#[inline]
fn typed<T: 'static>(value: Rc<dyn Any>) -> Rc<T> {
    value.downcast().expect("a key has values of one type")
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the caller's value; the initialiser does not run.
    ///
    /// # Panics
    ///
    /// If the value is being destroyed or has been.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// greenring::thread_local!(static DEPTH: Cell<u32> = panic!("not set"));
    ///
    /// DEPTH.set(1);
    /// assert_eq!(DEPTH.get(), 1);
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        match self.find() {
            Local::Alive(cell) => typed::<Cell<T>>(cell).set(value),
            Local::Unused => drop(self.start_unused(Cell::new(value))),
            Local::Destroyed => refuse(AccessError),
        }
    }

    /// A copy of the caller's value.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// greenring::thread_local!(static DEPTH: Cell<u32> = const { Cell::new(3) });
    ///
    /// assert_eq!(DEPTH.get(), 3);
    /// ```
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the caller's value and leaves the default.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// greenring::thread_local!(static LINES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
    ///
    /// LINES.set(vec![1]);
    /// assert_eq!(LINES.take(), [1]);
    /// assert!(LINES.take().is_empty());
    /// ```
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the caller's value and gives the one before.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// greenring::thread_local!(static DEPTH: Cell<u32> = const { Cell::new(3) });
    ///
    /// assert_eq!(DEPTH.replace(4), 3);
    /// assert_eq!(DEPTH.get(), 4);
    /// ```
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the caller's value, borrowed.
    ///
    /// # Panics
    ///
    /// If it is borrowed mutably; as [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// greenring::thread_local!(static LOG: RefCell<Vec<u8>> = RefCell::default());
    ///
    /// assert!(LOG.with_borrow(Vec::is_empty));
    /// ```
    #[track_caller]
    pub fn with_borrow<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the caller's value, borrowed mutably.
    ///
    /// # Panics
    ///
    /// If it is borrowed; as [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// greenring::thread_local!(static LOG: RefCell<Vec<u8>> = RefCell::default());
    ///
    /// LOG.with_borrow_mut(|log| log.push(1));
    /// assert_eq!(LOG.take(), [1]);
    /// ```
    #[track_caller]
    pub fn with_borrow_mut<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&mut T) -> R,
    {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the caller's value; the initialiser does not run.
    ///
    /// # Panics
    ///
    /// If it is borrowed; if it is being destroyed or has been.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// greenring::thread_local!(static USER: RefCell<String> = panic!("not set"));
    ///
    /// USER.set("ada".to_owned());
    /// assert_eq!(USER.with_borrow(String::clone), "ada");
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        match self.find() {
            Local::Alive(cell) => drop(typed::<RefCell<T>>(cell).replace(value)),
            Local::Unused => drop(self.start_unused(RefCell::new(value))),
            Local::Destroyed => refuse(AccessError),
        }
    }

    /// Takes the caller's value and leaves the default.
    ///
    /// # Panics
    ///
    /// If it is borrowed; as [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// greenring::thread_local!(static USER: RefCell<String> = RefCell::new("ada".to_owned()));
    ///
    /// assert_eq!(USER.take(), "ada");
    /// assert_eq!(USER.take(), "");
    /// ```
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the caller's value and gives the one before.
    ///
    /// # Panics
    ///
    /// If it is borrowed; as [`with`](Self::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// greenring::thread_local!(static USER: RefCell<String> = RefCell::default());
    ///
    /// assert_eq!(USER.replace("ada".to_owned()), "");
    /// ```
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
