//! A protocol with a control and a data connection, both ends of it.

use greenring_ports::{one_source, play};

one_source!("ftp/mod.rs");

#[test]
fn fifty_clients_transfer_files_in_both_modes() {
    let outcome = play!(many_transfers());
    assert_eq!(outcome.len(), 51);
    assert_eq!(outcome[50], "50");
    for (n, said) in outcome[..50].iter().enumerate() {
        assert!(said.contains(&format!("\n213 {}\n", 300_000 + n)), "{said}");
        assert!(
            said.contains(&format!("        0 {n:02}/empty\r\n")),
            "{said}"
        );
        assert!(said.ends_with("\ntrue"), "{said}");
    }
}

#[test]
fn a_transfer_is_aborted_while_the_other_side_waits() {
    let outcome = play!(aborted_transfers());
    let (sessions, clients) = outcome.split_last().expect("it is not empty");
    assert_eq!(sessions, "2");
    let (passive, active) = clients.split_at(15);
    assert_eq!(
        passive[3..],
        [
            "227 Come to",
            "150 Here it comes",
            "426 It has been cut short",
            "226 Nothing is under way any more",
            "227 Come to",
            "150 Here it comes",
            "426 It has been cut short",
            "226 Nothing is under way any more",
            "226 Nothing is under way any more",
            "200 Indeed",
            "221 Good-bye",
            "~~~~~~~~~~",
        ]
    );
    assert_eq!(active[3], "200 I shall connect there");
    assert_eq!(active[4..7], passive[4..7]);
    assert_eq!(active[7], active[3]);
    assert_eq!(active[8..], passive[8..]);
}

#[test]
fn a_server_ends_after_its_clients_have_hung_up() {
    assert_eq!(play!(lost_clients()), ["10"]);
}

#[test]
fn a_silent_client_is_sent_away() {
    let outcome = play!(silent_client());
    assert_eq!(
        outcome,
        [
            "220 At your service",
            "421 You have been silent for too long",
            "UnexpectedEof",
            "1"
        ]
    );
}

#[test]
fn what_cannot_be_done_is_refused() {
    assert_eq!(
        play!(refusals()),
        [
            "220 At your service",
            "530 Who are you?",
            "331 And your password?",
            "530 No",
            "331 And your password?",
            "230 Come in",
            "550 No such file",
            "425 Say PASV or PORT first",
            "501 What port?",
            "200 I shall connect there",
            "425 There is nobody",
            "502 Not here",
            "221 Good-bye",
            "1",
        ]
    );
}
