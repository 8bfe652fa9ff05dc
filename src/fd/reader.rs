//! Streams that are read ahead: the kernel's own buffers, lent.

use std::fmt;
use std::io::{self, BufRead, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::ops::Range;

use super::ahead::Ahead;
use super::count;
use crate::backend::{LentBuffer, Operation};
use crate::cancel;
use crate::hub::{Limit, Performed, Received, Source};

/// Bytes of a reader's own buffer.
const OWN_SIZE: usize = 16 << 10;

/// A stream that can be read ahead.
pub(crate) trait Stream {
    /// The receive that goes on, if there is one for it.
    fn operation(&self) -> Option<Operation<'static>>;

    /// How long one read may take, or the error that an earlier operation has
    /// left to be told.
    fn begin(&self) -> io::Result<Limit>;

    /// One receive into the caller's buffer, past all that was read ahead.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    fn ahead(&self) -> &Ahead;

    /// Leaves an error for the next operation.
    fn defer(&self, errno: i32);
}

/// Reads a stream by buffers that the kernel fills and lends.
///
/// Made by [`TcpStream::reader`](crate::net::TcpStream::reader),
/// [`UnixStream::reader`](crate::os::unix::net::UnixStream::reader),
/// [`PipeReader::reader`](crate::io::PipeReader::reader) and the pipes of a
/// [`Child`](crate::process::Child).
/// [`fill_buf`](BufRead::fill_buf) gives the buffer that the kernel has received into,
/// and [`consume`](BufRead::consume) gives it back when all of it was used: nothing is
/// copied, a connection that is idle holds no buffer, and one submission serves for
/// many messages.
///
/// It reads ahead. When 16 buffers or 256 KiB wait to be consumed it stops (up to 1
/// MiB may have come in by then), and goes on when they have been taken, so that a
/// slow consumer slows its sender down. The bytes belong to the stream: those
/// that were not consumed when the reader is dropped are what the next read,
/// peek or reader sees first. A [time limit](crate::net::TcpStream::set_read_timeout), a
/// [`timeout`](crate::time::timeout) or a
/// [cancel](crate::thread::JoinHandle::cancel) loses none that was not consumed; but
/// what `read_line` and its kin have consumed, and not returned when they are
/// interrupted, is where they have put it, as with `std::io::BufReader`.
///
/// The buffers, of 64 KiB, are shared by all readers of a hub, which has more of them
/// as long as there is little in those that are held, up to
/// [`reader_buffers`](crate::runtime::Builder::reader_buffers). Who finds none, and
/// everybody where there is no such thing (the epoll backend, Linux before 6.1, for
/// pipes before 6.7, for FIFOs), has a buffer of its own of 16 KiB, as
/// `std::io::BufReader` has.
///
/// While a reader exists, reads by other means of the same stream, or of a clone
/// made by `try_clone`, fail with `ResourceBusy`; so they do for ever if it is leaked,
/// or abandoned with its green thread when its OS thread ends. What it has received
/// ahead is not seen through the descriptor: by
/// [`wait_readable`](crate::net::wait_readable), by a child process, or by std's type
/// when the stream is converted.
///
/// # Examples
///
/// ```
/// use greenring::io::{BufRead, Write};
/// use greenring::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (server, _) = listener.accept()?;
///
/// client.write_all(b"first line\nsecond")?;
/// drop(client);
/// let mut lines = server.reader().lines();
/// assert_eq!(lines.next().unwrap()?, "first line");
/// assert_eq!(lines.next().unwrap()?, "second");
/// assert!(lines.next().is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Reader<'a> {
    stream: &'a dyn Stream,
    /// Where the kernel fills buffers of its choice.
    source: Option<Source>,
    /// What is being consumed.
    lent: Option<LentBuffer>,
    /// What is being consumed if nothing is lent: what an earlier reader has left,
    /// then what was received without a source. Without memory until it is needed.
    own: Vec<u8>,
    /// Which part of it.
    filled: Range<usize>,
}

impl<'a> Reader<'a> {
    /// # Panics
    ///
    /// The stream has a reader already.
    pub(crate) fn new(stream: &'a dyn Stream) -> Reader<'a> {
        let left = stream.ahead().begin();
        Reader {
            stream,
            source: None,
            lent: None,
            filled: 0..left.len(),
            own: left,
        }
    }

    /// What was received and not consumed of the present buffer; there may be
    /// more behind it. Never waits, as `std::io::BufReader::buffer`.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{BufRead, Write};
    ///
    /// let (reader, mut writer) = greenring::io::pipe()?;
    /// writer.write_all(b"abc")?;
    /// let mut reader = reader.reader();
    /// assert_eq!(reader.buffer(), b"");
    /// reader.fill_buf()?;
    /// reader.consume(1);
    /// assert_eq!(reader.buffer(), b"bc");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn buffer(&self) -> &[u8] {
        match &self.lent {
            Some(buffer) => buffer,
            None => &self.own[self.filled.clone()],
        }
    }

    /// Receives the next bytes; none at the end.
    fn refill(&mut self) -> io::Result<()> {
        debug_assert!(self.buffer().is_empty());
        let limit = self.stream.begin()?;
        let is_sourced = self.is_sourced(limit);
        if is_sourced && !self.own.is_empty() {
            // Nobody knows how long the wait will be.
            self.forget_own();
        }
        if let Some(source) = &self.source {
            match source.next(limit) {
                Received::Lent(buffer) => {
                    self.lent = Some(buffer);
                    return Ok(());
                }
                Received::End(result) => return ended(result),
                Received::TimedOut => return count(Performed::TimedOut).map(drop),
                Received::Interrupted => cancel::raise(),
                Received::Starved => {}
                Received::Gone => self.source = None,
            }
        }
        // What an earlier reader has left may be of any length.
        if self.own.len() != OWN_SIZE {
            self.forget_own();
            self.own = vec![0; OWN_SIZE];
        }
        self.filled = 0..self.stream.receive(&mut self.own)?;
        Ok(())
    }

    #[cold]
    fn forget_own(&mut self) {
        self.own = Vec::new();
        self.filled = 0..0;
    }

    /// Whether there is a source to ask; makes one if it can.
    #[inline]
    fn is_sourced(&mut self, limit: Limit) -> bool {
        if self.source.is_none() && limit != Limit::Now {
            self.source = self.stream.operation().and_then(Source::open);
        }
        self.source.is_some()
    }
}

/// What a source's end is to its reader: the end of the stream, or an error.
fn ended(result: i32) -> io::Result<()> {
    count(Performed::Completed {
        result,
        nonempty: false,
    })
    .map(drop)
}

impl BufRead for Reader<'_> {
    /// The next bytes, waiting for them if none are there; empty at the end of
    /// the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2) or read(2), after all bytes that came before;
    /// `WouldBlock` when a time limit ran out, and in non-blocking mode.
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer().is_empty() {
            self.refill()?;
        }
        Ok(self.buffer())
    }

    #[inline]
    fn consume(&mut self, amount: usize) {
        match &mut self.lent {
            Some(buffer) if amount < buffer.len() => buffer.advance(amount),
            // It goes back to the kernel at once.
            Some(_) => self.lent = None,
            None => {
                self.filled.start = self
                    .filled
                    .end
                    .min(self.filled.start.saturating_add(amount))
            }
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.len() >= OWN_SIZE && self.buffer().is_empty() {
            let limit = self.stream.begin()?;
            if !self.is_sourced(limit) {
                return self.stream.receive(buffer);
            }
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        let count = self.fill_buf()?.read_vectored(buffers)?;
        self.consume(count);
        Ok(count)
    }
}

impl Drop for Reader<'_> {
    /// Leaves what was received and not consumed to the stream.
    fn drop(&mut self) {
        let mut left = self.buffer().to_vec();
        for received in self.source.take().into_iter().flat_map(Source::close) {
            match received {
                Received::Lent(buffer) => left.extend_from_slice(&buffer),
                // The end of the stream tells itself again.
                Received::End(result) if result < 0 => self.stream.defer(-result),
                _ => {}
            }
        }
        self.stream.ahead().end(left);
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffered = self.buffer().len();
        f.debug_struct("Reader")
            .field("buffered", &buffered)
            .finish_non_exhaustive()
    }
}

/// Writes a stream that is read by a [`Reader`] beside it.
///
/// Made by [`TcpStream::split`](crate::net::TcpStream::split) and
/// [`UnixStream::split`](crate::os::unix::net::UnixStream::split).
///
/// # Examples
///
/// ```
/// use greenring::io::{BufRead, Write};
/// use greenring::os::unix::net::UnixStream;
///
/// let (one, other) = UnixStream::pair()?;
/// let (mut reader, mut writer) = one.split();
/// (&other).write_all(b"ping")?;
/// let length = reader.fill_buf()?.len();
/// writer.write_all(reader.buffer())?;
/// reader.consume(length);
/// assert_eq!(other.reader().fill_buf()?, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Writer<'a, S> {
    stream: &'a S,
    /// As its reader.
    not_send: PhantomData<*const ()>,
}

impl<'a, S> Writer<'a, S> {
    pub(crate) fn new(stream: &'a S) -> Writer<'a, S> {
        Writer {
            stream,
            not_send: PhantomData,
        }
    }
}

impl<'a, S> Write for Writer<'a, S>
where
    &'a S: Write,
{
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(buffers)
    }

    #[inline]
    fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
        self.stream.write_all(buffer)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<S: fmt::Debug> fmt::Debug for Writer<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(self.stream).finish()
    }
}
