//! A tiny HTTP server, so that the example needs no network. It answers late,
//! so that fetching one by one would show.

use greenring::io::{self, BufRead, BufReader, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::runtime;
use greenring::thread;
use greenring::time::Duration;
use nix::sys::socket::{Backlog, listen};

/// What each answer waits for.
pub const DELAY: Duration = Duration::from_millis(50);

/// Starts the server on an OS thread and a hub of its own, which end with the
/// process.
pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // All clients come at once: more than the 128 that std lets wait.
    listen(&listener, Backlog::new(1024)?)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let served = runtime::Builder::new().run(|| serve(&listener));
        if let Err(error) = served.and_then(|result| result) {
            eprintln!("fetch: the server has ended: {error}");
        }
    });
    Ok(address)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("fetch: a connection to the server failed: {error}");
            }
        });
    }
    Ok(())
}

/// Reads a request and answers it. What its body is depends on the path, and
/// so does which of the three ways HTTP/1.1 has to say where it ends.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    thread::sleep(DELAY);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let number: usize = path.trim_start_matches('/').parse().unwrap_or(0);
    let body = format!("This is the body of {path}.\n").repeat(1 + number % 1000);
    let mut response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n".to_vec();
    match number % 3 {
        0 => write!(response, "Content-Length: {}\r\n\r\n{body}", body.len())?,
        1 => {
            write!(response, "Transfer-Encoding: chunked\r\n\r\n")?;
            for chunk in body.as_bytes().chunks(1000) {
                write!(response, "{:x}\r\n", chunk.len())?;
                response.extend_from_slice(chunk);
                response.extend_from_slice(b"\r\n");
            }
            response.extend_from_slice(b"0\r\n\r\n");
        }
        // The end of the connection.
        _ => write!(response, "\r\n{body}")?,
    }
    stream.write_all(&response)
}
