//! `sync::channel`, `sync::oneshot` and the queues: order, room, closing, and
//! that no item is lost or seen twice, whoever is cancelled.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Rng;
use common::places::PLACES;
use greenring::sync::channel::{
    self, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use greenring::sync::{JoinableQueue, PriorityQueue, oneshot};
use greenring::{Cancelled, thread, time};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// An item that counts how often one like it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

both_backends! {
    fn an_item_that_comes_after_a_cancel_is_for_those_who_still_want_it() {
        let (sender, receiver) = channel::unbounded();
        let cancelled = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv())
        };
        let late = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv())
        };
        thread::yield_now();
        cancelled.cancel();
        // It has not run since.
        sender.send(1).unwrap();
        assert_eq!(late.join().unwrap(), Ok(1));
        cancelled.join().unwrap_err();
        // Nobody waits any more.
        sender.send(2).unwrap();
        assert_eq!(receiver.try_recv(), Ok(2));
    }

    fn items_arrive_in_order_wherever_the_sides_run() {
        for place in PLACES {
            for capacity in [0, 1, 3, usize::MAX] {
                let (sender, receiver) = channel::bounded(capacity);
                let side = place.run(move || (0..500).for_each(|n| sender.send(n).unwrap()));
                assert!(receiver.iter().eq(0..500), "{place:?}, {capacity}");
                side.join();
                let (sender, receiver) = channel::bounded(capacity);
                let side = place.run(move || receiver.into_iter().collect::<Vec<_>>());
                (0..500).for_each(|n| sender.send(n).unwrap());
                drop(sender);
                assert!(side.join().into_iter().eq(0..500), "{place:?}, {capacity}");
            }
        }
    }

    fn each_item_goes_to_one_of_many_receivers() {
        for place in PLACES {
            for capacity in [0, 1, 3, usize::MAX] {
                let (sender, receiver) = channel::bounded(capacity);
                let sides: Vec<_> = (0..4)
                    .map(|_| {
                        let receiver = receiver.clone();
                        place.run(move || receiver.iter().collect::<Vec<u32>>())
                    })
                    .collect();
                let senders: Vec<_> = (0..4)
                    .map(|side| {
                        let sender = sender.clone();
                        thread::spawn(move || {
                            (0..200).for_each(|n| sender.send(4 * n + side).unwrap());
                        })
                    })
                    .collect();
                drop((sender, receiver));
                thread::join_all(senders).into_iter().for_each(Result::unwrap);
                let mut all: Vec<_> = sides.into_iter().flat_map(|side| side.join()).collect();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..800), "{place:?}, {capacity}");
            }
        }
    }

    fn a_full_channel_lets_senders_wait_in_their_order() {
        if common::is_shuffled() {
            return;
        }
        // gevent's test__queue: waiters are served first in, first out.
        let (sender, receiver) = channel::bounded(2);
        let senders: Vec<_> = (0..6)
            .map(|n| {
                let sender = sender.clone();
                thread::spawn(move || sender.send(n).unwrap())
            })
            .collect();
        thread::yield_now();
        assert_eq!((receiver.len(), receiver.is_full()), (2, true));
        assert_eq!(senders.iter().filter(|sender| sender.is_finished()).count(), 2);
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        for n in 0..6 {
            assert_eq!(receiver.try_recv(), Ok(n));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        thread::join_all(senders).into_iter().for_each(Result::unwrap);
    }

    fn receivers_are_served_in_their_order() {
        if common::is_shuffled() {
            return;
        }
        for capacity in [0, 1, usize::MAX] {
            let (sender, receiver) = channel::bounded(capacity);
            let receivers: Vec<_> = (0..5)
                .map(|_| {
                    let receiver = receiver.clone();
                    thread::spawn(move || receiver.recv().unwrap())
                })
                .collect();
            thread::yield_now();
            for n in 0..5 {
                sender.try_send(n).unwrap();
            }
            let served: Vec<_> = thread::join_all(receivers).into_iter().flatten().collect();
            assert_eq!(served, [0, 1, 2, 3, 4]);
        }
    }

    fn a_rendezvous_waits_for_both() {
        let (sender, receiver) = channel::rendezvous();
        assert_eq!((sender.capacity(), sender.len(), sender.is_full()), (Some(0), 0, true));
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let handle = thread::spawn(move || sender.send(2));
        thread::yield_now();
        assert!(!handle.is_finished());
        assert_eq!((receiver.len(), receiver.try_recv()), (0, Ok(2)));
        assert_eq!(handle.join().unwrap(), Ok(()));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    }

    fn timeouts_pass_and_take_nothing_with_them() {
        let (sender, receiver) = channel::bounded(1);
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        assert_eq!(sender.send_timeout(1, SHORT), Ok(()));
        assert_eq!(sender.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(receiver.recv_timeout(LONG), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        drop(receiver);
        assert_eq!(sender.send_timeout(3, LONG), Err(SendTimeoutError::Disconnected(3)));
    }

    fn closing_wakes_everybody_and_leaves_what_is_queued() {
        // gevent's queue.shutdown.
        for place in PLACES {
            let (sender, receiver) = channel::bounded(1);
            sender.send(1).unwrap();
            let theirs = sender.clone();
            let waiting = place.run(move || theirs.send(2));
            let ours = thread::spawn({
                let sender = sender.clone();
                move || sender.send(3)
            });
            thread::yield_now();
            receiver.close();
            assert_eq!(ours.join().unwrap(), Err(SendError(3)));
            assert_eq!(waiting.join(), Err(SendError(2)));
            assert!(sender.is_closed() && receiver.is_closed());
            assert_eq!(receiver.recv(), Ok(1));
            assert_eq!(receiver.recv(), Err(channel::RecvError));

            let (sender, receiver) = channel::unbounded::<u32>();
            let theirs = receiver.clone();
            let waiting = place.run(move || theirs.recv());
            let ours = thread::spawn(move || receiver.recv_timeout(LONG));
            thread::yield_now();
            sender.close();
            sender.close();
            assert_eq!(ours.join().unwrap(), Err(RecvTimeoutError::Disconnected));
            assert_eq!(waiting.join(), Err(channel::RecvError));
            assert_eq!(sender.try_send(1), Err(TrySendError::Disconnected(1)));
        }
    }

    fn the_last_handle_of_a_side_closes() {
        let (sender, receiver) = channel::unbounded();
        drop(sender.clone());
        drop(receiver.clone());
        sender.send(1).unwrap();
        let other = sender.clone();
        drop(sender);
        other.send(2).unwrap();
        drop(other);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
        let (sender, receiver) = channel::rendezvous();
        let waiting = thread::spawn(move || sender.send(1));
        thread::yield_now();
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(SendError(1)));
    }

    fn every_item_is_dropped_once() {
        let drops = Arc::new(AtomicUsize::new(0));
        let item = || Counted(Arc::clone(&drops));
        let (sender, receiver) = channel::bounded(3);
        (0..3).for_each(|_| assert!(sender.send(item()).is_ok()));
        drop(receiver.recv());
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        // The queue goes with the last receiver, not with the last sender.
        drop(receiver);
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        drop(sender.send(item()));
        assert_eq!(drops.load(Ordering::Relaxed), 4);
        let (sender, receiver) = channel::bounded(1);
        assert!(sender.send(item()).is_ok());
        let waiting = thread::spawn({
            let (sender, item) = (sender.clone(), item());
            move || drop(sender.send(item))
        });
        thread::yield_now();
        waiting.cancel();
        waiting.join().unwrap_err();
        assert_eq!(drops.load(Ordering::Relaxed), 5);
        assert_eq!(receiver.len(), 1);
        drop(sender);
        drop(receiver);
        assert_eq!(drops.load(Ordering::Relaxed), 6);
    }

    fn destructors_of_items_may_use_the_channel() {
        struct Reports(channel::Sender<Option<Reports>>);
        impl Drop for Reports {
            fn drop(&mut self) {
                assert!(self.0.is_closed());
                assert!(self.0.send(None).is_err());
                thread::yield_now();
            }
        }
        let (sender, receiver) = channel::unbounded();
        for _ in 0..3 {
            let reports = Reports(sender.clone());
            assert!(sender.send(Some(reports)).is_ok());
        }
        drop(receiver);
    }

    fn items_need_not_be_sendable_on_one_hub() {
        let (sender, receiver) = channel::bounded(1);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let ours = Rc::clone(&seen);
        let handle = thread::spawn(move || {
            receiver.iter().for_each(|item: Rc<u32>| ours.borrow_mut().push(*item));
        });
        (0..5).for_each(|n| sender.send(Rc::new(n)).unwrap());
        drop(sender);
        handle.join().unwrap();
        assert_eq!(*seen.borrow(), [0, 1, 2, 3, 4]);
    }

    fn a_cancelled_receiver_loses_no_item() {
        // gevent's TestGetInterrupt, and its "two waiters, one dies".
        for capacity in [0, 1, usize::MAX] {
            let (sender, receiver) = channel::bounded(capacity);
            let [first, second] = [(); 2].map(|()| {
                let receiver = receiver.clone();
                thread::spawn(move || receiver.recv())
            });
            thread::yield_now();
            first.cancel();
            // Not before it has run does it leave the line: it may be chosen.
            sender.send(1).unwrap();
            match first.join() {
                Ok(received) => {
                    assert_eq!(received, Ok(1));
                    sender.send(2).unwrap();
                    assert_eq!(second.join().unwrap(), Ok(2));
                }
                Err(payload) => {
                    assert!(Cancelled::is(&payload));
                    assert_eq!(second.join().unwrap(), Ok(1));
                }
            }
            let [first, second] = [(); 2].map(|()| {
                let receiver = receiver.clone();
                thread::spawn(move || receiver.recv())
            });
            thread::yield_now();
            first.cancel();
            thread::yield_now();
            sender.send(3).unwrap();
            assert!(Cancelled::is(&first.join().unwrap_err()));
            assert_eq!(second.join().unwrap(), Ok(3));
        }
    }

    fn a_receiver_that_was_served_is_not_cancelled_any_more() {
        for capacity in [0, 1, usize::MAX] {
            let (sender, receiver) = channel::bounded(capacity);
            let handle = thread::spawn(move || receiver.recv());
            thread::yield_now();
            sender.try_send(1).unwrap();
            handle.cancel();
            assert_eq!(handle.join().unwrap(), Ok(1));
        }
    }

    fn a_cancelled_sender_makes_way() {
        // gevent's TestPutInterrupt.
        for capacity in [0, 1] {
            let (sender, receiver) = channel::bounded(capacity);
            (0..capacity).for_each(|_| sender.send(0).unwrap());
            let [first, second] = [1, 2].map(|n| {
                let sender = sender.clone();
                thread::spawn(move || sender.send(n))
            });
            thread::yield_now();
            first.cancel();
            assert!(first.join().is_err());
            (0..capacity).for_each(|_| assert_eq!(receiver.recv(), Ok(0)));
            assert_eq!(receiver.recv(), Ok(2));
            assert_eq!(second.join().unwrap(), Ok(()));
            // One that was let in has sent.
            (0..capacity).for_each(|_| sender.send(0).unwrap());
            let third = thread::spawn(move || sender.send(3));
            thread::yield_now();
            let taken = receiver.recv().unwrap();
            third.cancel();
            assert_eq!(third.join().unwrap(), Ok(()));
            assert_eq!(taken, if capacity == 0 { 3 } else { 0 });
        }
    }

    fn time_limits_around_end_the_waits() {
        let (sender, receiver) = channel::bounded(1);
        assert!(time::timeout(SHORT, || receiver.recv()).is_err());
        sender.send(1).unwrap();
        assert!(time::timeout(SHORT, || sender.send(2)).is_err());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
    }

    fn a_oneshot_carries_one_item() {
        for place in PLACES {
            let (sender, receiver) = oneshot::channel();
            let side = place.run(move || sender.send(1));
            assert_eq!(receiver.recv(), Ok(1), "{place:?}");
            assert_eq!(side.join(), Ok(()));
            assert!(receiver.recv().is_err());
            let (sender, receiver) = oneshot::channel::<u32>();
            let side = place.run(move || receiver.recv());
            drop(sender);
            assert!(side.join().is_err(), "{place:?}");
        }
        let (sender, receiver) = oneshot::channel();
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(1), Err(1));
    }

    fn nothing_is_lost_in_a_storm() {
        let mut rng = Rng::new("nothing_is_lost_in_a_storm");
        for place in PLACES {
            for capacity in [0, 1, 3, usize::MAX] {
                common::storm::storm(place, capacity, &mut rng, common::storm::PLAIN);
            }
        }
    }

    fn a_priority_queue_gives_its_greatest_first() {
        let mut rng = Rng::new("a_priority_queue_gives_its_greatest_first");
        let queue = PriorityQueue::new();
        let mut model = std::collections::BinaryHeap::new();
        for _ in 0..1000 {
            if rng.below(3) == 0 {
                assert_eq!(queue.try_pop(), model.pop());
            } else {
                let item = rng.below(100);
                queue.push(item);
                model.push(item);
            }
            assert_eq!(queue.len(), model.len());
        }
        assert!(model.into_sorted_vec().into_iter().rev().eq(std::iter::from_fn(|| queue.try_pop())));
        assert_eq!(queue.pop_timeout(SHORT), None);
    }

    fn a_priority_queue_works_from_everywhere() {
        for place in PLACES {
            let queue = Arc::new(PriorityQueue::new());
            let theirs = Arc::clone(&queue);
            let side = place.run(move || (0..200).for_each(|n| theirs.push(n)));
            let mut popped: Vec<_> = (0..200).map(|_| queue.pop()).collect();
            popped.sort_unstable();
            assert!(popped.into_iter().eq(0..200), "{place:?}");
            side.join();
            assert!(queue.is_empty());
        }
    }

    fn a_cancelled_pop_takes_nothing() {
        let queue = Arc::new(PriorityQueue::new());
        let theirs = Arc::clone(&queue);
        let cancelled = thread::spawn(move || theirs.pop());
        thread::yield_now();
        cancelled.cancel();
        assert!(Cancelled::is(&cancelled.join().unwrap_err()));
        queue.push(1);
        assert_eq!(queue.pop_timeout(LONG), Some(1));
    }

    fn a_comparison_may_wait_and_may_panic() {
        struct Moody(u32, Rc<RefCell<u32>>);
        impl Ord for Moody {
            fn cmp(&self, other: &Moody) -> std::cmp::Ordering {
                thread::yield_now();
                *self.1.borrow_mut() += 1;
                assert!(!(*self.1.borrow()).is_multiple_of(7), "on purpose");
                self.0.cmp(&other.0)
            }
        }
        impl PartialOrd for Moody {
            fn partial_cmp(&self, other: &Moody) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl PartialEq for Moody {
            fn eq(&self, other: &Moody) -> bool {
                self.0 == other.0
            }
        }
        impl Eq for Moody {}
        let queue = Rc::new(PriorityQueue::new());
        let count = Rc::new(RefCell::new(0));
        let pushing: Vec<_> = (0..20)
            .map(|n| {
                let (queue, item) = (Rc::clone(&queue), Moody(n, Rc::clone(&count)));
                thread::spawn(move || queue.push(item))
            })
            .collect();
        let failed = thread::join_all(pushing).into_iter().filter(Result::is_err).count();
        assert!(failed > 0, "none was moody");
        // What a panicking push has put in is in.
        assert_eq!(queue.len(), 20);
        // A panicking pop drops its item, and the others can be taken.
        for left in (0..20).rev() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.pop()));
            assert_eq!(queue.len(), left);
        }
        assert!(queue.try_pop().is_none());
        assert_eq!(Rc::strong_count(&count), 1);
    }

    fn joining_a_queue_waits_until_all_is_done() {
        // gevent's JoinableQueue.
        for place in PLACES {
            let queue = Arc::new(JoinableQueue::new());
            queue.join();
            (0..10).for_each(|n| queue.push(n));
            assert!(!queue.join_timeout(SHORT));
            let done = Arc::new(AtomicUsize::new(0));
            let (theirs, counter) = (Arc::clone(&queue), Arc::clone(&done));
            let side = place.run(move || {
                for n in 0..10 {
                    assert_eq!(theirs.pop(), n);
                    thread::yield_now();
                    counter.fetch_add(1, Ordering::Relaxed);
                    theirs.task_done();
                }
                theirs.try_pop()
            });
            queue.join();
            assert_eq!(done.load(Ordering::Relaxed), 10, "{place:?}");
            assert!(queue.join_timeout(Duration::ZERO));
            assert_eq!(side.join(), None);
        }
        let queue = JoinableQueue::<u8>::new();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.task_done()));
        done.unwrap_err();
        assert!(queue.join_timeout(Duration::ZERO));
        assert_eq!(queue.pop_timeout(SHORT), None);
    }
}
