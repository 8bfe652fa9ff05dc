//! Waiting for a future: a waker that ends a wait.
//!
//! Invariant: whoever waits has looked at `woken` after it has left its
//! unparker, under the same lock; so a wake at any time is either seen or ends
//! the wait. Nothing of the user's is kept here: wakers may outlive the call,
//! and be dropped anywhere.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::atomic::{Mutex, lock};
use crate::cancel;
use crate::hub::{Unparker, Wait, Why};

/// What the wakers of one call share with it.
#[derive(Default)]
struct Signal(Mutex<Wakes>);

#[derive(Default)]
struct Wakes {
    /// A waker was called since the last poll began.
    woken: bool,
    /// Ends the present wait.
    waiting: Option<Unparker>,
}

impl Signal {
    /// Forgets the wakes up to now; called before a poll, which sees what they
    /// were about.
    fn clear(&self) {
        *lock(&self.0) = Wakes::default();
    }

    /// Waits for a wake after the last `clear`.
    fn wait(&self) {
        let wait = Wait::begin();
        let mut wakes = lock(&self.0);
        if wakes.woken {
            drop(wakes);
            // One that wakes itself all the time must let the others run.
            return cancel::yield_now();
        }
        wakes.waiting = Some(wait.unparker());
        drop(wakes);
        cancel::park(wait, Why::Future, 0, None);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Signal>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Signal>) {
        let waiting = {
            let mut wakes = lock(&self.0);
            wakes.woken = true;
            wakes.waiting.take()
        };
        if let Some(unparker) = waiting {
            unparker.unpark();
        }
    }
}

/// Runs a future to its end on the calling green thread, which is parked while
/// the future waits; the others go on.
///
/// Its waker may be called from anywhere, also from another OS thread. It is
/// polled by its caller only, so it may borrow and need not be `Send`. Calls
/// nest. An OS thread without a hub blocks, and gets none by this.
///
/// Cancelled, or at the end of a [`time::timeout`](crate::time::timeout) around
/// it, the call unwinds and drops the future. The token of
/// [`thread::park`](crate::thread::park) is not touched.
///
/// A future that needs a runtime of its own, as tokio's sockets and timers do,
/// needs it here, too.
///
/// # Panics
///
/// If the future does; on the root of a hub, if nothing could ever call its
/// waker, as in [`thread::park`](crate::thread::park).
///
/// # Examples
///
/// ```
/// use std::future::poll_fn;
/// use std::task::Poll;
///
/// use greenring::thread;
///
/// let mut asked = false;
/// let answer = greenring::block_on(poll_fn(|context| {
///     if asked {
///         return Poll::Ready(42);
///     }
///     asked = true;
///     let waker = context.waker().clone();
///     thread::spawn(move || waker.wake());
///     Poll::Pending
/// }));
/// assert_eq!(answer, 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        signal.clear();
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        signal.wait();
    }
}
