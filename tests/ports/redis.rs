//! A RESP client against a real redis server.

use greenring_ports::{one_source, play, servers};

one_source!("redis/mod.rs");

#[test]
fn a_redis_client_gives_the_same_answers_over_std_and_over_greenring() {
    let Some(server) = servers::redis() else {
        return;
    };
    let address = server.address();

    let outcome = play!(pipelines(address));
    assert!(outcome[0].starts_with("[1 nil 2 nil 3 nil "));
    assert!(outcome[99].contains("[99.0 99.1 99.2 "));
    assert!(outcome[0].ends_with(
        "error: WRONGTYPE Operation against a key holding the wrong kind of value [nil nil] PONG]"
    ));
    assert_eq!(outcome[100], "4800");

    let outcome = play!(large_values(address));
    assert_eq!(outcome[..8], ["OK"; 8]);
    assert_eq!(outcome[8..], ["1000000 true"; 8]);

    let outcome = play!(publish_and_subscribe(address));
    assert_eq!(outcome[..50], ["20"; 50]);
    assert_eq!(outcome[50..52], ["0", "20"]);
    assert_eq!(outcome.len(), 52 + 20 * (1 + 50 + 1));
    assert_eq!(outcome[53], "[message news.today message 0]");

    let outcome = play!(blocking_pops(address));
    assert_eq!(outcome[29..], ["[queue:29 item 29]", "nil"]);

    let outcome = play!(read_timeouts(address));
    assert_eq!(outcome, ["1", "WouldBlock, then [nothing something]"]);

    let outcome = play!(transactions_and_errors(address));
    assert_eq!(outcome[..6], ["OK", "OK", "OK", "QUEUED", "QUEUED", "nil"]);
    assert!(outcome[10].starts_with("[15 error: WRONGTYPE"));
    assert_eq!(outcome[12], "[1 two [15 nil] error: ERR no]");

    let outcome = play!(shared_connection(address));
    assert_eq!(outcome.len(), 100 * 40);
    assert_eq!(outcome[38..40], ["OK", "19"]);

    let outcome = play!(killed_connection(address));
    assert_eq!(outcome, ["1", "UnexpectedEof"]);
}
