//! Pipes: what std's do, parked instead of blocked.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use common::through::Read;
use greenring::io::{self, BufRead, PipeReader, PipeWriter, Write};
use greenring::thread;

/// What a pipe holds that nobody has made larger.
const CAPACITY: usize = 65_536;

/// The two ends of a FIFO, which does not know RWF_NOWAIT: on epoll it is
/// asked for readiness instead, as pipes are before Linux 6.5.
fn fifo() -> (PipeReader, PipeWriter) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("greenring-fifo-{}-{n}", std::process::id());
    let path = std::env::temp_dir().join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // So that neither end waits for the other to be opened.
    let both = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let reader = File::open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    drop(both);
    std::fs::remove_file(&path).unwrap();
    (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
}

/// Lines of many writers, each of which fits into what a pipe takes as a whole.
fn write_lines_at_once(mut reader: PipeReader, writer: PipeWriter) {
    const LINES: usize = 200;
    let mut rng = common::Rng::new("write_lines_at_once");
    let writers: Vec<_> = (0..16u8)
        .map(|name| {
            let mut writer = writer.try_clone().unwrap();
            let lengths: Vec<_> = (0..LINES)
                .map(|_| 1 + rng.below(libc::PIPE_BUF as u64 - 1) as usize)
                .collect();
            thread::spawn(move || {
                for length in lengths {
                    let mut line = vec![b'a' + name; length];
                    line[length - 1] = b'\n';
                    assert_eq!(writer.write(&line).unwrap(), length);
                }
            })
        })
        .collect();
    drop(writer);
    let mut count = 0;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        assert!(
            line[..line.len() - 1]
                .windows(2)
                .all(|pair| pair[0] == pair[1]),
            "torn"
        );
        count += 1;
    }
    assert_eq!(count, 16 * LINES);
    for writer in writers {
        writer.join().unwrap();
    }
}

/// A cancelled write says what it has written, and nothing else was.
fn cancel_in_the_middle(mut reader: PipeReader, mut writer: PipeWriter) {
    let writes = thread::spawn(move || {
        let written = writer.write(&vec![7; 1 << 20]).unwrap();
        (written, writer)
    });
    let mut first = [0; 10];
    reader.read_exact(&mut first).unwrap();
    // It has written what there was room for and waits.
    thread::yield_now();
    writes.cancel();
    let (written, writer) = writes.join().unwrap();
    assert!((CAPACITY..1 << 20).contains(&written), "{written}");
    drop(writer);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(first.len() + rest.len(), written);
}

fn move_much(mut reader: PipeReader, mut writer: PipeWriter) {
    let length = 5_000_001;
    let writes = thread::spawn(move || {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let (one, other) = bytes.split_at(1234);
        let slices = [IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(other)];
        assert_eq!(
            writer.write_vectored(&slices).unwrap(),
            length,
            "all, as std's"
        );
    });
    let mut at = 0;
    let mut buffer = vec![0; 100_000];
    loop {
        let (one, other) = buffer.split_at_mut(333);
        let mut slices = [IoSliceMut::new(one), IoSliceMut::new(other)];
        let read = reader.read_vectored(&mut slices).unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().all(|byte| {
            at += 1;
            *byte == ((at - 1) % 251) as u8
        }));
    }
    assert_eq!(at, length);
    writes.join().unwrap();
}

both_backends! {
    fn a_reader_waits_for_a_writer() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let reads = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        thread::yield_now();
        writer.write_all(b"late").unwrap();
        drop(writer);
        assert_eq!(reads.join().unwrap().unwrap(), "late");
    }

    fn a_write_that_does_not_fit_waits_for_its_reader() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let length = 1 << 20;
        let writes = thread::spawn(move || {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            writer.write(&bytes).unwrap()
        });
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(writes.join().unwrap(), length, "a blocking write moves everything");
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == n as u8));
        assert_eq!(bytes.len(), length);
    }

    fn a_write_without_a_reader_fails() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    fn lines_of_many_writers_stay_whole() {
        let (reader, writer) = io::pipe().unwrap();
        write_lines_at_once(reader, writer);
    }

    fn lines_of_many_writers_to_a_fifo_stay_whole() {
        let (reader, writer) = fifo();
        write_lines_at_once(reader, writer);
    }

    fn a_cancelled_write_counts_what_it_wrote() {
        let (reader, writer) = io::pipe().unwrap();
        cancel_in_the_middle(reader, writer);
    }

    fn much_goes_through_a_pipe() {
        let (reader, writer) = io::pipe().unwrap();
        move_much(reader, writer);
    }

    fn much_goes_through_a_fifo() {
        let (reader, writer) = fifo();
        move_much(reader, writer);
    }

    fn a_fifo_without_the_other_end_says_so() {
        let (mut reader, mut writer) = fifo();
        let reads = thread::spawn(move || {
            let mut buffer = [0; 8];
            let n = reader.read(&mut buffer).unwrap();
            (n, reader)
        });
        thread::yield_now();
        writer.write_all(b"x").unwrap();
        let (n, mut reader) = reads.join().unwrap();
        assert_eq!(n, 1);
        drop(writer);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);

        let (reader, mut writer) = fifo();
        drop(reader);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    fn a_reader_that_goes_releases_a_parked_writer() {
        let (reader, mut writer) = io::pipe().unwrap();
        let writes = thread::spawn(move || {
            let first = writer.write(&vec![0; 2 * CAPACITY]);
            (first, writer.write(b"x"))
        });
        thread::yield_now();
        drop(reader);
        let (first, second) = writes.join().unwrap();
        // As std's: the count first, then the error.
        assert!(first.is_ok_and(|count| count == CAPACITY));
        assert_eq!(second.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    fn the_end_comes_when_all_clones_are_closed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let clone = writer.try_clone().unwrap();
        drop(writer);
        let reads = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        thread::yield_now();
        (&clone).write_all(b"from the clone").unwrap();
        assert!(!reads.is_finished());
        drop(clone);
        assert_eq!(reads.join().unwrap().unwrap(), b"from the clone");
    }

    fn empty_buffers_do_not_wait() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert_eq!(reader.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(writer.write(&[]).unwrap(), 0);
        assert_eq!(writer.write_vectored(&[]).unwrap(), 0);
    }

    fn ends_are_converted_and_given_to_children() {
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(format!("{reader:?}"), {
            let number = reader.as_raw_fd();
            let std: std::io::PipeReader = reader.as_fd().try_clone_to_owned().unwrap().into();
            format!("{std:?}").replace(&std.as_raw_fd().to_string(), &number.to_string())
        });
        let writer: std::io::PipeWriter = writer.into();
        let writer: PipeWriter = writer.into();
        let mut child = Command::new("cat")
            .arg("/proc/self/comm")
            .stdin(Stdio::null())
            .stdout(writer)
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufReader::new(&reader).read_line(&mut line).unwrap();
        assert_eq!(line, "cat\n");
        assert!(child.wait().unwrap().success());
    }

    fn a_pipe_in_non_blocking_mode_does_not_wait() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let (reader, writer) = std::io::pipe().unwrap();
        for end in [reader.as_fd(), writer.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        let (mut reader, mut writer) = (PipeReader::from(reader), PipeWriter::from(writer));
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(writer.write(&vec![0; 2 * CAPACITY]).unwrap(), CAPACITY);
        assert_eq!(writer.write(&[0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    fn buffers_of_std_work_over_pipes() {
        let (reader, writer) = io::pipe().unwrap();
        let mut writer = io::LineWriter::new(io::BufWriter::new(writer));
        let reads = thread::spawn(move || {
            let lines = io::BufReader::with_capacity(7, reader).lines();
            lines.collect::<Result<Vec<_>, _>>().unwrap()
        });
        for n in 0..1000 {
            writeln!(writer, "line {n}").unwrap();
        }
        drop(writer);
        let lines = reads.join().unwrap();
        assert_eq!(lines.len(), 1000);
        assert_eq!(lines[999], "line 999");
    }
}
