//! What the clients do to the server; each has a server of its own.

use super::client::{Client, Mode};
use super::server::{ENDLESS, PASSWORD, Server};
use super::sys::io::{self, Read};
use super::sys::thread;
use super::sys::time::Duration;

/// What the scenarios return, as text.
pub type Outcome = io::Result<Vec<String>>;

/// Longer than any of the scenarios takes.
const PATIENT: Duration = Duration::from_secs(60);

/// Fifty clients at once store, list, fetch and delete, half in each mode.
pub fn many_transfers() -> Outcome {
    let server = Server::start(PATIENT)?;
    let address = server.address();
    let clients: Vec<_> = (0..50usize)
        .map(|n| {
            thread::spawn(move || -> Outcome {
                let mode = if n % 2 == 0 {
                    Mode::Passive
                } else {
                    Mode::Active
                };
                let mut client = Client::connect(address, mode)?;
                client.login(&format!("user{n}"), PASSWORD)?;
                let file: Vec<u8> = (0..300_000 + n).map(|i| (i * n % 256) as u8).collect();
                client.store(&format!("{n:02}/large"), &file)?;
                client.store(&format!("{n:02}/empty"), b"")?;
                client.call(&format!("SIZE {n:02}/large"))?;
                let list = client
                    .retrieve(&format!("LIST {n:02}/"))?
                    .unwrap_or_default();
                let fetched = client.retrieve(&format!("RETR {n:02}/large"))?;
                client.call(&format!("DELE {n:02}/large"))?;
                client.call(&format!("SIZE {n:02}/large"))?;
                let mut said = client.quit()?;
                said.push(String::from_utf8_lossy(&list).into_owned());
                said.push((fetched == Some(file)).to_string());
                Ok(said)
            })
        })
        .collect();
    let mut outcome = Vec::new();
    for client in clients {
        outcome.push(client.join().unwrap()?.join("\n"));
    }
    outcome.push(server.stop()?.to_string());
    Ok(outcome)
}

/// Transfers that would never end are aborted, in both directions.
pub fn aborted_transfers() -> Outcome {
    let server = Server::start(PATIENT)?;
    let mut outcome = Vec::new();
    for mode in [Mode::Passive, Mode::Active] {
        let mut client = Client::connect(server.address(), mode)?;
        client.login("impatient", PASSWORD)?;
        // The server waits in a write, for us to read on.
        let mut data = client
            .open(&format!("RETR {ENDLESS}"))?
            .expect("it is there");
        let mut begin = [0; 100_000];
        data.read_exact(&mut begin)?;
        client.call("ABOR")?;
        client.reply()?;
        drop(data);
        // The server waits in a read, for us to write.
        let data = client.open("STOR never")?.expect("it may be stored");
        client.call("ABOR")?;
        client.reply()?;
        drop(data);
        client.call("ABOR")?;
        client.call("NOOP")?;
        outcome.extend(client.quit()?);
        outcome.push(String::from_utf8_lossy(&begin[..10]).into_owned());
    }
    outcome.push(server.stop()?.to_string());
    Ok(outcome)
}

/// Clients that hang up, with a transfer under way too: the server ends.
pub fn lost_clients() -> Outcome {
    let server = Server::start(PATIENT)?;
    let clients: Vec<_> = (0..10)
        .map(|n| {
            let address = server.address();
            thread::spawn(move || -> io::Result<()> {
                let mut client = Client::connect(address, Mode::Passive)?;
                client.login("fleeting", PASSWORD)?;
                if n % 2 == 0 {
                    drop(client.open(&format!("RETR {ENDLESS}"))?);
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap()?;
    }
    Ok(vec![server.stop()?.to_string()])
}

/// The server's own time limit sends a silent client away.
pub fn silent_client() -> Outcome {
    let server = Server::start(Duration::from_millis(50))?;
    let mut client = Client::connect(server.address(), Mode::Passive)?;
    client.reply()?;
    let end = client.reply().unwrap_err();
    let mut outcome = std::mem::take(&mut client.said);
    outcome.push(format!("{:?}", end.kind()));
    outcome.push(server.stop()?.to_string());
    Ok(outcome)
}

/// What the server declines.
pub fn refusals() -> Outcome {
    let server = Server::start(PATIENT)?;
    let mut client = Client::connect(server.address(), Mode::Active)?;
    client.call("LIST")?;
    client.login("stranger", "guess")?;
    client.login("friend", PASSWORD)?;
    client.call("RETR nothing")?;
    client.call(&format!("RETR {ENDLESS}"))?;
    client.call("PORT 1,2,3")?;
    // Nobody listens at the discard port.
    client.call("PORT 127,0,0,1,0,9")?;
    client.call("LIST")?;
    client.call("MKD directory")?;
    let mut outcome = client.quit()?;
    outcome.push(server.stop()?.to_string());
    Ok(outcome)
}
