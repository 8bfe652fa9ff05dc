//! The contract of `backend/mod.rs`, driven without a hub, on both backends.

#![allow(unsafe_code)] // Submits operations; keeps what they lend in place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

fn open(kind: Kind, ring_entries: u32, disabled: &str) -> (Backend, Arc<Bell>) {
    let by = "a test";
    let (backend, bell, _) = Backend::open(Setup {
        choice: Choice::Asked { kind, by },
        ring_entries,
        reader_buffers: 8,
        disabled: Disabled::parse(disabled).unwrap(),
    })
    .unwrap();
    (backend, bell)
}

/// Each backend, the ring also as older kernels have it, and a tiny one.
///
/// Each on an OS thread of its own: the kernel clears a closed ring away by
/// work that interrupts a later wait of the same OS thread.
fn each_backend(test: impl Fn(&mut Backend, &Bell) + Sync) {
    for (kind, entries, disabled) in [
        (Kind::Uring, 64, ""),
        (
            Kind::Uring,
            64,
            "no_sqarray,no_iowait,poll_first,accept_poll_first",
        ),
        (Kind::Uring, 64, "defer_taskrun"),
        (Kind::Uring, 2, ""),
        (Kind::Epoll, 64, ""),
        (Kind::Epoll, 64, "epoll_pwait2"),
    ] {
        let on_its_own = || {
            let (mut backend, bell) = open(kind, entries, disabled);
            test(&mut backend, &bell);
        };
        std::thread::scope(|scope| scope.spawn(on_its_own).join())
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    }
}

fn descriptor(socket: &impl AsRawFd) -> Descriptor {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    Descriptor {
        fd: socket.as_raw_fd(),
        id: NEXT.fetch_add(1, Ordering::Relaxed),
    }
}

fn recv(socket: Descriptor, buffer: &mut [u8]) -> Operation<'_> {
    Operation::Recv {
        socket,
        into: buffer.into(),
        flags: 0,
        poll_first: true,
    }
}

fn send(socket: Descriptor, buffer: &[u8]) -> Operation<'_> {
    Operation::Send {
        socket,
        from: buffer.into(),
        flags: libc::MSG_NOSIGNAL,
    }
}

fn key(index: u32) -> Key {
    Key::new(index, 7, false)
}

/// Waits until `count` completions have come; they by key index.
fn collect(backend: &mut Backend, count: usize) -> HashMap<u32, i32> {
    let mut completed = HashMap::new();
    while completed.len() < count {
        let wait = backend.wait(Some(Duration::from_secs(20)), |done| {
            assert_eq!(done.key.generation(), 7);
            let before = completed.insert(done.key.index(), done.result);
            assert_eq!(before, None, "one completion per operation");
        });
        wait.unwrap();
    }
    completed
}

/// Whatever completes without waiting.
fn collect_now(backend: &mut Backend) -> Vec<Completion> {
    let mut completed = Vec::new();
    backend
        .wait(Some(Duration::ZERO), |done| completed.push(done))
        .unwrap();
    completed
}

fn submit(backend: &mut Backend, operation: &Operation<'_>, key: Key) -> Submitted {
    // SAFETY: the tests keep operations until their completion is collected.
    unsafe { backend.submit(operation, *operation, key, false) }
}

#[test]
fn a_receive_completes_when_data_comes() {
    each_backend(|backend, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let operation = recv(descriptor(&ours), &mut buffer);
        assert_eq!(submit(backend, &operation, key(1)), Submitted::Pending);
        assert_eq!(collect_now(backend), []);
        theirs.write_all(b"ping").unwrap();
        assert_eq!(collect(backend, 1), HashMap::from([(1, 4)]));
        assert_eq!(&buffer[..4], b"ping");
    });
}

#[test]
fn the_end_of_a_stream_completes_a_receive_with_zero() {
    each_backend(|backend, _| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let operation = recv(descriptor(&ours), &mut buffer);
        assert_eq!(submit(backend, &operation, key(1)), Submitted::Pending);
        drop(theirs);
        assert_eq!(collect(backend, 1)[&1], 0);
    });
}

#[test]
fn both_directions_of_one_descriptor_wait_at_once() {
    each_backend(|backend, _| {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let full = vec![1; 1 << 20];
        ours.set_nonblocking(true).unwrap();
        while ours.write(&full).is_ok() {}
        let socket = descriptor(&ours);
        let mut buffer = [0; 8];
        let reading = recv(socket, &mut buffer);
        let writing = send(socket, b"more");
        assert_eq!(submit(backend, &reading, key(1)), Submitted::Pending);
        assert_eq!(submit(backend, &writing, key(2)), Submitted::Pending);
        assert_eq!(collect_now(backend), []);
        theirs.write_all(b"x").unwrap();
        assert_eq!(collect(backend, 1), HashMap::from([(1, 1)]));
        theirs.set_nonblocking(true).unwrap();
        let mut drain = vec![0; 1 << 20];
        while theirs.read(&mut drain).is_ok() {}
        assert_eq!(collect(backend, 1), HashMap::from([(2, 4)]));
    });
}

#[test]
fn a_cancelled_operation_completes_once_and_takes_no_data() {
    each_backend(|backend, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let operation = recv(descriptor(&ours), &mut buffer);
        assert_eq!(submit(backend, &operation, key(1)), Submitted::Pending);
        backend.cancel(&operation, key(1));
        // Asking again, and for what is not there, changes nothing.
        backend.cancel(&operation, key(1));
        backend.cancel(&operation, key(9));
        assert_eq!(collect(backend, 1)[&1], -libc::ECANCELED);
        assert_eq!(collect_now(backend), []);
        theirs.write_all(b"kept").unwrap();
        let mut again = [0; 8];
        let operation = recv(descriptor(&ours), &mut again);
        let received = match submit(backend, &operation, key(2)) {
            Submitted::Done(result) => result,
            Submitted::Pending => collect(backend, 1)[&2],
        };
        assert_eq!(received, 4);
    });
}

#[test]
fn a_cancel_that_comes_too_late_leaves_the_result() {
    each_backend(|backend, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let operation = recv(descriptor(&ours), &mut buffer);
        assert_eq!(submit(backend, &operation, key(1)), Submitted::Pending);
        assert_eq!(collect_now(backend), []);
        theirs.write_all(b"done").unwrap();
        assert_eq!(collect(backend, 1)[&1], 4);
        backend.cancel(&operation, key(1));
        assert_eq!(collect_now(backend), []);
    });
}

#[test]
fn accept_hands_over_a_descriptor_and_the_peer() {
    each_backend(|backend, _| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // It may wait before it tries or not, somebody may be there or not.
        for (poll_first, is_early) in [(false, false), (true, false), (true, true)] {
            let early = is_early.then(connect);
            let mut peer = SocketName::empty();
            let operation = Operation::Accept {
                socket: descriptor(&listener),
                peer: (&mut peer).into(),
                poll_first,
            };
            let key = Key::new(1, 7, operation.returns_descriptor());
            assert!(key.returns_descriptor());
            let submitted = submit(backend, &operation, key);
            let client = early.unwrap_or_else(connect);
            let accepted = match submitted {
                Submitted::Pending => collect(backend, 1)[&1],
                Submitted::Done(accepted) => accepted,
            };
            let accepted = TcpStream::from(own(accepted));
            assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
            assert_eq!(peer.length as usize, size_of::<libc::sockaddr_in>());
        }
    });
}

#[test]
fn two_readers_of_one_descriptor_both_get_their_share() {
    each_backend(|backend, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = descriptor(&ours);
        let (mut one, mut two) = ([0; 1], [0; 1]);
        let first = recv(socket, &mut one);
        let second = recv(socket, &mut two);
        assert_eq!(submit(backend, &first, key(1)), Submitted::Pending);
        assert_eq!(submit(backend, &second, key(2)), Submitted::Pending);
        assert_eq!(collect_now(backend), []);
        theirs.write_all(b"ab").unwrap();
        assert_eq!(collect(backend, 2).len(), 2);
        // The ring serves them in whatever order, epoll in theirs.
        match backend.kind() {
            Kind::Uring => assert_eq!(one[0].min(two[0]), b'a'),
            Kind::Epoll => assert_eq!((one, two), (*b"a", *b"b")),
        }
        assert_eq!(one[0].max(two[0]), b'b');
    });
}

#[test]
fn a_wait_ends_at_its_timeout_and_not_before() {
    each_backend(|backend, _| {
        // A fresh ring collects the arming of its bell's watch at most once.
        collect_now(backend);
        for milliseconds in [0, 1, 10] {
            let timeout = Duration::from_millis(milliseconds);
            let begin = std::time::Instant::now();
            backend.wait(Some(timeout), |_| unreachable!()).unwrap();
            let elapsed = begin.elapsed();
            assert!(
                elapsed >= timeout,
                "{:?} {elapsed:?} < {timeout:?}",
                backend.kind()
            );
        }
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 1];
        let operation = recv(descriptor(&ours), &mut buffer);
        assert_eq!(submit(backend, &operation, key(1)), Submitted::Pending);
        backend.cancel(&operation, key(1));
        let longest = Some(Duration::MAX);
        let mut results = Vec::new();
        backend
            .wait(longest, |done| results.push(done.result))
            .unwrap();
        assert_eq!(results, [-libc::ECANCELED]);
    });
}

#[test]
fn every_ring_of_the_bell_ends_a_wait() {
    each_backend(|backend, bell| {
        for _ in 0..3 {
            // Before the wait, and from another OS thread during it.
            bell.ring();
            backend.wait(None, |_| unreachable!()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| bell.ring());
                backend.wait(None, |_| unreachable!()).unwrap();
            });
        }
    });
}

#[test]
fn more_operations_than_the_queues_hold_all_complete() {
    each_backend(|backend, _| {
        let pairs: Vec<_> = (0..500).map(|_| UnixStream::pair().unwrap()).collect();
        let mut buffers = vec![[0; 1]; pairs.len()];
        let operations: Vec<_> = pairs
            .iter()
            .zip(&mut buffers)
            .map(|((ours, _), buffer)| recv(descriptor(ours), buffer))
            .collect();
        for (index, operation) in operations.iter().enumerate() {
            let submitted = submit(backend, operation, key(index as u32));
            assert_eq!(submitted, Submitted::Pending);
        }
        for (_, theirs) in &pairs {
            let mut theirs = theirs;
            theirs.write_all(b"x").unwrap();
        }
        // Nothing more happens: what is there comes without another event.
        let completed = collect(backend, pairs.len());
        assert!(completed.values().all(|result| *result == 1));
        assert_eq!(backend.counters().submitted, 500);
    });
}

#[test]
fn a_tiny_ring_counts_its_full_queue_and_its_overflows() {
    let (mut backend, _bell) = open(Kind::Uring, 2, "");
    let pairs: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
    let mut buffers = vec![[0; 1]; pairs.len()];
    let operations: Vec<_> = pairs
        .iter()
        .zip(&mut buffers)
        .map(|((ours, _), buffer)| recv(descriptor(ours), buffer))
        .collect();
    for (index, operation) in operations.iter().enumerate() {
        let submitted = submit(&mut backend, operation, key(index as u32));
        assert_eq!(submitted, Submitted::Pending);
    }
    assert!(backend.counters().full > 0, "{:?}", backend.counters());
    for (_, theirs) in &pairs {
        let mut theirs = theirs;
        theirs.write_all(b"x").unwrap();
    }
    assert_eq!(collect(&mut backend, pairs.len()).len(), pairs.len());
}

#[test]
fn a_reused_descriptor_number_does_not_wake_those_of_the_old_file() {
    let (mut backend, _bell) = open(Kind::Epoll, 2, "");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let mut buffer = [0; 4];
    let old = recv(descriptor(&ours), &mut buffer);
    assert_eq!(submit(&mut backend, &old, key(1)), Submitted::Pending);

    let (new, mut new_peer) = UnixStream::pair().unwrap();
    // SAFETY: `ours` is forgotten below, so its number has one owner, `new`'s
    // duplicate.
    assert_eq!(unsafe { libc::dup2(new.as_raw_fd(), number) }, number);
    let mut new_buffer = [0; 4];
    let reused = recv(descriptor(&ours), &mut new_buffer);
    assert_eq!(submit(&mut backend, &reused, key(2)), Submitted::Pending);
    new_peer.write_all(b"new").unwrap();
    assert_eq!(collect(&mut backend, 1), HashMap::from([(2, 3)]));
    // The old one can still be cancelled.
    assert_eq!(collect_now(&mut backend), []);
    backend.cancel(&old, key(1));
    assert_eq!(collect(&mut backend, 1)[&1], -libc::ECANCELED);
    drop(theirs);
    assert_eq!((&buffer, &new_buffer[..3]), (&[0; 4], &b"new"[..]));
}

#[test]
fn a_duplicate_under_a_reused_number_is_registered_anew() {
    let (mut backend, _bell) = open(Kind::Epoll, 2, "");
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let duplicate = ours.try_clone().unwrap();
    for round in 0..3 {
        // The same file under the same number, but another identity.
        let mut buffer = [0; 1];
        let operation = recv(descriptor(&duplicate), &mut buffer);
        assert_eq!(
            submit(&mut backend, &operation, key(round)),
            Submitted::Pending
        );
        theirs.write_all(b"x").unwrap();
        assert_eq!(collect(&mut backend, 1), HashMap::from([(round, 1)]));
    }
}

#[test]
fn pipes_are_read_and_written_where_they_have_data_and_room() {
    each_backend(|backend, _| {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let (from, to) = (descriptor(&reader), descriptor(&writer));
        let mut buffer = [0; 8];
        let read = Operation::Read {
            file: from,
            into: (&mut buffer[..]).into(),
            position: CURRENT_POSITION,
        };
        assert_eq!(submit(backend, &read, key(1)), Submitted::Pending);
        assert_eq!(collect_now(backend), []);
        writer.write_all(b"piped").unwrap();
        assert_eq!(collect(backend, 1)[&1], 5);
        assert_eq!(&buffer[..5], b"piped");

        // More than a pipe holds: what fits goes, and the rest would wait.
        let bytes = vec![7; 1 << 20];
        let write = |key| {
            let write = Operation::Write {
                file: to,
                from: bytes[..].into(),
                position: CURRENT_POSITION,
            };
            (write, key)
        };
        let (first, first_key) = write(key(2));
        let written = match submit(backend, &first, first_key) {
            Submitted::Done(written) => written,
            Submitted::Pending => collect(backend, 1)[&2],
        };
        assert!(0 < written && written < 1 << 20);
        let (second, second_key) = write(key(3));
        assert_eq!(submit(backend, &second, second_key), Submitted::Pending);
        assert_eq!(collect_now(backend), []);
        reader.read_exact(&mut vec![0; written as usize]).unwrap();
        assert!(collect(backend, 1)[&3] > 0);
    });
}

#[test]
fn readiness_comes_with_what_a_descriptor_is_ready_for() {
    each_backend(|backend, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let foreign = Descriptor {
            fd: ours.as_raw_fd(),
            id: Descriptor::FOREIGN,
        };
        let readable = Operation::Poll {
            file: foreign,
            interest: Interest::Readable,
        };
        for round in 0..3 {
            assert_eq!(submit(backend, &readable, key(round)), Submitted::Pending);
            assert_eq!(collect_now(backend), []);
            theirs.write_all(b"x").unwrap();
            let events = collect(backend, 1)[&round];
            assert_ne!(events & i32::from(libc::POLLIN), 0);
            (&ours).read_exact(&mut [0]).unwrap();
        }
        // A receive of ours is not disturbed by what others wait for.
        let mut buffer = [0; 8];
        let receive = recv(descriptor(&ours), &mut buffer);
        assert_eq!(submit(backend, &receive, key(10)), Submitted::Pending);
        assert_eq!(submit(backend, &readable, key(11)), Submitted::Pending);
        backend.cancel(&readable, key(11));
        assert_eq!(collect(backend, 1)[&11], -libc::ECANCELED);
        theirs.write_all(b"for the receive").unwrap();
        assert_eq!(collect(backend, 1)[&10], 8);
    });
}

#[test]
fn a_foreign_number_may_mean_another_file_each_time() {
    each_backend(|backend, _| {
        let mut numbers = std::collections::HashSet::new();
        for round in 0..20 {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            numbers.insert(ours.as_raw_fd());
            let readable = Operation::Poll {
                file: Descriptor {
                    fd: ours.as_raw_fd(),
                    id: Descriptor::FOREIGN,
                },
                interest: Interest::Readable,
            };
            assert_eq!(submit(backend, &readable, key(round)), Submitted::Pending);
            if round % 2 == 0 {
                backend.cancel(&readable, key(round));
                assert_eq!(collect(backend, 1)[&round], -libc::ECANCELED);
            } else {
                theirs.write_all(b"x").unwrap();
                assert!(collect(backend, 1)[&round] > 0);
            }
        }
        assert!(numbers.len() < 20, "some number was used again");
    });
}

#[test]
fn a_file_that_epoll_does_not_take_is_an_error_at_once() {
    let (mut backend, _bell) = open(Kind::Epoll, 2, "");
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let mut buffer = [0; 1];
    let operation = recv(descriptor(&file), &mut buffer);
    let submitted = submit(&mut backend, &operation, key(1));
    assert_eq!(submitted, Submitted::Done(-libc::ENOTSOCK));
}

#[test]
fn masked_features_step_down_the_ladder() {
    for (disabled, rung) in [
        ("", "6.6"),
        ("no_sqarray", "6.1"),
        ("defer_taskrun", "5.19"),
    ] {
        let setup = Setup {
            choice: Choice::Automatic,
            ring_entries: 8,
            reader_buffers: 8,
            disabled: Disabled::parse(disabled).unwrap(),
        };
        let (backend, _, reason) = Backend::open(setup).unwrap();
        assert_eq!(backend.kind(), Kind::Uring, "{reason}");
        assert!(reason.contains(rung), "{reason}");
    }
    let setup = Setup {
        choice: Choice::Automatic,
        ring_entries: 8,
        reader_buffers: 8,
        disabled: Disabled::parse("uring").unwrap(),
    };
    let (backend, _, reason) = Backend::open(setup).unwrap();
    assert_eq!(backend.kind(), Kind::Epoll);
    assert!(reason.contains("GREENRING_DISABLE"), "{reason}");
}

/// One step of a script over a few socket pairs.
#[derive(Clone, Debug)]
enum Step {
    Receive(usize),
    PeerSends(usize, u8),
    Cancel(usize),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_usize).prop_map(Step::Receive),
        3 => (0..4_usize, 1..9_u8).prop_map(|(pair, bytes)| Step::PeerSends(pair, bytes)),
        2 => (0..4_usize).prop_map(Step::Cancel),
        3 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// A receive and its buffer at one address until its completion is collected.
struct Receive {
    key: Key,
    _buffer: Box<[u8; 16]>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is submitted, cancelled and sent in whatever order: each
    /// pending operation completes once, and no byte is lost or doubled.
    #[test]
    fn no_completion_and_no_byte_is_lost(steps in steps()) {
        each_backend(|backend, _| {
            let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
            let sockets: Vec<_> = pairs.iter().map(|(ours, _)| descriptor(ours)).collect();
            let mut pending: Vec<Option<Receive>> = (0..4).map(|_| None).collect();
            let mut sent = [0; 4];
            let received = RefCell::new([0; 4]);
            let mut next = 0;
            let operation = |pair: usize, buffer: &mut Box<[u8; 16]>| {
                // SAFETY: the box is kept beside the operation until its
                // completion has been collected.
                recv(sockets[pair], unsafe { &mut *std::ptr::from_mut(&mut **buffer) })
            };
            let mut operations: Vec<Option<Box<Operation<'static>>>> =
                (0..4).map(|_| None).collect();
            let settle = |pending: &mut Vec<Option<Receive>>, pair: usize, result: i32| {
                assert!(result > 0 || result == -libc::ECANCELED, "{result}");
                received.borrow_mut()[pair] += result.max(0);
                pending[pair].take().expect("it was pending");
            };
            for step in &steps {
                match *step {
                    Step::Receive(pair) if pending[pair].is_none() => {
                        next += 1;
                        let key = Key::new(pair as u32, next, false);
                        let mut buffer = Box::new([0; 16]);
                        let boxed = Box::new(operation(pair, &mut buffer));
                        pending[pair] = Some(Receive {
                            key,
                            _buffer: buffer,
                        });
                        match submit(backend, &boxed, key) {
                            Submitted::Done(result) => settle(&mut pending, pair, result),
                            Submitted::Pending => operations[pair] = Some(boxed),
                        }
                    }
                    Step::PeerSends(pair, bytes) => {
                        (&pairs[pair].1).write_all(&vec![1; bytes as usize]).unwrap();
                        sent[pair] += i32::from(bytes);
                    }
                    Step::Cancel(pair) => {
                        if let Some(receive) = &pending[pair] {
                            let operation = operations[pair].as_ref().unwrap();
                            backend.cancel(operation, receive.key);
                        }
                    }
                    Step::Wait => {
                        for done in collect_now(backend) {
                            let pair = done.key.index() as usize;
                            assert_eq!(pending[pair].as_ref().unwrap().key, done.key);
                            settle(&mut pending, pair, done.result);
                        }
                    }
                    Step::Receive(_) => {}
                }
            }
            // Cancel and drain, as a hub does.
            for pair in 0..4 {
                if let Some(receive) = &pending[pair] {
                    backend.cancel(operations[pair].as_ref().unwrap(), receive.key);
                }
            }
            while pending.iter().any(Option::is_some) {
                let mut completed = Vec::new();
                backend
                    .wait(Some(Duration::from_secs(20)), |done| completed.push(done))
                    .unwrap();
                assert!(!completed.is_empty(), "a completion is missing");
                for done in completed {
                    settle(&mut pending, done.key.index() as usize, done.result);
                }
            }
            // What was not received is still in the sockets.
            for (pair, (ours, _)) in pairs.iter().enumerate() {
                ours.set_nonblocking(true).unwrap();
                let mut rest = [0; 4096];
                let rest = (&*ours).read(&mut rest).map_or(0, |count| count as i32);
                assert_eq!(received.borrow()[pair] + rest, sent[pair]);
            }
        });
    }
}
