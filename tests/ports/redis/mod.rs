//! A RESP client as one would write it against std, and what it is asked to do.

use super::sys;

mod client;
pub mod scenarios;
