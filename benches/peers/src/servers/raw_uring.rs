//! io_uring by hand: the limit. One multishot accept, one multishot receive for
//! each connection into a ring of buffers that the kernel chooses from, each
//! sent back from where it lies; one system call for each turn.
//!
//! It has no stacks, no scheduler, no time limits and no way to be cancelled. What
//! it does have is what an echo must not go without: sends of one connection
//! stay in order, what was received before the end is sent before the close, and a receive
//! that found no buffer is armed again when there is one.

#![allow(unsafe_code)] // The ring's own interface, and memory that the kernel writes into.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::listen;
use crate::echo_harness::{BUFFER, Control, Load};

/// No buffer.
const NONE: u16 = u16::MAX;

/// The group of the only buffer ring.
const GROUP: u16 = 0;

const PAGE: usize = 4096;

/// Slots for connections beside those of the load: some are closing.
const SPARE: usize = 1024;

/// With descriptors of the ring's own; every operation is handed over in batches.
pub fn serve(control: Control) -> io::Result<()> {
    serve_with(control, true)
}

/// With ordinary descriptors, of which one that is alone in its turn is sent to
/// at once, by send(2): the send's completion then does not end the wait for the
/// next request.
pub fn serve_sending(control: Control) -> io::Result<()> {
    serve_with(control, false)
}

fn serve_with(control: Control, is_direct: bool) -> io::Result<()> {
    let load = control.load();
    let (listener, address) = listen()?;
    let mut server = Server::new(load, listener, is_direct)?;
    let enters = Arc::clone(&server.enters);
    control.listening(address, move || Ok(Some(enters.load(Ordering::Relaxed))))?;
    server.accept()?;
    loop {
        server.turn()?;
    }
}

/// What an operation was, in the upper half of its key; the lower half is the
/// connection.
#[derive(Clone, Copy)]
enum Kind {
    Accept,
    Receive,
    Send,
    Close,
}

const KINDS: [Kind; 4] = [Kind::Accept, Kind::Receive, Kind::Send, Kind::Close];

/// Neither its buffers nor its connections ever move.
struct Server {
    /// The first, so that it ends before the buffers do.
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    is_direct: bool,
    /// By descriptor.
    connections: Vec<Connection>,
    /// Connections whose receive found no buffer.
    starved: Vec<u32>,
    enters: Arc<AtomicU64>,
    completed: Vec<cqueue::Entry>,
}

/// What was received and is still to be sent: a queue of buffers, of which the
/// first is being sent.
#[derive(Clone, Copy)]
struct Connection {
    first: u16,
    last: u16,
    /// Its receive is armed, or will be again.
    is_receiving: bool,
}

const FRESH: Connection = Connection {
    first: NONE,
    last: NONE,
    is_receiving: true,
};

impl Server {
    fn new(load: Load, listener: TcpListener, is_direct: bool) -> io::Result<Server> {
        let slots = load.connections + SPARE;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize((2 * slots as u32).max(4096).next_power_of_two())
            .build(4096)?;
        if is_direct {
            ring.submitter().register_files_sparse(slots as u32)?;
        }
        Ok(Server {
            buffers: Buffers::new(&ring, load)?,
            ring,
            listener,
            is_direct,
            connections: vec![FRESH; slots],
            starved: Vec::new(),
            enters: Arc::default(),
            completed: Vec::new(),
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        self.ring.submit_and_wait(1)?;
        // Nobody else writes it.
        let enters = self.enters.load(Ordering::Relaxed) + 1;
        self.enters.store(enters, Ordering::Relaxed);
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(self.ring.completion());
        let is_alone = completed.len() == 1;
        for completion in completed.drain(..) {
            let key = completion.user_data();
            let index = key as u32;
            match KINDS[(key >> 32) as usize] {
                Kind::Accept => self.accepted(&completion)?,
                Kind::Receive => self.received(index, &completion, is_alone)?,
                Kind::Send => self.sent(index, completion.result())?,
                Kind::Close => {}
            }
        }
        self.completed = completed;
        // More than there are buffers would only starve again, every turn.
        for _ in 0..self.buffers.free.min(self.starved.len()) {
            if let Some(index) = self.starved.pop() {
                self.receive(index)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()));
        let accept = accept.allocate_file_index(self.is_direct).build();
        self.push(accept, Kind::Accept, 0)
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if !cqueue::more(completion.flags()) {
            self.accept()?;
        }
        // One that was lost already, or for which there is no slot.
        let Ok(index) = u32::try_from(completion.result()) else {
            return Ok(());
        };
        if self.connections.len() <= index as usize {
            self.connections.resize(index as usize + SPARE, FRESH);
        }
        self.connections[index as usize] = FRESH;
        self.receive(index)
    }

    fn receive(&mut self, index: u32) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(Fd(index as RawFd), GROUP).build();
        self.push(self.fixed(receive), Kind::Receive, index)
    }

    fn received(
        &mut self,
        index: u32,
        completion: &cqueue::Entry,
        is_alone: bool,
    ) -> io::Result<()> {
        let goes_on = cqueue::more(completion.flags());
        let result = completion.result();
        if result > 0 {
            let buffer = cqueue::buffer_select(completion.flags());
            let buffer = buffer.ok_or_else(|| io::Error::other("received into no buffer"))?;
            self.buffers.take(buffer, result as u32);
            self.enqueue(index, buffer, is_alone)?;
            if !goes_on {
                self.receive(index)?;
            }
        } else if result == -libc::ENOBUFS {
            self.starved.push(index);
        } else if !goes_on {
            self.connections[index as usize].is_receiving = false;
            self.close_if_done(index)?;
        }
        Ok(())
    }

    fn enqueue(&mut self, index: u32, buffer: u16, is_alone: bool) -> io::Result<()> {
        let connection = &mut self.connections[index as usize];
        if connection.first != NONE {
            self.buffers.next[usize::from(connection.last)] = buffer;
            connection.last = buffer;
            return Ok(());
        }
        if is_alone && !self.is_direct && self.buffers.send_at_once(index as RawFd, buffer) {
            self.buffers.give_back(buffer);
            return Ok(());
        }
        connection.first = buffer;
        connection.last = buffer;
        self.send(index, buffer)
    }

    fn send(&mut self, index: u32, buffer: u16) -> io::Result<()> {
        let bytes = self.buffers.filled(buffer);
        let send = opcode::Send::new(Fd(index as RawFd), bytes.as_ptr(), bytes.len() as u32);
        let send = send.flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).build();
        self.push(self.fixed(send), Kind::Send, index)
    }

    fn sent(&mut self, index: u32, result: i32) -> io::Result<()> {
        let connection = &mut self.connections[index as usize];
        let mut buffer = connection.first;
        connection.first = self.buffers.next[usize::from(buffer)];
        let is_whole = result == self.buffers.filled(buffer).len() as i32;
        self.buffers.give_back(buffer);
        if !is_whole {
            // The connection is lost; its receive learns that by itself.
            while self.connections[index as usize].first != NONE {
                buffer = self.connections[index as usize].first;
                self.connections[index as usize].first = self.buffers.next[usize::from(buffer)];
                self.buffers.give_back(buffer);
            }
        }
        match self.connections[index as usize].first {
            NONE => self.close_if_done(index),
            next => self.send(index, next),
        }
    }

    fn close_if_done(&mut self, index: u32) -> io::Result<()> {
        let connection = &self.connections[index as usize];
        if connection.is_receiving || connection.first != NONE {
            return Ok(());
        }
        let close = match self.is_direct {
            true => opcode::Close::new(Fixed(index)).build(),
            false => opcode::Close::new(Fd(index as RawFd)).build(),
        };
        self.push(close.flags(squeue::Flags::SKIP_SUCCESS), Kind::Close, index)
    }

    fn fixed(&self, entry: squeue::Entry) -> squeue::Entry {
        match self.is_direct {
            true => entry.flags(squeue::Flags::FIXED_FILE),
            false => entry,
        }
    }

    fn push(&mut self, entry: squeue::Entry, kind: Kind, index: u32) -> io::Result<()> {
        let entry = entry.user_data((kind as u64) << 32 | u64::from(index));
        // SAFETY: the buffers live as long as the server, which ends with its
        // process; one that is being sent is given back after the completion only.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }
}

/// Buffers of one size, and the ring by which the kernel is lent them.
struct Buffers {
    ring: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    size: usize,
    /// How many the kernel has to choose from.
    free: usize,
    /// The tail of the ring, which only this side moves.
    tail: u16,
    /// Of each buffer: the bytes received, and the next one in its queue.
    lengths: Vec<u32>,
    next: Vec<u16>,
}

impl Buffers {
    /// As few as are enough: the kernel goes round, and all of them want to be in
    /// the cache. So a crowd has more of them, but smaller ones.
    fn new(ring: &IoUring, load: Load) -> io::Result<Buffers> {
        let (count, size) = match load.connections {
            ..=64 if load.buffer() > BUFFER => (8, load.buffer()),
            ..=64 => (64, BUFFER),
            _ => (1024, load.payload.max(PAGE)),
        };
        let mut buffers = Buffers {
            ring: allocate(count * size_of::<BufRingEntry>()).cast(),
            memory: allocate(count * size),
            size,
            free: 0,
            tail: 0,
            lengths: vec![0; count],
            next: vec![NONE; count],
        };
        let address = buffers.ring.as_ptr() as u64;
        // SAFETY: as many entries were allocated, and are never freed.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, count as u16, GROUP, 0)?;
        }
        (0..count as u16).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    /// Notes that the kernel has filled a buffer.
    fn take(&mut self, buffer: u16, length: u32) {
        self.free -= 1;
        self.lengths[usize::from(buffer)] = length;
        self.next[usize::from(buffer)] = NONE;
    }

    fn give_back(&mut self, buffer: u16) {
        let slot = usize::from(self.tail) & (self.lengths.len() - 1);
        // SAFETY: `slot` and `buffer` are below the number of entries. The kernel reads no
        // entry from the tail on, and the tail, in the first entry, is not part of
        // what is written here.
        let entry = unsafe { &mut *self.ring.as_ptr().add(slot) };
        // SAFETY: as above.
        entry.set_addr(unsafe { self.memory.as_ptr().add(usize::from(buffer) * self.size) } as u64);
        entry.set_len(self.size as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
        // SAFETY: the tail is aligned, and both sides use it atomically.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// What was received into a buffer that is not given back yet.
    fn filled(&self, buffer: u16) -> &[u8] {
        let index = usize::from(buffer);
        // SAFETY: the buffer lies in the memory, and the kernel, which has filled so many
        // bytes of it, does not write before it is given back.
        unsafe {
            let start = self.memory.as_ptr().add(index * self.size);
            slice::from_raw_parts(start, self.lengths[index] as usize)
        }
    }

    /// Whether all of it could be sent.
    fn send_at_once(&self, socket: RawFd, buffer: u16) -> bool {
        let bytes = self.filled(buffer);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads these bytes.
        let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) };
        sent == bytes.len() as isize
    }
}

/// Zeroed pages that live as long as the process.
fn allocate(length: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(length, PAGE).expect("no such size overflows");
    // SAFETY: the length is not zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
