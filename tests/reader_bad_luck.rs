//! `reader()` where little goes well: floods on rings of a few entries, streams
//! that end at the wrong moment, descriptors that are something else.

mod common;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use common::net::{bytes_from, pair, reset_on_close, std_pair, unread, wait_until};
use common::{Rng, on_builder, open_descriptors};
use greenring::io::{self, BufRead, ErrorKind, PipeReader, Read, Write};
use greenring::net::{Shutdown, TcpStream};
use greenring::os::unix::net::UnixStream;
use greenring::runtime::{self, Backend, Builder};
use greenring::thread;
use greenring::time::{self, Duration};

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Epoll];

/// Reads to the end, `most` bytes at a time, and gives how much there was.
fn expect_all(reader: &mut impl BufRead, most: usize) -> usize {
    let mut at = 0;
    loop {
        let bytes = reader.fill_buf().unwrap();
        if bytes.is_empty() {
            return at;
        }
        let taken = bytes.len().min(most);
        assert!(bytes[..taken] == bytes_from(at, taken), "wrong from {at}");
        reader.consume(taken);
        at += taken;
    }
}

/// Far more completions than the queues have room for, few buffers and many.
#[test]
fn a_flood_on_many_connections_passes_through_a_tiny_ring() {
    const CONNECTIONS: usize = 100;
    const LENGTH: usize = 30_000;
    for backend in BACKENDS {
        for (entries, buffers) in [(2, 1), (2, 64), (4, 1024), (8, 3)] {
            let builder = Builder::new()
                .backend(backend)
                .ring_entries(entries)
                .reader_buffers(buffers);
            on_builder(builder, backend, || {
                let (streams, peers): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| pair()).unzip();
                // One OS thread sends them all while nothing is collected here.
                let sender = std::thread::spawn(move || {
                    let mut peers: Vec<_> =
                        peers.into_iter().map(std::net::TcpStream::from).collect();
                    for start in (0..LENGTH).step_by(500) {
                        for peer in &mut peers {
                            peer.write_all(&bytes_from(start, 500)).unwrap();
                        }
                    }
                });
                let readers: Vec<_> = streams
                    .into_iter()
                    .map(|stream| thread::spawn(move || expect_all(&mut stream.reader(), 777)))
                    .collect();
                for reader in readers {
                    assert_eq!(reader.join().unwrap(), LENGTH);
                }
                sender.join().unwrap();
                assert_eq!(runtime::stats().in_flight, 0);
            });
        }
    }
}

both_backends! {
    fn readers_come_and_go_while_data_floods_in() {
        const LENGTH: usize = 3_000_000;
        let (mut stream, mut peer) = pair();
        let sender = thread::spawn(move || peer.write_all(&bytes_from(0, LENGTH)).unwrap());
        let mut at = 0;
        let mut step = 1;
        while at < LENGTH {
            let mut reader = stream.reader();
            let bytes = reader.fill_buf().unwrap();
            let taken = bytes.len().min(step);
            assert!(bytes[..taken] == bytes_from(at, taken), "wrong from {at}");
            reader.consume(taken);
            at += taken;
            step = (step * 3) % 70_001;
            thread::yield_now();
            drop(reader);
            if step % 5 == 0 {
                let mut word = [0; 5];
                let read = stream.read(&mut word).unwrap();
                assert_eq!(word[..read], bytes_from(at, read));
                at += read;
            }
        }
        assert_eq!(stream.reader().fill_buf().unwrap(), b"");
        sender.join().unwrap();
    }

    fn who_sits_on_full_buffers_keeps_nobody_from_reading() {
        const FULL: usize = 1 << 20;
        let sitting: Vec<_> = (0..20)
            .map(|_| {
                let (stream, mut peer) = pair();
                let sender = thread::spawn(move || peer.write_all(&bytes_from(0, FULL)).unwrap());
                (stream, sender)
            })
            .collect();
        let mut readers: Vec<_> = sitting.iter().map(|(stream, _)| stream.reader()).collect();
        for reader in &mut readers {
            reader.fill_buf().unwrap();
            reader.consume(1);
        }
        let others: Vec<_> = (0..50).map(|_| pair()).collect();
        let (streams, mut peers): (Vec<_>, Vec<_>) = others.into_iter().unzip();
        let echoes: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                thread::spawn(move || {
                    let (mut reader, mut writer) = stream.split();
                    io::copy(&mut reader, &mut writer).unwrap()
                })
            })
            .collect();
        for round in 0..20 {
            for peer in &mut peers {
                peer.write_all(&bytes_from(100 * round, 100)).unwrap();
            }
            for peer in &mut peers {
                let mut back = [0; 100];
                peer.read_exact(&mut back).unwrap();
                assert_eq!(back[..], bytes_from(100 * round, 100));
            }
        }
        drop(peers);
        for echo in echoes {
            assert_eq!(echo.join().unwrap(), 2000);
        }
        for reader in &mut readers {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!(rest == bytes_from(1, FULL - 1));
        }
        for (_, sender) in &sitting {
            assert!(sender.is_finished());
        }
    }

    fn each_direction_ends_by_itself() {
        let (stream, peer) = pair();
        let echo = thread::spawn(move || {
            let (mut reader, mut writer) = peer.split();
            let count = expect_all(&mut reader, 4096);
            // The other direction is still open.
            writer.write_all(&bytes_from(0, count)).unwrap();
        });
        let (mut reader, mut writer) = stream.split();
        writer.write_all(&bytes_from(0, 50_000)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(expect_all(&mut reader, 333), 50_000);
        echo.join().unwrap();
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    fn a_reset_comes_at_any_moment() {
        let mut rng = Rng::new("a_reset_comes_at_any_moment");
        for _ in 0..100 {
            let (stream, mut peer) = pair();
            reset_on_close(&peer);
            let length = rng.below(60_000) as usize;
            let pauses = rng.below(4);
            let reading = thread::spawn(move || {
                let mut reader = stream.reader();
                let mut at = 0;
                loop {
                    match reader.fill_buf() {
                        Ok([]) => panic!("a reset is no end"),
                        Ok(bytes) => {
                            let count = bytes.len();
                            assert!(bytes == bytes_from(at, count));
                            reader.consume(count);
                            at += count;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                            break;
                        }
                    }
                }
                drop(reader);
                assert_eq!((&stream).read(&mut [0]).unwrap(), 0, "it was told");
                assert!(at <= length);
            });
            peer.write_all(&bytes_from(0, length)).unwrap();
            for _ in 0..pauses {
                thread::yield_now();
            }
            drop(peer);
            reading.join().unwrap();
        }
    }

    fn two_green_threads_take_turns_with_one_reader() {
        let (stream, mut peer) = pair();
        let stream: &'static TcpStream = Box::leak(Box::new(stream));
        let reader = Rc::new(RefCell::new(stream.reader()));
        let mut at = 0;
        for _ in 0..50 {
            let taking: Vec<_> = (0..2)
                .map(|number| {
                    let reader = Rc::clone(&reader);
                    let expected = bytes_from(at + number, 1)[0];
                    thread::spawn(move || {
                        // Both may be waiting; one at a time has it.
                        while reader.try_borrow_mut().is_err() {
                            thread::yield_now();
                        }
                        let mut reader = reader.borrow_mut();
                        let byte = reader.fill_buf().unwrap()[0];
                        reader.consume(1);
                        (byte, expected)
                    })
                })
                .collect();
            thread::yield_now();
            peer.write_all(&bytes_from(at, 2)).unwrap();
            at += 2;
            let mut got: Vec<_> = taking.into_iter().map(|each| each.join().unwrap()).collect();
            let mut expected: Vec<_> = got.iter().map(|pair| pair.1).collect();
            got.sort_by_key(|pair| pair.0);
            expected.sort();
            assert_eq!(got.iter().map(|pair| pair.0).collect::<Vec<_>>(), expected);
        }
        drop(reader);
    }

    fn writers_of_a_fifo_come_and_go() {
        let path = std::env::temp_dir().join(format!(
            "greenring-reader-{}-{}",
            std::process::id(),
            runtime::backend()
        ));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let open = || OpenOptions::new().write(true).open(&path).unwrap();
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let stream = PipeReader::from(OwnedFd::from(File::open(&path).unwrap()));
        let mut writer = open();
        drop(both);
        let mut reader = stream.reader();
        for round in 0..20 {
            writer.write_all(&bytes_from(10 * round, 10)).unwrap();
            let mut ten = [0; 10];
            reader.read_exact(&mut ten).unwrap();
            assert_eq!(ten[..], bytes_from(10 * round, 10));
            drop(writer);
            assert_eq!(reader.fill_buf().unwrap(), b"", "nobody writes");
            assert_eq!(reader.fill_buf().unwrap(), b"", "nobody writes");
            writer = open();
            if round % 3 == 0 {
                drop(reader);
                reader = stream.reader();
            }
        }
        drop(writer);
        std::fs::remove_file(&path).unwrap();
    }

    fn a_pipe_reader_reads_what_is_no_pipe() {
        let path = std::env::temp_dir().join(format!(
            "greenring-no-pipe-{}-{}",
            std::process::id(),
            runtime::backend()
        ));
        std::fs::write(&path, bytes_from(0, 100_000)).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let file = PipeReader::from(OwnedFd::from(file));
        assert_eq!(expect_all(&mut file.reader(), 5000), 100_000);

        let zeros = PipeReader::from(OwnedFd::from(File::open("/dev/zero").unwrap()));
        assert_eq!(zeros.reader().fill_buf().unwrap()[..9], [0; 9]);
        let null = PipeReader::from(OwnedFd::from(File::open("/dev/null").unwrap()));
        assert_eq!(null.reader().fill_buf().unwrap(), b"");

        let (one, mut other) = std_pair();
        let socket = PipeReader::from(OwnedFd::from(one));
        other.write_all(&bytes_from(0, 100)).unwrap();
        drop(other);
        assert_eq!(expect_all(&mut socket.reader(), 7), 100);

        let event = nix::sys::eventfd::EventFd::from_value(7).unwrap();
        let event = PipeReader::from(OwnedFd::from(event));
        assert_eq!(event.reader().fill_buf().unwrap(), 7u64.to_ne_bytes());

        let wrong = PipeReader::from(OwnedFd::from(
            OpenOptions::new().write(true).open("/dev/null").unwrap(),
        ));
        assert_eq!(wrong.reader().fill_buf().unwrap_err().raw_os_error(), Some(libc::EBADF));
        let directory = PipeReader::from(OwnedFd::from(File::open("/").unwrap()));
        let error = directory.reader().fill_buf().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
    }

    fn a_pipe_in_non_blocking_mode_does_not_wait() {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&reader, flags).unwrap();
        let stream = PipeReader::from(reader);
        let mut reader = stream.reader();
        for round in 0..10 {
            assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock);
            writer.write_all(&bytes_from(round, 1)).unwrap();
            assert_eq!(reader.fill_buf().unwrap(), bytes_from(round, 1));
            reader.consume(1);
        }
        drop(writer);
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    fn a_panic_in_the_middle_leaves_the_rest() {
        let (stream, mut peer) = pair();
        let stream = Rc::new(stream);
        let reading = Rc::clone(&stream);
        peer.write_all(&bytes_from(0, 100)).unwrap();
        wait_until(|| unread(&*stream) == 100);
        let handle = thread::spawn(move || {
            let mut reader = reading.reader();
            reader.fill_buf().unwrap();
            reader.consume(30);
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(handle.join().is_err());
        peer.write_all(&bytes_from(100, 100)).unwrap();
        drop(peer);
        let mut rest = Vec::new();
        (&*stream).read_to_end(&mut rest).unwrap();
        assert!(rest == bytes_from(30, 170));
    }

    fn a_clone_on_another_hub_has_to_wait_for_the_reader_to_go() {
        let (stream, mut peer) = pair();
        let mut clone = stream.try_clone().unwrap();
        peer.write_all(&bytes_from(0, 10)).unwrap();
        let mut reader = stream.reader();
        reader.fill_buf().unwrap();
        reader.consume(4);
        clone = std::thread::spawn(move || {
            let error = clone.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
            let second = catch_unwind(AssertUnwindSafe(|| drop(clone.reader())));
            assert!(second.is_err());
            clone
        })
        .join()
        .unwrap();
        drop(reader);
        let clone = std::thread::spawn(move || {
            let mut reader = clone.reader();
            assert_eq!(reader.fill_buf().unwrap(), bytes_from(4, 6));
            reader.consume(1);
            drop(reader);
            clone
        })
        .join()
        .unwrap();
        drop(clone);
        drop(peer);
        let mut rest = Vec::new();
        (&stream).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes_from(5, 5));
    }

    fn a_descriptor_that_is_taken_out_goes_on_where_the_reader_stopped() {
        let (stream, mut peer) = pair();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut reader = stream.reader();
        reader.fill_buf().unwrap_err();
        drop(reader);
        stream.set_read_timeout(None).unwrap();
        let raw = stream.into_raw_fd();
        peer.write_all(b"for std").unwrap();
        // SAFETY: it was given up just before.
        let mut std = unsafe { std::net::TcpStream::from_raw_fd(raw) };
        let mut text = [0; 7];
        std.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"for std", "no receive of the reader's is left");
    }

    fn modes_and_limits_change_amid_reads() {
        const LENGTH: usize = 20_000;
        let mut rng = Rng::new("modes_and_limits_change_amid_reads");
        let (stream, mut peer) = pair();
        let sender = thread::spawn(move || {
            for at in (0..LENGTH).step_by(10) {
                peer.write_all(&bytes_from(at, 10)).unwrap();
                if at % 70 == 0 {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        let mut reader = stream.reader();
        let mut at = 0;
        while at < LENGTH {
            stream.set_nonblocking(rng.below(3) == 0).unwrap();
            let limit = (rng.below(2) == 0).then(|| Duration::from_micros(1 + rng.below(200)));
            stream.set_read_timeout(limit).unwrap();
            for _ in 0..rng.below(10) {
                match reader.fill_buf() {
                    Ok(bytes) => {
                        let count = bytes.len();
                        assert!(at == LENGTH || count > 0, "an end at {at}");
                        assert!(bytes == bytes_from(at, count), "wrong from {at}");
                        reader.consume(count);
                        at += count;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        thread::yield_now();
                    }
                }
            }
        }
        sender.join().unwrap();
    }

    /// A file is sent by another OS thread, which sets O_NONBLOCK for each of its
    /// system calls, as long as one lasts.
    fn a_copy_to_the_same_socket_does_not_disturb_its_reader() {
        let (stream, mut peer) = pair();
        let clone = stream.try_clone().unwrap();
        let path = std::env::temp_dir().join(format!(
            "greenring-copied-{}-{}",
            std::process::id(),
            runtime::backend()
        ));
        std::fs::write(&path, bytes_from(0, 100_000)).unwrap();
        let mut drain = peer.try_clone().unwrap();
        let draining = std::thread::spawn(move || {
            let mut sink = vec![0; 1 << 16];
            let mut total = 0;
            loop {
                match drain.read(&mut sink).unwrap() {
                    0 => return total,
                    count => total += count,
                }
            }
        });
        let copying = std::thread::spawn(move || {
            let mut clone = clone;
            for _ in 0..100 {
                let mut file = greenring::fs::File::open(&path).unwrap();
                io::copy(&mut file, &mut clone).unwrap();
            }
            std::fs::remove_file(&path).unwrap();
            clone.shutdown(Shutdown::Write).unwrap();
        });
        let mut at = 0;
        while !copying.is_finished() {
            // Armed again each time.
            let mut reader = stream.reader();
            peer.write_all(&bytes_from(at, 3)).unwrap();
            let mut three = [0; 3];
            reader.read_exact(&mut three).unwrap();
            assert_eq!(three[..], bytes_from(at, 3));
            at += 3;
        }
        copying.join().unwrap();
        assert_eq!(draining.join().unwrap(), 10_000_000);
    }
}

both_backends_alone! {
    fn descriptors_that_come_along_are_closed() {
        let (one, other) = UnixStream::pair().unwrap();
        let before = open_descriptors();
        let sender = thread::spawn(move || {
            let other = other;
            for round in 0..50 {
                let (sent, kept) = std::os::unix::net::UnixStream::pair().unwrap();
                let fds = [sent.as_raw_fd()];
                let control = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
                let bytes = bytes_from(10 * round, 10);
                nix::sys::socket::sendmsg::<()>(
                    other.as_raw_fd(),
                    &[IoSlice::new(&bytes)],
                    &control,
                    nix::sys::socket::MsgFlags::empty(),
                    None,
                )
                .unwrap();
                drop((sent, kept));
                thread::yield_now();
            }
        });
        let mut reader = one.reader();
        for round in 0..50 {
            let mut ten = [0; 10];
            reader.read_exact(&mut ten).unwrap();
            assert_eq!(ten[..], bytes_from(10 * round, 10));
        }
        sender.join().unwrap();
        // The sender's end.
        assert_eq!(open_descriptors(), before - 1);
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    fn a_forked_child_drops_a_live_reader() {
        let (stream, mut peer) = pair();
        let mut reader = stream.reader();
        peer.write_all(&bytes_from(0, 10)).unwrap();
        assert_eq!(reader.fill_buf().unwrap(), bytes_from(0, 10));
        reader.consume(3);
        let mut reader = Some(reader);
        let code = common::forked(|| {
            let mut reader = reader.take().unwrap();
            // What is there is there in the child, too.
            assert_eq!(reader.fill_buf().unwrap(), bytes_from(3, 7));
            drop(reader);
            0
        });
        assert_eq!(code, 0);
        let mut reader = reader.unwrap();
        assert_eq!(reader.buffer(), bytes_from(3, 7));
        reader.consume(7);
        for round in 1..2000 {
            peer.write_all(&bytes_from(10 * round, 10)).unwrap();
            let mut ten = [0; 10];
            reader.read_exact(&mut ten).unwrap();
            assert_eq!(ten[..], bytes_from(10 * round, 10));
        }
    }
}

/// OS threads that end amid readers of their own hubs, which nobody has started.
#[test]
fn an_os_thread_ends_amid_readers() {
    for round in 0..20 {
        let (one, mut other) = std_pair();
        other.write_all(&bytes_from(0, 10)).unwrap();
        let stream = std::thread::spawn(move || {
            let stream: &'static TcpStream = Box::leak(Box::new(TcpStream::from(one)));
            let mut reader = stream.reader();
            reader.read_exact(&mut [0; 5]).unwrap();
            thread_local! {
                static LATE: RefCell<Option<io::Reader<'static>>> = const { RefCell::new(None) };
            }
            for _ in 0..5 {
                thread::spawn(|| {
                    let (stream, _peer) = pair();
                    stream.reader().fill_buf().unwrap();
                });
            }
            thread::yield_now();
            match round % 3 {
                0 => LATE.set(Some(reader)),
                1 => drop(reader),
                _ => std::mem::forget(reader),
            }
            stream
        })
        .join()
        .unwrap();
        if round % 3 == 2 {
            continue;
        }
        let rest = std::thread::spawn(move || {
            let mut rest = [0; 5];
            (&*stream).read_exact(&mut rest).unwrap();
            rest
        });
        assert_eq!(rest.join().unwrap()[..], bytes_from(5, 5));
    }
}

#[test]
fn cancels_and_limits_come_at_any_point() {
    let mut rng = Rng::new("cancels_and_limits_come_at_any_point");
    for backend in BACKENDS {
        for buffers in [1, 2, 64] {
            let seed = rng.next();
            let builder = Builder::new().backend(backend).reader_buffers(buffers);
            on_builder(builder, backend, || cancel_at_random(seed));
        }
    }
}

fn cancel_at_random(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|(one, other)| (Rc::new(one), other))
        .collect();
    let mut at = [0; 10];
    let sent: Vec<_> = (0..10).map(|_| std::cell::Cell::new(0)).collect();
    for _ in 0..100 {
        let crowd: Vec<_> = (0..10)
            .map(|number| {
                let stream = Rc::clone(&pairs[number].0);
                let (start, limit) = (at[number], rng.below(300));
                let taken = Rc::new(std::cell::Cell::new(0));
                let counted = Rc::clone(&taken);
                let handle = thread::spawn(move || {
                    let mut reader = stream.reader();
                    let _ = time::timeout(Duration::from_micros(limit), || {
                        loop {
                            let bytes = reader.fill_buf().unwrap();
                            let count = bytes.len().min(100);
                            assert!(bytes[..count] == bytes_from(start + taken.get(), count));
                            reader.consume(count);
                            taken.set(taken.get() + count);
                        }
                    });
                });
                (handle, counted)
            })
            .collect();
        for _ in 0..rng.below(20) {
            let number = rng.below(10) as usize;
            let count = rng.below(300) as usize;
            (&pairs[number].1)
                .write_all(&bytes_from(sent[number].get(), count))
                .unwrap();
            sent[number].set(sent[number].get() + count);
            if rng.below(3) == 0 {
                thread::yield_now();
            }
            if rng.below(3) == 0 {
                crowd[rng.below(10) as usize].0.cancel();
            }
        }
        for (number, (handle, counted)) in crowd.into_iter().enumerate() {
            let _ = handle.join();
            at[number] += counted.get();
        }
    }
    for (number, (stream, peer)) in pairs.iter().enumerate() {
        peer.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        (&**stream).read_to_end(&mut rest).unwrap();
        assert!(rest == bytes_from(at[number], sent[number].get() - at[number]));
    }
    let stats = runtime::stats();
    assert_eq!(
        (stats.in_flight, stats.readers, stats.buffers_lent),
        (0, 0, 0)
    );
}
