//! Catching signals: the handler, those who hear of a signal, and what the
//! process did about it before. Called by [`Signals`](super::Signals) only.
//!
//! The handler walks a list of subscribers. For each that wants the signal it
//! sets the signal's bit, and if that was not set, sends a byte into a socket
//! pair whose other end the subscriber reads. The bits tell what has come, the
//! bytes only that something has.
//!
//! # Invariants
//!
//! - *A bit that is set has a byte*: in the socket, or about to be sent by the
//!   handler that set the bit. A socket that takes no more is full of bytes.
//! - *Subscribers are for ever*: the handler may be looking at one at any time,
//!   on any OS thread, so they are leaked with their sockets and used again.
//!   One is vacant while it wants nothing, and changes hands under the lock.
//!   There are as many as were ever in use at a time.
//! - *The handler is async-signal-safe*: it reads atomics and makes system
//!   calls. It takes no lock, allocates nothing and knows no thread-local but
//!   errno, which it leaves as it was.
//! - *Whoever handled the signal before still does*, after us, with what the
//!   kernel gave us. Where ours is the action in force when its last subscriber
//!   goes, the earlier one is put back; where somebody has come on top, who
//!   presumably calls us, ours stays and passes on.
//!
//! A forked child inherits handler and subscribers, and sockets that are its
//! parent's too. So a subscriber counts only in the process that made it.

#![allow(unsafe_code)] // Installs a signal handler, and runs in it.

use std::ffi::{c_int, c_void};
use std::io;
use std::iter;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::fd::Socket;

/// Signals are numbered from 1 to 64.
pub(super) const HIGHEST: i32 = 64;

/// An entry per signal, and an unused one at 0.
const ENTRIES: usize = HIGHEST as usize + 1;

/// The signals of a set.
pub(super) fn members(set: u64) -> impl Iterator<Item = i32> {
    (1..=HIGHEST).filter(move |signal| set & bit(*signal) != 0)
}

/// A signal's bit in a set.
pub(super) fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

// ----- subscribers -----------------------------------------------------------

/// One who hears of signals, or a vacancy.
struct Subscriber {
    /// The process that made the sockets.
    process: u32,
    /// The set of signals to hear of; none in a vacancy.
    wanted: AtomicU64,
    /// The set of signals that have come and were not taken.
    come: AtomicU64,
    reader: Socket<UnixStream>,
    writer: UnixStream,
    next: OnceLock<&'static Subscriber>,
}

/// Where the list of subscribers begins; it only grows, at its end.
static FIRST: OnceLock<&'static Subscriber> = OnceLock::new();

fn subscribers() -> impl Iterator<Item = &'static Subscriber> {
    iter::successors(FIRST.get().copied(), |subscriber| {
        subscriber.next.get().copied()
    })
}

impl Subscriber {
    /// A vacancy, without a trace of its last owner but for what a handler that
    /// is still running may add: the new owner hears of that signal if it wants
    /// it, which came while it subscribed. Called under the lock.
    fn vacant() -> io::Result<&'static Subscriber> {
        let process = process::id();
        let is_vacant = |it: &&Subscriber| it.process == process && it.wanted.load(SeqCst) == 0;
        if let Some(subscriber) = subscribers().find(is_vacant) {
            let reader = subscriber.reader.std().as_raw_fd();
            while recv(reader, &mut [0; 64], MsgFlags::MSG_DONTWAIT).is_ok() {}
            // After the bytes: a bit must not lose its byte.
            subscriber.come.store(0, SeqCst);
            return Ok(subscriber);
        }
        let (reader, writer) = UnixStream::pair()?;
        let subscriber: &Subscriber = Box::leak(Box::new(Subscriber {
            process,
            wanted: AtomicU64::new(0),
            come: AtomicU64::new(0),
            reader: Socket::fresh(reader),
            writer,
            next: OnceLock::new(),
        }));
        let end = subscribers().last().map_or(&FIRST, |last| &last.next);
        let is_appended = end.set(subscriber).is_ok();
        assert!(is_appended, "the list of subscribers grows under the lock");
        Ok(subscriber)
    }

    /// Sends a byte. Fails when the socket is full, and so holds one.
    fn ring(&self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(self.writer.as_raw_fd(), &[0], flags);
    }
}

/// A subscriber's owner; the subscription ends when it is dropped.
pub(super) struct Subscription(&'static Subscriber);

impl Subscription {
    /// Subscribes to a set of signals that may be caught, not the empty one.
    ///
    /// # Errors
    ///
    /// No descriptors; sigaction(2) refuses.
    pub(super) fn new(wanted: u64) -> io::Result<Subscription> {
        let mut dispositions = dispositions();
        let subscriber = Subscriber::vacant()?;
        // Before the handler is installed: what it swallows, somebody must want.
        subscriber.wanted.store(wanted, SeqCst);
        for signal in members(wanted) {
            if let Err(error) = dispositions[signal as usize].retain(signal) {
                let retained = wanted & (bit(signal) - 1);
                end(subscriber, retained, &mut dispositions);
                return Err(error);
            }
        }
        Ok(Subscription(subscriber))
    }

    /// The set of signals subscribed to.
    pub(super) fn wanted(&self) -> u64 {
        self.0.wanted.load(SeqCst)
    }

    /// The socket to read bytes from before a signal can be taken.
    pub(super) fn reader(&self) -> &Socket<UnixStream> {
        &self.0.reader
    }

    /// Takes one of the signals that have come, the lowest, after bytes were
    /// read. If there are more, the next read finds a byte again.
    pub(super) fn take(&self) -> Option<i32> {
        let come = self.0.come.load(SeqCst) & self.wanted();
        let signal = members(come).next()?;
        self.0.come.fetch_and(!bit(signal), SeqCst);
        if come != bit(signal) {
            self.0.ring();
        }
        Some(signal)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        end(self.0, self.wanted(), &mut dispositions());
    }
}

/// Releases a set of signals and makes the subscriber a vacancy: in this order,
/// so that no signal is swallowed that nobody wants.
fn end(subscriber: &Subscriber, retained: u64, dispositions: &mut Dispositions) {
    for signal in members(retained) {
        dispositions[signal as usize].release(signal);
    }
    subscriber.wanted.store(0, SeqCst);
}

// ----- dispositions ----------------------------------------------------------

/// What is known of one signal.
struct Disposition {
    /// Subscribers that want it.
    users: usize,
    /// The action that ours took the place of, while ours is in force or beneath
    /// another.
    replaced: Option<libc::sigaction>,
    /// Every earlier action that there has been; the handler may still read it.
    earlier: Vec<&'static Earlier>,
}

type Dispositions = [Disposition; ENTRIES];

/// The lock for all changes: of dispositions, and of who owns a subscriber.
fn dispositions() -> std::sync::MutexGuard<'static, Dispositions> {
    static DISPOSITIONS: Mutex<Dispositions> = Mutex::new(
        [const {
            Disposition {
                users: 0,
                replaced: None,
                earlier: Vec::new(),
            }
        }; ENTRIES],
    );
    DISPOSITIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disposition {
    /// Counts a subscriber, and sees to it that our handler runs.
    ///
    /// If it was installed and a foreign one has come on top since, that one is
    /// trusted to call ours. To install ours above it would make the two call
    /// each other for ever.
    fn retain(&mut self, signal: i32) -> io::Result<()> {
        let current = action_of(signal)?;
        let is_installed = self.replaced.is_some() && is_function(&current);
        if !is_installed {
            EARLIER[signal as usize].store(self.remember(&current), SeqCst);
            set_action(signal, &ours_instead_of(&current))?;
            self.replaced = Some(current);
        }
        self.users += 1;
        Ok(())
    }

    /// Counts a subscriber less; after the last, puts the earlier action back
    /// where ours is in force.
    fn release(&mut self, signal: i32) {
        self.users -= 1;
        if self.users > 0 || !action_of(signal).is_ok_and(|current| is_ours(&current)) {
            return;
        }
        let Some(mut replaced) = self.replaced else {
            return;
        };
        if ptr::eq(EARLIER[signal as usize].load(SeqCst), &raw const DEFAULT) {
            replaced.sa_sigaction = libc::SIG_DFL;
        }
        // Otherwise ours stays, and passes on.
        if set_action(signal, &replaced).is_ok() {
            self.replaced = None;
        }
    }

    /// What the handler needs to know of an action, at a place where it stays.
    fn remember(&mut self, action: &libc::sigaction) -> *mut Earlier {
        let new = Earlier {
            function: action.sa_sigaction,
            takes_info: action.sa_flags & libc::SA_SIGINFO != 0,
            is_once: action.sa_flags & libc::SA_RESETHAND != 0,
        };
        let known = self.earlier.iter().find(|known| ***known == new);
        let known = known.copied().unwrap_or_else(|| {
            let new: &Earlier = Box::leak(Box::new(new));
            self.earlier.push(new);
            new
        });
        ptr::from_ref(known).cast_mut()
    }
}

/// Whether an action calls a function, ours or another.
fn is_function(action: &libc::sigaction) -> bool {
    !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == our_function()
}

fn our_function() -> libc::sighandler_t {
    let function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
    function as libc::sighandler_t
}

/// Our action, with all that the one it passes on to counts on: its mask, and
/// what the kernel does with children.
fn ours_instead_of(action: &libc::sigaction) -> libc::sigaction {
    let kept = libc::SA_NODEFER | libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT;
    let mut ours = *action;
    ours.sa_sigaction = our_function();
    ours.sa_flags =
        libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO | (action.sa_flags & kept);
    ours
}

fn action_of(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: all zeros is a value of this C structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: a null new action asks only; the old one is written to a structure
    // of the right type.
    Errno::result(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
    Ok(action)
}

fn set_action(signal: i32, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: an action that the kernel gave out, or `on_signal`, which is
    // async-signal-safe, with the flag that it takes three arguments.
    Errno::result(unsafe { libc::sigaction(signal, action, ptr::null_mut()) })?;
    Ok(())
}

// ----- the handler -----------------------------------------------------------

/// What the handler knows of the action that ours took the place of.
#[derive(PartialEq, Eq)]
struct Earlier {
    /// SIG_DFL, SIG_IGN or the address of a function.
    function: libc::sighandler_t,
    /// SA_SIGINFO: the function takes three arguments.
    takes_info: bool,
    /// SA_RESETHAND: the function is called once, and the default is next.
    is_once: bool,
}

/// What is left of an action that was there for one time.
static DEFAULT: Earlier = Earlier {
    function: libc::SIG_DFL,
    takes_info: false,
    is_once: false,
};

/// The earlier action of each signal; null before ours was first installed.
/// What it points to is never freed.
static EARLIER: [AtomicPtr<Earlier>; ENTRIES] =
    [const { AtomicPtr::new(ptr::null_mut()) }; ENTRIES];

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    let is_wanted = announce(signal);
    Errno::set_raw(errno);
    let place = &EARLIER[signal as usize];
    let pointer = place.load(SeqCst);
    // SAFETY: set before this handler was installed, to what is never freed.
    let earlier = unsafe { &*pointer };
    if earlier.is_once {
        let spent = (&raw const DEFAULT).cast_mut();
        if place
            .compare_exchange(pointer, spent, SeqCst, SeqCst)
            .is_err()
        {
            return;
        }
    }
    match earlier.function {
        libc::SIG_DFL if !is_wanted => take_default(signal),
        libc::SIG_DFL | libc::SIG_IGN => {}
        address if earlier.takes_info => {
            type Full = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: sigaction(2): with SA_SIGINFO the address is that of a
            // function of three arguments.
            let function = unsafe { mem::transmute::<libc::sighandler_t, Full>(address) };
            function(signal, info, context);
        }
        address => {
            type Plain = extern "C" fn(c_int);
            // SAFETY: sigaction(2): without SA_SIGINFO the address is that of a
            // function of one argument.
            let function = unsafe { mem::transmute::<libc::sighandler_t, Plain>(address) };
            function(signal);
        }
    }
}

/// Tells every subscriber of this process that wants the signal; whether anyone
/// does, be it of the parent's.
fn announce(signal: i32) -> bool {
    let process = process::id();
    let mut is_wanted = false;
    for subscriber in subscribers() {
        if subscriber.wanted.load(SeqCst) & bit(signal) == 0 {
            continue;
        }
        is_wanted = true;
        if subscriber.process == process
            && subscriber.come.fetch_or(bit(signal), SeqCst) & bit(signal) == 0
        {
            subscriber.ring();
        }
    }
    is_wanted
}

/// Has the kernel take the default action, on return, when the signal is no
/// longer blocked.
///
/// For a handler that nobody needs any more: it was left beneath another, which
/// has since put it back into force. If another still stands above, the signal
/// is that one's business.
#[cold]
fn take_default(signal: i32) {
    if action_of(signal).is_ok_and(|current| is_ours(&current)) {
        // SAFETY: both are async-signal-safe and take plain values.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}
