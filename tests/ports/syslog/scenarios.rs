//! What is logged. The kernel drops datagrams that it has no room for: no
//! scenario sends more at once than fits into a socket.

use super::collector::{Collector, Entry};
use super::logger::{Background, Logger, Severity};
use super::sys::io;
use super::sys::net::UdpSocket;
use super::sys::thread;
use super::sys::time::Duration;

/// What the scenarios return, as text.
pub type Outcome = io::Result<Vec<String>>;

const PATIENT: Duration = Duration::from_secs(60);
const IMPATIENT: Duration = Duration::from_millis(30);

const SEVERITIES: [Severity; 4] = [
    Severity::Error,
    Severity::Warning,
    Severity::Notice,
    Severity::Debug,
];

fn show(entries: Vec<Entry>) -> Vec<String> {
    entries
        .into_iter()
        .map(
            |Entry {
                 severity,
                 host,
                 program,
                 message,
             }| { format!("{severity} {host} {program}: {message}") },
        )
        .collect()
}

/// Sixteen senders, four threads that collect, and a second collector behind
/// them for what is grave.
pub fn many_senders() -> Outcome {
    let pager = Collector::start(1, Severity::Error as u8, None)?;
    let collector = Collector::start(4, Severity::Notice as u8, Some(pager.address()?))?;
    let address = collector.address()?;
    let senders: Vec<_> = (0..16)
        .map(|n| {
            thread::spawn(move || -> io::Result<()> {
                let mut logger = Logger::new(vec![address], &format!("host{n:02}"), "sender")?;
                for (number, severity) in SEVERITIES.into_iter().cycle().take(8).enumerate() {
                    logger.log(severity, &format!("message {number}, größer"))?;
                }
                Ok(())
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap()?;
    }
    // The datagrams lie in the collector's socket before the bell does.
    let mut outcome = show(collector.stop()?);
    outcome.push("of which are grave:".into());
    outcome.extend(show(pager.stop()?));
    Ok(outcome)
}

/// The longest datagram there is, one that is longer, and nonsense.
pub fn odd_messages() -> Outcome {
    let collector = Collector::start(1, 7, None)?;
    let address = collector.address()?;
    let mut logger = Logger::new(vec![address], "host", "odd")?;
    let header = "<27>1 - host odd - - - ".len();
    let longest = 65507 - header;
    logger.log(Severity::Error, &"x".repeat(longest))?;
    let refused = logger
        .log(Severity::Error, &"x".repeat(longest + 1))
        .unwrap_err();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for nonsense in [
        b"nonsense".as_slice(),
        b"\xff\xfe",
        b"<14>1",
        b"<x>1 - a b - - - c",
    ] {
        socket.send_to(nonsense, address)?;
    }
    let lengths = collector
        .stop()?
        .into_iter()
        .map(|entry| entry.message.len().to_string());
    Ok([format!("{:?}", refused.raw_os_error())]
        .into_iter()
        .chain(lengths)
        .collect())
}

/// The first collector has gone: its host tells, and the second is taken.
pub fn failover() -> Outcome {
    let gone = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let collector = Collector::start(1, 7, None)?;
    let mut logger = Logger::new(vec![gone, collector.address()?], "host", "moving")?;
    let mut refused = Vec::new();
    for n in 0..3 {
        logger.log(Severity::Notice, &format!("message {n}"))?;
        // The refusal comes at once; for none we do not wait long.
        let patience = if n == 0 { PATIENT } else { IMPATIENT };
        refused.push(logger.is_refused(patience)?);
    }
    let mut outcome = show(collector.stop()?);
    outcome.push(format!("{refused:?}"));
    let mut lonely = Logger::new(vec![gone], "host", "lonely")?;
    lonely.log(Severity::Notice, "into the void")?;
    let error = loop {
        if let Err(error) = lonely.log(Severity::Notice, "into the void") {
            break error;
        }
    };
    outcome.push(format!("{:?}", error.kind()));
    Ok(outcome)
}

/// A queue before the sender: who logs never waits.
pub fn background() -> Outcome {
    let collector = Collector::start(2, 7, None)?;
    let logger = Logger::new(vec![collector.address()?], "host", "background")?;
    let mut background = Background::new(logger, 100);
    for n in 0..100 {
        background.log(SEVERITIES[n % 4], format!("message {n:03}"));
    }
    let lost = background.finish()?;
    let mut outcome = show(collector.stop()?);
    outcome.push(format!("{lost} lost"));
    Ok(outcome)
}

/// A collector of its own that does not wait for ever, and looks before it
/// takes; a datagram that does not fit is cut.
pub fn patience_and_peeking() -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(IMPATIENT))?;
    let mut buffer = [0; 30];
    let error = socket.recv_from(&mut buffer).unwrap_err();
    let mut outcome = vec![format!("{:?}", error.kind())];
    let mut logger = Logger::new(vec![socket.local_addr()?], "host", "peeked")?;
    for message in ["a", "which is too long", "b"] {
        logger.log(Severity::Debug, message)?;
    }
    for _ in 0..3 {
        let (peeked, from) = socket.peek_from(&mut buffer)?;
        let (received, again) = socket.recv_from(&mut buffer)?;
        assert_eq!((peeked, from), (received, again));
        outcome.push(String::from_utf8_lossy(&buffer[..received]).into_owned());
    }
    Ok(outcome)
}
