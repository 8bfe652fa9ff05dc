//! A blocking HTTP/1.1 client, as one writes it with std. It does not know
//! which runtime it is compiled for: `rt` is std or greenring.

use super::rt::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use super::rt::net::{TcpStream, ToSocketAddrs};
use super::rt::thread;
use super::rt::time::Duration;

/// How long connecting, a read and a write may each take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest line and longest body that are accepted, and most header lines.
const LINE: u64 = 16 * 1024;
const BODY: u64 = 64 * 1024 * 1024;
const HEADERS: usize = 100;

/// Fetches all URLs at once, with a thread for each.
pub fn fetch_all(urls: &[String]) -> Vec<io::Result<Vec<u8>>> {
    let fetching: Vec<_> = urls
        .iter()
        .map(|url| {
            let url = url.clone();
            thread::spawn(move || fetch(&url))
        })
        .collect();
    fetching
        .into_iter()
        .map(|thread| thread.join().expect("a fetch does not panic"))
        .collect()
}

/// Fetches the body of one URL.
pub fn fetch(url: &str) -> io::Result<Vec<u8>> {
    get(url).map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer in {TIMEOUT:?}"),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("{url}: {reason}"))
    })
}

fn get(url: &str) -> io::Result<Vec<u8>> {
    let (authority, path) = split_url(url)?;
    let mut stream = connect(authority)?;
    // In one piece: `write!` to a socket would send a packet for each part.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    read_response(&mut BufReader::new(stream))
}

/// Splits `http://host:port/path` before the path. Fragments are not sent.
pub fn split_url(url: &str) -> io::Result<(&str, &str)> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| invalid("only http:// is spoken here"))?;
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(invalid("a URL has no white space"));
    }
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    if authority.is_empty() || authority.contains(['@', '?']) {
        return Err(invalid("no host, or one with a user or a query"));
    }
    Ok((authority, path))
}

/// Connects to the first address of the host that answers.
fn connect(authority: &str) -> io::Result<TcpStream> {
    let has_port = !authority.ends_with(']') && authority.contains(':');
    let host = if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut failure = invalid("the host has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn read_response(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (status, headers) = loop {
        let head = read_head(stream)?;
        // 1xx announces the response proper.
        if !head.0.starts_with('1') {
            break head;
        }
    };
    if !status.starts_with('2') {
        return Err(io::Error::other(format!("the server answers {status}")));
    }
    let header = |name: &str| {
        let mut same = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.next().map(|(_, value)| value.as_str())
    };
    let mut body = Vec::new();
    if status.starts_with("204") {
        return Ok(body);
    }
    match (header("Transfer-Encoding"), header("Content-Length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => {
            read_chunks(stream, &mut body)?;
        }
        (Some(coding), _) => return Err(malformed("transfer encoding", coding)),
        (None, Some(length)) => {
            let length = parse_length(length, 10)?;
            read_body(stream, length, &mut body)?;
        }
        // The body goes on until the server closes the connection.
        (None, None) => {
            stream.take(BODY + 1).read_to_end(&mut body)?;
            if body.len() as u64 > BODY {
                return Err(invalid("the body is too long"));
            }
        }
    }
    Ok(body)
}

type Headers = Vec<(String, String)>;

/// Reads up to the empty line: what the status line says after the version,
/// and the headers.
fn read_head(stream: &mut impl BufRead) -> io::Result<(String, Headers)> {
    let first = read_line(stream)?;
    let status = match first.split_once(' ') {
        Some(("HTTP/1.1" | "HTTP/1.0", status)) => status.to_owned(),
        _ => return Err(malformed("status line", &first)),
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        if headers.len() == HEADERS {
            return Err(invalid("too many headers"));
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(malformed("header", &line));
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Chunks, each after a line with its length in hexadecimal, until an empty
/// one; then trailers, which nobody wants.
fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let digits = line.split(';').next().unwrap_or(&line);
        let length = parse_length(digits.trim(), 16)?;
        if length == 0 {
            while !read_line(stream)?.is_empty() {}
            return Ok(());
        }
        read_body(stream, length, body)?;
        let end = read_line(stream)?;
        if !end.is_empty() {
            return Err(malformed("end of a chunk", &end));
        }
    }
}

/// Reads exactly `length` bytes more.
fn read_body(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() as u64 + length > BODY {
        return Err(invalid("the body is too long"));
    }
    let read = stream.take(length).read_to_end(body)? as u64;
    if read < length {
        let text = format!("the connection ends {} bytes too early", length - read);
        return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
    }
    Ok(())
}

/// Reads a line, without its end.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(LINE).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    match text.strip_suffix('\n') {
        Some(text) => Ok(text.strip_suffix('\r').unwrap_or(text).to_owned()),
        None if line.len() as u64 == LINE => Err(invalid("a line is too long")),
        None => Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the connection ends within the response",
        )),
    }
}

fn parse_length(digits: &str, radix: u32) -> io::Result<u64> {
    match u64::from_str_radix(digits, radix) {
        Ok(length) if !digits.starts_with('+') && length <= BODY => Ok(length),
        _ => Err(malformed("length", digits)),
    }
}

fn malformed(what: &str, text: &str) -> io::Error {
    invalid(&format!("{what} not understood: {text:?}"))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}
