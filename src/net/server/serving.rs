//! What servers of streams have in common: accept, hand over, stop.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::Stats;
use crate::cancel;
use crate::fd::{self, Interest, Limit};
use crate::pauses::Pauses;
use crate::pool::Pool;
use crate::sync::Event;
use crate::thread::{self, Builder, JoinHandle};

/// The pause of a server that lacks descriptors or memory: it doubles with each
/// that helps nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(super) trait Listen: AsFd + 'static {
    type Stream: 'static;
    type Address: 'static;

    fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>;
}

/// How many connections are handled at once unless one is told.
const POOL: usize = 10_000;

/// A server of streams, from its making to its end.
pub(super) struct Serving<L> {
    /// Until it is given to the acceptor.
    listener: RefCell<Option<L>>,
    /// How many connections are handled at once.
    size: usize,
    running: RefCell<Option<Running>>,
    counters: Rc<Counters>,
}

/// A server that was started.
struct Running {
    /// The green thread that accepts. It owns the listener.
    acceptor: JoinHandle<()>,
    pool: Rc<Pool>,
}

#[derive(Default)]
struct Counters {
    accepted: Cell<u64>,
    finished: Cell<u64>,
    panicked: Cell<u64>,
    cancelled: Cell<u64>,
    failed: Cell<u64>,
    pauses: Cell<u64>,
    /// What has ended it, if nobody has stopped it.
    error: RefCell<Option<io::Error>>,
    /// Set when nothing is accepted any more.
    stopped: Event,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// What an error of accept(2) means to a server.
enum Trouble {
    /// Nothing came within the listener's time limit.
    Nothing,
    /// One connection is gone; the next may be well.
    OneConnection,
    /// Something is short, and may not be later.
    Shortage,
    /// The listener is of no more use.
    Listener,
}

impl Trouble {
    fn of(error: &io::Error) -> Trouble {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Trouble::Nothing,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Trouble::Shortage,
            // accept(2): errors of the connection, which Linux passes on; EPERM
            // is a firewall's, ECONNREFUSED an answer's to a datagram.
            Some(
                libc::ECONNABORTED
                | libc::ECONNREFUSED
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ETIMEDOUT,
            ) => Trouble::OneConnection,
            _ => Trouble::Listener,
        }
    }
}

impl<L: Listen> Serving<L> {
    pub(super) fn new(listener: L) -> Serving<L> {
        Serving {
            listener: RefCell::new(Some(listener)),
            size: POOL,
            running: RefCell::new(None),
            counters: Rc::default(),
        }
    }

    #[track_caller]
    pub(super) fn resize(&mut self, size: usize) {
        assert!(
            size > 0,
            "a server with a pool of size zero: it could serve nobody"
        );
        self.size = size;
    }

    /// Accepts on a green thread of the calling OS thread's hub, and hands
    /// each connection to `handler` on one of its own. If the listener cannot be
    /// prepared nothing has happened.
    pub(super) fn start(
        &self,
        prepare: impl FnOnce(&L) -> io::Result<()>,
        handler: impl Fn(L::Stream, L::Address) + 'static,
    ) -> io::Result<()> {
        let listener = self.listener.borrow_mut().take().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "this server was started or stopped before",
            )
        })?;
        if let Err(error) = prepare(&listener) {
            *self.listener.borrow_mut() = Some(listener);
            return Err(error);
        }
        let pool = Rc::new(Pool::new(self.size));
        let accepting = Accepting {
            listener,
            pool: Rc::clone(&pool),
            handler: Rc::new(handler),
            counters: Rc::clone(&self.counters),
        };
        let stopped = Stopped(Rc::clone(&self.counters));
        let acceptor = Builder::new()
            .name("acceptor".to_owned())
            .spawn(move || accepting.run(&stopped))?;
        *self.running.borrow_mut() = Some(Running { acceptor, pool });
        Ok(())
    }

    /// Stops accepting, and closes the listener.
    fn close(&self) {
        drop(self.listener.borrow_mut().take());
        match &*self.running.borrow() {
            Some(running) => running.acceptor.cancel(),
            None => self.counters.stopped.set(),
        }
        self.wait_until_stopped();
    }

    fn wait_until_stopped(&self) {
        // What the handler has captured is dropped by the acceptor, and may call.
        let is_acceptor = self
            .running
            .borrow()
            .as_ref()
            .is_some_and(|running| running.acceptor.thread().id() == thread::current().id());
        if !is_acceptor {
            self.counters.stopped.wait();
        }
    }

    /// Stops accepting, then waits for all handlers, `timeout` at the most
    /// before it cancels them.
    pub(super) fn stop(&self, timeout: Option<Duration>) {
        self.close();
        let pool = self
            .running
            .borrow()
            .as_ref()
            .map(|running| Rc::clone(&running.pool));
        let Some(pool) = pool else { return };
        if pool.includes_caller() {
            return;
        }
        match timeout {
            None => pool.join(),
            Some(timeout) => {
                if !pool.join_timeout(timeout) {
                    pool.cancel();
                    pool.join();
                }
            }
        }
    }

    /// Waits until nothing is accepted any more.
    pub(super) fn wait(&self) -> io::Result<()> {
        self.wait_until_stopped();
        match &*self.counters.error.borrow() {
            None => Ok(()),
            Some(error) => Err(copy(error)),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let running = self.running.borrow();
        Stats {
            accepted: counters.accepted.get(),
            active: running.as_ref().map_or(0, |running| running.pool.len()),
            finished: counters.finished.get(),
            panicked: counters.panicked.get(),
            cancelled: counters.cancelled.get(),
            failed: counters.failed.get(),
            pauses: counters.pauses.get(),
        }
    }

    /// What a server shows of itself, under its own name.
    pub(super) fn debug(
        &self,
        name: &str,
        address: &dyn fmt::Debug,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.debug_struct(name)
            .field("address", address)
            .field("pool", &self.size)
            .field("started", &self.running.borrow().is_some())
            .field("stopped", &self.counters.stopped.is_set())
            .field("stats", &self.stats())
            .finish()
    }
}

/// The methods of a face that say nothing of their own.
macro_rules! methods_as_of_stream_server {
    ($server:ident) => {
        impl $server {
            /// Handles at most `n` at once, 10 000 unless it is told.
            ///
            /// # Panics
            ///
            /// If `n` is zero: nobody could be served.
            ///
            /// # Examples
            ///
            /// See [`StreamServer::pool`](super::StreamServer::pool).
            #[must_use]
            #[track_caller]
            pub fn pool(mut self, n: usize) -> $server {
                self.serving.resize(n);
                self
            }

            /// As [`StreamServer::wait`](super::StreamServer::wait).
            ///
            /// # Errors
            ///
            /// What the socket has failed with.
            ///
            /// # Examples
            ///
            /// See [`StreamServer::wait`](super::StreamServer::wait).
            pub fn wait(&self) -> io::Result<()> {
                self.serving.wait()
            }

            /// As [`StreamServer::stop`](super::StreamServer::stop).
            ///
            /// # Panics
            ///
            /// With `panic = "abort"`, see the [module](super).
            ///
            /// # Examples
            ///
            /// See [`StreamServer::stop`](super::StreamServer::stop).
            pub fn stop(&self) {
                self.serving.stop(None);
            }

            /// As [`StreamServer::stop_timeout`](super::StreamServer::stop_timeout).
            ///
            /// # Panics
            ///
            /// With `panic = "abort"`, see the [module](super).
            ///
            /// # Examples
            ///
            /// See [`StreamServer::stop_timeout`](super::StreamServer::stop_timeout).
            pub fn stop_timeout(&self, timeout: Duration) {
                self.serving.stop(Some(timeout));
            }

            /// What it has done and does.
            ///
            /// # Examples
            ///
            /// See [`StreamServer::stats`](super::StreamServer::stats).
            #[must_use]
            pub fn stats(&self) -> Stats {
                self.serving.stats()
            }
        }

        impl fmt::Debug for $server {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serving.debug(stringify!($server), &self.address, f)
            }
        }
    };
}

pub(super) use methods_as_of_stream_server;

/// The error of a server made from a socket whose address cannot be told.
pub(super) fn no_address() -> io::Error {
    io::Error::other("the socket of this server has no address")
}

/// An error of the kernel's once more.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}

impl<L> Drop for Serving<L> {
    /// Stops accepting; handlers go on by themselves.
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut()
            && cancel::supported()
        {
            running.acceptor.cancel();
        }
    }
}

/// What the acceptor works with.
struct Accepting<L, H> {
    listener: L,
    pool: Rc<Pool>,
    handler: Rc<H>,
    counters: Rc<Counters>,
}

/// Tells the end of accepting, however it came.
struct Stopped(Rc<Counters>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.stopped.set();
    }
}

impl<L: Listen, H: Fn(L::Stream, L::Address) + 'static> Accepting<L, H> {
    /// Accepts to the end; when `stopped` is dropped nothing else is left.
    fn run(self, stopped: &Stopped) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.accept()));
        drop(self.listener);
        // What it has captured is the user's: in an unwinding its panic would end
        // the process, and what its destructors wait for they are to get.
        cancel::shield(|| drop(self.handler));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => *stopped.0.error.borrow_mut() = Some(error),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Accepts until it is interrupted, or the listener fails.
    fn accept(&self) -> io::Result<()> {
        let begin = || Pauses::between(FIRST_PAUSE, LONGEST_PAUSE);
        let mut pauses = begin();
        loop {
            // First a place, so that nobody is accepted and left waiting.
            let place = self.pool.admit();
            let trouble = match self.listener.accept() {
                Ok((stream, address)) => {
                    count(&self.counters.accepted);
                    let handler = Rc::clone(&self.handler);
                    let mut handling = Handling::new(&self.counters);
                    let served = self.pool.spawn_in(place, move || {
                        handling.reach(Progress::Begun);
                        handler(stream, address);
                        handling.reach(Progress::Finished);
                    });
                    if served.is_ok() {
                        pauses = begin();
                        continue;
                    }
                    // The connection is closed: there is no stack for it.
                    Trouble::Shortage
                }
                Err(error) => match Trouble::of(&error) {
                    Trouble::Listener => return Err(error),
                    trouble => trouble,
                },
            };
            match trouble {
                // In non-blocking mode accept does not wait, so this does.
                Trouble::Nothing => {
                    fd::wait_for(self.listener.as_fd(), Interest::Readable, Limit::Forever)?;
                }
                Trouble::Listener => {}
                Trouble::OneConnection => count(&self.counters.failed),
                Trouble::Shortage => {
                    count(&self.counters.pauses);
                    pauses.sleep();
                }
            }
        }
    }
}

/// Counts how the handling of a connection ends.
struct Handling {
    counters: Rc<Counters>,
    progress: Progress,
}

enum Progress {
    NotBegun,
    Begun,
    Finished,
}

impl Handling {
    fn new(counters: &Rc<Counters>) -> Handling {
        Handling {
            counters: Rc::clone(counters),
            progress: Progress::NotBegun,
        }
    }

    fn reach(&mut self, progress: Progress) {
        self.progress = progress;
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let counters = &self.counters;
        count(match self.progress {
            Progress::NotBegun => &counters.failed,
            Progress::Begun if cancel::is_cancelled() => &counters.cancelled,
            Progress::Begun => &counters.panicked,
            Progress::Finished => &counters.finished,
        });
    }
}
