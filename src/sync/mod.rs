//! Locks, signals and channels between green threads, under the names of `std::sync`.
//!
//! Everything here works between green threads of one hub, of hubs on different
//! OS threads, and OS threads that never had a hub, in every mixture. Who waits
//! parks its green thread, or blocks its OS thread if that has no hub; no hub is
//! started.
//!
//! A wait is interrupted as any other (see [`cancel`](crate::cancel)): then it
//! has taken nothing, and its place in the line is free. Where there is no
//! `_timeout` form, as in std, [`time::timeout`](crate::time::timeout) limits a
//! wait.
//!
//! On the root of a hub a wait that nothing can end panics with a table of all
//! green threads, as [`thread::park`](crate::thread::park) does: nothing is
//! ready, in flight or armed, no signal is handled and no other OS thread exists.
//! An OS thread without a hub waits for ever, as std's does.
//!
//! What a green thread holds that is abandoned with its hub stays held. Join it,
//! or use [`runtime::Builder::run`](crate::runtime::Builder::run), which ends
//! them all. What it was only being given (a lock, a permit, an item of a
//! channel) goes to the next one.
//!
//! Inside, there are two ways to wait: for permits, which one has and gives back
//! (`permits.rs`: `Mutex`, `RwLock`, `Semaphore`), and for an occasion, which
//! comes and is gone (`line.rs`: `Condvar`, `Barrier`, `Event`, `Once`). Items are
//! handed over in `channel/core`, on which every channel stands.

mod barrier;
pub mod channel;
mod condvar;
mod event;
mod joinable_queue;
mod lazy_lock;
mod line;
pub mod mpsc;
mod mutex;
mod once;
mod once_lock;
pub mod oneshot;
mod owner;
mod permits;
mod poison;
mod priority_queue;
mod rwlock;
#[doc(hidden)]
pub mod select;
mod semaphore;
mod wait_list;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use joinable_queue::JoinableQueue;
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use priority_queue::PriorityQueue;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedPermit, Permit, Semaphore};

pub(crate) use wait_list::{Ticket, WaitList};
