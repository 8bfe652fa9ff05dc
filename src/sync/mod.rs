//! Locks and signals between green threads, under the names of `std::sync`.
//!
//! Everything here works between green threads of one hub, of hubs on different
//! OS threads, and OS threads that never had a hub, in every mixture.

mod permits;
mod wait_list;

pub(crate) use wait_list::{Ticket, WaitList};
