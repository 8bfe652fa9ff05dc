//! A syslog sender and collector as one would write them against std.

use super::sys;

mod collector;
mod logger;
pub mod scenarios;
