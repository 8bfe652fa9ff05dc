//! The run queue of one hub: the ready green threads, first in, first out.
//!
//! Given a seed, each goes to a random place, which the seed decides: for finding what a program
//! leaves to the order by mistake. One that yields goes to the end all the same, so that every other
//! gets its turn.
//!
//! Green threads are named by their index in the hub's table. That a ready green thread is queued
//! once and not twice is for the hub to see to: the queue takes any index.
//!
//! The ring's length is a power of two, so that a place in it is found by a mask: every switch pushes
//! and pops, and std's ring takes twice the instructions. It grows by doubling, and a hub that reserves
//! room for all its green threads never allocates on a push, because each of them is in the queue at
//! most once.
//!
//! Only the hub that owns the queue calls it, on its own OS thread.

use std::collections::TryReserveError;

/// The queue.
pub(crate) struct RunQueue {
    /// Empty, or of a length that is a power of two. Numbers of places go round it.
    ring: Vec<u32>,
    /// Place of the one that leaves next.
    front: usize,
    /// Behind the place of the last.
    back: usize,
    /// What places are drawn from; `None` is first in, first out.
    shuffle: Option<u64>,
    /// The most that were in the queue at once, lately; never less than there are.
    most: usize,
}

impl RunQueue {
    pub(crate) fn new(seed: Option<u64>) -> RunQueue {
        RunQueue {
            ring: Vec::new(),
            front: 0,
            back: 0,
            shuffle: seed,
            most: 0,
        }
    }

    /// Makes room for `capacity` green threads in all, those in the queue included.
    pub(crate) fn reserve(&mut self, capacity: usize) -> Result<(), TryReserveError> {
        if capacity > self.ring.len() {
            let length = capacity.next_power_of_two();
            let mut ring = Vec::new();
            ring.try_reserve_exact(length)?;
            ring.extend((0..self.len()).filter_map(|before| self.get(before)));
            (self.front, self.back) = (0, ring.len());
            ring.resize(length, 0);
            self.ring = ring;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn push(&mut self, index: u32) {
        self.push_last(index);
        if self.shuffle.is_some() {
            self.move_anywhere();
        }
    }

    /// Behind all that are ready, whatever the order: for one that lets them go first.
    ///
    /// The queue was never longer than its ring, so while it is not longer than ever there is room:
    /// knowing how long it was costs nothing.
    #[inline]
    pub(crate) fn push_last(&mut self, index: u32) {
        if self.len() == self.most {
            return self.push_behind_the_most(index);
        }
        self.put(index);
    }

    #[cold]
    #[inline(never)]
    fn push_behind_the_most(&mut self, index: u32) {
        self.reserve(self.len() + 1).expect("room for the ready");
        self.put(index);
        self.most = self.len();
    }

    /// Puts one behind all others, for which there is room.
    #[inline]
    fn put(&mut self, index: u32) {
        let place = self.place(self.len());
        self.ring[place] = index;
        self.back = self.back.wrapping_add(1);
    }

    /// Where the one is that is taken after `before` others.
    #[inline]
    fn place(&self, before: usize) -> usize {
        self.front.wrapping_add(before) & self.ring.len().wrapping_sub(1)
    }

    /// Moves the last to a random place.
    #[cold]
    fn move_anywhere(&mut self) {
        let Some(state) = &mut self.shuffle else {
            return;
        };
        let number = splitmix(state);
        let place = (number % self.len() as u64) as usize;
        for before in (place + 1..self.len()).rev() {
            let (one, other) = (self.place(before - 1), self.place(before));
            self.ring.swap(one, other);
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.pop_if(|_| true)
    }

    /// The next one, if it may leave.
    #[inline]
    pub(crate) fn pop_if(&mut self, may_leave: impl FnOnce(u32) -> bool) -> Option<u32> {
        let index = self.get(0)?;
        if !may_leave(index) {
            return None;
        }
        self.front = self.front.wrapping_add(1);
        Some(index)
    }

    /// Takes the next one, if it may leave, and puts `index` behind all others.
    #[inline]
    pub(crate) fn exchange(
        &mut self,
        index: u32,
        may_leave: impl FnOnce(u32) -> bool,
    ) -> Option<u32> {
        let next = self.pop_if(may_leave)?;
        // Its place is free now.
        self.put(index);
        Some(next)
    }

    /// The one that is taken after `before` others.
    #[inline]
    pub(crate) fn get(&self, before: usize) -> Option<u32> {
        (before < self.len()).then(|| self.ring[self.place(before)])
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.front == self.back
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.back.wrapping_sub(self.front)
    }

    /// The most that were in the queue at once since [`RunQueue::restart_most`].
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// As [`RunQueue::most`], which begins anew.
    pub(crate) fn restart_most(&mut self) -> usize {
        let len = self.len();
        std::mem::replace(&mut self.most, len)
    }
}

/// The next number of the generator splitmix64.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_reserved_is_not_allocated_again() {
        let mut queue = RunQueue::new(None);
        queue.push(0);
        queue.reserve(1000).unwrap();
        let capacity = queue.ring.capacity();
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
        assert_eq!(queue.ring.capacity(), capacity);
    }

    fn order(seed: Option<u64>) -> Vec<u32> {
        let mut queue = RunQueue::new(seed);
        (0..100).for_each(|index| queue.push(index));
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_seed_decides_the_order_and_nobody_is_lost() {
        let in_order: Vec<u32> = (0..100).collect();
        assert_eq!(order(None), in_order);
        assert_eq!(order(Some(0)), order(Some(0)));
        assert_ne!(order(Some(0)), order(Some(1)));
        for seed in 0..10 {
            let mut drawn = order(Some(seed));
            assert_ne!(drawn, in_order);
            drawn.sort_unstable();
            assert_eq!(drawn, in_order);
        }
    }

    #[test]
    fn in_a_random_order_too_whoever_yields_lets_all_others_go_first() {
        for seed in 0..10 {
            let mut queue = RunQueue::new(Some(seed));
            (0..10).for_each(|index| queue.push(index));
            queue.push_last(10);
            (11..20).for_each(|index| queue.push(index));
            let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
            let place = |index| order.iter().position(|other| *other == index);
            assert!((0..10).all(|index| place(index) < place(10)), "{order:?}");
        }
    }

    #[test]
    fn it_knows_the_most_that_it_held() {
        for seed in [None, Some(1)] {
            let mut queue = RunQueue::new(seed);
            queue.push(0);
            queue.push_last(1);
            queue.pop();
            queue.push(2);
            assert_eq!(queue.most(), 2);
            queue.pop();
            assert_eq!(queue.restart_most(), 2);
            assert_eq!(queue.most(), 1, "one is in it still");
            queue.pop();
            queue.push(3);
            assert_eq!(queue.most(), 1);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Pop,
        Exchange(u32),
        Reserve(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any::<u32>().prop_map(Step::Push),
            7 => Just(Step::Pop),
            4 => any::<u32>().prop_map(Step::Exchange),
            1 => (0..200usize).prop_map(Step::Reserve),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(steps in prop::collection::vec(step(), 0..400)) {
            let mut queue = RunQueue::new(None);
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
                    Step::Exchange(index) => {
                        let even = |index: u32| index.is_multiple_of(2);
                        let leaves = model.first().is_some_and(|first| even(*first));
                        let first = leaves.then(|| model.remove(0));
                        prop_assert_eq!(queue.exchange(index, even), first);
                        model.extend(leaves.then_some(index));
                    }
                    Step::Reserve(capacity) => queue.reserve(capacity).unwrap(),
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert!((0..model.len() + 2).all(|at| queue.get(at) == model.get(at).copied()));
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}
