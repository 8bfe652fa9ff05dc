//! The run queue of one hub: the ready green threads, first in, first out.
//!
//! Green threads are named by their index in the hub's table. That a ready green thread is queued
//! once and not twice is for the hub to see to: the queue takes any index.
//!
//! The ring is std's. It grows by doubling, and a hub that reserves room for all its green threads
//! never allocates on a push, because each of them is in the queue at most once.
//!
//! Only the hub that owns the queue calls it, on its own OS thread.

use std::collections::{TryReserveError, VecDeque};

/// The queue.
pub(crate) struct RunQueue {
    /// From the front, where the next green thread to run leaves, to the back.
    ready: VecDeque<u32>,
}

impl RunQueue {
    pub(crate) fn new() -> RunQueue {
        RunQueue {
            ready: VecDeque::new(),
        }
    }

    /// Makes room for `capacity` green threads in all, those in the queue included.
    pub(crate) fn reserve(&mut self, capacity: usize) -> Result<(), TryReserveError> {
        let additional = capacity.saturating_sub(self.ready.len());
        self.ready.try_reserve(additional)
    }

    pub(crate) fn push(&mut self, index: u32) {
        self.ready.push_back(index);
    }

    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.ready.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_reserved_is_not_allocated_again() {
        let mut queue = RunQueue::new();
        queue.push(0);
        queue.reserve(1000).unwrap();
        let capacity = queue.ready.capacity();
        assert!(capacity >= 1000);
        // Half a ring further on each round, so that the pushes also wrap round its end.
        for _ in 0..4 {
            while queue.len() < 1000 {
                queue.push(1);
            }
            while queue.len() > 500 {
                assert!(queue.pop().is_some());
            }
        }
        assert_eq!(queue.ready.capacity(), capacity);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Pop,
        Reserve(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any::<u32>().prop_map(Step::Push),
            7 => Just(Step::Pop),
            1 => (0..200usize).prop_map(Step::Reserve),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(steps in prop::collection::vec(step(), 0..400)) {
            let mut queue = RunQueue::new();
            let mut model: Vec<u32> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(index) => {
                        queue.push(index);
                        model.push(index);
                    }
                    Step::Pop => {
                        let first = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(queue.pop(), first);
                    }
                    Step::Reserve(capacity) => queue.reserve(capacity).unwrap(),
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}
