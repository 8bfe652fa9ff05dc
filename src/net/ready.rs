//! Readiness of descriptors that belong to others.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::fd::{self, Interest, Limit};

/// Parks the caller until `fd` can be read from without blocking: whether that
/// is so before the timeout has run out (`None`: as long as it takes).
///
/// For descriptors of C libraries, which do their own reading and writing: put
/// the descriptor into non-blocking mode, call the library, and wait here when
/// it says that it would block. An error, a hang-up and the end of the data
/// count as readable, poll(2). A timeout of zero only looks.
///
/// Nothing is remembered of the descriptor, so the library may close it and
/// open others under its number between two calls. While the caller waits it
/// must stay open; one that is closed meanwhile waits until its timeout.
///
/// Bytes that a [`reader`](crate::io::Reader) has received and left to its stream are not
/// readiness of the descriptor: read those first.
///
/// # Errors
///
/// `fd` is not open (EBADF), or the hub cannot be started.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// let (here, mut there) = UnixStream::pair()?;
/// assert!(!greenring::net::wait_readable(&here, Some(Duration::ZERO))?);
/// there.write_all(b"x")?;
/// assert!(greenring::net::wait_readable(&here, None)?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A library that is used without blocking the hub:
///
/// ```
/// use std::io::{ErrorKind, Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// use greenring::net::wait_readable;
///
/// // Stands for the library, which reads from its own socket.
/// let (mut library, mut server) = UnixStream::pair()?;
/// library.set_nonblocking(true)?;
/// greenring::spawn(move || server.write_all(b"answer"));
///
/// let mut answer = [0; 16];
/// let count = loop {
///     match library.read(&mut answer) {
///         Err(error) if error.kind() == ErrorKind::WouldBlock => {
///             wait_readable(&library, None)?;
///         }
///         result => break result?,
///     }
/// };
/// assert_eq!(&answer[..count], b"answer");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    wait_for(fd, Interest::Readable, timeout)
}

/// Parks the caller until `fd` can be written to without blocking; otherwise as
/// [`wait_readable`].
///
/// # Errors
///
/// As those of [`wait_readable`].
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// let (here, _there) = UnixStream::pair()?;
/// assert!(greenring::net::wait_writable(&here, None)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    wait_for(fd, Interest::Writable, timeout)
}

fn wait_for(fd: impl AsFd, interest: Interest, timeout: Option<Duration>) -> io::Result<bool> {
    let limit = match timeout {
        None => Limit::Forever,
        Some(Duration::ZERO) => Limit::Now,
        Some(timeout) => Limit::Timeout(timeout),
    };
    fd::wait_for(fd.as_fd(), interest, limit)
}
