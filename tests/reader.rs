//! `reader()`: buffers that the kernel lends, of all kinds of streams.

mod common;

use std::cell::Cell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use common::net::{
    bytes_from, has_ended, pair, reset_on_close, shrink_buffers, unread, wait_for_parked,
    wait_until,
};
use common::{Rng, on_builder, open_descriptors};
use greenring::io::{self, BufRead, ErrorKind, IoSliceMut, Read, Write};
use greenring::net::{Shutdown, TcpStream};
use greenring::os::unix::net::UnixStream;
use greenring::runtime::{self, Backend, Builder};
use greenring::sync::mpsc;
use greenring::time::{self, Duration};
use greenring::{cancel, thread};

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Epoll];

/// Bytes of one of the kernel's buffers.
const BUFFER: usize = 16 << 10;

/// Reads `length` bytes by what is lent and compares them with what stands
/// there in every test's stream.
fn expect(reader: &mut impl BufRead, start: usize, length: usize) {
    let mut at = start;
    while at < start + length {
        let bytes = reader.fill_buf().unwrap();
        assert!(!bytes.is_empty(), "the stream ends at {at}");
        let taken = bytes.len().min(start + length - at);
        assert!(bytes[..taken] == bytes_from(at, taken), "wrong from {at}");
        reader.consume(taken);
        at += taken;
    }
}

both_backends! {
    fn lines_arrive_and_then_the_end() {
        let (stream, mut peer) = pair();
        peer.write_all(b"one\ntwo\nthree").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut reader = stream.reader();
        let lines: Vec<_> = (&mut reader).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(reader.fill_buf().unwrap(), b"", "the end stays the end");
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    fn who_waits_is_woken_by_each_message() {
        let (stream, mut peer) = pair();
        let echo = thread::spawn(move || {
            let (mut reader, mut writer) = stream.split();
            loop {
                let bytes = reader.fill_buf().unwrap();
                if bytes.is_empty() {
                    return;
                }
                let length = bytes.len();
                writer.write_all(bytes).unwrap();
                reader.consume(length);
            }
        });
        let mut at = 0;
        for length in [1, 64, 100, 4096, BUFFER, 3 * BUFFER + 1, 1] {
            peer.write_all(&bytes_from(at, length)).unwrap();
            let mut back = vec![0; length];
            peer.read_exact(&mut back).unwrap();
            assert!(back == bytes_from(at, length));
            at += length;
        }
        drop(peer);
        echo.join().unwrap();
    }

    fn bytes_that_were_not_consumed_stay_with_the_stream() {
        let (mut stream, mut peer) = pair();
        peer.write_all(&bytes_from(0, 100)).unwrap();
        wait_until(|| unread(&stream) == 100);
        let mut reader = stream.reader();
        expect(&mut reader, 0, 10);
        // This part may still be the kernel's when the reader goes.
        peer.write_all(&bytes_from(100, 100)).unwrap();
        drop(reader);

        let mut peeked = [0; 5];
        assert_eq!(stream.peek(&mut peeked).unwrap(), 5);
        assert_eq!(peeked[..], bytes_from(10, 5));
        let mut five = [0; 5];
        stream.read_exact(&mut five).unwrap();
        assert_eq!(five[..], bytes_from(10, 5));
        let clone = stream.try_clone().unwrap();
        expect(&mut clone.reader(), 15, 5);
        let (mut one, mut other) = ([0; 3], [0; 2]);
        let mut buffers = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
        assert_eq!(stream.read_vectored(&mut buffers).unwrap(), 5);
        assert_eq!([&one[..], &other].concat(), bytes_from(20, 5));
        expect(&mut stream.reader(), 25, 5);
        drop(peer);
        let (mut file, mut written) = io::pipe().unwrap();
        assert_eq!(io::copy(&mut stream, &mut written).unwrap(), 170);
        let mut rest = [0; 170];
        file.read_exact(&mut rest).unwrap();
        assert_eq!(rest[..], bytes_from(30, 170));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    fn an_empty_read_leaves_everything() {
        let (mut stream, mut peer) = pair();
        peer.write_all(b"ab").unwrap();
        let mut reader = stream.reader();
        expect_bytes(&mut reader, b"a", 1);
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        drop(reader);
        assert_eq!(stream.read(&mut []).unwrap(), 0);
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
    }

    fn there_is_one_reader_at_a_time_and_no_read_beside_it() {
        let (mut stream, mut peer) = pair();
        let mut clone = stream.try_clone().unwrap();
        {
            let mut reader = stream.reader();
            let second = catch_unwind(AssertUnwindSafe(|| drop(clone.reader())));
            let text = *second.unwrap_err().downcast::<&str>().unwrap();
            assert!(text.contains("has a reader already"), "{text}");
            peer.write_all(b"x").unwrap();
            for error in [
                (&stream).read(&mut [0]).unwrap_err(),
                clone.read(&mut [0]).unwrap_err(),
                stream.peek(&mut [0]).unwrap_err(),
                clone.read_vectored(&mut [IoSliceMut::new(&mut [0])]).unwrap_err(),
                io::copy(&mut clone, &mut io::sink()).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
            }
            expect_bytes(&mut reader, b"x", 1);
        }
        peer.write_all(b"y").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
    }

    fn time_limits_lose_nothing() {
        let (stream, mut peer) = pair();
        stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut reader = stream.reader();
        for round in 0..50 {
            let error = reader.fill_buf().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let limited = time::timeout(Duration::from_millis(1), || {
                stream.set_read_timeout(None).unwrap();
                reader.fill_buf().unwrap().len()
            });
            assert!(limited.is_err());
            stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            peer.write_all(&bytes_from(round, 1)).unwrap();
            // What comes while nobody waits is there at once.
            if round % 2 == 0 {
                thread::yield_now();
            }
            stream.set_read_timeout(None).unwrap();
            expect(&mut reader, round, 1);
            stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        }
    }

    fn a_cancelled_reader_leaves_its_bytes() {
        let (stream, mut peer) = pair();
        let stream = Rc::new(stream);
        let reading = Rc::clone(&stream);
        let (told, heard) = mpsc::channel();
        let handle = thread::spawn(move || {
            let mut reader = reading.reader();
            let first = reader.fill_buf().unwrap().len();
            reader.consume(first - 1);
            told.send(first).unwrap();
            thread::park();
        });
        peer.write_all(&bytes_from(0, 10)).unwrap();
        let first = heard.recv().unwrap();
        peer.write_all(&bytes_from(10, 10)).unwrap();
        handle.cancel();
        assert!(handle.join().is_err());
        expect(&mut stream.reader(), first - 1, 21 - first);

        let reading = Rc::clone(&stream);
        let handle = thread::spawn(move || reading.reader().fill_buf().unwrap().len());
        wait_for_parked(1);
        handle.cancel();
        assert!(handle.join().is_err());
        peer.write_all(b"z").unwrap();
        assert_eq!((&*stream).read(&mut [0; 8]).unwrap(), 1);
    }

    fn a_slow_consumer_slows_its_sender_down() {
        let (stream, peer) = pair();
        shrink_buffers(&peer, &stream);
        let sender = thread::spawn(move || {
            peer.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut sent = 0;
            loop {
                let before = sent;
                let bytes = bytes_from(sent, 10_000);
                match (&peer).write(&bytes) {
                    Ok(count) => sent += count,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        assert!(before == sent);
                        break;
                    }
                }
                assert!(sent < 4 << 20, "nothing holds the sender back");
            }
            sent
        });
        let mut reader = stream.reader();
        expect(&mut reader, 0, 1);
        let sent = sender.join().unwrap();
        expect(&mut reader, 1, sent - 1);
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    fn a_dropped_reader_lets_the_end_of_the_stream_out() {
        let (stream, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        let mut reader = stream.reader();
        expect_bytes(&mut reader, b"x", 1);
        drop(reader);
        drop(stream);
        // Nothing of this hub runs any more.
        wait_outside(|| has_ended(&peer));
    }

    fn a_reader_that_was_armed_and_waits_no_more_is_dropped_at_once() {
        let (stream, peer) = pair();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut reader = stream.reader();
        reader.fill_buf().unwrap_err();
        drop(reader);
        assert_eq!(runtime::stats().in_flight, 0);
        drop(stream);
        wait_outside(|| has_ended(&peer));
    }

    fn bytes_come_before_the_error_that_ends_them() {
        // A Unix stream that is closed with bytes unread resets its peer.
        let (one, mut other) = UnixStream::pair().unwrap();
        other.write_all(b"last words").unwrap();
        (&one).write_all(b"unread").unwrap();
        let mut reader = one.reader();
        drop(other);
        expect_bytes(&mut reader, b"last words", 10);
        let error = reader.fill_buf().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    fn an_error_that_a_reader_has_not_seen_is_told_to_the_next_read() {
        let (one, mut other) = UnixStream::pair().unwrap();
        (&one).write_all(b"unread").unwrap();
        one.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut reader = one.reader();
        reader.fill_buf().unwrap_err();
        other.write_all(b"last words").unwrap();
        drop(other);
        drop(reader);
        let mut text = [0; 10];
        (&one).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"last words");
        let error = (&one).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!((&one).read(&mut [0]).unwrap(), 0);
    }

    fn a_reset_reaches_who_waits() {
        let (stream, peer) = pair();
        reset_on_close(&peer);
        let handle = thread::spawn(move || stream.reader().fill_buf().unwrap_err().kind());
        wait_for_parked(1);
        drop(peer);
        assert_eq!(handle.join().unwrap(), ErrorKind::ConnectionReset);
    }

    fn a_shutdown_ends_who_waits() {
        let (stream, _peer) = pair();
        let stream = Rc::new(stream);
        let reading = Rc::clone(&stream);
        let handle = thread::spawn(move || reading.reader().fill_buf().unwrap().len());
        wait_for_parked(1);
        stream.shutdown(Shutdown::Read).unwrap();
        assert_eq!(handle.join().unwrap(), 0);
    }

    fn non_blocking_mode_does_not_wait() {
        let (stream, mut peer) = pair();
        stream.set_nonblocking(true).unwrap();
        let mut reader = stream.reader();
        assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock);
        peer.write_all(b"a").unwrap();
        wait_until(|| unread(&stream) == 1);
        expect_bytes(&mut reader, b"a", 1);
        // From waiting to not waiting, with bytes on the way.
        stream.set_nonblocking(false).unwrap();
        peer.write_all(b"b").unwrap();
        expect_bytes(&mut reader, b"b", 1);
        peer.write_all(b"cd").unwrap();
        stream.set_nonblocking(true).unwrap();
        wait_until(|| match reader.fill_buf() {
            Ok(bytes) => !bytes.is_empty(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        });
        expect_bytes(&mut reader, b"c", 1);
        expect_bytes(&mut reader, b"d", 1);
        assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    fn non_blocking_mode_neither_yields_nor_is_interrupted() {
        let (stream, mut peer) = pair();
        stream.set_nonblocking(true).unwrap();
        let seen = Rc::new(Cell::new((0, ErrorKind::Other)));
        let (told, heard) = mpsc::channel();
        let is_cancelled = Rc::new(Cell::new(false));
        let handle = thread::spawn({
            let (seen, is_cancelled) = (Rc::clone(&seen), Rc::clone(&is_cancelled));
            move || {
                told.send(()).unwrap();
                cancel::shield(|| wait_until(|| is_cancelled.get() && unread(&stream) == 3));
                // From here on whatever waits or gives others a turn unwinds.
                let mut reader = stream.reader();
                let length = reader.fill_buf().unwrap().len();
                reader.consume(length);
                let error = reader.fill_buf().unwrap_err();
                seen.set((length, error.kind()));
                thread::yield_now();
            }
        });
        heard.recv().unwrap();
        handle.cancel();
        is_cancelled.set(true);
        peer.write_all(b"abc").unwrap();
        assert!(handle.join().is_err());
        assert_eq!(seen.get(), (3, ErrorKind::WouldBlock));
    }

    fn a_large_read_gets_its_bytes_in_order() {
        const LENGTH: usize = 1 << 20;
        let (stream, mut peer) = pair();
        let sender = thread::spawn(move || peer.write_all(&bytes_from(0, LENGTH)).unwrap());
        let mut reader = stream.reader();
        expect(&mut reader, 0, 7);
        let mut rest = vec![0; LENGTH - 7];
        reader.read_exact(&mut rest).unwrap();
        assert!(rest == bytes_from(7, LENGTH - 7));
        sender.join().unwrap();
        assert_eq!(reader.read(&mut [0; 100_000]).unwrap(), 0);
    }

    fn a_reader_that_never_has_to_wait_lets_others_run() {
        let (stream, mut peer) = pair();
        let sender = thread::spawn(move || {
            for at in 0..2000 {
                peer.write_all(&bytes_from(at, 1)).unwrap();
            }
        });
        sender.join().unwrap();
        let mut reader = stream.reader();
        expect(&mut reader, 0, 2000);
    }

    fn pipes_have_readers_too() {
        let (mut reading, mut writing) = io::pipe().unwrap();
        writing.write_all(b"one\ntwo\nthree").unwrap();
        let mut reader = reading.reader();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
        drop(reader);
        let mut start = [0; 2];
        reading.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"tw");
        let (told, heard) = mpsc::channel();
        let handle = thread::spawn(move || {
            let mut reader = reading.reader();
            let mut text = String::new();
            reader.read_line(&mut text).unwrap();
            told.send(()).unwrap();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        heard.recv().unwrap();
        wait_for_parked(1);
        writing.write_all(b" and more").unwrap();
        drop(writing);
        assert_eq!(handle.join().unwrap(), "o\nthree and more");
    }

    fn the_table_says_what_a_reader_waits_for() {
        use std::os::fd::AsRawFd;
        let (stream, peer) = pair();
        let fd = stream.as_raw_fd();
        let handle = thread::spawn(move || stream.reader().fill_buf().unwrap().len());
        wait_for_parked(1);
        let text = greenring::inspect::snapshot().to_string();
        assert!(text.contains(&format!("waits for recv on descriptor {fd}")), "{text}");
        drop(peer);
        handle.join().unwrap();
    }
}

/// Reads these bytes, `step` at a time.
fn expect_bytes(reader: &mut impl Read, bytes: &[u8], step: usize) {
    for expected in bytes.chunks(step) {
        let mut read = vec![0; expected.len()];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, expected);
    }
}

/// Waits without turning the hub's loop.
fn wait_outside(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

both_backends_alone! {
    fn what_readers_hold_is_given_back() {
        let before = open_descriptors();
        for round in 0..20 {
            let crowd: Vec<_> = (0..50)
                .map(|number| {
                    let (stream, peer) = pair();
                    thread::spawn(move || {
                        let mut reader = stream.reader();
                        let mut at = 0;
                        loop {
                            (&peer).write_all(&bytes_from(at, 100)).unwrap();
                            expect(&mut reader, at, 60);
                            at += 60;
                            if at > 40 * (number % 7 + round) {
                                return;
                            }
                            // The rest of the message stays behind in its buffer.
                            drop(reader);
                            let mut rest = [0; 40];
                            (&stream).read_exact(&mut rest).unwrap();
                            at += 40;
                            reader = stream.reader();
                        }
                    })
                })
                .collect();
            for each in crowd {
                each.join().unwrap();
            }
        }
        let stats = runtime::stats();
        assert_eq!((stats.in_flight, stats.readers, stats.buffers_lent), (0, 0, 0));
        assert_eq!(open_descriptors(), before);
    }

    fn a_forgotten_reader_harms_nobody() {
        let (stream, mut peer) = pair();
        peer.write_all(b"lost").unwrap();
        let mut reader = stream.reader();
        reader.fill_buf().unwrap();
        mem::forget(reader);
        assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ResourceBusy);
        drop(stream);
        let (other, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        expect_bytes(&mut other.reader(), b"x", 1);
    }
}

/// More readers than buffers, all of which hold one and wait for each other.
#[test]
fn readers_beyond_the_buffers_have_buffers_of_their_own() {
    const READERS: usize = 50;
    for backend in BACKENDS {
        on_builder(
            Builder::new().backend(backend).reader_buffers(2),
            backend,
            || {
                let pairs: Vec<_> = (0..READERS).map(|_| pair()).collect();
                let mut readers = Vec::new();
                for (stream, peer) in &pairs {
                    let mut reader = stream.reader();
                    (&mut &*peer).write_all(&bytes_from(0, 10)).unwrap();
                    expect(&mut reader, 0, 5);
                    readers.push(reader);
                }
                for round in 1..20 {
                    for ((_, peer), reader) in pairs.iter().zip(&mut readers) {
                        (&mut &*peer)
                            .write_all(&bytes_from(10 * round, 10))
                            .unwrap();
                        expect(reader, 10 * round - 5, 10);
                    }
                }
            },
        );
    }
}

#[test]
fn a_crowd_shares_few_buffers() {
    const CONNECTIONS: usize = 100;
    for backend in BACKENDS {
        for buffers in [1, 3, 64] {
            let builder = Builder::new().backend(backend).reader_buffers(buffers);
            on_builder(builder, backend, || {
                let echoes: Vec<_> = (0..CONNECTIONS)
                    .map(|number| {
                        let (stream, mut peer) = pair();
                        let echo = thread::spawn(move || {
                            let (mut reader, mut writer) = stream.split();
                            io::copy(&mut reader, &mut writer).unwrap()
                        });
                        let client = thread::spawn(move || {
                            let mut reader = peer.try_clone().unwrap();
                            let writer = thread::spawn(move || {
                                for step in 0..20 {
                                    let bytes = bytes_from(1000 * step + number, 1000);
                                    peer.write_all(&bytes).unwrap();
                                }
                                peer.shutdown(Shutdown::Write).unwrap();
                            });
                            let mut received = Vec::new();
                            reader.read_to_end(&mut received).unwrap();
                            assert!(received == bytes_from(number, 20_000));
                            writer.join().unwrap();
                        });
                        (echo, client)
                    })
                    .collect();
                for (echo, client) in echoes {
                    client.join().unwrap();
                    assert_eq!(echo.join().unwrap(), 20_000);
                }
            });
        }
    }
}

/// A reader that outlives its hub keeps what was received, and goes on by
/// another one.
#[test]
fn a_reader_outlives_its_hub() {
    for backend in BACKENDS {
        let (stream, mut peer) = {
            let (one, other) = common::net::std_pair();
            (TcpStream::from(one), other)
        };
        let mut reader = None;
        on_builder(Builder::new().backend(backend), backend, || {
            peer.write_all(&bytes_from(0, 100)).unwrap();
            let mut within = stream.reader();
            expect(&mut within, 0, 10);
            peer.write_all(&bytes_from(100, 100)).unwrap();
            wait_until(|| runtime::stats().in_flight <= 1);
            reader = Some(within);
        });
        let Some(mut reader) = reader else {
            continue;
        };
        expect(&mut reader, 10, 190);
        on_builder(Builder::new().backend(backend), backend, || {
            peer.write_all(&bytes_from(200, 10)).unwrap();
            expect(&mut reader, 200, 10);
            peer.write_all(&bytes_from(210, 10)).unwrap();
            expect(&mut reader, 210, 10);
        });
        drop(reader);
    }
}

/// Green threads that wait in readers when their hub ends.
#[test]
fn a_hub_ends_amid_readers() {
    for backend in BACKENDS {
        for _ in 0..10 {
            on_builder(Builder::new().backend(backend), backend, || {
                for _ in 0..10 {
                    let (stream, peer) = pair();
                    thread::spawn(move || {
                        let _peer = peer;
                        stream.reader().fill_buf().unwrap();
                    });
                }
                wait_for_parked(10);
            });
        }
    }
}

/// Everything at random: who reads how much by which means, when readers come
/// and go, how much is sent when. Not a byte is lost, doubled or swapped.
#[test]
fn any_mixture_of_ways_reads_the_same_bytes() {
    const LENGTH: usize = 300_000;
    let mut rng = Rng::new("any_mixture_of_ways_reads_the_same_bytes");
    for backend in BACKENDS {
        for buffers in [1, 2, 64] {
            let seeds: Vec<u64> = (0..8).map(|_| rng.next()).collect();
            let builder = Builder::new().backend(backend).reader_buffers(buffers);
            on_builder(builder, backend, || {
                let crowd: Vec<_> = seeds
                    .into_iter()
                    .flat_map(|seed| {
                        let (stream, peer) = pair();
                        [
                            thread::spawn(move || send_at_random(peer, LENGTH, seed)),
                            thread::spawn(move || receive_at_random(stream, LENGTH, !seed)),
                        ]
                    })
                    .collect();
                for each in crowd {
                    each.join().unwrap();
                }
            });
        }
    }
}

fn send_at_random(mut peer: TcpStream, length: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut at = 0;
    while at < length {
        let most = [10, 1000, 50_000][rng.below(3) as usize];
        let count = (1 + rng.below(most) as usize).min(length - at);
        peer.write_all(&bytes_from(at, count)).unwrap();
        at += count;
        match rng.below(8) {
            0 => thread::sleep(Duration::from_micros(rng.below(300))),
            1 => thread::yield_now(),
            _ => {}
        }
    }
}

fn receive_at_random(mut stream: TcpStream, length: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut at = 0;
    let check = |at: &mut usize, bytes: &[u8]| {
        assert!(bytes == bytes_from(*at, bytes.len()), "wrong from {at}");
        *at += bytes.len();
    };
    while at < length {
        let most = [10, 1000, 50_000][rng.below(3) as usize];
        let mut buffer = vec![0; 1 + rng.below(most) as usize];
        match rng.below(3) {
            0 => {
                let peeked = stream.peek(&mut buffer).unwrap();
                check(&mut { at }, &buffer[..peeked]);
                let read = stream.read(&mut buffer).unwrap();
                check(&mut at, &buffer[..read]);
                continue;
            }
            1 => stream.set_read_timeout(Some(Duration::from_micros(1 + rng.below(200)))),
            _ => stream.set_read_timeout(None),
        }
        .unwrap();
        let mut reader = stream.reader();
        for _ in 0..rng.below(20) {
            if at == length {
                break;
            }
            if rng.below(2) == 0 {
                let limit = Duration::from_micros(rng.below(200));
                let filled = time::timeout(limit, || reader.fill_buf().map(<[u8]>::len));
                match filled {
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                let most = reader.buffer().len() as u64;
                let count = rng.below(most + 1) as usize;
                check(&mut at, &reader.buffer()[..count]);
                reader.consume(count);
            } else {
                match reader.read(&mut buffer) {
                    Ok(read) => check(&mut at, &buffer[..read]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
        }
        drop(reader);
        stream.set_read_timeout(None).unwrap();
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// A reader that was armed and that nobody waits for can make nobody ready.
#[test]
fn an_idle_reader_hides_no_wait_that_nothing_can_end() {
    const TEST: &str = "an_idle_reader_hides_no_wait_that_nothing_can_end";
    if common::is_child("stuck") {
        let code = common::forked(|| {
            let (stream, _peer) = pair();
            let limit = Some(Duration::from_millis(1));
            stream.set_read_timeout(limit).unwrap();
            let mut reader = stream.reader();
            reader.fill_buf().unwrap_err();
            thread::park();
            0
        });
        assert_eq!(code, 101);
        return;
    }
    common::child_on_each_backend(TEST, "stuck", &[], |child| {
        child.assert_says(&["this wait would last for ever"]);
    });
}
