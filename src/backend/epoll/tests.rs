//! The epoll backend, driven without a hub.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{SockaddrStorage, bind, getsockname, setsockopt, sockopt::SndBuf};
use nix::unistd::{dup, dup2};
use proptest::prelude::*;

use super::super::operation::{LentName, SocketName};
use super::super::syscall::close;
use super::super::syscall::tests::{
    crowded_listener, descriptor, name_of, recv, send, tcp_name, tcp_socket, unix_socket,
};
use super::*;

/// An operation with its buffer, both at addresses that stay until it is
/// dropped; tests drop it after its completion or after the epoll set.
struct Asked {
    operation: Box<Operation<'static>>,
    buffer: *mut [u8],
    key: Key,
}

impl Asked {
    fn new(
        bytes: Vec<u8>,
        key: u32,
        make: impl FnOnce(&'static mut [u8]) -> Operation<'static>,
    ) -> Asked {
        let buffer = Box::into_raw(bytes.into_boxed_slice());
        Asked {
            // SAFETY: freed by `drop`, after the operation was used.
            operation: Box::new(make(unsafe { &mut *buffer })),
            buffer,
            key: Key::new(key, 1, false),
        }
    }

    fn recv(socket: Descriptor, length: usize, key: u32) -> Asked {
        Asked::new(vec![0; length], key, |into| recv(socket, into))
    }

    fn send(socket: Descriptor, bytes: Vec<u8>, key: u32) -> Asked {
        Asked::new(bytes, key, |from| send(socket, from))
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the tests look when the operation is over.
        unsafe { &*self.buffer }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // SAFETY: made by `new` of a box.
        drop(unsafe { Box::from_raw(self.buffer) });
    }
}

fn open() -> (Epoll, Bell) {
    let bell = Bell::new().unwrap();
    let epoll = Epoll::open(&bell, Disabled::default()).unwrap();
    (epoll, bell)
}

fn submit(epoll: &mut Epoll, asked: &Asked) -> Submitted {
    // SAFETY: see `Asked`.
    unsafe { epoll.submit(&asked.operation, asked.key) }
}

/// The keys and results that one wait collects.
fn collect(epoll: &mut Epoll, timeout: Option<Duration>) -> Vec<(Key, i32)> {
    let mut collected = Vec::new();
    let note = |done: Completion| collected.push((done.key, done.result));
    epoll.wait(timeout, note).unwrap();
    collected
}

/// Waits until something was collected.
fn collect_some(epoll: &mut Epoll) -> Vec<(Key, i32)> {
    loop {
        let collected = collect(epoll, None);
        if !collected.is_empty() {
            return collected;
        }
    }
}

const NOW: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_receive_waits_for_data_and_a_ready_one_does_not() {
    let (mut epoll, _bell) = open();
    let (here, there) = UnixStream::pair().unwrap();
    let (to, from) = (descriptor(&here), descriptor(&there));
    let first = Asked::recv(to, 8, 1);
    assert_eq!(submit(&mut epoll, &first), Submitted::Pending);
    assert_eq!(collect(&mut epoll, NOW), []);
    let post = Asked::send(from, b"data".to_vec(), 2);
    assert_eq!(submit(&mut epoll, &post), Submitted::Done(4));
    assert_eq!(collect(&mut epoll, None), [(first.key, 4)]);
    assert_eq!(&first.bytes()[..4], b"data");

    assert_eq!(submit(&mut epoll, &post), Submitted::Done(4));
    let second = Asked::recv(to, 8, 3);
    assert_eq!(submit(&mut epoll, &second), Submitted::Done(4));
    assert_eq!(collect(&mut epoll, NOW), []);
    let counters = epoll.counters();
    assert_eq!((counters.submitted, counters.completed), (1, 1));
    assert_eq!((counters.direct, counters.enters), (3, 3));
}

#[test]
fn readers_are_served_in_order_and_nobody_overtakes() {
    let (mut epoll, _bell) = open();
    let (here, there) = UnixStream::pair().unwrap();
    let (to, from) = (descriptor(&here), descriptor(&there));
    let readers: Vec<Asked> = (1..=3).map(|key| Asked::recv(to, 1, key)).collect();
    let byte = Asked::send(from, vec![1], 9);
    assert_eq!(submit(&mut epoll, &readers[0]), Submitted::Pending);
    assert_eq!(submit(&mut epoll, &readers[1]), Submitted::Pending);
    assert_eq!(submit(&mut epoll, &byte), Submitted::Done(1));
    // There is a byte, but it is promised to the first.
    assert_eq!(submit(&mut epoll, &readers[2]), Submitted::Pending);
    assert_eq!(collect(&mut epoll, None), [(readers[0].key, 1)]);
    assert_eq!(collect(&mut epoll, NOW), []);
    assert_eq!(submit(&mut epoll, &byte), Submitted::Done(1));
    assert_eq!(submit(&mut epoll, &byte), Submitted::Done(1));
    let rest = [(readers[1].key, 1), (readers[2].key, 1)];
    assert_eq!(collect(&mut epoll, None), rest);
    assert!(epoll.waiters.is_empty());
}

/// Sends until the socket is full; the bytes that went and the send that
/// waits.
fn fill(epoll: &mut Epoll, socket: Descriptor, key: u32) -> (usize, Asked) {
    let mut sent = 0;
    loop {
        let asked = Asked::send(socket, vec![7; 4096], key);
        match submit(epoll, &asked) {
            Submitted::Done(count) => sent += usize::try_from(count).unwrap(),
            Submitted::Pending => return (sent, asked),
        }
    }
}

#[test]
fn both_directions_of_a_socket_wait_apart() {
    let (mut epoll, _bell) = open();
    let (here, there) = UnixStream::pair().unwrap();
    let (near, far) = (descriptor(&here), descriptor(&there));
    let reader = Asked::recv(near, 8, 1);
    assert_eq!(submit(&mut epoll, &reader), Submitted::Pending);
    let (sent, writer) = fill(&mut epoll, near, 2);
    let byte = Asked::send(far, vec![1], 3);
    assert_eq!(submit(&mut epoll, &byte), Submitted::Done(1));
    assert_eq!(collect(&mut epoll, None), [(reader.key, 1)]);
    let drain = Asked::recv(far, sent, 4);
    let mut left = sent;
    while left > 0 {
        match submit(&mut epoll, &drain) {
            Submitted::Done(count) => left -= usize::try_from(count).unwrap(),
            Submitted::Pending => panic!("{left} bytes are missing"),
        }
    }
    assert_eq!(collect_some(&mut epoll), [(writer.key, 4096)]);
}

#[test]
fn the_end_of_the_peer_ends_both_directions() {
    let (mut epoll, _bell) = open();
    let (here, there) = UnixStream::pair().unwrap();
    let near = descriptor(&here);
    let reader = Asked::recv(near, 8, 1);
    assert_eq!(submit(&mut epoll, &reader), Submitted::Pending);
    let (_, writer) = fill(&mut epoll, near, 2);
    // Its unread data makes this a reset for the reader.
    drop(there);
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.extend(collect(&mut epoll, None));
    }
    ended.sort_by_key(|(key, _)| key.index());
    let expected = [(reader.key, -libc::ECONNRESET), (writer.key, -libc::EPIPE)];
    assert_eq!(ended, expected);
}

#[test]
fn a_cancelled_operation_ends_with_the_next_wait() {
    let (mut epoll, _bell) = open();
    let (here, there) = UnixStream::pair().unwrap();
    let (to, from) = (descriptor(&here), descriptor(&there));
    let readers: Vec<Asked> = (1..=3).map(|key| Asked::recv(to, 1, key)).collect();
    for reader in &readers {
        assert_eq!(submit(&mut epoll, reader), Submitted::Pending);
    }
    // Takes the events of the registration, which would end the next wait.
    assert_eq!(collect(&mut epoll, NOW), []);
    // The middle and the last, twice each; then one from behind the first.
    for reader in [&readers[1], &readers[1], &readers[2], &readers[2]] {
        epoll.cancel(&reader.operation, reader.key);
    }
    let next = Asked::recv(to, 1, 4);
    assert_eq!(submit(&mut epoll, &next), Submitted::Pending);
    let ended = [1, 2].map(|n: usize| (readers[n].key, -libc::ECANCELED));
    assert_eq!(collect(&mut epoll, None), ended);
    let bytes = Asked::send(from, vec![1, 2], 9);
    assert_eq!(submit(&mut epoll, &bytes), Submitted::Done(2));
    let served = [(readers[0].key, 1), (next.key, 1)];
    assert_eq!(collect(&mut epoll, None), served);
    // Too late.
    epoll.cancel(&readers[0].operation, readers[0].key);
    assert_eq!(collect(&mut epoll, NOW), []);
    assert!(epoll.waiters.is_empty());
}

#[test]
fn a_number_that_means_another_file_wakes_nobody_of_the_old_one() {
    let (mut epoll, _bell) = open();
    let (old, _old_peer) = UnixStream::pair().unwrap();
    let (new, new_peer) = UnixStream::pair().unwrap();
    let mut old = OwnedFd::from(old);
    let before = descriptor(&old);
    let stranded = Asked::recv(before, 8, 1);
    assert_eq!(submit(&mut epoll, &stranded), Submitted::Pending);
    // Closes the old file and puts the new one under its number.
    dup2(&new, &mut old).unwrap();
    let after = descriptor(&old);
    let reader = Asked::recv(after, 8, 2);
    assert_eq!(submit(&mut epoll, &reader), Submitted::Pending);
    let post = Asked::send(descriptor(&new_peer), b"new".to_vec(), 3);
    assert_eq!(submit(&mut epoll, &post), Submitted::Done(3));
    assert_eq!(collect(&mut epoll, None), [(reader.key, 3)]);
    assert_eq!(submit(&mut epoll, &post), Submitted::Done(3));
    assert_eq!(collect(&mut epoll, NOW), []);

    // Once more under the first identity: its cancel still finds it.
    let mut eats = Asked::recv(before, 8, 4);
    assert_eq!(submit(&mut epoll, &eats), Submitted::Done(3));
    eats.key = Key::new(5, 1, false);
    assert_eq!(submit(&mut epoll, &eats), Submitted::Pending);
    epoll.cancel(&stranded.operation, stranded.key);
    let ended = [(stranded.key, -libc::ECANCELED)];
    assert_eq!(collect(&mut epoll, None), ended);
    assert_eq!(submit(&mut epoll, &post), Submitted::Done(3));
    assert_eq!(collect(&mut epoll, None), [(eats.key, 3)]);
    assert!(epoll.waiters.is_empty());
}

#[test]
fn a_duplicate_under_the_old_number_is_the_same_file() {
    let (mut epoll, _bell) = open();
    let (here, there) = UnixStream::pair().unwrap();
    let mut here = OwnedFd::from(here);
    let before = descriptor(&here);
    let first = Asked::recv(before, 1, 1);
    assert_eq!(submit(&mut epoll, &first), Submitted::Pending);
    let duplicate = dup(&here).unwrap();
    // The registration of the number outlives this, for the file does.
    dup2(&duplicate, &mut here).unwrap();
    let second = Asked::recv(descriptor(&here), 1, 2);
    assert_eq!(submit(&mut epoll, &second), Submitted::Pending);
    let bytes = Asked::send(descriptor(&there), vec![1, 2], 3);
    assert_eq!(submit(&mut epoll, &bytes), Submitted::Done(2));
    let served = [(first.key, 1), (second.key, 1)];
    assert_eq!(collect(&mut epoll, None), served);
    assert_eq!((first.bytes(), second.bytes()), (&[1][..], &[2][..]));
}

#[test]
fn events_of_an_earlier_identity_are_ignored() {
    let (mut epoll, _bell) = open();
    let (old, old_peer) = UnixStream::pair().unwrap();
    let (new, new_peer) = UnixStream::pair().unwrap();
    let mut old = OwnedFd::from(old);
    let before = descriptor(&old);
    let gone = Asked::recv(before, 8, 1);
    assert_eq!(submit(&mut epoll, &gone), Submitted::Pending);
    epoll.cancel(&gone.operation, gone.key);
    assert_eq!(collect(&mut epoll, NOW).len(), 1);
    // The duplicate keeps the file and with it the old registration.
    let duplicate = dup(&old).unwrap();
    dup2(&new, &mut old).unwrap();
    let reader = Asked::recv(descriptor(&old), 8, 2);
    assert_eq!(submit(&mut epoll, &reader), Submitted::Pending);
    let other = Asked::recv(descriptor(&duplicate), 8, 3);
    assert_eq!(submit(&mut epoll, &other), Submitted::Pending);
    let post = Asked::send(descriptor(&old_peer), b"old".to_vec(), 4);
    assert_eq!(submit(&mut epoll, &post), Submitted::Done(3));
    assert_eq!(collect(&mut epoll, None), [(other.key, 3)]);
    let post = Asked::send(descriptor(&new_peer), b"n".to_vec(), 5);
    assert_eq!(submit(&mut epoll, &post), Submitted::Done(1));
    assert_eq!(collect(&mut epoll, None), [(reader.key, 1)]);
}

#[test]
fn two_rings_end_two_waits_before_and_after() {
    let (mut epoll, bell) = open();
    for _ in 0..2 {
        bell.ring();
        bell.ring();
        assert_eq!(collect(&mut epoll, None), []);
        bell.ring();
        assert_eq!(collect(&mut epoll, Some(Duration::MAX)), []);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| bell.ring());
        assert_eq!(collect(&mut epoll, None), []);
    });
    // None is left over.
    let timeout = Duration::from_millis(5);
    let start = Instant::now();
    assert_eq!(collect(&mut epoll, Some(timeout)), []);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn timeouts_are_never_early() {
    for list in ["", "epoll_pwait2"] {
        let bell = Bell::new().unwrap();
        let mut epoll = Epoll::open(&bell, Disabled::parse(list).unwrap()).unwrap();
        assert_eq!(epoll.has_pwait2, list.is_empty());
        for nanoseconds in [1, 999, 50_001, 1_000_000, 1_000_001, 2_500_000] {
            let timeout = Duration::from_nanos(nanoseconds);
            let start = Instant::now();
            assert_eq!(collect(&mut epoll, Some(timeout)), []);
            assert!(start.elapsed() >= timeout);
        }
    }
    assert_eq!(rounded_up(Duration::from_nanos(1)), 1);
    assert_eq!(rounded_up(Duration::from_millis(3)), 3);
    assert_eq!(rounded_up(Duration::MAX), i32::MAX);
}

#[test]
fn files_without_readiness_are_refused_and_leave_nothing_behind() {
    let (mut epoll, _bell) = open();
    let file = File::open("/proc/self/exe").unwrap();
    let regular = descriptor(&file);
    for _ in 0..2 {
        assert_eq!(epoll.register(regular), Err(libc::EPERM));
    }
    // A receive does not get that far.
    let asked = Asked::recv(regular, 8, 1);
    let answer = submit(&mut epoll, &asked);
    assert_eq!(answer, Submitted::Done(-libc::ENOTSOCK));
    let closed = Descriptor { fd: -1, id: 1 };
    let asked = Asked::recv(closed, 8, 2);
    assert_eq!(submit(&mut epoll, &asked), Submitted::Done(-libc::EBADF));
    epoll.cancel(&asked.operation, asked.key);
    assert_eq!(collect(&mut epoll, NOW), []);
}

#[test]
fn one_wait_collects_a_storm() {
    // Far beyond one buffer of events.
    const STORM: usize = 2000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let (mut epoll, _bell) = open();
    let pairs: Vec<_> = (0..STORM).map(|_| UnixStream::pair().unwrap()).collect();
    let asked: Vec<_> = (0..)
        .zip(&pairs)
        .map(|(key, (here, _))| Asked::recv(descriptor(here), 8, key))
        .collect();
    for asked in &asked {
        assert_eq!(submit(&mut epoll, asked), Submitted::Pending);
    }
    for (_, there) in &pairs {
        assert_eq!(attempt(&send(descriptor(there), b"x")), 1);
    }
    let mut collected = collect(&mut epoll, None);
    collected.sort_by_key(|(key, _)| key.index());
    assert!(
        collected
            .into_iter()
            .eq(asked.iter().map(|asked| (asked.key, 1)))
    );
    assert_eq!(epoll.counters().enters as usize, STORM / EVENTS + 1);
    assert!(epoll.waiters.is_empty());
}

#[test]
fn connections_are_made_and_accepted() {
    let (mut epoll, _bell) = open();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = tcp_name(listener.local_addr().unwrap());
    let mut peer = SocketName::empty();
    let accept = Operation::Accept {
        socket: descriptor(&listener),
        peer: LentName::from(&mut peer),
        poll_first: false,
    };
    let accept_key = Key::new(1, 1, true);
    // SAFETY: both operations stay in place until they are collected.
    let answer = unsafe { epoll.submit(&accept, accept_key) };
    assert_eq!(answer, Submitted::Pending);
    let client = tcp_socket();
    let connect = Operation::Connect {
        socket: descriptor(&client),
        address: &address,
    };
    let connect_key = Key::new(2, 1, false);
    // SAFETY: as above.
    let mut connected = match unsafe { epoll.submit(&connect, connect_key) } {
        Submitted::Done(result) => Some(result),
        Submitted::Pending => None,
    };
    let mut accepted = None;
    while connected.is_none() || accepted.is_none() {
        for (key, result) in collect(&mut epoll, None) {
            let place = if key == accept_key {
                &mut accepted
            } else {
                assert_eq!(key, connect_key);
                &mut connected
            };
            assert_eq!(place.replace(result), None);
        }
    }
    assert_eq!(connected, Some(0));
    let name: SockaddrStorage = getsockname(client.as_raw_fd()).unwrap();
    let name = name_of(&name);
    let length = peer.length as usize;
    assert_eq!(peer.storage[..length], name.storage[..length]);
    close(accepted.unwrap());
}

#[test]
fn a_refused_connection_says_so() {
    let (mut epoll, _bell) = open();
    // Bound but not listening: nobody else can take the port.
    let deaf = tcp_socket();
    let any = SockaddrStorage::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    bind(deaf.as_raw_fd(), &any).unwrap();
    let bound: SockaddrStorage = getsockname(deaf.as_raw_fd()).unwrap();
    let address = name_of(&bound);
    let client = tcp_socket();
    let connect = Operation::Connect {
        socket: descriptor(&client),
        address: &address,
    };
    let key = Key::new(1, 1, false);
    // SAFETY: the operation stays in place until it is collected.
    let result = match unsafe { epoll.submit(&connect, key) } {
        Submitted::Done(result) => result,
        Submitted::Pending => collect_some(&mut epoll)[0].1,
    };
    assert_eq!(result, -libc::ECONNREFUSED);
}

#[test]
fn what_no_event_announces_is_tried_from_time_to_time() {
    let (mut epoll, _bell) = open();
    let (listener, address, _crowd) = crowded_listener();
    let clients = [unix_socket(), unix_socket()];
    let connects = clients.each_ref().map(|client| Operation::Connect {
        socket: descriptor(client),
        address: &address,
    });
    let keys = [1, 2].map(|index| Key::new(index, 1, false));
    for (connect, key) in connects.iter().zip(keys) {
        // SAFETY: the operations stay in place until they are collected.
        let answer = unsafe { epoll.submit(connect, key) };
        assert_eq!(answer, Submitted::Pending);
    }
    epoll.cancel(&connects[0], keys[0]);
    assert_eq!(collect(&mut epoll, None), [(keys[0], -libc::ECANCELED)]);
    let mut peer = SocketName::empty();
    // Does not block: the backlog is full.
    close(attempt(&Operation::Accept {
        socket: descriptor(&listener),
        peer: LentName::from(&mut peer),
        poll_first: false,
    }));
    assert_eq!(collect_some(&mut epoll), [(keys[1], 0)]);
    assert!(epoll.waiters.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Recv { end: usize, length: usize },
    Send { end: usize, length: usize },
    Cancel { which: usize },
    Wait,
}

const PAIRS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let end = 0..2 * PAIRS;
    prop_oneof![
        3 => (end.clone(), 1..3000_usize).prop_map(|(end, length)| Step::Recv { end, length }),
        3 => (end, 1..3000_usize).prop_map(|(end, length)| Step::Send { end, length }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        2 => Just(Step::Wait),
    ]
}

/// What a script has done so far, to check the backend against.
#[derive(Default)]
struct Model {
    /// By the key's index, with the end it is at.
    pending: BTreeMap<u32, (usize, Asked)>,
    /// Pending receives and sends of each end in the order of their
    /// submission, without the cancelled.
    queues: [[VecDeque<u32>; 2]; 2 * PAIRS],
    cancelled: BTreeSet<u32>,
    /// Bytes that were sent to an end and not received.
    wires: [VecDeque<u8>; 2 * PAIRS],
}

impl Model {
    /// The bytes of an operation move.
    fn move_bytes(&mut self, end: usize, asked: &Asked, result: i32) {
        let bytes = &asked.bytes()[..usize::try_from(result).unwrap()];
        assert!(!bytes.is_empty());
        match asked.operation.interest() {
            Interest::Readable => {
                let sent: Vec<u8> = self.wires[end].drain(..bytes.len()).collect();
                assert_eq!(sent, bytes);
            }
            Interest::Writable => self.wires[end ^ 1].extend(bytes),
        }
    }

    fn submitted(&mut self, end: usize, asked: Asked, answer: Submitted) {
        let queue = &mut self.queues[end][asked.operation.interest() as usize];
        match answer {
            Submitted::Done(result) => {
                assert!(queue.is_empty(), "overtook those that wait");
                self.move_bytes(end, &asked, result);
            }
            Submitted::Pending => {
                queue.push_back(asked.key.index());
                self.pending.insert(asked.key.index(), (end, asked));
            }
        }
    }

    fn completed(&mut self, completion: Completion) {
        let key = completion.key.index();
        let (end, asked) = self.pending.remove(&key).expect("one completion each");
        if self.cancelled.remove(&key) {
            assert_eq!(completion.result, -libc::ECANCELED);
            return;
        }
        let queue = &mut self.queues[end][asked.operation.interest() as usize];
        assert_eq!(queue.pop_front(), Some(key), "out of turn");
        self.move_bytes(end, &asked, completion.result);
    }

    fn cancel(&mut self, epoll: &mut Epoll, key: u32) {
        let (end, asked) = &self.pending[&key];
        epoll.cancel(&asked.operation, asked.key);
        self.queues[*end][asked.operation.interest() as usize].retain(|other| *other != key);
        self.cancelled.insert(key);
    }

    /// Waits without sleeping until nothing more comes.
    fn settle(&mut self, epoll: &mut Epoll) {
        loop {
            let mut collected = 0;
            let note = |completion| {
                collected += 1;
                self.completed(completion);
            };
            epoll.wait(NOW, note).unwrap();
            if collected == 0 {
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn scripts_lose_and_invent_nothing(steps in prop::collection::vec(step(), 1..120)) {
        let (mut epoll, _bell) = open();
        let pairs: Vec<_> = (0..PAIRS).map(|_| UnixStream::pair().unwrap()).collect();
        let ends: Vec<_> = pairs.iter().flat_map(|(here, there)| [here, there]).collect();
        for end in &ends {
            setsockopt(end, SndBuf, &4096).unwrap();
        }
        let descriptors: Vec<_> = ends.iter().map(|end| descriptor(*end)).collect();
        let mut model = Model::default();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Recv { end, length } => {
                    let asked = Asked::recv(descriptors[end], length, number);
                    let answer = submit(&mut epoll, &asked);
                    model.submitted(end, asked, answer);
                }
                Step::Send { end, length } => {
                    let bytes = (number..).map(|n| n as u8).take(length).collect();
                    let asked = Asked::send(descriptors[end], bytes, number);
                    let answer = submit(&mut epoll, &asked);
                    model.submitted(end, asked, answer);
                }
                Step::Cancel { which } => {
                    let keys: Vec<_> = model.pending.keys().copied().collect();
                    if !keys.is_empty() {
                        model.cancel(&mut epoll, keys[which % keys.len()]);
                    }
                }
                Step::Wait => {
                    model.settle(&mut epoll);
                    prop_assert!(model.cancelled.is_empty());
                    for (end, [readers, writers]) in model.queues.iter().enumerate() {
                        let is_idle = readers.is_empty() || model.wires[end].is_empty();
                        prop_assert!(is_idle, "a reader of {end} was not woken");
                        let is_full = writers.is_empty() || !is_writable(ends[end]);
                        prop_assert!(is_full, "a writer of {end} was not woken");
                    }
                }
            }
        }
        let keys: Vec<_> = model.pending.keys().copied().collect();
        for key in keys {
            model.cancel(&mut epoll, key);
        }
        model.settle(&mut epoll);
        prop_assert!(model.pending.is_empty() && epoll.waiters.is_empty());
        for (end, descriptor) in descriptors.iter().enumerate() {
            let mut rest = vec![0; model.wires[end].len() + 1];
            let mut count = 0;
            while let more @ 1.. = attempt(&recv(*descriptor, &mut rest[count..])) {
                count += more as usize;
            }
            prop_assert!(model.wires[end].iter().eq(&rest[..count]));
        }
    }
}

/// What poll(2) says.
fn is_writable(end: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut entry = [PollFd::new(end.as_fd(), PollFlags::POLLOUT)];
    poll(&mut entry, PollTimeout::ZERO).unwrap() > 0
}
