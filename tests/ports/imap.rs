//! imap's client over the streams of std and of greenring.
//!
//! It is the mail client here because it takes any stream (`Client::new`);
//! those for SMTP that are in use open std's sockets themselves.

greenring_ports::one_source!("imap/port.rs");

greenring_ports::same_answers!(
    a_hundred_sessions_append_and_fetch,
    ninety_nine_idle_until_there_is_mail,
    an_idle_that_times_out_leaves_the_session_of_use,
    a_command_without_an_answer_runs_into_the_time_limit,
    a_refusal_is_told_from_a_lost_connection,
);
