//! The servers that need nothing but greenring and std. They are the same lines
//! of blocking Rust, compiled for one and for the other.

use std::env;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use greenring::runtime::{self, Backend};

use super::{BUFFER, Control, Server};

/// greenring on io_uring.
pub const URING: Server = Server {
    name: "greenring, uring",
    serve: |control| serve_greenring(Backend::Uring, control),
};

/// greenring on epoll.
pub const EPOLL: Server = Server {
    name: "greenring, epoll",
    serve: |control| serve_greenring(Backend::Epoll, control),
};

/// An OS thread per connection.
pub const THREADS: Server = Server {
    name: "std threads",
    serve: serve_threads,
};

/// A hub that does not answer within this time is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

const VARIABLE: &str = "GREENRING_BACKEND";

/// The servers to measure: all, unless the environment names a backend of
/// greenring, in which case it is the only one.
pub fn selected(servers: &[Server]) -> Result<Vec<&Server>, String> {
    let Some(wanted) = env::var_os(VARIABLE) else {
        return Ok(servers.iter().collect());
    };
    let left_out = match wanted.to_str() {
        Some("uring") => EPOLL.name,
        Some("epoll") => URING.name,
        _ => {
            let wanted = wanted.display();
            return Err(format!("{VARIABLE} is '{wanted}'; allowed: uring, epoll"));
        }
    };
    println!("{left_out}: left out, because {VARIABLE} names the other one");
    Ok(servers
        .iter()
        .filter(|server| server.name != left_out)
        .collect())
}

/// Whether the rest is worth measuring without this one: a container may
/// refuse io_uring, which is no failure unless it was asked for by name.
pub fn may_be_refused(server: &Server) -> bool {
    server.name == URING.name && env::var_os(VARIABLE).is_none()
}

/// The server, over the crate or module `$rt`; serves until `accept` fails.
macro_rules! echo {
    ($rt:ident, $listener:expr) => {
        for stream in $listener.incoming() {
            let mut stream = stream?;
            stream.set_nodelay(true)?;
            $rt::thread::spawn(move || -> io::Result<()> {
                use $rt::io::{Read, Write};
                let mut buffer = vec![0; BUFFER];
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
    control.listening(listener.local_addr()?, || Ok(None))?;
    echo!(std, listener);
    Ok(())
}

fn serve_greenring(backend: Backend, control: Control) -> io::Result<()> {
    runtime::Builder::new().backend(backend).run(|| {
        let listener = greenring::net::TcpListener::bind("127.0.0.1:0")?;
        control.listening(listener.local_addr()?, count_enters())?;
        echo!(greenring, listener);
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
