//! A write that an error cuts short: std's kernel keeps the error for whoever
//! asks next, on whichever clone. So do greenring's streams.

mod common;

use std::io::{ErrorKind, Read, Write};

use greenring::net::{TcpListener, TcpStream};
use greenring::thread;

/// More than any socket's buffers hold.
const LARGE: usize = 64 << 20;

/// A stream whose peer reads a part of what is written and then resets the
/// connection, by closing it with the rest unread.
fn cut_short() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let reset = thread::spawn(move || {
        peer.read_exact(&mut vec![0; 1 << 20]).unwrap();
    });
    let written = stream.write(&vec![0; LARGE]).unwrap();
    assert!((1 << 20..LARGE).contains(&written), "{written}");
    reset.join().unwrap();
    stream
}

both_backends! {
    fn the_next_write_tells_it_once() {
        let mut stream = cut_short();
        let error = stream.write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = stream.write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }

    fn the_next_read_of_a_clone_tells_it() {
        let stream = cut_short();
        let mut clone = stream.try_clone().unwrap();
        let error = clone.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0);
    }

    fn it_can_be_taken_instead() {
        let stream = cut_short();
        let error = stream.take_error().unwrap().expect("it is pending");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(stream.take_error().unwrap().is_none());
        assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0);
    }
}
