//! TLS clients and servers as one writes them with rustls and blocking
//! sockets: `StreamOwned` over a `TcpStream`.

use super::sys::io::{self, ErrorKind, Read, Write};
use super::sys::net::{SocketAddr, TcpListener, TcpStream};
use super::sys::sync::{Arc, Barrier, mpsc};
use super::sys::thread;
use super::sys::time::Duration;

use std::hash::{DefaultHasher, Hasher};
use std::ops::DerefMut;

use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData,
    StreamOwned,
};

use crate::identity;

type ClientStream = StreamOwned<ClientConnection, TcpStream>;
type ServerStream = StreamOwned<ServerConnection, TcpStream>;

const CONNECTIONS: u32 = 100;
const MEBIBYTE: usize = 1 << 20;
pub const GREETING: &str = "welcome";

/// Each of many at once sends, half-closes, and is answered with as much.
pub fn a_hundred_connections_send_a_mebibyte_each_way_and_say_goodbye() -> Vec<[String; 3]> {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let config = identity::server();
        let serve = |tcp| {
            let config = Arc::clone(&config);
            thread::spawn(move || answer(shake_server(tcp, config).unwrap()))
        };
        let streams = listener.incoming().take(CONNECTIONS as usize);
        let servers: Vec<_> = streams.map(|tcp| serve(tcp.unwrap())).collect();
        let mut heard: Vec<_> = servers.into_iter().map(|s| s.join().unwrap()).collect();
        heard.sort();
        heard
    });
    let configs = [&TLS12, &TLS13].map(identity::forgetful_client);
    let everybody = Arc::new(Barrier::new(CONNECTIONS as usize));
    let ask = |seed| {
        let config = Arc::clone(&configs[seed as usize % 2]);
        let everybody = Arc::clone(&everybody);
        thread::spawn(move || {
            let stream = shake_client(TcpStream::connect(address).unwrap(), config).unwrap();
            everybody.wait();
            ask(stream, seed)
        })
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(ask).collect();
    let told = clients.into_iter().map(|client| client.join().unwrap());
    let told: Vec<_> = told.collect();
    let heard = server.join().unwrap();
    let both = told.into_iter().zip(heard);
    both.map(|([suite, told], (_, heard))| [suite, told, heard])
        .collect()
}

fn ask(mut stream: ClientStream, seed: u32) -> [String; 2] {
    let suite = format!("{:?}", stream.conn.negotiated_cipher_suite().unwrap());
    stream.write_all(&payload(seed)).unwrap();
    say_goodbye(&mut stream).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == payload(!seed));
    [suite, digest(&answer)]
}

fn answer(mut stream: ServerStream) -> (u32, String) {
    let mut question = Vec::new();
    stream.read_to_end(&mut question).unwrap();
    let seed = u32::from_le_bytes(*question.first_chunk().unwrap());
    stream.write_all(&payload(!seed)).unwrap();
    say_goodbye(&mut stream).unwrap();
    (seed, digest(&question))
}

/// The kind of each handshake of a client that comes twice.
pub fn a_second_visit_resumes_the_session() -> Vec<String> {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let config = identity::server();
        for tcp in listener.incoming().take(2) {
            welcome(shake_server(tcp.unwrap(), Arc::clone(&config)).unwrap()).unwrap();
        }
    });
    let config = identity::client();
    let visit = |_| {
        let tcp = TcpStream::connect(address).unwrap();
        let mut stream = shake_client(tcp, Arc::clone(&config)).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        format!("{:?}", stream.conn.handshake_kind().unwrap())
    };
    let kinds: Vec<_> = (0..2).map(visit).collect();
    server.join().unwrap();
    assert_eq!(kinds, ["Full", "Resumed"]);
    kinds
}

/// What is read from a server that goes without a close_notify, and how it ends.
pub fn a_stream_cut_short_is_told_from_one_that_ended() -> (Vec<u8>, ErrorKind) {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let mut stream = shake_server(tcp, identity::server()).unwrap();
        stream.write_all(b"and so").unwrap();
    });
    let mut stream =
        shake_client(TcpStream::connect(address).unwrap(), identity::client()).unwrap();
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    server.join().unwrap();
    assert_eq!(received, b"and so");
    (received, end.expect_err("a failure").kind())
}

/// What either side is told when the client does not trust the server.
pub fn an_unknown_issuer_is_refused_and_the_server_hears_why() -> [String; 2] {
    let (listener, address) = listen();
    let server = thread::spawn(move || greet(&listener));
    let tcp = TcpStream::connect(address).unwrap();
    let refused = be_greeted(tcp, identity::mistaken_client());
    let heard = server.join().unwrap();
    [refused.unwrap_err(), heard.unwrap_err()].map(|error| error.to_string())
}

/// The client's socket has a read timeout, which passes several times before
/// the server answers; nothing is lost by that.
pub fn a_handshake_that_ran_into_a_time_limit_goes_on() -> (Vec<ErrorKind>, String) {
    let (listener, address) = listen();
    let (go, wait) = mpsc::channel();
    let server = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        wait.recv().unwrap();
        welcome(shake_server(tcp, identity::server()).unwrap()).unwrap();
    });
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let mut connection = ClientConnection::new(identity::client(), identity::name()).unwrap();
    let limited = |_| connection.complete_io(&mut tcp).unwrap_err().kind();
    let kinds = (0..5).map(limited).collect();

    go.send(()).unwrap();
    tcp.set_read_timeout(None).unwrap();
    let mut stream = shake(StreamOwned::new(connection, tcp)).unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).unwrap();
    server.join().unwrap();
    assert_eq!(greeting, GREETING);
    (kinds, greeting)
}

/// Serves one client of [`be_greeted`].
pub fn greet(listener: &TcpListener) -> io::Result<()> {
    let (tcp, _) = listener.accept()?;
    welcome(shake_server(tcp, identity::server())?)
}

/// Makes a handshake and reads a [`GREETING`].
pub fn be_greeted(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<String> {
    let mut stream = shake_client(tcp, config)?;
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting)?;
    Ok(greeting)
}

fn welcome(mut stream: ServerStream) -> io::Result<()> {
    stream.write_all(GREETING.as_bytes())?;
    say_goodbye(&mut stream)
}

/// Says that nothing more will be sent; receiving goes on.
fn say_goodbye<C, S>(stream: &mut StreamOwned<C, TcpStream>) -> io::Result<()>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    stream.conn.send_close_notify();
    stream.flush()
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn shake_client(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<ClientStream> {
    let connection = ClientConnection::new(config, identity::name()).unwrap();
    shake(StreamOwned::new(connection, tcp))
}

fn shake_server(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<ServerStream> {
    shake(StreamOwned::new(
        ServerConnection::new(config).unwrap(),
        tcp,
    ))
}

/// Goes on with a handshake until it is done.
fn shake<C, S>(mut stream: StreamOwned<C, TcpStream>) -> io::Result<StreamOwned<C, TcpStream>>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A mebibyte that begins with its seed.
fn payload(seed: u32) -> Vec<u8> {
    let mut bytes = seed.to_le_bytes().repeat(MEBIBYTE / 4);
    for (block, bytes) in bytes.chunks_mut(1 << 10).enumerate().skip(1) {
        bytes[..4].copy_from_slice(&(block as u32).to_le_bytes());
    }
    bytes
}

/// Length and hash.
fn digest(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{} bytes {:016x}", bytes.len(), hasher.finish())
}
