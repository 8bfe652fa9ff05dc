//! The same suites, read by another way: with `GREENRING_TEST_READER` set, each
//! read of a stream goes through a `reader()` that lives as long as the call.
//!
//! A suite takes part by importing [`Read`] from here instead of greenring's.
//! What takes std's trait (`io::copy`, `BufReader`) stays as it is. Where a
//! reader differs by design a test says so, by [`plainly`].

use std::cell::Cell;
use std::io::{self, IoSliceMut};

use greenring::io::PipeReader;
use greenring::net::TcpStream;
use greenring::os::unix::net::UnixStream;

thread_local! {
    static PLAINLY: Cell<bool> = const { Cell::new(false) };
}

/// For the rest of this test, on this OS thread, reads are what they are called.
pub fn plainly(_why: &str) {
    PLAINLY.set(true);
}

/// Forgets what an earlier test on this OS thread has asked for.
pub(super) fn begin() {
    PLAINLY.set(false);
}

/// Whether reads go through readers here.
pub fn is_on() -> bool {
    std::env::var_os("GREENRING_TEST_READER").is_some() && !PLAINLY.get()
}

/// As `std::io::Read`, as far as the suites use it.
pub trait Read {
    /// Calls `f` with what is to be read: a reader of the stream, or itself.
    fn through<R>(&mut self, f: impl FnOnce(&mut dyn io::Read) -> R) -> R;

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.through(|stream| stream.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.through(|stream| stream.read_vectored(buffers))
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.through(|stream| stream.read_exact(buffer))
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.through(|stream| stream.read_to_end(bytes))
    }

    fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        self.through(|stream| stream.read_to_string(text))
    }
}

macro_rules! by_reader {
    ($($stream:ty),*) => {$(
        impl Read for &$stream {
            fn through<R>(&mut self, f: impl FnOnce(&mut dyn io::Read) -> R) -> R {
                match is_on() {
                    true => f(&mut self.reader()),
                    false => f(self),
                }
            }
        }

        impl Read for $stream {
            fn through<R>(&mut self, f: impl FnOnce(&mut dyn io::Read) -> R) -> R {
                (&*self).through(f)
            }
        }
    )*};
}

by_reader!(TcpStream, UnixStream, PipeReader);

macro_rules! plain {
    ($($stream:ty),*) => {$(
        impl Read for $stream {
            fn through<R>(&mut self, f: impl FnOnce(&mut dyn io::Read) -> R) -> R {
                f(self)
            }
        }
    )*};
}

// What the suites compare with.
plain!(
    std::net::TcpStream,
    &std::net::TcpStream,
    std::os::unix::net::UnixStream,
    &std::os::unix::net::UnixStream,
    std::io::PipeReader,
    &std::io::PipeReader,
    std::fs::File,
    &std::fs::File
);
