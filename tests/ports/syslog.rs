//! A syslog sender and its collectors, over UDP.

use greenring_ports::{one_source, play};

one_source!("syslog/mod.rs");

#[test]
fn what_many_send_is_collected_and_passed_on() {
    let outcome = play!(many_senders());
    assert_eq!(outcome.len(), 16 * 6 + 1 + 16 * 2);
    assert_eq!(outcome[0], "3 host00 sender: message 0, größer");
    assert_eq!(outcome[95], "5 host15 sender: message 6, größer");
    assert_eq!(outcome[128], "3 host15 sender: message 4, größer");
}

#[test]
fn a_datagram_is_as_long_as_the_protocol_allows() {
    assert_eq!(play!(odd_messages()), ["Some(90)", "65484"]);
}

#[test]
fn a_sender_takes_the_next_collector_when_the_first_has_gone() {
    assert_eq!(
        play!(failover()),
        [
            "5 host moving: message 1",
            "5 host moving: message 2",
            "[true, false, false]",
            "ConnectionRefused",
        ]
    );
}

#[test]
fn a_background_logger_sends_what_it_has_taken() {
    let outcome = play!(background());
    assert_eq!(outcome.len(), 101);
    assert_eq!(outcome[0], "3 host background: message 000");
    assert_eq!(outcome[100], "0 lost");
}

#[test]
fn a_collector_waits_no_longer_than_it_wants() {
    assert_eq!(
        play!(patience_and_peeking()),
        [
            "WouldBlock",
            "<31>1 - host peeked - - - a",
            "<31>1 - host peeked - - - whic",
            "<31>1 - host peeked - - - b",
        ]
    );
}
