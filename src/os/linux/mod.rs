//! Extensions for Linux alone, as in `std::os::linux`.

pub mod fs;
pub mod net;
