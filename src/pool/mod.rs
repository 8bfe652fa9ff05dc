//! Many green threads as one: groups, pools that bound how many there are, and
//! pools of what they share.
//!
//! - [`Group`]: green threads that are waited for or cancelled together.
//! - [`Pool`]: a group of at most `n`; who wants to add one waits for a place.
//! - [`Resources`]: at most `n` connections, or other values that are made when
//!   they are needed, used by one at a time and reused.
//!
//! Both groups run a function over many items: `map` waits for all results and
//! may borrow; `imap` and `imap_unordered` give an iterator over the results
//! while they come, which holds the green threads back if nobody reads.
//!
//! ```
//! use greenring::pool::Pool;
//! use greenring::thread;
//! use std::time::Duration;
//!
//! let pool = Pool::new(3);
//! let texts = ["a", "bb", "ccc", "dddd"];
//! // Three at a time; the results are in the order of the items.
//! let lengths = pool.map(&texts, |text| {
//!     thread::sleep(Duration::from_millis(1));
//!     text.len()
//! });
//! assert_eq!(lengths, [1, 2, 3, 4]);
//! ```
//!
//! A [`thread::scope`](crate::thread::scope) is for green threads that borrow
//! and are of different kinds; a group is for many, for as long as one likes.
//! Everything here is bound to its OS thread. Inside, a pool is a group with a
//! semaphore: `members.rs` has what they share.

mod bounded;
mod group;
mod imap;
mod map;
mod members;
mod resources;

pub use bounded::Pool;
pub use group::Group;
pub use imap::Imap;
pub use resources::{Resource, Resources};
