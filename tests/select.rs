//! `select!`: that it takes one thing and leaves the others alone, whoever is
//! at the other side, and that its parts may be written as one would expect.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Rng;
use common::places::{PLACES, Place};
use common::storm::{Item, Ways, recv_plainly, send_plainly, short, storm};
use greenring::sync::channel::{self, Receiver, RecvError, SendError, Sender};
use greenring::sync::{Event, mpsc, oneshot};
use greenring::{Cancelled, select, thread};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// Sends and receives by `select!`, now and then.
const SELECTING: Ways = Ways {
    send: send_somehow,
    recv: recv_somehow,
};

fn send_somehow(sender: &Sender<Item>, item: Item, rng: &mut Rng) -> Result<(), Item> {
    let item = Cell::new(Some(item));
    let make = || item.take().unwrap();
    let make_slowly = || {
        thread::yield_now();
        make()
    };
    let result = match rng.below(5) {
        0 => return send_plainly(sender, make(), rng),
        1 => select! {
            send(sender, make()) -> sent => sent,
            send(sender, make_slowly()) -> sent => sent,
        },
        2 => select! {
            send(sender, make_slowly()) -> sent => sent,
            timer(short(rng)) => Ok(()),
        },
        3 => select! {
            send(sender, make()) -> sent => sent,
            default => Ok(()),
        },
        _ => select! {
            send(sender, make_slowly()) -> sent => sent,
        },
    };
    match (result, item.take()) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(item)) => Err(item),
        (Err(error), None) => Err(error.0),
        (Err(_), Some(_)) => panic!("two items"),
    }
}

fn recv_somehow(receiver: &Receiver<Item>, rng: &mut Rng) -> Result<Option<Item>, ()> {
    let result = match rng.below(5) {
        0 => return recv_plainly(receiver, rng),
        1 => select! {
            recv(receiver) -> item => item,
            recv(receiver) -> item => item,
        },
        2 => select! {
            recv(receiver) -> item => item,
            timer(short(rng)) => return Ok(None),
        },
        3 => select! {
            recv(receiver) -> item => item,
            default => {
                thread::yield_now();
                return Ok(None);
            }
        },
        _ => select! { recv(receiver) -> item => item },
    };
    result.map(Some).map_err(drop)
}

both_backends! {
    fn each_kind_of_arm_is_chosen() {
        for place in PLACES {
            let (sender, receiver) = channel::rendezvous();
            let side = place.run(move || sender.send(1));
            assert_eq!(select! { recv(&receiver) -> item => item }, Ok(1));
            assert_eq!(side.join(), Ok(()));
            assert_eq!(select! { recv(&receiver) -> item => item }, Err(RecvError));

            let (sender, receiver) = channel::rendezvous();
            let side = place.run(move || receiver.recv());
            select! { send(&sender, 2) -> sent => sent.unwrap() }
            assert_eq!(side.join(), Ok(2));
            assert_eq!(select! { send(&sender, 3) -> sent => sent }, Err(SendError(3)));

            let (sender, receiver) = mpsc::channel();
            let side = place.run(move || sender.send(4));
            assert_eq!(select! { recv(&receiver) -> item => item.unwrap() }, 4);
            side.join().unwrap();

            let (sender, receiver) = mpsc::sync_channel(0);
            let side = place.run(move || receiver.recv());
            select! { send(&sender, 5) -> sent => sent.unwrap() }
            assert_eq!(side.join(), Ok(5));

            let (sender, receiver) = oneshot::channel();
            let side = place.run(move || sender.send(6));
            assert_eq!(select! { recv(&receiver) -> item => item.unwrap() }, 6);
            side.join().unwrap();

            let event = Arc::new(Event::new());
            let theirs = Arc::clone(&event);
            let side = place.run(move || theirs.set());
            select! { wait(&event) => {} }
            select! { wait(&event) => {} }
            side.join();
        }
        let handle = thread::spawn(|| 7);
        let text = select! {
            join(&handle) => "ended",
            timer(LONG) => "late",
        };
        assert_eq!((text, handle.join().unwrap()), ("ended", 7));
        let begin = Instant::now();
        assert_eq!(select! { timer(SHORT) => 8, timer(LONG) => 9 }, 8);
        assert!(begin.elapsed() >= SHORT);
        let alone = select! { default => "alone" };
        assert_eq!(alone, "alone");
    }

    fn a_value_is_made_only_for_a_chosen_arm() {
        let made = Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            made.get()
        };
        let (sender, receiver) = channel::bounded(1);
        for sent in [true, false] {
            let was_sent = select! {
                send(&sender, make()) -> result => result.is_ok(),
                default => false,
            };
            assert_eq!(was_sent, sent);
        }
        select! {
            send(&sender, make()) -> _ => panic!("it is full"),
            timer(SHORT) => {}
        }
        assert_eq!((made.get(), receiver.recv()), (1, Ok(1)));
        drop(receiver);
        assert_eq!(select! { send(&sender, make()) -> sent => sent }, Err(SendError(2)));
    }

    fn what_an_arm_has_borrowed_may_be_moved_in_its_body() {
        let (sender, receiver) = channel::bounded(1);
        let (other, unused) = channel::bounded::<Box<u8>>(1);
        let event = Event::new();
        let (sender, text) = select! {
            send(&sender, String::from("one")) -> sent => {
                sent.unwrap();
                drop((other, unused, event));
                (sender, "moved")
            }
            recv(&unused) -> item => {
                drop((item, unused));
                (sender, "received")
            }
            wait(&event) => (sender, "set")
        };
        drop(sender);
        assert_eq!((text, receiver.iter().count()), ("moved", 1));
    }

    fn bodies_may_leave_the_place_where_they_stand() {
        fn first(receiver: &Receiver<u8>) -> Result<u8, RecvError> {
            let item = select! { recv(receiver) -> item => item?, };
            Ok(item)
        }
        let (sender, receiver) = channel::unbounded();
        sender.send(1).unwrap();
        sender.close();
        assert_eq!(first(&receiver), Ok(1));
        assert_eq!(first(&receiver), Err(RecvError));
        let mut rounds = 0;
        loop {
            select! {
                recv(&receiver) -> Ok(1) | _ => {
                    rounds += 1;
                    if rounds < 3 {
                        continue;
                    }
                    break;
                }
            }
        }
        assert_eq!(rounds, 3);
    }

    fn of_several_that_are_ready_each_has_its_chance() {
        let event = Event::new();
        event.set();
        let (sender, receiver) = channel::unbounded();
        let mut chosen = [0; 4];
        for _ in 0..2000 {
            let arm = select! {
                send(&sender, ()) -> _ => 0,
                wait(&event) => 1,
                timer(Duration::ZERO) => 2,
                wait(&event) => 3,
            };
            chosen[arm] += 1;
        }
        assert_eq!(receiver.len(), chosen[0]);
        // The odds that this fails by chance are below 1 in 10^20.
        assert!(chosen.iter().all(|n| (300..700).contains(n)), "{chosen:?}");
    }

    fn there_may_be_thirty_arms() {
        let (_, closed) = channel::unbounded::<u8>();
        let (item, arm) = select! {
            recv(&closed) -> item => (item, 0),
            recv(&closed) -> item => (item, 1),
            recv(&closed) -> item => (item, 2),
            recv(&closed) -> item => (item, 3),
            recv(&closed) -> item => (item, 4),
            recv(&closed) -> item => (item, 5),
            recv(&closed) -> item => (item, 6),
            recv(&closed) -> item => (item, 7),
            recv(&closed) -> item => (item, 8),
            recv(&closed) -> item => (item, 9),
            recv(&closed) -> item => (item, 10),
            recv(&closed) -> item => (item, 11),
            recv(&closed) -> item => (item, 12),
            recv(&closed) -> item => (item, 13),
            recv(&closed) -> item => (item, 14),
            recv(&closed) -> item => (item, 15),
            recv(&closed) -> item => (item, 16),
            recv(&closed) -> item => (item, 17),
            recv(&closed) -> item => (item, 18),
            recv(&closed) -> item => (item, 19),
            recv(&closed) -> item => (item, 20),
            recv(&closed) -> item => (item, 21),
            recv(&closed) -> item => (item, 22),
            recv(&closed) -> item => (item, 23),
            recv(&closed) -> item => (item, 24),
            recv(&closed) -> item => (item, 25),
            recv(&closed) -> item => (item, 26),
            recv(&closed) -> item => (item, 27),
            recv(&closed) -> item => (item, 28),
            recv(&closed) -> item => (item, 29),
        };
        assert_eq!(item, Err(RecvError));
        assert!(arm < 30);
    }

    fn what_is_not_chosen_is_left_alone() {
        let [(one, ones), (two, twos)] = [(); 2].map(|()| channel::unbounded());
        for n in 0..100 {
            one.send(n).unwrap();
            two.send(n).unwrap();
        }
        let mut seen = [0, 0];
        for _ in 0..100 {
            let (side, item) = select! {
                recv(&ones) -> item => (0, item),
                recv(&twos) -> item => (1, item),
            };
            assert_eq!(item, Ok(seen[side]));
            seen[side] += 1;
        }
        assert_eq!([ones.len(), twos.len()], [100 - seen[0], 100 - seen[1]]);
    }

    fn two_selects_meet_at_a_rendezvous() {
        const ROUNDS: u32 = 300;
        for place in PLACES {
            let (to_us, from_them) = channel::rendezvous();
            let (to_them, from_us) = channel::rendezvous();
            let side = place.run(move || {
                let (mut sent, mut received) = (0, 0);
                while sent + received < ROUNDS {
                    select! {
                        send(&to_us, sent) -> result => { result.unwrap(); sent += 1 }
                        recv(&from_us) -> item => { assert_eq!(item, Ok(received)); received += 1 }
                    }
                }
                (sent, received)
            });
            let (mut sent, mut received) = (0, 0);
            while sent + received < ROUNDS {
                select! {
                    recv(&from_them) -> item => { assert_eq!(item, Ok(received)); received += 1 }
                    send(&to_them, sent) -> result => { result.unwrap(); sent += 1 }
                }
            }
            assert_eq!(side.join(), (received, sent), "{place:?}");
        }
    }

    fn a_select_does_not_meet_itself() {
        let (sender, receiver) = channel::rendezvous();
        select! {
            send(&sender, 1) -> _ => panic!("to whom"),
            recv(&receiver) -> _ => panic!("from whom"),
            timer(SHORT) => {}
        }
        // But two of its kind meet.
        let handles: Vec<_> = (0..10)
            .map(|n| {
                let (sender, receiver) = (sender.clone(), receiver.clone());
                thread::spawn(move || {
                    select! {
                        send(&sender, n) -> sent => { sent.unwrap(); None }
                        recv(&receiver) -> item => Some(item.unwrap()),
                    }
                })
            })
            .collect();
        let results: Vec<_> = thread::join_all(handles).into_iter().map(Result::unwrap).collect();
        assert_eq!(results.iter().flatten().count(), 5);
    }

    fn a_default_sees_who_waits() {
        let (sender, receiver) = channel::rendezvous();
        let theirs = receiver.clone();
        let handle = thread::spawn(move || select! { recv(&theirs) -> item => item });
        thread::yield_now();
        select! {
            send(&sender, 1) -> sent => sent.unwrap(),
            default => panic!("somebody waits"),
        }
        assert_eq!(handle.join().unwrap(), Ok(1));
        let handle = thread::spawn(move || sender.send(2));
        thread::yield_now();
        let item = select! { recv(&receiver) -> item => item, default => Ok(0) };
        assert_eq!((item, handle.join().unwrap()), (Ok(2), Ok(())));
    }

    fn closing_wakes_a_select() {
        for place in PLACES {
            let (sender, receiver) = channel::bounded(1);
            sender.send(0).unwrap();
            let theirs = sender.clone();
            let side = place.run(move || select! { send(&theirs, 1) -> sent => sent });
            thread::yield_now();
            receiver.close();
            assert_eq!(side.join(), Err(SendError(1)), "{place:?}");
            let (sender, receiver) = channel::rendezvous::<u8>();
            let side = place.run(move || select! { recv(&receiver) -> item => item });
            thread::yield_now();
            drop(sender);
            assert_eq!(side.join(), Err(RecvError), "{place:?}");
        }
    }

    fn an_event_that_is_cleared_at_once_wakes_a_select() {
        let event = Rc::new(Event::new());
        let theirs = Rc::clone(&event);
        let handle = thread::spawn(move || select! { wait(&theirs) => {} });
        thread::yield_now();
        event.set();
        event.clear();
        handle.join().unwrap();
    }

    fn a_cancelled_select_stands_in_nobody_s_way() {
        for capacity in [0, 1] {
            let (sender, receiver) = channel::bounded(capacity);
            let (other, others) = channel::bounded::<u8>(0);
            let (theirs, their_others) = (receiver.clone(), others.clone());
            let handle = thread::spawn(move || {
                select! {
                    recv(&theirs) -> _ => {}
                    recv(&their_others) -> _ => {}
                }
            });
            thread::yield_now();
            handle.cancel();
            assert!(Cancelled::is(&handle.join().unwrap_err()));
            assert!(other.try_send(1).is_err());
            let waiting = thread::spawn(move || receiver.recv());
            sender.send(1).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(1));

            // And as a sender, with another one behind it.
            let (sender, receiver) = channel::bounded(capacity);
            (0..capacity).for_each(|_| sender.send(0).unwrap());
            let theirs = sender.clone();
            let handle = thread::spawn(move || select! { send(&theirs, 1) -> _ => {} });
            thread::yield_now();
            let behind = thread::spawn(move || sender.send(2));
            thread::yield_now();
            handle.cancel();
            assert!(handle.join().is_err());
            (0..capacity).for_each(|_| assert_eq!(receiver.recv(), Ok(0)));
            assert_eq!(receiver.recv(), Ok(2));
            behind.join().unwrap().unwrap();
        }
    }

    fn one_that_was_chosen_is_not_cancelled_any_more() {
        let (sender, receiver) = channel::rendezvous();
        let handle = thread::spawn(move || select! { recv(&receiver) -> item => item });
        thread::yield_now();
        sender.try_send(1).unwrap();
        handle.cancel();
        assert_eq!(handle.join().unwrap(), Ok(1));
        let (sender, receiver) = channel::bounded(1);
        sender.send(1).unwrap();
        let handle = thread::spawn(move || select! { send(&sender, 2) -> sent => sent });
        thread::yield_now();
        assert_eq!(receiver.recv(), Ok(1));
        handle.cancel();
        assert_eq!(handle.join().unwrap(), Ok(()));
        assert_eq!(receiver.recv(), Ok(2));
    }

    fn a_slot_is_kept_while_its_item_is_made() {
        let (sender, receiver) = channel::bounded(1);
        let event = Rc::new(Event::new());
        let (theirs, ready) = (sender.clone(), Rc::clone(&event));
        let slow = thread::spawn(move || {
            select! {
                send(&theirs, { ready.wait(); 1 }) -> sent => sent,
            }
        });
        thread::yield_now();
        assert!(sender.is_full() && sender.is_empty());
        assert!(sender.try_send(2).unwrap_err().is_full());
        let second = thread::spawn(move || sender.send(2));
        thread::yield_now();
        assert!(receiver.try_recv().is_err());
        event.set();
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Ok(2));
        slow.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    }

    fn a_slot_is_given_back_if_its_item_is_not_made() {
        if common::is_shuffled() {
            return;
        }
        let (sender, receiver) = channel::bounded(1);
        let fails = AssertUnwindSafe(|| {
            let make = || -> u8 { panic!("on purpose") };
            select! { send(&sender, make()) -> sent => sent }
        });
        catch_unwind(fails).unwrap_err();
        let leaves = |item: Option<u8>| {
            select! { send(&sender, item?) -> sent => Some(sent) }
        };
        assert_eq!(leaves(None), None);
        let theirs = sender.clone();
        let cancelled = thread::spawn(move || {
            select! { send(&theirs, { thread::park(); 1 }) -> _ => {} }
        });
        thread::yield_now();
        let theirs = sender.clone();
        let selecting = thread::spawn(move || select! { send(&theirs, 2) -> sent => sent });
        let sending = thread::spawn(move || sender.send(3));
        thread::yield_now();
        assert!(receiver.try_recv().is_err());
        cancelled.cancel();
        cancelled.join().unwrap_err();
        assert_eq!(receiver.recv(), Ok(2));
        assert_eq!(receiver.recv(), Ok(3));
        selecting.join().unwrap().unwrap();
        sending.join().unwrap().unwrap();
    }

    fn one_that_was_promised_an_item_may_give_up_and_the_item_finds_another() {
        for place in PLACES {
            for is_cancelled in [false, true] {
                let (sender, receiver) = channel::rendezvous();
                let (made, is_made) = channel::rendezvous();
                let (chosen, is_chosen) = oneshot::channel();
                let is_promised = Arc::new(AtomicBool::new(false));
                let promises = Arc::clone(&is_promised);
                let side = place.run(move || {
                    let make = || {
                        promises.store(true, Ordering::SeqCst);
                        chosen.send(()).unwrap();
                        is_made.recv().unwrap()
                    };
                    select! { send(&sender, make()) -> sent => sent }
                });
                let theirs = receiver.clone();
                let promised = thread::spawn(move || {
                    if is_cancelled {
                        return theirs.recv().map_err(|_| ());
                    }
                    loop {
                        let received = theirs.recv_timeout(SHORT).map_err(|_| ());
                        if received.is_ok() || is_promised.load(Ordering::SeqCst) {
                            return received;
                        }
                    }
                });
                is_chosen.recv().unwrap();
                if is_cancelled {
                    promised.cancel();
                    assert!(Cancelled::is(&promised.join().unwrap_err()));
                } else {
                    assert_eq!(promised.join().unwrap(), Err(()));
                }
                // Nobody else was promised it.
                assert!(receiver.recv_timeout(SHORT).is_err());
                made.send(1).unwrap();
                assert_eq!(receiver.recv(), Ok(1), "{place:?}");
                side.join().unwrap();
            }
        }
    }

    fn a_select_that_was_promised_an_item_may_be_cancelled() {
        let (sender, receiver) = channel::rendezvous::<u8>();
        let sending = thread::spawn(move || {
            let make = || {
                thread::park();
                1
            };
            select! { send(&sender, make()) -> sent => sent }
        });
        let theirs = receiver.clone();
        let event = Rc::new(Event::new());
        let stop = Rc::clone(&event);
        let promised = thread::spawn(move || {
            select! {
                recv(&theirs) -> item => item,
                wait(&stop) => panic!("not set"),
            }
        });
        thread::yield_now();
        thread::yield_now();
        promised.cancel();
        assert!(Cancelled::is(&promised.join().unwrap_err()));
        // It stands in no line any more.
        event.set();
        sending.thread().unpark();
        assert_eq!(receiver.recv(), Ok(1));
        sending.join().unwrap().unwrap();
    }

    fn the_end_of_a_scoped_green_thread_is_an_arm_too() {
        thread::scope(|s| {
            let (slow, quick) = (s.spawn(thread::park), s.spawn(|| 1));
            let first = select! {
                join(&slow) => "slow",
                join(&quick) => "quick",
            };
            assert_eq!(first, "quick");
            slow.thread().unpark();
        });
    }

    fn a_promise_that_is_taken_back_leaves_the_receiver_as_it_was() {
        if common::is_shuffled() {
            return;
        }
        let fail = |sender: Sender<u8>| {
            thread::spawn(move || {
                let make = || -> u8 {
                    thread::park();
                    panic!("on purpose");
                };
                select! { send(&sender, make()) -> _ => {} }
            })
        };
        let (sender, receiver) = channel::rendezvous();
        // It is the first in the line again.
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let receiver = receiver.clone();
                thread::spawn(move || receiver.recv().unwrap())
            })
            .collect();
        thread::yield_now();
        let failing = fail(sender.clone());
        thread::yield_now();
        failing.thread().unpark();
        failing.join().unwrap_err();
        thread::yield_now();
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let received: Vec<_> = thread::join_all(receivers).into_iter().flatten().collect();
        assert_eq!(received, [1, 2]);
        // And a select looks at its other arms.
        let (theirs, event) = (receiver.clone(), Rc::new(Event::new()));
        let stop = Rc::clone(&event);
        let selecting = thread::spawn(move || {
            select! {
                recv(&theirs) -> _ => "received",
                wait(&stop) => "stopped",
            }
        });
        thread::yield_now();
        let failing = fail(sender.clone());
        thread::yield_now();
        event.set();
        thread::yield_now();
        assert!(!selecting.is_finished(), "it is promised an item");
        failing.thread().unpark();
        assert_eq!(selecting.join().unwrap(), "stopped");
        failing.join().unwrap_err();
    }

    fn four_channels_carry_one_stream() {
        // golang's test/chan/doubleselect.go.
        for place in PLACES {
            for capacity in [0, 1] {
                let channels = [(); 4].map(|()| channel::bounded(capacity));
                let senders = channels.each_ref().map(|(sender, _)| sender.clone());
                // Closed channels are ready, too.
                let _open = senders.clone();
                let receivers = channels.map(|(_, receiver)| receiver);
                let side = place.run(move || {
                    for n in 0..400 {
                        select! {
                            send(&senders[0], n) -> sent => sent.unwrap(),
                            send(&senders[1], n) -> sent => sent.unwrap(),
                            send(&senders[2], n) -> sent => sent.unwrap(),
                            send(&senders[3], n) -> sent => sent.unwrap(),
                        }
                    }
                });
                let mut seen = Vec::new();
                while seen.len() < 400 {
                    seen.push(select! {
                        recv(&receivers[0]) -> item => item.unwrap(),
                        recv(&receivers[1]) -> item => item.unwrap(),
                        recv(&receivers[2]) -> item => item.unwrap(),
                        recv(&receivers[3]) -> item => item.unwrap(),
                    });
                }
                side.join();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..400), "{place:?}, {capacity}");
            }
        }
    }

    fn nothing_is_lost_in_a_storm_of_selects() {
        let mut rng = Rng::new("nothing_is_lost_in_a_storm_of_selects");
        for place in PLACES {
            for capacity in [0, 1, 3, usize::MAX] {
                storm(place, capacity, &mut rng, SELECTING);
            }
        }
    }

    fn cancelled_selects_take_nothing_with_them() {
        let mut rng = Rng::new("cancelled_selects_take_nothing_with_them");
        for _ in 0..100 {
            let (sender, receiver) = channel::rendezvous();
            let theirs = receiver.clone();
            let victim = thread::spawn(move || {
                let mut received = Vec::new();
                select! {
                    recv(&theirs) -> item => received.extend(item),
                    timer(LONG) => {}
                }
                received
            });
            let side = Place::OsThread.run(move || select! { send(&sender, 1) -> sent => sent });
            for _ in 0..rng.below(20) {
                thread::yield_now();
            }
            victim.cancel();
            match victim.join() {
                Ok(received) => assert_eq!(received, [1]),
                Err(_) => assert_eq!(receiver.recv(), Ok(1)),
            }
            side.join().unwrap();
        }
    }
}
