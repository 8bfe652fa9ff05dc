//! One TCP stream or listener in several hands: green threads of one hub, hubs
//! of several OS threads, and different backends.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use common::is_available;
use common::net::{bytes_from, pair, wait_for_parked};
use common::through::{Read, plainly};
use greenring::io::{ErrorKind, Write};
use greenring::net::{Shutdown, TcpListener, TcpStream};
use greenring::runtime::{self, Backend, Builder};
use greenring::thread;
use greenring::time::Duration;

/// Bytes of a stream that is big enough to stop both sides often.
const LARGE: usize = 4 << 20;

/// The other backend, if this process can have it, else the same.
fn another_backend() -> Backend {
    let other = match runtime::backend() {
        Backend::Uring => Backend::Epoll,
        Backend::Epoll => Backend::Uring,
    };
    if is_available(other) {
        other
    } else {
        runtime::backend()
    }
}

/// Runs `body` on a hub of another OS thread.
fn elsewhere<T: Send + 'static>(
    backend: Backend,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || Builder::new().backend(backend).run(body).unwrap())
}

/// Parks until an OS thread has ended.
fn join_elsewhere<T>(handle: std::thread::JoinHandle<T>) -> T {
    while !handle.is_finished() {
        thread::sleep(Duration::from_micros(200));
    }
    handle.join().unwrap()
}

both_backends! {
    fn one_stream_is_read_and_written_at_the_same_time() {
        let (stream, peer) = pair();
        let stream = Rc::new(stream);
        let echo = thread::spawn(move || greenring::io::copy(&mut &peer, &mut &peer).unwrap());
        let reading = Rc::clone(&stream);
        let reader = thread::spawn(move || {
            let mut received = vec![0; LARGE];
            (&mut &*reading).read_exact(&mut received).unwrap();
            assert!(received == bytes_from(0, LARGE));
        });
        wait_for_parked(2);
        (&mut &*stream).write_all(&bytes_from(0, LARGE)).unwrap();
        reader.join().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(echo.join().unwrap(), LARGE as u64);
    }

    fn each_byte_goes_to_one_of_many_readers() {
        plainly("a stream has one reader at a time");
        const READERS: usize = 8;
        const BYTES: usize = 50_000;
        let (stream, mut peer) = pair();
        let stream = Rc::new(stream);
        let seen = Rc::new(RefCell::new(vec![0u32; 250]));
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let (stream, seen) = (Rc::clone(&stream), Rc::clone(&seen));
                thread::spawn(move || {
                    let mut buffer = vec![0; number + 1];
                    let mut mine = 0;
                    loop {
                        let count = (&mut &*stream).read(&mut buffer).unwrap();
                        if count == 0 {
                            return mine;
                        }
                        for byte in &buffer[..count] {
                            seen.borrow_mut()[usize::from(*byte)] += 1;
                        }
                        mine += count;
                    }
                })
            })
            .collect();
        wait_for_parked(READERS);
        for start in (0..BYTES).step_by(50) {
            let bytes: Vec<_> = (start..start + 50).map(|position| (position % 250) as u8).collect();
            peer.write_all(&bytes).unwrap();
            thread::yield_now();
        }
        // The end releases all of them.
        drop(peer);
        let total: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(total, BYTES);
        assert!(seen.borrow().iter().all(|count| *count == (BYTES / 250) as u32));
    }

    fn many_writers_to_one_stream_lose_nothing() {
        const WRITERS: usize = 6;
        const EACH: usize = 256 << 10;
        let (stream, mut peer) = pair();
        let stream = Rc::new(stream);
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let stream = Rc::clone(&stream);
                thread::spawn(move || (&mut &*stream).write_all(&vec![number as u8; EACH]).unwrap())
            })
            .collect();
        drop(stream);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        for (number, writer) in writers.into_iter().enumerate() {
            writer.join().unwrap();
            let count = received.iter().filter(|byte| **byte == number as u8).count();
            assert_eq!(count, EACH);
        }
    }

    fn a_stream_moves_to_an_os_thread_with_another_backend_and_back() {
        let (mut stream, mut peer) = pair();
        // It was waited for here first.
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(None).unwrap();
        for round in 0..3 {
            let moved = elsewhere(another_backend(), move || {
                let mut buffer = [0; 8];
                let count = stream.read(&mut buffer).unwrap();
                stream.write_all(&buffer[..count]).unwrap();
                stream
            });
            let sent = bytes_from(round, 5);
            peer.write_all(&sent).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(peer.read(&mut buffer).unwrap(), 5);
            assert_eq!(buffer[..5], sent);
            stream = join_elsewhere(moved);

            let reader = thread::spawn(move || {
                assert_eq!(stream.read(&mut [0; 8]).unwrap(), 2);
                stream
            });
            wait_for_parked(1);
            peer.write_all(b"ok").unwrap();
            stream = reader.join().unwrap();
        }
    }

    fn one_stream_is_used_on_two_hubs_at_once() {
        let (stream, peer) = pair();
        let stream = Arc::new(stream);
        let theirs = Arc::clone(&stream);
        // Read there, written here.
        let reading = elsewhere(another_backend(), move || {
            let mut received = vec![0; LARGE];
            (&mut &*theirs).read_exact(&mut received).unwrap();
            received
        });
        let echo = thread::spawn(move || greenring::io::copy(&mut &peer, &mut &peer).unwrap());
        (&mut &*stream).write_all(&bytes_from(0, LARGE)).unwrap();
        assert!(join_elsewhere(reading) == bytes_from(0, LARGE));
        drop(stream);
        echo.join().unwrap();
    }

    fn a_shutdown_on_one_hub_releases_a_reader_on_another() {
        let (stream, _peer) = pair();
        let stream = Arc::new(stream);
        let theirs = Arc::clone(&stream);
        let (parked, is_parked) = std::sync::mpsc::channel();
        let reading = elsewhere(another_backend(), move || {
            let reader = thread::spawn(move || (&mut &*theirs).read(&mut [0; 8]).unwrap());
            wait_for_parked(1);
            parked.send(()).unwrap();
            reader.join().unwrap()
        });
        is_parked.recv().unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        assert_eq!(join_elsewhere(reading), 0);
    }

    fn clones_of_a_listener_accept_on_two_hubs() {
        const CONNECTIONS: usize = 100;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clone = listener.try_clone().unwrap();
        // Each ends at a connection that sends the word.
        let accept_all = |listener: TcpListener| {
            for (accepted, stream) in listener.incoming().enumerate() {
                let mut word = [0];
                if stream.unwrap().read(&mut word).unwrap() == 0 {
                    return accepted;
                }
            }
            unreachable!("incoming never ends")
        };
        let there = elsewhere(another_backend(), move || accept_all(clone));
        let here = thread::spawn(move || accept_all(listener));
        for _ in 0..CONNECTIONS {
            TcpStream::connect(address).unwrap().write_all(b"x").unwrap();
        }
        let end = || drop(TcpStream::connect(address).unwrap());
        end();
        end();
        assert_eq!(here.join().unwrap() + join_elsewhere(there), CONNECTIONS);
    }

    fn os_threads_talk_through_sockets() {
        const ROUNDS: usize = 300;
        let (mut stream, mut peer) = pair();
        let other = elsewhere(another_backend(), move || {
            let mut word = [0; 4];
            for _ in 0..ROUNDS {
                peer.read_exact(&mut word).unwrap();
                peer.write_all(&word).unwrap();
            }
        });
        for round in 0..ROUNDS as u32 {
            stream.write_all(&round.to_ne_bytes()).unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            assert_eq!(u32::from_ne_bytes(word), round);
        }
        join_elsewhere(other);
    }
}
