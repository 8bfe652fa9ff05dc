//! What the kernel is asked for, and how its answer is found again.
//!
//! An [`Operation`] is plain data with one owner: the stack frame of
//! `hub::perform`, which outlives the kernel's use of it. Adding an operation
//! is one variant here, one arm in `entry.rs` (the ring's form), one arm in
//! `syscall.rs` (the system call's form) and one caller; the compiler demands
//! all of them.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr;

/// The most bytes one operation moves: the kernel's own MAX_RW_COUNT for
/// 4 KiB pages, so that a longer buffer gives the same short count on both
/// backends.
const MOST_BYTES: usize = 0x7fff_f000;

/// An open descriptor together with an identity that is never reused.
///
/// A descriptor's number is reused as soon as it is closed; the identity lets
/// a backend that remembers descriptors (epoll's registrations) notice that
/// the number now means another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) fd: RawFd,
    /// Unique in the process for ever, never 0; or [`Descriptor::FOREIGN`].
    pub(crate) id: u64,
}

impl Descriptor {
    /// The identity of all descriptors that are not ours: a backend must not
    /// remember anything of them.
    pub(crate) const FOREIGN: u64 = u64::MAX;
}

/// A buffer lent to the kernel for the length of one operation.
///
/// It keeps the borrow of the slice that it was made of, so the slice cannot
/// be touched while the operation exists.
#[derive(Clone, Copy)]
pub(crate) struct Lent<'a> {
    start: *mut u8,
    length: u32,
    slice: PhantomData<&'a mut [u8]>,
}

impl Lent<'_> {
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    pub(crate) fn len(&self) -> u32 {
        self.length
    }
}

impl<'a> From<&'a mut [u8]> for Lent<'a> {
    fn from(slice: &'a mut [u8]) -> Self {
        Lent {
            start: slice.as_mut_ptr(),
            length: slice.len().min(MOST_BYTES) as u32,
            slice: PhantomData,
        }
    }
}

/// For the operations that only read the buffer.
impl<'a> From<&'a [u8]> for Lent<'a> {
    fn from(slice: &'a [u8]) -> Self {
        Lent {
            start: slice.as_ptr().cast_mut(),
            length: slice.len().min(MOST_BYTES) as u32,
            slice: PhantomData,
        }
    }
}

/// Several buffers lent to the kernel for the length of one operation: at most
/// UIO_MAXIOV of them, as readv(2) and writev(2) take.
#[derive(Clone, Copy)]
pub(crate) struct LentBuffers<'a> {
    start: *mut libc::iovec,
    count: u32,
    buffers: PhantomData<&'a mut [u8]>,
}

impl LentBuffers<'_> {
    pub(crate) fn start(&self) -> *mut libc::iovec {
        self.start
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// `IoSlice` and `IoSliceMut` have the layout of an iovec, as std
    /// documents. std's calls take a prefix where there are too many.
    fn new(start: *mut libc::iovec, count: usize) -> Self {
        LentBuffers {
            start,
            count: count.min(libc::UIO_MAXIOV as usize) as u32,
            buffers: PhantomData,
        }
    }
}

impl<'a> From<&'a mut [IoSliceMut<'_>]> for LentBuffers<'a> {
    fn from(buffers: &'a mut [IoSliceMut<'_>]) -> Self {
        LentBuffers::new(buffers.as_mut_ptr().cast(), buffers.len())
    }
}

/// For the operations that only read the buffers.
impl<'a> From<&'a [IoSlice<'_>]> for LentBuffers<'a> {
    fn from(buffers: &'a [IoSlice<'_>]) -> Self {
        LentBuffers::new(buffers.as_ptr().cast_mut().cast(), buffers.len())
    }
}

/// A message header, and the buffers it lists, lent to the kernel for the
/// length of one operation.
pub(crate) struct Message<'a> {
    header: libc::msghdr,
    buffers: PhantomData<&'a mut [u8]>,
}

impl<'a> Message<'a> {
    /// A message to receive into `buffers`, or to send from them.
    pub(crate) fn new(buffers: impl Into<LentBuffers<'a>>) -> Message<'a> {
        let buffers = buffers.into();
        Message {
            header: libc::msghdr {
                msg_name: ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: buffers.start(),
                msg_iovlen: buffers.count() as _,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            buffers: PhantomData,
        }
    }

    /// The address that the message goes to.
    pub(crate) fn to(mut self, name: &'a SocketName) -> Message<'a> {
        self.header.msg_name = name.storage.as_ptr().cast_mut().cast();
        self.header.msg_namelen = name.length;
        self
    }

    /// Room for the address that the message comes from; how much of it is
    /// used says [`Message::name_length`].
    pub(crate) fn from(mut self, name: &'a mut SocketName) -> Message<'a> {
        self.header.msg_name = name.storage.as_mut_ptr().cast();
        self.header.msg_namelen = SOCKET_NAME_BYTES as libc::socklen_t;
        self
    }

    /// Ancillary data to send, or room for what is received. It is aligned as a
    /// cmsghdr.
    pub(crate) fn control(mut self, control: &'a mut [u64]) -> Message<'a> {
        self.header.msg_control = control.as_mut_ptr().cast();
        self.header.msg_controllen = size_of_val(control) as _;
        self
    }

    /// Bytes of the address that a received message came with.
    pub(crate) fn name_length(&self) -> libc::socklen_t {
        self.header.msg_namelen
    }

    /// MSG_TRUNC, MSG_CTRUNC of a received message, recvmsg(2).
    pub(crate) fn flags(&self) -> i32 {
        self.header.msg_flags
    }

    pub(super) fn header_mut(&mut self) -> &mut libc::msghdr {
        &mut self.header
    }
}

/// A message in the hands of the kernel, which also writes to the header.
#[derive(Clone, Copy)]
pub(crate) struct LentMessage<'a> {
    header: *mut libc::msghdr,
    message: PhantomData<&'a mut libc::msghdr>,
}

impl LentMessage<'_> {
    pub(crate) fn pointer(&self) -> *mut libc::msghdr {
        self.header
    }
}

impl<'a> From<&'a mut Message<'_>> for LentMessage<'a> {
    fn from(message: &'a mut Message<'_>) -> Self {
        LentMessage {
            header: &raw mut message.header,
            message: PhantomData,
        }
    }
}

/// Bytes of sockaddr_storage: room for any address.
const SOCKET_NAME_BYTES: usize = size_of::<libc::sockaddr_storage>();

/// A socket address in the kernel's form, as bytes that the net floor reads
/// and writes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketName {
    pub(crate) storage: [u8; SOCKET_NAME_BYTES],
    /// Bytes of `storage` in use; on the way in the room there is, on the way
    /// out what the kernel wrote (accept(2)).
    pub(crate) length: libc::socklen_t,
}

impl SocketName {
    /// Room for any address.
    pub(crate) fn empty() -> SocketName {
        SocketName {
            storage: [0; SOCKET_NAME_BYTES],
            length: SOCKET_NAME_BYTES as libc::socklen_t,
        }
    }
}

/// A socket address lent to the kernel to be filled in.
#[derive(Clone, Copy)]
pub(crate) struct LentName<'a> {
    storage: *mut [u8; SOCKET_NAME_BYTES],
    length: *mut libc::socklen_t,
    borrow: PhantomData<&'a mut SocketName>,
}

impl LentName<'_> {
    /// The two pointers that accept4(2) takes.
    pub(crate) fn parts(&self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        (self.storage.cast(), self.length)
    }
}

impl<'a> From<&'a mut SocketName> for LentName<'a> {
    fn from(name: &'a mut SocketName) -> Self {
        LentName {
            storage: &raw mut name.storage,
            length: &raw mut name.length,
            borrow: PhantomData,
        }
    }
}

/// One thing asked of the kernel.
///
/// The results are the system call's: a count, a descriptor, 0, or a negated
/// errno.
///
/// A copy lends nothing more: it is for looking at.
#[derive(Clone, Copy)]
pub(crate) enum Operation<'a> {
    /// recv(2).
    Recv {
        socket: Descriptor,
        into: Lent<'a>,
        flags: i32,
        /// The socket is expected to be empty: the ring waits before it tries
        /// (IORING_RECVSEND_POLL_FIRST, Linux 5.19). A hint; epoll ignores it.
        poll_first: bool,
    },
    /// send(2); MSG_NOSIGNAL is the caller's to set.
    Send {
        socket: Descriptor,
        from: Lent<'a>,
        flags: i32,
    },
    /// recvmsg(2).
    RecvMessage {
        socket: Descriptor,
        message: LentMessage<'a>,
        flags: i32,
        poll_first: bool,
    },
    /// recv(2) again and again, into buffers that the kernel chooses
    /// ([`Buffers`](super::buffers::Buffers)), until it fails or there is nothing
    /// more; for a backend that has such buffers.
    RecvMany { socket: Descriptor },
    /// sendmsg(2).
    SendMessage {
        socket: Descriptor,
        message: LentMessage<'a>,
        flags: i32,
    },
    /// accept4(2) with SOCK_CLOEXEC; its completion returns a descriptor.
    Accept {
        socket: Descriptor,
        peer: LentName<'a>,
        /// Nobody is expected to be in the queue: the ring waits before it tries
        /// (IORING_ACCEPT_POLL_FIRST, Linux 6.10), because a try makes the new
        /// socket first. A hint; epoll ignores it.
        poll_first: bool,
    },
    /// connect(2).
    Connect {
        socket: Descriptor,
        address: &'a SocketName,
    },
    /// pread(2), or read(2) at [`CURRENT_POSITION`].
    ///
    /// Of a file in storage (regular, block device) the ring alone can do this
    /// and the others here without blocking; see [`Kind::works_on_storage`](super::Kind).
    Read {
        file: Descriptor,
        into: Lent<'a>,
        position: u64,
    },
    /// read(2) again and again of what has no position, as
    /// [`RecvMany`](Operation::RecvMany).
    ReadMany { file: Descriptor },
    /// pwrite(2), or write(2) at [`CURRENT_POSITION`].
    Write {
        file: Descriptor,
        from: Lent<'a>,
        position: u64,
    },
    /// preadv(2), or readv(2) at [`CURRENT_POSITION`].
    ReadVectored {
        file: Descriptor,
        into: LentBuffers<'a>,
        position: u64,
    },
    /// pwritev(2), or writev(2) at [`CURRENT_POSITION`].
    WriteVectored {
        file: Descriptor,
        from: LentBuffers<'a>,
        position: u64,
    },
    /// openat(2) with O_CLOEXEC; its completion returns a descriptor. As
    /// [`Operation::Read`] of a file in storage this is for the ring alone,
    /// which finds most names in the kernel's memory.
    Open { path: &'a CStr, flags: i32 },
    /// poll(2) of one descriptor; the result is what it is ready for.
    Poll {
        file: Descriptor,
        interest: Interest,
    },
}

/// The position of a read or write that goes on where the last one has ended,
/// and the only one for files that have none. The kernel's own word for it: -1.
pub(crate) const CURRENT_POSITION: u64 = u64::MAX;

/// What must become true of a descriptor before an operation can make progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

impl Interest {
    /// What poll(2) is asked for; it tells of errors and hang-ups unasked.
    pub(crate) fn events(self) -> i16 {
        match self {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        }
    }
}

impl Operation<'_> {
    pub(crate) fn descriptor(&self) -> Descriptor {
        match *self {
            Operation::Recv { socket, .. }
            | Operation::Send { socket, .. }
            | Operation::RecvMessage { socket, .. }
            | Operation::RecvMany { socket }
            | Operation::SendMessage { socket, .. }
            | Operation::Accept { socket, .. }
            | Operation::Connect { socket, .. } => socket,
            Operation::Read { file, .. }
            | Operation::ReadMany { file }
            | Operation::Write { file, .. }
            | Operation::ReadVectored { file, .. }
            | Operation::WriteVectored { file, .. }
            | Operation::Poll { file, .. } => file,
            Operation::Open { .. } => Descriptor {
                fd: libc::AT_FDCWD,
                id: Descriptor::FOREIGN,
            },
        }
    }

    pub(crate) fn interest(&self) -> Interest {
        match self {
            Operation::Recv { .. }
            | Operation::RecvMessage { .. }
            | Operation::RecvMany { .. }
            | Operation::Accept { .. }
            | Operation::Read { .. }
            | Operation::ReadMany { .. }
            | Operation::ReadVectored { .. }
            | Operation::Open { .. } => Interest::Readable,
            Operation::Send { .. }
            | Operation::SendMessage { .. }
            | Operation::Connect { .. }
            | Operation::Write { .. }
            | Operation::WriteVectored { .. } => Interest::Writable,
            Operation::Poll { interest, .. } => *interest,
        }
    }

    /// Whether a successful completion hands over a descriptor, which must be
    /// closed if nobody is left to take it.
    pub(crate) fn returns_descriptor(&self) -> bool {
        matches!(self, Operation::Accept { .. } | Operation::Open { .. })
    }

    /// Whether a receive with this result has filled its buffer, so that there may
    /// be more where that came from.
    #[inline]
    pub(crate) fn is_filled_by(&self, result: i32) -> bool {
        matches!(self, Operation::Recv { into, .. } if result >= 0 && result as u32 == into.len())
    }

    /// The name shown in the table of green threads.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Operation::Recv { .. } | Operation::RecvMany { .. } => "recv",
            Operation::Send { .. } => "send",
            Operation::RecvMessage { .. } => "recvmsg",
            Operation::SendMessage { .. } => "sendmsg",
            Operation::Accept { .. } => "accept",
            Operation::Connect { .. } => "connect",
            Operation::Read { .. } | Operation::ReadMany { .. } => "read",
            Operation::Write { .. } => "write",
            Operation::ReadVectored { .. } => "readv",
            Operation::WriteVectored { .. } => "writev",
            Operation::Open { .. } => "open",
            Operation::Poll { .. } => "readiness",
        }
    }
}

/// Where a completion belongs: what io_uring calls user_data.
///
/// | bits | meaning |
/// |---|---|
/// | 63..62 | kind: 0 a green thread's operation, 1 a source's, 2 a cancel, 3 the bell |
/// | 61 | a successful completion hands over a descriptor |
/// | 60..32 | index of the green thread or the source in its hub's table |
/// | 31..0 | generation: the green thread's or source's operation counter |
///
/// A cancel and the bell never carry a target's key, because a failing cancel
/// posts a completion of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(u64);

impl Key {
    /// The most green threads one hub can number.
    pub(crate) const MOST_INDICES: usize = 1 << 29;

    /// Cancels: their completions are of no interest.
    pub(crate) const CANCEL: Key = Key(2 << 62);
    /// The bell, by which other OS threads end this hub's wait.
    pub(crate) const BELL: Key = Key(3 << 62);

    pub(crate) fn new(index: u32, generation: u32, returns_descriptor: bool) -> Key {
        debug_assert!((index as usize) < Self::MOST_INDICES);
        Key(u64::from(returns_descriptor) << 61 | u64::from(index) << 32 | u64::from(generation))
    }

    /// The key of an operation that goes on, of the source with this index.
    pub(crate) fn of_source(index: u32, generation: u32) -> Key {
        Key(1 << 62 | Key::new(index, generation, false).0)
    }

    pub(crate) fn from_user_data(user_data: u64) -> Key {
        Key(user_data)
    }

    pub(crate) fn user_data(self) -> u64 {
        self.0
    }

    /// Whether this is the key of an operation, a green thread's or a source's.
    #[inline]
    pub(crate) fn is_operation(self) -> bool {
        self.0 >> 63 == 0
    }

    /// Whether this is the key of a source's operation.
    #[inline]
    pub(crate) fn is_of_source(self) -> bool {
        self.0 >> 62 == 1
    }

    pub(crate) fn returns_descriptor(self) -> bool {
        self.0 >> 61 & 1 != 0
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 >> 32) as u32 & (Self::MOST_INDICES as u32 - 1)
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32
    }
}

/// The end of an operation, or one step of it when `more` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) key: Key,
    /// The system call's result, or a negated errno.
    pub(crate) result: i32,
    /// Further completions of the same operation follow.
    pub(crate) more: bool,
    /// The socket still held data when the operation ended
    /// (IORING_CQE_F_SOCK_NONEMPTY); false where the backend cannot tell.
    pub(crate) nonempty: bool,
    /// The buffer that it hands over, of those that the kernel chooses from.
    pub(crate) buffer: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_parts_apart() {
        for returns in [false, true] {
            let key = Key::new((Key::MOST_INDICES - 1) as u32, u32::MAX, returns);
            assert_eq!(key.index() as usize, Key::MOST_INDICES - 1);
            assert_eq!(key.generation(), u32::MAX);
            assert_eq!(key.returns_descriptor(), returns);
            assert!(key.is_operation());
            assert_eq!(Key::from_user_data(key.user_data()), key);
            assert_ne!(key, Key::new(0, u32::MAX, returns));
        }
        let source = Key::of_source(7, 9);
        assert!(source.is_operation() && source.is_of_source());
        assert_eq!((source.index(), source.generation()), (7, 9));
        assert!(!Key::new(7, 9, true).is_of_source());
        assert!(!Key::CANCEL.is_operation() && !Key::BELL.is_operation());
        assert!(!Key::CANCEL.is_of_source() && !Key::BELL.is_of_source());
        assert_ne!(Key::CANCEL, Key::BELL);
    }
}
