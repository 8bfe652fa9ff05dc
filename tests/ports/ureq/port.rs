//! HTTP calls as one makes them with ureq; each scenario tells what was
//! answered, and how many requests each connection brought.

use super::sys;
use sys::io;
use sys::thread;
use sys::time::Duration;

use ureq::config::{Config, ConfigBuilder};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, Error, SendBody};

#[path = "server.rs"]
mod server;
#[path = "transport.rs"]
mod transport;

pub use server::Server;
use transport::{Names, Tcp};

const AT_ONCE: usize = 100;

type Builder = ConfigBuilder<AgentScope>;

/// The calls' texts and the connections' requests.
type Told = (Vec<String>, Vec<usize>);

/// Bodies of a known length and in chunks, either way; the fifteenth request
/// is the connection's last.
pub fn requests_in_a_row_share_a_connection() -> Told {
    let server = Server::start(1);
    let agent = agent(|config| config);
    let get = |path: &str| text(agent.get(server.url(path)).call());
    let mut told: Vec<_> = (0..10).map(|n| get(&format!("/hello/{n}"))).collect();
    let long = "all work and no play ".repeat(20_000);
    for length in [0, 20, long.len()] {
        let body = &long[..length];
        let echoed = text(agent.post(server.url("/echo")).send(body));
        assert!(echoed == body);
        told.push(echoed);
    }
    let mut chunks = long.as_bytes();
    let chunked = agent.post(server.url("/echo"));
    let echoed = text(chunked.send(SendBody::from_reader(&mut chunks)));
    assert!(echoed == long);
    told.extend([echoed, get("/last"), get("/hello/again")]);
    drop(agent);
    let connections = server.stop();
    assert_eq!(connections, [15, 1]);
    (told, connections)
}

/// Each round is answered when all have asked, and nobody connects anew.
pub fn a_hundred_at_once_keep_a_hundred_connections() -> Told {
    let server = Server::start(AT_ONCE);
    let agent = agent(|config| {
        let config = config.max_idle_connections(AT_ONCE);
        config.max_idle_connections_per_host(AT_ONCE)
    });
    let caller = |_| {
        let (agent, url) = (agent.clone(), server.url("/meet"));
        thread::spawn(move || {
            let calls = (0..3).map(|_| text(agent.get(&url).call()));
            calls.collect::<Vec<_>>().join(" ")
        })
    };
    let callers: Vec<_> = (0..AT_ONCE).map(caller).collect();
    let told = callers.into_iter().map(|caller| caller.join().unwrap());
    let told = told.collect();
    drop(agent);
    let connections = server.stop();
    assert_eq!(connections, [3; AT_ONCE]);
    (told, connections)
}

/// Twenty connections, of which four are kept; those serve the rest.
pub fn a_pool_keeps_no_more_than_it_may() -> (usize, usize) {
    let server = Server::start(20);
    let agent = agent(|config| config.max_idle_connections_per_host(4));
    let meet = |_| {
        let (agent, url) = (agent.clone(), server.url("/meet"));
        thread::spawn(move || text(agent.get(url).call()))
    };
    let meeting: Vec<_> = (0..20).map(meet).collect();
    for caller in meeting {
        assert_eq!(caller.join().unwrap(), "met");
    }
    for n in 0..10 {
        text(agent.get(server.url(&format!("/hello/{n}"))).call());
    }
    drop(agent);
    let connections = server.stop();
    let told = (connections.len(), connections.iter().sum());
    assert_eq!(told, (20, 30));
    told
}

/// The server hangs up after its answer, which the pool finds out.
pub fn a_connection_that_the_server_left_is_not_used_again() -> Told {
    let server = Server::start(1);
    let agent = agent(|config| config);
    let get = |path: &str| text(agent.get(server.url(path)).call());
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend([get("/hello/1"), get("/hangup")]);
        server.arrived.recv().unwrap();
    }
    drop(agent);
    let connections = server.stop();
    assert_eq!(connections, [2, 2, 2]);
    (told, connections)
}

/// Time limits on the head of the answer, on its body, on the whole call, on
/// each read and on each part sent. A connection on which one passed is closed.
pub fn a_time_limit_says_what_it_limited() -> Told {
    let server = Server::start(2);
    let short = Some(Duration::from_millis(20));
    // Long enough for the request to be sent.
    let whole = |config: Builder, _| config.timeout_global(Some(Duration::from_millis(200)));
    let call = |path, limit: fn(Builder, Option<Duration>) -> Builder| {
        let agent = agent(|config| limit(config, short));
        text(agent.get(server.url(path)).call())
    };
    let mut told = vec![
        call("/never", Builder::timeout_recv_response),
        call("/never", whole),
        call("/never", Builder::timeout_per_read),
        call("/half", Builder::timeout_recv_body),
        call("/half", Builder::timeout_per_read),
    ];
    for limit in [Builder::timeout_send_body, Builder::timeout_per_write] {
        let agent = agent(|config| limit(config, short));
        let mut endless = io::repeat(b'.');
        let upload = agent.post(server.url("/deaf"));
        told.push(text(upload.send(SendBody::from_reader(&mut endless))));
        server.meeting.wait();
    }
    assert!(told.iter().all(|told| told.contains("timeout")), "{told:?}");
    (told, server.stop())
}

/// From another thread than that which waits for the answer.
pub fn an_agent_that_shuts_down_ends_the_call_under_way() -> Told {
    let server = Server::start(1);
    let agent = agent(|config| config);
    let (called, url) = (agent.clone(), server.url("/never"));
    let call = thread::spawn(move || text(called.get(url).call()));
    server.arrived.recv().unwrap();
    agent.shutdown();
    let told = vec![call.join().unwrap()];
    (told, server.stop())
}

/// An agent whose connections are `sys`'s.
pub fn agent(configure: impl FnOnce(Builder) -> Builder) -> Agent {
    let config = Config::builder().proxy(None);
    Agent::with_parts(configure(config).build(), Tcp, Names)
}

/// The body, or what came instead.
fn text(response: Result<ureq::http::Response<Body>, Error>) -> String {
    let body = response.and_then(|mut response| response.body_mut().read_to_string());
    body.unwrap_or_else(|error| error.to_string())
}
