//! The queue behind every channel, and those who wait at its two sides.
//!
//! Items go from hand to hand: a sender gives its item to the first receiver
//! that waits, and a receiver that takes from a full queue moves the first
//! waiting sender's item in. A capacity of 0 needs nothing else. Under the lock:
//!
//! 1. While there is something to receive, nobody waits to receive it; while
//!    there is room, nobody waits to send.
//! 2. A `select!` has no item yet when it is let in. What it has then is a
//!    [`Grant`]: a slot of the queue that is kept free for it, or, where there
//!    are no slots, a receiver that is promised its item and waits for it. One
//!    that gives up meanwhile leaves its place, and the item goes the usual way
//!    when it is made. A grant is used up by [`Core::fill`] or given back by
//!    [`Core::revoke`].
//! 3. What was let in before a channel is closed is received, except into slots
//!    that are still empty: nobody may look at them any more.
//!
//! Items are dropped after the lock is released.

mod select;

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use super::error::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use crate::atomic::{Mutex, lock, lock_in_demand};
use crate::cancel;
use crate::hub::{Estate, Unparker, Wait, Wakeup, Why};
use crate::sync::wait_list::{Ticket, WaitList};

pub(in crate::sync) use select::Left;

/// A queue of items with its senders and receivers.
#[derive(Debug)]
pub(in crate::sync) struct Core<T> {
    /// `usize::MAX` is no bound.
    capacity: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    /// Slots that are kept free for those who have a [`Grant::Slot`].
    granted: usize,
    /// Nothing more comes in.
    closed: bool,
    senders: WaitList<Offer<T>>,
    receivers: WaitList<Delivery<T>>,
    /// Handles at either side; the last one closes.
    sending: usize,
    receiving: usize,
}

/// What a waiting sender has or gets.
#[derive(Debug)]
enum Offer<T> {
    Item(T),
    Taken,
    /// It makes its item when it is let in.
    Wanted,
    Granted(Grant),
}

/// What a waiting receiver gets.
#[derive(Debug)]
enum Delivery<T> {
    Awaited,
    Promised,
    /// It was promised, and has given up. Whoever has the grant takes the place
    /// away.
    Withdrawn,
    Item(T),
    Closed,
}

/// The right to send one item at once.
#[derive(Debug)]
pub(in crate::sync) enum Grant {
    /// A slot of the queue.
    Slot,
    /// A receiver that waits for this very item.
    Receiver(Ticket),
    /// To have it back: the channel is closed.
    Refusal,
}

/// What a receiver finds.
enum Found<T> {
    Item(T, Option<Unparker>),
    /// A sender that still has to make its item.
    Sender(Ticket),
    Nothing,
}

/// A waiting receiver's place.
struct Place<'a, T> {
    core: &'a Core<T>,
    ticket: Ticket,
}

impl<T> Estate for Place<'_, T> {
    fn pass_on(&self) {
        let mut state = lock(&self.core.state);
        let delivery = state.receivers.payload(self.ticket);
        if matches!(delivery, Delivery::Promised) {
            *delivery = Delivery::Withdrawn;
            return;
        }
        let (_, delivery) = state.receivers.leave(self.ticket);
        let Delivery::Item(item) = delivery else {
            return;
        };
        let next = match state.receivers.choose() {
            Some((receiver, delivery)) => {
                *delivery = Delivery::Item(item);
                Some(receiver)
            }
            None => {
                state.queue.push_front(item);
                None
            }
        };
        drop(state);
        unpark(next);
    }
}

impl<T> State<T> {
    /// Gives an item to the first waiting receiver, or puts it into the queue.
    /// There must be room for it in invariant 1's sense.
    fn deliver(&mut self, item: T) -> Option<Unparker> {
        match self.receivers.choose() {
            Some((receiver, delivery)) => {
                *delivery = Delivery::Item(item);
                Some(receiver)
            }
            None => {
                self.queue.push_back(item);
                None
            }
        }
    }

    /// Lets waiting senders in while there are free slots. Whom it gives is to
    /// be unparked after the lock is released.
    fn settle(&mut self, capacity: usize) -> Option<Unparker> {
        let mut last: Option<Unparker> = None;
        while self.queue.len() + self.granted < capacity {
            let Some((sender, offer)) = self.senders.choose() else {
                break;
            };
            let receiver = match mem::replace(offer, Offer::Taken) {
                Offer::Item(item) => self.deliver(item),
                Offer::Wanted => {
                    *offer = Offer::Granted(Grant::Slot);
                    self.granted += 1;
                    None
                }
                Offer::Taken | Offer::Granted(_) => unreachable!("it was let in before"),
            };
            let unparkers = [receiver, last.replace(sender)];
            unparkers.iter().flatten().for_each(Unparker::unpark);
        }
        last
    }

    /// Lets an item in if that can be done now.
    fn put(&mut self, item: T, capacity: usize) -> Result<Option<Unparker>, TrySendError<T>> {
        if self.closed {
            return Err(TrySendError::Disconnected(item));
        }
        if self.queue.len() + self.granted < capacity {
            return Ok(self.deliver(item));
        }
        if capacity == 0
            && let Some((receiver, delivery)) = self.receivers.choose()
        {
            *delivery = Delivery::Item(item);
            return Ok(Some(receiver));
        }
        Err(TrySendError::Full(item))
    }

    /// Takes an item if there is one; who cannot wait is not shown senders that
    /// have none yet.
    fn find(&mut self, capacity: usize, can_wait: bool) -> Found<T> {
        if let Some(item) = self.queue.pop_front() {
            return Found::Item(item, self.settle(capacity));
        }
        if capacity != 0 {
            return Found::Nothing;
        }
        let pleases = |offer: &Offer<T>| can_wait || matches!(offer, Offer::Item(_));
        let Some(ticket) = self.senders.choose_where(pleases) else {
            return Found::Nothing;
        };
        let offer = self.senders.payload(ticket);
        match mem::replace(offer, Offer::Taken) {
            Offer::Item(item) => Found::Item(item, Some(self.senders.unparker(ticket))),
            _ => Found::Sender(ticket),
        }
    }

    /// Tells everybody who waits that nothing more comes in.
    fn close(&mut self) {
        if mem::replace(&mut self.closed, true) {
            return;
        }
        while let Some((receiver, delivery)) = self.receivers.choose() {
            *delivery = Delivery::Closed;
            receiver.unpark();
        }
        while let Some((sender, offer)) = self.senders.choose() {
            // Others keep their item, and so know.
            if matches!(offer, Offer::Wanted) {
                *offer = Offer::Granted(Grant::Refusal);
            }
            sender.unpark();
        }
    }
}

impl<T> Core<T> {
    /// A queue with one handle at each side.
    pub(in crate::sync) fn new(capacity: usize) -> Core<T> {
        Core {
            capacity,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                granted: 0,
                closed: false,
                senders: WaitList::new(),
                receivers: WaitList::new(),
                sending: 1,
                receiving: 1,
            }),
        }
    }

    /// Sends an item, waiting for room until the deadline at the most.
    ///
    /// An interrupt unwinds and drops the item.
    pub(in crate::sync) fn send(
        &self,
        item: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let mut state = lock_in_demand(&self.state);
        let item = match state.put(item, self.capacity) {
            Ok(receiver) => {
                drop(state);
                unpark(receiver);
                return Ok(());
            }
            Err(TrySendError::Disconnected(item)) => {
                return Err(SendTimeoutError::Disconnected(item));
            }
            Err(TrySendError::Full(item)) => item,
        };
        let wait = Wait::begin();
        let ticket = state.senders.enter(wait.unparker(), Offer::Item(item));
        drop(state);
        let verdict = wait.park(Why::Send, self.address(), deadline);
        let (is_chosen, offer) = lock_in_demand(&self.state).senders.leave(ticket);
        match (offer, verdict) {
            (Offer::Item(item), _) if is_chosen => Err(SendTimeoutError::Disconnected(item)),
            (Offer::Item(item), Wakeup::TimedOut) => Err(SendTimeoutError::Timeout(item)),
            (Offer::Item(_item), verdict) => cancel::raise_verdict(verdict, Why::Send),
            _ => Ok(()),
        }
    }

    pub(in crate::sync) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let receiver = lock_in_demand(&self.state).put(item, self.capacity)?;
        unpark(receiver);
        Ok(())
    }

    /// Receives an item, waiting for one until the deadline at the most.
    pub(in crate::sync) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        // Its item was promised, and the promise taken back.
        let mut is_first = false;
        loop {
            let mut state = lock_in_demand(&self.state);
            let (delivery, verdict) = match state.find(self.capacity, true) {
                Found::Item(item, sender) => {
                    drop(state);
                    unpark(sender);
                    return Ok(item);
                }
                Found::Sender(sender) => {
                    let receiver = promise(&mut state, sender);
                    drop(state);
                    self.collect(receiver, Wakeup::Unparked, deadline)
                }
                Found::Nothing if state.closed => return Err(RecvTimeoutError::Disconnected),
                Found::Nothing => {
                    let wait = Wait::begin();
                    let line = &mut state.receivers;
                    let ticket = if is_first {
                        line.enter_first(wait.unparker(), Delivery::Awaited)
                    } else {
                        line.enter(wait.unparker(), Delivery::Awaited)
                    };
                    drop(state);
                    let verdict = self.park(wait, ticket, deadline);
                    self.collect(ticket, verdict, deadline)
                }
            };
            match (delivery, verdict) {
                (Delivery::Item(item), _) => return Ok(item),
                (Delivery::Closed, _) => return Err(RecvTimeoutError::Disconnected),
                (_, Wakeup::Unparked) => is_first = true,
                (_, Wakeup::TimedOut) => return Err(RecvTimeoutError::Timeout),
                (_, verdict) => cancel::raise_verdict(verdict, Why::Receive),
            }
        }
    }

    pub(in crate::sync) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = lock_in_demand(&self.state);
        match state.find(self.capacity, false) {
            Found::Item(item, sender) => {
                drop(state);
                unpark(sender);
                Ok(item)
            }
            _ if state.closed => Err(TryRecvError::Disconnected),
            _ => Err(TryRecvError::Empty),
        }
    }

    /// Parks a receiver.
    fn park(&self, wait: Wait, ticket: Ticket, deadline: Option<Instant>) -> Wakeup {
        let place = Place { core: self, ticket };
        wait.park_with(&place, Why::Receive, self.address(), deadline)
    }

    /// Takes a receiver's place away and gives what it got. One that was
    /// promised an item waits until it comes, the promise is taken back, or it
    /// gives up.
    fn collect(
        &self,
        ticket: Ticket,
        mut verdict: Wakeup,
        deadline: Option<Instant>,
    ) -> (Delivery<T>, Wakeup) {
        loop {
            let mut state = lock(&self.state);
            if !matches!(state.receivers.payload(ticket), Delivery::Promised) {
                return (state.receivers.leave(ticket).1, verdict);
            }
            let wait = Wait::begin();
            state.receivers.renew(ticket, wait.unparker());
            drop(state);
            verdict = self.park(wait, ticket, deadline);
            if verdict != Wakeup::Unparked {
                let mut state = lock(&self.state);
                let delivery = state.receivers.payload(ticket);
                if matches!(delivery, Delivery::Promised) {
                    *delivery = Delivery::Withdrawn;
                    return (Delivery::Awaited, verdict);
                }
            }
        }
    }

    /// Closes the channel: nothing more comes in.
    pub(in crate::sync) fn close(&self) {
        lock(&self.state).close();
    }

    pub(in crate::sync) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    pub(in crate::sync) fn len(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Whether no item would be let in into the queue.
    pub(in crate::sync) fn is_full(&self) -> bool {
        let state = lock(&self.state);
        state.queue.len() + state.granted >= self.capacity
    }

    pub(in crate::sync) fn capacity(&self) -> Option<usize> {
        (self.capacity != usize::MAX).then_some(self.capacity)
    }

    /// What the wait is for, in the eyes of who looks at it.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(in crate::sync) fn add_sender(&self) {
        lock(&self.state).sending += 1;
    }

    pub(in crate::sync) fn remove_sender(&self) {
        let mut state = lock(&self.state);
        state.sending -= 1;
        if state.sending == 0 {
            state.close();
        }
    }

    pub(in crate::sync) fn add_receiver(&self) {
        lock(&self.state).receiving += 1;
    }

    pub(in crate::sync) fn remove_receiver(&self) {
        let mut state = lock(&self.state);
        state.receiving -= 1;
        if state.receiving == 0 {
            state.close();
            let items = mem::take(&mut state.queue);
            drop(state);
            drop(items);
        }
    }
}

/// Lets a waiting sender in that has to make its item for the caller, whose
/// ticket this gives.
fn promise<T>(state: &mut State<T>, sender: Ticket) -> Ticket {
    // Renewed when the wait for it begins.
    let unparker = Wait::begin().unparker();
    let receiver = state.receivers.enter_chosen(unparker, Delivery::Promised);
    *state.senders.payload(sender) = Offer::Granted(Grant::Receiver(receiver));
    state.senders.unparker(sender).unpark();
    receiver
}

#[inline]
fn unpark(unparker: Option<Unparker>) {
    if let Some(unparker) = unparker {
        unparker.unpark();
    }
}
