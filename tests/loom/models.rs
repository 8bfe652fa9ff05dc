//! The protocols between OS threads under loom, which tries every interleaving
//! that its bound allows, on the memory model of C11.
//!
//! The very files of the library are compiled here: the inbox of a hub, the life
//! of a record, the wait list, and the permits that all locks are made of. Around them stand models of
//! what they use: atomics and locks are loom's, a bell and a wait are loom's
//! condition variables.
//!
//! `cargo test --release -p greenring-loom`

#![allow(dead_code)] // Each file offers more than the models use.

#[path = "../../src/hub/inbox.rs"]
mod inbox;
#[path = "../../src/hub/life.rs"]
mod life;
#[path = "../../src/sync/permits.rs"]
mod permits;
#[path = "../../src/hub/state.rs"]
mod state;
#[path = "../../src/sync/wait_list.rs"]
mod wait_list;

/// `src/atomic.rs` with loom's types.
mod atomic {
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering as StdOrdering;

    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, fence};
    pub(crate) use std::sync::atomic::Ordering;

    /// loom's, made at first use, because the library makes its own in constants.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicUsize {
        first: usize,
        atomic: OnceLock<loom::sync::atomic::AtomicUsize>,
    }

    impl AtomicUsize {
        pub(crate) const fn new(first: usize) -> AtomicUsize {
            AtomicUsize {
                first,
                atomic: OnceLock::new(),
            }
        }

        fn get(&self) -> &loom::sync::atomic::AtomicUsize {
            let make = || loom::sync::atomic::AtomicUsize::new(self.first);
            self.atomic.get_or_init(make)
        }

        pub(crate) fn load(&self, order: StdOrdering) -> usize {
            self.get().load(order)
        }

        pub(crate) fn fetch_add(&self, by: usize, order: StdOrdering) -> usize {
            self.get().fetch_add(by, order)
        }

        pub(crate) fn fetch_sub(&self, by: usize, order: StdOrdering) -> usize {
            self.get().fetch_sub(by, order)
        }

        pub(crate) fn fetch_and(&self, with: usize, order: StdOrdering) -> usize {
            self.get().fetch_and(with, order)
        }

        pub(crate) fn compare_exchange(
            &self,
            old: usize,
            new: usize,
            success: StdOrdering,
            failure: StdOrdering,
        ) -> Result<usize, usize> {
            self.get().compare_exchange(old, new, success, failure)
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            old: usize,
            new: usize,
            success: StdOrdering,
            failure: StdOrdering,
        ) -> Result<usize, usize> {
            self.get().compare_exchange_weak(old, new, success, failure)
        }
    }

    /// loom's, made at first use.
    #[derive(Debug)]
    pub(crate) struct Mutex<T> {
        first: std::sync::Mutex<Option<T>>,
        mutex: OnceLock<loom::sync::Mutex<T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) const fn new(first: T) -> Mutex<T> {
            Mutex {
                first: std::sync::Mutex::new(Some(first)),
                mutex: OnceLock::new(),
            }
        }
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        let make = || {
            let first = mutex.first.lock().unwrap().take();
            loom::sync::Mutex::new(first.expect("made once"))
        };
        mutex.mutex.get_or_init(make).lock().unwrap()
    }
}

mod backend {
    /// A bell that loom understands; like an eventfd it keeps a ring for the
    /// next wait.
    #[derive(Debug, Default)]
    pub(crate) struct Bell {
        rung: loom::sync::Mutex<bool>,
        changed: loom::sync::Condvar,
    }

    impl Bell {
        pub(crate) fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }

        /// What a hub does when it sleeps without a deadline.
        pub(crate) fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
            *rung = false;
        }
    }
}

mod hub {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::time::Instant;

    pub(crate) use crate::state::{Wakeup, Why};

    use crate::backend::Bell;

    thread_local! {
        /// Whether waits are on the hub of whoever unparks them. loom runs all
        /// its threads on one OS thread.
        static LOCAL: Cell<bool> = const { Cell::new(false) };
        /// All waits of the present run of a model; an unparker is an index.
        static WAITS: RefCell<Vec<Arc<Bell>>> = const { RefCell::new(Vec::new()) };
    }

    fn bell(wait: usize) -> Arc<Bell> {
        WAITS.with_borrow(|waits| Arc::clone(&waits[wait]))
    }

    /// Begins a run of a model whose waiters are handed what they wait for, or
    /// are told to try.
    pub(crate) fn begin(local: bool) {
        LOCAL.set(local);
        WAITS.with_borrow_mut(Vec::clear);
    }

    pub(crate) struct Wait(usize);

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Unparker(usize);

    impl Wait {
        pub(crate) fn begin() -> Wait {
            // loom must not switch while the list is borrowed.
            let bell = Arc::default();
            WAITS.with_borrow_mut(|waits| {
                waits.push(bell);
                Wait(waits.len() - 1)
            })
        }

        pub(crate) fn unparker(&self) -> Unparker {
            Unparker(self.0)
        }

        pub(crate) fn park_with(
            self,
            _: &dyn Estate,
            why: Why,
            subject: usize,
            deadline: Option<Instant>,
        ) -> Wakeup {
            self.park(why, subject, deadline)
        }

        /// A wait with a deadline passes it at once; loom tries every moment at
        /// which that can be.
        pub(crate) fn park(self, _: Why, _: usize, deadline: Option<Instant>) -> Wakeup {
            if deadline.is_some() {
                loom::thread::yield_now();
                return Wakeup::TimedOut;
            }
            bell(self.0).wait();
            Wakeup::Unparked
        }
    }

    pub(crate) trait Estate {
        fn pass_on(&self);
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            bell(self.0).ring();
        }

        pub(crate) fn is_alive(&self) -> bool {
            true
        }

        pub(crate) fn is_waiting(&self) -> bool {
            true
        }

        pub(crate) fn is_local(&self) -> bool {
            LOCAL.get()
        }
    }

    mod models {
        use super::Bell;
        use crate::inbox::{Inbox, Mail};
        use std::sync::Arc;

        const SERIAL: u32 = 1;

        fn inbox() -> (Arc<Inbox>, Arc<Bell>) {
            let inbox = Arc::new(Inbox::new());
            let bell = Arc::new(Bell::default());
            inbox.open(SERIAL, Arc::clone(&bell));
            (inbox, bell)
        }

        fn letter(wait: u64) -> Mail {
            Mail::Unpark { index: 0, wait }
        }

        /// A lost wake-up would leave the hub asleep for ever, which loom
        /// reports.
        #[test]
        fn a_hub_that_may_sleep_gets_every_letter() {
            loom::model(|| {
                let (inbox, bell) = inbox();
                let senders = [0, 1].map(|wait| {
                    let inbox = Arc::clone(&inbox);
                    loom::thread::spawn(move || inbox.send(SERIAL, letter(wait)))
                });
                let mut read = Vec::new();
                while read.len() < 2 {
                    // As the loop does: sleep if there is no mail, then look.
                    if inbox.fall_asleep() {
                        bell.wait();
                        inbox.wake_up();
                    }
                    if inbox.has_mail() {
                        let mut mail = Vec::new();
                        inbox.take(&mut mail);
                        read.append(&mut mail);
                    }
                }
                for sender in senders {
                    sender.join().unwrap();
                }
                assert!(inbox.rings() <= 2);
            });
        }

        /// Mail that comes while the hub is awake must stop its next sleep.
        #[test]
        fn a_hub_that_reads_between_two_letters_gets_the_second() {
            loom::model(|| {
                let (inbox, bell) = inbox();
                let sender = loom::thread::spawn({
                    let inbox = Arc::clone(&inbox);
                    move || {
                        inbox.send(SERIAL, letter(0));
                        inbox.send(SERIAL, letter(1));
                    }
                });
                let mut read = Vec::new();
                while read.len() < 2 {
                    let mut mail = Vec::new();
                    inbox.take(&mut mail);
                    read.append(&mut mail);
                    if read.len() < 2 && inbox.fall_asleep() {
                        bell.wait();
                        inbox.wake_up();
                    }
                }
                assert_eq!(read, [letter(0), letter(1)]);
                sender.join().unwrap();
            });
        }

        #[test]
        fn mail_for_a_hub_that_ends_is_dropped_and_not_the_next_ones() {
            loom::model(|| {
                let (inbox, _bell) = inbox();
                let sender = loom::thread::spawn({
                    let inbox = Arc::clone(&inbox);
                    move || inbox.send(SERIAL, letter(0))
                });
                assert!(inbox.close(SERIAL));
                inbox.open(SERIAL + 1, Arc::default());
                sender.join().unwrap();
                assert!(!inbox.has_mail(), "the next hub gets mail of its own only");
            });
        }
    }
}

mod cancel {
    use crate::hub::{Wakeup, Why};

    pub(crate) fn raise_verdict(verdict: Wakeup, why: Why) -> ! {
        unreachable!("{verdict:?} of {why:?}: the models interrupt nobody");
    }
}

mod sync {
    mod models {
        use crate::atomic::{Mutex, lock};
        use crate::hub::{self, Wait, Why};
        use crate::permits::Permits;
        use crate::wait_list::{Claim, WaitList};
        use loom::cell::UnsafeCell;
        use std::sync::Arc;
        use std::time::Instant;

        /// What a lock protects: loom reports two who have it at once.
        struct Guarded {
            permits: Permits,
            value: UnsafeCell<u32>,
        }

        impl Guarded {
            #[allow(clippy::arc_with_non_send_sync)] // loom checks who shares it.
            fn new(permits: usize) -> Arc<Guarded> {
                let permits = Permits::new(permits);
                // loom wants its objects made before the others can use them.
                permits.release(0);
                Arc::new(Guarded {
                    permits,
                    value: UnsafeCell::new(0),
                })
            }

            fn add(&self) {
                self.value.with_mut(|value| {
                    // SAFETY: whoever calls has all permits; loom checks it.
                    unsafe { *value += 1 }
                });
            }
        }

        fn explore(local: bool, model: impl Fn() + Send + Sync + 'static) {
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = Some(3);
            builder.check(move || {
                hub::begin(local);
                model();
            });
        }

        fn in_both_ways(model: impl Fn() + Send + Sync + Copy + 'static) {
            explore(true, model);
            explore(false, model);
        }

        #[test]
        fn one_permit_excludes_and_everybody_gets_it() {
            in_both_ways(|| {
                let guarded = Guarded::new(1);
                let others = [(); 2].map(|()| {
                    let guarded = Arc::clone(&guarded);
                    loom::thread::spawn(move || {
                        assert!(guarded.permits.acquire(1, Why::Mutex, None));
                        guarded.add();
                        guarded.permits.release(1);
                    })
                });
                assert!(guarded.permits.acquire(1, Why::Mutex, None));
                guarded.add();
                guarded.permits.release(1);
                for other in others {
                    other.join().unwrap();
                }
                assert!(guarded.permits.try_acquire(1));
                guarded.value.with(|value| {
                    // SAFETY: the others have ended.
                    assert_eq!(unsafe { *value }, 3);
                });
            });
        }

        /// One that gives up in the very moment in which it is handed the
        /// permit, or told to try, must not take it along.
        #[test]
        fn one_that_gives_up_loses_no_permit() {
            in_both_ways(|| {
                let guarded = Guarded::new(1);
                let impatient = loom::thread::spawn({
                    let guarded = Arc::clone(&guarded);
                    move || {
                        if guarded.permits.acquire(1, Why::Mutex, Some(Instant::now())) {
                            guarded.add();
                            guarded.permits.release(1);
                        }
                    }
                });
                let patient = loom::thread::spawn({
                    let guarded = Arc::clone(&guarded);
                    move || {
                        assert!(guarded.permits.acquire(1, Why::Mutex, None));
                        guarded.add();
                        guarded.permits.release(1);
                    }
                });
                if guarded.permits.try_acquire(1) {
                    guarded.add();
                    guarded.permits.release(1);
                }
                impatient.join().unwrap();
                patient.join().unwrap();
                assert_eq!(guarded.permits.free(), 1);
                assert!(guarded.permits.try_acquire(1));
            });
        }

        /// As an `RwLock` of two permits: a writer takes both.
        #[test]
        fn a_writer_excludes_readers_and_is_not_starved() {
            in_both_ways(|| {
                let guarded = Guarded::new(2);
                let writer = loom::thread::spawn({
                    let guarded = Arc::clone(&guarded);
                    move || {
                        assert!(guarded.permits.acquire(2, Why::WriteLock, None));
                        guarded.add();
                        guarded.permits.release(2);
                    }
                });
                let reader = loom::thread::spawn({
                    let guarded = Arc::clone(&guarded);
                    move || {
                        assert!(guarded.permits.acquire(1, Why::ReadLock, None));
                        guarded.value.with(|_| {});
                        guarded.permits.release(1);
                    }
                });
                assert!(guarded.permits.acquire(1, Why::ReadLock, None));
                guarded.value.with(|_| {});
                guarded.permits.release(1);
                writer.join().unwrap();
                reader.join().unwrap();
                assert_eq!(guarded.permits.free(), 2);
            });
        }

        /// Two lists, one waiter in both, and another behind it in each: each
        /// list chooses one, and all that is chosen is taken.
        #[test]
        fn a_waiter_of_two_lists_is_chosen_once_and_passed_over_then() {
            explore(false, || {
                let lists: [Arc<Mutex<WaitList<()>>>; 2] =
                    [(); 2].map(|()| Arc::new(Mutex::new(WaitList::new())));
                let claim = Claim::default();
                assert_eq!(claim.taken(), None);
                let wait = Wait::begin();
                let mine = [0, 1].map(|arm| {
                    let claim = claim.clone();
                    lock(&lists[arm]).enter_with(wait.unparker(), claim, arm, ())
                });
                let behind = [0, 1].map(|arm| {
                    let unparker = Wait::begin().unparker();
                    lock(&lists[arm]).enter(unparker, ())
                });
                let choosers = [0, 1].map(|arm| {
                    let list = Arc::clone(&lists[arm]);
                    loom::thread::spawn(move || {
                        let chosen = lock(&list).choose().map(|(unparker, ())| unparker);
                        chosen.expect("there are two").unpark();
                    })
                });
                wait.park(Why::Select, 0, None);
                let arm = claim.taken().expect("unparked by one who has it");
                for chooser in choosers {
                    chooser.join().unwrap();
                }
                let left = [0, 1].map(|arm| lock(&lists[arm]).leave(mine[arm]).0);
                assert_eq!(left, [arm == 0, arm == 1]);
                let passed = [0, 1].map(|arm| lock(&lists[arm]).leave(behind[arm]).0);
                assert_eq!(passed, [arm == 1, arm == 0]);
                for list in &lists {
                    assert_eq!(lock(list).waiting(), 0);
                }
            });
        }
    }
}

mod lives {
    use crate::backend::Bell;
    use crate::life::{End, Leave, Life};
    use loom::cell::UnsafeCell;
    use std::sync::Arc;

    /// A record with a result, of which loom notices when two use it at once,
    /// and when one uses it who does not see what was done before.
    struct Record {
        life: Life,
        result: UnsafeCell<Option<u32>>,
        freed: UnsafeCell<bool>,
        bell: Bell,
    }

    impl Record {
        // loom's own arguments make it one that can be shared.
        #[allow(clippy::arc_with_non_send_sync)]
        fn new() -> Arc<Record> {
            Arc::new(Record {
                life: Life::of_green_thread(),
                result: UnsafeCell::new(None),
                freed: UnsafeCell::new(false),
                bell: Bell::default(),
            })
        }

        fn take(&self) -> Option<u32> {
            self.freed.with(|_| {});
            // SAFETY: one of two at a time, which is what loom is to find out.
            self.result.with_mut(|result| unsafe { (*result).take() })
        }

        fn release(&self) {
            self.freed.with(|_| {});
            if self.life.release() {
                // SAFETY: as above.
                self.freed.with_mut(|freed| unsafe {
                    assert!(!*freed);
                    *freed = true;
                });
                // SAFETY: as above.
                self.result.with(|result| unsafe {
                    assert_eq!(*result, None, "nobody has taken it");
                });
            }
        }

        /// What a body does at its end; whether it took the result itself.
        fn end(&self) -> bool {
            // SAFETY: as above.
            self.result.with_mut(|result| unsafe { *result = Some(1) });
            match self.life.end() {
                End::Gone => false,
                End::Shared {
                    is_watched,
                    is_detached,
                } => {
                    if is_watched {
                        self.bell.ring();
                    }
                    let taken = is_detached.then(|| self.take());
                    self.release();
                    taken.flatten().is_some()
                }
            }
        }

        /// What a handle does when it goes, on another OS thread than the body's;
        /// whether it took the result.
        fn leave(&self) -> bool {
            match self.life.detach(|| false) {
                Leave::Gone => unreachable!("it is not there"),
                Leave::Detached => {
                    self.release();
                    false
                }
                Leave::Done => {
                    let taken = self.take();
                    self.release();
                    taken.is_some()
                }
            }
        }

        fn assert_is_freed(&self) {
            // SAFETY: everybody was joined.
            self.freed.with(|freed| assert!(unsafe { *freed }));
        }
    }

    mod models {
        use super::*;

        #[test]
        fn a_result_is_taken_by_the_body_or_by_its_handle() {
            loom::model(|| {
                let record = Record::new();
                let handle = loom::thread::spawn({
                    let record = Arc::clone(&record);
                    move || record.leave()
                });
                let by_body = record.end();
                let by_handle = handle.join().unwrap();
                assert!(by_body != by_handle);
                record.assert_is_freed();
            });
        }

        #[test]
        fn the_last_of_three_frees_the_record() {
            loom::model(|| {
                let record = Record::new();
                let others = [0, 1].map(|other| {
                    let record = Arc::clone(&record);
                    if other == 0 {
                        record.life.hold();
                        loom::thread::spawn(move || {
                            record.release();
                            false
                        })
                    } else {
                        loom::thread::spawn(move || record.leave())
                    }
                });
                let by_body = record.end();
                let [_, by_handle] = others.map(|other| other.join().unwrap());
                assert!(by_body != by_handle);
                record.assert_is_freed();
            });
        }

        /// A watcher that is not told would wait for ever, which loom reports.
        #[test]
        fn one_who_watches_is_told_and_sees_the_result() {
            loom::model(|| {
                let record = Record::new();
                let handle = loom::thread::spawn({
                    let record = Arc::clone(&record);
                    move || {
                        if record.life.watch() {
                            record.bell.wait();
                        }
                        assert!(record.life.is_done());
                        assert!(record.leave());
                    }
                });
                assert!(!record.end());
                handle.join().unwrap();
                record.assert_is_freed();
            });
        }

        /// On one hub nothing is changed by read-modify-write; the last to go is
        /// elsewhere and sees all of it.
        #[test]
        fn who_is_joined_on_its_own_hub_leaves_a_record_to_others() {
            loom::model(|| {
                let record = Record::new();
                record.life.hold();
                let other = loom::thread::spawn({
                    let record = Arc::clone(&record);
                    move || record.release()
                });
                record.life.wait();
                assert!(record.life.is_awaited());
                assert!(!record.end());
                assert!(record.leave());
                other.join().unwrap();
                record.assert_is_freed();
            });
        }

        #[test]
        fn who_is_detached_on_its_own_hub_may_end_alone() {
            loom::model(|| {
                let record = Record::new();
                record.life.hold();
                let other = loom::thread::spawn({
                    let record = Arc::clone(&record);
                    move || record.release()
                });
                let left = record.life.detach(|| true);
                if left != Leave::Gone {
                    record.release();
                }
                assert!(record.end());
                other.join().unwrap();
                record.assert_is_freed();
            });
        }
    }
}
