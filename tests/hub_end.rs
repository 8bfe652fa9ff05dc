//! The end of a hub: of one that was asked for, whose green threads are
//! cancelled and unwound, and of one that ends with its OS thread, whose green
//! threads are abandoned; on both backends.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenring::Cancelled;
use greenring::net::TcpStream;
use greenring::runtime::{self, Backend, Builder, stats};
use greenring::thread::{self, JoinHandle, Thread, ThreadId};

use common::{child_on_each_backend, connection, end_after, forked, is_child, open_descriptors};

/// Expands each test to one per backend. The body runs on an OS thread without
/// a hub.
macro_rules! each_backend {
    ($($(#[$meta:meta])* fn $name:ident($backend:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn body($backend: Backend) $body

            #[test]
            fn uring() {
                on(Backend::Uring, body);
            }

            #[test]
            fn epoll() {
                on(Backend::Epoll, body);
            }
        }
    )*};
}

fn on(backend: Backend, body: fn(Backend)) {
    let _watchdog = common::Watchdog::start(Duration::from_secs(120));
    // Asserts the refusal where the backend cannot be had.
    common::on(backend, || {});
    if common::is_available(backend) {
        body(backend);
    }
}

/// Calls a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[track_caller]
fn assert_cancelled<T>(handle: JoinHandle<T>) {
    assert!(handle.is_finished());
    match handle.join() {
        Ok(_) => panic!("it was not cancelled"),
        Err(payload) => assert!(Cancelled::is(&payload)),
    }
}

fn text(payload: Box<dyn std::any::Any + Send>) -> &'static str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .expect("a plain text")
}

// ----- Builder::run: cancels, drains, unwinds ---------------------------------------

each_backend! {
    fn every_green_thread_is_unwound_on_its_own_stack(backend) {
        let unwound: Rc<RefCell<Vec<ThreadId>>> = Rc::default();
        let guard = || {
            let unwound = Rc::clone(&unwound);
            OnDrop(move || unwound.borrow_mut().push(thread::current().id()))
        };
        let (near, far) = connection();
        let handles = Builder::new()
            .backend(backend)
            .run(|| {
                let mut handles = Vec::new();
                let local = guard();
                handles.push(thread::spawn(move || {
                    let _local = local;
                    thread::park();
                    unreachable!("a cancelled park does not return");
                }));
                let local = guard();
                handles.push(thread::spawn(move || {
                    let _local = local;
                    thread::sleep(Duration::MAX);
                }));
                let local = guard();
                handles.push(thread::spawn(move || {
                    let _local = local;
                    thread::sleep(Duration::from_secs(3600));
                }));
                let local = guard();
                let inner = guard();
                handles.push(thread::spawn(move || {
                    let _local = local;
                    let inner = thread::spawn(move || {
                        let _inner = inner;
                        thread::park();
                    });
                    inner.join().unwrap();
                }));
                let local = guard();
                let mut near = near.try_clone().unwrap();
                handles.push(thread::spawn(move || {
                    let _local = local;
                    let _ = near.read(&mut [0; 100]);
                    unreachable!("a cancelled read does not return");
                }));
                let local = guard();
                handles.push(thread::spawn(move || {
                    let _local = local;
                    loop {
                        thread::yield_now();
                    }
                }));
                thread::yield_now();
                assert_eq!(unwound.borrow().len(), 0);
                handles
            })
            .unwrap();
        assert_eq!(unwound.borrow().len(), 7);
        for handle in &handles {
            assert!(unwound.borrow().contains(&handle.thread().id()));
        }
        handles.into_iter().for_each(assert_cancelled);
        drop(far);
    }

    fn a_closure_that_never_ran_is_dropped_on_a_coroutine_of_its_own(backend) {
        let place = Rc::new(Cell::new(None));
        let theirs = Rc::clone(&place);
        let captured = OnDrop(move || {
            // It may wait there.
            thread::yield_now();
            thread::sleep(Duration::from_millis(1));
            theirs.set(Some(thread::current().id()));
        });
        let handle = Builder::new()
            .backend(backend)
            .run(|| {
                thread::spawn(move || {
                    let _captured = &captured;
                    unreachable!("the hub ends before it starts");
                })
            })
            .unwrap();
        assert_eq!(place.get(), Some(handle.thread().id()));
        assert_cancelled(handle);
    }

    fn a_panic_in_a_capture_of_one_that_never_ran_is_its_result(backend) {
        let captured = OnDrop(|| panic!("of a capture"));
        let handle = Builder::new()
            .backend(backend)
            .run(|| thread::spawn(move || drop(captured)))
            .unwrap();
        assert_eq!(text(handle.join().unwrap_err()), "of a capture");
    }

    fn destructors_may_wait_at_the_end(backend) {
        let log: Rc<RefCell<Vec<&str>>> = Rc::default();
        let theirs = Rc::clone(&log);
        Builder::new()
            .backend(backend)
            .run(|| {
                let (mut near, mut far) = connection();
                thread::spawn(move || {
                    let log = Rc::clone(&theirs);
                    let _waits = OnDrop(move || {
                        log.borrow_mut().push("sleeps");
                        let begin = Instant::now();
                        thread::sleep(Duration::from_millis(2));
                        assert!(begin.elapsed() >= Duration::from_millis(2));
                        log.borrow_mut().push("reads");
                        far.write_all(b"x").unwrap();
                        near.read_exact(&mut [0]).unwrap();
                        near.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                        let error = near.read(&mut [0]).unwrap_err();
                        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                        log.borrow_mut().push("is done");
                    });
                    thread::park();
                });
                thread::yield_now();
            })
            .unwrap();
        assert_eq!(*log.borrow(), ["sleeps", "reads", "is done"]);
    }

    fn one_that_catches_its_cancellation_is_cancelled_again(backend) {
        let caught = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&caught);
        let handle = Builder::new()
            .backend(backend)
            .run(|| {
                let (mut near, far) = connection();
                let handle = thread::spawn(move || {
                    let waits: [&mut dyn FnMut(); 6] = [
                        &mut || thread::park(),
                        &mut || thread::sleep(Duration::from_secs(3600)),
                        &mut || thread::yield_now(),
                        &mut || drop(near.read(&mut [0])),
                        &mut || thread::spawn(thread::park).join().unwrap(),
                        &mut || thread::park_timeout(Duration::from_secs(3600)),
                    ];
                    for wait in waits {
                        let payload = catch_unwind(AssertUnwindSafe(wait)).unwrap_err();
                        assert!(Cancelled::is(&payload));
                        theirs.set(theirs.get() + 1);
                    }
                    drop(far);
                    "its own result"
                });
                thread::yield_now();
                handle
            })
            .unwrap();
        assert_eq!(caught.get(), 6);
        assert_eq!(handle.join().unwrap(), "its own result");
    }

    fn one_that_is_spawned_during_the_end_starts_cancelled(backend) {
        let dropped = Rc::new(Cell::new(None));
        let theirs = Rc::clone(&dropped);
        let own = Builder::new()
            .backend(backend)
            .run(|| {
                let handle = thread::spawn(move || {
                    let _spawns = OnDrop(move || {
                        let dropped = Rc::clone(&theirs);
                        let captured = OnDrop(move || dropped.set(Some(thread::current().id())));
                        let late = thread::spawn(move || {
                            let _captured = &captured;
                            unreachable!("spawned during the end");
                        });
                        let id = late.thread().id();
                        let payload = late.join().unwrap_err();
                        assert!(Cancelled::is(&payload));
                        assert_eq!(theirs.get(), Some(id));
                    });
                    thread::park();
                });
                thread::yield_now();
                handle
            })
            .unwrap();
        assert_cancelled(own);
        assert!(dropped.get().is_some());
    }

    fn an_interrupt_is_held_back_while_somebody_unwinds(backend) {
        let log: Rc<RefCell<Vec<&str>>> = Rc::default();
        let handles = Builder::new()
            .backend(backend)
            .run(|| {
                let theirs = Rc::clone(&log);
                let unwinding = thread::spawn(move || {
                    let _waits = OnDrop(|| {
                        // Longer than the hub's end needs to interrupt.
                        thread::sleep(Duration::from_millis(20));
                        theirs.borrow_mut().push("unwound");
                    });
                    panic!("of the one that waits");
                });
                thread::yield_now();
                let theirs = Rc::clone(&log);
                let parked = thread::spawn(move || {
                    let _guard = OnDrop(move || theirs.borrow_mut().push("cancelled"));
                    thread::park();
                });
                thread::yield_now();
                (unwinding, parked)
            })
            .unwrap();
        assert_eq!(*log.borrow(), ["unwound", "cancelled"]);
        assert_eq!(text(handles.0.join().unwrap_err()), "of the one that waits");
        assert_cancelled(handles.1);
    }

    fn a_panic_of_the_body_is_resumed_after_the_end(backend) {
        let unwound = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&unwound);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            Builder::new().backend(backend).run(|| {
                let (mut near, far) = connection();
                thread::spawn(move || {
                    let _guard = OnDrop(|| theirs.set(true));
                    let _ = near.read(&mut [0]);
                });
                thread::yield_now();
                let _far = far;
                panic!("of the body");
            })
        }))
        .map(|_| ())
        .unwrap_err();
        assert_eq!(text(payload), "of the body");
        assert!(unwound.get());
        assert_eq!(stats().blocks, 0);
        // And the next one runs.
        assert_eq!(Builder::new().backend(backend).run(|| 5).unwrap(), 5);
    }

    fn one_that_never_ends_is_abandoned_after_the_timeout(backend) {
        let owned = Arc::new(());
        let theirs = Arc::clone(&owned);
        let orderly = Rc::new(Cell::new(false));
        let unwound = Rc::clone(&orderly);
        let stubborn = Builder::new()
            .backend(backend)
            .end_timeout(Duration::from_millis(20))
            .run(|| {
                let stubborn = thread::spawn(move || {
                    let _owned = theirs;
                    loop {
                        let _ = catch_unwind(thread::park);
                    }
                });
                thread::spawn(move || {
                    let _guard = OnDrop(|| unwound.set(true));
                    thread::park();
                });
                thread::yield_now();
                stubborn
            })
            .unwrap();
        assert!(orderly.get(), "the orderly one was unwound");
        assert_cancelled::<()>(stubborn);
        assert_eq!(Arc::strong_count(&owned), 2, "what its frames own leaks");
        // The next hub is not disturbed by what is left of this one.
        let sum = Builder::new().backend(backend).run(|| thread::spawn(|| 2).join().unwrap());
        assert_eq!(sum.unwrap(), 2);
    }

    fn one_that_waits_for_ever_in_a_destructor_is_abandoned_after_the_timeout(backend) {
        let orderly = Rc::new(Cell::new(false));
        let unwound = Rc::clone(&orderly);
        let begin = Instant::now();
        let waits = Builder::new()
            .backend(backend)
            .end_timeout(Duration::from_millis(20))
            .run(|| {
                thread::spawn(move || {
                    let _guard = OnDrop(|| unwound.set(true));
                    thread::park();
                });
                let waits = thread::spawn(move || {
                    let _waits = OnDrop(|| {
                        loop {
                            thread::park();
                        }
                    });
                    thread::park();
                });
                thread::yield_now();
                waits
            })
            .unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(20));
        assert!(orderly.get(), "the orderly one was unwound");
        assert_cancelled(waits);
    }
}

#[test]
fn those_that_do_not_end_are_reported() {
    const TEST: &str = "those_that_do_not_end_are_reported";
    if is_child(TEST) {
        end_after(30);
        let builder = Builder::new()
            .name("the root")
            .end_timeout(Duration::from_millis(10));
        let run = builder.run(|| {
            let stubborn = thread::Builder::new().name("stubborn".to_owned());
            let waits = || {
                let _waits = OnDrop(|| {
                    loop {
                        thread::park();
                    }
                });
                thread::park();
            };
            stubborn.spawn(waits).unwrap();
            thread::yield_now();
        });
        run.unwrap();
        eprintln!("it goes on");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&[
            "1 green threads have not ended within 10ms",
            "'stubborn'",
            "parked until it is unparked",
            "spawned at tests/hub_end.rs:",
            "it goes on",
        ]);
    });
}

// ----- one hub at a time ------------------------------------------------------------

each_backend! {
    fn a_hub_cannot_be_run_within_another(backend) {
        let outer = Builder::new().backend(backend).run(|| {
            let error = Builder::new().backend(backend).run(|| ()).unwrap_err();
            assert!(error.to_string().contains("runs already"), "{error}");
            // The outer one is unharmed.
            let inside = thread::spawn(move || Builder::new().backend(backend).run(|| ()));
            assert_eq!(stats().live, 1);
            let error = inside.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("green thread"), "{error}");
            thread::spawn(|| 3).join().unwrap()
        });
        assert_eq!(outer.unwrap(), 3);
        assert_eq!(stats().blocks, 0);
    }

    fn an_idle_implicit_hub_makes_room_for_another(backend) {
        let first = thread::spawn(|| 1);
        assert_eq!(first.join().unwrap(), 1);
        assert_eq!(stats().spawned, 1);
        let root = thread::current();
        let (spawned, id) = Builder::new()
            .backend(backend)
            .run(|| {
                assert_eq!(runtime::backend(), backend);
                thread::spawn(|| {}).join().unwrap();
                (stats().spawned, thread::current().id())
            })
            .unwrap();
        assert_eq!((spawned, id), (1, root.id()));
        assert_eq!(stats().blocks, 0, "both hubs are gone");
        // A third one starts by itself.
        assert_eq!(thread::spawn(|| 2).join().unwrap(), 2);
        assert_eq!(stats().spawned, 1);
    }

    fn an_implicit_hub_with_live_green_threads_makes_no_room(backend) {
        let parked = thread::spawn(|| {
            thread::park();
            7
        });
        thread::yield_now();
        let error = Builder::new().backend(backend).run(|| ()).unwrap_err();
        assert!(error.to_string().contains("live green threads"), "{error}");
        parked.thread().unpark();
        assert_eq!(parked.join().unwrap(), 7);
        Builder::new().backend(backend).run(|| ()).unwrap();
    }

    fn hubs_come_one_after_the_other(backend) {
        for round in 0..50 {
            let handle = Builder::new()
                .backend(backend)
                .run(|| {
                    let handle = thread::spawn(move || {
                        thread::yield_now();
                        round
                    });
                    thread::yield_now();
                    thread::yield_now();
                    handle
                })
                .unwrap();
            assert_eq!(handle.join().unwrap(), round);
        }
    }
}

// ----- a thousand ends -----------------------------------------------------------------

/// Runs `body` on this many OS threads, a few at a time.
fn on_os_threads(count: usize, body: fn(usize)) {
    for first in (0..count).step_by(8) {
        let batch = first..count.min(first + 8);
        let threads: Vec<_> = batch.map(|n| std::thread::spawn(move || body(n))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// A socket that never has anything to read, and outlives everything.
fn silent() -> &'static TcpStream {
    use std::sync::OnceLock;
    static SILENT: OnceLock<(TcpStream, TcpStream)> = OnceLock::new();
    &SILENT.get_or_init(connection).0
}

/// Green threads in every state of waiting, over borrowed buffers.
fn busy_hub() -> [JoinHandle<()>; 5] {
    let handles = [
        thread::spawn(thread::park),
        thread::spawn(|| thread::sleep(Duration::from_secs(3600))),
        thread::spawn(|| {
            let mut buffer = [0; 64];
            let mut silent = silent();
            let _ = silent.read(&mut buffer);
        }),
        thread::spawn(|| {
            let inner = thread::spawn(|| {
                let mut buffer = vec![0; 1000];
                let _ = silent().peek(&mut buffer);
            });
            inner.join().unwrap();
        }),
        thread::spawn(|| {
            loop {
                thread::yield_now();
            }
        }),
    ];
    thread::yield_now();
    // The inner one has begun too.
    thread::yield_now();
    handles
}

#[test]
fn a_thousand_os_threads_end_with_their_implicit_hubs() {
    const TEST: &str = "a_thousand_os_threads_end_with_their_implicit_hubs";
    if is_child(TEST) {
        end_after(120);
        silent();
        on_os_threads(8, |_| drop(busy_hub()));
        let before = open_descriptors();
        on_os_threads(1000, |n| {
            let handles = busy_hub();
            // Some are detached, some joined elsewhere.
            if n % 2 == 0 {
                let [parked, sleeping, reading, ..] = handles;
                let joiner = std::thread::spawn(move || {
                    for handle in [parked, sleeping, reading] {
                        assert!(Cancelled::is(&handle.join().unwrap_err()));
                    }
                });
                ENDED.with(|ended| ended.set(Some(joiner)));
            }
        });
        assert_eq!(open_descriptors(), before);
        eprintln!("all have ended");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["all have ended"]);
    });
}

thread_local! {
    /// An OS thread that ends when this one's hub has.
    static ENDED: Cell<Option<std::thread::JoinHandle<()>>> = const { Cell::new(None) };
}

#[test]
fn a_thousand_hubs_that_were_asked_for_leave_nothing() {
    const TEST: &str = "a_thousand_hubs_that_were_asked_for_leave_nothing";
    static OWNED: Mutex<Option<Arc<()>>> = Mutex::new(None);
    if is_child(TEST) {
        end_after(120);
        silent();
        let owned = Arc::new(());
        *OWNED.lock().unwrap() = Some(Arc::clone(&owned));
        let body = |_| {
            let own = OWNED.lock().unwrap().clone().unwrap();
            Builder::new()
                .run(|| {
                    drop(busy_hub());
                    let (mut near, far) = connection();
                    thread::spawn(move || {
                        let _own = own;
                        let _ = near.read(&mut [0; 10]);
                        drop(far);
                    });
                    thread::yield_now();
                })
                .unwrap();
        };
        on_os_threads(8, body);
        let before = open_descriptors();
        on_os_threads(1000, body);
        assert_eq!(open_descriptors(), before);
        assert_eq!(Arc::strong_count(&owned), 2);
        eprintln!("all have ended");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["all have ended"]);
    });
}

#[test]
fn an_abandoned_one_may_be_at_any_point() {
    const TEST: &str = "an_abandoned_one_may_be_at_any_point";
    if is_child(TEST) {
        end_after(30);
        let home = std::thread::spawn(|| {
            // Its result is being dropped, and waits meanwhile.
            drop(thread::spawn(|| {
                OnDrop(|| {
                    loop {
                        thread::park();
                    }
                })
            }));
            // Its panic is on the way, and waits.
            let unwinding = thread::spawn(|| {
                let _waits = OnDrop(|| {
                    loop {
                        thread::park();
                    }
                });
                panic!("on purpose");
            });
            // It waits for one that is abandoned too.
            let parked = thread::spawn(thread::park);
            let joins = thread::spawn(move || parked.join());
            thread::yield_now();
            thread::yield_now();
            // And one has not begun.
            let early = thread::spawn(|| unreachable!("the OS thread ends"));
            (unwinding, joins, early)
        });
        let (unwinding, joins, early) = home.join().unwrap();
        assert_cancelled(unwinding);
        assert_cancelled(joins);
        assert_cancelled::<()>(early);
        eprintln!("abandoned");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["abandoned"]);
    });
}

// ----- thread-local destructors --------------------------------------------------------

/// What a thread-local owns and tries when it is destroyed.
struct Late {
    /// Whether the hub has ended by then.
    after: bool,
    parked: Option<JoinHandle<()>>,
    detached: Option<JoinHandle<()>>,
    ended: Option<JoinHandle<i32>>,
    thread: Thread,
    streams: Option<(TcpStream, TcpStream)>,
}

static PASSED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Late {
    fn drop(&mut self) {
        assert_eq!(
            stats().blocks == 0,
            self.after,
            "the order of the destructors"
        );
        self.thread.unpark();
        self.thread.unpark();
        drop(self.detached.take());
        assert_eq!(self.ended.take().unwrap().join().unwrap(), 9);
        // Waiting.
        let begin = Instant::now();
        thread::sleep(Duration::from_millis(2));
        thread::park_timeout(Duration::from_millis(2));
        thread::yield_now();
        assert!(begin.elapsed() >= Duration::from_millis(4));
        thread::current().unpark();
        thread::park();
        assert_eq!(thread::current().id(), thread::current().id());
        // I/O.
        let (mut near, mut far) = self.streams.take().unwrap();
        near.write_all(b"late").unwrap();
        let mut buffer = [0; 4];
        far.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"late");
        far.set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let begin = Instant::now();
        let error = far.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert!(begin.elapsed() >= Duration::from_millis(5));
        far.set_read_timeout(None).unwrap();
        let writer = std::thread::spawn(move || {
            let mut near = std::net::TcpStream::from(near);
            near.write_all(b"more").unwrap();
        });
        far.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"more");
        writer.join().unwrap();
        // Spawning and joining.
        let spawned = thread::Builder::new().spawn(|| 4);
        let parked = self.parked.take().unwrap();
        if self.after {
            let error = spawned.unwrap_err();
            assert!(error.to_string().contains("ends"), "{error}");
            assert!(Cancelled::is(&parked.join().unwrap_err()));
            let error = Builder::new().run(|| ()).unwrap_err();
            assert!(error.to_string().contains("ends"), "{error}");
        } else {
            assert_eq!(spawned.unwrap().join().unwrap(), 4);
            parked.join().unwrap();
        }
        PASSED.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    static ONE: RefCell<Option<Late>> = const { RefCell::new(None) };
    static OTHER: RefCell<Option<Late>> = const { RefCell::new(None) };
}

fn late(after: bool) -> Late {
    let parked = thread::spawn(thread::park);
    let ended = thread::spawn(|| 9);
    let detached = thread::spawn(thread::park);
    thread::yield_now();
    let thread = if after {
        detached.thread().clone()
    } else {
        parked.thread().clone()
    };
    Late {
        after,
        parked: Some(parked),
        detached: Some(detached),
        ended: Some(ended),
        thread,
        streams: Some(connection()),
    }
}

#[test]
fn thread_local_destructors_may_run_before_and_after_the_hubs_end() {
    const TEST: &str = "thread_local_destructors_may_run_before_and_after_the_hubs_end";
    if is_child(TEST) {
        end_after(30);
        let home = std::thread::spawn(|| {
            // Thread-locals are destroyed in the reverse order of their first
            // use, and the hub is one of them.
            ONE.with_borrow(|none| assert!(none.is_none()));
            thread::spawn(|| {}).join().unwrap();
            OTHER.with_borrow_mut(|other| *other = Some(late(false)));
            ONE.with_borrow_mut(|one| *one = Some(late(true)));
        });
        home.join().unwrap();
        assert_eq!(PASSED.load(Ordering::Relaxed), 2);
        eprintln!("both have passed");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["both have passed"]);
    });
}

/// Tries to get a hub when it is destroyed.
struct WantsHub;

impl Drop for WantsHub {
    fn drop(&mut self) {
        let mut passed = 0;
        match Builder::new().run(|| thread::spawn(|| 1).join().unwrap()) {
            Ok(one) => passed += one,
            Err(error) => {
                assert!(error.to_string().contains("ends"), "{error}");
                passed += 1;
            }
        }
        match thread::Builder::new().spawn(|| 1) {
            Ok(handle) => passed += handle.join().unwrap(),
            Err(error) => {
                assert!(error.to_string().contains("ends"), "{error}");
                passed += 1;
            }
        }
        PASSED.fetch_add(passed, Ordering::Relaxed);
    }
}

#[test]
fn a_hub_that_is_wanted_among_the_last_destructors_is_had_or_refused() {
    const TEST: &str = "a_hub_that_is_wanted_among_the_last_destructors_is_had_or_refused";
    thread_local!(static WANTS: WantsHub = const { WantsHub });
    if is_child(TEST) {
        end_after(30);
        // On an OS thread that never had one, that had one by itself, and that
        // had one that was asked for.
        let histories: [fn(); 4] = [
            || {},
            || thread::spawn(|| {}).join().unwrap(),
            || Builder::new().run(|| ()).unwrap(),
            || {
                thread::spawn(|| {}).join().unwrap();
                Builder::new().run(|| ()).unwrap();
            },
        ];
        for history in histories {
            std::thread::spawn(move || {
                WANTS.with(|_| {});
                history();
            })
            .join()
            .unwrap();
        }
        assert_eq!(PASSED.load(Ordering::Relaxed), 8);
        eprintln!("all have passed");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["all have passed"]);
    });
}

// ----- the process's end ---------------------------------------------------------------

#[test]
fn the_process_may_exit_with_live_green_threads() {
    const TEST: &str = "the_process_may_exit_with_live_green_threads";
    if is_child(TEST) {
        end_after(30);
        // The main OS thread's end, by a process that has no other.
        let from_the_root = || {
            drop(busy_hub());
            std::process::exit(3);
        };
        assert_eq!(forked(from_the_root), 3);
        let from_a_green_thread = || {
            drop(busy_hub());
            let handle = thread::spawn(|| {
                ONE.with_borrow(|none| assert!(none.is_none()));
                std::process::exit(4);
            });
            handle.join().unwrap()
        };
        assert_eq!(forked(from_a_green_thread), 4);
        let from_the_root_of_a_hub_of_its_own = || {
            let run = Builder::new().run(|| {
                drop(busy_hub());
                std::process::exit(5);
            });
            run.unwrap()
        };
        assert_eq!(forked(from_the_root_of_a_hub_of_its_own), 5);
        let from_another_os_thread = || {
            let other = std::thread::spawn(|| {
                drop(busy_hub());
                std::process::exit(6);
            });
            other.join().unwrap()
        };
        assert_eq!(forked(from_another_os_thread), 6);
        let from_another_os_threads_green_thread = || {
            let other = std::thread::spawn(|| {
                drop(busy_hub());
                let handle = thread::spawn(|| std::process::exit(7));
                handle.join().unwrap()
            });
            other.join().unwrap()
        };
        assert_eq!(forked(from_another_os_threads_green_thread), 7);
        eprintln!("all exit codes were kept");
        return;
    }
    child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        child.assert_says(&["all exit codes were kept"]);
        assert!(!child.stderr.contains("panicked"), "{child:#?}");
    });
}
