//! The arms of a `select!`.
//!
//! None has a destructor, so that the borrows of an arm that was not chosen end
//! before the chosen one's expression runs: it may move what they borrowed.

use std::time::{Duration, Instant};

use super::{AnyArm, Arm};
use crate::hub::Unparker;
use crate::sync::channel::{self, Core, Grant, Left, RecvError, SendError};
use crate::sync::wait_list::{Claim, Ticket};
use crate::sync::{Event, mpsc, oneshot};

mod sealed {
    /// What only this crate implements.
    pub trait Sealed {}
}

pub(crate) use sealed::Sealed;

/// What `recv(…)` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no receiver that `select!` could wait for",
    label = "write `recv(&receiver)`, with a receiver of `sync::{{channel, mpsc, oneshot}}`"
)]
pub trait Receives: Sealed {
    /// What comes.
    type Item;

    /// The arm for it.
    fn arm(&self) -> RecvArm<'_, Self::Item>;
}

/// What `send(…)` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no sender that `select!` could wait for",
    label = "write `send(&sender, item)`, with a sender of `sync::{{channel, mpsc}}`"
)]
pub trait Sends: Sealed {
    /// What goes.
    type Item;

    /// The arm for it.
    fn arm(&self) -> SendArm<'_, Self::Item>;
}

macro_rules! sides {
    ($trait:ident, $arm:ident: $($side:ty),*) => {$(
        impl<T> Sealed for $side {}

        impl<T> $trait for $side {
            type Item = T;

            fn arm(&self) -> $arm<'_, T> {
                $arm::new(self.core())
            }
        }
    )*};
}

sides!(Receives, RecvArm: channel::Receiver<T>, mpsc::Receiver<T>, oneshot::Receiver<T>);
sides!(Sends, SendArm: channel::Sender<T>, mpsc::Sender<T>, mpsc::SyncSender<T>);

impl<S: Sealed + ?Sized> Sealed for &S {}

impl<R: Receives + ?Sized> Receives for &R {
    type Item = R::Item;

    fn arm(&self) -> RecvArm<'_, R::Item> {
        (**self).arm()
    }
}

impl<S: Sends + ?Sized> Sends for &S {
    type Item = S::Item;

    fn arm(&self) -> SendArm<'_, S::Item> {
        (**self).arm()
    }
}

/// An arm that receives.
pub fn recv<R: Receives + ?Sized>(receiver: &R) -> RecvArm<'_, R::Item> {
    receiver.arm()
}

/// An arm that sends.
pub fn send<S: Sends + ?Sized>(sender: &S) -> SendArm<'_, S::Item> {
    sender.arm()
}

/// An arm that receives.
pub struct RecvArm<'a, T> {
    core: &'a Core<T>,
    ticket: Option<Ticket>,
    result: Option<Result<T, RecvError>>,
}

impl<T> RecvArm<'_, T> {
    fn new(core: &Core<T>) -> RecvArm<'_, T> {
        RecvArm {
            core,
            ticket: None,
            result: None,
        }
    }

    /// For [`run`](super::run).
    pub fn any(&mut self) -> AnyArm<'_> {
        AnyArm(self)
    }

    /// Whether it is the one.
    pub fn is_chosen(&self) -> bool {
        self.result.is_some()
    }

    /// What was received; only if it was chosen.
    pub fn complete(self) -> Result<T, RecvError> {
        self.result.expect("chosen")
    }
}

impl<T> Arm for RecvArm<'_, T> {
    fn poll(&mut self, can_wait: bool) -> bool {
        self.result = self.core.poll(can_wait);
        self.is_chosen()
    }

    fn enrol(&mut self, unparker: Unparker, claim: &Claim, index: usize) -> bool {
        self.ticket = self.core.enrol_receiver(unparker, claim, index);
        self.ticket.is_some()
    }

    fn leave(&mut self) -> bool {
        let ticket = self.ticket.expect("enrolled");
        match self.core.leave_as_receiver(ticket) {
            Left::Promised => true,
            Left::With(result) => {
                self.ticket = None;
                self.result = result;
                self.is_chosen()
            }
        }
    }

    fn conclude(&mut self) -> bool {
        if let Some(ticket) = self.ticket.take() {
            self.result = self.core.conclude(ticket);
        }
        self.is_chosen()
    }
}

/// An arm that sends.
pub struct SendArm<'a, T> {
    core: &'a Core<T>,
    ticket: Option<Ticket>,
    grant: Option<Grant>,
}

impl<'a, T> SendArm<'a, T> {
    fn new(core: &Core<T>) -> SendArm<'_, T> {
        SendArm {
            core,
            ticket: None,
            grant: None,
        }
    }

    /// For [`run`](super::run).
    pub fn any(&mut self) -> AnyArm<'_> {
        AnyArm(self)
    }

    /// Whether it is the one.
    pub fn is_chosen(&self) -> bool {
        self.grant.is_some()
    }

    /// The right to send; only if it was chosen.
    pub fn complete(self) -> Grants<'a, T> {
        Grants {
            core: self.core,
            grant: self.grant,
        }
    }
}

impl<T> Arm for SendArm<'_, T> {
    fn poll(&mut self, _can_wait: bool) -> bool {
        self.grant = self.core.grant();
        self.is_chosen()
    }

    fn enrol(&mut self, unparker: Unparker, claim: &Claim, index: usize) -> bool {
        self.ticket = self.core.enrol_sender(unparker, claim, index);
        self.ticket.is_some()
    }

    fn leave(&mut self) -> bool {
        let ticket = self.ticket.take().expect("enrolled");
        self.grant = self.core.leave_as_sender(ticket);
        self.is_chosen()
    }
}

/// The right to send an item while it is made; given back if it is not.
pub struct Grants<'a, T> {
    core: &'a Core<T>,
    grant: Option<Grant>,
}

impl<T> Grants<'_, T> {
    /// Sends it.
    ///
    /// # Errors
    ///
    /// The channel was closed.
    pub fn send(mut self, item: T) -> Result<(), SendError<T>> {
        self.core.fill(self.grant.take().expect("chosen"), item)
    }
}

impl<T> Drop for Grants<'_, T> {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            self.core.revoke(grant);
        }
    }
}

/// An arm that is ready after a while.
pub struct TimerArm {
    deadline: Option<Instant>,
    is_chosen: bool,
}

/// An arm that is ready after a while.
pub fn timer(duration: Duration) -> TimerArm {
    TimerArm {
        deadline: Instant::now().checked_add(duration),
        is_chosen: false,
    }
}

impl TimerArm {
    /// For [`run`](super::run).
    pub fn any(&mut self) -> AnyArm<'_> {
        AnyArm(self)
    }

    /// Whether it is the one.
    pub fn is_chosen(&self) -> bool {
        self.is_chosen
    }
}

impl Arm for TimerArm {
    fn poll(&mut self, _can_wait: bool) -> bool {
        let is_past = |deadline| deadline <= Instant::now();
        self.is_chosen = self.deadline.is_some_and(is_past);
        self.is_chosen
    }

    fn enrol(&mut self, _unparker: Unparker, _claim: &Claim, _index: usize) -> bool {
        true
    }

    fn leave(&mut self) -> bool {
        false
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Something that ends once, and stays ended. Whoever watches is unparked then.
pub(crate) trait Watch {
    fn has_ended(&self) -> bool;

    /// Enters the line of watchers; `None` if it has ended already.
    fn watch(&self, unparker: Unparker) -> Option<Ticket>;

    fn unwatch(&self, ticket: Ticket);
}

/// What `join(…)` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handle whose end `select!` could wait for",
    label = "write `join(&handle)`, with a `JoinHandle` or `ScopedJoinHandle`"
)]
pub trait Ends: Sealed {
    /// The arm for it.
    fn arm(&self) -> EndArm<'_>;
}

impl<E: Ends + ?Sized> Ends for &E {
    fn arm(&self) -> EndArm<'_> {
        (**self).arm()
    }
}

/// An arm that waits for a green thread's end.
pub fn join<E: Ends + ?Sized>(handle: &E) -> EndArm<'_> {
    handle.arm()
}

/// An arm that waits for a green thread's end.
pub struct EndArm<'a> {
    source: &'a dyn Watch,
    ticket: Option<Ticket>,
    is_chosen: bool,
}

impl EndArm<'_> {
    pub(crate) fn new(source: &dyn Watch) -> EndArm<'_> {
        EndArm {
            source,
            ticket: None,
            is_chosen: false,
        }
    }

    /// For [`run`](super::run).
    pub fn any(&mut self) -> AnyArm<'_> {
        AnyArm(self)
    }

    /// Whether it is the one.
    pub fn is_chosen(&self) -> bool {
        self.is_chosen
    }
}

impl Arm for EndArm<'_> {
    fn poll(&mut self, _can_wait: bool) -> bool {
        self.is_chosen = self.source.has_ended();
        self.is_chosen
    }

    /// The end unparks all who watch, and the claim is nobody's: the next poll
    /// finds it.
    fn enrol(&mut self, unparker: Unparker, _claim: &Claim, _index: usize) -> bool {
        self.ticket = self.source.watch(unparker);
        self.ticket.is_some()
    }

    fn leave(&mut self) -> bool {
        let ticket = self.ticket.take().expect("enrolled");
        self.source.unwatch(ticket);
        false
    }
}

/// An arm that waits for an event.
pub fn wait(event: &Event) -> EventArm<'_> {
    EventArm {
        event,
        ticket: None,
        is_chosen: false,
    }
}

/// An arm that waits for an event.
pub struct EventArm<'a> {
    event: &'a Event,
    ticket: Option<Ticket>,
    is_chosen: bool,
}

impl EventArm<'_> {
    /// For [`run`](super::run).
    pub fn any(&mut self) -> AnyArm<'_> {
        AnyArm(self)
    }

    /// Whether it is the one.
    pub fn is_chosen(&self) -> bool {
        self.is_chosen
    }
}

impl Arm for EventArm<'_> {
    fn poll(&mut self, _can_wait: bool) -> bool {
        self.is_chosen = self.event.is_set();
        self.is_chosen
    }

    fn enrol(&mut self, unparker: Unparker, claim: &Claim, index: usize) -> bool {
        self.ticket = self.event.enrol(unparker, claim, index);
        self.ticket.is_some()
    }

    fn leave(&mut self) -> bool {
        let ticket = self.ticket.take().expect("enrolled");
        self.is_chosen = self.event.leave(ticket);
        self.is_chosen
    }
}
