//! 64 bytes there and back by UDP, 50 pairs at once.

use std::time::Duration;

use greenring::net::UdpSocket;
use greenring::runtime::Backend;
use greenring::thread;

use crate::comparison::{Goal, Row, by};
use crate::runtimes::{on_tokio_with_io, timed};
use crate::scratch::on;

/// How many talk to an echo of their own.
const PAIRS: u64 = 50;

const EPOLL: &str = "greenring, epoll";

pub const ROWS: &[Row] = &[Row {
    name: "UDP echo of 64 B, 50 pairs",
    contestants: &[
        by("greenring, io_uring", |n| echo(n, Backend::Uring)),
        by(EPOLL, |n| echo(n, Backend::Epoll)),
        by("tokio, 1 OS thread", on_tokio),
    ],
    goals: &[Goal::Ratio(EPOLL, 1.0)],
}];

fn echo(n: u64, backend: Backend) -> Duration {
    let bound = || UdpSocket::bind("127.0.0.1:0").expect("a port");
    on(backend, || {
        let pairs: Vec<_> = (0..PAIRS).map(|_| (bound(), bound())).collect();
        timed(|| {
            thread::scope(|scope| {
                for (client, server) in &pairs {
                    let turns = n.div_ceil(PAIRS);
                    scope.spawn(move || {
                        let mut buffer = [0; 64];
                        for _ in 0..turns {
                            let (count, from) = server.recv_from(&mut buffer).expect("a datagram");
                            server.send_to(&buffer[..count], from).expect("room");
                        }
                    });
                    scope.spawn(move || {
                        let mut buffer = [7; 64];
                        let to = server.local_addr().expect("it is bound");
                        for _ in 0..turns {
                            client.send_to(&buffer, to).expect("room");
                            client.recv_from(&mut buffer).expect("an echo");
                        }
                    });
                }
            });
        })
    })
}

fn on_tokio(n: u64) -> Duration {
    on_tokio_with_io(async move {
        let mut pairs = Vec::new();
        for _ in 0..PAIRS {
            let bound = || tokio::net::UdpSocket::bind("127.0.0.1:0");
            pairs.push((
                bound().await.expect("a port"),
                bound().await.expect("a port"),
            ));
        }
        let turns = n.div_ceil(PAIRS);
        let start = crate::machine::cpu_time();
        let mut ends = Vec::new();
        for (client, server) in pairs {
            let to = server.local_addr().expect("it is bound");
            ends.push(tokio::spawn(async move {
                let mut buffer = [0; 64];
                for _ in 0..turns {
                    let (count, from) = server.recv_from(&mut buffer).await.expect("a datagram");
                    server.send_to(&buffer[..count], from).await.expect("room");
                }
            }));
            ends.push(tokio::spawn(async move {
                let mut buffer = [7; 64];
                for _ in 0..turns {
                    client.send_to(&buffer, to).await.expect("room");
                    client.recv_from(&mut buffer).await.expect("an echo");
                }
            }));
        }
        for end in ends {
            end.await.expect("it ends");
        }
        crate::machine::cpu_time_since(start)
    })
}
