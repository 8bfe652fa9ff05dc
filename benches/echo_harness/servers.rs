//! The servers that need nothing but greenring and std. They are the same lines
//! of blocking Rust, compiled for one and for the other.

use std::env;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use greenring::runtime::{self, Backend};

use super::{Control, Server};

/// greenring on io_uring.
pub const URING: Server = Server {
    name: "greenring uring",
    serve: |control| serve_greenring(Backend::Uring, control),
};

/// greenring on epoll.
pub const EPOLL: Server = Server {
    name: "greenring epoll",
    serve: |control| serve_greenring(Backend::Epoll, control),
};

/// greenring by lent buffers, on the backend it chooses itself.
pub const READER: Server = Server {
    name: "greenring reader()",
    serve: serve_reader,
};

/// An OS thread per connection.
pub const THREADS: Server = Server {
    name: "std threads",
    serve: serve_threads,
};

/// A hub that does not answer within this time is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

const VARIABLE: &str = "GREENRING_BACKEND";

/// Whether the environment chooses the other backend of greenring than this
/// server's.
pub fn is_left_out(server: &Server) -> Result<bool, String> {
    let Some(wanted) = env::var_os(VARIABLE) else {
        return Ok(false);
    };
    match wanted.to_str() {
        Some("uring") => Ok(server.name == EPOLL.name),
        Some("epoll") => Ok(server.name == URING.name),
        _ => {
            let wanted = wanted.display();
            Err(format!("{VARIABLE} is '{wanted}'; allowed: uring, epoll"))
        }
    }
}

/// The server, over the crate or module `$rt`; serves until `accept` fails.
macro_rules! echo {
    ($rt:ident, $listener:expr, $buffer:expr) => {
        for stream in $listener.incoming() {
            let mut stream = stream?;
            stream.set_nodelay(true)?;
            $rt::thread::spawn(move || -> io::Result<()> {
                use $rt::io::{Read, Write};
                let mut buffer = vec![0; $buffer];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(()),
                        read => stream.write_all(&buffer[..read])?,
                    }
                }
            });
        }
    };
}

fn serve_threads(control: Control) -> io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let buffer = control.load().buffer();
    control.listening(listener.local_addr()?, || Ok(None))?;
    echo!(std, listener, buffer);
    Ok(())
}

fn serve_greenring(backend: Backend, control: Control) -> io::Result<()> {
    runtime::Builder::new().backend(backend).run(|| {
        let listener = greenring::net::TcpListener::bind("127.0.0.1:0")?;
        let buffer = control.load().buffer();
        control.listening(listener.local_addr()?, count_enters())?;
        echo!(greenring, listener, buffer);
        Ok(())
    })?
}

fn serve_reader(control: Control) -> io::Result<()> {
    use greenring::io::{BufRead, Write};
    use greenring::net::TcpListener;

    runtime::Builder::new().run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        control.listening(listener.local_addr()?, count_enters())?;
        for stream in listener.incoming() {
            let stream = stream?;
            stream.set_nodelay(true)?;
            greenring::thread::spawn(move || -> io::Result<()> {
                let mut reader = stream.reader();
                loop {
                    let received = reader.fill_buf()?;
                    let length = received.len();
                    if length == 0 {
                        return Ok(());
                    }
                    (&stream).write_all(received)?;
                    reader.consume(length);
                }
            });
        }
        Ok(())
    })?
}

/// A closure for another OS thread that reads this hub's counter: a green
/// thread of the hub answers it.
fn count_enters() -> impl FnMut() -> io::Result<Option<u64>> + Send {
    let asked = Arc::new(AtomicBool::new(false));
    let (sender, answers) = mpsc::channel();
    let answering = greenring::thread::spawn({
        let asked = Arc::clone(&asked);
        move || loop {
            while !asked.swap(false, Ordering::Acquire) {
                greenring::thread::park();
            }
            if sender.send(runtime::stats().enters).is_err() {
                return;
            }
        }
    });
    let answering = answering.thread().clone();
    move || {
        asked.store(true, Ordering::Release);
        answering.unpark();
        let enters = answers.recv_timeout(PATIENCE).map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the hub does not answer any more")
        })?;
        Ok(Some(enters))
    }
}
