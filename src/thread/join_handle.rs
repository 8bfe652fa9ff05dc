//! The end of a green thread: its result on the way to whoever joins it.

#![allow(unsafe_code)] // Hands a result over between the body and its handle.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Result, Thread};
use crate::cancel::{self, Cancelled};
use crate::hub::{self, Identity, Record, Unparker, Wait, Why};

/// The body has not ended and nobody waits for it.
const RUNNING: u8 = 0;
/// The body has not ended, and `joiner` is to be unparked when it has.
const AWAITED: u8 = 1;
/// The result is there.
const DONE: u8 = 2;
/// The handle is gone: nobody will fetch the result.
const DETACHED: u8 = 3;

/// What a green thread's body and its handle share: who it is, and its result.
///
/// Invariants, by `state`:
/// 1. `result` belongs to the body until it swaps `DONE` in, then to the
///    handle; if that swap finds `DETACHED`, the body drops it.
/// 2. `joiner` belongs to the handle in `RUNNING`, to the body once the body
///    has swapped `AWAITED` out.
/// 3. So when both are gone the result is gone, and dropping the record, which
///    any OS thread may do, runs nothing of the user's.
pub(super) struct Packet<T> {
    identity: Identity,
    state: AtomicU8,
    joiner: UnsafeCell<Option<Unparker>>,
    result: UnsafeCell<Option<Result<T>>>,
}

// SAFETY: the result, all that may be bound to an OS thread, is written on the
// green thread's own, and read or dropped there or by the handle, which is Send
// only if T is (invariants 1 and 3); the cells have one owner at a time
// (invariants 1 and 2), handed over by the atomic.
unsafe impl<T> Send for Packet<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Packet<T> {}

impl<T> Packet<T> {
    pub(super) fn new(identity: Identity) -> Packet<T> {
        Packet {
            identity,
            state: AtomicU8::new(RUNNING),
            joiner: UnsafeCell::new(None),
            result: UnsafeCell::new(None),
        }
    }

    /// Stores the result and tells whoever waits for it. Called once, by the
    /// body at its end or in its place when it is abandoned.
    pub(super) fn finish(&self, result: Result<T>) {
        // SAFETY: invariant 1, before the swap.
        unsafe { *self.result.get() = Some(result) };
        match self.state.swap(DONE, Ordering::AcqRel) {
            RUNNING => {}
            AWAITED => {
                // SAFETY: invariant 2.
                let joiner = unsafe { (*self.joiner.get()).take() };
                joiner.expect("who waits has left its unparker").unpark();
            }
            DETACHED => {
                // SAFETY: invariant 1: the handle is gone.
                let result = unsafe { (*self.result.get()).take() };
                // What its destructor waits for, it gets.
                hub::shielded(|| drop(result));
            }
            state => unreachable!("a green thread ends once, not in state {state}"),
        }
    }

    fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Takes the result; called by the handle only.
    fn take(&self) -> Result<T> {
        assert!(self.is_done(), "the result is there");
        // SAFETY: invariant 1.
        unsafe { (*self.result.get()).take() }.expect("a handle takes the result once")
    }

    /// Waits for the result; called by the handle only.
    fn wait(&self) {
        if self.is_done() {
            return;
        }
        let wait = Wait::begin();
        // SAFETY: invariant 2: the state is RUNNING, or DONE coming from it,
        // because an earlier wait of this handle ended by its completion.
        unsafe { *self.joiner.get() = Some(wait.unparker()) };
        let awaited =
            self.state
                .compare_exchange(RUNNING, AWAITED, Ordering::AcqRel, Ordering::Acquire);
        if awaited.is_ok() {
            let subject = self.identity.id().get() as usize;
            cancel::park(wait, Why::Join, subject, None);
            debug_assert!(self.is_done());
        }
    }

    /// Gives up the right to the result; called by the handle only.
    fn detach(&self) {
        if self.state.swap(DETACHED, Ordering::AcqRel) == DONE {
            // SAFETY: invariant 1.
            drop(unsafe { (*self.result.get()).take() });
        }
    }
}

impl<T> Record for Packet<T> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn abandon(&self) {
        // Done already: the body waits in the destructor of a result that
        // nobody fetches.
        if !self.is_done() {
            self.finish(Err(Box::new(Cancelled)));
        }
    }
}

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
    /// Its record is a `Packet<T>`.
    thread: Thread,
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
    /// `thread`'s record must be a `Packet<T>` of which this is the only handle.
    pub(super) fn new(thread: Thread) -> JoinHandle<T> {
        JoinHandle {
            thread,
            result: PhantomData,
        }
    }

    fn packet(&self) -> &Packet<T> {
        let record = Arc::as_ptr(&self.thread.0);
        // SAFETY: `new` was given a record of this type, and the handle holds
        // a count of it.
        unsafe { &*record.cast::<Packet<T>>() }
    }

    /// Waits for the green thread's end and gives its result.
    ///
    /// It may be called on any OS thread, and after the green thread's hub has
    /// ended.
    ///
    /// # Errors
    ///
    /// The payload of the panic that ended it; or [`Cancelled`] if it was
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
    pub fn join(self) -> Result<T> {
        let packet = self.packet();
        if !packet.is_done() {
            assert!(
                packet.identity.id().get() != hub::current_id(),
                "a green thread cannot join itself: it would wait for ever"
            );
        }
        packet.wait();
        packet.take()
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

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        self.packet().detach();
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
