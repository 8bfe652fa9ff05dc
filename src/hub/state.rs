//! The words for where a green thread is and why.

/// Index of the hub's root in its table: the OS thread's own stack.
pub(super) const ROOT: u32 = 0;

/// Where a green thread is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The block is not in use.
    Free,
    /// In the run queue.
    Ready,
    /// In the run queue, with the result of its operation to take.
    Completed,
    /// On the processor, or suspended only by the loop that runs on its stack.
    Running,
    /// Stopped until told, for the reason given.
    Parked(Why),
    /// Stopped until the kernel owes it no completion any more.
    Performing,
}

/// What a parked green thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// An `unpark` by its handle.
    Park,
    /// A deadline.
    Sleep,
    /// The end of another green thread.
    Join,
    /// The end of all green threads of a scope.
    Scope,
    /// A closure on an OS thread of the offload pool.
    Offload,
    /// The end of the hub's green threads.
    HubEnd,
    /// A `Mutex` to be unlocked.
    Mutex,
    /// An `RwLock`, for reading.
    ReadLock,
    /// An `RwLock`, for writing.
    WriteLock,
    /// A `Condvar` to be notified.
    Condvar,
    /// The others at a `Barrier`.
    Barrier,
    /// The initialiser of a `Once`, which another one runs.
    Once,
    /// A permit of a `Semaphore`.
    Semaphore,
    /// An `Event` to be set.
    Event,
    /// A message.
    Receive,
    /// Room for a message.
    Send,
    /// What comes in next for a reader.
    Source,
    /// One of several things.
    Select,
    /// A waker of a future.
    Future,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// Its unparker was called.
    Unparked,
    /// Its deadline has passed.
    TimedOut,
    /// The caller was interrupted: it was cancelled, or a time limit around
    /// it has passed.
    Interrupted,
    /// Nothing can ever end it: the root waits, and nothing that could wake
    /// it exists.
    Stuck,
}
