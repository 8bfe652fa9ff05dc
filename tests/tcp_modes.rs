//! Time limits and non-blocking mode of TCP streams: they belong to the
//! socket, whoever sets them and whichever clone or type looks.

mod common;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use common::Rng;
use common::net::{
    bytes_from, pair, shrink_buffers, std_pair, unread, wait_for_parked, wait_until,
};
use common::through::{Read, plainly};
use greenring::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use greenring::net::{Shutdown, TcpStream};
use greenring::thread;
use greenring::time::{Duration, Instant};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

fn is_nonblocking(fd: &impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK != 0
}

/// Fills a stream until nothing more goes in, without its modes.
fn fill(stream: &TcpStream) -> usize {
    let mut clone = stream.try_clone().unwrap();
    clone.set_nonblocking(true).unwrap();
    let mut filled = 0;
    loop {
        match clone.write(&bytes_from(filled, 4096)) {
            Ok(count) => filled += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    clone.set_nonblocking(false).unwrap();
    filled
}

/// A stream in another shape.
type Way = fn(TcpStream) -> TcpStream;

/// All ways out of greenring and back in.
const WAYS: [Way; 4] = [
    |stream| std::net::TcpStream::from(stream).into(),
    |stream| OwnedFd::from(stream).into(),
    // SAFETY: the descriptor is handed over.
    |stream| unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) },
    |stream| stream.try_clone().unwrap(),
];

both_backends! {
    fn a_read_that_takes_too_long_would_block_and_never_early() {
        let (stream, _peer) = pair();
        let mut rng = Rng::new("read timeouts");
        for round in 0..12 {
            let timeout = Duration::from_micros(1 + rng.below(20_000));
            stream.set_read_timeout(Some(timeout)).unwrap();
            let begin = Instant::now();
            let mut buffer = [0; 8];
            let result = match round % 3 {
                0 => (&stream).read(&mut buffer),
                1 => (&stream).read_vectored(&mut [IoSliceMut::new(&mut buffer)]),
                _ => stream.peek(&mut buffer),
            };
            assert!(begin.elapsed() >= timeout);
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        }
    }

    fn a_write_that_takes_too_long_would_block_and_never_early() {
        let (stream, peer) = pair();
        shrink_buffers(&stream, &peer);
        for (round, timeout) in [1, 6, 15].map(Duration::from_millis).into_iter().enumerate() {
            stream.set_write_timeout(Some(timeout)).unwrap();
            let error = loop {
                fill(&stream);
                let begin = Instant::now();
                let result = if round % 2 == 0 {
                    (&stream).write(&[1; 100])
                } else {
                    (&stream).write_vectored(&[IoSlice::new(&[1; 50]), IoSlice::new(&[1; 50])])
                };
                // A socket that was full makes room once what it holds is
                // delivered: then it is filled again, to the peer's last byte.
                if let Err(error) = result {
                    assert!(begin.elapsed() >= timeout);
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }

    fn a_write_whose_time_runs_out_half_way_says_how_far_it_got() {
        let (stream, peer) = pair();
        shrink_buffers(&stream, &peer);
        let timeout = Duration::from_millis(20);
        stream.set_write_timeout(Some(timeout)).unwrap();
        let all = bytes_from(0, 512 << 10);
        let begin = Instant::now();
        let count = (&stream).write(&all).unwrap();
        assert!(begin.elapsed() >= timeout);
        assert!(0 < count && count < all.len());
        drop(stream);
        let mut received = Vec::new();
        (&peer).read_to_end(&mut received).unwrap();
        assert!(received == all[..count]);
    }

    fn progress_gives_a_write_no_more_time() {
        let (stream, peer) = pair();
        shrink_buffers(&stream, &peer);
        stream.set_write_timeout(Some(Duration::from_millis(40))).unwrap();
        // Each step of the reader comes long before a limit that began with the
        // step before it would have passed.
        let reader = thread::spawn(move || {
            let mut received = 0;
            let mut buffer = [0; 8192];
            loop {
                match (&peer).read(&mut buffer).unwrap() {
                    0 => return received,
                    count => received += count,
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let all = vec![0; 8 << 20];
        let count = (&stream).write(&all).unwrap();
        assert!(0 < count && count < all.len());
        drop(stream);
        assert_eq!(reader.join().unwrap(), count);
    }

    fn a_blocking_write_returns_when_all_is_written() {
        let (stream, peer) = pair();
        shrink_buffers(&stream, &peer);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            (&peer).read_to_end(&mut received).unwrap();
            received
        });
        let all = bytes_from(0, 512 << 10);
        assert_eq!((&stream).write(&all).unwrap(), all.len());
        let (head, tail) = all.split_at(1000);
        let parts = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)];
        assert_eq!((&stream).write_vectored(&parts).unwrap(), all.len());
        drop(stream);
        let received = reader.join().unwrap();
        assert!(received[..all.len()] == all && received[all.len()..] == all);
    }

    fn an_empty_read_gives_zero_when_its_time_runs_out() {
        plainly("a reader does not wait to read nothing");
        let (stream, _peer) = pair();
        let timeout = Duration::from_millis(5);
        stream.set_read_timeout(Some(timeout)).unwrap();
        for peeks in [false, true] {
            let begin = Instant::now();
            let result = if peeks { stream.peek(&mut []) } else { (&stream).read(&mut []) };
            assert_eq!(result.unwrap(), 0);
            assert!(begin.elapsed() >= timeout);
        }
        stream.set_nonblocking(true).unwrap();
        assert_eq!((&stream).read(&mut []).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    fn data_in_time_ends_the_wait_and_a_late_byte_is_not_lost() {
        let (stream, mut peer) = pair();
        stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
        let clone = stream.try_clone().unwrap();
        let reader = thread::spawn(move || (&clone).read(&mut [0; 8]).unwrap());
        wait_for_parked(1);
        peer.write_all(b"abc").unwrap();
        assert_eq!(reader.join().unwrap(), 3);

        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut buffer = [0; 8];
        assert!((&stream).read(&mut buffer).is_err());
        peer.write_all(b"late").unwrap();
        wait_until(|| unread(&stream) == 4);
        assert_eq!((&stream).read(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"late");
    }

    fn limits_are_rounded_as_the_kernel_rounds_them_for_std() {
        let (stream, _peer) = pair();
        let (std, _std_peer) = std_pair();
        assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (None, None));
        for timeout in [
            Some(Duration::from_nanos(1)),
            Some(Duration::from_micros(1)),
            Some(Duration::from_millis(10)),
            Some(Duration::from_millis(1500)),
            Some(Duration::from_secs(86_400)),
            Some(Duration::MAX),
            None,
        ] {
            stream.set_read_timeout(timeout).unwrap();
            std.set_read_timeout(timeout).unwrap();
            assert_eq!(stream.read_timeout().unwrap(), std.read_timeout().unwrap());
            stream.set_write_timeout(timeout).unwrap();
            std.set_write_timeout(timeout).unwrap();
            assert_eq!(stream.write_timeout().unwrap(), std.write_timeout().unwrap());
        }
    }

    fn a_limit_of_zero_is_refused_as_in_std() {
        let (stream, _peer) = pair();
        let (std, _std_peer) = std_pair();
        let zero = Some(Duration::ZERO);
        let seen = |result: io::Result<()>| result.map_err(|error| (error.kind(), error.to_string()));
        let refused = seen(std.set_read_timeout(zero));
        assert_eq!(refused.as_ref().unwrap_err().0, ErrorKind::InvalidInput);
        assert_eq!(seen(stream.set_read_timeout(zero)), refused);
        assert_eq!(seen(stream.set_write_timeout(zero)), refused);
        assert_eq!(stream.read_timeout().unwrap(), None);
    }

    fn a_limit_of_one_clone_holds_for_the_others() {
        let (stream, _peer) = pair();
        let clone = stream.try_clone().unwrap();
        let second = clone.try_clone().unwrap();
        second.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!((&stream).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(stream.read_timeout().unwrap(), second.read_timeout().unwrap());
        clone.set_write_timeout(Some(Duration::from_secs(9))).unwrap();
        drop(clone);
        assert_eq!(stream.write_timeout().unwrap(), Some(Duration::from_secs(9)));
    }

    fn limits_and_modes_survive_every_conversion() {
        for way in WAYS {
            let (stream, mut peer) = pair();
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
            let stream = way(stream);
            assert!(stream.read_timeout().unwrap().is_some());
            assert_eq!(stream.write_timeout().unwrap(), Some(Duration::from_secs(3)));
            assert_eq!((&stream).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);

            stream.set_read_timeout(None).unwrap();
            stream.set_nonblocking(true).unwrap();
            let stream = way(stream);
            assert!(is_nonblocking(&stream));
            assert_eq!((&stream).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);

            stream.set_nonblocking(false).unwrap();
            let stream = way(stream);
            assert!(!is_nonblocking(&stream));
            let reader = thread::spawn(move || (&stream).read(&mut [0; 8]).unwrap());
            wait_for_parked(1);
            peer.write_all(b"xy").unwrap();
            assert_eq!(reader.join().unwrap(), 2);
        }
    }

    fn the_kernel_sees_what_was_set_and_std_gets_it() {
        let (stream, _peer) = pair();
        stream.set_read_timeout(Some(Duration::from_millis(8))).unwrap();
        stream.set_nonblocking(true).unwrap();
        let expected = stream.read_timeout().unwrap();
        let std = std::net::TcpStream::from(stream);
        assert_eq!(std.read_timeout().unwrap(), expected);
        assert!(is_nonblocking(&std));
        std.set_nonblocking(false).unwrap();
        let error = (&std).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    fn what_others_set_before_is_taken_over() {
        let (mine, peer) = std_pair();
        setsockopt(&mine, sockopt::ReceiveTimeout, &TimeVal::milliseconds(4)).unwrap();
        setsockopt(&mine, sockopt::SendTimeout, &TimeVal::seconds(7)).unwrap();
        let stream = TcpStream::from(mine);
        let begin = Instant::now();
        assert_eq!((&stream).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(begin.elapsed() >= Duration::from_millis(4));
        assert_eq!(stream.write_timeout().unwrap(), Some(Duration::from_secs(7)));

        let flags = OFlag::from_bits_retain(fcntl(&peer, FcntlArg::F_GETFL).unwrap());
        fcntl(&peer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
        let peer = TcpStream::from(peer);
        assert_eq!((&peer).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        fill(&peer);
    }

    fn what_others_set_on_the_raw_socket_later_is_not_seen() {
        let (stream, mut peer) = pair();
        setsockopt(&stream, sockopt::ReceiveTimeout, &TimeVal::milliseconds(4)).unwrap();
        fcntl(&stream, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let fd = stream.as_raw_fd();
        let reader = thread::spawn(move || {
            let n = (&stream).read(&mut [0; 8]).unwrap();
            // Asked for, the limit is looked up, and holds from then on.
            let limit = stream.read_timeout().unwrap();
            assert_eq!(stream.as_raw_fd(), fd);
            (n, limit.is_some())
        });
        wait_for_parked(1);
        thread::sleep(Duration::from_millis(10));
        peer.write_all(b"abc").unwrap();
        assert_eq!(reader.join().unwrap(), (3, true));
    }

    fn a_nonblocking_stream_never_waits() {
        let (stream, mut peer) = pair();
        let clone = stream.try_clone().unwrap();
        clone.set_nonblocking(true).unwrap();
        let would_block = |result: io::Result<usize>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
        };
        let mut buffer = [0; 8];
        would_block((&stream).read(&mut buffer));
        would_block((&stream).read_vectored(&mut [IoSliceMut::new(&mut buffer)]));
        would_block(stream.peek(&mut buffer));
        let filled = fill(&stream);
        // `fill` works on a clone, and leaves it blocking.
        stream.set_nonblocking(true).unwrap();
        would_block((&stream).write(&[1]));
        would_block((&stream).write_vectored(&[IoSlice::new(&[1])]));

        peer.write_all(b"data").unwrap();
        wait_until(|| unread(&stream) == 4);
        assert_eq!(stream.peek(&mut buffer).unwrap(), 4);
        assert_eq!((&stream).read(&mut buffer).unwrap(), 4);
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert!(received == bytes_from(0, filled));
        drop(peer);
        clone.set_nonblocking(false).unwrap();
        assert_eq!((&stream).read(&mut buffer).unwrap(), 0);
    }

    fn a_nonblocking_write_takes_what_fits() {
        let (stream, peer) = pair();
        shrink_buffers(&stream, &peer);
        stream.set_nonblocking(true).unwrap();
        let all = bytes_from(0, 512 << 10);
        let count = (&stream).write(&all).unwrap();
        assert!(0 < count && count < all.len());
        drop(stream);
        let mut received = Vec::new();
        (&peer).read_to_end(&mut received).unwrap();
        assert!(received == all[..count]);
    }

    fn a_crowd_of_nonblocking_polls_lets_others_run() {
        let (stream, mut peer) = pair();
        stream.set_nonblocking(true).unwrap();
        // Writes only when it gets a turn, which the loop below never yields.
        let writer = thread::spawn(move || peer.write_all(b"x").unwrap());
        let mut buffer = [0; 8];
        while (&stream).read(&mut buffer).is_err() {}
        writer.join().unwrap();
    }
}
