//! `wait_readable` and `wait_writable`, for descriptors that others own.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use greenring::net::{wait_readable, wait_writable};
use greenring::thread;

both_backends! {
    fn readiness_ends_a_wait() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let waits = thread::spawn(move || {
            assert!(wait_readable(&here, None).unwrap());
            here
        });
        thread::yield_now();
        there.write_all(b"x").unwrap();
        let mut here = waits.join().unwrap();
        assert_eq!(here.read(&mut [0; 8]).unwrap(), 1);
    }

    fn a_timeout_ends_a_wait_and_is_not_early() {
        let (here, _there) = UnixStream::pair().unwrap();
        let start = Instant::now();
        assert!(!wait_readable(&here, Some(Duration::from_millis(20))).unwrap());
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(!wait_readable(&here, Some(Duration::ZERO)).unwrap());
        assert!(wait_writable(&here, Some(Duration::ZERO)).unwrap());
    }

    fn a_hang_up_is_ready() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        assert!(wait_readable(&here, None).unwrap());
    }

    fn both_directions_and_several_green_threads_wait_on_one_descriptor() {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        while (&here).write(&[0; 4096]).is_ok() {}
        let here = std::rc::Rc::new(here);
        let spawn = |writable: bool| {
            let here = here.clone();
            thread::spawn(move || {
                if writable {
                    wait_writable(&*here, None)
                } else {
                    wait_readable(&*here, None)
                }
            })
        };
        let readers = [spawn(false), spawn(false)];
        let writers = [spawn(true), spawn(true)];
        thread::yield_now();
        assert!(readers.iter().chain(&writers).all(|waits| !waits.is_finished()));
        there.write_all(b"x").unwrap();
        for reader in readers {
            assert!(reader.join().unwrap().unwrap());
        }
        assert!(writers.iter().all(|waits| !waits.is_finished()));
        there.set_nonblocking(true).unwrap();
        while there.read(&mut [0; 65536]).is_ok() {}
        for writer in writers {
            assert!(writer.join().unwrap().unwrap());
        }
    }

    fn a_number_that_is_closed_and_reused_is_a_new_descriptor() {
        for _ in 0..100 {
            let (here, mut there) = UnixStream::pair().unwrap();
            assert!(!wait_readable(&here, Some(Duration::from_micros(1))).unwrap());
            let waits = thread::spawn(move || wait_readable(&here, None).unwrap());
            thread::yield_now();
            there.write_all(b"x").unwrap();
            assert!(waits.join().unwrap());
        }
    }
}
