//! `wait_readable` and `wait_writable`, for descriptors that others own.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::net::{wait_for_parked, wait_until};
use common::{Rng, connection, open_descriptors, until_asleep};
use greenring::net::{TcpListener, TcpStream, wait_readable, wait_writable};
use greenring::runtime::{self, Builder};
use greenring::thread;
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

const LONG: Option<Duration> = Some(Duration::from_secs(60));

/// Whether it is ready now.
fn readable(fd: impl AsFd) -> bool {
    wait_readable(fd, Some(Duration::ZERO)).unwrap()
}

fn writable(fd: impl AsFd) -> bool {
    wait_writable(fd, Some(Duration::ZERO)).unwrap()
}

/// A descriptor by its number, as C libraries name theirs.
fn by_number(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: nothing is done with it but to wait, which works with whatever
    // the number means, also with nothing.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Waits for a descriptor on a green thread, until it is parked.
fn parked_reader<F: AsFd + 'static>(fd: F) -> thread::JoinHandle<F> {
    let before = runtime::stats().in_flight;
    let waits = thread::spawn(move || {
        assert!(wait_readable(&fd, LONG).unwrap());
        fd
    });
    wait_for_parked(before + 1);
    waits
}

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

    fn pipes_announce_data_room_and_hang_ups() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert!(!readable(&reader));
        assert!(writable(&writer));
        let waits = parked_reader(reader);
        writer.write_all(b"x").unwrap();
        let mut reader = waits.join().unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
        assert!(!readable(&reader));

        // A pipe that is full has room when a page of it was read.
        let room = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
        writer.write_all(&vec![0; room as usize]).unwrap();
        assert!(!writable(&writer));
        let writer = Rc::new(writer);
        let waits = thread::spawn({
            let writer = Rc::clone(&writer);
            move || wait_writable(&*writer, LONG).unwrap()
        });
        wait_for_parked(1);
        reader.read_exact(&mut vec![0; room as usize]).unwrap();
        assert!(waits.join().unwrap());

        let waits = parked_reader(reader);
        drop(writer);
        let reader = waits.join().unwrap();
        let (other_reader, other_writer) = std::io::pipe().unwrap();
        drop((reader, other_reader));
        assert!(wait_writable(&other_writer, None).unwrap());
    }

    fn events_timers_and_children_are_waited_for() {
        let event = Arc::new(EventFd::new().unwrap());
        assert!(!readable(&*event) && writable(&*event));
        let waits = parked_reader(Rc::new(event.as_fd().try_clone_to_owned().unwrap()));
        event.write(1).unwrap();
        waits.join().unwrap();
        assert!(readable(&*event));

        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).unwrap();
        let (begin, pause) = (Instant::now(), Duration::from_millis(5));
        timer
            .set(Expiration::OneShot(TimeSpec::from(pause)), TimerSetTimeFlags::empty())
            .unwrap();
        assert!(wait_readable(&timer, None).unwrap());
        assert!(begin.elapsed() >= pause);

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        // SAFETY: takes plain values.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) } as RawFd;
        if pidfd < 0 {
            println!("skipped: no pidfd");
        } else {
            assert!(!readable(by_number(pidfd)));
            drop(child.stdin.take());
            assert!(wait_readable(by_number(pidfd), None).unwrap());
            nix::unistd::close(pidfd).unwrap();
        }
        assert!(child.wait().unwrap().success());
    }

    fn what_is_always_ready_does_not_wait() {
        let path = std::env::temp_dir().join(format!(
            "greenring-readiness-{}-{}", std::process::id(), runtime::backend()
        ));
        let regular = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let null = File::open("/dev/null").unwrap();
        let directory = File::open("/").unwrap();
        for file in [regular, null, directory] {
            for limit in [Some(Duration::ZERO), Some(Duration::from_secs(60)), None] {
                assert!(wait_readable(&file, limit).unwrap());
                assert!(wait_writable(&file, limit).unwrap());
            }
        }
    }

    fn what_is_not_open_is_an_error() {
        // Beyond what the process can open.
        let closed = by_number(1 << 29);
        for limit in [Some(Duration::ZERO), Some(Duration::from_secs(60)), None] {
            for result in [wait_readable(closed, limit), wait_writable(closed, limit)] {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
            }
        }
    }

    fn who_accepts_and_who_waits_share_a_listener() {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let waits = parked_reader(listener.as_fd().try_clone_to_owned().unwrap());
        let accepts = thread::spawn({
            let listener = Rc::clone(&listener);
            move || listener.accept().unwrap()
        });
        wait_for_parked(2);
        let _clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        waits.join().unwrap();
        accepts.join().unwrap();
        assert!(readable(&*listener));
        listener.accept().unwrap();
        assert!(!readable(&*listener));
    }

    fn a_sibling_reads_from_the_socket_that_is_waited_for() {
        for waits_first in [false, true] {
            let (here, mut there) = connection();
            let here = Rc::new(here);
            let read = || {
                let here = Rc::clone(&here);
                thread::spawn(move || (&*here).read(&mut [0]).unwrap())
            };
            let wait = || {
                let here = Rc::clone(&here);
                thread::spawn(move || wait_readable(&*here, None).unwrap())
            };
            for _ in 0..20 {
                let (waits, reads);
                if waits_first {
                    waits = wait();
                    wait_for_parked(1);
                    reads = read();
                } else {
                    reads = read();
                    wait_for_parked(1);
                    waits = wait();
                }
                wait_for_parked(2);
                // The reader leaves one of them.
                there.write_all(b"ab").unwrap();
                assert_eq!(reads.join().unwrap(), 1);
                assert!(waits.join().unwrap());
                assert_eq!((&*here).read(&mut [0; 8]).unwrap(), 1);

                // The reader takes all, so who waits may see nothing of it. The
                // next is left.
                let (reads, waits) = if waits_first {
                    let waits = wait();
                    (read(), waits)
                } else {
                    (read(), wait())
                };
                wait_for_parked(2);
                there.write_all(b"c").unwrap();
                assert_eq!(reads.join().unwrap(), 1);
                there.write_all(b"d").unwrap();
                assert!(waits.join().unwrap());
                assert_eq!((&*here).read(&mut [0; 8]).unwrap(), 1);
            }
        }
    }

    fn two_hubs_wait_for_one_descriptor() {
        let event = Arc::new(EventFd::new().unwrap());
        let backend = runtime::backend();
        for _ in 0..20 {
            let (tell, told) = std::sync::mpsc::channel();
            let hubs: Vec<_> = (0..2)
                .map(|_| {
                    let (event, tell) = (Arc::clone(&event), tell.clone());
                    std::thread::spawn(move || {
                        let wait = || {
                            tell.send(nix::unistd::gettid()).unwrap();
                            wait_readable(&*event, None).unwrap()
                        };
                        Builder::new().backend(backend).run(wait).unwrap()
                    })
                })
                .collect();
            let here = parked_reader(Rc::new(event.as_fd().try_clone_to_owned().unwrap()));
            for _ in 0..2 {
                until_asleep(told.recv().unwrap().as_raw());
            }
            assert!(hubs.iter().all(|hub| !hub.is_finished()));
            event.write(1).unwrap();
            here.join().unwrap();
            wait_until(|| hubs.iter().all(|hub| hub.is_finished()));
            assert!(hubs.into_iter().all(|hub| hub.join().unwrap()));
            assert_eq!(event.read().unwrap(), 1);
            assert!(!readable(&*event));
        }
    }

    fn who_waits_for_what_is_closed_is_not_woken_by_its_successor() {
        for _ in 0..20 {
            let (here, there) = UnixStream::pair().unwrap();
            let number = here.into_raw_fd();
            let limit = Some(Duration::from_millis(10));
            let waits = thread::spawn(move || wait_readable(by_number(number), limit).unwrap());
            wait_until(|| runtime::stats().in_flight == 1 || waits.is_finished());
            nix::unistd::close(number).unwrap();
            let (successor, mut writer) = UnixStream::pair().unwrap();
            if successor.as_raw_fd() != number {
                // Another test was quicker.
                waits.join().unwrap();
                continue;
            }
            writer.write_all(b"x").unwrap();
            assert!(wait_readable(&successor, None).unwrap());
            assert!(!waits.join().unwrap());
            drop(there);
        }
    }
}

/// What waits under some number, and the end that can end its wait.
struct Waiting {
    waits: thread::JoinHandle<u8>,
    there: UnixStream,
}

impl Waiting {
    /// For a descriptor of somebody else's.
    fn foreign() -> Waiting {
        let (mut here, there) = UnixStream::pair().unwrap();
        let waits = thread::spawn(move || {
            assert!(wait_readable(&here, None).unwrap());
            let mut byte = [0];
            assert!(here.read(&mut byte).unwrap() <= 1);
            byte[0]
        });
        Waiting { waits, there }
    }

    /// For one of greenring's.
    fn own() -> Waiting {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = TcpStream::from(OwnedFd::from(here));
        let waits = thread::spawn(move || {
            let mut byte = [0];
            assert!(here.read(&mut byte).unwrap() <= 1);
            byte[0]
        });
        Waiting { waits, there }
    }
}

both_backends_alone! {
    fn numbers_are_reused_while_others_wait() {
        const MOST: usize = 12;
        let mut rng = Rng::new("reused numbers");
        let mut waiting: Vec<Waiting> = Vec::new();
        let before = {
            // The backend has its descriptors when somebody has waited.
            let Waiting { waits, there } = Waiting::foreign();
            drop(there);
            assert_eq!(waits.join().unwrap(), 0);
            open_descriptors()
        };
        for round in 0..2000u32 {
            let choice = rng.below(2 * MOST as u64) as usize;
            if choice >= waiting.len() {
                waiting.push(if rng.below(3) == 0 { Waiting::own() } else { Waiting::foreign() });
                wait_for_parked(waiting.len());
                continue;
            }
            let Waiting { waits, mut there } = waiting.swap_remove(choice);
            match rng.below(3) {
                0 => {
                    let byte = round as u8 | 1;
                    there.write_all(&[byte]).unwrap();
                    assert_eq!(waits.join().unwrap(), byte);
                }
                1 => {
                    drop(there);
                    assert_eq!(waits.join().unwrap(), 0);
                }
                _ => {
                    waits.cancel();
                    assert!(waits.join().is_err());
                }
            }
            assert!(waiting.iter().all(|other| !other.waits.is_finished()));
            wait_for_parked(waiting.len());
        }
        for Waiting { waits, there } in waiting {
            drop(there);
            assert_eq!(waits.join().unwrap(), 0);
        }
        assert_eq!(open_descriptors(), before);
    }
}
