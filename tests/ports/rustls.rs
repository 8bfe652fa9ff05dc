//! rustls, client and server, over the streams of std and of greenring.

#[path = "rustls/identity.rs"]
mod identity;

greenring_ports::one_source!("rustls/port.rs");

greenring_ports::same_answers!(
    a_hundred_connections_send_a_mebibyte_each_way_and_say_goodbye,
    a_second_visit_resumes_the_session,
    a_stream_cut_short_is_told_from_one_that_ended,
    an_unknown_issuer_is_refused_and_the_server_hears_why,
    a_handshake_that_ran_into_a_time_limit_goes_on,
);

/// What only green threads can do to a handshake.
mod interrupted {
    use std::io::Read;
    use std::time::Duration;

    use greenring::net::{TcpListener, TcpStream};
    use greenring::runtime::Backend;
    use greenring::{Cancelled, thread, time};
    use greenring_ports::on;

    use super::identity;
    use super::over_greenring::port;

    /// Clients at once that wait for an answer to their ClientHello.
    const CLIENTS: usize = 100;

    /// The listener answers nobody; `interrupt` ends each client's handshake.
    /// The server hears the end of each connection, and the next handshake on
    /// the same listener succeeds.
    fn a_hundred_are_given_up(interrupt: fn(TcpStream, &TcpStream)) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let given_up = (0..CLIENTS).map(|_| {
            let client = TcpStream::connect(address).unwrap();
            let (server, _) = listener.accept().unwrap();
            thread::spawn(move || {
                interrupt(client, &server);
                let mut hello = Vec::new();
                (&server).read_to_end(&mut hello).unwrap();
                hello
            })
        });
        let hellos = thread::join_all(given_up.collect::<Vec<_>>());
        for hello in hellos {
            // Or nothing, where the time has passed while the client computed.
            let first = hello.unwrap().first().copied();
            assert!(first.is_none_or(|byte| byte == 22), "a handshake record");
        }

        let server = thread::spawn(move || port::greet(&listener));
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(
            port::be_greeted(client, identity::client()).unwrap(),
            port::GREETING
        );
        server.join().unwrap().unwrap();
    }

    fn by_a_time_limit(client: TcpStream, _: &TcpStream) {
        let result = time::timeout(Duration::from_millis(20), || {
            port::be_greeted(client, identity::client())
        });
        result.expect_err("nobody answers");
    }

    fn by_cancellation(client: TcpStream, server: &TcpStream) {
        let client = thread::spawn(move || port::be_greeted(client, identity::client()));
        server.peek(&mut [0]).unwrap();
        client.cancel();
        let payload = client.join().expect_err("nobody answers");
        assert!(Cancelled::is(&payload));
    }

    mod a_time_limit_closes_the_connection {
        use super::*;

        #[test]
        fn uring() {
            on(Backend::Uring, || a_hundred_are_given_up(by_a_time_limit));
        }

        #[test]
        fn epoll() {
            on(Backend::Epoll, || a_hundred_are_given_up(by_a_time_limit));
        }
    }

    mod a_cancellation_closes_the_connection {
        use super::*;

        #[test]
        fn uring() {
            on(Backend::Uring, || a_hundred_are_given_up(by_cancellation));
        }

        #[test]
        fn epoll() {
            on(Backend::Epoll, || a_hundred_are_given_up(by_cancellation));
        }
    }
}
