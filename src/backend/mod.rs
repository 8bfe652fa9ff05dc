//! The kernel's side: two backends with one contract, chosen at run time.
//!
//! This floor knows descriptors, buffers and keys; it has never heard of green
//! threads. Only the hub calls it, always from the OS thread that opened it.
//!
//! # The contract
//!
//! - [`Backend::submit`] takes an operation by reference and a key. Either it
//!   is done at once and the answer is the result, or it is pending, and the
//!   operation with all the memory it lends must stay where it is until its
//!   last completion has been collected.
//! - Each pending operation gets exactly one completion without `more`, also
//!   when it was cancelled. It comes out of [`Backend::wait`] and nowhere else.
//! - [`Backend::cancel`] only asks. It may come too late, in which case the
//!   completion says what the operation achieved; it may have to be asked
//!   again (an operation that a kernel worker is executing cannot be found).
//! - [`Backend::wait`] hands over everything that was queued, waits if it is
//!   told to, and collects completions. It calls back with each and runs
//!   nothing else. A full or overflown completion queue is its business; it may
//!   end early for no reason that can be seen (EINTR), so its callers look at
//!   the clock again.
//! - [`Backend::buffers`] are those that the kernel chooses from for operations
//!   that go on: a completion of one hands a buffer over, which is lent until
//!   its [`LentBuffer`] is dropped. Such an operation has any number of completions
//!   with `more` before its last, and lends nothing.
//! - [`Bell::ring`] ends a wait from any OS thread. A ring that comes while
//!   nobody waits ends the next wait.
//! - [`probe`] says, once per process, what the kernel can do.
//!
//! What neither backend can do without blocking goes to [`offload`].

mod ancillary;
mod buffers;
mod entry;
mod epoll;
pub(crate) mod offload;
mod operation;
mod syscall;
#[cfg(test)]
mod tests;
mod uring;

use std::fmt;
use std::io::{self, ErrorKind::OutOfMemory};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

pub(crate) use ancillary::{MOST_PASSED, close_untaken, passing, room, take_passed};
pub(crate) use buffers::{Filled, LentBuffer};
use epoll::Epoll;
pub(crate) use operation::{
    CURRENT_POSITION, Completion, Descriptor, Interest, Key, Message, Operation, SocketName,
};
pub(crate) use syscall::{attempt, close, own, perform_blocking};
use uring::Uring;

/// Which kernel interface a hub works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// io_uring(7): operations are submitted in batches and completed by the
    /// kernel.
    Uring,
    /// epoll(7): each system call is tried first and tried again when the
    /// descriptor becomes ready.
    Epoll,
}

impl Kind {
    /// The names that `GREENRING_BACKEND` understands.
    pub(crate) const NAMES: &'static str = "uring, epoll";

    /// Whether it reads and writes files in storage without blocking the OS
    /// thread. Readiness says nothing of them: epoll(7) refuses them.
    pub(crate) fn works_on_storage(self) -> bool {
        self == Kind::Uring
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Uring => "uring",
            Kind::Epoll => "epoll",
        })
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(name: &str) -> Result<Kind, ()> {
        match name {
            "uring" => Ok(Kind::Uring),
            "epoll" => Ok(Kind::Epoll),
            _ => Err(()),
        }
    }
}

/// A kernel feature that can be masked, so that one kernel can test the paths
/// of older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// io_uring altogether.
    Uring,
    /// IORING_SETUP_NO_SQARRAY, Linux 6.6.
    NoSqarray,
    /// IORING_SETUP_DEFER_TASKRUN, Linux 6.1.
    DeferTaskrun,
    /// IORING_ENTER_NO_IOWAIT, Linux 6.15.
    NoIowait,
    /// IORING_RECVSEND_POLL_FIRST, Linux 5.19.
    PollFirst,
    /// IORING_ACCEPT_POLL_FIRST, Linux 6.10.
    AcceptPollFirst,
    /// IORING_RECV_MULTISHOT and its kin, Linux 6.0.
    MultishotRecv,
    /// IORING_OP_READ_MULTISHOT, Linux 6.7.
    MultishotRead,
    /// MADV_GUARD_INSTALL, Linux 6.13.
    GuardInstall,
    /// epoll_pwait2(2), Linux 5.11.
    EpollPwait2,
}

impl Feature {
    const ALL: [(Feature, &'static str); 10] = [
        (Feature::Uring, "uring"),
        (Feature::NoSqarray, "no_sqarray"),
        (Feature::DeferTaskrun, "defer_taskrun"),
        (Feature::NoIowait, "no_iowait"),
        (Feature::PollFirst, "poll_first"),
        (Feature::AcceptPollFirst, "accept_poll_first"),
        (Feature::MultishotRecv, "multishot_recv"),
        (Feature::MultishotRead, "multishot_read"),
        (Feature::GuardInstall, "guard_install"),
        (Feature::EpollPwait2, "epoll_pwait2"),
    ];
}

/// The set of masked features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disabled(u32);

impl Disabled {
    pub(crate) fn contains(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// Reads a list of names separated by commas.
    ///
    /// # Errors
    ///
    /// A name that is not known, with the list of those that are.
    pub(crate) fn parse(list: &str) -> Result<Disabled, String> {
        let mut disabled = Disabled::default();
        for name in list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let Some((feature, _)) = Feature::ALL.iter().find(|(_, known)| *known == name) else {
                let known: Vec<_> = Feature::ALL.iter().map(|(_, name)| *name).collect();
                return Err(known.join(", "));
            };
            disabled.0 |= 1 << *feature as u32;
        }
        Ok(disabled)
    }
}

/// Who chose the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nobody: io_uring if it can be had, else epoll.
    Automatic,
    /// Somebody, named by `by`: that one or an error.
    Asked { kind: Kind, by: &'static str },
}

/// How a backend is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) choice: Choice,
    /// Submission queue entries of the ring; the kernel rounds up to a power
    /// of two.
    pub(crate) ring_entries: u32,
    /// The most buffers that the kernel has to choose from.
    pub(crate) reader_buffers: u16,
    pub(crate) disabled: Disabled,
}

/// Ends a backend's wait from any OS thread.
#[derive(Debug)]
pub(crate) struct Bell(EventFd);

impl Bell {
    fn new() -> io::Result<Bell> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Bell(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Rings. The counter is never read: both backends watch for the edge that
    /// every write makes, so it would take 2^64 rings to fill it.
    pub(crate) fn ring(&self) {
        self.0
            .write(1)
            .expect("an eventfd that is never read takes 2^64 writes");
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The answer to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// The operation is over; nothing is lent any more.
    Done(i32),
    /// A completion will follow.
    Pending,
}

/// Counters that every backend keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// System calls made to submit, to wait or both: io_uring_enter(2),
    /// epoll_wait(2).
    pub(crate) enters: u64,
    /// Entries that the kernel has taken from a submission queue.
    pub(crate) entries: u64,
    /// Operations handed over and not done at once.
    pub(crate) submitted: u64,
    /// Operations that were done at once by a direct system call.
    pub(crate) direct: u64,
    /// Completions collected.
    pub(crate) completed: u64,
    /// Times the completion queue had overflown.
    pub(crate) overflows: u64,
    /// Times the submission queue was full.
    pub(crate) full: u64,
    /// Buffers in circulation that the kernel chooses from.
    pub(crate) buffers: usize,
    /// Those of them that it has handed over and not got back.
    pub(crate) buffers_lent: usize,
}

/// One of the two backends.
// The ring's handle is large, but a hub holds exactly one backend.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Backend {
    Uring(Uring),
    Epoll(Epoll),
}

impl Backend {
    /// Opens a backend for the calling OS thread and says why it is this one.
    ///
    /// # Errors
    ///
    /// The backend that was asked for by name cannot be had, or not even epoll
    /// can be opened (descriptors run out).
    pub(crate) fn open(setup: Setup) -> io::Result<(Backend, Arc<Bell>, String)> {
        let bell = Arc::new(Bell::new()?);
        let open_epoll = |bell: &Bell| Epoll::open(bell, setup.disabled).map(Backend::Epoll);
        let (backend, reason) = match setup.choice {
            Choice::Asked {
                kind: Kind::Epoll,
                by,
            } => (open_epoll(&bell)?, format!("epoll, asked for by {by}")),
            Choice::Asked {
                kind: Kind::Uring,
                by,
            } => {
                let uring = Uring::open(&bell, setup).map_err(|refusal| match refusal.error {
                    // A shortage of descriptors may pass; only its errno tells it.
                    error if is_shortage(&error) && error.kind() != OutOfMemory => error,
                    ref error => io::Error::new(
                        error.kind(),
                        format!("{by} asks for the backend uring, but {refusal}"),
                    ),
                })?;
                let reason = format!("io_uring ({}), asked for by {by}", uring.rung());
                (Backend::Uring(uring), reason)
            }
            Choice::Automatic => match Uring::open(&bell, setup) {
                Ok(uring) => {
                    let reason = format!("io_uring ({}), the automatic choice", uring.rung());
                    (Backend::Uring(uring), reason)
                }
                Err(refusal) => (
                    open_epoll(&bell)?,
                    format!("epoll, the automatic choice, because {refusal}"),
                ),
            },
        };
        Ok((backend, bell, reason))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Backend::Uring(_) => Kind::Uring,
            Backend::Epoll(_) => Kind::Epoll,
        }
    }

    /// Hands over an operation; `alone` says that nothing else is ready, so
    /// that a direct system call costs no batch.
    ///
    /// `seen` is a copy of it whose address nobody has. What the caller and the
    /// compiler know of it, above all which operation it is, is therefore known
    /// here as well, and a ring's entry is a few stores.
    ///
    /// # Safety
    ///
    /// If the answer is `Pending`, the operation and all the memory it lends
    /// stay at their addresses until its last completion has been collected.
    #[allow(unsafe_code)] // Passes the callee's contract on.
    #[inline(always)]
    pub(crate) unsafe fn submit(
        &mut self,
        operation: &Operation<'_>,
        seen: Operation<'_>,
        key: Key,
        alone: bool,
    ) -> Submitted {
        match self {
            // SAFETY: the caller's promise is the callee's.
            Backend::Uring(uring) => unsafe { uring.submit(operation, seen, key, alone) },
            // SAFETY: the caller's promise is the callee's.
            Backend::Epoll(epoll) => unsafe { epoll.submit(operation, key) },
        }
    }

    /// The buffers that the kernel chooses from for operations that go on;
    /// `None` where there are none, and such an operation cannot be submitted.
    pub(crate) fn buffers(&mut self, operation: &Operation<'_>) -> Option<Filled> {
        match self {
            Backend::Uring(uring) => {
                let buffers = uring.buffers(operation)?;
                Some(Filled::new(Rc::clone(buffers)))
            }
            Backend::Epoll(_) => None,
        }
    }

    /// Asks for the end of a pending operation, whose completion then follows.
    pub(crate) fn cancel(&mut self, operation: &Operation<'_>, key: Key) {
        match self {
            Backend::Uring(uring) => uring.cancel(key),
            Backend::Epoll(epoll) => epoll.cancel(operation, key),
        }
    }

    /// Whether a wait that does not sleep would do anything: something is
    /// queued or has completed.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        match self {
            Backend::Uring(uring) => uring.has_work(),
            // Only a system call could tell.
            Backend::Epoll(_) => true,
        }
    }

    /// Hands over what is queued without waiting or collecting.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Backend::Uring(uring) => uring.flush(),
            Backend::Epoll(_) => Ok(()),
        }
    }

    /// Hands over what is queued, waits for a completion or a ring of the bell
    /// at most `timeout` (`None`: as long as it takes), and collects all
    /// completions there are.
    ///
    /// # Errors
    ///
    /// Only what no retry can mend.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        collect: impl FnMut(Completion),
    ) -> io::Result<()> {
        match self {
            Backend::Uring(uring) => uring.wait(timeout, collect),
            Backend::Epoll(epoll) => epoll.wait(timeout, collect),
        }
    }

    /// Whether [`trim`](Backend::trim) would return memory to the kernel.
    #[inline]
    pub(crate) fn has_excess(&self) -> bool {
        match self {
            Backend::Uring(uring) => uring.has_excess(),
            Backend::Epoll(_) => false,
        }
    }

    /// Returns memory that an idle hub should not hold.
    pub(crate) fn trim(&self) {
        match self {
            Backend::Uring(uring) => uring.trim(),
            Backend::Epoll(_) => {}
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        match self {
            Backend::Uring(uring) => uring.counters(),
            Backend::Epoll(epoll) => epoll.counters(),
        }
    }
}

/// Whether an error is an ordinary shortage of descriptors or memory, which may
/// pass.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    ) || error.kind() == OutOfMemory
}

/// What the kernel can do, asked once per process.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// uname(2)'s release.
    pub(crate) release: String,
}

pub(crate) fn probe() -> &'static Probe {
    static PROBE: OnceLock<Probe> = OnceLock::new();
    PROBE.get_or_init(|| Probe {
        release: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|release| release.trim().to_owned())
            .unwrap_or_else(|_| "unknown".to_owned()),
    })
}
