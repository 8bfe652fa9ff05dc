//! The servers beside those of the harness. All do equal work: one OS thread,
//! `TCP_NODELAY`, and what comes is sent back from the buffer it was read into.

mod raw_epoll;
mod raw_uring;
mod runtimes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use crate::echo_harness::{BASE, EPOLL, RAW_EPOLL, READER, Server, THREADS, URING};

/// Everybody, in the order of the tables.
pub const SERVERS: [Server; 11] = [
    Server {
        name: BASE,
        serve: raw_uring::serve,
    },
    Server {
        name: "raw_uring send(2)",
        serve: raw_uring::serve_sending,
    },
    Server {
        name: RAW_EPOLL,
        serve: raw_epoll::serve,
    },
    READER,
    URING,
    EPOLL,
    Server {
        name: "tokio",
        serve: runtimes::serve_tokio,
    },
    Server {
        name: "monoio",
        serve: runtimes::serve_monoio,
    },
    Server {
        name: "compio",
        serve: runtimes::serve_compio,
    },
    Server {
        name: "may",
        serve: runtimes::serve_may,
    },
    THREADS,
];

/// A listener whose connections inherit `TCP_NODELAY`.
fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    setsockopt(&listener.as_fd(), sockopt::TcpNoDelay, &true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
