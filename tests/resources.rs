//! Pools of resources: who gets one, which one, and what becomes of it when its
//! user or its maker fails; on both backends.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenring::io::{Read, Write};
use greenring::net::TcpStream;
use greenring::pool::Resources;
use greenring::runtime::stats;
use greenring::{Cancelled, cancel, thread, time};

use common::open_descriptors;

const LONG: Duration = Duration::from_secs(60);

/// A value with a number, which counts how many of its kind there are.
#[derive(Debug)]
struct Numbered {
    number: u32,
    alive: Rc<Cell<u32>>,
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// Resources that are numbered as they are made, and how many are alive.
fn numbered(max: usize) -> (Rc<Resources<Numbered>>, Rc<Cell<u32>>) {
    let alive = Rc::new(Cell::new(0));
    let counted = Rc::clone(&alive);
    let made = Cell::new(0);
    let resources = Resources::new(max, move || {
        made.set(made.get() + 1);
        counted.set(counted.get() + 1);
        Numbered {
            number: made.get(),
            alive: Rc::clone(&counted),
        }
    });
    (Rc::new(resources), alive)
}

both_backends! {
    // PyMySQL #275.
    fn a_value_that_was_in_use_when_a_time_limit_passed_is_discarded() {
        let made = Rc::new(Cell::new(0));
        let count = Rc::clone(&made);
        let pool = Resources::new(1, move || {
            count.set(count.get() + 1);
            count.get()
        });
        let value = pool.get();
        // A query whose answer will come to whoever reads next.
        time::timeout(Duration::from_millis(1), thread::park).unwrap_err();
        drop(value);
        assert_eq!((*pool.get(), pool.idle()), (2, 0));
        // An interrupt before it was lent says nothing of it.
        time::timeout(Duration::from_millis(1), thread::park).unwrap_err();
        assert_eq!(*pool.get(), 2);
    }

    fn they_are_made_when_needed_and_reused_last_in_first_out() {
        let (resources, alive) = numbered(3);
        assert_eq!((resources.len(), alive.get()), (0, 0));
        let (one, two, three) = (resources.get(), resources.get(), resources.get());
        assert_eq!((one.number, two.number, three.number), (1, 2, 3));
        assert_eq!((resources.len(), resources.idle()), (3, 0));
        drop(two);
        drop(one);
        assert_eq!(resources.idle(), 2);
        assert_eq!(resources.get().number, 1);
        let (again, other) = (resources.get(), resources.get());
        assert_eq!((again.number, other.number, alive.get()), (1, 2, 3));
        drop((three, again, other));
        assert_eq!((resources.len(), resources.idle()), (3, 3));
        drop(resources);
        assert_eq!(alive.get(), 0);
    }

    fn who_has_waited_longest_is_served_first() {
        if common::is_shuffled() {
            return;
        }
        let (resources, _) = numbered(1);
        let held = resources.get();
        let order = Rc::new(RefCell::new(Vec::new()));
        let users: Vec<_> = (0..5)
            .map(|user| {
                let (resources, order) = (Rc::clone(&resources), Rc::clone(&order));
                thread::spawn(move || {
                    let resource = resources.get();
                    order.borrow_mut().push((user, resource.number));
                    thread::yield_now();
                })
            })
            .collect();
        thread::yield_now();
        // Nobody overtakes those who wait.
        drop(held);
        assert!(resources.try_get().is_none());
        // One in the line that is cancelled stands in nobody's way.
        users[2].cancel();
        for (user, handle) in users.into_iter().enumerate() {
            assert_eq!(handle.join().is_err(), user == 2);
        }
        assert_eq!(*order.borrow(), [(0, 1), (1, 1), (3, 1), (4, 1)]);
        assert_eq!((resources.len(), resources.idle()), (1, 1));
    }

    fn a_timed_get_gives_up_and_a_try_does_not_wait() {
        let (resources, _) = numbered(1);
        let held = resources.get_timeout(Duration::ZERO).unwrap();
        assert!(resources.try_get().is_none());
        assert!(resources.get_timeout(Duration::ZERO).is_none());
        assert!(resources.get_timeout(Duration::from_millis(1)).is_none());
        let limited = Rc::clone(&resources);
        let limited = thread::spawn(move || {
            time::timeout(Duration::from_millis(1), || drop(limited.get())).is_err()
        });
        assert!(limited.join().unwrap());
        let waiting = Rc::clone(&resources);
        let waiting = thread::spawn(move || waiting.get_timeout(LONG).unwrap().number);
        thread::yield_now();
        drop(held);
        assert_eq!(waiting.join().unwrap(), 1);
        assert_eq!(resources.try_get().unwrap().number, 1);
    }

    fn a_discarded_one_leaves_its_place_to_a_new_one() {
        let (resources, alive) = numbered(1);
        let waiting = Rc::clone(&resources);
        let held = resources.get();
        let waiting = thread::spawn(move || waiting.get().number);
        thread::yield_now();
        held.discard();
        assert_eq!((alive.get(), resources.len()), (0, 0));
        assert_eq!(waiting.join().unwrap(), 2);
        assert_eq!((alive.get(), resources.idle()), (1, 1));
    }

    fn one_whose_user_panicked_is_discarded() {
        let (resources, alive) = numbered(1);
        let user = Rc::clone(&resources);
        let user = thread::spawn(move || {
            let _held = user.get();
            panic!("on purpose");
        });
        assert!(user.join().is_err());
        assert_eq!((alive.get(), resources.len()), (0, 0));
        assert_eq!(resources.get().number, 2);
    }

    // PyMySQL #275: a killed greenlet's connection, with half an answer in it,
    // was used for the next query.
    fn a_connection_whose_user_was_cancelled_or_timed_out_is_not_used_again() {
        let servers = Rc::new(RefCell::new(Vec::new()));
        let accepted = Rc::clone(&servers);
        // Answers every query with its own number, in two halves.
        let connections: Rc<Resources<TcpStream>> = Rc::new(Resources::new(1, move || {
            let (ours, theirs) = common::connection();
            let server = thread::spawn(move || {
                let mut theirs = theirs;
                let mut query = [0];
                while theirs.read(&mut query).is_ok_and(|n| n == 1) {
                    let first = theirs.write_all(&query);
                    thread::sleep(Duration::from_millis(1));
                    if first.and(theirs.write_all(&query)).is_err() {
                        break; // The client is gone.
                    }
                }
            });
            accepted.borrow_mut().push(server);
            ours
        }));
        let ask = |query: u8, long: bool| {
            let mut connection = connections.get();
            connection.write_all(&[query]).unwrap();
            let mut answer = [0; 2];
            connection.read_exact(&mut answer[..1]).unwrap();
            if long {
                thread::sleep(Duration::MAX);
            }
            connection.read_exact(&mut answer[1..]).unwrap();
            assert_eq!(answer, [query; 2]);
        };
        ask(1, false);
        assert!(time::timeout(Duration::from_millis(2), || ask(2, true)).is_err());
        assert_eq!(connections.len(), 0);
        ask(3, false);
        ask(4, false);
        let user = Rc::clone(&connections);
        let user = thread::spawn(move || {
            let mut connection = user.get();
            connection.write_all(&[5]).unwrap();
            thread::park();
        });
        thread::yield_now();
        user.cancel();
        assert!(Cancelled::is(&user.join().unwrap_err()));
        assert_eq!(connections.len(), 0);
        ask(6, false);
        assert_eq!(servers.borrow().len(), 3);
        drop(connections);
        for server in servers.take() {
            server.join().unwrap();
        }
    }

    fn one_whose_user_caught_its_cancellation_is_discarded_all_the_same() {
        let (resources, alive) = numbered(1);
        let user = Rc::clone(&resources);
        let user = thread::spawn(move || {
            let held = user.get();
            let _ = catch_unwind(thread::park);
            drop(held);
        });
        thread::yield_now();
        user.cancel();
        user.join().unwrap();
        assert_eq!((alive.get(), resources.len()), (0, 0));
    }

    fn while_a_sibling_unwinds_discarding_is_the_safe_side() {
        struct Parks;
        impl Drop for Parks {
            fn drop(&mut self) {
                thread::park();
            }
        }
        let (resources, alive) = numbered(1);
        let unwinding = thread::spawn(|| {
            let _parks = Parks;
            panic!("on purpose");
        });
        thread::yield_now();
        assert!(thread::panicking());
        drop(resources.get());
        assert_eq!((alive.get(), resources.len()), (0, 0));
        unwinding.thread().unpark();
        assert!(unwinding.join().is_err());
        drop(resources.get());
        assert_eq!((alive.get(), resources.idle()), (1, 1));
    }

    fn a_maker_that_fails_or_panics_leaves_its_place_free() {
        let (resources, _) = numbered(1);
        assert_eq!(resources.get_with(|| Err(3)).err(), Some(3));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            resources.get_with(|| -> Result<_, ()> { panic!("on purpose") }).is_ok()
        }));
        assert!(panicked.is_err());
        assert!(resources.is_empty());
        let made = resources.get();
        let held = resources.try_get();
        assert!(held.is_none());
        drop((held, made));
        // An idle one is preferred to the maker.
        let idle = resources.get_with(|| Err(()));
        assert_eq!(idle.unwrap().number, 1);
    }

    fn makers_and_destructors_may_wait_and_use_the_pool() {
        struct Nested {
            pool: Rc<RefCell<Option<Rc<Resources<Nested>>>>>,
        }
        impl Drop for Nested {
            fn drop(&mut self) {
                thread::yield_now();
                let pool = self.pool.borrow().clone();
                if let Some(pool) = pool {
                    // Its own place is not free before it is gone.
                    assert!(pool.idle() <= 1 && !pool.is_empty());
                    assert!(pool.try_get().is_none_or(|other| other.pool.borrow().is_some()));
                }
            }
        }
        let place: Rc<RefCell<Option<Rc<Resources<Nested>>>>> = Rc::default();
        let inside = Rc::clone(&place);
        let pool = Rc::new(Resources::new(2, move || {
            thread::sleep(Duration::from_millis(1));
            let pool = inside.borrow().clone();
            // Looks at the pool that makes it.
            assert!(pool.is_none_or(|pool| !pool.is_empty()));
            Nested { pool: Rc::clone(&inside) }
        }));
        *place.borrow_mut() = Some(Rc::clone(&pool));
        let users: Vec<_> = (0..6)
            .map(|user| {
                let pool = Rc::clone(&pool);
                thread::spawn(move || {
                    let held = pool.get();
                    thread::yield_now();
                    if user % 2 == 0 { held.discard() } else { drop(held) }
                })
            })
            .collect();
        for user in users {
            user.join().unwrap();
        }
        assert!(pool.len() <= 2 && pool.len() == pool.idle());
        // The circle of counts is undone before the last ones go.
        place.take();
    }

    fn a_guard_may_be_given_to_another_and_forgotten() {
        let (resources, alive) = numbered(2);
        let (one, two) = (resources.get(), resources.get());
        thread::scope(|s| {
            s.spawn(move || drop(one));
        });
        assert_eq!(resources.idle(), 1);
        // It stays lent for ever, and nothing else happens.
        std::mem::forget(two);
        drop(resources.get());
        assert_eq!((resources.len(), resources.idle(), alive.get()), (2, 1, 2));
        let again = resources.get();
        assert!(resources.get_timeout(Duration::from_millis(1)).is_none());
        drop(again);
    }

    fn never_more_than_there_may_be_in_a_storm() {
        let mut rng = common::Rng::new("resources");
        let (resources, alive) = numbered(3);
        let mut users = Vec::new();
        for _ in 0..1000 {
            let (resources, alive) = (Rc::clone(&resources), Rc::clone(&alive));
            let (act, rounds) = (rng.below(7), rng.below(3));
            let user = thread::spawn(move || {
                let run = || {
                    let held = match act {
                        0 => resources.get_timeout(Duration::from_micros(300)),
                        1 => resources.try_get(),
                        _ => Some(resources.get()),
                    };
                    let Some(held) = held else { return };
                    assert!(alive.get() <= 3 && resources.len() <= 3);
                    for _ in 0..rounds {
                        thread::sleep(Duration::from_micros(20));
                    }
                    assert_ne!(act, 2, "on purpose");
                    if act == 3 {
                        held.discard();
                    }
                };
                match act {
                    4 => drop(time::timeout(Duration::from_micros(300), run)),
                    5 => cancel::shield(run),
                    _ => run(),
                }
            });
            users.push(user);
            if rng.below(3) == 0 {
                let index = rng.below(users.len() as u64) as usize;
                users[index].cancel();
            }
            if rng.below(2) == 0 {
                thread::yield_now();
            }
        }
        for user in users {
            drop(user.join());
        }
        assert_eq!(stats().live, 0);
        assert_eq!(resources.len(), resources.idle());
        assert_eq!(resources.len(), alive.get() as usize);
        let all: Vec<_> = (0..3).map(|_| resources.try_get().unwrap()).collect();
        assert!(resources.try_get().is_none());
        drop(all);
        drop(resources);
        assert_eq!(alive.get(), 0);
    }
}

both_backends_alone! {
    // gevent #1044: a connect that was killed lost its socket, and its place.
    fn a_maker_that_is_interrupted_leaves_neither_a_socket_nor_a_taken_place() {
        let before = open_descriptors();
        let connections = Rc::new(Resources::new(1, || {
            let (ours, theirs) = common::connection();
            // A handshake that is never answered.
            (&ours).read_exact(&mut [0]).unwrap();
            (ours, theirs)
        }));
        for round in 0..20 {
            if round % 2 == 0 {
                let limit = Duration::from_micros(200);
                assert!(time::timeout(limit, || drop(connections.get())).is_err());
            } else {
                let user = Rc::clone(&connections);
                let user = thread::spawn(move || drop(user.get()));
                thread::yield_now();
                assert_eq!((connections.len(), connections.idle()), (1, 0));
                user.cancel();
                assert!(Cancelled::is(&user.join().unwrap_err()));
            }
            assert!(connections.is_empty());
        }
        assert_eq!(open_descriptors(), before);
        // The place is free.
        let made = connections.get_with(|| Ok::<_, ()>(common::connection()));
        assert!(made.is_ok());
    }

    fn connections_are_closed_with_their_pool() {
        let before = open_descriptors();
        let connections = Resources::new(4, common::connection);
        let held: Vec<_> = (0..4).map(|_| connections.get()).collect();
        assert_eq!(open_descriptors(), before + 8);
        drop(held);
        connections.get().discard();
        assert_eq!(open_descriptors(), before + 6);
        drop(connections);
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn zero_resources_are_refused_with_a_sentence() {
    let message = catch_unwind(|| drop(Resources::new(0, || ()))).unwrap_err();
    let message = message.downcast_ref::<&str>().unwrap();
    assert!(message.contains("zero resources"), "{message}");
}
