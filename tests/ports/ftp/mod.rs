//! A file transfer protocol with two sockets, its server and its client, as
//! one would write them against std.

use super::sys;

mod client;
pub mod scenarios;
mod server;
