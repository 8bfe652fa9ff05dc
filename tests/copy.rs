//! `io::copy` between files, sockets and pipes: the bytes, the counts, the
//! positions and the errors of std's, and nobody stopped meanwhile.

mod common;

use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::connection;
use greenring::fs::{self, File};
use greenring::io::{self, Read, Seek, Write};
use greenring::net::{Shutdown, TcpStream, wait_readable};
use greenring::{thread, time};

/// More than any buffer on the way holds at once, and no round number.
const LARGE: usize = 3_456_789;

/// A private directory, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        Directory::below(&std::env::temp_dir())
    }

    fn below(parent: &Path) -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenring-copy-{}-{n}", std::process::id());
        let path = parent.join(name);
        // What a process that was killed and had our id has left behind.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    /// A new file with this content, open for both, at its begin.
    fn file(&self, name: &str, content: &[u8]) -> File {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}

fn lengths() -> [usize; 5] {
    [0, 1, 4096, 65_537, LARGE]
}

/// Sends `content` from a green thread of its own, and gives the end to read
/// from.
fn sent(content: Vec<u8>) -> TcpStream {
    let (here, mut there) = connection();
    thread::spawn(move || there.write_all(&content).unwrap());
    here
}

fn piped(content: Vec<u8>) -> io::PipeReader {
    let (reader, mut writer) = io::pipe().unwrap();
    thread::spawn(move || writer.write_all(&content).unwrap());
    reader
}

/// An end to write to, and what collects it.
fn received() -> (TcpStream, thread::JoinHandle<Vec<u8>>) {
    let (here, there) = connection();
    (here, collected(there))
}

fn drained() -> (io::PipeWriter, thread::JoinHandle<Vec<u8>>) {
    let (reader, writer) = io::pipe().unwrap();
    (writer, collected(reader))
}

fn collected(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

#[track_caller]
fn assert_same(copied: &[u8], expected: &[u8]) {
    assert!(
        copied == expected,
        "{} bytes of {}",
        copied.len(),
        expected.len()
    );
}

/// A connection over TCP.
fn tcp() -> (TcpStream, TcpStream) {
    let listener = greenring::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (here, listener.accept().unwrap().0)
}

both_backends! {
    fn from_a_file() {
        let directory = Directory::new();
        for length in lengths() {
            let content = bytes(length);
            let mut file = directory.file("from", &content);

            let (mut stream, collects) = received();
            assert_eq!(io::copy(&mut file, &mut stream).unwrap(), length as u64);
            drop(stream);
            assert_same(&collects.join().unwrap(), &content);
            assert_eq!(file.stream_position().unwrap(), length as u64);

            file.rewind().unwrap();
            let (mut writer, collects) = drained();
            assert_eq!(io::copy(&mut file, &mut writer).unwrap(), length as u64);
            drop(writer);
            assert_same(&collects.join().unwrap(), &content);

            file.rewind().unwrap();
            let mut to = directory.file("to", b"");
            assert_eq!(io::copy(&mut file, &mut to).unwrap(), length as u64);
            assert_same(&directory.content("to"), &content);
            assert_eq!(to.stream_position().unwrap(), length as u64);
            assert_eq!(file.stream_position().unwrap(), length as u64);
        }
    }

    fn from_a_socket() {
        let directory = Directory::new();
        for length in lengths() {
            let content = bytes(length);
            let mut file = directory.file("to", b"");
            assert_eq!(io::copy(&mut sent(content.clone()), &mut file).unwrap(), length as u64);
            assert_same(&directory.content("to"), &content);
            assert_eq!(file.stream_position().unwrap(), length as u64);

            let (mut writer, collects) = drained();
            assert_eq!(io::copy(&mut sent(content.clone()), &mut writer).unwrap(), length as u64);
            drop(writer);
            assert_same(&collects.join().unwrap(), &content);

            let (mut stream, collects) = received();
            assert_eq!(io::copy(&mut sent(content.clone()), &mut stream).unwrap(), length as u64);
            drop(stream);
            assert_same(&collects.join().unwrap(), &content);
        }
    }

    fn from_a_pipe() {
        let directory = Directory::new();
        for length in lengths() {
            let content = bytes(length);
            let mut file = directory.file("to", b"");
            assert_eq!(io::copy(&mut piped(content.clone()), &mut file).unwrap(), length as u64);
            assert_same(&directory.content("to"), &content);

            let (mut writer, collects) = drained();
            assert_eq!(io::copy(&mut piped(content.clone()), &mut writer).unwrap(), length as u64);
            drop(writer);
            assert_same(&collects.join().unwrap(), &content);

            let (mut stream, collects) = received();
            assert_eq!(io::copy(&mut piped(content.clone()), &mut stream).unwrap(), length as u64);
            drop(stream);
            assert_same(&collects.join().unwrap(), &content);
        }
    }

    fn over_tcp() {
        let content = bytes(LARGE);
        let directory = Directory::new();
        let mut file = directory.file("from", &content);
        let (mut here, mut there) = tcp();
        let sends = thread::spawn(move || io::copy(&mut file, &mut here).unwrap());
        let (mut onward, last) = tcp();
        let collects = collected(last);
        let forwards = thread::spawn(move || io::copy(&mut there, &mut onward).unwrap());
        assert_eq!(sends.join().unwrap(), LARGE as u64);
        assert_eq!(forwards.join().unwrap(), LARGE as u64);
        assert_same(&collects.join().unwrap(), &content);
    }

    fn over_unix_sockets() {
        use greenring::os::unix::net::UnixStream;
        let content = bytes(LARGE);
        let directory = Directory::new();
        let mut file = directory.file("from", &content);
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let sends = thread::spawn(move || io::copy(&mut file, &mut here).unwrap());
        let (mut onward, last) = UnixStream::pair().unwrap();
        let collects = collected(last);
        let forwards = thread::spawn(move || io::copy(&mut there, &mut onward).unwrap());
        assert_eq!(sends.join().unwrap(), LARGE as u64);
        assert_eq!(forwards.join().unwrap(), LARGE as u64);
        assert_same(&collects.join().unwrap(), &content);
    }

    fn references_and_parts_are_copied_too() {
        let directory = Directory::new();
        let content = bytes(LARGE);
        let mut file = directory.file("from", &content);
        let to = directory.file("to", b"");

        // By shared reference, from where it stands.
        file.seek(SeekFrom::Start(10)).unwrap();
        let (stream, collects) = received();
        assert_eq!(io::copy(&mut (&file).take(90), &mut &stream).unwrap(), 90);
        assert_eq!(file.stream_position().unwrap(), 100);
        assert_eq!(io::copy(&mut (&mut file).take(0), &mut &stream).unwrap(), 0);
        // The rest of a part goes to somebody else.
        let mut part = (&mut file).take(200_000);
        let mut head = [0; 100];
        part.read_exact(&mut head).unwrap();
        let (mut writer, drains) = drained();
        assert_eq!(io::copy(&mut part, &mut writer).unwrap(), 199_900);
        assert_eq!(part.limit(), 0);
        assert_eq!(io::copy(&mut part, &mut &to).unwrap(), 0);
        drop(writer);
        assert_eq!(io::copy(&mut &file, &mut &to).unwrap(), (LARGE - 200_100) as u64);
        drop(stream);
        assert_same(&collects.join().unwrap(), &content[10..100]);
        assert_same(&drains.join().unwrap(), &content[200..200_100]);
        assert_same(&directory.content("to"), &content[200_100..]);
    }

    fn a_part_that_ends_early_keeps_its_limit() {
        let (mut stream, collects) = received();
        let mut part = piped(bytes(1000)).take(5000);
        assert_eq!(io::copy(&mut part, &mut stream).unwrap(), 1000);
        assert_eq!(part.limit(), 4000);
        drop(stream);
        assert_same(&collects.join().unwrap(), &bytes(1000));
    }

    fn a_part_of_a_stream_leaves_the_rest() {
        let mut stream = sent(bytes(300_000));
        let directory = Directory::new();
        let mut to = directory.file("to", b"");
        assert_eq!(io::copy(&mut (&stream).take(100_001), &mut to).unwrap(), 100_001);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_same(&directory.content("to"), &bytes(300_000)[..100_001]);
        assert_same(&rest, &bytes(300_000)[100_001..]);
    }

    fn other_readers_and_writers_are_copied_as_ever() {
        let (mut stream, collects) = received();
        assert_eq!(io::copy(&mut &b"from memory"[..], &mut stream).unwrap(), 11);
        let reader: &mut dyn Read = &mut io::BufReader::new(piped(bytes(1000)));
        assert_eq!(io::copy(reader, &mut stream).unwrap(), 1000);
        assert_eq!(io::copy(&mut io::empty(), &mut io::sink()).unwrap(), 0);
        drop(stream);
        let collected = collects.join().unwrap();
        assert_same(&collected[..11], b"from memory");
        assert_same(&collected[11..], &bytes(1000));
    }

    fn a_file_is_appended_to() {
        let directory = Directory::new();
        let mut from = directory.file("from", b"second");
        drop(directory.file("to", b"first "));
        let path = directory.0.join("to");
        let mut to = fs::OpenOptions::new().append(true).open(path).unwrap();
        assert_eq!(io::copy(&mut from, &mut to).unwrap(), 6);
        assert_eq!(io::copy(&mut piped(b" third".to_vec()), &mut to).unwrap(), 6);
        assert_eq!(io::copy(&mut sent(b" fourth".to_vec()), &mut to).unwrap(), 7);
        assert_eq!(directory.content("to"), b"first second third fourth");
    }

    fn files_of_the_kernels_own_are_copied() {
        let directory = Directory::new();
        for path in ["/proc/self/status", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage/enabled"] {
            let Ok(mut from) = File::open(path) else { continue };
            let mut to = directory.file("to", b"");
            let copied = io::copy(&mut from, &mut to).unwrap();
            assert!(copied > 0, "{path}");
            assert_eq!(directory.content("to").len() as u64, copied);

            let (mut stream, collects) = received();
            let mut from = File::open(path).unwrap();
            let copied = io::copy(&mut from, &mut stream).unwrap();
            drop(stream);
            assert_eq!(collects.join().unwrap().len() as u64, copied);
            assert!(copied > 0, "{path}");
        }
        let mut zeros = File::open("/dev/zero").unwrap();
        let (mut stream, collects) = received();
        assert_eq!(io::copy(&mut (&mut zeros).take(100_000), &mut stream).unwrap(), 100_000);
        drop(stream);
        assert_eq!(collects.join().unwrap(), [0; 100_000]);
        let mut null = File::create("/dev/null").unwrap();
        assert_eq!(io::copy(&mut sent(bytes(100_000)), &mut null).unwrap(), 100_000);
    }

    fn between_file_systems() {
        let here = Directory::new();
        let there = Directory::below(Path::new("/dev/shm"));
        let content = bytes(LARGE);
        let mut from = here.file("from", &content);
        let mut to = there.file("to", b"");
        from.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(io::copy(&mut from, &mut to).unwrap(), LARGE as u64 - 5);
        assert_same(&there.content("to"), &content[5..]);
        let mut back = here.file("back", b"");
        to.rewind().unwrap();
        assert_eq!(io::copy(&mut to.take(100_000), &mut back).unwrap(), 100_000);
        assert_same(&here.content("back"), &content[5..100_005]);
    }

    fn what_is_not_in_memory_is_waited_for() {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        let directory = Directory::new();
        let content = bytes(LARGE);
        let mut file = directory.file("from", &content);
        let mut to = directory.file("to", b"");
        for round in 0..2 {
            file.sync_all().unwrap();
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
            file.rewind().unwrap();
            if round == 0 {
                let (mut stream, collects) = received();
                assert_eq!(io::copy(&mut file, &mut stream).unwrap(), LARGE as u64);
                drop(stream);
                assert_same(&collects.join().unwrap(), &content);
            } else {
                assert_eq!(io::copy(&mut file, &mut to).unwrap(), LARGE as u64);
                assert_same(&directory.content("to"), &content);
            }
        }
    }

    fn a_target_that_fails_says_how() {
        let directory = Directory::new();
        let mut file = directory.file("from", &bytes(100_000));
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = io::copy(&mut file, &mut writer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(file.stream_position().unwrap(), 0);

        let (mut here, _there) = connection();
        here.shutdown(Shutdown::Write).unwrap();
        let error = io::copy(&mut file, &mut here).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(file.stream_position().unwrap(), 0, "nothing was written");

        let mut unwritable = File::open(directory.0.join("from")).unwrap();
        let error = io::copy(&mut sent(bytes(10)), &mut unwritable).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = io::copy(&mut sent(bytes(10)), &mut full).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let mut folder = File::open(&directory.0).unwrap();
        let error = io::copy(&mut folder, &mut writer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        let (mut stream, _collects) = received();
        let error = io::copy(&mut folder, &mut stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
    }

    fn time_limits_of_sockets_hold() {
        let directory = Directory::new();
        let mut file = directory.file("from", &bytes(LARGE));
        let (mut here, there) = connection();
        here.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = io::copy(&mut file, &mut here).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        // Exactly what has not gone can be sent again.
        let gone = file.stream_position().unwrap();
        assert!(gone > 0 && gone < LARGE as u64);
        let collects = collected(there);
        here.set_write_timeout(None).unwrap();
        assert_eq!(io::copy(&mut file, &mut here).unwrap(), LARGE as u64 - gone);
        drop(here);
        assert_same(&collects.join().unwrap(), &bytes(LARGE));

        let (mut here, _there) = connection();
        here.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = io::copy(&mut here, &mut file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    fn non_blocking_sockets_do_not_wait() {
        let directory = Directory::new();
        let mut to = directory.file("to", b"");
        let (mut here, mut there) = connection();
        here.set_nonblocking(true).unwrap();
        there.write_all(b"some").unwrap();
        let error = io::copy(&mut here, &mut to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(directory.content("to"), b"some");
        here.set_nonblocking(false).unwrap();
        there.write_all(b" more").unwrap();
        there.shutdown(Shutdown::Write).unwrap();
        assert_eq!(io::copy(&mut here, &mut to).unwrap(), 5);
        assert_eq!(directory.content("to"), b"some more");
    }

    fn sockets_stay_in_their_mode() {
        use nix::fcntl::{FcntlArg, fcntl};
        let (mut from, mut to) = (sent(bytes(LARGE)), received().0);
        let flags = |stream: &TcpStream| fcntl(stream, FcntlArg::F_GETFL).unwrap();
        let before = (flags(&from), flags(&to));
        io::copy(&mut from, &mut to).unwrap();
        assert_eq!((flags(&from), flags(&to)), before);
    }

    fn a_copy_that_waits_stops_nobody_and_is_cancelled() {
        let directory = Directory::new();
        let mut file = directory.file("from", &bytes(LARGE));
        let (mut here, mut there) = connection();
        let copies = thread::spawn(move || io::copy(&mut file, &mut here));
        // The copy goes as far as the socket lets it.
        let mut head = vec![0; 1000];
        there.read_exact(&mut head).unwrap();
        copies.cancel();
        assert!(copies.join().is_err());
        let mut rest = Vec::new();
        there.read_to_end(&mut rest).unwrap();
        head.append(&mut rest);
        assert!(head.len() < LARGE);
        assert_same(&head, &bytes(LARGE)[..head.len()]);
    }

    fn a_time_limit_ends_an_endless_copy() {
        // A ring of sockets: the copy is never without work.
        let (mut one, mut other) = connection();
        other.write_all(&bytes(1000)).unwrap();
        let turns = thread::spawn(move || {
            let mut clone = other.try_clone().unwrap();
            io::copy(&mut other, &mut clone)
        });
        let over = time::timeout(Duration::from_millis(50), || {
            let mut clone = one.try_clone().unwrap();
            io::copy(&mut one, &mut clone)
        });
        assert!(over.is_err());
        turns.cancel();
        let _ = turns.join();
    }

    fn an_interrupted_copy_can_go_on_where_it_was() {
        let directory = Directory::new();
        let content = bytes(LARGE);
        let file = directory.file("from", &content);
        let (mut here, there) = connection();
        let mut part = (&file).take(LARGE as u64 - 7);
        thread::scope(|scope| {
            let copies = scope.spawn(|| io::copy(&mut part, &mut here));
            // The socket holds less than the file: from here on the copy waits.
            assert!(wait_readable(&there, None).unwrap());
            copies.cancel();
            assert!(copies.join().is_err());
        });
        let gone = (&file).stream_position().unwrap();
        assert!(gone > 0);
        assert_eq!(part.limit(), LARGE as u64 - 7 - gone);
        let collects = collected(there);
        assert_eq!(io::copy(&mut part, &mut here).unwrap(), LARGE as u64 - 7 - gone);
        drop(here);
        assert_same(&collects.join().unwrap(), &content[..LARGE - 7]);
    }

    fn two_files_copied_to_each_other_do_not_lock_up() {
        let directory = Directory::new();
        let (one, other) = (directory.file("one", &bytes(LARGE)), directory.file("other", b""));
        thread::scope(|scope| {
            scope.spawn(|| io::copy(&mut (&one).take(LARGE as u64), &mut &other).unwrap());
            scope.spawn(|| io::copy(&mut (&other).take(1000), &mut &one).unwrap());
        });
        // A file and its own clone: one position.
        let same = directory.file("same", &bytes(1000));
        let clone = same.try_clone().unwrap();
        io::copy(&mut (&same).take(10), &mut &clone).unwrap();
    }

    fn copies_share_a_position_in_turns() {
        let directory = Directory::new();
        let content = bytes(LARGE);
        let file = directory.file("from", &content);
        let taken: usize = thread::scope(|scope| {
            let halves: Vec<_> = (0..2)
                .map(|_| {
                    let file = &file;
                    scope.spawn(move || {
                        let (mut stream, collects) = received();
                        io::copy(&mut &*file, &mut stream).unwrap();
                        drop(stream);
                        collects.join().unwrap().len()
                    })
                })
                .collect();
            halves.into_iter().map(|half| half.join().unwrap()).sum()
        });
        assert_eq!(taken, LARGE, "no byte is copied twice");
    }

    fn a_child_is_fed_and_read() {
        use greenring::process::{Command, Stdio};
        let directory = Directory::new();
        let content = bytes(LARGE);
        let mut file = directory.file("from", &content);
        let mut to = directory.file("to", b"");
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeds = thread::spawn(move || io::copy(&mut file, &mut stdin).unwrap());
        let mut stdout = child.stdout.take().unwrap();
        assert_eq!(io::copy(&mut stdout, &mut to).unwrap(), LARGE as u64);
        assert_eq!(feeds.join().unwrap(), LARGE as u64);
        assert!(child.wait().unwrap().success());
        assert_same(&directory.content("to"), &content);
    }
}

both_backends_alone! {
    fn without_a_descriptor_to_spare_it_is_copied_too() {
        let directory = Directory::new();
        let content = bytes(LARGE);
        let mut file = directory.file("from", &content);
        let (mut stream, collects) = received();
        // Whatever the hub and the pool need, they have by now.
        assert_eq!(io::copy(&mut (&file).take(100_000), &mut stream).unwrap(), 100_000);
        thread::yield_now();
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64.min(hard), hard).unwrap();
        let mut spare = Vec::new();
        while let Ok(one) = std::fs::File::open("/dev/null") {
            spare.push(one);
        }
        assert_eq!(io::copy(&mut file, &mut stream).unwrap(), (LARGE - 100_000) as u64);
        drop((spare, stream));
        assert_same(&collects.join().unwrap(), &content);
    }
}

#[test]
fn a_socket_without_a_reader_is_an_error_whatever_becomes_of_sigpipe() {
    const TEST: &str = "a_socket_without_a_reader_is_an_error_whatever_becomes_of_sigpipe";
    if common::is_child(TEST) {
        common::end_after(60);
        // SAFETY: the default action, in a process of its own.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (mut from, mut feeds) = connection();
        let (mut to, gone) = connection();
        drop(gone);
        let feeding = thread::spawn(move || while feeds.write_all(&bytes(1000)).is_ok() {});
        let error = io::copy(&mut from, &mut to).unwrap_err();
        eprintln!("{:?}", error.kind());
        drop(from);
        feeding.join().unwrap();
        return;
    }
    common::child_on_each_backend(TEST, TEST, &[], |child| {
        child.assert_success();
        assert!(
            child.stderr.contains("BrokenPipe") || child.stderr.contains("ConnectionReset"),
            "{child:#?}"
        );
    });
}
