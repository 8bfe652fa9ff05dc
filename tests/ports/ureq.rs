//! ureq, through its transport interface, over the streams of std and of
//! greenring.

greenring_ports::one_source!("ureq/port.rs");

greenring_ports::same_answers!(
    requests_in_a_row_share_a_connection,
    a_hundred_at_once_keep_a_hundred_connections,
    a_pool_keeps_no_more_than_it_may,
    a_connection_that_the_server_left_is_not_used_again,
    a_time_limit_says_what_it_limited,
    an_agent_that_shuts_down_ends_the_call_under_way,
);

/// What only green threads can do to a call.
mod interrupted {
    use std::time::Duration;

    use greenring::runtime::Backend;
    use greenring::{Cancelled, thread, time};
    use greenring_ports::on;

    use super::over_greenring::port::{Server, agent};

    /// The call's connection is closed, and the agent stays of use.
    fn a_call_is_given_up_and_the_agent_goes_on() {
        let server = Server::start(1);
        let agent = agent(|config| config);
        let hello = || {
            let response = agent.get(server.url("/hello/1")).call();
            response.unwrap().body_mut().read_to_string().unwrap()
        };
        assert_eq!(hello(), "hello 1");

        let limited = time::timeout(Duration::from_millis(20), || {
            agent.get(server.url("/silence")).call().is_ok()
        });
        limited.expect_err("nobody answers");

        let (url, called) = (server.url("/never"), agent.clone());
        let call = thread::spawn(move || called.get(url).call().is_ok());
        server.arrived.recv().unwrap();
        call.cancel();
        assert!(Cancelled::is(&call.join().expect_err("nobody answers")));

        assert_eq!(hello(), "hello 1");
        drop(agent);
        assert_eq!(server.stop().pop(), Some(1), "the last is a new one");
    }

    #[test]
    fn uring() {
        on(Backend::Uring, a_call_is_given_up_and_the_agent_goes_on);
    }

    #[test]
    fn epoll() {
        on(Backend::Epoll, a_call_is_given_up_and_the_agent_goes_on);
    }
}
