//! Sockets that a service manager has opened: sd_listen_fds(3).

#![allow(unsafe_code)] // Takes over descriptors that the process was started with.

use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};

use crate::net::unix::{UnixDatagram, UnixListener};
use crate::net::{TcpListener, UdpSocket};

/// The first descriptor, SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// A socket that the process was started with, see [`inherited`].
///
/// # Examples
///
/// See [`inherited`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Inherited {
    /// What the service manager calls it, `FileDescriptorName=` in a socket
    /// unit; `unknown` if it does not say.
    pub name: String,
    /// The socket.
    pub socket: InheritedSocket,
}

/// What kind of socket was [`inherited`].
///
/// # Examples
///
/// See [`inherited`].
#[derive(Debug)]
#[non_exhaustive]
pub enum InheritedSocket {
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// A Unix stream socket that listens.
    Unix(UnixListener),
    /// A UDP socket.
    Udp(UdpSocket),
    /// A Unix datagram socket.
    UnixDatagram(UnixDatagram),
    /// Something else: a connection, a pipe, a device.
    Other(OwnedFd),
}

/// The sockets that a service manager has opened for this process: systemd's
/// socket activation, sd_listen_fds(3).
///
/// They are described by `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`. If the
/// environment does not say so, or says it of another process, there are none.
/// They belong to whoever calls this first: later calls get none. The environment
/// stays as it is; children do not take it for theirs, because it names this
/// process, and do not inherit the sockets.
///
/// # Errors
///
/// `InvalidInput` if the variables cannot be understood; EBADF if a descriptor
/// is not open, and then none is taken.
///
/// # Examples
///
/// ```
/// use greenring::net::server::{self, InheritedSocket, StreamServer};
///
/// let mut servers = Vec::new();
/// for inherited in server::inherited()? {
///     match inherited.socket {
///         InheritedSocket::Tcp(listener) => servers.push(StreamServer::from(listener)),
///         other => eprintln!("{}: not served: {other:?}", inherited.name),
///     }
/// }
/// if servers.is_empty() {
///     servers.push(StreamServer::bind("127.0.0.1:0")?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn inherited() -> io::Result<Vec<Inherited>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);

    let Some(count) = announced()? else {
        return Ok(Vec::new());
    };
    let descriptors = FIRST..FIRST + count;
    for fd in descriptors.clone() {
        // SAFETY: only asked about, for the duration of the call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_GETFD)?;
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    descriptors
        .map(|fd| {
            // SAFETY: it is open, was there before the process began, which the
            // environment says is its owner, and is taken once.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            let name = names.next().filter(|name| !name.is_empty());
            Ok(Inherited {
                name: name.unwrap_or("unknown").to_owned(),
                socket: InheritedSocket::from(fd),
            })
        })
        .collect()
}

/// How many descriptors the environment announces to this process.
fn announced() -> io::Result<Option<RawFd>> {
    let (Some(process), Some(count)) = (number("LISTEN_PID")?, number("LISTEN_FDS")?) else {
        return Ok(None);
    };
    let is_ours = i64::from(process) == i64::from(process::id());
    match FIRST.checked_add(count) {
        _ if !is_ours => Ok(None),
        Some(_) if count >= 0 => Ok(Some(count)),
        _ => Err(invalid("LISTEN_FDS", &count.to_string())),
    }
}

fn number(variable: &str) -> io::Result<Option<i32>> {
    let Some(text) = env::var_os(variable) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    let number = text.parse().map_err(|_| invalid(variable, &text))?;
    Ok(Some(number))
}

fn invalid(variable: &str, value: &str) -> io::Error {
    let text = format!("{variable} is {value:?}, which is not a number of sockets or processes");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Finds out what it is.
impl From<OwnedFd> for InheritedSocket {
    fn from(fd: OwnedFd) -> InheritedSocket {
        let kind = getsockopt(&fd, sockopt::SockType).ok();
        let listens = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
        match (family(&fd), kind) {
            (Some(AddressFamily::Inet | AddressFamily::Inet6), Some(SockType::Stream))
                if listens =>
            {
                InheritedSocket::Tcp(fd.into())
            }
            (Some(AddressFamily::Inet | AddressFamily::Inet6), Some(SockType::Datagram)) => {
                InheritedSocket::Udp(fd.into())
            }
            (Some(AddressFamily::Unix), Some(SockType::Stream)) if listens => {
                InheritedSocket::Unix(fd.into())
            }
            (Some(AddressFamily::Unix), Some(SockType::Datagram)) => {
                InheritedSocket::UnixDatagram(fd.into())
            }
            _ => InheritedSocket::Other(fd),
        }
    }
}

fn family(fd: &impl AsFd) -> Option<AddressFamily> {
    let name = getsockname::<SockaddrStorage>(fd.as_fd().as_raw_fd()).ok()?;
    name.family()
}
