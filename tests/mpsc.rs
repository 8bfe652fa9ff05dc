//! `sync::mpsc` against `std::sync::mpsc`: what std's own tests promise.

mod common;

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use common::places::PLACES;
use greenring::sync::mpsc::{
    self, Receiver, RecvError, RecvTimeoutError, SendError, Sender, SyncSender, TryRecvError,
    TrySendError, channel, sync_channel,
};
use greenring::thread;

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn the_sides_may_be_sent_and_shared_as_in_std() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_send::<Sender<u8>>();
    is_sync::<Sender<u8>>();
    is_send::<SyncSender<u8>>();
    is_sync::<SyncSender<u8>>();
    is_send::<Receiver<u8>>();
    is_unwind_safe::<Sender<std::cell::Cell<u8>>>();
    is_unwind_safe::<SyncSender<std::cell::Cell<u8>>>();
    is_unwind_safe::<Receiver<std::cell::Cell<u8>>>();
}

#[test]
fn the_errors_are_std_s_own() {
    fn same<T>(_: T, _: T) {}
    same(RecvError, std::sync::mpsc::RecvError);
    same(SendError(1), std::sync::mpsc::SendError(1));
    same(TryRecvError::Empty, std::sync::mpsc::TryRecvError::Empty);
    same(
        RecvTimeoutError::Timeout,
        std::sync::mpsc::RecvTimeoutError::Timeout,
    );
    same(
        TrySendError::Full(1),
        std::sync::mpsc::TrySendError::Full(1),
    );
    let (sender, receiver) = channel::<u8>();
    let (sync_sender, _) = sync_channel::<u8>(1);
    let shown = format!("{sender:?} {sync_sender:?} {receiver:?}");
    assert_eq!(shown, "Sender { .. } SyncSender { .. } Receiver { .. }");
}

both_backends! {
    fn ends_are_cloned_and_shown_whatever_they_carry() {
        struct Plain(u8);
        let (sender, receiver) = mpsc::channel();
        sender.clone().send(Plain(1)).ok().unwrap();
        let (bounded, _) = mpsc::sync_channel::<Plain>(1);
        let text = format!("{sender:?} {receiver:?} {:?}", bounded.clone());
        assert_eq!(text, "Sender { .. } Receiver { .. } SyncSender { .. }");
        assert_eq!(receiver.recv().ok().unwrap().0, 1);
        let (_, once) = greenring::sync::oneshot::channel::<Plain>();
        assert_eq!(format!("{once:?}"), "Receiver { .. }");
    }

    fn a_queue_outlives_its_senders_but_not_its_receiver() {
        let (sender, receiver) = channel();
        sender.send(1).unwrap();
        let clone = sender.clone();
        drop(sender);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        clone.send(2).unwrap();
        drop(clone);
        assert_eq!(receiver.recv(), Ok(2));
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        let (sender, receiver) = channel();
        drop(receiver);
        assert_eq!(sender.send(1), Err(SendError(1)));
    }

    fn the_other_side_may_run_anywhere() {
        for place in PLACES {
            let (sender, receiver) = channel();
            let sides: Vec<_> = (0..4)
                .map(|_| {
                    let sender = sender.clone();
                    place.run(move || (0..250).for_each(|n| sender.send(n).unwrap()))
                })
                .collect();
            drop(sender);
            assert_eq!(receiver.iter().sum::<u32>(), 4 * (0..250).sum::<u32>(), "{place:?}");
            assert_eq!(receiver.iter().next(), None);
            sides.into_iter().for_each(|side| side.join());
            let (sender, receiver) = channel();
            let side = place.run(move || receiver.into_iter().sum::<u32>());
            (0..1000).for_each(|n| sender.send(n).unwrap());
            drop(sender);
            assert_eq!(side.join(), (0..1000).sum::<u32>(), "{place:?}");
        }
    }

    fn a_receiver_that_goes_wakes_senders() {
        for place in PLACES {
            for bound in [0, 1] {
                let (sender, receiver) = sync_channel(bound);
                (0..bound).for_each(|_| sender.send(0).unwrap());
                let theirs = sender.clone();
                let side = place.run(move || theirs.send(1));
                thread::yield_now();
                drop(receiver);
                assert_eq!(side.join(), Err(SendError(1)), "{place:?}");
                assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
            }
        }
    }

    fn senders_that_go_wake_the_receiver() {
        for place in PLACES {
            let (sender, receiver) = channel::<u8>();
            let side = place.run(move || receiver.recv());
            thread::yield_now();
            drop(sender.clone());
            drop(sender);
            assert_eq!(side.join(), Err(RecvError), "{place:?}");
        }
    }

    fn a_bound_is_kept() {
        let (sender, receiver) = sync_channel(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        let blocked = thread::spawn(move || sender.send(3));
        thread::yield_now();
        assert!(!blocked.is_finished());
        assert_eq!(receiver.recv(), Ok(1));
        blocked.join().unwrap().unwrap();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2, 3]);
    }

    fn a_bound_of_zero_is_a_rendezvous() {
        for place in PLACES {
            let (sender, receiver) = sync_channel(0);
            assert_eq!(sender.try_send(0), Err(TrySendError::Full(0)));
            let side = place.run(move || (0..200).for_each(|n| sender.send(n).unwrap()));
            assert!(receiver.iter().eq(0..200), "{place:?}");
            side.join();
        }
        let (sender, receiver) = sync_channel(0);
        let handle = thread::spawn(move || receiver.recv());
        thread::yield_now();
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(handle.join().unwrap(), Ok(1));
    }

    fn recv_timeout_waits_as_long_as_it_is_told() {
        let (sender, receiver) = channel();
        let begin = Instant::now();
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(begin.elapsed() >= SHORT);
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        let handle = thread::spawn(move || {
            thread::sleep(SHORT);
            sender.send(1).unwrap();
        });
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(1));
        handle.join().unwrap();
    }

    fn iterators_end_as_in_std() {
        let (sender, receiver) = channel();
        (0..3).for_each(|n| sender.send(n).unwrap());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        sender.send(3).unwrap();
        drop(sender);
        for item in &receiver {
            assert_eq!(item, 3);
        }
        assert_eq!(receiver.into_iter().next(), None);
    }

    fn a_channel_may_travel_through_a_channel() {
        // std's "oneshot_single_thread…" and "recv_a_lot", with answers.
        let (questions, inbox) = channel::<(u32, mpsc::Sender<u32>)>();
        let server = thread::spawn(move || {
            for (question, answer) in inbox {
                answer.send(question * 2).unwrap();
            }
        });
        for question in 0..1000 {
            let (answer, receiver) = channel();
            questions.send((question, answer)).unwrap();
            assert_eq!(receiver.recv(), Ok(question * 2));
        }
        drop(questions);
        server.join().unwrap();
    }

    fn a_prime_sieve_of_channels() {
        // golang's doc/play/sieve.go.
        let (sender, mut numbers) = sync_channel(0);
        let source = thread::spawn(move || {
            (2..).try_for_each(|n| sender.send(n)).unwrap_err();
        });
        let mut filters = vec![source];
        let mut primes = Vec::new();
        for _ in 0..25 {
            let prime = numbers.recv().unwrap();
            primes.push(prime);
            let (sender, receiver) = sync_channel(0);
            filters.push(thread::spawn(move || {
                numbers.iter().filter(|n| n % prime != 0).try_for_each(|n| sender.send(n)).ok();
            }));
            numbers = receiver;
        }
        assert_eq!(primes.last(), Some(&97_u32));
        drop(numbers);
        thread::join_all(filters).into_iter().for_each(Result::unwrap);
    }

    fn a_receiver_may_move_to_another_os_thread_while_it_is_written_to() {
        let (sender, receiver) = channel();
        let side = common::places::Place::OsThread.run(move || {
            let first: Vec<u32> = receiver.iter().take(10).collect();
            (first, receiver)
        });
        (0..20).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        let (first, receiver) = side.join();
        assert!(first.into_iter().chain(receiver).eq(0..20));
    }
}
