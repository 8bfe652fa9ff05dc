//! Values that are dear to make, used by one at a time and reused: connections.
//!
//! A permit comes first, then an idle value or a new one; so there are never
//! more than there may be. Whatever happens to a value's maker or user, its
//! permit is given back last. Making and dropping are the user's code and run
//! while nothing here is borrowed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::cancel;
use crate::hub;
use crate::sync::{Permit, Semaphore};

/// At most so many values that are made when they are needed, used by one at a
/// time and reused: a pool of connections.
///
/// [`get`](Self::get) lends one, and waits while all are lent. A [`Resource`]
/// that is dropped gives its value back, for the next one who asks; the value
/// that was given back last is lent first.
///
/// A value is discarded instead, and its place is free for a new one, if its
/// user
///
/// - says so: [`Resource::discard`];
/// - drops it while unwinding, by a panic, a cancellation or a time limit: a
///   query may have been sent whose answer nobody has read. (std counts panics
///   per OS thread; so a value may be discarded, too, that is dropped while a
///   destructor of an unwinding sibling waits.)
/// - was interrupted in any waiting call since it has it, by a cancellation or a
///   [`time::timeout`](crate::time::timeout), wherever that was caught;
/// - has been cancelled, or is past a time limit around it, when it drops it.
///
/// What another green thread's interrupt has left of a value that was moved there
/// and back cannot be known here: then discard it.
///
/// It is bound to its OS thread.
///
/// # Examples
///
/// ```
/// use greenring::pool::Resources;
/// use greenring::{thread, time};
/// use std::time::Duration;
///
/// let connections = Resources::new(2, || String::from("connected"));
/// {
///     let mut connection = connections.get();
///     connection.push_str(" and used");
/// }
/// assert_eq!(*connections.get(), "connected and used");
///
/// let answer = time::timeout(Duration::from_millis(1), || {
///     let _connection = connections.get();
///     thread::park(); // for an answer that never comes
/// });
/// assert!(answer.is_err());
/// assert_eq!(connections.len(), 0); // it was discarded
/// ```
pub struct Resources<T> {
    permits: Semaphore,
    /// Those that are not lent; the last was given back last.
    idle: RefCell<Vec<T>>,
    /// How many are lent or are being made.
    lent: Cell<usize>,
    make: Box<dyn Fn() -> T>,
}

/// A value lent by [`Resources`].
///
/// # Examples
///
/// ```
/// use greenring::pool::{Resource, Resources};
///
/// let buffers = Resources::new(4, Vec::<u8>::new);
/// let mut buffer: Resource<'_, Vec<u8>> = buffers.get();
/// buffer.push(1);
/// drop(buffer);
/// assert_eq!(buffers.idle(), 1);
/// ```
#[must_use = "if unused it is given back at once"]
#[clippy::has_significant_drop]
pub struct Resource<'a, T> {
    /// `None` when it is discarded or given back.
    value: Option<T>,
    /// Who has taken it, and how often that one had been interrupted then.
    lent_to: (u64, u64),
    place: Place<'a, T>,
}

/// The right to have one value.
struct Place<'a, T> {
    resources: &'a Resources<T>,
    /// Given back when the place is not counted any more.
    _permit: Permit<'a>,
}

impl<'a, T> Place<'a, T> {
    fn new(resources: &'a Resources<T>, permit: Permit<'a>) -> Place<'a, T> {
        resources.lent.set(resources.lent.get() + 1);
        Place {
            resources,
            _permit: permit,
        }
    }

    /// Fills the place with an idle value or a new one.
    fn fill<E>(self, make: impl FnOnce() -> Result<T, E>) -> Result<Resource<'a, T>, E> {
        let idle = self.resources.idle.borrow_mut().pop();
        let value = match idle {
            Some(value) => value,
            None => make()?,
        };
        Ok(Resource {
            value: Some(value),
            lent_to: (hub::current_id(), hub::interrupts()),
            place: self,
        })
    }

    fn fill_as_usual(self) -> Resource<'a, T> {
        let make = &self.resources.make;
        let made: Result<_, std::convert::Infallible> = self.fill(|| Ok(make()));
        let Ok(resource) = made;
        resource
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.resources.lent.set(self.resources.lent.get() - 1);
    }
}

impl<T> Resources<T> {
    /// At most `max` values, which `make` makes when they are needed.
    ///
    /// # Panics
    ///
    /// If `max` is zero: nothing could ever be lent.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::pool::Resources;
    ///
    /// let buffers = Resources::new(8, || vec![0_u8; 4096]);
    /// assert_eq!(buffers.len(), 0);
    /// ```
    #[track_caller]
    pub fn new(max: usize, make: impl Fn() -> T + 'static) -> Resources<T> {
        assert!(max > 0, "a pool of zero resources: nothing could be lent");
        Resources {
            permits: Semaphore::new(max.min(Semaphore::MAX_PERMITS)),
            idle: RefCell::default(),
            lent: Cell::new(0),
            make: Box::new(make),
        }
    }

    /// Lends the idle value that was given back last, or a new one; waits while
    /// as many are lent as there may be. Who has waited longest comes first.
    ///
    /// # Panics
    ///
    /// If `make` does; if the wait could never end, see
    /// [`thread::park`](crate::thread::park).
    ///
    /// # Examples
    ///
    /// ```
    /// let numbers = greenring::pool::Resources::new(1, || 7);
    /// assert_eq!(*numbers.get(), 7);
    /// ```
    pub fn get(&self) -> Resource<'_, T> {
        Place::new(self, self.permits.acquire()).fill_as_usual()
    }

    /// As [`get`](Self::get), but waits for a value to be given back for at most
    /// `timeout`. (`make` may take longer.)
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let numbers = greenring::pool::Resources::new(1, || 7);
    /// let number = numbers.get();
    /// assert!(numbers.get_timeout(Duration::from_millis(1)).is_none());
    /// # drop(number);
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Option<Resource<'_, T>> {
        let permit = self.permits.acquire_timeout(timeout)?;
        Some(Place::new(self, permit).fill_as_usual())
    }

    /// As [`get`](Self::get), without waiting for a value to be given back; but
    /// it may make one.
    ///
    /// # Panics
    ///
    /// If `make` does.
    ///
    /// # Examples
    ///
    /// ```
    /// let numbers = greenring::pool::Resources::new(1, || 7);
    /// let number = numbers.try_get().unwrap();
    /// assert!(numbers.try_get().is_none());
    /// # drop(number);
    /// ```
    pub fn try_get(&self) -> Option<Resource<'_, T>> {
        let permit = self.permits.try_acquire()?;
        Some(Place::new(self, permit).fill_as_usual())
    }

    /// As [`get`](Self::get), with a maker that may fail, in the place of the
    /// usual one. It is called if no value is idle.
    ///
    /// # Errors
    ///
    /// That of `make`; the place is free again.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// let numbers = greenring::pool::Resources::new(1, || 7);
    /// assert!(numbers.get_with(|| "x".parse()).is_err());
    /// assert_eq!(*numbers.get_with(|| "8".parse())?, 8);
    /// assert_eq!(*numbers.get(), 8);
    /// # Ok::<(), std::num::ParseIntError>(())
    /// ```
    pub fn get_with<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Resource<'_, T>, E> {
        Place::new(self, self.permits.acquire()).fill(make)
    }

    /// How many values there are: idle, lent or being made.
    ///
    /// # Examples
    ///
    /// ```
    /// let numbers = greenring::pool::Resources::new(2, || 7);
    /// let number = numbers.get();
    /// drop(numbers.get());
    /// assert_eq!(numbers.len(), 2);
    /// # drop(number);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle() + self.lent.get()
    }

    /// Whether there is no value, neither idle nor lent nor being made.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(greenring::pool::Resources::new(2, || 7).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values can be lent without making any.
    ///
    /// # Examples
    ///
    /// ```
    /// let numbers = greenring::pool::Resources::new(2, || 7);
    /// drop(numbers.get());
    /// assert_eq!(numbers.idle(), 1);
    /// ```
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }
}

impl<T> Resource<'_, T> {
    /// Drops the value instead of giving it back: it is broken. Then its place is
    /// free for a new one.
    ///
    /// # Examples
    ///
    /// ```
    /// let numbers = greenring::pool::Resources::new(1, || 7);
    /// numbers.get().discard();
    /// assert!(numbers.is_empty());
    /// ```
    pub fn discard(mut self) {
        drop(self.value.take());
    }
}

impl<T> Deref for Resource<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("not discarded while it is held")
    }
}

impl<T> DerefMut for Resource<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("not discarded while it is held")
    }
}

impl<T> Drop for Resource<'_, T> {
    fn drop(&mut self) {
        // Nobody can say how far its user had come with it.
        let (id, interrupts) = self.lent_to;
        let was_interrupted = id == hub::current_id() && interrupts != hub::interrupts();
        if !std::thread::panicking() && !cancel::is_cancelled() && !was_interrupted {
            self.place
                .resources
                .idle
                .borrow_mut()
                .extend(self.value.take());
        }
        // Else it is dropped before its place is given up.
        drop(self.value.take());
    }
}

impl<T: fmt::Debug> fmt::Debug for Resource<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> fmt::Debug for Resources<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources")
            .field("idle", &self.idle())
            .field("lent", &self.lent.get())
            .finish_non_exhaustive()
    }
}
