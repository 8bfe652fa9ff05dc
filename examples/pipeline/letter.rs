//! Letters, and the stamps that take some computing.

use std::cmp::Reverse;

use greenring::time::{Duration, Instant};

/// What a stamp must have as its last bits: so many zeros. Each more doubles the
/// work; these take some tenths of a millisecond.
const ZEROS: u32 = 17;

/// How urgent a letter is. The later, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Standard,
    Express,
}

/// The order of the fields is that in which they are compared: the greatest
/// letter is the oldest of the most urgent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    class: Class,
    number: Reverse<u64>,
    written: Instant,
}

impl Letter {
    /// Writes the letter with this number.
    pub fn write(class: Class, number: u64) -> Letter {
        Letter {
            class,
            number: Reverse(number),
            written: Instant::now(),
        }
    }

    /// Looks for a stamp that fits, which is easier said than done: there is no
    /// way but to try.
    pub fn stamp(self) -> Stamped {
        let stamp = (0..).find(|&stamp| fits(self.number.0, stamp));
        Stamped {
            stamp: stamp.expect("there is no end of numbers"),
            letter: self,
        }
    }
}

/// A letter that can be delivered.
pub struct Stamped {
    letter: Letter,
    stamp: u64,
}

impl Stamped {
    pub fn class(&self) -> Class {
        self.letter.class
    }

    /// Checking a stamp is quick.
    pub fn is_valid(&self) -> bool {
        fits(self.letter.number.0, self.stamp)
    }

    /// The time since the letter was written.
    pub fn age(&self) -> Duration {
        self.letter.written.elapsed()
    }
}

/// Mixes both numbers as SplitMix64 does, and looks at the last bits.
fn fits(number: u64, stamp: u64) -> bool {
    let mut word = number.rotate_left(32) ^ stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)).trailing_zeros() >= ZEROS
}
