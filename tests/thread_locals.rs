//! Thread-locals of green threads: whose value it is, when it is made, and when
//! and in what order it is destroyed.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Rng;
use greenring::Cancelled;
use greenring::runtime::{Backend, Builder};
use greenring::thread::{self, AccessError, LocalKey};

type Log = Rc<RefCell<Vec<&'static str>>>;

/// Writes its name into a log when it is dropped.
struct Named(&'static str, Log);

impl Drop for Named {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

type Closure = Box<dyn FnOnce()>;

/// Runs a closure when it is dropped.
struct OnDrop(Option<Closure>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(closure) = self.0.take() {
            closure();
        }
    }
}

fn on_drop(closure: impl FnOnce() + 'static) -> OnDrop {
    OnDrop(Some(Box::new(closure)))
}

greenring::thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(1) };
    static FIRST: RefCell<Option<Named>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<Named>> = const { RefCell::new(None) };
    static THIRD: RefCell<Option<Named>> = const { RefCell::new(None) };
    static CLOSURE: RefCell<OnDrop> = const { RefCell::new(OnDrop(None)) };
    static OTHER_CLOSURE: RefCell<OnDrop> = const { RefCell::new(OnDrop(None)) };
}

fn text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().expect("a literal")
}

// ----- the macro and the key -------------------------------------------------------------

mod grammar {
    use std::cell::Cell;

    // As std's: nothing, attributes, visibility, with and without the last semicolon.
    greenring::thread_local!();
    greenring::thread_local!(pub static PLAIN: u8 = 1);
    greenring::thread_local! {
        /// A doc.
        #[allow(dead_code)]
        pub(super) static CONST: Cell<u8> = const { Cell::new(2) };
        pub static LAZY: Vec<u8> = { let three = 3; vec![three] };
        #[allow(non_upper_case_globals)]
        pub(crate) static lower: u8 = const { 2 + 1 } + 1;
        #[cfg(any())]
        static NEVER: ThisDoesNotExist = 0;
        static PRIVATE: fn(u8) -> u8 = |n| n + 1
    }

    pub fn private() -> u8 {
        PRIVATE.with(|add| add(4))
    }
}

both_backends! {
    fn the_macro_takes_what_stds_takes() {
        assert_eq!(grammar::PLAIN.with(|n| *n), 1);
        assert_eq!(grammar::CONST.get(), 2);
        assert_eq!(grammar::LAZY.with(|three| three[0]), 3);
        assert_eq!(grammar::lower.with(|n| *n), 4);
        assert_eq!(grammar::private(), 5);
        fn inside() -> u32 {
            greenring::thread_local!(static INSIDE: Cell<u32> = const { Cell::new(0) });
            INSIDE.set(INSIDE.get() + 1);
            INSIDE.get()
        }
        assert_eq!((inside(), inside()), (1, 2));
        let key: &'static LocalKey<u8> = &grammar::PLAIN;
        assert_eq!(format!("{key:?}"), "LocalKey { .. }");
    }

    fn the_destructor_of_a_result_that_nobody_fetches_finds_the_locals() {
        greenring::thread_local!(static WORD: RefCell<String> = RefCell::new("first".into()));
        let found = Rc::new(RefCell::new(String::new()));
        let theirs = Rc::clone(&found);
        drop(thread::spawn(move || {
            WORD.set("kept".into());
            on_drop(move || *theirs.borrow_mut() = WORD.take())
        }));
        thread::yield_now();
        assert_eq!(*found.borrow(), "kept");
    }

    fn cells_have_stds_shortcuts() {
        greenring::thread_local! {
            static CELL: Cell<Vec<u8>> = Cell::new(vec![1]);
            static REF_CELL: RefCell<Vec<u8>> = RefCell::new(vec![1]);
        }
        assert_eq!(CELL.replace(vec![2]), [1]);
        assert_eq!(CELL.take(), [2]);
        CELL.set(vec![3]);
        assert_eq!(CELL.take(), [3]);
        assert_eq!(REF_CELL.replace(vec![2]), [1]);
        REF_CELL.with_borrow_mut(|bytes| bytes.push(3));
        assert_eq!(REF_CELL.with_borrow(Vec::len), 2);
        assert_eq!(REF_CELL.take(), [2, 3]);
        REF_CELL.set(vec![4]);
        let set = || REF_CELL.with_borrow(|_| REF_CELL.set(vec![]));
        assert!(catch_unwind(AssertUnwindSafe(set)).is_err());
        assert_eq!(REF_CELL.take(), [4]);
    }

    fn a_set_does_not_run_the_initialiser() {
        greenring::thread_local! {
            static CELL: Cell<u8> = panic!("the initialiser runs");
            static REF_CELL: RefCell<u8> = panic!("the initialiser runs");
            static TAKEN_ALONG: Cell<u8> = const { Cell::new(0) };
        }
        let in_a_green_thread = || {
            CELL.set(1);
            REF_CELL.set(2);
            assert_eq!((CELL.get(), REF_CELL.take()), (1, 2));
        };
        thread::spawn(in_a_green_thread).join().unwrap();
        std::thread::spawn(in_a_green_thread).join().unwrap();
        thread::spawn(TAKEN_ALONG.inherit(|| ())).join().unwrap();
    }
}

#[test]
fn a_key_is_all_that_stds_is() {
    fn is<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    is::<LocalKey<Rc<u8>>>();
    is::<std::thread::LocalKey<Rc<u8>>>();
    is::<AccessError>();
    let refused = std::thread::spawn(|| {
        struct Asks(std::sync::mpsc::Sender<AccessError>);
        impl Drop for Asks {
            fn drop(&mut self) {
                let error = ASKS.try_with(|_| ()).unwrap_err();
                self.0.send(error).unwrap();
            }
        }
        greenring::thread_local!(static ASKS: RefCell<Option<Asks>> = const { RefCell::new(None) });
        let (sender, receiver) = std::sync::mpsc::channel();
        ASKS.set(Some(Asks(sender)));
        receiver
    });
    let error = refused.join().unwrap().recv().unwrap();
    assert_eq!(error.to_string(), "already destroyed");
    assert_eq!(format!("{error:?}"), "AccessError");
    let _: &dyn std::error::Error = &error;
}

// ----- whose value it is ---------------------------------------------------------------

both_backends! {
    fn every_green_thread_has_a_value_of_its_own() {
        let mut rng = Rng::new("every_green_thread_has_a_value_of_its_own");
        NUMBER.set(7);
        let handles: Vec<_> = (0..100)
            .map(|n| {
                let waits = rng.below(5);
                thread::spawn(move || {
                    assert_eq!(NUMBER.get(), 1);
                    NUMBER.set(n);
                    for _ in 0..waits {
                        thread::yield_now();
                        assert_eq!(NUMBER.get(), n);
                    }
                })
            })
            .collect();
        for result in thread::join_all(handles) {
            result.unwrap();
        }
        // A block and a stack that are used again bring nothing with them.
        assert_eq!(thread::spawn(|| NUMBER.get()).join().unwrap(), 1);
        assert_eq!(NUMBER.get(), 7);
    }

    // gevent: test__local, `__init__` once per greenlet.
    fn the_initialiser_runs_once_per_green_thread_that_uses_the_key() {
        greenring::thread_local!(static MADE: u32 = COUNT.with(|count| {
            count.set(count.get() + 1);
            count.get()
        }));
        std::thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
        for n in 1..=3 {
            let handle = thread::spawn(|| (MADE.with(|n| *n), MADE.with(|n| *n)));
            assert_eq!(handle.join().unwrap(), (n, n));
            thread::spawn(|| ()).join().unwrap();
        }
        assert_eq!(COUNT.get(), 3);
    }

    fn other_os_threads_have_others() {
        NUMBER.set(2);
        let theirs = std::thread::spawn(|| {
            let before = NUMBER.replace(3);
            let green = thread::spawn(|| NUMBER.replace(4)).join().unwrap();
            (before, green, NUMBER.get())
        });
        assert_eq!(theirs.join().unwrap(), (1, 1, 3));
        assert_eq!(NUMBER.get(), 2);
    }

    fn a_value_is_taken_along_on_request() {
        greenring::thread_local!(static USER: RefCell<String> = panic!("not set"));
        NUMBER.set(5);
        USER.set("ada".to_owned());
        let both = USER.inherit(NUMBER.inherit(|| {
            thread::yield_now();
            let seen = (USER.take(), NUMBER.get());
            // And further, from there.
            NUMBER.set(6);
            thread::scope(|s| {
                let nested = s.spawn(NUMBER.inherit(|| NUMBER.get()));
                assert_eq!(nested.join().unwrap(), 6);
            });
            seen
        }));
        NUMBER.set(9);
        assert_eq!(thread::spawn(both).join().unwrap(), ("ada".to_owned(), 5));
        // The caller's own is untouched, and what is there already is replaced.
        assert_eq!((USER.take(), NUMBER.get()), ("ada".to_owned(), 9));
        let later = NUMBER.inherit(|| NUMBER.get());
        NUMBER.set(10);
        assert_eq!((later(), NUMBER.get()), (9, 9));
    }

    fn a_value_that_is_replaced_lives_on_in_those_who_use_it() {
        greenring::thread_local!(static TEXT: String = "first".to_owned());
        let set = TEXT.inherit(|| TEXT.with(|text| assert_eq!(text, "first")));
        TEXT.with(|text| {
            set();
            assert_eq!(text, "first");
            TEXT.with(|other| assert_ne!(text.as_ptr(), other.as_ptr()));
        });
    }
}

#[test]
fn hubs_of_one_os_thread_share_the_values_of_its_roots() {
    for backend in [Backend::Uring, Backend::Epoll] {
        if !common::is_available(backend) {
            continue;
        }
        NUMBER.set(1);
        for n in 1..4 {
            let body = move || {
                assert_eq!(NUMBER.replace(n + 1), n);
                assert_eq!(thread::spawn(|| NUMBER.get()).join().unwrap(), 1);
            };
            Builder::new().backend(backend).run(body).unwrap();
            assert_eq!(NUMBER.get(), n + 1);
        }
    }
}

// ----- making a value ------------------------------------------------------------------

both_backends! {
    fn an_initialiser_may_wait_while_another_green_thread_uses_the_key() {
        greenring::thread_local!(static SLOW: thread::ThreadId = {
            thread::yield_now();
            thread::sleep(Duration::from_micros(100));
            thread::current().id()
        });
        let handles: Vec<_> = (0..10)
            .map(|_| thread::spawn(|| SLOW.with(|id| *id) == thread::current().id()))
            .collect();
        for result in thread::join_all(handles) {
            assert!(result.unwrap());
        }
    }

    fn an_initialiser_that_panics_is_tried_again() {
        std::thread_local!(static TRIES: Cell<u32> = const { Cell::new(0) });
        greenring::thread_local!(static THIRD_TIME: u32 = {
            TRIES.set(TRIES.get() + 1);
            assert_eq!(TRIES.get() % 3, 0, "on purpose");
            TRIES.get()
        });
        let tries = || {
            assert!(catch_unwind(|| THIRD_TIME.with(|_| ())).is_err());
            assert!(catch_unwind(|| THIRD_TIME.try_with(|_| ())).is_err());
            THIRD_TIME.with(|n| *n)
        };
        assert_eq!(thread::spawn(tries).join().unwrap(), 3);
        assert_eq!(thread::spawn(tries).join().unwrap(), 6);
    }

    fn of_an_initialiser_that_uses_its_own_key_the_first_value_stays() {
        std::thread_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });
        greenring::thread_local!(static NESTED: (u32, Option<Named>) = {
            DEPTH.set(DEPTH.get() + 1);
            let depth = DEPTH.get();
            if depth < 3 {
                // Its reference stays good, although an outer value is made later.
                NESTED.with(|inner| assert_eq!(inner.0, 3));
            }
            let name = ["", "outermost", "middle", "innermost"][depth as usize];
            (depth, Some(Named(name, LOG.with(Rc::clone))))
        });
        std::thread_local!(static LOG: Log = Rc::default());
        DEPTH.set(0);
        LOG.with(|log| log.borrow_mut().clear());
        thread::spawn(|| {
            assert_eq!(NESTED.with(|value| value.0), 3);
            LOG.with(|log| assert_eq!(*log.borrow(), ["middle", "outermost"]));
        })
        .join()
        .unwrap();
        LOG.with(|log| assert_eq!(*log.borrow(), ["middle", "outermost", "innermost"]));
    }

    fn a_reference_stays_good_while_other_keys_are_used_for_the_first_time() {
        macro_rules! keys {
            ($($name:ident)*) => {
                greenring::thread_local!($(static $name: String = stringify!($name).to_owned();)*);
                fn keys() -> Vec<&'static LocalKey<String>> {
                    vec![$(&$name),*]
                }
            };
        }
        keys!(A B C D E F G H I J K L M N O P Q R S T U V W X Y Z);
        fn nest(keys: &[&'static LocalKey<String>]) {
            let Some((key, rest)) = keys.split_first() else {
                return thread::yield_now();
            };
            key.with(|name| {
                let (address, copy) = (name.as_ptr(), name.clone());
                nest(rest);
                key.with(|again| assert_eq!(again.as_ptr(), address));
                assert_eq!(*name, copy);
            });
        }
        let handles = (0..3).map(|_| thread::spawn(|| nest(&keys())));
        for result in thread::join_all(handles) {
            result.unwrap();
        }
        nest(&keys());
    }
}

// ----- destroying it --------------------------------------------------------------------

both_backends! {
    // gevent #981 and test__local: freed at exit.
    fn values_are_destroyed_after_the_body_and_its_captures_and_before_join_returns() {
        let log = Log::default();
        let captured = Named("captured", Rc::clone(&log));
        let ours = Rc::clone(&log);
        let handle = thread::spawn(move || {
            FIRST.set(Some(Named("thread-local", Rc::clone(&ours))));
            let _captured = captured;
            let _variable = Named("variable", Rc::clone(&ours));
            Named("result", ours)
        });
        let result = handle.join().unwrap();
        assert_eq!(*log.borrow(), ["variable", "captured", "thread-local"]);
        drop(result);
        assert_eq!(log.borrow().len(), 4);
    }

    fn the_last_that_was_started_is_destroyed_first() {
        fn fill(log: &Log) {
            for (key, name) in [(&SECOND, "a"), (&FIRST, "b"), (&THIRD, "c")] {
                key.set(Some(Named(name, Rc::clone(log))));
            }
            // A new value in an old place does not change the order.
            drop(SECOND.replace(Some(Named("A", Rc::clone(log)))));
        }
        let log = Log::default();
        let ours = Rc::clone(&log);
        thread::spawn(move || fill(&ours)).join().unwrap();
        assert_eq!(*log.borrow(), ["a", "c", "b", "A"]);
    }

    fn a_cancelled_green_thread_destroys_them() {
        let log = Log::default();
        let ours = Rc::clone(&log);
        let handle = thread::spawn(move || {
            FIRST.set(Some(Named("thread-local", ours)));
            thread::park();
        });
        thread::yield_now();
        handle.cancel();
        assert!(Cancelled::is(&handle.join().unwrap_err()));
        assert_eq!(*log.borrow(), ["thread-local"]);

        // Before its start it has none, but its captures may use some.
        let ours = Rc::clone(&log);
        let captured = on_drop(move || FIRST.set(Some(Named("of a capture", ours))));
        let handle = thread::spawn(move || drop(captured));
        handle.cancel();
        assert!(Cancelled::is(&handle.join().unwrap_err()));
        assert_eq!(*log.borrow(), ["thread-local", "of a capture"]);
    }

    fn a_green_thread_that_panics_destroys_them() {
        let log = Log::default();
        let ours = Rc::clone(&log);
        let handle = thread::spawn(move || {
            FIRST.set(Some(Named("thread-local", ours)));
            panic!("on purpose");
        });
        assert_eq!(text(&*handle.join().unwrap_err()), "on purpose");
        assert_eq!(*log.borrow(), ["thread-local"]);
    }

    fn a_destructor_may_wait_and_is_not_interrupted() {
        let log = Log::default();
        let ours = Rc::clone(&log);
        let handle = thread::spawn(move || {
            CLOSURE.set(on_drop(move || {
                thread::sleep(Duration::from_micros(100));
                thread::park();
                thread::yield_now();
                ours.borrow_mut().push("waited");
            }));
            thread::park();
        });
        thread::yield_now();
        handle.cancel();
        // In its destructor by now.
        while log.borrow().is_empty() {
            assert!(!handle.is_finished());
            handle.cancel();
            handle.thread().unpark();
            thread::yield_now();
        }
        assert!(Cancelled::is(&handle.join().unwrap_err()));
    }

    fn a_destructor_may_use_other_keys_and_start_them() {
        let log = Log::default();
        let ours = Rc::clone(&log);
        thread::spawn(move || {
            FIRST.set(Some(Named("first", Rc::clone(&ours))));
            CLOSURE.set(on_drop(move || {
                // There already, and destroyed later.
                FIRST.with_borrow(|first| assert_eq!(first.as_ref().unwrap().0, "first"));
                // Started only now.
                SECOND.set(Some(Named("second", Rc::clone(&ours))));
                OTHER_CLOSURE.set(on_drop(move || {
                    // Gone already.
                    assert!(CLOSURE.try_with(|_| ()).is_err());
                    assert!(catch_unwind(|| SECOND.take().is_some()).unwrap());
                    THIRD.set(Some(Named("third", ours)));
                }));
            }));
        })
        .join()
        .unwrap();
        assert_eq!(*log.borrow(), ["second", "third", "first"]);
    }

    fn during_and_after_its_destruction_a_value_cannot_be_had() {
        let said = Rc::new(RefCell::new(String::new()));
        let ours = Rc::clone(&said);
        thread::spawn(move || {
            OTHER_CLOSURE.set(on_drop(|| {
                assert!(CLOSURE.try_with(|_| ()).is_err());
                assert!(OTHER_CLOSURE.try_with(|_| ()).is_err());
            }));
            CLOSURE.set(on_drop(move || {
                assert!(CLOSURE.try_with(|_| ()).is_err());
                for access in [
                    (|| CLOSURE.with(|_| ())) as fn(),
                    || CLOSURE.set(OnDrop(None)),
                ] {
                    let payload = catch_unwind(access).unwrap_err();
                    *ours.borrow_mut() = payload.downcast_ref::<String>().unwrap().clone();
                }
            }));
        })
        .join()
        .unwrap();
        assert_eq!(
            *said.borrow(),
            "cannot access a Thread Local Storage value during or after destruction: AccessError"
        );
    }

    fn what_has_no_destructor_is_there_for_all_destructors() {
        let seen = Rc::new(Cell::new(0));
        let ours = Rc::clone(&seen);
        thread::spawn(move || {
            CLOSURE.set(on_drop(move || ours.set(NUMBER.get())));
            // Started later, so it would be destroyed earlier.
            NUMBER.set(8);
        })
        .join()
        .unwrap();
        assert_eq!(seen.get(), 8);
    }

    fn a_destructor_that_panics_makes_the_result() {
        let log = Log::default();
        let ours = Rc::clone(&log);
        let handle = thread::spawn(move || {
            // Destroyed after the panic.
            FIRST.set(Some(Named("first", Rc::clone(&ours))));
            CLOSURE.set(on_drop(|| panic!("the second panic")));
            OTHER_CLOSURE.set(on_drop(|| panic!("the first panic")));
            Named("result", ours)
        });
        let payload = handle.join().err().expect("it has panicked");
        assert_eq!(text(&*payload), "the first panic");
        assert_eq!(*log.borrow(), ["result", "first"]);
    }

    fn a_destructor_that_panics_does_not_hide_an_earlier_error() {
        let panicked = thread::spawn(|| {
            CLOSURE.set(on_drop(|| panic!("of the destructor")));
            panic!("of the body");
        });
        assert_eq!(text(&*panicked.join().unwrap_err()), "of the body");
        let cancelled = thread::spawn(|| {
            CLOSURE.set(on_drop(|| panic!("of the destructor")));
            thread::park();
        });
        thread::yield_now();
        cancelled.cancel();
        assert!(Cancelled::is(&cancelled.join().unwrap_err()));
    }

    fn a_scope_hears_of_a_destructor_that_panics() {
        let scope = || thread::scope(|s| drop(s.spawn(|| {
            CLOSURE.set(on_drop(|| panic!("of the destructor")));
        })));
        assert!(catch_unwind(scope).is_err());
    }

    fn a_result_and_a_payload_that_panic_besides_end_nothing() {
        let handle = thread::spawn(|| {
            // The second panic, of which the payload is dropped.
            CLOSURE.set(on_drop(|| std::panic::panic_any(PanicsInDrop)));
            OTHER_CLOSURE.set(on_drop(|| panic!("the first panic")));
            on_drop(|| panic!("of the result"))
        });
        let payload = handle.join().err().expect("it has panicked");
        assert_eq!(text(&*payload), "the first panic");
    }

    fn a_result_that_nobody_fetches_may_use_a_key() {
        let log = Log::default();
        let ours = Rc::clone(&log);
        drop(thread::spawn(move || {
            on_drop(move || {
                CLOSURE.set(on_drop(move || {
                    thread::yield_now();
                    FIRST.set(Some(Named("of the result", ours)));
                }));
            })
        }));
        while log.borrow().is_empty() {
            thread::yield_now();
        }
    }

    fn each_of_many_green_threads_destroys_its_own() {
        let alive = Rc::new(());
        greenring::thread_local!(static HELD: RefCell<Option<Rc<()>>> = const { RefCell::new(None) });
        let mut rng = Rng::new("each_of_many_green_threads_destroys_its_own");
        let mut handles = Vec::new();
        for _ in 0..1000 {
            let held = Rc::clone(&alive);
            let waits = rng.below(4);
            handles.push(thread::spawn(move || {
                HELD.set(Some(held));
                for _ in 0..waits {
                    thread::yield_now();
                }
                if waits == 3 {
                    thread::park();
                }
            }));
            if rng.below(8) == 0 {
                thread::yield_now();
            }
        }
        for handle in &handles {
            if rng.below(2) == 0 {
                handle.cancel();
            } else {
                handle.thread().unpark();
            }
        }
        thread::join_all(handles);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}

/// A panic's payload that panics itself.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("of a payload");
    }
}

// ----- the ends of OS threads, hubs and processes ---------------------------------------------

#[test]
fn the_end_of_a_hub_destroys_those_of_its_green_threads_and_not_the_roots() {
    for backend in [Backend::Uring, Backend::Epoll] {
        if !common::is_available(backend) {
            continue;
        }
        let log = Log::default();
        let ours = Rc::clone(&log);
        let body = move || {
            FIRST.set(Some(Named("of the root", Rc::clone(&ours))));
            for name in ["one", "other"] {
                let ours = Rc::clone(&ours);
                drop(thread::spawn(move || {
                    FIRST.set(Some(Named(name, ours)));
                    thread::park();
                }));
            }
            thread::yield_now();
        };
        Builder::new().backend(backend).run(body).unwrap();
        log.borrow_mut().sort_unstable();
        assert_eq!(*log.borrow(), ["one", "other"]);
        drop(FIRST.take());
        assert_eq!(log.borrow().len(), 3);
    }
}

/// What the destructors of an OS thread's locals have said.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        // It waits, on a hub if there is one, and starts another key.
        thread::sleep(Duration::from_micros(100));
        let started = SAYS_LATE.try_with(|_| ()).is_ok();
        let plain = NUMBER.try_with(Cell::get);
        let said = format!("{} {started} {:?}", self.0, plain.ok());
        SAID.lock().unwrap().push(said);
    }
}

greenring::thread_local! {
    static SAYS: RefCell<Option<Says>> = const { RefCell::new(None) };
    static SAYS_MORE: RefCell<Option<Says>> = const { RefCell::new(None) };
    static SAYS_LATE: Says = const { Says("late") };
}

#[test]
fn an_os_threads_values_are_destroyed_at_its_end() {
    std::thread_local!(static STDS: RefCell<Option<Says>> = const { RefCell::new(None) });
    fn body() {
        NUMBER.set(3);
        SAYS.set(Some(Says("first")));
        SAYS_MORE.set(Some(Says("more")));
    }
    fn with_a_hub_before() {
        thread::spawn(|| ()).join().unwrap();
        body();
    }
    fn with_a_hub_behind() {
        body();
        drop(thread::spawn(thread::park));
        thread::yield_now();
    }
    for run in [body as fn(), with_a_hub_before, with_a_hub_behind] {
        SAID.lock().unwrap().clear();
        std::thread::spawn(run).join().unwrap();
        let said = std::mem::take(&mut *SAID.lock().unwrap());
        let late = "late false Some(3)";
        assert_eq!(said, ["more true Some(3)", late, "first false Some(3)"]);
    }
    // One of std's that was used before, and so is destroyed after all of ours.
    let last = || {
        STDS.set(Some(Says("std's")));
        NUMBER.set(3);
    };
    std::thread::spawn(last).join().unwrap();
    let said = std::mem::take(&mut *SAID.lock().unwrap());
    assert_eq!(said, ["std's false None"]);
}

#[test]
fn the_exit_of_the_process_leaves_them_and_ends_nothing_badly() {
    const TEST: &str = "the_exit_of_the_process_leaves_them_and_ends_nothing_badly";
    fn fill(name: &'static str) {
        CLOSURE.set(on_drop(move || {
            eprintln!("{name} is destroyed");
            thread::sleep(Duration::from_micros(100));
        }));
    }
    if common::is_child("on a green thread") {
        fill("the root's");
        let _ = thread::spawn(|| {
            fill("the green thread's");
            CLOSURE.with(|_| std::process::exit(5));
        })
        .join();
        unreachable!("the process has ended");
    }
    if common::is_child("on the root") {
        drop(thread::spawn(|| {
            fill("the green thread's");
            thread::park();
        }));
        thread::yield_now();
        fill("the root's");
        CLOSURE.with(|_| std::process::exit(5));
    }
    for scenario in ["on a green thread", "on the root"] {
        common::child_on_each_backend(TEST, scenario, &[], |child| {
            assert_eq!(child.status.code(), Some(5), "{}", child.stderr);
            assert!(!child.stderr.contains("the green thread's"), "{child:?}");
        });
    }
}

#[test]
fn os_threads_that_take_a_keys_number_at_once_agree_on_it() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    greenring::thread_local!(static COUNTED: usize = MADE.fetch_add(1, Ordering::Relaxed));
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                start.wait();
                let first = COUNTED.with(|n| *n);
                assert_eq!(COUNTED.with(|n| *n), first);
            });
        }
    });
    assert_eq!(MADE.load(Ordering::Relaxed), 8);
}
