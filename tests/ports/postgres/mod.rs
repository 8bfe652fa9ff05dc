//! A PostgreSQL client as one would write it against std, over the messages of
//! the `postgres-protocol` crate, and what it is asked to do.

use super::sys;

mod client;
mod pool;
pub mod scenarios;
