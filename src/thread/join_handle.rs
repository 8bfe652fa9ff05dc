//! The right to a green thread's result.

#![allow(unsafe_code)] // Knows the type of the record that it holds.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::packet::{self, Packet};
use super::{Result, Thread};
use crate::cancel;
use crate::hub::{Unparker, Wait, Wakeup, Why};
use crate::sync::Ticket;
use crate::sync::select::{EndArm, Ends, Sealed, Watch};

/// The right to wait for a green thread's end and to have its result.
///
/// Dropping it detaches the green thread, which then goes on by itself until
/// it ends or its OS thread does.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let handle = thread::spawn(|| (1..=4).product::<u32>());
/// assert_eq!(handle.join().unwrap(), 24);
/// ```
///
/// What a green thread works with may be bound to its OS thread. So the handle
/// may be sent to another one only if the result may:
///
/// ```compile_fail,E0277
/// use greenring::thread;
/// use std::rc::Rc;
///
/// let handle = thread::spawn(|| Rc::new(1));
/// std::thread::spawn(move || handle.join()); // error: `Rc` cannot be sent
/// ```
pub struct JoinHandle<T> {
    /// Its record is a `Packet<T>`, left by [`packet::leave`].
    thread: ManuallyDrop<Thread>,
    result: PhantomData<T>,
}

// SAFETY: it hands over a T, and nothing else of it is bound to an OS thread.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle shows the record, which is Sync, and never the T.
unsafe impl<T> Sync for JoinHandle<T> {}

// A handle shows nothing that a panic could have left half changed.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// `thread`'s record must be a `Packet<T>`, and this the handle that it was
    /// made with.
    pub(super) fn new(thread: Thread) -> JoinHandle<T> {
        JoinHandle {
            thread: ManuallyDrop::new(thread),
            result: PhantomData,
        }
    }

    fn pointer(&self) -> NonNull<Packet<T>> {
        self.thread.0.pointer().cast()
    }

    fn packet(&self) -> &Packet<T> {
        // SAFETY: `new` was given a record of this type, which this holds.
        unsafe { self.pointer().as_ref() }
    }

    /// Waits for the green thread's end and gives its result.
    ///
    /// It may be called on any OS thread, and after the green thread's hub has
    /// ended.
    ///
    /// # Errors
    ///
    /// The payload of the panic that ended it; or [`Cancelled`](crate::Cancelled) if it was
    /// cancelled, or abandoned with its hub.
    ///
    /// # Panics
    ///
    /// If a green thread joins itself, or if the wait could never end (no
    /// other green thread, operation, deadline or OS thread is left).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// let failed = thread::spawn(|| panic!("on purpose")).join();
    /// assert_eq!(failed.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T> {
        let packet = self.packet();
        packet.wait(None);
        packet.take()
    }

    /// As [`join`](Self::join), for at most `timeout`; `None` if the green
    /// thread has not ended by then, which is neither cancelled nor detached.
    ///
    /// A timeout of zero only looks.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join). A `join` or `join_timeout` after one that has
    /// given the result panics, too: there is only one.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    /// use std::time::Duration;
    ///
    /// let mut handle = thread::spawn(thread::park);
    /// assert!(handle.join_timeout(Duration::from_millis(1)).is_none());
    /// handle.thread().unpark();
    /// assert!(handle.join_timeout(Duration::MAX).unwrap().is_ok());
    /// ```
    #[track_caller]
    pub fn join_timeout(&mut self, timeout: Duration) -> Option<Result<T>> {
        let packet = self.packet();
        packet.refuse_itself();
        if timeout.is_zero() && !packet.is_done() {
            return None;
        }
        let is_done = packet.wait(Instant::now().checked_add(timeout));
        is_done.then(|| packet.take())
    }

    /// Asks the green thread to end: interrupts the call in which it waits, or
    /// the next one in which it would, see [`cancel`].
    ///
    /// It only asks; [`join`](Self::join) tells the end, which is
    /// [`Cancelled`](crate::Cancelled) unless the green thread had its result already. Cancelled
    /// before it has started, its closure is dropped and never runs. One that
    /// has ended takes no notice; asking again changes nothing. May be called
    /// on any OS thread, and by the green thread itself.
    ///
    /// # Panics
    ///
    /// If the program was compiled with `panic = "abort"`, see
    /// [`cancel::supported`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::{Cancelled, thread};
    ///
    /// let handle = thread::spawn(thread::park);
    /// thread::yield_now(); // it parks
    /// handle.cancel();
    /// assert!(Cancelled::is(&handle.join().unwrap_err()));
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.thread.cancel();
    }

    /// Whether the green thread has ended, so that [`join`](Self::join) does not wait.
    ///
    /// Asking lets nobody run: a loop that does nothing else never ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// let handle = thread::spawn(|| {});
    /// assert!(!handle.is_finished());
    /// thread::yield_now();
    /// assert!(handle.is_finished());
    /// ```
    pub fn is_finished(&self) -> bool {
        self.packet().is_done()
    }

    /// Has the unparker called at the green thread's end; `None` if it has ended
    /// already. The ticket is to be given back by [`unwatch`](Self::unwatch).
    pub(crate) fn watch(&self, unparker: Unparker) -> Option<Ticket> {
        self.packet().watch(unparker)
    }

    pub(crate) fn unwatch(&self, ticket: Ticket) {
        self.packet().unwatch(ticket);
    }

    /// The green thread's handle for everything but its result.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::thread;
    ///
    /// let handle = thread::spawn(thread::park);
    /// handle.thread().unpark();
    /// handle.join().unwrap();
    /// ```
    #[must_use]
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> Sealed for JoinHandle<T> {}

impl<T> Ends for JoinHandle<T> {
    fn arm(&self) -> EndArm<'_> {
        EndArm::new(self)
    }
}

impl<T> Watch for JoinHandle<T> {
    fn has_ended(&self) -> bool {
        self.is_finished()
    }

    fn watch(&self, unparker: Unparker) -> Option<Ticket> {
        JoinHandle::watch(self, unparker)
    }

    fn unwatch(&self, ticket: Ticket) {
        JoinHandle::unwatch(self, ticket);
    }
}

/// Joins all, in their order, and gives all results.
///
/// Every handle is waited for, also when one of the results is an error. An
/// interrupt meanwhile detaches those that have not been joined yet.
///
/// # Panics
///
/// As [`JoinHandle::join`].
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let handles = (0..3).map(|n| thread::spawn(move || n * n));
/// let squares: Vec<u32> = thread::join_all(handles).into_iter().flatten().collect();
/// assert_eq!(squares, [0, 1, 4]);
/// ```
pub fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<Result<T>> {
    // Spawned before the first is joined, if the iterator spawns.
    let handles: Vec<_> = handles.into_iter().collect();
    handles.into_iter().map(JoinHandle::join).collect()
}

/// Waits until one of them has ended and gives its index, the lowest if several
/// have. Its `join` does not wait then.
///
/// # Panics
///
/// If there are no handles, or one is the caller's own; as
/// [`JoinHandle::join`] if the wait could never end.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let handles = [thread::spawn(thread::park), thread::spawn(|| ())];
/// assert_eq!(thread::wait_any(&handles), 1);
/// # handles[0].thread().unpark();
/// ```
#[track_caller]
pub fn wait_any<T>(handles: &[JoinHandle<T>]) -> usize {
    assert!(!handles.is_empty(), "nothing to wait for: no handles");
    for handle in handles {
        handle.packet().refuse_itself();
    }
    loop {
        if let Some(index) = handles.iter().position(JoinHandle::is_finished) {
            return index;
        }
        let wait = Wait::begin();
        let mut tickets = Vec::with_capacity(handles.len());
        for handle in handles {
            match handle.watch(wait.unparker()) {
                Some(ticket) => tickets.push(ticket),
                None => break,
            }
        }
        let verdict = if tickets.len() == handles.len() {
            wait.park(Why::Join, 0, None)
        } else {
            Wakeup::Unparked
        };
        for (handle, ticket) in handles.iter().zip(tickets) {
            handle.unwatch(ticket);
        }
        if verdict != Wakeup::Unparked {
            cancel::raise_verdict(verdict, Why::Join);
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: of this type, and held by this, which is not used afterwards.
        unsafe { packet::leave(self.pointer()) };
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
