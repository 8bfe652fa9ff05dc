//! Waiting for the first of several things: what [`select!`](crate::select) is
//! made of.
//!
//! 1. All arms are polled, in random order, so that of several that are ready
//!    none is preferred. Polling takes: an item, or a grant to send one.
//! 2. If none is ready, the caller enters all lines with one claim, and parks.
//!    Whoever can satisfy one of its arms takes the claim and does it.
//! 3. It leaves all lines. If it was chosen, that arm has what it waited for, and
//!    nothing else has happened to the others. If not, it begins again.
//!
//! An arm that turns out to be ready while the lines are entered, which only
//! another OS thread can bring about, sends the caller back to the polling: two
//! that find each other at a rendezvous cannot both be chosen by the other. The
//! next random order parts them.
//!
//! Everything here is for the macro, which runs in the user's crate.

mod arms;
mod macros;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub use arms::{
    EndArm, Ends, EventArm, Grants, Receives, RecvArm, SendArm, Sends, TimerArm, join, recv, send,
    timer, wait,
};
pub(crate) use arms::{Sealed, Watch};

use super::wait_list::Claim;
use crate::cancel;
use crate::hub::{Unparker, Wait, Wakeup, Why};

/// One of the things that are waited for.
trait Arm {
    /// Takes what it waits for if that is there; whether it was. With
    /// `can_wait` also if it is still being made.
    fn poll(&mut self, can_wait: bool) -> bool;

    /// Enters the line; false if nobody need wait.
    fn enrol(&mut self, unparker: Unparker, claim: &Claim, index: usize) -> bool;

    /// Leaves the line; whether it was chosen.
    fn leave(&mut self) -> bool;

    /// Of the one that was chosen, when all lines are left: waits for what was
    /// only promised to it; whether it has what it waited for.
    fn conclude(&mut self) -> bool {
        true
    }

    /// When it is ready, if that is known.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// One arm among those of a `select!`.
pub struct AnyArm<'a>(&'a mut dyn Arm);

/// Waits for the first of the arms, which has then what it waited for; if the
/// caller cannot wait, false may say that there is none.
///
/// # Panics
///
/// If the wait could never end.
pub fn run(arms: &mut [AnyArm<'_>], can_wait: bool) -> bool {
    let deadline = arms.iter().filter_map(|arm| arm.0.deadline()).min();
    loop {
        shuffle(arms);
        if arms.iter_mut().any(|arm| arm.0.poll(can_wait)) {
            return true;
        }
        if !can_wait {
            return false;
        }
        let wait = Wait::begin();
        let unparker = wait.unparker();
        let claim = Claim::default();
        let mut enrolled = 0;
        while enrolled < arms.len() && arms[enrolled].0.enrol(unparker, &claim, enrolled) {
            enrolled += 1;
        }
        let verdict = if enrolled == arms.len() {
            wait.park(Why::Select, arms.as_ptr().addr(), deadline)
        } else {
            Wakeup::Unparked
        };
        let mut chosen = None;
        for arm in &mut arms[..enrolled] {
            if arm.0.leave() {
                chosen = Some(arm);
            }
        }
        if let Some(chosen) = chosen {
            if chosen.0.conclude() {
                return true;
            }
            // The promise was taken back.
            continue;
        }
        match verdict {
            // A timer is ready then.
            Wakeup::Unparked | Wakeup::TimedOut => {}
            verdict => cancel::raise_verdict(verdict, Why::Select),
        }
    }
}

/// Brings the arms into a random order, each as likely as any other.
fn shuffle(arms: &mut [AnyArm<'_>]) {
    for last in (1..arms.len()).rev() {
        arms.swap(last, random() as usize % (last + 1));
    }
}

/// xorshift64*, one generator per OS thread.
fn random() -> u64 {
    static SEEDS: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut next = match state.get() {
            0 => SEEDS
                .fetch_add(2, Ordering::Relaxed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15),
            next => next,
        };
        next ^= next >> 12;
        next ^= next << 25;
        next ^= next >> 27;
        state.set(next);
        next.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    })
}
