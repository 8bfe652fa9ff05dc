//! A file to a socket whose other end throws away what it gets.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use greenring::runtime::Backend;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, recv};

use crate::comparison::{Contestant, Goal, Row};
use crate::scratch::{LENGTH, file, measured, on, wall};

const SENDFILE: &str = "sendfile(2) on an OS thread";

/// Copies of one sample: 1 GiB.
const COPIES: u64 = (1 << 30) / LENGTH;

const fn copies(name: &'static str, run: fn(u64) -> Duration) -> Contestant {
    Contestant {
        name,
        count: Some(COPIES),
        run,
    }
}

pub const ROWS: &[Row] = &[Row {
    name: "copy of 64 MiB from a file to a socket",
    contestants: &[
        copies("greenring io::copy, io_uring", |n| {
            on_greenring(n, Backend::Uring)
        }),
        copies("greenring io::copy, epoll", |n| {
            on_greenring(n, Backend::Epoll)
        }),
        copies("std io::copy on an OS thread", on_std),
        copies(SENDFILE, on_sendfile),
    ],
    goals: &[Goal::Ratio(SENDFILE, 1.1)],
}];

/// A connection, and who empties its other end until it is closed.
fn drained() -> (TcpStream, thread::JoinHandle<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let stream = TcpStream::connect(address).expect("it listens");
    let (peer, _) = listener.accept().expect("somebody connects");
    let drains = thread::spawn(move || {
        let mut room = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match recv(peer.as_raw_fd(), &mut room, MsgFlags::MSG_TRUNC).expect("a peer") {
                0 => return bytes,
                count => bytes += count as u64,
            }
        }
    });
    (stream, drains)
}

fn drained_by(n: u64, copy: impl FnOnce(&TcpStream)) -> Duration {
    let (stream, drains) = drained();
    measured(wall, || {
        copy(&stream);
        stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(drains.join().expect("it ends"), n * LENGTH);
    })
}

fn on_greenring(n: u64, backend: Backend) -> Duration {
    on(backend, || {
        drained_by(n, |stream| {
            let stream = stream.try_clone().expect("a descriptor");
            let mut to = greenring::net::TcpStream::from(stream);
            for _ in 0..n {
                let mut from = greenring::fs::File::open(file()).expect("the file");
                greenring::io::copy(&mut from, &mut to).expect("a peer that reads");
            }
        })
    })
}

fn on_std(n: u64) -> Duration {
    drained_by(n, |mut stream| {
        for _ in 0..n {
            let mut from = std::fs::File::open(file()).expect("the file");
            std::io::copy(&mut from, &mut stream).expect("a peer that reads");
        }
        stream.flush().expect("it is open");
    })
}

fn on_sendfile(n: u64) -> Duration {
    drained_by(n, |stream| {
        for _ in 0..n {
            let from = std::fs::File::open(file()).expect("the file");
            let mut left = LENGTH as usize;
            while left > 0 {
                let sent = sendfile(stream.as_fd(), from.as_fd(), None, left);
                left -= sent.expect("a peer that reads");
            }
        }
    })
}
