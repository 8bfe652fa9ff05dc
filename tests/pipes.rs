//! Pipes: what std's do, parked instead of blocked.

mod common;

use std::io::ErrorKind;

use greenring::io::{self, Read, Write};
use greenring::thread;

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
}
