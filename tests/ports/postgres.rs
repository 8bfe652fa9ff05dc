//! A PostgreSQL client against a real server.

use greenring_ports::{one_source, play, servers};

one_source!("postgres/mod.rs");

#[test]
fn a_postgres_client_gives_the_same_answers_over_std_and_over_greenring() {
    let Some(server) = servers::postgres() else {
        return;
    };
    let login = server.login();

    let outcome = play!(logins(login));
    assert_eq!(outcome[0], "()");
    assert_eq!(
        outcome[1..],
        [
            "28P01 password authentication failed for user \"greenring\"",
            "28P01 password authentication failed for user \"nobody\"",
            "3D000 database \"nowhere\" does not exist",
        ]
    );

    let outcome = play!(extended_queries(login));
    assert!(outcome[0].starts_with("[[Null, Bool(true), Int(-9223372036854775808), Float(-0.5), "));
    assert_eq!(
        outcome[1..],
        [
            "22012 division by zero",
            "42P01 relation \"nowhere\" does not exist",
            "true",
            "[\"CREATE TABLE\", \"INSERT 0 2\"]",
            "[]",
            "22012 division by zero",
            "[[Int(990), Int(500445)]]",
        ]
    );

    let outcome = play!(rows_in_batches(login));
    assert_eq!(outcome, ["1000", "1000", "500", "[[Text(\"still here\")]]"]);

    let outcome = play!(rows_under_lock(login));
    assert!(outcome[0].starts_with("[1, 2, 3, ") && outcome[0].ends_with(", 49, 50]"));
    assert_eq!(outcome[1], "[[Int(50)]]");

    let outcome = play!(pooled_connections(login));
    assert_eq!(outcome.len(), 101);
    assert_eq!(outcome[99..], ["[[Int(198)]]", "8"]);

    let outcome = play!(cancelled_query(login));
    assert_eq!(outcome[0], "57014 canceling statement due to user request");
    assert_eq!(outcome[1], "[[Text(\"alive\")]]");

    let outcome = play!(terminated_connection(login));
    assert_eq!(outcome[0], "[[Bool(true)]]");
    assert_eq!(
        outcome[1],
        "57P01 terminating connection due to administrator command"
    );

    let outcome = play!(read_timeout(login));
    assert_eq!(outcome, ["[[Bool(true)]]", "WouldBlock", "()"]);

    let outcome = play!(notifications(login));
    assert_eq!(outcome.len(), 11 * 21);
    assert_eq!(
        outcome[19..22],
        ["news: number 19", "news: last", "news: number 0"]
    );

    let outcome = play!(bulk_copies(login));
    assert_eq!(
        outcome,
        [
            "\"COPY 40000\"",
            "4168890 true",
            "22P02 invalid input syntax for type bigint: \"not a number\"",
            "[[Int(40000)]]",
        ]
    );
}
