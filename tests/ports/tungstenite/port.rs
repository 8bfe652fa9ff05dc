//! WebSocket clients and servers as one writes them with tungstenite and
//! blocking sockets.

use super::sys::io::Write;
use super::sys::net::{SocketAddr, TcpListener, TcpStream};
use super::sys::sync::{Arc, Barrier, mpsc};
use super::sys::thread;
use super::sys::time::Duration;

use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

const CLIENTS: usize = 100;
const BINARY: usize = 256 << 10;

/// What one end received, message by message, and how it ended.
type Received = Vec<String>;

/// Text, a ping either way, a quarter of a mebibyte, and a farewell; what the clients
/// received, and what the server did.
pub fn a_hundred_clients_are_echoed_and_close() -> [Vec<Received>; 2] {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let streams = listener.incoming().take(CLIENTS);
        let echoes = streams.map(|tcp| thread::spawn(move || echo(tcp.unwrap())));
        let echoes: Vec<_> = echoes.collect();
        let mut received: Vec<_> = echoes.into_iter().map(|e| e.join().unwrap()).collect();
        received.sort();
        received
    });
    let everybody = Arc::new(Barrier::new(CLIENTS));
    let client = |number| {
        let everybody = Arc::clone(&everybody);
        thread::spawn(move || {
            let socket = connect(address);
            everybody.wait();
            converse(socket, number)
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let received = clients.into_iter().map(|client| client.join().unwrap());
    [received.collect(), server.join().unwrap()]
}

fn converse(mut socket: WebSocket<TcpStream>, number: usize) -> Received {
    let mut received = vec![tell(&socket.read().unwrap())];
    let binary: Vec<u8> = (0..BINARY).map(|at| (at % 251 + number) as u8).collect();
    let messages = [
        Message::text(format!("client {number:02} says grüß Gott")),
        Message::Ping(format!("{number}").into()),
        Message::binary(binary),
    ];
    for message in messages {
        socket.send(message.clone()).unwrap();
        let answer = socket.read().unwrap();
        match &message {
            Message::Ping(payload) => assert_eq!(answer, Message::Pong(payload.clone())),
            _ => assert!(answer == message),
        }
        received.push(tell(&answer));
    }
    let farewell = CloseFrame {
        code: CloseCode::Normal,
        reason: format!("{number} has to go").into(),
    };
    socket.close(Some(farewell)).unwrap();
    read_to_end(&mut socket, received)
}

/// Sends back text and binary messages.
fn echo(tcp: TcpStream) -> Received {
    let mut socket = tungstenite::accept(tcp).unwrap();
    socket.send(Message::Ping("anybody?".into())).unwrap();
    let mut received = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(error) => {
                received.push(error.to_string());
                return received;
            }
        };
        received.push(tell(&message));
        if message.is_text() || message.is_binary() {
            socket.send(message).unwrap();
        }
    }
}

/// The middle is reached several times before the rest comes.
pub fn a_frame_outlasts_a_time_limit_in_its_middle() -> Received {
    let (listener, address) = listen();
    let (go, wait) = mpsc::channel();
    let server = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(tcp).unwrap();
        // Unmasked text of five bytes.
        socket.get_mut().write_all(b"\x81\x05pa").unwrap();
        wait.recv().unwrap();
        socket.get_mut().write_all(b"per").unwrap();
        socket.close(None).unwrap();
        read_to_end(&mut socket, Vec::new())
    });
    let mut socket = connect(address);
    let limit = Some(Duration::from_millis(5));
    socket.get_ref().set_read_timeout(limit).unwrap();
    let mut received: Vec<_> = (0..5)
        .map(|_| match socket.read() {
            Err(Error::Io(error)) => error.kind().to_string(),
            result => panic!("half a frame is not {result:?}"),
        })
        .collect();
    go.send(()).unwrap();
    socket.get_ref().set_read_timeout(None).unwrap();
    received.push(tell(&socket.read().unwrap()));
    assert_eq!(received[5], "Text 5 bytes paper");
    let mut received = read_to_end(&mut socket, received);
    received.extend(server.join().unwrap());
    received
}

/// The server answers when the client's time limit has passed several times.
pub fn a_handshake_that_ran_into_a_time_limit_goes_on() -> (u32, Received) {
    let (listener, address) = listen();
    let (go, wait) = mpsc::channel();
    let server = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        wait.recv().unwrap();
        echo(tcp)
    });
    let tcp = TcpStream::connect(address).unwrap();
    let limit = Some(Duration::from_millis(5));
    tcp.set_read_timeout(limit).unwrap();
    let mut interrupted = 0;
    let mut attempt = tungstenite::client("ws://port.test/", tcp);
    let mut socket = loop {
        match attempt {
            Ok((socket, _)) => break socket,
            Err(HandshakeError::Interrupted(unfinished)) => {
                interrupted += 1;
                if interrupted == 5 {
                    go.send(()).unwrap();
                    let tcp = unfinished.get_ref().get_ref();
                    tcp.set_read_timeout(None).unwrap();
                }
                attempt = unfinished.handshake();
            }
            Err(HandshakeError::Failure(error)) => panic!("{error}"),
        }
    };
    socket.close(None).unwrap();
    let mut received = read_to_end(&mut socket, Vec::new());
    received.extend(server.join().unwrap());
    (interrupted, received)
}

/// What the client reads when the server drops the connection in the middle.
pub fn a_server_that_vanishes_is_told_from_one_that_closes() -> Received {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(tcp).unwrap();
        socket.send(Message::text("back in a minute")).unwrap();
    });
    let received = read_to_end(&mut connect(address), Vec::new());
    server.join().unwrap();
    assert_eq!(received.len(), 2);
    received
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect(address: SocketAddr) -> WebSocket<TcpStream> {
    let tcp = TcpStream::connect(address).unwrap();
    let (socket, response) = tungstenite::client("ws://port.test/", tcp).unwrap();
    assert_eq!(response.status(), 101);
    socket
}

/// Adds what still comes, and how it ends.
fn read_to_end(socket: &mut WebSocket<TcpStream>, mut received: Received) -> Received {
    loop {
        match socket.read() {
            Ok(message) => received.push(tell(&message)),
            Err(error) => {
                received.push(error.to_string());
                return received;
            }
        }
    }
}

/// A message's kind, length and beginning.
fn tell(message: &Message) -> String {
    let (kind, text) = match message {
        Message::Text(text) => ("Text", text.to_string()),
        Message::Binary(bytes) => ("Binary", format!("{:?}…", &bytes[..8])),
        Message::Ping(bytes) => ("Ping", format!("{bytes:?}")),
        Message::Pong(bytes) => ("Pong", format!("{bytes:?}")),
        Message::Close(frame) => ("Close", format!("{frame:?}")),
        Message::Frame(frame) => ("Frame", format!("{frame:?}")),
    };
    format!("{kind} {} bytes {text}", message.len())
}
