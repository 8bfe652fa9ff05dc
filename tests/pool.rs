//! Groups and pools: who is in them, who waits, what the maps give and hold
//! back, and what is left after cancellations and panics; on both backends.

mod common;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::time::Duration;

use greenring::pool::{Group, Pool};
use greenring::runtime::stats;
use greenring::thread::{self, JoinHandle};
use greenring::{Cancelled, cancel, time};

use common::{child_on_each_backend, forked, is_child};

const LONG: Duration = Duration::from_secs(60);

fn caught<T>(f: impl FnOnce() -> T) -> Box<dyn Any + Send> {
    catch_unwind(AssertUnwindSafe(f)).err().expect("it unwinds")
}

fn number(payload: Box<dyn Any + Send>) -> u64 {
    *payload.downcast::<u64>().expect("a number")
}

#[track_caller]
fn assert_cancelled<T>(handle: JoinHandle<T>) {
    assert!(Cancelled::is(
        &handle.join().err().expect("it was cancelled")
    ));
}

/// Counts how many there are, and how many there were at most.
#[derive(Clone, Default)]
struct Count(Rc<(Cell<usize>, Cell<usize>)>);

impl Count {
    fn one_more(&self) -> Counted {
        let (now, most) = &*self.0;
        now.set(now.get() + 1);
        most.set(most.get().max(now.get()));
        Counted(self.clone())
    }

    fn now(&self) -> usize {
        self.0.0.get()
    }

    fn most(&self) -> usize {
        self.0.1.get()
    }
}

/// One of them, until it is dropped.
struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        let now = &self.0.0.0;
        now.set(now.get() - 1);
    }
}

/// Runs its closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Whose turn it is to end.
#[derive(Clone, Default)]
struct Turn(Rc<Cell<u64>>);

impl Turn {
    /// Waits for turn `n`, and hands over to the next.
    fn take(&self, n: u64) {
        while self.0.get() < n {
            thread::yield_now();
        }
        self.0.set(n + 1);
    }
}

// ----- members ---------------------------------------------------------------

both_backends! {
    fn those_who_are_abandoned_with_their_hub_are_not_waited_for() {
        let backend = greenring::runtime::backend();
        // On an OS thread of its own, because hubs do not nest.
        let os_thread = std::thread::spawn(move || {
            let builder = greenring::runtime::Builder::new();
            let builder = builder.backend(backend).end_timeout(Duration::from_millis(5));
            let group = builder
                .run(|| {
                    let group = Group::new();
                    drop(group.spawn(|| loop {
                        let _ = catch_unwind(AssertUnwindSafe(thread::park));
                    }));
                    thread::yield_now();
                    group
                })
                .unwrap();
            group.join();
            group.len()
        });
        assert_eq!(os_thread.join().unwrap(), 0);
    }

    fn a_group_counts_joins_and_cancels_its_own() {
        let group = Group::new();
        assert!(group.is_empty());
        group.join();
        let stranger = thread::spawn(thread::park);
        let sleeping = group.spawn(|| { thread::sleep(Duration::from_millis(1)); 1 });
        let quick = group.spawn(|| 2);
        assert_eq!((group.len(), group.is_empty()), (2, false));
        group.join();
        assert!(group.is_empty() && sleeping.is_finished());
        assert_eq!(sleeping.join().unwrap() + quick.join().unwrap(), 3);
        let waiting = group.spawn(thread::park);
        thread::yield_now();
        group.cancel();
        assert_eq!(group.len(), 1, "cancelling only asks");
        group.join();
        assert_cancelled(waiting);
        assert!(!stranger.is_finished());
        stranger.thread().unpark();
        stranger.join().unwrap();
        // It is as good as new.
        assert_eq!(group.spawn(|| 3).join().unwrap(), 3);
    }

    // gevent #330.
    fn a_member_that_is_cancelled_before_it_starts_leaves_and_never_runs() {
        let pool = Pool::new(1);
        let member = pool.spawn(|| panic!("the body runs"));
        member.cancel();
        assert_eq!((pool.len(), pool.free()), (1, 0));
        // Its place is the next one's.
        assert_eq!(pool.spawn(|| 1).join().unwrap(), 1);
        assert_cancelled(member);
    }

    fn a_full_pool_holds_spawners_back_in_their_order() {
        if common::is_shuffled() {
            return;
        }
        let pool = Rc::new(Pool::new(2));
        assert_eq!((pool.size(), pool.free()), (2, 2));
        let count = Count::default();
        let order = Rc::new(RefCell::new(Vec::new()));
        let spawners: Vec<_> = (0..8)
            .map(|n| {
                let (pool, count, order) = (Rc::clone(&pool), count.clone(), Rc::clone(&order));
                thread::spawn(move || {
                    pool.spawn(move || {
                        let _counted = count.one_more();
                        order.borrow_mut().push(n);
                        thread::yield_now();
                        thread::sleep(Duration::from_micros(100));
                    });
                })
            })
            .collect();
        thread::yield_now();
        assert_eq!((pool.len(), pool.free()), (2, 0));
        for spawner in spawners {
            spawner.join().unwrap();
        }
        pool.join();
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((count.most(), pool.free()), (2, 2));
    }

    fn a_spawner_that_is_interrupted_gives_its_closure_up_and_its_turn() {
        let pool = Rc::new(Pool::new(1));
        let holder = pool.spawn(thread::park);
        let count = Count::default();
        let captured = count.one_more();
        let limited = time::timeout(Duration::from_millis(1), || pool.spawn(move || drop(captured)));
        assert!(limited.is_err());
        assert_eq!(count.now(), 0);
        let waiting = Rc::clone(&pool);
        let waiting = thread::spawn(move || waiting.spawn(|| ()));
        thread::yield_now();
        waiting.cancel();
        assert_cancelled(waiting);
        holder.thread().unpark();
        pool.join();
        assert_eq!((pool.len(), pool.free()), (0, 1));
    }

    fn try_spawn_gives_the_closure_back_and_overtakes_nobody() {
        let pool = Rc::new(Pool::new(1));
        let holder = pool.try_spawn(thread::park).ok().unwrap();
        let refused = pool.try_spawn(|| 5).expect_err("the pool is full");
        assert_eq!(refused(), 5);
        let waiting = Rc::clone(&pool);
        let waiting = thread::spawn(move || waiting.spawn(|| 6).join().unwrap());
        thread::yield_now();
        holder.thread().unpark();
        while !holder.is_finished() {
            thread::yield_now();
        }
        // The place is promised to who waits.
        assert!(waiting.is_finished() || pool.try_spawn(|| ()).is_err());
        assert_eq!(waiting.join().unwrap(), 6);
        assert_eq!(pool.try_spawn(|| 7).ok().unwrap().join().unwrap(), 7);
    }

    fn a_place_is_free_when_the_result_is_stored_and_not_before() {
        struct Slow;
        impl Drop for Slow {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(2));
            }
        }
        let pool = Pool::new(1);
        // A local that is slow to go, and a result that nobody takes.
        let first = pool.spawn(|| { let _slow = Slow; 1 });
        thread::yield_now();
        assert!(pool.try_spawn(|| ()).is_err());
        let second = pool.spawn(|| Slow);
        assert!(first.is_finished());
        drop(second);
        thread::yield_now();
        assert_eq!(pool.free(), 0);
        let third = pool.spawn(|| 3);
        assert_eq!(third.join().unwrap(), 3);
    }

    // gevent #2207: a worker that failed kept its place.
    fn a_panic_frees_its_place() {
        let pool = Pool::new(1);
        for n in 0..5_u64 {
            let member = pool.spawn(move || panic_any(n));
            assert_eq!(number(member.join().unwrap_err()), n);
        }
        pool.join();
        assert_eq!(pool.free(), 1);
    }

    fn a_timed_join_tells_whether_the_pool_was_empty() {
        let pool = Pool::new(4);
        assert!(pool.join_timeout(Duration::ZERO));
        let member = pool.spawn(thread::park);
        assert!(!pool.join_timeout(Duration::ZERO));
        // Waits that were given up leave nothing behind.
        for _ in 0..20 {
            assert!(!pool.join_timeout(Duration::from_micros(50)));
        }
        assert!(time::timeout(Duration::from_millis(1), || pool.join()).is_err());
        member.thread().unpark();
        assert!(pool.join_timeout(LONG));
        assert!(pool.join_timeout(Duration::MAX));
    }

    // gevent: "became empty at least once".
    fn a_join_ends_when_the_group_was_empty_for_a_moment() {
        let group = Rc::new(Group::new());
        let last = group.spawn(thread::yield_now);
        let refill = Rc::clone(&group);
        let refilling = thread::spawn(move || {
            last.join().unwrap();
            refill.spawn(thread::park);
        });
        let joiners: Vec<_> = (0..3)
            .map(|_| {
                let group = Rc::clone(&group);
                thread::spawn(move || group.join())
            })
            .collect();
        group.join();
        for joiner in joiners {
            joiner.join().unwrap();
        }
        refilling.join().unwrap();
        assert_eq!(group.len(), 1);
        group.cancel();
        group.join();
    }

    fn a_member_that_joins_its_own_group_panics_at_once() {
        let group = Rc::new(Group::new());
        let inside = Rc::clone(&group);
        let member = group.spawn(move || inside.join());
        let message = member.join().unwrap_err();
        let message = message.downcast_ref::<&str>().unwrap();
        assert!(message.contains("wait for itself"), "{message}");
        let inside = Rc::clone(&group);
        let member = group.spawn(move || inside.join_timeout(LONG));
        assert!(member.join().is_err());
    }

    fn members_may_spawn_members_and_cancel_all_of_them() {
        let group = Rc::new(Group::new());
        let inside = Rc::clone(&group);
        let first = group.spawn(move || {
            let second = inside.spawn(thread::park);
            thread::yield_now();
            inside.cancel(); // itself, too
            let second = catch_unwind(AssertUnwindSafe(|| second.join()));
            assert!(second.is_err(), "the interrupt is raised at the next wait");
            thread::park();
        });
        group.join();
        assert_cancelled(first);
        assert!(group.is_empty());
    }

    fn dropping_a_pool_detaches_its_green_threads() {
        let pool = Pool::new(2);
        let steps = Rc::new(Cell::new(0));
        let counted = Rc::clone(&steps);
        let member = pool.spawn(move || {
            thread::sleep(Duration::from_millis(1));
            counted.set(1);
        });
        drop(pool);
        assert_eq!(steps.get(), 0);
        member.join().unwrap();
        assert_eq!(steps.get(), 1);
    }

    fn with_fail_fast_the_first_panic_cancels_the_siblings() {
        let pool = Pool::new(4).fail_fast();
        let waiting = [pool.spawn(thread::park), pool.spawn(|| thread::sleep(LONG))];
        let cancelled = pool.spawn(thread::park);
        cancelled.cancel();
        assert_cancelled(cancelled);
        assert_eq!(pool.len(), 2, "a cancellation is no failure");
        assert!(pool.spawn(|| panic!("on purpose")).join().is_err());
        waiting.into_iter().for_each(assert_cancelled);
        // Without it they go on.
        let group = Group::new();
        let waiting = group.spawn(thread::park);
        assert!(group.spawn(|| panic!("on purpose")).join().is_err());
        waiting.thread().unpark();
        waiting.join().unwrap();
    }

    // gevent killall, "undead" ones: who swallows its cancellation once.
    fn cancelling_waits_for_nobody_and_joining_waits_for_the_stubborn() {
        let group = Group::new();
        let rounds = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let rounds = Rc::clone(&rounds);
            group.spawn(move || {
                while catch_unwind(thread::park).is_err() && rounds.get() < 9 {
                    rounds.set(rounds.get() + 1);
                }
            });
        }
        group.spawn(|| cancel::shield(|| thread::sleep(Duration::from_millis(2))));
        let unstarted = group.spawn(|| panic!("the body runs"));
        group.cancel();
        assert_eq!(rounds.get(), 0);
        assert_cancelled(unstarted);
        thread::yield_now();
        group.cancel();
        group.join();
        assert_eq!(stats().live, 0);
    }

    // gevent joinall and iwait: in the order of readiness, and nothing stays
    // behind of a wait that was given up.
    fn members_are_waited_for_as_they_end() {
        let group = Group::new();
        let turn = Turn::default();
        let mut left: Vec<_> = [3, 1, 2]
            .into_iter()
            .map(|n| {
                let turn = turn.clone();
                group.spawn(move || {
                    while turn.0.get() < n {
                        thread::yield_now();
                    }
                    n
                })
            })
            .collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let limit = Duration::from_micros(200);
            assert!(time::timeout(limit, || thread::wait_any(&left)).is_err());
            turn.0.set(turn.0.get() + 1);
            order.push(left.remove(thread::wait_any(&left)).join().unwrap());
        }
        assert_eq!(order, [1, 2, 3]);
        let results = thread::join_all((0..5).map(|n| group.spawn(move || {
            assert_ne!(n, 2, "on purpose");
            n
        })));
        assert_eq!(results.into_iter().flatten().collect::<Vec<_>>(), [0, 1, 3, 4]);
    }
}

// ----- map -------------------------------------------------------------------

both_backends! {
    fn a_map_borrows_and_gives_results_in_order() {
        let words = vec![String::from("a"), String::from("bbb"), String::from("cc")];
        let (turn, seen) = (Turn::default(), RefCell::new(Vec::new()));
        let results = Pool::new(3).map(&words, |word| {
            turn.take(3 - word.len() as u64);
            seen.borrow_mut().push(word.as_str());
            word
        });
        assert_eq!(results, words.iter().collect::<Vec<_>>());
        assert_eq!(*seen.borrow(), ["bbb", "cc", "a"]);
        assert!(Group::new().map([0; 0], |n| n).is_empty());
        assert_eq!(Group::new().map(0..500, |n| n).len(), 500);
    }

    fn a_map_runs_as_many_as_there_are_places_and_shares_them() {
        let pool = Rc::new(Pool::new(3));
        let count = Count::default();
        let other = thread::spawn({
            let (pool, count) = (Rc::clone(&pool), count.clone());
            move || pool.map(0..20, |_| { let _one = count.one_more(); thread::yield_now(); }).len()
        });
        let taken = Cell::new(0);
        let items = (0..20).inspect(|_| taken.set(taken.get() + 1));
        let results = pool.map(items, |n| {
            let _one = count.one_more();
            // It takes no items ahead of the places that there are.
            assert!(taken.get() <= n + 5);
            thread::yield_now();
            n
        });
        assert_eq!(results, (0..20).collect::<Vec<_>>());
        assert_eq!(other.join().unwrap(), 20);
        assert_eq!((count.most(), pool.free()), (3, 3));
    }

    fn a_map_resumes_the_panic_of_the_first_item_when_all_have_ended() {
        let (turn, ended) = (Turn::default(), Cell::new(0));
        let payload = caught(|| Pool::new(3).map(0..6_u64, |n| {
            // The later one panics first.
            if n < 3 {
                turn.take([0, 2, 1][n as usize]);
            }
            if n == 1 || n == 2 {
                panic_any(n);
            }
            ended.set(ended.get() + 1);
        }));
        assert_eq!((number(payload), ended.get()), (1, 4));
        assert_eq!(stats().live, 0);
    }

    fn a_map_sees_guests_off_when_the_items_panic() {
        let count = Count::default();
        let pool = Pool::new(4);
        let items = (0..3_u64).inspect(|&n| if n == 2 {
            thread::yield_now();
            panic_any(n);
        });
        let payload = caught(|| pool.map(items, |_| {
            let _one = count.one_more();
            let _late = OnDrop(|| thread::sleep(Duration::from_millis(1)));
            thread::park();
        }));
        assert_eq!((number(payload), count.most(), count.now()), (2, 2, 0));
        assert_eq!((pool.len(), pool.free()), (0, 4));
    }

    fn an_interrupted_map_cancels_its_guests_and_waits_for_them() {
        let late = Rc::new(Cell::new(0));
        for full in [false, true] {
            late.set(0);
            let inside = Rc::clone(&late);
            let mapping = thread::spawn(move || {
                // Waiting for results, or for a place.
                let items = if full { 0..10 } else { 0..2 };
                Pool::new(2).map(items, |_| {
                    let _late = OnDrop(|| {
                        thread::sleep(Duration::from_millis(1));
                        inside.set(inside.get() + 1);
                    });
                    thread::park();
                });
            });
            for _ in 0..3 {
                thread::yield_now();
            }
            mapping.cancel();
            assert_cancelled(mapping);
            assert_eq!(late.get(), 2);
            assert_eq!(stats().live, 0);
        }
        let pool = Pool::new(2);
        let limited = time::timeout(Duration::from_millis(1), || pool.map(0..9, |_| thread::park()));
        assert!(limited.is_err());
        assert_eq!((pool.len(), pool.free()), (0, 2));
    }

    fn cancelling_the_pool_ends_a_map() {
        let pool = Rc::new(Pool::new(2));
        let begun = Rc::new(Cell::new(0));
        let mapping = thread::spawn({
            let (pool, begun) = (Rc::clone(&pool), Rc::clone(&begun));
            move || pool.map(0..100, |_| {
                begun.set(begun.get() + 1);
                thread::park();
            })
        });
        thread::yield_now();
        thread::yield_now();
        pool.cancel();
        assert_cancelled(mapping);
        assert_eq!(begun.get(), 2, "no further item has begun");
        // Also with an item that takes no notice.
        let stubborn = Rc::clone(&pool);
        let mapping = thread::spawn(move || {
            stubborn.map(0..100, |n| cancel::shield(|| { thread::sleep(Duration::from_millis(1)); n }))
        });
        thread::yield_now();
        thread::yield_now();
        pool.cancel();
        assert_cancelled(mapping);
        assert_eq!((pool.len(), pool.free()), (0, 2));
    }

    fn a_map_that_fails_fast_begins_no_more_and_tells_the_panic() {
        let begun = Cell::new(0);
        let payload = caught(|| Pool::new(2).fail_fast().map(0.., |n: u64| {
            begun.set(begun.get() + 1);
            if n == 3 {
                panic_any(n);
            }
            thread::sleep(Duration::from_millis(1));
        }));
        assert_eq!(number(payload), 3);
        assert!(begun.get() <= 4);
    }

    // gevent runs a recursive apply inline.
    fn a_map_inside_of_a_full_pool_runs_in_its_callers_place() {
        let pool = Rc::new(Pool::new(2));
        fn depth(pool: &Pool, left: u32) -> u32 {
            if left == 0 {
                thread::yield_now();
                return 1;
            }
            pool.map(0..3, |_| depth(pool, left - 1)).into_iter().sum()
        }
        let inside = Rc::clone(&pool);
        let members: Vec<_> = (0..4)
            .map(|_| { let inside = Rc::clone(&inside); pool.spawn(move || depth(&inside, 3)) })
            .collect();
        for member in members {
            assert_eq!(member.join().unwrap(), 27);
        }
        pool.join();
        assert_eq!(pool.free(), 2);
        // One at a time.
        let only = Rc::new(Pool::new(1));
        let inside = Rc::clone(&only);
        let count = Count::default();
        let counted = count.clone();
        let member = only.spawn(move || inside.map(0..5, |_| {
            let _one = counted.one_more();
            thread::yield_now();
            assert_eq!((inside.len(), inside.size(), inside.free()), (2, 1, 0));
        }).len());
        assert_eq!((member.join().unwrap(), count.most()), (5, 1));
        // A panic of an item is the member's.
        let inside = Rc::clone(&only);
        let member = only.spawn(move || inside.map([7_u64], |n| panic_any(n)));
        assert_eq!(number(member.join().unwrap_err()), 7);
        // And so for the lazy ones.
        let inside = Rc::clone(&only);
        let member = only.spawn(move || inside.imap_unordered(0..10, |n| n).sum::<u32>());
        assert_eq!(member.join().unwrap(), 45);
    }
}

// ----- imap ------------------------------------------------------------------

both_backends! {
    fn an_imap_gives_results_in_order_and_an_unordered_one_as_they_come() {
        let pool = Pool::new(4);
        // The last ends first.
        let backwards = || {
            let turn = Turn::default();
            move |n: u64| { turn.take(3 - n); n }
        };
        assert_eq!(pool.imap(0..4, backwards()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let unordered = pool.imap_unordered(0..4, backwards());
        assert_eq!(unordered.collect::<Vec<_>>(), [3, 2, 1, 0]);
        // As they came, also if nobody has looked meanwhile.
        let unordered = pool.imap_unordered(0..4, backwards());
        while stats().live > 0 {
            thread::yield_now();
        }
        assert_eq!(unordered.collect::<Vec<_>>(), [3, 2, 1, 0]);
        assert_eq!(Group::new().imap(0..1000, |n| n).sum::<u32>(), 499_500);
        assert_eq!(Group::new().imap_unordered([(); 0], |()| ()).count(), 0);
    }

    fn at_most_twice_the_size_is_unread() {
        let begun = Rc::new(Cell::new(0));
        let count = Count::default();
        let pool = Pool::new(3);
        for unordered in [false, true] {
            begun.set(0);
            let (counter, one) = (Rc::clone(&begun), count.clone());
            let f = move |n: usize| {
                counter.set(counter.get() + 1);
                let _one = one.one_more();
                thread::yield_now();
                n
            };
            let mut results = if unordered { pool.imap_unordered(0.., f) } else { pool.imap(0.., f) };
            for read in 0..20 {
                thread::sleep(Duration::from_millis(1));
                assert_eq!(begun.get(), read + 6, "a slow reader holds them back");
                assert!(results.next().is_some());
            }
            drop(results);
            pool.join();
        }
        assert_eq!((count.most(), count.now()), (3, 0));
        let begun = Rc::new(Cell::new(0));
        let counter = Rc::clone(&begun);
        let results = Group::new().imap(0..1000, move |_| counter.set(counter.get() + 1));
        thread::sleep(Duration::from_millis(1));
        assert_eq!(begun.get(), 128);
        assert_eq!(results.count(), 1000);
    }

    fn a_panic_of_an_item_comes_at_its_place_and_iteration_goes_on() {
        let pool = Pool::new(2);
        let mut results = pool.imap(0..5_u64, |n| {
            thread::sleep(Duration::from_micros(500 - 100 * n));
            if n == 1 || n == 3 {
                panic_any(n);
            }
            n
        });
        assert_eq!(results.next(), Some(0));
        assert_eq!(number(caught(|| results.next())), 1);
        assert_eq!(results.next(), Some(2));
        assert_eq!(number(caught(|| results.next())), 3);
        assert_eq!(results.next(), Some(4));
        assert_eq!((results.next(), results.next()), (None, None));
        let turn = Turn::default();
        let mut results = pool.imap_unordered([2, 1], move |n: u64| {
            turn.take(n - 1);
            if n == 1 {
                panic_any(n);
            }
            n
        });
        assert_eq!(number(caught(|| results.next())), 1);
        assert_eq!((results.next(), results.next()), (Some(2), None));
    }

    fn a_panic_of_the_items_comes_behind_the_results_and_ends_the_iteration() {
        let failing = || (0..).map(|n: u64| if n < 3 { n } else { panic_any(n) });
        for mut results in [Pool::new(1).imap(failing(), |n| n), Group::new().imap_unordered(failing(), |n| n)] {
            let mut read: Vec<_> = results.by_ref().take(3).collect();
            read.sort_unstable();
            assert_eq!(read, [0, 1, 2]);
            assert_eq!(number(caught(|| results.next())), 3);
            assert_eq!((results.next(), results.next()), (None, None));
        }
    }

    fn dropping_the_iterator_stops_the_feeding_and_cancels_what_it_started() {
        let taken = Rc::new(Cell::new(0));
        let count = Count::default();
        let pool = Pool::new(2);
        let kept = pool.try_spawn(thread::park).ok().unwrap();
        let (counter, one) = (Rc::clone(&taken), count.clone());
        let items = (0..).inspect(move |_| counter.set(counter.get() + 1));
        let mut results = pool.imap(items, move |n| {
            let _one = one.one_more();
            if n > 0 {
                thread::park();
            }
        });
        assert_eq!(results.next(), Some(()));
        thread::sleep(Duration::from_millis(1));
        assert_eq!((taken.get(), count.now()), (3, 1));
        drop(results);
        while pool.len() > 1 {
            thread::yield_now();
        }
        assert_eq!((taken.get(), count.now(), kept.is_finished()), (3, 0, false));
        kept.thread().unpark();
        pool.join();
        while stats().live > 0 {
            thread::yield_now();
        }
        assert_eq!(Rc::strong_count(&taken), 1, "the items are gone");
        // Before anything has started, and with everything done.
        drop(pool.imap(0.., |n: u32| n));
        let results = pool.imap(0..3, |n| n);
        thread::sleep(Duration::from_millis(1));
        drop(results);
        pool.join();
        assert_eq!(pool.free(), 2);
    }

    fn unread_results_are_dropped_with_the_iterator() {
        let count = Count::default();
        let one = count.clone();
        let mut results = Pool::new(4).imap(0..100, move |_| one.one_more());
        drop(results.next());
        thread::sleep(Duration::from_millis(1));
        assert!(count.now() > 0);
        drop(results);
        while stats().live > 0 {
            thread::yield_now();
        }
        assert_eq!((count.now(), count.most() <= 8), (0, true));
    }

    fn a_forgotten_iterator_harms_nobody() {
        let pool = Pool::new(2);
        let results = pool.imap(0..3, |n| { thread::yield_now(); n });
        std::mem::forget(results);
        pool.join();
        let results = pool.imap(0..100, |n| n);
        std::mem::forget(results);
        thread::sleep(Duration::from_millis(1));
        assert_eq!((pool.len(), pool.free()), (0, 2));
        assert_eq!(pool.spawn(|| 1).join().unwrap(), 1);
    }

    fn cancelling_the_pool_ends_an_imap_with_cancelled() {
        let pool = Pool::new(2);
        let mut results = pool.imap(0..100, |n| if n > 0 { thread::park() });
        assert_eq!(results.next(), Some(()));
        thread::sleep(Duration::from_millis(1));
        pool.cancel();
        let mut cancelled = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(|| results.next())) {
                Ok(None) => break,
                Ok(Some(())) => panic!("nobody has a result"),
                Err(payload) => {
                    assert!(Cancelled::is(&payload));
                    cancelled += 1;
                }
            }
        }
        // Two items, and the feeding.
        assert_eq!(cancelled, 3);
        assert_eq!((pool.len(), pool.free()), (0, 2));
    }

    fn an_interrupted_reader_may_read_on() {
        let pool = Pool::new(2);
        let mut results = pool.imap(0..3, |n| { thread::sleep(Duration::from_millis(3)); n });
        let mut read = Vec::new();
        while read.len() < 3 {
            if let Ok(result) = time::timeout(Duration::from_millis(1), || results.next()) {
                read.extend(result);
            }
        }
        assert_eq!((read, results.next()), (vec![0, 1, 2], None));
    }

    fn an_iterator_of_items_may_wait() {
        let pool = Pool::new(2);
        let items = (0..5).inspect(|_| thread::sleep(Duration::from_millis(1)));
        assert_eq!(pool.imap(items, |n| n).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        // An imap feeds an imap of the same pool.
        let squares = pool.imap(0..50, |n| n * n);
        assert_eq!(pool.imap(squares, |n| n + 1).last(), Some(2402));
    }
}

// ----- the rest --------------------------------------------------------------

#[test]
fn a_pool_of_size_zero_is_refused_with_a_sentence() {
    let message = catch_unwind(|| drop(Pool::new(0))).unwrap_err();
    let message = message.downcast_ref::<&str>().unwrap();
    assert!(message.contains("size zero"), "{message}");
    assert_eq!(Pool::new(usize::MAX).size(), usize::MAX);
}

#[test]
fn the_spawn_site_is_the_users() {
    const TEST: &str = "the_spawn_site_is_the_users";
    if is_child(TEST) {
        let pool = Pool::new(2);
        drop(pool.spawn(|| panic!("one")).join());
        drop(pool.try_spawn(|| panic!("two")).ok().unwrap().join());
        drop(Group::new().spawn(|| panic!("three")).join());
        drop(catch_unwind(AssertUnwindSafe(|| {
            pool.map([0], |_| panic!("four"))
        })));
        let mut results = pool.imap([0], |_| panic!("five"));
        drop(catch_unwind(AssertUnwindSafe(|| results.next())));
        let mut results = Group::new().imap_unordered([0], |_| panic!("six"));
        drop(catch_unwind(AssertUnwindSafe(|| results.next())));
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        for word in ["one", "two", "three", "four", "five", "six"] {
            child.assert_says(&["spawned at tests/pool.rs:", word]);
        }
        assert!(!child.stderr.contains("spawned at src/"), "{child:#?}");
    });
}

#[test]
fn members_that_wait_for_each_others_places_are_told_with_the_table() {
    const TEST: &str = "members_that_wait_for_each_others_places_are_told_with_the_table";
    if is_child(TEST) {
        let code = forked(|| {
            let pool = Rc::new(Pool::new(2));
            for _ in 0..2 {
                let inside = Rc::clone(&pool);
                pool.spawn(move || inside.spawn(|| ()).join());
            }
            let message = caught(|| pool.join());
            eprintln!("{}", message.downcast_ref::<String>().unwrap());
            pool.cancel();
            pool.join();
            i32::from(pool.free() == 2)
        });
        assert_eq!(code, 1);
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["would last for ever", "permit", "permit"]);
    });
}

/// Spawns, maps, cancels, limits and panics at random: nothing is left, nothing
/// is dropped twice, and no place is lost.
fn storm() {
    let mut rng = common::Rng::new("pools");
    let count = Count::default();
    let pools: Vec<_> = [1, 2, 5].map(|size| Rc::new(Pool::new(size))).into();
    let (made, ran) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut users = Vec::new();
    for _ in 0..600 {
        let pool = Rc::clone(&pools[rng.below(3) as usize]);
        let (act, panics, waits) = (rng.below(8), rng.below(6) == 0, rng.below(3));
        let (count, made, ran) = (count.clone(), Rc::clone(&made), Rc::clone(&ran));
        let user = thread::spawn(move || {
            let work = {
                let (count, ran) = (count.clone(), Rc::clone(&ran));
                move |n: u64| {
                    let one = count.one_more();
                    for _ in 0..waits {
                        thread::sleep(Duration::from_micros(20 * n));
                    }
                    ran.set(ran.get() + 1);
                    assert!(!panics || n != 2, "on purpose");
                    one
                }
            };
            made.set(made.get() + 1);
            let captured = count.one_more();
            match act {
                0 => drop(pool.spawn(move || {
                    let _captured = captured;
                    work(1)
                })),
                1 => drop(
                    pool.spawn(move || {
                        let _captured = captured;
                        work(2)
                    })
                    .join(),
                ),
                2 => drop(pool.try_spawn(move || {
                    let _captured = captured;
                    work(1)
                })),
                3 => drop(pool.map(0..4, work)),
                4 => pool.imap(0..9, work).take(3).for_each(drop),
                5 => pool.imap_unordered(0..5, work).for_each(drop),
                6 => drop(time::timeout(Duration::from_micros(150), || {
                    pool.map(0..9, work)
                })),
                _ => {
                    let inside = Rc::clone(&pool);
                    let nested = pool.spawn(move || inside.map(0..3, |n| drop(work(n))).len());
                    nested.cancel();
                    drop(nested.join());
                }
            }
        });
        users.push(user);
        match rng.below(12) {
            0 => pools[rng.below(3) as usize].cancel(),
            1..4 => users[rng.below(users.len() as u64) as usize].cancel(),
            4..8 => thread::yield_now(),
            _ => {}
        }
    }
    for user in users {
        drop(user.join());
    }
    for pool in &pools {
        pool.join();
    }
    // A feeder may have been given a place that it does not want any more.
    while stats().live > 0 {
        thread::yield_now();
    }
    for pool in &pools {
        assert_eq!((pool.len(), pool.free()), (0, pool.size()));
    }
    assert_eq!(count.now(), 0, "of {} and {}", made.get(), ran.get());
    assert!(made.get() > 100 && ran.get() > 100);
    assert_eq!(Rc::strong_count(&ran), 1);
}

both_backends! {
    fn nothing_is_left_behind_by_a_storm() {
        storm();
    }
}
