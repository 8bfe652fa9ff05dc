//! The deadlines of one hub: a hierarchical timer wheel.
//!
//! A deadline is armed and cancelled a hundred times for each one that passes, because every read
//! with a timeout arms one. So arming and cancelling are O(1), and nothing but [`Timers::reserve`]
//! allocates. A green thread waits for one thing at a time and therefore has at most one deadline:
//! its index in the hub's table names it, and the nodes lie in a `Vec` under that index. It is as
//! long as the highest index that ever had a deadline; the room behind is memory that nothing has
//! touched, so a crowd that waits for other things costs nothing here.
//!
//! Times are nanoseconds since the hub's start. The wheel reads no clock, it believes its caller.
//! Internally it counts ticks of 2^16 ns, about the 50 µs that the kernel itself may add to a timed
//! wait by default (prctl(2), `PR_SET_TIMERSLACK`). A deadline is rounded up to a tick, so that it
//! never passes early and is less than a tick late.
//!
//! A tick number is read as nine digits of six bits. A deadline lives on the level of the highest
//! digit in which it differs from the present position, in the slot of that digit's value:
//!
//! 1. The level and the slot follow from the tick and the position alone, so no node records them,
//!    and deadlines of the same tick are always in the same list, in the order they were armed.
//! 2. Every deadline of a level is earlier than every deadline of a higher level, and on one level
//!    a lower slot is earlier. The first occupied slot of the first occupied level has the earliest.
//! 3. The position only moves forward, and it enters an occupied slot only to empty it: on level 0
//!    the deadlines there have passed, on a higher level they are linked again and drop to a lower
//!    level. So a deadline is moved at most once a level.
//!
//! Only the hub that owns the wheel calls it, on its own OS thread.

use std::collections::TryReserveError;

const TICK: u64 = 1 << 16;

/// Bits of a tick number that one level resolves: 64 slots, one word of occupancy.
const DIGIT: usize = 6;
const SLOTS: usize = 1 << DIGIT;

/// Enough levels for every `u64` deadline. Rounding up yields ticks up to 2^48, and 49 bits take
/// nine digits; tick 2^48 itself begins after the last nanosecond and never passes.
const LEVELS: usize = 9;

/// In `Node::next` a deadline that is not armed, in `Timers::heads` an empty slot.
const NONE: u32 = u32::MAX;

/// The deadline of one green thread.
#[derive(Clone, Copy)]
struct Node {
    /// The first tick at which the deadline has passed, never before the position of the wheel.
    tick: u64,
    /// The neighbours in the slot's circular list. A lone node is its own neighbour; a node that
    /// is not armed has `NONE` as `next`.
    next: u32,
    previous: u32,
}

const IDLE: Node = Node {
    tick: 0,
    next: NONE,
    previous: NONE,
};

const NODES_OF_A_PAGE: usize = 4096 / size_of::<Node>();

/// Where a tick belongs in view of the present position.
#[derive(Clone, Copy)]
struct Place {
    level: usize,
    slot: usize,
}

/// The wheel.
pub(crate) struct Timers {
    /// Under the index of a green thread, its deadline.
    nodes: Vec<Node>,
    /// The first node of each slot, whose `previous` is the last one.
    heads: [[u32; SLOTS]; LEVELS],
    /// Bit `slot` of a level is set exactly if that slot has a head.
    occupied: [u64; LEVELS],
    /// Bit `level` is set exactly if `occupied` of that level is not zero.
    levels: u32,
    /// The tick up to which deadlines have been expired. An armed tick may equal it, if the
    /// deadline had passed when it was armed, but is never below it.
    position: u64,
    /// How many nodes are armed.
    armed: usize,
    /// The most that were armed at once.
    most: usize,
    /// How often one was armed.
    set: u64,
}

/// Counts of a wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerStats {
    /// Deadlines armed now.
    pub(crate) armed: usize,
    /// The most that were armed at once.
    pub(crate) most: usize,
    /// How often one was armed.
    pub(crate) set: u64,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            nodes: Vec::new(),
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            levels: 0,
            position: 0,
            armed: 0,
            most: 0,
            set: 0,
        }
    }

    /// Makes room for the indices below `capacity`. No other call allocates.
    pub(crate) fn reserve(&mut self, capacity: usize) -> Result<(), TryReserveError> {
        assert!(capacity <= NONE as usize, "too many green threads");
        let more = capacity.saturating_sub(self.nodes.len());
        self.nodes.try_reserve_exact(more)
    }

    /// Indices below this one may be armed.
    pub(crate) fn room(&self) -> usize {
        self.nodes.capacity()
    }

    /// Begins to use the room up to `index`, and a page more.
    #[cold]
    fn lengthen(&mut self, index: usize) {
        assert!(index < self.room(), "an index without room");
        let length = (index + NODES_OF_A_PAGE).min(self.room());
        self.nodes.resize(length, IDLE);
    }

    /// Gives memory back if the greater part of it has no use at present: the room
    /// stays, but nothing has touched it.
    pub(crate) fn shrink(&mut self) {
        let armed = self.nodes.iter().rposition(|node| node.next != NONE);
        let length = armed.map_or(0, |index| index + 1);
        let mut nodes = Vec::new();
        if length <= self.nodes.len() / 2 && nodes.try_reserve_exact(self.room()).is_ok() {
            nodes.extend_from_slice(&self.nodes[..length]);
            self.nodes = nodes;
        }
    }

    /// Arms a deadline. One that has passed already expires at the next [`Timers::expire`].
    ///
    /// The index must have been reserved, and must not be armed.
    pub(crate) fn arm(&mut self, index: u32, deadline: u64) {
        if index as usize >= self.nodes.len() {
            self.lengthen(index as usize);
        }
        let node = &mut self.nodes[index as usize];
        assert!(node.next == NONE, "a green thread has one deadline");
        node.tick = deadline.div_ceil(TICK).max(self.position);
        self.armed += 1;
        if self.armed > self.most {
            self.most = self.armed;
        }
        self.set += 1;
        self.link(index);
    }

    /// Arms a deadline, unless the index has an earlier one.
    pub(crate) fn arm_before(&mut self, index: u32, deadline: u64) {
        if self.is_armed(index) {
            if self.nodes[index as usize].tick <= deadline.div_ceil(TICK) {
                return;
            }
            self.cancel(index);
        }
        self.arm(index, deadline);
    }

    /// Forgets a deadline, and says whether it was armed.
    pub(crate) fn cancel(&mut self, index: u32) -> bool {
        if !self.is_armed(index) {
            return false;
        }
        self.armed -= 1;
        self.unlink(index, self.place(self.nodes[index as usize].tick));
        true
    }

    pub(crate) fn is_armed(&self, index: u32) -> bool {
        let node = self.nodes.get(index as usize);
        node.is_some_and(|node| node.next != NONE)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.armed == 0
    }

    pub(crate) fn stats(&self) -> TimerStats {
        TimerStats {
            armed: self.armed,
            most: self.most,
            set: self.set,
        }
    }

    /// When [`Timers::expire`] is to be called next, if anything is armed.
    ///
    /// It is never later than the earliest deadline rounded up to its tick, and exactly that if the
    /// deadline is on level 0. It is earlier, possibly past already, if a slot of a higher level has
    /// to be emptied first, which happens at most once a level for one deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        let first = self.first()?;
        Some(self.start(first).saturating_mul(TICK))
    }

    /// Calls `due` with every index whose deadline has passed at `now`, which is thereby no longer
    /// armed: in the order of their ticks, and within a tick in the order they were armed.
    ///
    /// A `now` before an earlier one counts as that earlier one. The work depends on what is armed,
    /// not on how far the time has moved. If `due` unwinds, the deadlines it has not seen stay armed.
    pub(crate) fn expire(&mut self, now: u64, mut due: impl FnMut(u32)) {
        let now = (now / TICK).max(self.position);
        while let Some(first) = self.first() {
            let start = self.start(first);
            if start > now {
                break;
            }
            self.position = start;
            while let index = self.heads[first.level][first.slot]
                && index != NONE
            {
                self.unlink(index, first);
                if first.level == 0 {
                    self.armed -= 1;
                    due(index);
                } else {
                    self.link(index);
                }
            }
        }
        self.position = now;
    }

    fn place(&self, tick: u64) -> Place {
        debug_assert!(tick >= self.position);
        let level = ((tick ^ self.position) | 1).ilog2() as usize / DIGIT;
        let slot = (tick >> (level * DIGIT)) as usize % SLOTS;
        Place { level, slot }
    }

    /// The place of the earliest deadline.
    fn first(&self) -> Option<Place> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.occupied[level].trailing_zeros() as usize;
        Some(Place { level, slot })
    }

    /// The first tick of a slot: the digits above its level are those of the position.
    fn start(&self, place: Place) -> u64 {
        let shift = place.level * DIGIT;
        let above = self.position >> (shift + DIGIT);
        ((above << DIGIT) | place.slot as u64) << shift
    }

    /// Appends a node, whose tick is set, to the list where it belongs.
    fn link(&mut self, index: u32) {
        let place = self.place(self.nodes[index as usize].tick);
        let head = self.heads[place.level][place.slot];
        let (next, previous) = if head == NONE {
            self.heads[place.level][place.slot] = index;
            self.occupied[place.level] |= 1 << place.slot;
            self.levels |= 1 << place.level;
            (index, index)
        } else {
            let last = self.nodes[head as usize].previous;
            self.nodes[head as usize].previous = index;
            self.nodes[last as usize].next = index;
            (head, last)
        };
        let node = &mut self.nodes[index as usize];
        node.next = next;
        node.previous = previous;
    }

    /// Takes a node out of the list at `place`, which the caller knows to be its own.
    fn unlink(&mut self, index: u32, place: Place) {
        let Node { next, previous, .. } = self.nodes[index as usize];
        if next == index {
            self.heads[place.level][place.slot] = NONE;
            self.occupied[place.level] &= !(1 << place.slot);
            if self.occupied[place.level] == 0 {
                self.levels &= !(1 << place.level);
            }
        } else {
            self.nodes[previous as usize].next = next;
            self.nodes[next as usize].previous = previous;
            if self.heads[place.level][place.slot] == index {
                self.heads[place.level][place.slot] = next;
            }
        }
        self.nodes[index as usize].next = NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const SECOND: u64 = 1_000_000_000;
    const CENTURY: u64 = 100 * 365 * 24 * 3600 * SECOND;

    fn timers(capacity: usize) -> Timers {
        let mut timers = Timers::new();
        timers.reserve(capacity).unwrap();
        timers
    }

    fn expired(timers: &mut Timers, now: u64) -> Vec<u32> {
        let mut indices = Vec::new();
        timers.expire(now, |index| indices.push(index));
        indices
    }

    #[test]
    fn a_node_is_sixteen_bytes() {
        assert_eq!(size_of::<Node>(), 16);
    }

    #[test]
    fn a_deadline_passes_at_the_tick_after_it_and_not_before() {
        let mut timers = timers(1);
        timers.arm(0, TICK + 1);
        assert_eq!(timers.next(), Some(2 * TICK));
        assert_eq!(expired(&mut timers, 2 * TICK - 1), [0u32; 0]);
        assert_eq!(expired(&mut timers, 2 * TICK), [0]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_on_a_tick_is_not_rounded() {
        let mut timers = timers(1);
        timers.arm(0, 3 * TICK);
        assert_eq!(expired(&mut timers, 3 * TICK), [0]);
    }

    #[test]
    fn a_past_deadline_expires_at_once() {
        let mut timers = timers(1);
        let now = 7 * SECOND;
        assert_eq!(expired(&mut timers, now), [0u32; 0]);
        timers.arm(0, SECOND);
        assert!(timers.next().is_some_and(|next| next <= now));
        assert_eq!(expired(&mut timers, now), [0]);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut timers = timers(2);
        assert_eq!(expired(&mut timers, 7 * SECOND), [0u32; 0]);
        assert_eq!(expired(&mut timers, SECOND), [0u32; 0]);
        timers.arm(0, 6 * SECOND);
        timers.arm(1, 8 * SECOND);
        assert_eq!(expired(&mut timers, SECOND), [0]);
        assert_eq!(expired(&mut timers, 8 * SECOND - 1), [0u32; 0]);
        assert_eq!(expired(&mut timers, 8 * SECOND + TICK), [1]);
    }

    #[test]
    fn centuries_pass_in_one_call() {
        let mut timers = timers(3);
        timers.arm(0, 3 * CENTURY);
        timers.arm(1, CENTURY);
        timers.arm(2, 5 * CENTURY);
        assert_eq!(expired(&mut timers, CENTURY - 1), [0u32; 0]);
        assert_eq!(expired(&mut timers, 4 * CENTURY), [1, 0]);
        assert_eq!(timers.stats().armed, 1);
    }

    #[test]
    fn the_last_nanosecond_never_passes() {
        let mut timers = timers(2);
        timers.arm(0, u64::MAX);
        assert_eq!(timers.next(), Some(u64::MAX));
        assert_eq!(expired(&mut timers, u64::MAX - 1), [0u32; 0]);
        timers.arm(1, u64::MAX);
        assert_eq!(expired(&mut timers, u64::MAX), [0u32; 0]);
        assert!(timers.cancel(0) && timers.cancel(1));
        assert!(timers.is_empty());
    }

    #[test]
    fn an_index_without_room_is_not_armed() {
        let mut timers = timers(1);
        assert!(!timers.is_armed(1));
        assert!(!timers.cancel(1));
    }

    #[test]
    fn reserving_keeps_what_is_armed() {
        let mut timers = timers(1);
        timers.arm(0, SECOND);
        timers.reserve(1000).unwrap();
        timers.reserve(10).unwrap();
        timers.arm(999, SECOND);
        assert_eq!(expired(&mut timers, 2 * SECOND), [0, 999]);
    }

    #[test]
    fn shrinking_keeps_what_is_armed_and_the_room() {
        let mut timers = timers(1000);
        for index in [3, 999] {
            timers.arm(index, SECOND);
        }
        timers.shrink();
        assert!(timers.cancel(999));
        timers.shrink();
        assert_eq!((timers.nodes.len(), timers.room()), (4, 1000));
        timers.arm(999, SECOND);
        assert_eq!(expired(&mut timers, 2 * SECOND), [3, 999]);
        timers.shrink();
        assert_eq!((timers.nodes.len(), timers.room()), (0, 1000));
    }

    #[test]
    #[should_panic(expected = "one deadline")]
    fn a_second_deadline_is_refused() {
        let mut timers = timers(1);
        timers.arm(0, SECOND);
        timers.arm(0, SECOND);
    }

    #[test]
    fn an_unwinding_due_leaves_the_rest_armed() {
        let mut timers = timers(3);
        for index in 0..3 {
            timers.arm(index, SECOND);
        }
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            timers.expire(2 * SECOND, |_| std::panic::resume_unwind(Box::new(())));
        }));
        assert!(unwound.is_err());
        assert!(timers.cancel(1));
        assert_eq!(expired(&mut timers, 2 * SECOND), [2]);
    }

    /// What the wheel must do, done plainly: deadlines in a tree by tick and order of arming.
    #[derive(Default)]
    struct Model {
        armed: BTreeMap<(u64, usize), u32>,
        arms: usize,
        tick: u64,
    }

    impl Model {
        fn key(&self, index: u32) -> Option<(u64, usize)> {
            let mut entries = self.armed.iter();
            let entry = entries.find(|&(_, &armed)| armed == index);
            entry.map(|(&key, _)| key)
        }

        fn arm(&mut self, index: u32, deadline: u64) {
            let tick = deadline.div_ceil(TICK).max(self.tick);
            self.armed.insert((tick, self.arms), index);
            self.arms += 1;
        }

        fn expire(&mut self, now: u64) -> Vec<u32> {
            self.tick = now / TICK;
            let later = self.armed.split_off(&(self.tick + 1, 0));
            std::mem::replace(&mut self.armed, later)
                .into_values()
                .collect()
        }

        fn earliest(&self) -> Option<u64> {
            let (&(tick, _), _) = self.armed.first_key_value()?;
            Some(tick.saturating_mul(TICK))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        ArmAfter(u32, u64),
        /// A deadline at this part of the time that has passed.
        ArmPast(u32, u64),
        Cancel(u32),
        Advance(u64),
        Follow,
    }

    const INDICES: u32 = 24;

    /// Spans of every magnitude, from nothing to centuries.
    fn span() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64).prop_map(|(span, shift)| span >> shift)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..INDICES, span()).prop_map(|(index, span)| Step::ArmAfter(index, span)),
            4 => (0..INDICES, 0..4 * TICK).prop_map(|(index, span)| Step::ArmAfter(index, span)),
            2 => (0..INDICES, 1..5u64).prop_map(|(index, part)| Step::ArmPast(index, part)),
            4 => (0..INDICES).prop_map(Step::Cancel),
            3 => (span(), 0..32).prop_map(|(span, shift)| Step::Advance(span >> shift)),
            2 => Just(Step::Follow),
        ]
    }

    proptest! {
        /// `narrow` shortens all spans of a case, so that some cases crowd into few slots and
        /// others reach the end of time.
        #[test]
        fn it_does_what_the_model_does(
            narrow in 0..44,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut timers = timers(INDICES as usize);
            let mut model = Model::default();
            let mut now = 0u64;
            for step in steps {
                match step {
                    Step::ArmAfter(index, _) | Step::ArmPast(index, _)
                        if timers.is_armed(index) => {}
                    Step::ArmAfter(index, span) => {
                        let deadline = now.saturating_add(span >> narrow);
                        timers.arm(index, deadline);
                        model.arm(index, deadline);
                    }
                    Step::ArmPast(index, part) => {
                        timers.arm(index, now / part);
                        model.arm(index, now / part);
                    }
                    Step::Cancel(index) => {
                        let key = model.key(index);
                        prop_assert_eq!(timers.cancel(index), key.is_some());
                        key.map(|key| model.armed.remove(&key));
                    }
                    Step::Advance(span) => {
                        now = now.saturating_add(span >> narrow);
                        prop_assert_eq!(expired(&mut timers, now), model.expire(now));
                    }
                    // Waking when `next` says so reaches the earliest deadline in at most one
                    // step a level. A deadline at the end of time is never reached.
                    Step::Follow => {
                        let Some(earliest) = model.earliest() else { continue };
                        let mut wakes = 0;
                        while earliest < u64::MAX && model.earliest() == Some(earliest) {
                            now = now.max(timers.next().unwrap());
                            prop_assert_eq!(expired(&mut timers, now), model.expire(now));
                            wakes += 1;
                            prop_assert!(wakes <= LEVELS);
                        }
                    }
                }
                prop_assert_eq!(timers.stats().armed, model.armed.len());
                prop_assert_eq!(timers.is_empty(), model.armed.is_empty());
                prop_assert_eq!(timers.next().is_some(), !model.armed.is_empty());
                prop_assert!(timers.next() <= model.earliest());
                for index in 0..INDICES {
                    prop_assert_eq!(timers.is_armed(index), model.key(index).is_some());
                }
            }
        }
    }
}
