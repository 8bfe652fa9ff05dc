//! The echo comparison of `benches/echo.rs`, with tokio beside it. A package of
//! its own, so that nobody else compiles the other runtimes.

#![deny(unsafe_code)]

#[path = "../../arguments/mod.rs"]
mod arguments;
#[path = "../../echo_harness/mod.rs"]
mod echo_harness;
#[path = "../../machine/mod.rs"]
mod machine;
#[allow(dead_code)] // Filled by the driver to come.
mod report;
#[path = "../../statistics/mod.rs"]
mod statistics;

use std::io;
use std::process::ExitCode;

use echo_harness::{BUFFER, Control, EPOLL, Server, THREADS, URING};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// tokio on one OS thread (its `current_thread` flavour).
const TOKIO: Server = Server {
    name: "tokio",
    serve: serve_tokio,
};

fn main() -> ExitCode {
    echo_harness::main(&[URING, EPOLL, TOKIO, THREADS])
}

fn serve_tokio(control: Control) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        control.listening(listener.local_addr()?, || Ok(None))?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}
