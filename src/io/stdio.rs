//! Standard input, output and error, as in `std::io`.
//!
//! The buffers are the process's and have nothing to do with std's: one behind a
//! [`Mutex`] for input, and one behind a re-entrant lock for output. What waits
//! for the descriptors is in `fd/standard.rs`. The last thing that the process
//! does is to write what output's buffer still has, see [`flush_at_exit`].

use std::fmt;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, LineWriter, Lines, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError};

use super::reentrant::{Hold, Reentrant};
use crate::fd::standard::{self, Standard};
use crate::sync::{Mutex, MutexGuard};

/// Bytes that input is read ahead, as in std.
const READ_AHEAD: usize = 8 * 1024;

/// What a descriptor gives that is closed: nothing, as in std.
fn if_closed<T>(result: io::Result<T>, nothing: impl FnOnce() -> T) -> io::Result<T> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(nothing()),
        result => result,
    }
}

// ----- standard input -------------------------------------------------------

/// Descriptor 0.
struct RawStdin;

impl Read for RawStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if_closed(standard::read(Standard::Input.fd(), buffer), || 0)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = standard::read_vectored(Standard::Input.fd(), buffers);
        if_closed(read, || 0)
    }
}

/// A handle to the process's standard input, as `std::io::Stdin`.
///
/// Each read locks a buffer that the whole process shares; [`lock`](Stdin::lock)
/// keeps it for several. Whoever waits for input parks, and holds the lock
/// meanwhile.
///
/// # Difference from std
///
/// The buffer is greenring's: what `std::io::stdin()` has read ahead is not seen
/// here, nor the other way round. See also [`io`](crate::io#standard-streams).
///
/// # Examples
///
/// ```no_run
/// use greenring::io;
///
/// let mut line = String::new();
/// io::stdin().read_line(&mut line)?;
/// println!("{}", line.trim_end());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Stdin {
    shared: &'static Mutex<BufReader<RawStdin>>,
}

/// Standard input, locked, as `std::io::StdinLock`: it can be read by lines.
///
/// # Examples
///
/// ```no_run
/// use greenring::io::{self, BufRead};
///
/// for line in io::stdin().lock().lines() {
///     println!("{}", line?.to_uppercase());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "if unused stdin will immediately unlock"]
pub struct StdinLock<'a> {
    guard: MutexGuard<'a, BufReader<RawStdin>>,
}

/// A handle to the process's standard input.
///
/// # Examples
///
/// ```no_run
/// use greenring::io::{self, Read};
///
/// let mut text = String::new();
/// io::stdin().read_to_string(&mut text)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn stdin() -> Stdin {
    static STDIN: OnceLock<Mutex<BufReader<RawStdin>>> = OnceLock::new();
    Stdin {
        shared: STDIN.get_or_init(|| Mutex::new(BufReader::with_capacity(READ_AHEAD, RawStdin))),
    }
}

impl Stdin {
    /// Locks the buffer, waiting until nobody else has it.
    ///
    /// # Panics
    ///
    /// The caller holds the lock already.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use greenring::io::{self, BufRead};
    ///
    /// let mut first = String::new();
    /// let mut second = String::new();
    /// let mut stdin = io::stdin().lock();
    /// stdin.read_line(&mut first)?;
    /// stdin.read_line(&mut second)?; // nobody took a line in between
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lock(&self) -> StdinLock<'static> {
        StdinLock {
            guard: self.shared.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Appends one line, with its end, to `buf`; `Ok(0)` at the end of input.
    ///
    /// # Errors
    ///
    /// Those of [`BufRead::read_line`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use greenring::io;
    ///
    /// let mut line = String::new();
    /// if io::stdin().read_line(&mut line)? == 0 {
    ///     println!("the end");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_line(&self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_line(buf)
    }

    /// Locks the buffer and gives the lines of the input.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use greenring::io;
    ///
    /// for line in io::stdin().lines() {
    ///     println!("got {}", line?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "`self` will be dropped if the result is not used"]
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}

/// `Read` by what `$this => $reader` gives.
macro_rules! read_by {
    ($target:ty, $this:ident => $reader:expr) => {
        impl Read for $target {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let $this = self;
                $reader.read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let $this = self;
                $reader.read_vectored(buffers)
            }

            fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
                let $this = self;
                $reader.read_to_end(buffer)
            }

            fn read_to_string(&mut self, buffer: &mut String) -> io::Result<usize> {
                let $this = self;
                $reader.read_to_string(buffer)
            }

            fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
                let $this = self;
                $reader.read_exact(buffer)
            }
        }
    };
}

read_by!(Stdin, this => this.lock());
read_by!(&Stdin, this => this.lock());
read_by!(StdinLock<'_>, this => this.guard);

impl BufRead for StdinLock<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.guard.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.guard.consume(n);
    }

    fn read_until(&mut self, byte: u8, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.guard.read_until(byte, buffer)
    }

    fn read_line(&mut self, buffer: &mut String) -> io::Result<usize> {
        self.guard.read_line(buffer)
    }
}

// ----- standard output and error --------------------------------------------

/// The process ends: what is written is written by plain system calls.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Standard output or standard error, without a buffer.
struct Output(Standard);

impl Write for Output {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = if EXITING.load(Ordering::Relaxed) {
            standard::write_at_exit(self.0.fd(), buffer)
        } else {
            standard::write(self.0.fd(), buffer)
        };
        if_closed(written, || buffer.len())
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if EXITING.load(Ordering::Relaxed) {
            let first = buffers.iter().find(|buffer| !buffer.is_empty());
            return first.map_or(Ok(0), |first| self.write(first));
        }
        let written = standard::write_vectored(self.0.fd(), buffers);
        if_closed(written, || buffers.iter().map(|buffer| buffer.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static STDOUT: OnceLock<Reentrant<LineWriter<Output>>> = OnceLock::new();
static STDERR: Reentrant<Output> =
    Reentrant::new(Output(Standard::Error), || Output(Standard::Error));

/// Writes what standard output's buffer still has when the process ends, and
/// lets nothing stay in it from then on; unless another OS thread holds the
/// lock, as in std, or a write is under way.
extern "C" fn flush_at_exit() {
    EXITING.store(true, Ordering::Relaxed);
    let flush = || {
        if let Some(stdout) = STDOUT.get() {
            stdout.at_exit(|writer| {
                // Nobody is left to be told of an error.
                let _ = writer.flush();
                *writer = LineWriter::with_capacity(0, Output(Standard::Output));
            });
        }
    };
    // The C library, which calls this, cannot be unwound.
    let _ = catch_unwind(AssertUnwindSafe(flush));
}

/// A handle to the process's standard output, as `std::io::Stdout`.
///
/// It is buffered by lines, whatever is behind it, and all handles share the
/// buffer. Whoever writes to a pipe or terminal that is full parks, and holds
/// the lock meanwhile. The same green thread (or OS thread) may take the lock
/// again while it has it. What the buffer holds when the process ends is written,
/// unless it ends by a signal or by `abort`, while another OS thread has the lock,
/// or while somebody is writing.
///
/// # Difference from std
///
/// The buffer is greenring's, beside std's own: parts of lines that are written
/// to both come out in another order than they were written in. The test harness
/// does not capture it. See also [`io`](crate::io#standard-streams).
///
/// # Examples
///
/// ```
/// use greenring::io::{self, Write};
///
/// io::stdout().write_all(b"hello\n")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Stdout {
    shared: &'static Reentrant<LineWriter<Output>>,
}

/// Standard output, locked, as `std::io::StdoutLock`.
///
/// # Panics
///
/// Writing panics if the lock was handed to another green thread of the same
/// OS thread and both write at the same time.
///
/// # Examples
///
/// See [`Stdout::lock`].
#[must_use = "if unused stdout will immediately unlock"]
pub struct StdoutLock<'a> {
    hold: Hold<LineWriter<Output>>,
    lifetime: PhantomData<&'a ()>,
}

/// A handle to the process's standard error, as `std::io::Stderr`.
///
/// It is not buffered. The same green thread (or OS thread) may take the lock
/// again while it has it.
///
/// # Difference from std
///
/// The lock is greenring's, beside std's own, which its panic messages take. See
/// also [`io`](crate::io#standard-streams).
///
/// # Examples
///
/// ```
/// use greenring::io::{self, Write};
///
/// io::stderr().write_all(b"careful\n")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Stderr {
    shared: &'static Reentrant<Output>,
}

/// Standard error, locked, as `std::io::StderrLock`.
///
/// # Panics
///
/// As [`StdoutLock`].
///
/// # Examples
///
/// See [`Stderr::lock`].
#[must_use = "if unused stderr will immediately unlock"]
pub struct StderrLock<'a> {
    hold: Hold<Output>,
    lifetime: PhantomData<&'a ()>,
}

/// A handle to the process's standard output.
///
/// # Examples
///
/// ```
/// use greenring::io::{self, Write};
///
/// let mut stdout = io::stdout();
/// write!(stdout, "partial lines ")?;
/// stdout.flush()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn stdout() -> Stdout {
    Stdout {
        shared: STDOUT.get_or_init(|| {
            standard::at_exit(flush_at_exit);
            let value = LineWriter::new(Output(Standard::Output));
            Reentrant::new(value, || {
                LineWriter::with_capacity(0, Output(Standard::Output))
            })
        }),
    }
}

/// A handle to the process's standard error.
///
/// # Examples
///
/// ```
/// use greenring::io::{self, Write};
///
/// writeln!(io::stderr(), "{} errors", 2)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn stderr() -> Stderr {
    Stderr { shared: &STDERR }
}

impl Stdout {
    /// Locks the output, waiting until nobody else has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{self, Write};
    ///
    /// let mut stdout = io::stdout().lock();
    /// writeln!(stdout, "these lines")?;
    /// writeln!(stdout, "stay together")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lock(&self) -> StdoutLock<'static> {
        StdoutLock {
            hold: self.shared.lock(),
            lifetime: PhantomData,
        }
    }
}

impl Stderr {
    /// Locks the output, waiting until nobody else has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::io::{self, Write};
    ///
    /// let mut stderr = io::stderr().lock();
    /// writeln!(stderr, "these lines")?;
    /// writeln!(stderr, "stay together")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lock(&self) -> StderrLock<'static> {
        StderrLock {
            hold: self.shared.lock(),
            lifetime: PhantomData,
        }
    }
}

/// What a handle of an output and its lock have in common.
macro_rules! output {
    ($handle:ident, $lock:ident, $std:ident) => {
        write_by_lock!($handle);
        write_by_lock!(&$handle);

        // Not `write_fmt`: what is formatted may write here itself.
        impl Write for $lock<'_> {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.hold.with(|writer| writer.write(buffer))
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.hold.with(|writer| writer.write_vectored(buffers))
            }

            fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
                self.hold.with(|writer| writer.write_all(buffer))
            }

            fn flush(&mut self) -> io::Result<()> {
                // A prompt that was printed by std's macro, before the answer is
                // asked for here. Costs nothing if there is none.
                io::$std().flush()?;
                self.hold.with(|writer| writer.flush())
            }
        }

        impl UnwindSafe for $handle {}
        impl RefUnwindSafe for $handle {}
        impl UnwindSafe for $lock<'_> {}
        impl RefUnwindSafe for $lock<'_> {}

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($handle)).finish_non_exhaustive()
            }
        }

        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }
    };
}

/// `Write` of a handle: each call locks, also for all parts of a format.
macro_rules! write_by_lock {
    ($handle:ty) => {
        impl Write for $handle {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.lock().write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.lock().write_vectored(buffers)
            }

            fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
                self.lock().write_all(buffer)
            }

            fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
                self.lock().write_fmt(arguments)
            }

            fn flush(&mut self) -> io::Result<()> {
                self.lock().flush()
            }
        }
    };
}

output!(Stdout, StdoutLock, stdout);
output!(Stderr, StderrLock, stderr);

impl From<Stdout> for Stdio {
    /// A child's output that goes where this process's standard output goes.
    fn from(_: Stdout) -> Stdio {
        io::stdout().into()
    }
}

impl From<Stderr> for Stdio {
    /// A child's output that goes where this process's standard error goes.
    fn from(_: Stderr) -> Stdio {
        io::stderr().into()
    }
}

// ----- descriptors ----------------------------------------------------------

/// The descriptor behind a handle and its lock, which `$number` names.
macro_rules! descriptor {
    ($number:expr, $($target:ty),*) => {$(
        impl AsFd for $target {
            fn as_fd(&self) -> BorrowedFd<'_> {
                $number.fd()
            }
        }

        impl AsRawFd for $target {
            fn as_raw_fd(&self) -> RawFd {
                $number.fd().as_raw_fd()
            }
        }

        impl $target {
            /// Whether it is a terminal. An inherent method, because
            /// [`std::io::IsTerminal`] is closed to types that are not std's.
            ///
            /// # Examples
            ///
            /// ```
            /// if greenring::io::stdout().is_terminal() {
            ///     println!("in colour");
            /// }
            /// ```
            pub fn is_terminal(&self) -> bool {
                io::IsTerminal::is_terminal(&self.as_fd())
            }
        }
    )*};
}

descriptor!(Standard::Input, Stdin, StdinLock<'_>);
descriptor!(Standard::Output, Stdout, StdoutLock<'_>);
descriptor!(Standard::Error, Stderr, StderrLock<'_>);

// ----- the macros' other halves ---------------------------------------------

#[doc(hidden)]
#[track_caller]
pub fn _print(arguments: fmt::Arguments<'_>) {
    if let Err(error) = stdout().write_fmt(arguments) {
        panic!("failed printing to stdout: {error}");
    }
}

#[doc(hidden)]
#[track_caller]
pub fn _eprint(arguments: fmt::Arguments<'_>) {
    if let Err(error) = stderr().write_fmt(arguments) {
        panic!("failed printing to stderr: {error}");
    }
}
