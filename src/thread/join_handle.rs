//! The end of a green thread: its result on the way to whoever joins it.

#![allow(unsafe_code)] // Hands a result over between the body and its handle.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{Result, Thread};
use crate::atomic::{AtomicU8, Mutex, Ordering, lock};
use crate::cancel::{self, Cancelled};
use crate::hub::{self, Identity, Record, Unparker, Wait, Wakeup, Why};
use crate::sync::select::{EndArm, Ends, Sealed, Watch};
use crate::sync::{Ticket, WaitList};

/// The handle's owner waits for the end; `joiner` is to be unparked.
const AWAITED: u8 = 1;
/// The result is there.
const DONE: u8 = 2;
/// The handle is gone: nobody will fetch the result.
const DETACHED: u8 = 4;
/// Some who have borrowed the handle wait for the end, in `watchers`.
const WATCHED: u8 = 8;

/// What a green thread's body and its handle share: who it is, and its result.
///
/// Invariants, by `state`:
/// 1. `result` belongs to the body until it swaps `DONE` in, then to the
///    handle; if that swap finds `DETACHED`, the body drops it.
/// 2. `joiner` belongs to the handle until it sets `AWAITED`, then to the body,
///    and again to the handle if that takes `AWAITED` back before the body has
///    swapped it out. Whoever waits this way has the handle to itself.
/// 3. So when both are gone the result is gone, and dropping the record, which
///    any OS thread may do, runs nothing of the user's.
pub(super) struct Packet<T> {
    identity: Identity,
    state: AtomicU8,
    joiner: UnsafeCell<Option<Unparker>>,
    /// Made by the first who watches.
    watchers: OnceLock<Box<Mutex<WaitList<()>>>>,
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
            state: AtomicU8::new(0),
            joiner: UnsafeCell::new(None),
            watchers: OnceLock::new(),
            result: UnsafeCell::new(None),
        }
    }

    /// Stores the result and tells whoever waits for it. Called once, by the
    /// body at its end or in its place when it is abandoned.
    pub(super) fn finish(&self, result: Result<T>) {
        // SAFETY: invariant 1, before the swap.
        unsafe { *self.result.get() = Some(result) };
        let before = self.state.swap(DONE, Ordering::AcqRel);
        if before & AWAITED != 0 {
            // SAFETY: invariant 2.
            let joiner = unsafe { (*self.joiner.get()).take() };
            joiner.expect("who waits has left its unparker").unpark();
        }
        if before & WATCHED != 0 {
            self.tell_watchers();
        }
        if before & DETACHED != 0 {
            // SAFETY: invariant 1: the handle is gone.
            let result = unsafe { (*self.result.get()).take() };
            // What its destructor waits for, it gets.
            hub::shielded(|| drop(result));
        }
    }

    #[cold]
    fn tell_watchers(&self) {
        let watchers = self.watchers.get().expect("made before the state said so");
        let mut watchers = lock(watchers);
        while let Some((unparker, ())) = watchers.choose() {
            unparker.unpark();
        }
    }

    fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) & DONE != 0
    }

    /// Whether the handle is gone already.
    pub(super) fn is_detached(&self) -> bool {
        self.state.load(Ordering::Relaxed) & DETACHED != 0
    }

    /// Takes the result; called by the handle only.
    #[track_caller]
    fn take(&self) -> Result<T> {
        assert!(self.is_done(), "the result is there");
        // SAFETY: invariant 1.
        unsafe { (*self.result.get()).take() }
            .expect("join after join_timeout has given the result: there is only one")
    }

    /// Waits for the result until the deadline at the most; whether it is
    /// there. Called by the handle's owner only.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        if self.is_done() {
            return true;
        }
        let wait = Wait::begin();
        // SAFETY: invariant 2: AWAITED is not set.
        unsafe { *self.joiner.get() = Some(wait.unparker()) };
        if self.state.fetch_or(AWAITED, Ordering::AcqRel) & DONE != 0 {
            return true;
        }
        let subject = self.identity.id().get() as usize;
        let verdict = wait.park(Why::Join, subject, deadline);
        if verdict == Wakeup::Unparked {
            debug_assert!(self.is_done());
            return true;
        }
        let is_done = self.state.fetch_and(!AWAITED, Ordering::AcqRel) & DONE != 0;
        match verdict {
            Wakeup::TimedOut => is_done,
            // The interrupt came first. Often it goes to both, and a joiner that
            // was given its guest's cancellation for a result would panic.
            verdict => cancel::raise_verdict(verdict, Why::Join),
        }
    }

    /// Enters the list of those who are unparked at the end; `None` if it has
    /// come already.
    fn watch(&self, unparker: Unparker) -> Option<Ticket> {
        let watchers = self.watchers.get_or_init(Box::default);
        let mut watchers = lock(watchers);
        let ticket = watchers.enter(unparker, ());
        // The body that does not see this has swapped DONE in before.
        if self.state.fetch_or(WATCHED, Ordering::AcqRel) & DONE != 0 {
            watchers.leave(ticket);
            return None;
        }
        Some(ticket)
    }

    fn unwatch(&self, ticket: Ticket) {
        let watchers = self.watchers.get().expect("who has a ticket has made it");
        lock(watchers).leave(ticket);
    }

    /// Gives up the right to the result; called by the handle only.
    fn detach(&self) {
        if self.state.swap(DETACHED, Ordering::AcqRel) & DONE != 0 {
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
    #[track_caller]
    pub fn join(self) -> Result<T> {
        let packet = self.packet();
        packet.refuse_itself();
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
    /// [`Cancelled`] unless the green thread had its result already. Cancelled
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

impl<T> Packet<T> {
    #[track_caller]
    fn refuse_itself(&self) {
        if !self.is_done() {
            let identity = &self.identity;
            assert!(
                identity.id().get() != hub::current_id(),
                "green thread '{}' (id {}) joins itself: it would wait for ever",
                identity.name().unwrap_or("unnamed"),
                identity.id(),
            );
        }
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
    fn drop(&mut self) {
        self.packet().detach();
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
