//! Futures that are waited for by parking.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::Rng;
use greenring::runtime::{Backend, Builder};
use greenring::{Cancelled, block_on, thread, time};

/// Somebody will say that it is so, from wherever.
#[derive(Clone, Default)]
struct Promise(Arc<Mutex<(bool, Option<Waker>)>>);

impl Promise {
    fn keep(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_awaited(&self) -> bool {
        self.0.lock().unwrap().1.is_some()
    }
}

impl Future for Promise {
    type Output = ();

    fn poll(self: Pin<&mut Promise>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Counts its drops.
struct Counts(Rc<Cell<u32>>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A future that is never ready and counts its drops, and that count.
fn never() -> (impl Future<Output = ()>, Rc<Cell<u32>>) {
    let drops = Rc::new(Cell::new(0));
    let counts = Counts(Rc::clone(&drops));
    let never = async move {
        let _counts = counts;
        std::future::pending().await
    };
    (never, drops)
}

/// Is pending once, after it has called its waker.
async fn give_way() {
    let mut pending = true;
    poll_fn(|context| {
        if !pending {
            return Poll::Ready(());
        }
        pending = false;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A channel between futures of one green thread.
struct Channel {
    messages: RefCell<VecDeque<u32>>,
    receiver: RefCell<Option<Waker>>,
}

impl Channel {
    fn send(&self, message: u32) {
        self.messages.borrow_mut().push_back(message);
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    async fn receive(&self) -> u32 {
        poll_fn(|context| match self.messages.borrow_mut().pop_front() {
            Some(message) => Poll::Ready(message),
            None => {
                *self.receiver.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// Both at once; ready when both are.
async fn join<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut a, mut b) = (None, None);
    poll_fn(|context| {
        if a.is_none()
            && let Poll::Ready(ready) = one.as_mut().poll(context)
        {
            a = Some(ready);
        }
        if b.is_none()
            && let Poll::Ready(ready) = other.as_mut().poll(context)
        {
            b = Some(ready);
        }
        match (a.take(), b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            parts => {
                (a, b) = parts;
                Poll::Pending
            }
        }
    })
    .await
}

both_backends! {
    fn a_future_that_is_ready_gives_its_output_at_once() {
        let text = String::from("borrowed");
        assert_eq!(block_on(async { text.len() }), 8);
        let siblings = thread::spawn(|| ());
        assert_eq!(block_on(ready(1)), 1);
        // Nobody had a turn.
        assert!(!siblings.is_finished());
    }

    fn a_green_thread_wakes_another() {
        let promise = Promise::default();
        let awaited = promise.clone();
        let waits = thread::spawn(move || block_on(async move {
            awaited.await;
            7
        }));
        thread::yield_now();
        assert!(promise.is_awaited() && !waits.is_finished());
        promise.keep();
        assert_eq!(waits.join().unwrap(), 7);
    }

    fn the_root_lets_the_others_run_while_it_waits() {
        let promise = Promise::default();
        let theirs = promise.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_micros(100));
            theirs.keep();
        });
        let mut polls = 0;
        let mut steps = pin!(async {
            give_way().await;
            promise.await;
        });
        block_on(poll_fn(|context| {
            polls += 1;
            steps.as_mut().poll(context)
        }));
        // One per wake, and the first.
        assert_eq!(polls, 3);
    }

    fn an_os_thread_wakes_a_green_thread() {
        let promise = Promise::default();
        let theirs = promise.clone();
        let os_thread = std::thread::spawn(move || {
            while !theirs.is_awaited() {
                std::thread::yield_now();
            }
            theirs.keep();
        });
        thread::spawn(move || block_on(promise)).join().unwrap();
        os_thread.join().unwrap();
    }

    fn a_hub_on_another_os_thread_wakes_and_is_woken() {
        let (ping, pong) = (Promise::default(), Promise::default());
        let (theirs, answer) = (ping.clone(), pong.clone());
        let os_thread = std::thread::spawn(move || {
            thread::spawn(move || {
                block_on(theirs);
                answer.keep();
            })
            .join()
            .unwrap();
        });
        thread::spawn(move || {
            ping.keep();
            block_on(pong);
        })
        .join()
        .unwrap();
        os_thread.join().unwrap();
    }

    fn a_wake_during_the_poll_is_not_lost() {
        block_on(give_way());
        // From an OS thread, too, which is done before the poll returns.
        let mut polls = 0;
        block_on(poll_fn(|context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            std::thread::spawn(move || waker.wake()).join().unwrap();
            Poll::Pending
        }));
        assert_eq!(polls, 3);
    }

    fn a_future_that_wakes_itself_lets_the_others_run() {
        let over = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&over);
        thread::spawn(move || {
            thread::yield_now();
            theirs.set(true);
        });
        block_on(async {
            while !over.get() {
                give_way().await;
            }
        });
    }

    fn cancelled_it_drops_the_future() {
        let (future, drops) = never();
        let handle = thread::spawn(move || block_on(future));
        thread::yield_now();
        assert_eq!(drops.get(), 0);
        handle.cancel();
        assert!(Cancelled::is(&handle.join().unwrap_err()));
        assert_eq!(drops.get(), 1);
        // One that never waits for anything but its own wake is reached, too.
        let busy = thread::spawn(|| block_on(async {
            loop {
                give_way().await;
            }
        }));
        thread::yield_now();
        busy.cancel();
        assert!(Cancelled::is(&busy.join().unwrap_err()));
    }

    fn a_time_limit_drops_the_future() {
        let (future, drops) = never();
        let limited = time::timeout(Duration::from_millis(1), || block_on(future));
        assert!(limited.is_err());
        assert_eq!(drops.get(), 1);
        let quick = time::timeout(Duration::from_secs(3600), || block_on(give_way()));
        assert_eq!(quick, Ok(()));
    }

    fn a_panic_of_the_future_passes_through() {
        let (never, drops) = never();
        let panics = async {
            give_way().await;
            if drops.get() == 0 {
                panic!("on purpose");
            }
            never.await;
        };
        let payload = catch_unwind(AssertUnwindSafe(|| block_on(panics))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
        assert_eq!(drops.get(), 1);
    }

    fn calls_nest_and_futures_may_wait_in_a_poll() {
        let (inner, outer) = (Promise::default(), Promise::default());
        let (theirs, others) = (inner.clone(), outer.clone());
        thread::spawn(move || {
            thread::yield_now();
            theirs.keep();
            thread::yield_now();
            others.keep();
        });
        let answer = block_on(async {
            let inside = block_on(async {
                inner.await;
                thread::sleep(Duration::from_micros(100));
                1
            });
            outer.await;
            block_on(give_way());
            inside + 1
        });
        assert_eq!(answer, 2);
    }

    fn wakers_outlive_the_call() {
        let waker = block_on(poll_fn(|context| Poll::Ready(context.waker().clone())));
        waker.wake_by_ref();
        // Whoever waits now, for something else, is not disturbed.
        let promise = Promise::default();
        let (theirs, late) = (promise.clone(), waker.clone());
        let handle = thread::spawn(move || {
            late.wake();
            std::thread::spawn(move || waker.wake()).join().unwrap();
            assert!(theirs.is_awaited());
            theirs.keep();
        });
        let mut polls = 0;
        let mut promise = pin!(promise);
        block_on(poll_fn(|context| {
            polls += 1;
            promise.as_mut().poll(context)
        }));
        assert_eq!(polls, 2);
        handle.join().unwrap();
    }

    fn the_park_token_is_left_alone() {
        thread::current().unpark();
        let promise = Promise::default();
        let theirs = promise.clone();
        let root = thread::current();
        thread::spawn(move || {
            // Does not end the other wait.
            root.unpark();
            thread::yield_now();
            theirs.keep();
        });
        block_on(promise);
        // It is there still, and there is one only.
        thread::park();
        assert!(time::timeout(Duration::from_millis(1), thread::park).is_err());
        // And a waker gives none.
        block_on(give_way());
        assert!(time::timeout(Duration::from_millis(1), thread::park).is_err());
    }

    fn ten_thousand_wakes_from_two_os_threads_are_all_seen() {
        const WAKES: u64 = 5_000;
        let handles: Vec<_> = (0..2)
            .map(|_| {
                let (sender, wakers) = mpsc::channel::<(Waker, Arc<AtomicU64>)>();
                let os_thread = std::thread::spawn(move || {
                    let mut rng = Rng::with_seed(1);
                    for (waker, count) in wakers {
                        if rng.below(4) == 0 {
                            std::thread::yield_now();
                        }
                        count.fetch_add(1, Ordering::Release);
                        waker.wake();
                    }
                });
                (sender, os_thread)
            })
            .collect();
        let count = Arc::new(AtomicU64::new(0));
        for round in 1..=WAKES {
            // Ready when both have answered.
            let mut asked = false;
            block_on(poll_fn(|context| {
                if !asked {
                    asked = true;
                    for (sender, _) in &handles {
                        let wake = (context.waker().clone(), Arc::clone(&count));
                        sender.send(wake).unwrap();
                    }
                }
                if count.load(Ordering::Acquire) == 2 * round {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
        }
        assert_eq!(count.load(Ordering::Relaxed), 2 * WAKES);
        for (sender, os_thread) in handles {
            drop(sender);
            os_thread.join().unwrap();
        }
    }

    fn two_futures_talk_over_a_channel() {
        let channel = Channel { messages: RefCell::default(), receiver: RefCell::default() };
        let produce = async {
            for n in 1..=100 {
                channel.send(n);
                if n % 3 == 0 {
                    give_way().await;
                }
            }
            channel.send(0);
        };
        let consume = async {
            let mut sum = 0;
            loop {
                match channel.receive().await {
                    0 => break sum,
                    n => sum += n,
                }
            }
        };
        assert_eq!(block_on(join(consume, produce)), (5050, ()));
        // Over a channel that another green thread fills.
        let shared = Rc::new(Channel { messages: RefCell::default(), receiver: RefCell::default() });
        let theirs = Rc::clone(&shared);
        thread::spawn(move || {
            for n in 1..=10 {
                thread::yield_now();
                theirs.send(n);
            }
        });
        let both = block_on(join(shared.receive(), shared.receive()));
        assert_eq!(both, (1, 2));
    }

    fn a_thousand_green_threads_wait_for_futures_at_once() {
        let mut rng = Rng::new("a_thousand_green_threads_wait_for_futures_at_once");
        let promises: Vec<_> = (0..1000).map(|_| Promise::default()).collect();
        let handles: Vec<_> = promises
            .iter()
            .cloned()
            .map(|promise| thread::spawn(move || block_on(promise)))
            .collect();
        thread::yield_now();
        let mut order: Vec<usize> = (0..1000).collect();
        for n in (1..1000).rev() {
            order.swap(n, rng.below(n as u64 + 1) as usize);
        }
        let theirs = order.split_off(500);
        let sent: Vec<_> = theirs.into_iter().map(|n| promises[n].clone()).collect();
        let os_thread = std::thread::spawn(move || sent.iter().for_each(Promise::keep));
        for n in order {
            promises[n].keep();
        }
        for result in thread::join_all(handles) {
            result.unwrap();
        }
        os_thread.join().unwrap();
    }
}

#[test]
fn an_os_thread_without_a_hub_blocks_and_gets_none() {
    if common::is_child("alone") {
        let descriptors = common::open_descriptors();
        let promise = Promise::default();
        let theirs = promise.clone();
        let os_thread = std::thread::spawn(move || {
            while !theirs.is_awaited() {
                std::thread::yield_now();
            }
            theirs.keep();
        });
        block_on(promise);
        block_on(give_way());
        os_thread.join().unwrap();
        assert_eq!(common::open_descriptors(), descriptors);
        return;
    }
    let test = "an_os_thread_without_a_hub_blocks_and_gets_none";
    common::child(test, "alone", []).assert_success();
}

#[test]
fn a_waker_of_a_hub_that_has_ended_does_nothing() {
    for backend in [Backend::Uring, Backend::Epoll] {
        if !common::is_available(backend) {
            continue;
        }
        let promise = Promise::default();
        let awaited = promise.clone();
        let ended = Builder::new().backend(backend).run(|| {
            drop(thread::spawn(move || block_on(awaited)));
            thread::yield_now();
        });
        ended.unwrap();
        assert!(promise.is_awaited());
        promise.keep();
    }
}

#[test]
fn a_wait_that_nothing_can_end_is_a_panic_that_names_it() {
    const TEST: &str = "a_wait_that_nothing_can_end_is_a_panic_that_names_it";
    if common::is_child("stuck") {
        let code = common::forked(|| {
            drop(thread::spawn(|| block_on(std::future::pending::<()>())));
            block_on(std::future::pending())
        });
        assert_eq!(code, 101);
        return;
    }
    common::child_on_each_backend(TEST, "stuck", &[], |child| {
        child.assert_success();
        child.assert_says(&[
            "this wait would last for ever",
            "root",
            ": waits for a future",
        ]);
        child.assert_says(&["green thread 'unnamed'", ": waits for a future"]);
    });
}
