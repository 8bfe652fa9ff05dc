//! What the ports share: each runs on both backends and over std, and has to
//! give the same answers.
//!
//! A port is one source that is compiled twice, once with `std`'s names in its
//! imports and once with `greenring`'s; see [`one_source!`].

/// Runs `body` on the root of a hub with this backend.
pub fn on(backend: greenring::runtime::Backend, body: impl FnOnce()) {
    greenring::runtime::Builder::new()
        .backend(backend)
        .run(body)
        .expect("the backend can be had");
}

/// Compiles the file at `path` twice: as `over_std`, where `sys` is `std`, and
/// as `over_greenring`, where `sys` is `greenring`. The source begins its
/// imports with `use super::sys::…`: that word is all that a port changes.
#[macro_export]
macro_rules! one_source {
    ($path:literal) => {
        mod over_std {
            use std as sys;
            #[path = $path]
            pub mod port;
        }
        mod over_greenring {
            use greenring as sys;
            #[path = $path]
            pub mod port;
        }
    };
}
