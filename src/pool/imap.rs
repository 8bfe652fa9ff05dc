//! `imap` and `imap_unordered`: results while they come.
//!
//! A green thread of its own, the feeder, takes item after item and adds a
//! member for each; a semaphore holds it back while too many results are unread.
//! It is no member: it has no place in the pool, and nobody who joins the group
//! waits for it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{Location, resume_unwind};
use std::rc::Rc;

use super::members::{Door, Members};
use crate::cancel::{self, Cancelled};
use crate::hub::{Unparker, Wait, Why};
use crate::sync::{Arc, Semaphore};
use crate::thread::{Builder, JoinHandle};

/// In which order results are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As the items.
    Items,
    /// As they come.
    Ends,
}

/// An iterator over the results of [`imap`](super::Group::imap) and
/// [`imap_unordered`](super::Group::imap_unordered).
///
/// `next` waits for a result. Where an item's green thread has panicked it
/// resumes that panic, or [`Cancelled`] if it was cancelled; the next call goes
/// on behind it. When the items' iterator panics, its panic is resumed behind the
/// last result, and the iteration is over.
///
/// Dropping it stops the feeding and cancels the green threads that it has
/// started. It is bound to its OS thread.
///
/// # Examples
///
/// ```
/// use greenring::pool::{Group, Imap};
///
/// let mut squares: Imap<u32> = Group::new().imap(1.., |n| n * n);
/// assert_eq!(squares.next(), Some(1));
/// assert_eq!(squares.next(), Some(4));
/// drop(squares); // though there would be more
/// ```
#[must_use = "dropping it cancels what it has started"]
pub struct Imap<R> {
    feed: Rc<Feed<R>>,
    /// Until its end was told.
    feeder: Option<JoinHandle<()>>,
}

/// What the feeder, its members and the iterator share.
struct Feed<R> {
    order: Order,
    /// Those whose results are unread, by their items' numbers.
    started: RefCell<BTreeMap<u64, JoinHandle<R>>>,
    /// Which have ended, unless only the first in `started` matters.
    ended: RefCell<VecDeque<u64>>,
    /// Who waits for one of them.
    reader: Cell<Option<Unparker>>,
    /// Room for unread results.
    room: Arc<Semaphore>,
    /// Nobody reads any more.
    is_closed: Cell<bool>,
}

#[track_caller]
pub(super) fn imap<I, R>(
    members: &Members,
    order: Order,
    items: I,
    f: impl Fn(I::Item) -> R + 'static,
) -> Imap<R>
where
    I: IntoIterator,
    I::IntoIter: 'static,
    I::Item: 'static,
    R: 'static,
{
    let site = Location::caller();
    let door = Door::open(members);
    let feed = Rc::new(Feed {
        order,
        started: RefCell::default(),
        ended: RefCell::default(),
        reader: Cell::new(None),
        room: Arc::new(Semaphore::new(members.most_unread())),
        is_closed: Cell::new(false),
    });
    let items = items.into_iter();
    let feeding = Rc::clone(&feed);
    let end = Rc::clone(&feed);
    let feeder = Builder::new().spawn_then(
        move || feeding.run(&door, site, items, f),
        move |_| end.wake_reader(),
    );
    let feeder = feeder.unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"));
    Imap {
        feed,
        feeder: Some(feeder),
    }
}

impl<R: 'static> Feed<R> {
    /// Adds a member for every item. Runs on the feeder.
    fn run<Item: 'static>(
        self: Rc<Self>,
        door: &Door,
        site: &'static Location<'static>,
        mut items: impl Iterator<Item = Item>,
        f: impl Fn(Item) -> R + 'static,
    ) {
        let f = Rc::new(f);
        for number in 0.. {
            // Its permit is given back by who reads the result.
            self.room.acquire().forget();
            if self.must_stop(door) {
                return;
            }
            let Some(item) = items.next() else {
                return;
            };
            let admission = door.admit();
            if self.must_stop(door) {
                return;
            }
            let f = Rc::clone(&f);
            let feed = Rc::clone(&self);
            let builder = Builder::new().spawned_at(site);
            let member = door.members().spawn(
                admission,
                builder,
                move || f(item),
                move || feed.note_end(number),
            );
            let member =
                member.unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"));
            self.started.borrow_mut().insert(number, member);
        }
    }

    /// Whether there is to be no further member; unwinds if there would have
    /// been.
    fn must_stop(&self, door: &Door) -> bool {
        if self.is_closed.get() {
            return true;
        }
        if door.is_closed() {
            resume_unwind(Box::new(Cancelled));
        }
        false
    }
}

impl<R> Feed<R> {
    fn note_end(&self, number: u64) {
        if self.order == Order::Ends {
            self.ended.borrow_mut().push_back(number);
        }
        self.wake_reader();
    }

    fn wake_reader(&self) {
        if let Some(reader) = self.reader.take() {
            reader.unpark();
        }
    }

    /// The next result, if it is there.
    fn take_ended(&self) -> Option<JoinHandle<R>> {
        let mut started = self.started.borrow_mut();
        let number = match self.order {
            Order::Items => {
                let (number, first) = started.first_key_value()?;
                first.is_finished().then_some(*number)?
            }
            Order::Ends => self.ended.borrow_mut().pop_front()?,
        };
        started.remove(&number)
    }
}

impl<R> Iterator for Imap<R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            if let Some(ended) = self.feed.take_ended() {
                self.feed.room.add_permits(1);
                return match ended.join() {
                    Ok(result) => Some(result),
                    Err(payload) => resume_unwind(payload),
                };
            }
            let is_over = self.feeder.as_ref()?.is_finished();
            if is_over && self.feed.started.borrow().is_empty() {
                return match self.feeder.take()?.join() {
                    Ok(()) => None,
                    Err(payload) => resume_unwind(payload),
                };
            }
            let wait = Wait::begin();
            self.feed.reader.set(Some(wait.unparker()));
            cancel::park(wait, Why::Receive, 0, None);
        }
    }
}

impl<R> FusedIterator for Imap<R> {}

impl<R> Drop for Imap<R> {
    fn drop(&mut self) {
        self.feed.is_closed.set(true);
        // If it waits for room, it comes and sees that.
        self.feed.room.add_permits(1);
        let started = self.feed.started.take();
        if cancel::supported() {
            if let Some(feeder) = &self.feeder {
                feeder.cancel();
            }
            for member in started.values() {
                member.cancel();
            }
        }
    }
}

impl<R> fmt::Debug for Imap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("unread", &self.feed.started.borrow().len())
            .finish_non_exhaustive()
    }
}
