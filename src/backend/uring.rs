//! The io_uring backend: one ring per hub, entered only by its own OS thread.
//!
//! Entries are pushed to the submission queue and handed over by the one
//! io_uring_enter(2) of the hub's turn. Completions run when that OS thread
//! enters (IORING_SETUP_DEFER_TASKRUN), so nothing interrupts it in between.
//!
//! Everything that can go wrong between pushing and collecting is handled
//! here: a full submission queue is submitted and, if the kernel refuses
//! because completions are waiting (EBUSY, EAGAIN), those are moved to
//! `backlog` first; an overflown completion queue is flushed by entering until
//! the kernel's own list is empty; EINTR ends a wait as a ring of the bell does.

#![allow(unsafe_code)] // Pushes entries that point to lent memory; enters the ring.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use super::buffers::{Buffers, GROUP};
use super::entry::{PollFirst, entry};
use super::operation::{Completion, Key, Operation};
use super::{Bell, Counters, Disabled, Feature, Setup, Submitted, probe, syscall};

/// Completion queue entries per submission queue entry. The kernel's own
/// factor of 2 is too small when many operations are in flight and complete in
/// one burst; an overflow is survived but slow.
const COMPLETIONS_PER_ENTRY: u32 = 4;

/// Below this many entries a ring that the kernel has no memory for is given
/// up.
const FEWEST_ENTRIES: u32 = 8;

/// The most kernel workers of one kind that a ring may have.
const MOST_WORKERS: u32 = 64;

/// How often a submission that the kernel refuses for want of memory is tried
/// again after its completions were collected.
const REFUSALS: u32 = 16;

/// A wait this long is cut and begun again by the hub: the kernel refuses
/// times that do not fit its signed seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(1 << 31);

/// Which kernels' set-up flags the ring was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    /// Linux 6.6: everything, without the index array.
    NoSqarray,
    /// Linux 6.1: completions run only when the hub enters.
    DeferTaskrun,
    /// Linux 5.19: completions run at any return from the kernel.
    CoopTaskrun,
}

impl Rung {
    /// The rungs from the newest kernel to the oldest.
    const LADDER: [Rung; 3] = [Rung::NoSqarray, Rung::DeferTaskrun, Rung::CoopTaskrun];

    fn is_disabled(self, disabled: Disabled) -> bool {
        match self {
            Rung::NoSqarray => {
                disabled.contains(Feature::NoSqarray) || disabled.contains(Feature::DeferTaskrun)
            }
            Rung::DeferTaskrun => disabled.contains(Feature::DeferTaskrun),
            Rung::CoopTaskrun => false,
        }
    }

    fn build(self, entries: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_clamp()
            .setup_submit_all()
            .setup_taskrun_flag()
            .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_ENTRY));
        match self {
            Rung::NoSqarray => builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_no_sqarray(),
            Rung::DeferTaskrun => builder.setup_single_issuer().setup_defer_taskrun(),
            Rung::CoopTaskrun => builder.setup_coop_taskrun(),
        };
        builder.build(entries)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rung::NoSqarray => "the newest set-up, as since Linux 6.6",
            Rung::DeferTaskrun => "set up as on Linux 6.1",
            Rung::CoopTaskrun => "set up as on Linux 5.19",
        })
    }
}

/// Why there is no ring, with the likely cause.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: io::Error,
    why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Refusal {
    fn of_setup(error: io::Error) -> Refusal {
        let release = &probe().release;
        let cause = match error.raw_os_error() {
            Some(libc::EPERM) => match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            {
                Ok(value) if value.trim() != "0" => format!(
                    "EPERM: the sysctl kernel.io_uring_disabled is {}",
                    value.trim()
                ),
                _ => "EPERM: a seccomp profile, as container engines install, or another security \
                      module forbids it"
                    .to_owned(),
            },
            Some(libc::ENOSYS) => format!(
                "ENOSYS: kernel {release} was built without it, or a seccomp profile hides it"
            ),
            Some(libc::EINVAL) => {
                format!("EINVAL: it needs Linux 5.19, and this is kernel {release}")
            }
            Some(libc::ENOMEM) => {
                "ENOMEM: there is no memory for it, or RLIMIT_MEMLOCK is too low".to_owned()
            }
            Some(libc::EMFILE) => "EMFILE: the process is out of descriptors".to_owned(),
            Some(libc::ENFILE) => "ENFILE: the system is out of descriptors".to_owned(),
            _ => error.to_string(),
        };
        Refusal {
            why: format!("io_uring_setup(2) was refused with {cause}"),
            error,
        }
    }

    fn disabled() -> Refusal {
        Refusal {
            error: io::Error::from_raw_os_error(libc::ENOSYS),
            why: "io_uring is masked by GREENRING_DISABLE".to_owned(),
        }
    }

    fn lacking(what: &str) -> Refusal {
        Refusal {
            error: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
            why: format!("this kernel's io_uring lacks {what}"),
        }
    }
}

/// The ring of one hub.
pub(crate) struct Uring {
    ring: IoUring,
    rung: Rung,
    /// IORING_ENTER_NO_IOWAIT where the kernel knows it (6.15): a sleeping hub
    /// does not count as waiting for a disk.
    no_iowait: EnterFlags,
    /// IORING_RECVSEND_POLL_FIRST and IORING_ACCEPT_POLL_FIRST may be used.
    knows: PollFirst,
    /// What the kernel is known to fill buffers of its choice by.
    receives_many: bool,
    reads_many: bool,
    most_buffers: u16,
    /// Those buffers, once they have been asked for.
    buffers: Option<Rc<Buffers>>,
    /// Completions that were collected to make room for a submission.
    backlog: VecDeque<Completion>,
    /// Watched by a multishot poll; kept open as long as the ring.
    bell: Arc<Bell>,
    bell_armed: bool,
    counters: Counters,
}

impl Uring {
    /// Makes a ring for the calling OS thread, stepping down the ladder where
    /// the kernel does not know a flag (EINVAL) and halving its size where it
    /// has no memory (ENOMEM).
    pub(super) fn open(bell: &Arc<Bell>, setup: Setup) -> Result<Uring, Refusal> {
        if setup.disabled.contains(Feature::Uring) {
            return Err(Refusal::disabled());
        }
        let mut rungs = Rung::LADDER
            .into_iter()
            .filter(|rung| !rung.is_disabled(setup.disabled));
        let mut rung = rungs.next().expect("the last rung cannot be disabled");
        let mut entries = setup.ring_entries;
        let ring = loop {
            match rung.build(entries) {
                Ok(ring) => break ring,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match rungs.next() {
                    Some(next) => rung = next,
                    None => return Err(Refusal::of_setup(error)),
                },
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOMEM) && entries > FEWEST_ENTRIES =>
                {
                    entries /= 2;
                }
                Err(error) => return Err(Refusal::of_setup(error)),
            }
        };
        let params = ring.params();
        if !params.is_feature_nodrop() {
            return Err(Refusal::lacking("IORING_FEAT_NODROP"));
        }
        if !params.is_feature_ext_arg() {
            return Err(Refusal::lacking("IORING_FEAT_EXT_ARG"));
        }
        let probe = check_operations(&ring)?;
        cap_workers(&ring);
        // Multishot receives came with Linux 6.0, and are trusted from 6.1 on.
        let receives_many =
            rung != Rung::CoopTaskrun && !setup.disabled.contains(Feature::MultishotRecv);
        let knows = PollFirst {
            receive: !setup.disabled.contains(Feature::PollFirst),
            // It came with bundles, which have a flag to tell.
            accept: params.is_feature_recvsend_bundle()
                && !setup.disabled.contains(Feature::AcceptPollFirst),
        };
        let no_iowait =
            if params.is_feature_no_iowait() && !setup.disabled.contains(Feature::NoIowait) {
                EnterFlags::NO_IOWAIT
            } else {
                EnterFlags::empty()
            };
        Ok(Uring {
            ring,
            rung,
            no_iowait,
            knows,
            receives_many,
            reads_many: receives_many
                && probe.is_supported(opcode::ReadMulti::CODE)
                && !setup.disabled.contains(Feature::MultishotRead),
            most_buffers: setup.reader_buffers,
            buffers: None,
            backlog: VecDeque::new(),
            bell: Arc::clone(bell),
            bell_armed: false,
            counters: Counters::default(),
        })
    }

    pub(super) fn rung(&self) -> impl fmt::Display {
        self.rung
    }

    pub(super) fn counters(&self) -> Counters {
        let mut counters = self.counters;
        if let Some(buffers) = &self.buffers {
            counters.buffers = buffers.provided();
            counters.buffers_lent = buffers.provided() - buffers.available();
        }
        counters
    }

    /// The buffers that operations like this one are given by the kernel; `None`
    /// where it does not know them, or has no memory for the ring.
    pub(super) fn buffers(&mut self, operation: &Operation<'_>) -> Option<&Rc<Buffers>> {
        let known = match operation {
            Operation::RecvMany { .. } => &mut self.receives_many,
            Operation::ReadMany { .. } => &mut self.reads_many,
            _ => return None,
        };
        if *known && self.buffers.is_none() {
            self.buffers = provide(&self.ring, self.most_buffers).ok();
            // It would be refused again and again.
            *known = self.buffers.is_some();
        }
        self.buffers.as_ref().filter(|_| *known)
    }

    /// Whether [`trim`](Uring::trim) would return memory.
    pub(super) fn has_excess(&self) -> bool {
        self.buffers
            .as_ref()
            .is_some_and(|buffers| buffers.has_excess())
    }

    /// Returns memory that an idle hub should not hold.
    pub(super) fn trim(&self) {
        if let Some(buffers) = &self.buffers {
            buffers.trim();
        }
    }

    /// Queues an operation, or performs it at once when nothing else is ready and it
    /// is expected not to wait.
    ///
    /// A lone send(2) saves the completion and with it an enter, and so does a lone
    /// recv(2) where the last one has not emptied the socket; one that finds nothing
    /// costs 190 ns, more than it saves.
    ///
    /// # Safety
    ///
    /// The contract of `Backend::submit`.
    #[inline(always)]
    pub(super) unsafe fn submit(
        &mut self,
        operation: &Operation<'_>,
        seen: Operation<'_>,
        key: Key,
        alone: bool,
    ) -> Submitted {
        let is_expected = matches!(
            seen,
            Operation::Send { .. }
                | Operation::SendMessage { .. }
                | Operation::Recv {
                    poll_first: false,
                    ..
                }
        );
        if alone && is_expected {
            return self.attempt_alone(operation, key);
        }
        self.queue(operation, seen, key)
    }

    #[inline(never)]
    fn attempt_alone(&mut self, operation: &Operation<'_>, key: Key) -> Submitted {
        let result = syscall::attempt(operation);
        if result != -libc::EAGAIN {
            self.counters.direct += 1;
            return Submitted::Done(result);
        }
        self.queue(operation, *operation, key)
    }

    /// Queues an operation.
    ///
    /// The callers answer for what it lends.
    #[inline(always)]
    fn queue(&mut self, operation: &Operation<'_>, seen: Operation<'_>, key: Key) -> Submitted {
        self.counters.submitted += 1;
        // The entry is built in the queue itself, because it is not lent to
        // anything that is not inlined.
        let entry = entry(&seen, key, self.knows);
        // SAFETY: operations come from `submit`, whose caller keeps what they
        // lend in place (landlord rule).
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return Submitted::Pending;
        }
        self.queue_to_full(operation, key)
    }

    /// Queues the cancel of the operation under `key`.
    ///
    /// With deferred task work the cancel's own completion comes before the
    /// target's and proves nothing; it is suppressed on success, and a failing
    /// one (ENOENT, EALREADY) is ignored when collected. A cancel that cannot
    /// even be queued is asked for again by the hub, as is one that came while
    /// a kernel worker executed the operation.
    pub(super) fn cancel(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.user_data())
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Key::CANCEL.user_data());
        // Refused for want of memory: the hub asks again.
        let _ = self.push(&entry);
    }

    /// Whether something is queued, has completed, or waits to run in an enter.
    #[inline]
    pub(super) fn has_work(&mut self) -> bool {
        if !self.backlog.is_empty() || !self.bell_armed {
            return true;
        }
        let (_, submission, completion) = self.ring.split();
        !submission.is_empty()
            || submission.taskrun()
            || submission.cq_overflow()
            || !completion.is_empty()
    }

    /// Hands over what is queued, without waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        match self.enter(0, EnterFlags::empty(), None) {
            Ok(()) => Ok(()),
            Err(libc::EBUSY | libc::EAGAIN | libc::EINTR) => Ok(()), // The next wait retries.
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// One enter that submits and, if told to, waits; then all completions.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut collect: impl FnMut(Completion),
    ) -> io::Result<()> {
        self.arm_bell();
        let mut collected = self.backlog.len();
        for completion in self.backlog.drain(..) {
            collect(completion);
        }
        collected += self.collect_ready(&mut collect);

        let waits = collected == 0 && timeout != Some(Duration::ZERO);
        if !waits && !self.has_work() {
            return Ok(());
        }
        let timeout = timeout
            .filter(|_| waits)
            .map(|timeout| Timespec::from(timeout.min(LONGEST_WAIT)));
        match self.enter(u32::from(waits), EnterFlags::GETEVENTS, timeout.as_ref()) {
            Ok(()) => {}
            // ETIME: the timeout ran out, entries were submitted before it.
            // EINTR: a signal handler ran. EBUSY, EAGAIN: the completion queue
            // must be emptied first, which is what happens next; what was not
            // submitted stays queued for the next turn.
            Err(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
            Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
        self.collect_ready(&mut collect);
        while self.ring.submission().cq_overflow() {
            self.counters.overflows += 1;
            match self.enter(0, EnterFlags::GETEVENTS, None) {
                Ok(()) | Err(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
            if self.collect_ready(&mut collect) == 0 {
                break;
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn queue_to_full(&mut self, operation: &Operation<'_>, key: Key) -> Submitted {
        let entry = entry(operation, key, self.knows);
        match self.push_to_full(&entry) {
            Ok(()) => Submitted::Pending,
            Err(errno) => {
                self.counters.submitted -= 1;
                Submitted::Done(-errno)
            }
        }
    }

    /// Pushes an entry, making room in a full queue.
    ///
    /// The callers answer for the memory that the entry points to.
    #[inline]
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), i32> {
        // SAFETY: operations come from `submit`, whose caller keeps what they
        // lend in place (landlord rule); cancels and the bell's poll lend nothing.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.push_to_full(entry)
    }

    #[cold]
    fn push_to_full(&mut self, entry: &squeue::Entry) -> Result<(), i32> {
        self.counters.full += 1;
        let mut refusals = 0;
        loop {
            let result = self.enter(0, EnterFlags::GETEVENTS, None);
            let mut backlog = std::mem::take(&mut self.backlog);
            let collected = self.collect_ready(&mut |completion| backlog.push_back(completion));
            self.backlog = backlog;
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            match result {
                Ok(()) | Err(libc::EINTR) => {}
                Err(libc::EBUSY | libc::EAGAIN) if collected > 0 => {}
                // The kernel has no memory for requests: the operation fails.
                Err(errno) if refusals == REFUSALS => return Err(errno),
                Err(_) => refusals += 1,
            }
        }
    }

    /// io_uring_enter(2) for all that is queued.
    fn enter(
        &mut self,
        want: u32,
        flags: EnterFlags,
        timeout: Option<&Timespec>,
    ) -> Result<(), i32> {
        self.counters.enters += 1;
        let queued = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        let result = match timeout {
            Some(timespec) => {
                let arguments = SubmitArgs::new().timespec(timespec);
                let flags = flags | self.no_iowait | EnterFlags::EXT_ARG;
                // SAFETY: the argument is the structure that EXT_ARG announces
                // (IORING_FEAT_EXT_ARG was checked) and outlives the call.
                unsafe { submitter.enter(queued, want, flags.bits(), Some(&arguments)) }
            }
            None => {
                let flags = flags | self.no_iowait;
                // SAFETY: no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, want, flags.bits(), None) }
            }
        };
        match result {
            Ok(taken) => {
                self.counters.entries += taken as u64;
                Ok(())
            }
            Err(error) => Err(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// Collects what stands in the completion queue and says how much it was,
    /// not counting cancels and the bell.
    #[inline(never)]
    fn collect_ready(&mut self, collect: &mut impl FnMut(Completion)) -> usize {
        let mut collected = 0;
        let mut bell_armed = self.bell_armed;
        let buffers = self.buffers.as_deref();
        for entry in self.ring.completion() {
            let key = Key::from_user_data(entry.user_data());
            if key.is_operation() {
                collected += 1;
                let flags = entry.flags();
                let buffer = cqueue::buffer_select(flags);
                if buffer.is_some() {
                    buffers.expect("the kernel chooses from these").note_taken();
                }
                collect(Completion {
                    key,
                    result: entry.result(),
                    more: cqueue::more(flags),
                    nonempty: cqueue::sock_nonempty(flags),
                    buffer,
                });
            } else if key == Key::BELL {
                // A rung bell counts as work: the inbox is to be looked at.
                collected += 1;
                bell_armed = cqueue::more(entry.flags());
            }
        }
        self.bell_armed = bell_armed;
        self.counters.completed += collected as u64;
        collected
    }

    /// Watches the bell, if the last watch has ended (a multishot poll ends
    /// when the completion queue overflows).
    #[inline]
    fn arm_bell(&mut self) {
        if self.bell_armed {
            return;
        }
        let fd = types::Fd(self.bell.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(Key::BELL.user_data());
        self.bell_armed = self.push(&entry).is_ok();
    }
}

/// Makes buffers and registers their ring (IORING_REGISTER_PBUF_RING, Linux 5.19).
fn provide(ring: &IoUring, most: u16) -> io::Result<Rc<Buffers>> {
    let buffers = Buffers::new(most)?;
    let (address, entries) = buffers.parts();
    // SAFETY: the memory is a mapping that is unmapped with the last count of
    // `buffers`, of which the ring's owner keeps one for as long as the ring.
    unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(address, entries, GROUP, 0)?;
    }
    Ok(buffers)
}

/// Bounds the kernel's workers for this ring: those for files by the processors,
/// as the kernel does of itself but up to the ring's size, and those for
/// everything else, which it bounds by RLIMIT_NPROC only. Linux 5.15; where it is
/// refused the kernel's own bounds hold.
fn cap_workers(ring: &IoUring) {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get) as u32;
    let for_files = MOST_WORKERS.min(4 * processors);
    let _ = ring
        .submitter()
        .register_iowq_max_workers(&mut [for_files, MOST_WORKERS]);
}

/// Asks the kernel for the operations that `entry.rs` uses, and gives its answers.
///
/// All of them are older than Linux 5.19; what can be missing is an operation
/// that a security module filters.
fn check_operations(ring: &IoUring) -> Result<io_uring::Probe, Refusal> {
    let mut probe = io_uring::Probe::new();
    if ring.submitter().register_probe(&mut probe).is_err() {
        return Err(Refusal::lacking("IORING_REGISTER_PROBE"));
    }
    for (code, name) in [
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::RecvMsg::CODE, "IORING_OP_RECVMSG"),
        (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
        (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
        (opcode::Connect::CODE, "IORING_OP_CONNECT"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::Write::CODE, "IORING_OP_WRITE"),
        (opcode::Readv::CODE, "IORING_OP_READV"),
        (opcode::Writev::CODE, "IORING_OP_WRITEV"),
        (opcode::OpenAt::CODE, "IORING_OP_OPENAT"),
    ] {
        if !probe.is_supported(code) {
            return Err(Refusal::lacking(name));
        }
    }
    Ok(probe)
}
