//! A write that an error cuts short: std's kernel keeps the error for whoever
//! asks next, on whichever clone. So do greenring's streams. And one that is
//! interrupted tells how much it has written.

mod common;

use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, Write};
use std::rc::Rc;
use std::time::Duration;

use common::connection;
use common::through::Read;
use greenring::net::{TcpListener, TcpStream};
use greenring::{Cancelled, thread, time};

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

    fn one_that_takes_too_long_tells_how_much_was_written() {
        let (mut near, mut far) = connection();
        let bytes = vec![7; 16 << 20];
        for is_vectored in [false, true] {
            let limited = time::timeout(Duration::from_millis(5), || match is_vectored {
                true => near.write_vectored(&[IoSlice::new(&bytes[..1]), IoSlice::new(&bytes)]),
                false => near.write(&bytes),
            });
            let written = limited.expect("a part is a result").unwrap();
            assert!((1..bytes.len()).contains(&written), "{written}");
            far.read_exact(&mut vec![0; written]).unwrap();
        }
        // Nothing else was sent.
        near.write_all(&[8]).unwrap();
        let mut last = [0; 2];
        assert_eq!(far.read(&mut last).unwrap(), 1);
        assert_eq!(last[0], 8);
    }

    fn one_that_is_cancelled_tells_so_too_and_the_next_call_unwinds() {
        let (mut near, mut far) = connection();
        let written = Rc::new(Cell::new(0));
        let told = Rc::clone(&written);
        let writer = thread::spawn(move || {
            told.set(near.write(&vec![7; 16 << 20]).unwrap());
            near.write_all(&[8]).unwrap();
        });
        common::net::wait_for_parked(1);
        writer.cancel();
        assert!(Cancelled::is(&*writer.join().unwrap_err()));
        assert!(written.get() > 0);
        let mut all = Vec::new();
        far.read_to_end(&mut all).unwrap();
        assert_eq!(all, vec![7; written.get()]);
    }
}
