//! Files under concurrency: positions, locks, directories, interrupts, and the
//! number of OS threads that all of it takes.

mod common;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;

use common::files::Directory;
use common::{Rng, os_threads};
use greenring::fs::{self, File, TryLockError};
use greenring::io::{self, Read, Seek, Write};
use greenring::os::unix::fs::FileExt;
use greenring::time::Duration;
use greenring::{Cancelled, thread, time};

/// Records of this length stand in a file, each with its own number.
const RECORD: usize = 64;

fn record(number: usize) -> Vec<u8> {
    format!("{number:>width$}\n", width = RECORD - 1).into_bytes()
}

fn number(record: &[u8]) -> usize {
    let text = std::str::from_utf8(record).expect("a whole record");
    text.trim().parse().expect("a number")
}

/// Has the kernel forget what it has of a file, so that reads wait for the disk.
fn forget(path: &std::path::Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: takes plain values.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

both_backends! {
    fn readers_of_one_position_lose_and_double_nothing() {
        const RECORDS: usize = 4000;
        let directory = Directory::new();
        let path = directory.join("records");
        let bytes: Vec<u8> = (0..RECORDS).flat_map(record).collect();
        fs::write(&path, &bytes).unwrap();
        forget(&path);
        let file = Rc::new(File::open(&path).unwrap());
        let readers: Vec<_> = (0..16)
            .map(|n| {
                let shared = Rc::clone(&file);
                let own = (n % 2 == 0).then(|| file.try_clone().unwrap());
                thread::spawn(move || {
                    let mut file = own.as_ref().unwrap_or(&shared);
                    let mut seen = Vec::new();
                    let mut record = [0; RECORD];
                    while file.read(&mut record).unwrap() == RECORD {
                        seen.push(number(&record));
                    }
                    seen
                })
            })
            .collect();
        let mut seen: Vec<_> = readers.into_iter().flat_map(|r| r.join().unwrap()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..RECORDS));
    }

    fn writers_at_one_position_overwrite_nothing() {
        const EACH: usize = 100;
        for append in [false, true] {
            let directory = Directory::new();
            let path = directory.join("records");
            let mut options = File::options();
            let options = options.create(true).write(true).append(append);
            let file = Rc::new(options.open(&path).unwrap());
            let writers: Vec<_> = (0..16)
                .map(|writer| {
                    let shared = Rc::clone(&file);
                    let own = (writer % 2 == 0).then(|| file.try_clone().unwrap());
                    thread::spawn(move || {
                        let mut file = own.as_ref().unwrap_or(&shared);
                        for n in 0..EACH {
                            file.write_all(&record(writer * EACH + n)).unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            let bytes = fs::read(&path).unwrap();
            let seen: BTreeSet<_> = bytes.chunks(RECORD).map(number).collect();
            assert!(seen.into_iter().eq(0..16 * EACH), "append: {append}");
            assert_eq!((&*file).stream_position().unwrap(), (16 * EACH * RECORD) as u64);
        }
    }

    fn reads_and_writes_at_offsets_mind_only_their_own() {
        let mut rng = Rng::new("offsets");
        let directory = Directory::new();
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = Rc::new(options.open(directory.join("file")).unwrap());
        let mut order: Vec<usize> = (0..300).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let workers: Vec<_> = order
            .into_iter()
            .map(|n| {
                let file = Rc::clone(&file);
                thread::spawn(move || {
                    let offset = (n * RECORD) as u64 + 5_000_000_000;
                    file.write_all_at(&record(n), offset).unwrap();
                    let mut bytes = [0; RECORD];
                    file.read_exact_at(&mut bytes, offset).unwrap();
                    assert_eq!(number(&bytes), n);
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((&*file).stream_position().unwrap(), 0);
        assert_eq!(file.metadata().unwrap().len(), 5_000_000_000 + 300 * RECORD as u64);
    }

    fn siblings_go_on_while_much_is_read() {
        let directory = Directory::new();
        let path = directory.join("big");
        let length = 8 << 20;
        fs::write(&path, vec![b'x'; length]).unwrap();
        let stop = Rc::new(Cell::new(false));
        let stops = Rc::clone(&stop);
        let sibling = thread::spawn(move || {
            let mut turns = 0;
            while !stops.get() {
                turns += 1;
                thread::yield_now();
            }
            turns
        });
        let mut buffer = vec![0; length];
        assert_eq!(File::open(&path).unwrap().read(&mut buffer).unwrap(), length);
        assert!(buffer.iter().all(|byte| *byte == b'x'));
        let mut all = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut all).unwrap();
        assert!(all == buffer);
        stop.set(true);
        assert!(sibling.join().unwrap() > 1);
    }

    fn read_to_end_keeps_what_was_there_and_sees_a_file_grow() {
        let directory = Directory::new();
        let path = directory.join("grows");
        fs::write(&path, vec![b'a'; 3_000_000]).unwrap();
        let mut file = File::open(&path).unwrap();
        let mut bytes = b"before".to_vec();
        assert_eq!(file.read_to_end(&mut bytes).unwrap(), 3_000_000);
        assert!(bytes.starts_with(b"beforea") && bytes.len() == 3_000_006);
        let mut log = File::options().append(true).open(&path).unwrap();
        log.write_all(b"more").unwrap();
        let mut text = String::from("and ");
        assert_eq!(file.read_to_string(&mut text).unwrap(), 4);
        assert_eq!(text, "and more");
        assert_eq!(file.read_to_end(&mut bytes).unwrap(), 0);
    }

    fn a_lock_lets_one_at_a_time_in() {
        let directory = Directory::new();
        let path = directory.join("lock");
        fs::write(&path, "0").unwrap();
        // Each opens the file for itself: a lock belongs to the open file.
        let workers: Vec<_> = (0..20)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || {
                    let file = File::open(&path).unwrap();
                    file.lock().unwrap();
                    let count: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
                    thread::yield_now();
                    fs::write(&path, (count + 1).to_string()).unwrap();
                    file.unlock().unwrap();
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "20");
    }

    /// More than the offload pool has OS threads: the unlock finds one.
    fn a_crowd_waits_for_a_lock_and_can_be_cancelled() {
        let directory = Directory::new();
        let path = directory.join("lock");
        let file = File::create(&path).unwrap();
        file.lock_shared().unwrap();
        let other = File::open(&path).unwrap();
        other.try_lock_shared().unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        other.unlock().unwrap();
        file.lock().unwrap();
        assert!(matches!(other.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || File::open(path).unwrap().lock_shared().unwrap())
            })
            .collect();
        for _ in 0..10 {
            thread::yield_now();
        }
        for waiter in &waiters[..50] {
            waiter.cancel();
        }
        thread::sleep(Duration::from_millis(1));
        file.unlock().unwrap();
        for (n, waiter) in waiters.into_iter().enumerate() {
            match waiter.join() {
                Ok(()) => assert!(n >= 50),
                Err(payload) => assert!(n < 50 && Cancelled::is(&payload)),
            }
        }
        other.lock().unwrap();
    }

    fn a_big_directory_is_listed_once_and_whole() {
        let directory = Directory::new();
        for n in 0..1000 {
            std::fs::write(directory.join(format!("{n}")), "").unwrap();
        }
        let listing = fs::read_dir(directory.path()).unwrap();
        let expected = format!("{:?}", std::fs::read_dir(directory.path()).unwrap());
        assert_eq!(format!("{listing:?}"), expected);
        let mut names: Vec<usize> = listing
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        names.sort_unstable();
        assert!(names.into_iter().eq(0..1000));
    }

    fn who_is_interrupted_in_a_listing_finds_the_rest_of_it() {
        let directory = Directory::new();
        for n in 0..500 {
            std::fs::write(directory.join(format!("{n}")), "").unwrap();
        }
        let mut listing = fs::read_dir(directory.path()).unwrap();
        let mut names = BTreeSet::new();
        loop {
            let entry = match time::timeout(Duration::from_micros(20), || listing.next()) {
                Ok(None) => break,
                Ok(Some(entry)) => entry.unwrap(),
                // Without a limit, that it ends.
                Err(_) => match listing.next() {
                    Some(entry) => entry.unwrap(),
                    None => break,
                },
            };
            assert!(names.insert(entry.file_name()), "{entry:?} came twice");
        }
        assert_eq!(names.len(), 500);
    }

    fn an_entry_that_has_gone_says_so() {
        let directory = Directory::new();
        std::fs::write(directory.join("brief"), "").unwrap();
        let entry = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
        assert!(entry.file_type().unwrap().is_file());
        fs::remove_file(entry.path()).unwrap();
        assert_eq!(entry.metadata().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    fn a_child_process_writes_into_a_file() {
        let directory = Directory::new();
        let path = directory.join("output");
        let file = File::create(&path).unwrap();
        let mut echo = Command::new("echo");
        let status = echo.arg("said").stdout(Stdio::from(file)).status().unwrap();
        assert!(status.success());
        assert_eq!(fs::read_to_string(&path).unwrap(), "said\n");
    }

    fn a_file_goes_to_std_and_comes_back() {
        let directory = Directory::new();
        let path = directory.join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"ours, ").unwrap();
        let mut std = std::fs::File::from(file);
        std.write_all(b"std's, ").unwrap();
        let mut file = File::from(OwnedFd::from(std));
        file.write_all(b"ours").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours, std's, ours");
    }

    fn a_file_is_shared_by_hubs_and_os_threads() {
        let directory = Directory::new();
        let path = directory.join("shared");
        let mut options = File::options();
        let file = Arc::new(options.append(true).create(true).open(&path).unwrap());
        let sides: Vec<_> = common::places::PLACES
            .into_iter()
            .map(|place| {
                let file = Arc::clone(&file);
                place.run(move || {
                    for n in 0..50 {
                        (&*file).write_all(&record(n)).unwrap();
                        (&*file).seek(io::SeekFrom::End(0)).unwrap();
                    }
                })
            })
            .collect();
        sides.into_iter().for_each(|side| side.join());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 150 * RECORD);
        assert!(bytes.chunks(RECORD).all(|record| number(record) < 50));
    }
}

both_backends_alone! {
    fn a_thousand_calls_at_once_take_few_os_threads() {
        let directory = Directory::new();
        let path = directory.join("file");
        fs::write(&path, vec![b'x'; 10_000]).unwrap();
        let most = Rc::new(Cell::new(0));
        let workers: Vec<_> = (0..1000)
            .map(|n| {
                let path = path.clone();
                let own = directory.join(format!("{n}"));
                let most = Rc::clone(&most);
                thread::spawn(move || {
                    match n % 20 {
                        0..4 => assert_eq!(fs::metadata(&path).unwrap().len(), 10_000),
                        4..8 => {
                            let file = File::open(&path).unwrap();
                            file.read_exact_at(&mut [0; 100], n).unwrap();
                        }
                        8 => {
                            fs::write(&own, "x").unwrap();
                            File::open(&own).unwrap().sync_all().unwrap();
                            fs::remove_file(&own).unwrap();
                        }
                        9..13 => assert!(fs::read_dir("/proc/self/task").unwrap().count() > 0),
                        _ => assert_eq!(fs::read(&path).unwrap().len(), 10_000),
                    }
                    most.set(most.get().max(os_threads()));
                })
            })
            .collect();
        for worker in workers {
            most.set(most.get().max(os_threads()));
            worker.join().unwrap();
        }
        // 64 of the pool, some of the ring, and those of the test.
        let processors = std::thread::available_parallelism().unwrap().get();
        let allowed = 64 + 4 * processors + 8;
        println!("{} OS threads", most.get());
        assert!(most.get() <= allowed, "{} OS threads", most.get());
    }

    fn who_is_interrupted_leaves_nothing_open() {
        let directory = Directory::new();
        let path = directory.join("file");
        fs::write(&path, "x").unwrap();
        let descriptors = common::open_descriptors();
        for _ in 0..300 {
            let _ = time::timeout(Duration::from_micros(10), || {
                let mut file = File::open(&path).unwrap();
                assert_eq!(file.read(&mut [0; 8]).unwrap(), 1);
                fs::read_dir(".").unwrap().count()
            });
        }
        common::net::wait_until(|| common::open_descriptors() == descriptors);
    }
}

/// Without a hub, and on one that has ended, the OS thread makes the calls.
#[test]
fn os_threads_without_a_hub_read_and_write() {
    let directory = Directory::new();
    let path = directory.join("file");
    let written = path.clone();
    std::thread::spawn(move || fs::write(written, "plain").unwrap())
        .join()
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "plain");
    let mut names = fs::read_dir(directory.path()).unwrap();
    assert_eq!(names.next().unwrap().unwrap().path(), path);
    assert!(names.next().is_none());
}

#[test]
fn they_print_as_std_does() {
    let file = File::open("Cargo.toml").unwrap();
    let expected = format!("{:?}", std::fs::File::from(file.try_clone().unwrap()));
    let fd = |text: &str| text.replace(char::is_numeric, "");
    assert_eq!(fd(&format!("{file:?}")), fd(&expected));
    let (mut ours, mut std) = (File::options(), std::fs::File::options());
    ours.read(true).create(true);
    std.read(true).create(true);
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    assert_eq!(format!("{:?}", ours.clone()), format!("{std:?}"));
    let (ours, std) = (fs::DirBuilder::new(), std::fs::DirBuilder::new());
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
}
