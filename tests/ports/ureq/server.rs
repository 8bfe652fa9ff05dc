//! A small HTTP/1.1 server with a thread for each connection, which counts the
//! requests of each.

use super::sys::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use super::sys::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use super::sys::sync::atomic::{AtomicBool, Ordering};
use super::sys::sync::{Arc, Barrier, mpsc};
use super::sys::thread::{self, JoinHandle};

pub struct Server {
    address: SocketAddr,
    /// Hears of the requests that nobody answers, and of connections left.
    pub arrived: mpsc::Receiver<()>,
    /// Where requests for `/meet` and `/deaf` wait.
    pub meeting: Arc<Barrier>,
    stopping: Arc<AtomicBool>,
    accepting: JoinHandle<Vec<JoinHandle<usize>>>,
}

/// What the connections share.
#[derive(Clone)]
struct House {
    arrivals: mpsc::Sender<()>,
    meeting: Arc<Barrier>,
}

impl Server {
    /// `party` is how many wait for each other at the meeting.
    pub fn start(party: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrivals, arrived) = mpsc::channel();
        let meeting = Arc::new(Barrier::new(party));
        let house = House {
            arrivals,
            meeting: Arc::clone(&meeting),
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stopping);
        let accepting = thread::spawn(move || {
            let streams = listener.incoming().map(|stream| stream.unwrap());
            let until_stopped = streams.take_while(|_| !stopped.load(Ordering::Relaxed));
            let serve = |stream| {
                let house = house.clone();
                thread::spawn(move || serve(stream, &house))
            };
            until_stopped.map(serve).collect()
        });
        Server {
            address,
            arrived,
            meeting,
            stopping,
            accepting,
        }
    }

    /// By name, so that names are resolved.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    /// Waits for the end of all connections; how many requests each brought,
    /// in the order of their coming.
    pub fn stop(self) -> Vec<usize> {
        self.stopping.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).unwrap();
        let connections = self.accepting.join().unwrap();
        let ends = connections.into_iter().map(|served| served.join().unwrap());
        ends.collect()
    }
}

fn serve(stream: TcpStream, house: &House) -> usize {
    let mut stream = BufReader::new(stream);
    let mut requests = 0;
    loop {
        match Request::read(&mut stream) {
            Ok(Some(request)) => requests += request.answer(&mut stream, house),
            Ok(None) => return requests,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return requests,
            Err(error) => panic!("{error}"),
        }
    }
}

struct Request {
    path: String,
    body: Vec<u8>,
}

impl Request {
    /// The next one, or none when the client has gone.
    fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut length = None;
        let mut chunked = false;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = Some(value.parse().unwrap()),
                Some(("transfer-encoding", "chunked")) => chunked = true,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        if chunked && path != "/deaf" {
            body = read_chunks(stream)?;
        }
        Ok(Some(Request { path, body }))
    }

    /// How many requests that was.
    fn answer(self, reader: &mut BufReader<TcpStream>, house: &House) -> usize {
        let mut stream = reader.get_ref();
        match self
            .path
            .trim_start_matches('/')
            .split('/')
            .collect::<Vec<_>>()[..]
        {
            ["hello", name] => {
                let text = format!("hello {name}");
                let length = text.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
            ["echo"] => write_chunks(stream, &self.body).unwrap(),
            ["meet"] => {
                house.meeting.wait();
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nmet";
                stream.write_all(head).unwrap();
            }
            ["last"] => {
                let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ngoodbye";
                stream.write_all(head).unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
            }
            ["hangup"] => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(head).unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
                house.arrivals.send(()).unwrap();
            }
            ["half"] => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";
                stream.write_all(head).unwrap();
            }
            ["silence"] => {}
            ["never"] => house.arrivals.send(()).unwrap(),
            ["deaf"] => {
                house.meeting.wait();
                stream.shutdown(Shutdown::Both).unwrap();
                io::copy(reader, &mut io::sink()).ok();
            }
            ref path => panic!("nothing is at {path:?}"),
        }
        1
    }
}

fn read_chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim_end(), 16).unwrap();
        stream.by_ref().take(length).read_to_end(&mut body)?;
        stream.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

/// Answers in chunks of one byte, two bytes, four …
fn write_chunks(stream: &TcpStream, body: &[u8]) -> io::Result<()> {
    let mut stream = BufWriter::new(stream);
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let (mut rest, mut length) = (body, 1);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(length.min(rest.len()));
        write!(stream, "{:x}\r\n", chunk.len())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
        (rest, length) = (behind, length * 2);
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}
