//! TCP streams as their user sees them: connecting, bytes in both directions,
//! ends and resets. Time limits and modes are in `tcp_modes.rs`, sharing in
//! `tcp_sharing.rs`, listeners in `tcp_listener.rs`.

mod common;

use std::cell::Cell;
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Instant;

use common::net::{
    byte_at, bytes_from, full_listener, pair, poll_now, refusing, reset_on_close, shrink_buffers,
    unread, wait_for_parked, wait_until,
};
use common::through::{Read, plainly};
use greenring::io::{self, ErrorKind, Write};
use greenring::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use greenring::os::linux::net::TcpStreamExt;
use greenring::time::Duration;
use greenring::{runtime, thread};
use nix::poll::PollFlags;

/// More than the socket buffers of a connection hold together.
const LARGE: usize = 12 << 20;

/// More than shrunken socket buffers hold.
const SMALL: usize = 512 << 10;

both_backends! {
    fn both_ends_agree_on_their_addresses() {
        let (client, server) = pair();
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
    }

    fn a_read_gets_what_was_written() {
        let (mut client, mut server) = pair();
        assert_eq!(client.write(b"hello").unwrap(), 5);
        let mut buffer = [0; 16];
        assert_eq!(server.read(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        // A small buffer gets a part, the rest stays.
        server.write_all(b"a longer answer").unwrap();
        server.flush().unwrap();
        assert_eq!(client.read(&mut buffer[..8]).unwrap(), 8);
        assert_eq!(&buffer[..8], b"a longer");
        assert_eq!(client.read(&mut buffer).unwrap(), 7);
        assert_eq!(&buffer[..7], b" answer");
    }

    fn a_read_waits_for_data_while_others_run() {
        let (mut client, server) = pair();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8];
            let n = (&server).read(&mut buffer).unwrap();
            buffer[..n].to_vec()
        });
        wait_for_parked(1);
        assert!(!reader.is_finished());
        client.write_all(b"now").unwrap();
        assert_eq!(reader.join().unwrap(), b"now");
    }

    fn a_write_waits_for_room_while_others_run() {
        let (client, mut server) = pair();
        shrink_buffers(&client, &server);
        let writer = thread::spawn(move || (&client).write_all(&bytes_from(0, SMALL)));
        wait_for_parked(1);
        assert!(!writer.is_finished());
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        assert!(received == bytes_from(0, SMALL));
    }

    fn large_transfers_go_both_ways_at_once() {
        let (client, server) = pair();
        let mut directions = Vec::new();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            directions.push(thread::spawn(move || {
                (&from).write_all(&bytes_from(0, LARGE)).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            }));
            directions.push(thread::spawn(move || {
                let mut received = Vec::new();
                (&to).read_to_end(&mut received).unwrap();
                assert!(received == bytes_from(0, LARGE));
            }));
        }
        for direction in directions {
            direction.join().unwrap();
        }
    }

    fn the_traits_of_io_work_over_a_stream() {
        let (mut client, server) = pair();
        let echo = thread::spawn(move || {
            // By shared reference, as with std's.
            io::copy(&mut &server, &mut &server).unwrap()
        });
        client.write_all(b"one\ntwo\n").unwrap();
        writeln!(client, "{}", 3).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let lines: Vec<_> = BufReader::new(client).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["one", "two", "3"]);
        assert_eq!(echo.join().unwrap(), 10);
    }

    fn vectored_calls_gather_and_scatter() {
        let (mut client, mut server) = pair();
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(client.write_vectored(&parts).unwrap(), 5);
        let (mut one, mut two) = ([0; 1], [0; 8]);
        let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut []), IoSliceMut::new(&mut two)];
        assert_eq!(server.read_vectored(&mut parts).unwrap(), 5);
        assert_eq!((&one, &two[..4]), (b"a", &b"bcde"[..]));
    }

    fn a_vectored_read_waits_for_data() {
        let (mut client, server) = pair();
        let reader = thread::spawn(move || {
            let (mut one, mut two) = ([0; 2], [0; 2]);
            let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            let n = (&server).read_vectored(&mut parts).unwrap();
            (n, one, two)
        });
        wait_for_parked(1);
        client.write_all(b"xyz").unwrap();
        assert_eq!(reader.join().unwrap(), (3, *b"xy", *b"z\0"));
    }

    fn a_vectored_write_waits_for_room() {
        let (client, mut server) = pair();
        shrink_buffers(&client, &server);
        let writer = thread::spawn(move || {
            let whole = bytes_from(0, SMALL);
            let mut sent = 0;
            while sent < SMALL {
                let (head, tail) = whole[sent..].split_at((SMALL - sent) / 2);
                sent += (&client).write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]).unwrap();
            }
        });
        wait_for_parked(1);
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert!(received == bytes_from(0, SMALL));
    }

    fn more_slices_than_the_kernel_takes_are_taken_in_part() {
        plainly("a reader has no most number of slices");
        let (mut client, mut server) = pair();
        let bytes = bytes_from(0, 3000);
        let parts: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
        assert_eq!(client.write_vectored(&parts).unwrap(), 1024);
        client.write_all(&bytes[1024..]).unwrap();
        wait_until(|| unread(&server) == 3000);
        let mut received = vec![0; 3000];
        let mut parts: Vec<_> = received.chunks_mut(1).map(IoSliceMut::new).collect();
        assert_eq!(server.read_vectored(&mut parts).unwrap(), 1024);
        server.read_exact(&mut received[1024..]).unwrap();
        assert!(received == bytes);
    }

    fn vectored_calls_with_nothing_to_move_return_at_once() {
        let (mut client, mut server) = pair();
        assert_eq!(client.write_vectored(&[]).unwrap(), 0);
        assert_eq!(client.write_vectored(&[IoSlice::new(b"")]).unwrap(), 0);
        assert_eq!(server.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(server.read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
    }

    fn an_empty_read_waits_for_data_and_takes_none() {
        let (mut client, server) = pair();
        let reader = thread::spawn(move || {
            assert_eq!((&server).read(&mut []).unwrap(), 0);
            let mut buffer = [0; 8];
            (&server).read(&mut buffer).unwrap()
        });
        wait_for_parked(1);
        assert!(!reader.is_finished());
        client.write_all(b"four").unwrap();
        assert_eq!(reader.join().unwrap(), 4);
    }

    fn an_empty_write_moves_nothing() {
        let (mut client, server) = pair();
        assert_eq!(client.write(&[]).unwrap(), 0);
        drop(client);
        assert_eq!((&server).read(&mut [0; 1]).unwrap(), 0);
    }

    fn a_peek_waits_for_data_and_leaves_it() {
        let (mut client, server) = pair();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8];
            let seen = server.peek(&mut buffer).unwrap();
            assert_eq!(&buffer[..seen], b"once");
            assert_eq!(server.peek(&mut buffer[..2]).unwrap(), 2);
            // Into no buffer, with data there.
            assert_eq!(server.peek(&mut []).unwrap(), 0);
            let read = (&server).read(&mut buffer).unwrap();
            assert_eq!(&buffer[..read], b"once");
        });
        wait_for_parked(1);
        client.write_all(b"once").unwrap();
        reader.join().unwrap();
    }

    fn the_end_is_read_again_and_again() {
        let (mut client, mut server) = pair();
        client.write_all(b"last words").unwrap();
        drop(client);
        let mut text = String::new();
        assert_eq!(server.read_to_string(&mut text).unwrap(), 10);
        assert_eq!(text, "last words");
        for _ in 0..3 {
            assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
            assert_eq!(server.peek(&mut [0; 8]).unwrap(), 0);
        }
    }

    fn a_half_closed_stream_still_carries_the_other_direction() {
        let (mut client, mut server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
        server.write_all(b"still here").unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
    }

    fn a_stream_shut_down_for_reading_reads_its_end() {
        let (client, _server) = pair();
        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!((&client).read(&mut [0; 8]).unwrap(), 0);
        assert_eq!((&client).write(b"x").unwrap(), 1);
    }

    fn a_shutdown_through_a_clone_releases_a_parked_reader_with_the_end() {
        for how in [Shutdown::Read, Shutdown::Both] {
            let (client, _server) = pair();
            let clone = client.try_clone().unwrap();
            let reader = thread::spawn(move || (&client).read(&mut [0; 8]).unwrap());
            wait_for_parked(1);
            clone.shutdown(how).unwrap();
            assert_eq!(reader.join().unwrap(), 0);
        }
    }

    fn a_shutdown_through_a_clone_releases_a_parked_writer_with_broken_pipe() {
        for how in [Shutdown::Write, Shutdown::Both] {
            let (client, _server) = pair();
            let clone = client.try_clone().unwrap();
            let writer = thread::spawn(move || (&client).write_all(&vec![1; LARGE]));
            wait_for_parked(1);
            clone.shutdown(how).unwrap();
            let error = writer.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }

    fn dropping_a_clone_releases_nobody() {
        let (client, mut server) = pair();
        let clone = client.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8];
            (&client).read(&mut buffer).unwrap()
        });
        wait_for_parked(1);
        drop(clone);
        for _ in 0..100 {
            thread::yield_now();
        }
        assert!(!reader.is_finished());
        server.write_all(b"abc").unwrap();
        assert_eq!(reader.join().unwrap(), 3);
    }

    fn after_both_sides_have_shut_down_the_peer_is_gone() {
        let (client, server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client.peer_addr().unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        wait_until(|| client.peer_addr().is_err());
        assert_eq!(client.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(client.shutdown(Shutdown::Both).unwrap_err().kind(), ErrorKind::NotConnected);
        client.local_addr().unwrap();
    }

    fn closing_with_unread_data_resets_the_peer() {
        let (client, mut server) = pair();
        server.write_all(b"never read").unwrap();
        wait_until(|| unread(&client) == 10);
        let reader = thread::spawn(move || (&server).read(&mut [0; 8]).unwrap_err().kind());
        wait_for_parked(1);
        drop(client);
        assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionReset);
    }

    fn a_reset_ends_a_parked_read_once_and_then_the_stream() {
        let (client, server) = pair();
        reset_on_close(&client);
        let reader = thread::spawn(move || {
            let error = (&server).read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!((&server).read(&mut [0; 8]).unwrap(), 0);
            let error = (&server).write(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
        wait_for_parked(1);
        drop(client);
        reader.join().unwrap();
    }

    fn a_reset_ends_a_parked_write() {
        let (client, server) = pair();
        reset_on_close(&client);
        let writer = thread::spawn(move || (&server).write_all(&vec![1; LARGE]));
        wait_for_parked(1);
        drop(client);
        let error = writer.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    fn a_pending_error_can_be_taken_once() {
        let (client, server) = pair();
        assert!(server.take_error().unwrap().is_none());
        reset_on_close(&client);
        drop(client);
        wait_until(|| poll_now(&server, PollFlags::POLLIN).contains(PollFlags::POLLERR));
        let error = server.take_error().unwrap().expect("the reset is pending");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(server.take_error().unwrap().is_none());
    }

    fn writing_to_a_closed_peer_fails_in_the_end() {
        let (mut client, server) = pair();
        drop(server);
        // The first write finds out: its answer is a reset.
        let error = loop {
            match client.write(b"x") {
                Ok(n) => assert_eq!(n, 1),
                Err(error) => break error,
            }
            wait_until(|| poll_now(&client, PollFlags::POLLIN).contains(PollFlags::POLLHUP));
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    fn connect_tries_each_address_and_gives_the_last_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let (_guard, bad) = refusing();
        let stream = TcpStream::connect(&[bad, good][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let (_guard, worse) = refusing();
        let error = TcpStream::connect(&[bad, worse][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let none: &[SocketAddr] = &[];
        let error = TcpStream::connect(none).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), std::net::TcpStream::connect(none).unwrap_err().to_string());
    }

    fn connect_waits_for_an_answer_while_others_run() {
        let (fd, address, filling) = full_listener();
        let listener = std::net::TcpListener::from(fd);
        let connecting = thread::spawn(move || TcpStream::connect(address).unwrap());
        wait_for_parked(1);
        assert!(!connecting.is_finished());
        // Room for one more. The kernel asks again within a second or so.
        drop(listener.accept().unwrap());
        drop(filling);
        let mut stream = connecting.join().unwrap();
        let (server, _) = listener.accept().unwrap();
        stream.write_all(b"x").unwrap();
        assert_eq!((&server).read(&mut [0; 8]).unwrap(), 1);
    }

    fn connect_timeout_gives_up_in_time_and_not_before() {
        let (_listener, address, _filling) = full_listener();
        for timeout in [1, 7, 30].map(Duration::from_millis) {
            let turns = Rc::new(Cell::new(0));
            let counted = Rc::clone(&turns);
            let over = Rc::new(Cell::new(false));
            let is_over = Rc::clone(&over);
            let sibling = thread::spawn(move || {
                while !is_over.get() {
                    counted.set(counted.get() + 1);
                    thread::sleep(Duration::from_micros(100));
                }
            });
            let begin = Instant::now();
            let error = TcpStream::connect_timeout(&address, timeout).unwrap_err();
            assert!(begin.elapsed() >= timeout);
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            over.set(true);
            sibling.join().unwrap();
            assert!(turns.get() > 0, "a sibling ran meanwhile");
        }
        assert_eq!(runtime::stats().in_flight, 0);
    }

    fn connect_timeout_otherwise_does_what_connect_does() {
        let (_full, address, _filling) = full_listener();
        let error = TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        let std = std::net::TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (std.kind(), std.to_string()));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        for timeout in [Duration::from_secs(60), Duration::MAX] {
            let mut client = TcpStream::connect_timeout(&address, timeout).unwrap();
            let (mut server, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            // It waits, as any other stream: the limit was for connecting.
            assert_eq!(client.read_timeout().unwrap(), None);
            let reader = thread::spawn(move || client.read(&mut [0; 8]).unwrap());
            wait_for_parked(1);
            server.write_all(b"abc").unwrap();
            assert_eq!(reader.join().unwrap(), 3);
        }

        let (_guard, refused) = refusing();
        let error = TcpStream::connect_timeout(&refused, Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    fn a_connection_to_nowhere_fails_as_in_std() {
        for address in ["255.255.255.255:80", "0.0.0.0:1"] {
            let address: SocketAddr = address.parse().unwrap();
            let ours = TcpStream::connect(address).map(drop);
            let std = std::net::TcpStream::connect(address).map(drop);
            let seen = |result: io::Result<()>| result.map_err(|error| error.raw_os_error());
            assert_eq!(seen(ours), seen(std), "{address}");
        }
    }

    fn options_reach_the_socket() {
        let (client, server) = pair();
        for on in [true, false] {
            client.set_nodelay(on).unwrap();
            assert_eq!(client.nodelay().unwrap(), on);
        }
        client.set_quickack(true).unwrap();
        client.quickack().unwrap();
        client.set_ttl(9).unwrap();
        assert_eq!(client.ttl().unwrap(), 9);
        assert_ne!(server.ttl().unwrap(), 9);
        assert_eq!(client.set_ttl(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    fn ipv6_works_as_ipv4_does() {
        let listener = match TcpListener::bind("[::1]:0") {
            Ok(listener) => listener,
            Err(error) => return println!("skipped: no IPv6 loopback: {error}"),
        };
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        let (server, peer) = listener.accept().unwrap();
        assert!(peer.is_ipv6());
        assert_eq!(peer, client.local_addr().unwrap());
        let reader = thread::spawn(move || (&server).read(&mut [0; 8]).unwrap());
        wait_for_parked(1);
        client.write_all(b"six").unwrap();
        assert_eq!(reader.join().unwrap(), 3);
    }

    fn a_thousand_connections_are_served_at_once() {
        const CONNECTIONS: usize = 1000;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(Cell::new(0));
        let now_accepted = Rc::clone(&accepted);
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(CONNECTIONS) {
                let stream = stream.unwrap();
                now_accepted.set(now_accepted.get() + 1);
                thread::spawn(move || io::copy(&mut &stream, &mut &stream).unwrap());
            }
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                // Beyond the listener's queue, std's of 128, Linux may reset.
                wait_until(|| number - accepted.get() < 100);
                let connecting = move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    // Until all are connected.
                    thread::park();
                    for round in 0..5 {
                        let sent = bytes_from(number * 7 + round, 100);
                        stream.write_all(&sent).unwrap();
                        let mut received = [0; 100];
                        stream.read_exact(&mut received).unwrap();
                        assert_eq!(received[..], sent);
                    }
                };
                thread::spawn(connecting)
            })
            .collect();
        server.join().unwrap();
        for client in &clients {
            client.thread().unpark();
        }
        for client in clients {
            client.join().unwrap();
        }
    }

    fn a_byte_at_a_time_arrives_in_order() {
        let (client, server) = pair();
        const BYTES: usize = 20_000;
        let writer = thread::spawn(move || {
            for position in 0..BYTES {
                assert_eq!((&client).write(&[byte_at(position)]).unwrap(), 1);
                if position % 7 == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut buffer = [0; 13];
        let mut position = 0;
        loop {
            let n = (&server).read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            assert_eq!(buffer[..n], bytes_from(position, n));
            position += n;
        }
        assert_eq!(position, BYTES);
        writer.join().unwrap();
    }

    fn a_stream_prints_as_std_prints_it() {
        let (client, _server) = pair();
        let ours = format!("{client:?}");
        assert_eq!(ours, format!("{:?}", std::net::TcpStream::from(client)));
    }
}

/// An OS thread that was never told about hubs gets one by connecting.
#[test]
fn an_os_thread_needs_no_preparation() {
    common::seccomp::refuse_if_asked();
    let _watchdog = common::Watchdog::start(Duration::from_secs(60));
    std::thread::spawn(|| {
        let (mut client, server) = pair();
        let reader = thread::spawn(move || (&server).read(&mut [0; 8]).unwrap());
        thread::yield_now();
        client.write_all(b"hello").unwrap();
        assert_eq!(reader.join().unwrap(), 5);
    })
    .join()
    .unwrap();
}
