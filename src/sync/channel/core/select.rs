//! What `select!` asks of a channel: to poll it, to enter its lines with a claim,
//! and to send an item that is made only when it is let in.

use super::super::error::{RecvError, SendError};
use super::{Core, Delivery, Found, Grant, Offer, promise, unpark};
use crate::atomic::lock;
use crate::cancel;
use crate::hub::{Unparker, Wakeup, Why};
use crate::sync::wait_list::{Claim, Ticket};

impl<T> Core<T> {
    /// Lets the caller in, without an item yet, if that can be done now.
    pub(in crate::sync) fn grant(&self) -> Option<Grant> {
        let mut state = lock(&self.state);
        if state.closed {
            return Some(Grant::Refusal);
        }
        if state.queue.len() + state.granted < self.capacity {
            state.granted += 1;
            return Some(Grant::Slot);
        }
        if self.capacity != 0 {
            return None;
        }
        let receiver = state.receivers.choose_where(|_| true)?;
        *state.receivers.payload(receiver) = Delivery::Promised;
        Some(Grant::Receiver(receiver))
    }

    /// Sends the item that was granted. If the receiver that was to have it has
    /// given up meanwhile, it waits for another one.
    pub(in crate::sync) fn fill(&self, grant: Grant, item: T) -> Result<(), SendError<T>> {
        let mut state = lock(&self.state);
        let unparkers = match grant {
            Grant::Refusal => return Err(SendError(item)),
            Grant::Receiver(receiver) => {
                let delivery = state.receivers.payload(receiver);
                if matches!(delivery, Delivery::Withdrawn) {
                    state.receivers.leave(receiver);
                    drop(state);
                    let sent = self.send(item, None);
                    return sent.map_err(|error| SendError(error.into_inner()));
                }
                *delivery = Delivery::Item(item);
                [Some(state.receivers.unparker(receiver)), None]
            }
            Grant::Slot => {
                state.granted -= 1;
                if state.closed {
                    return Err(SendError(item));
                }
                // Given to a receiver, it leaves the slot to the next sender.
                [state.deliver(item), state.settle(self.capacity)]
            }
        };
        drop(state);
        unparkers.into_iter().for_each(unpark);
        Ok(())
    }

    /// Takes a grant back of which no use was made.
    pub(in crate::sync) fn revoke(&self, grant: Grant) {
        let mut state = lock(&self.state);
        let next = match grant {
            Grant::Refusal => None,
            Grant::Receiver(receiver) => {
                let delivery = state.receivers.payload(receiver);
                if matches!(delivery, Delivery::Withdrawn) {
                    state.receivers.leave(receiver);
                    None
                } else {
                    *delivery = Delivery::Awaited;
                    Some(state.receivers.unparker(receiver))
                }
            }
            Grant::Slot => {
                state.granted -= 1;
                if state.closed {
                    None
                } else {
                    state.settle(self.capacity)
                }
            }
        };
        drop(state);
        unpark(next);
    }

    /// Enters the line of senders; `None` if nobody need wait.
    pub(in crate::sync) fn enrol_sender(
        &self,
        unparker: Unparker,
        claim: &Claim,
        arm: usize,
    ) -> Option<Ticket> {
        let mut state = lock(&self.state);
        let has_room = state.queue.len() + state.granted < self.capacity
            || self.capacity == 0 && state.receivers.has_other(claim);
        if state.closed || has_room {
            return None;
        }
        let line = &mut state.senders;
        Some(line.enter_with(unparker, claim.clone(), arm, Offer::Wanted))
    }

    /// Leaves the line of senders; gives what was granted meanwhile.
    pub(in crate::sync) fn leave_as_sender(&self, ticket: Ticket) -> Option<Grant> {
        match lock(&self.state).senders.leave(ticket) {
            (_, Offer::Granted(grant)) => Some(grant),
            _ => None,
        }
    }

    /// Receives if there is something to receive. With `can_wait` it waits for
    /// a sender that is let in by this and has to make its item.
    pub(in crate::sync) fn poll(&self, can_wait: bool) -> Option<Result<T, RecvError>> {
        let mut state = lock(&self.state);
        let receiver = match state.find(self.capacity, can_wait) {
            Found::Item(item, sender) => {
                drop(state);
                unpark(sender);
                return Some(Ok(item));
            }
            Found::Nothing => return state.closed.then_some(Err(RecvError)),
            Found::Sender(sender) => promise(&mut state, sender),
        };
        drop(state);
        self.conclude(receiver)
    }

    /// Enters the line of receivers; `None` if nobody need wait.
    pub(in crate::sync) fn enrol_receiver(
        &self,
        unparker: Unparker,
        claim: &Claim,
        arm: usize,
    ) -> Option<Ticket> {
        let mut state = lock(&self.state);
        let has_item =
            !state.queue.is_empty() || self.capacity == 0 && state.senders.has_other(claim);
        if state.closed || has_item {
            return None;
        }
        let line = &mut state.receivers;
        Some(line.enter_with(unparker, claim.clone(), arm, Delivery::Awaited))
    }

    /// Leaves the line of receivers; gives what was received meanwhile. One that
    /// was promised an item keeps its place, to [conclude](Self::conclude).
    pub(in crate::sync) fn leave_as_receiver(&self, ticket: Ticket) -> Left<T> {
        let mut state = lock(&self.state);
        if matches!(state.receivers.payload(ticket), Delivery::Promised) {
            return Left::Promised;
        }
        let (_, delivery) = state.receivers.leave(ticket);
        drop(state);
        Left::With(outcome(delivery))
    }

    /// Waits for what was promised; `None` if the promise was taken back.
    ///
    /// An interrupt unwinds, and gives up what was promised.
    pub(in crate::sync) fn conclude(&self, ticket: Ticket) -> Option<Result<T, RecvError>> {
        match self.collect(ticket, Wakeup::Unparked, None) {
            (Delivery::Awaited, verdict) if verdict != Wakeup::Unparked => {
                cancel::raise_verdict(verdict, Why::Receive)
            }
            (delivery, _) => outcome(delivery),
        }
    }
}

/// How a `select!` has left the line of receivers.
pub(in crate::sync) enum Left<T> {
    With(Option<Result<T, RecvError>>),
    Promised,
}

fn outcome<T>(delivery: Delivery<T>) -> Option<Result<T, RecvError>> {
    match delivery {
        Delivery::Item(item) => Some(Ok(item)),
        Delivery::Closed => Some(Err(RecvError)),
        Delivery::Awaited | Delivery::Promised | Delivery::Withdrawn => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Wait;

    /// What only two OS threads can bring about, each between the other's poll
    /// and its entry.
    #[test]
    fn two_selects_that_enter_at_the_same_time_see_each_other() {
        let core = Core::<u8>::new(0);
        let unparker = Wait::begin().unparker();
        let [first, second, third] = [(); 3].map(|()| Claim::default());
        let sender = core
            .enrol_sender(unparker, &first, 0)
            .expect("nobody is there");
        // Not itself,
        let receiver = core
            .enrol_receiver(unparker, &first, 1)
            .expect("nobody else is there");
        assert!(matches!(core.leave_as_receiver(receiver), Left::With(None)));
        // but another,
        assert!(core.enrol_receiver(unparker, &second, 0).is_none());
        // unless it was chosen elsewhere.
        assert!(first.take(1));
        let receiver = core
            .enrol_receiver(unparker, &second, 0)
            .expect("it is on its way");
        assert!(core.leave_as_sender(sender).is_none());
        assert!(core.enrol_sender(unparker, &third, 0).is_none());
        assert!(second.take(1));
        assert!(core.grant().is_none(), "it takes something else");
        assert!(matches!(core.leave_as_receiver(receiver), Left::With(None)));
    }
}
