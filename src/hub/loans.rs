//! What OS threads of the offload pool borrow from the frames of a hub's green
//! threads, counted: a hub that ends amid a loan waits for its end.
//!
//! The frames themselves would stay, as those of all who are abandoned. But they
//! may lend in turn what they have borrowed from thread-locals of the hub's OS
//! thread, which are destroyed with it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::atomic::lock;

/// The loans of one hub.
#[derive(Debug, Default)]
pub(super) struct Loans(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    open: Mutex<usize>,
    none: Condvar,
}

/// One loan; dropped when it is over.
#[derive(Debug)]
pub(crate) struct Loan(Arc<Counted>);

impl Loans {
    pub(super) fn make(&self) -> Loan {
        *lock(&self.0.open) += 1;
        Loan(Arc::clone(&self.0))
    }

    /// Blocks the OS thread until none is open, until the deadline at the most;
    /// how many are.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> usize {
        let mut open = lock(&self.0.open);
        while *open > 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            open = match left {
                Some(left) if left.is_zero() => break,
                Some(left) => match self.0.none.wait_timeout(open, left) {
                    Ok((open, _)) => open,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => match self.0.none.wait(open) {
                    Ok(open) => open,
                    Err(poisoned) => poisoned.into_inner(),
                },
            };
        }
        *open
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut open = lock(&self.0.open);
        *open -= 1;
        if *open == 0 {
            self.0.none.notify_all();
        }
    }
}
