//! A driver of programs that are spoken to line by line.

use greenring_ports::{one_source, play};

one_source!("subprocess/mod.rs");

#[test]
fn twenty_programs_are_spoken_to_at_once() {
    let outcome = play!(many_dialogues());
    assert_eq!(outcome.len(), 20);
    assert!(outcome[19].starts_with("0 19 38 "));
    assert!(outcome[19].ends_with(" 931 [] exit 3 \"done\\n\""));
}

#[test]
fn a_filter_is_written_to_and_read_from_at_once() {
    assert_eq!(play!(bulk_through_a_filter()), ["true", "exit 0"]);
}

#[test]
fn programs_are_put_in_a_pipeline() {
    assert_eq!(
        play!(pipeline()),
        [
            "number 0", "number 1", "number 2", "number 3", "number 4", "exit 0", "exit 0"
        ]
    );
}

#[test]
fn a_silent_program_is_not_waited_for_for_ever() {
    assert_eq!(
        play!(silent_program()),
        [
            "Some(\"ready\")",
            "TimedOut, alive: true, [], signal Some(9)",
            "exit 0"
        ]
    );
}

#[test]
fn a_program_ends_as_it_likes() {
    assert_eq!(
        play!(ends()),
        [
            "exit 0, , ",
            "exit 42, , ",
            "signal Some(15), , ",
            "exit 1, out\\n, err\\n",
            "NotFound",
            "PermissionDenied",
            "NotFound",
            "Some(\"deaf\")",
            "BrokenPipe",
            "exit 1",
        ]
    );
}

#[test]
fn a_program_sees_the_surroundings_it_is_given() {
    assert_eq!(play!(surroundings()), ["hello \n/usr\n0\n", "ONLY=this\n"]);
}
