//! TLS: the handler of a server wraps its stream, and so does a client. Nothing
//! in rustls knows of green threads: it reads and writes by `std::io`'s traits.
//!
//! ```text
//! cargo run --release --example tls               # on 127.0.0.1:7443, until Ctrl-C
//! openssl s_client -quiet -connect 127.0.0.1:7443
//!
//! cargo run --release --example tls -- --smoke    # with clients of its own
//! ```
//!
//! What it shows:
//!
//! - The handshake is part of the handler, so a client that dawdles holds up
//!   nobody else; a time limit ends it.
//! - A certificate is made at the start and known to the clients of `--smoke`.
//! - The end of a connection is said (`close_notify`), so that nobody can cut it
//!   off unnoticed.

use std::error::Error;
use std::ops::DerefMut;
use std::process::ExitCode;
use std::sync::Arc;

use greenring::io::{BufRead, BufReader, Read, Write};
use greenring::net::server::StreamServer;
use greenring::net::{SocketAddr, TcpStream};
use greenring::time::{Duration, timeout};
use greenring::{signal, thread};
use rustls::crypto::ring;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
    ServerConnection, SideData, StreamOwned,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NAME: &str = "localhost";
/// How long a client may take to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: usize = 100;
const LINES: usize = 20;

/// A server's configuration with a certificate made for it, and that of clients
/// who trust this certificate and no other.
fn configure() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())?;
    let mut trusted = RootCertStore::empty();
    trusted.add(cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

// ----- the server ----------------------------------------------------------

/// Shakes hands, then sends back each line in capitals.
fn shout(mut socket: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    let mut session = ServerConnection::new(Arc::clone(config))?;
    timeout(PATIENCE, || session.complete_io(&mut socket))??;
    let mut stream = BufReader::new(StreamOwned::new(session, socket));
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        stream.get_mut().write_all(line.to_uppercase().as_bytes())?;
        line.clear();
    }
    end(stream.get_mut())
}

/// Says that nothing more will come.
fn end<C, D>(stream: &mut StreamOwned<C, TcpStream>) -> Result<()>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

fn serve(address: &str, config: Arc<ServerConfig>) -> Result<StreamServer> {
    let server = StreamServer::bind(address)?;
    server.start(move |stream, peer| {
        if let Err(error) = shout(stream, &config) {
            eprintln!("tls: {peer}: {error}");
        }
    })?;
    Ok(server)
}

// ----- a client ------------------------------------------------------------

/// Sends lines and checks the answers.
fn converse(server: SocketAddr, number: usize, config: Arc<ClientConfig>) -> Result<()> {
    let session = ClientConnection::new(config, ServerName::try_from(NAME)?)?;
    let stream = StreamOwned::new(session, TcpStream::connect(server)?);
    let mut stream = BufReader::new(stream);
    for line in 0..LINES {
        let request = format!("client {number}, line {line}: {}\n", "x".repeat(line * 100));
        stream.get_mut().write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_line(&mut answer)?;
        if answer != request.to_uppercase() {
            return Err(format!("client {number}: the answer to line {line} is wrong").into());
        }
    }
    end(stream.get_mut())?;
    let mut rest = Vec::new();
    // An error if the server ends without saying so.
    stream.read_to_end(&mut rest)?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err("more came than was asked for".into())
    }
}

// ----- both ways to run it -------------------------------------------------

fn smoke() -> Result<()> {
    let (server, client) = configure()?;
    let server = serve("127.0.0.1:0", server)?;
    let address = server.local_addr()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let config = Arc::clone(&client);
            thread::spawn(move || converse(address, number, config))
        })
        .collect();
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    server.stop();
    let stats = server.stats();
    println!(
        "{} connections, {LINES} lines on each: {stats:?}",
        stats.accepted
    );
    Ok(())
}

fn serve_until_interrupted() -> Result<()> {
    let (server, _) = configure()?;
    let server = serve("127.0.0.1:7443", server)?;
    println!("serving TLS on {}; Ctrl-C ends it", server.local_addr()?);
    signal::ctrl_c()?;
    server.stop_timeout(Duration::from_secs(5));
    println!("{:?}", server.stats());
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve_until_interrupted(),
        ["--smoke"] => smoke(),
        _ => {
            eprintln!("usage: tls [--smoke]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}
