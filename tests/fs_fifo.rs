//! FIFOs and terminals: whoever waits for the other end, be it to open a FIFO
//! or to read from it, stops neither the hub nor the offload pool.

mod common;

use std::os::fd::FromRawFd;
use std::rc::Rc;

use common::files::Directory;
use greenring::fs::{self, File, OpenOptions};
use greenring::io::{ErrorKind, Read, Write};
use greenring::os::unix::fs::OpenOptionsExt;
use greenring::time::Duration;
use greenring::{Cancelled, thread, time};

fn writing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options
}

/// Whether reads of the file fail where they had to wait.
fn is_nonblocking(file: &File) -> bool {
    let flags = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    flags & libc::O_NONBLOCK != 0
}

/// A terminal: the end of who sits before it, and that of programs.
fn terminal() -> (File, File) {
    let (mut user, mut program) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: two places for the descriptors; name, modes and size are not given.
    let result = unsafe {
        libc::openpty(
            &raw mut user,
            &raw mut program,
            none,
            none.cast(),
            none.cast(),
        )
    };
    assert_eq!(result, 0, "openpty(3)");
    // SAFETY: both are new and nobody else's.
    unsafe { (File::from_raw_fd(user), File::from_raw_fd(program)) }
}

both_backends! {
    fn a_reader_waits_for_a_writer_that_writes() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let name = path.clone();
        let reads = thread::spawn(move || {
            let mut file = File::open(name).unwrap();
            assert!(!is_nonblocking(&file));
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        });
        thread::yield_now();
        assert!(!reads.is_finished());
        let mut file = writing().open(path).unwrap();
        assert!(!is_nonblocking(&file));
        file.write_all(b"through the FIFO").unwrap();
        drop(file);
        assert_eq!(reads.join().unwrap(), "through the FIFO");
    }

    fn a_reader_opens_for_a_writer_that_says_nothing() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let name = path.clone();
        let opens = thread::spawn(move || File::open(name).unwrap());
        let mut silent = writing().open(&path).unwrap();
        let mut file = opens.join().unwrap();
        silent.write_all(b"now").unwrap();
        let mut bytes = [0; 8];
        assert_eq!(file.read(&mut bytes).unwrap(), 3);
    }

    fn a_reader_opens_for_a_writer_that_has_gone_again() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let name = path.clone();
        let reads = thread::spawn(move || File::open(name).unwrap().read(&mut [0; 8]).unwrap());
        drop(writing().open(&path).unwrap());
        assert_eq!(reads.join().unwrap(), 0);
    }

    fn a_writer_waits_for_a_reader() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let name = path.clone();
        let writes = thread::spawn(move || writing().open(name).unwrap().write(b"x").unwrap());
        for _ in 0..20 {
            time::timeout(Duration::from_millis(1), || writes.thread().id()).unwrap();
            thread::yield_now();
        }
        assert!(!writes.is_finished());
        assert_eq!(fs::read(&path).unwrap(), b"x");
        assert_eq!(writes.join().unwrap(), 1);
    }

    fn both_ends_at_once_wait_for_nobody() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        assert!(!is_nonblocking(&file));
        file.write_all(b"to myself").unwrap();
        let mut bytes = [0; 9];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"to myself");
    }

    fn who_asks_for_no_waiting_gets_it() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let error = writing().custom_flags(libc::O_NONBLOCK).open(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut file = options.open(&path).unwrap();
        assert!(is_nonblocking(&file));
        assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
        let _writer = writing().open(&path).unwrap();
        assert_eq!(file.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        // O_PATH opens nothing that could wait.
        options.custom_flags(libc::O_PATH).open(&path).unwrap();
    }

    /// More readers than the pool has OS threads, and then the writers.
    fn a_crowd_of_readers_leaves_their_writers_a_way() {
        let directory = Directory::new();
        let paths: Vec<_> = (0..100).map(|n| directory.fifo(&format!("fifo-{n}"))).collect();
        let readers: Vec<_> = paths
            .iter()
            .cloned()
            .map(|path| thread::spawn(move || fs::read_to_string(path).unwrap()))
            .collect();
        thread::yield_now();
        for (n, path) in paths.iter().enumerate() {
            fs::write(path, format!("number {n}")).unwrap();
        }
        for (n, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.join().unwrap(), format!("number {n}"));
        }
    }

    fn a_copy_into_a_fifo_waits_for_its_reader() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let name = path.clone();
        let copies = thread::spawn(move || fs::copy("Cargo.toml", name).unwrap());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, fs::read("Cargo.toml").unwrap());
        assert_eq!(copies.join().unwrap(), bytes.len() as u64);
        let writes = thread::spawn({
            let path = path.clone();
            move || drop(writing().open(path).unwrap())
        });
        let error = fs::copy(&path, directory.join("copy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        writes.join().unwrap();
    }
}

both_backends_alone! {
    fn who_waits_to_open_can_be_cancelled() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        // The offload pool keeps nothing open.
        fs::metadata(&path).unwrap();
        let descriptors = common::open_descriptors();
        // Each its own: an attempt that was under way may yet meet the next.
        for (name, options) in [
            ("writer", writing()),
            ("reader", OpenOptions::new().read(true).clone()),
        ] {
            let name = directory.fifo(name);
            let opens = thread::spawn(move || drop(options.open(name)));
            thread::sleep(Duration::from_millis(10));
            opens.cancel();
            assert!(Cancelled::is(&opens.join().unwrap_err()));
        }
        let opens = || File::open(&path).map(drop);
        time::timeout(Duration::from_millis(10), opens).unwrap_err();
        common::net::wait_until(|| common::open_descriptors() == descriptors);
    }

    fn who_reads_can_be_cancelled() {
        let directory = Directory::new();
        let path = directory.fifo("fifo");
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let read = || (&file).read(&mut [0; 8]).map(drop);
        time::timeout(Duration::from_millis(10), read).unwrap_err();
        (&file).write_all(b"kept").unwrap();
        assert_eq!((&file).read(&mut [0; 8]).unwrap(), 4);
    }

    fn a_terminal_is_waited_for_while_the_others_go_on() {
        let (mut user, slave) = terminal();
        assert!(slave.is_terminal());
        let slave = Rc::new(slave);
        let reading = Rc::clone(&slave);
        let reads = thread::spawn(move || {
            let mut line = [0; 80];
            let count = (&*reading).read(&mut line).unwrap();
            line[..count].to_vec()
        });
        thread::yield_now();
        user.write_all(b"a line\n").unwrap();
        assert_eq!(reads.join().unwrap(), b"a line\n");
        // Nothing more: a limit ends the wait.
        let read = || (&*slave).read(&mut [0; 8]).map(drop);
        time::timeout(Duration::from_millis(10), read).unwrap_err();
        (&*slave).write_all(b"an answer").unwrap();
        let mut echo = [0; 80];
        let count = user.read(&mut echo).unwrap();
        assert!(count > 0);
    }

    fn devices_behave_as_files() {
        let mut zero = File::open("/dev/zero").unwrap();
        for length in [1, 100_000, 3 << 20] {
            let mut bytes = vec![1; length];
            zero.read_exact(&mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
        let mut null = writing().open("/dev/null").unwrap();
        assert_eq!(null.write(&vec![1; 3 << 20]).unwrap(), 3 << 20);
        assert_eq!(fs::read("/dev/null").unwrap(), b"");
        let mut random = [0; 64];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        assert_ne!(random, [0; 64]);
        let error = fs::write("/dev/full", "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    fn files_of_proc_end_where_they_end() {
        for path in ["/proc/self/status", "/proc/cpuinfo", "/proc/self/maps"] {
            let mut text = String::new();
            let mut file = File::open(path).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 0);
            let length = file.read_to_string(&mut text).unwrap();
            assert!(length > 0 && text.ends_with('\n'), "{path}: {text}");
            assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains(&format!("\nPid:\t{}\n", std::process::id())));
    }
}
