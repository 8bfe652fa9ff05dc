//! What the kernel is asked for, and how its answer is found again.
//!
//! An [`Operation`] is plain data with one owner: the stack frame of
//! `hub::perform`, which outlives the kernel's use of it. Adding an operation
//! is one variant here, one arm in `entry.rs` (the ring's form), one arm in
//! `syscall.rs` (the system call's form) and one caller; the compiler demands
//! all of them.

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
    /// Unique in the process for ever, never 0.
    pub(crate) id: u64,
}

/// A buffer lent to the kernel for the length of one operation.
///
/// It keeps the borrow of the slice that it was made of, so the slice cannot
/// be touched while the operation exists.
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

/// A message header, and the buffers it lists, lent to the kernel for the
/// length of one operation.
pub(crate) struct Message<'a> {
    header: libc::msghdr,
    buffers: PhantomData<&'a mut [u8]>,
}

impl<'a> Message<'a> {
    /// A message to receive into `buffers`.
    pub(crate) fn into_buffers(buffers: &'a mut [IoSliceMut<'_>]) -> Message<'a> {
        Message::new(buffers.as_mut_ptr().cast(), buffers.len())
    }

    /// A message to send from `buffers`.
    pub(crate) fn from_buffers(buffers: &'a [IoSlice<'_>]) -> Message<'a> {
        Message::new(buffers.as_ptr().cast_mut().cast(), buffers.len())
    }

    /// `IoSlice` and `IoSliceMut` have the layout of an iovec, as std
    /// documents. More than IOV_MAX would be refused with EMSGSIZE; std's
    /// writev(2) takes a prefix.
    fn new(vector: *mut libc::iovec, count: usize) -> Message<'a> {
        let count = count.min(libc::UIO_MAXIOV as usize);
        Message {
            header: libc::msghdr {
                msg_name: ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: vector,
                msg_iovlen: count as _,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            buffers: PhantomData,
        }
    }
}

/// A message in the hands of the kernel, which also writes to the header.
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
    },
    /// connect(2).
    Connect {
        socket: Descriptor,
        address: &'a SocketName,
    },
}

/// What must become true of a descriptor before an operation can make progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

impl Operation<'_> {
    pub(crate) fn descriptor(&self) -> Descriptor {
        match *self {
            Operation::Recv { socket, .. }
            | Operation::Send { socket, .. }
            | Operation::RecvMessage { socket, .. }
            | Operation::SendMessage { socket, .. }
            | Operation::Accept { socket, .. }
            | Operation::Connect { socket, .. } => socket,
        }
    }

    pub(crate) fn interest(&self) -> Interest {
        match self {
            Operation::Recv { .. } | Operation::RecvMessage { .. } | Operation::Accept { .. } => {
                Interest::Readable
            }
            Operation::Send { .. } | Operation::SendMessage { .. } | Operation::Connect { .. } => {
                Interest::Writable
            }
        }
    }

    /// Whether a successful completion hands over a descriptor, which must be
    /// closed if nobody is left to take it.
    pub(crate) fn returns_descriptor(&self) -> bool {
        matches!(self, Operation::Accept { .. })
    }

    /// The name shown in the table of green threads.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Operation::Recv { .. } => "recv",
            Operation::Send { .. } => "send",
            Operation::RecvMessage { .. } => "recvmsg",
            Operation::SendMessage { .. } => "sendmsg",
            Operation::Accept { .. } => "accept",
            Operation::Connect { .. } => "connect",
        }
    }
}

/// Where a completion belongs: what io_uring calls user_data.
///
/// | bits | meaning |
/// |---|---|
/// | 63..62 | kind: 0 a green thread's operation, 2 a cancel, 3 the bell |
/// | 61 | a successful completion hands over a descriptor |
/// | 60..32 | index of the green thread in its hub's table |
/// | 31..0 | generation: the green thread's operation counter |
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

    pub(crate) fn from_user_data(user_data: u64) -> Key {
        Key(user_data)
    }

    pub(crate) fn user_data(self) -> u64 {
        self.0
    }

    /// Whether this is the key of a green thread's operation.
    pub(crate) fn is_operation(self) -> bool {
        self.0 >> 62 == 0
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
        assert!(!Key::CANCEL.is_operation() && !Key::BELL.is_operation());
        assert_ne!(Key::CANCEL, Key::BELL);
    }
}
