//! Other runtimes: the same echo in each one's own words.

use std::io;

use crate::echo_harness::Control;

/// tokio on one OS thread (its `current_thread` flavour).
pub fn serve_tokio(control: Control) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let size = control.load().buffer();
        control.listening(listener.local_addr()?, || Ok(None))?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut buffer = vec![0; size];
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => return io::Result::Ok(()),
                        read => stream.write_all(&buffer[..read]).await?,
                    }
                }
            });
        }
    })
}

/// monoio on io_uring: an operation owns its buffer until it completes.
pub fn serve_monoio(control: Control) -> io::Result<()> {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build()?;
    runtime.block_on(async {
        let listener = monoio::net::TcpListener::bind("127.0.0.1:0")?;
        let size = control.load().buffer();
        control.listening(listener.local_addr()?, || Ok(None))?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(async move {
                let mut buffer = Vec::with_capacity(size);
                loop {
                    let (read, filled) = stream.read(buffer).await;
                    if read? == 0 {
                        return io::Result::Ok(());
                    }
                    let (written, filled) = stream.write_all(filled).await;
                    written?;
                    buffer = filled;
                    buffer.clear();
                }
            });
        }
    })
}

/// compio on io_uring: likewise.
pub fn serve_compio(control: Control) -> io::Result<()> {
    use compio::BufResult;
    use compio::io::{AsyncRead, AsyncWriteExt};

    compio::runtime::Runtime::new()?.block_on(async {
        let listener = compio::net::TcpListener::bind("127.0.0.1:0").await?;
        let size = control.load().buffer();
        control.listening(listener.local_addr()?, || Ok(None))?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let echo = async move {
                let mut buffer = Vec::with_capacity(size);
                loop {
                    let BufResult(read, filled) = stream.read(buffer).await;
                    if read? == 0 {
                        return io::Result::Ok(());
                    }
                    let BufResult(written, filled) = stream.write_all(filled).await;
                    written?;
                    buffer = filled;
                    buffer.clear();
                }
            };
            compio::runtime::spawn(echo).detach();
        }
    })
}

/// may with one OS thread for all its coroutines.
pub fn serve_may(control: Control) -> io::Result<()> {
    use std::io::{Read, Write};

    may::config().set_workers(1);
    // Otherwise it chooses its CPU itself.
    may::config().set_worker_pin(false);
    let serve = may::go!(move || {
        let listener = may::net::TcpListener::bind("127.0.0.1:0")?;
        let size = control.load().buffer();
        control.listening(listener.local_addr()?, || Ok(None))?;
        loop {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            may::go!(move || -> io::Result<()> {
                let mut buffer = vec![0; size];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(()),
                        read => stream.write_all(&buffer[..read])?,
                    }
                }
            });
        }
    });
    serve.join().expect("it does not panic")
}
