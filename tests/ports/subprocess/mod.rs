//! A driver of line-oriented programs as one would write it against std.

use super::sys;

mod dialogue;
pub mod scenarios;
