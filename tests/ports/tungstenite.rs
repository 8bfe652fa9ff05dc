//! tungstenite, client and server, over the streams of std and of greenring.

greenring_ports::one_source!("tungstenite/port.rs");

greenring_ports::same_answers!(
    a_hundred_clients_are_echoed_and_close,
    a_frame_outlasts_a_time_limit_in_its_middle,
    a_handshake_that_ran_into_a_time_limit_goes_on,
    a_server_that_vanishes_is_told_from_one_that_closes,
);
