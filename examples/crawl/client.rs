//! A small HTTP client, with nothing in it of limits or of trying again: that
//! is the crawler's affair.

use greenring::io::{self, Error, ErrorKind, Read, Write};
use greenring::net::{SocketAddr, TcpStream};

/// The longest response that is accepted.
const LONGEST: u64 = 4 * 1024 * 1024;

pub struct Page {
    pub bytes: usize,
    /// Paths on the same site.
    pub links: Vec<String>,
}

/// Fetches a page.
///
/// # Errors
///
/// `NotFound` if the server has no such page. All others may pass.
pub fn get(server: SocketAddr, path: &str) -> io::Result<Page> {
    let mut stream = TcpStream::connect(server)?;
    // In one piece: `write!` to a socket would send a packet for each part.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.take(LONGEST).read_to_string(&mut response)?;

    let (head, body) = response
        .split_once("\r\n\r\n")
        .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => {}
        Some("404") => return Err(Error::new(ErrorKind::NotFound, "there is no such page")),
        _ => return Err(Error::other(format!("the server answers {status:?}"))),
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    if length != Some(body.len().to_string().as_str()) {
        return Err(Error::new(
            ErrorKind::UnexpectedEof,
            "a part of the page is missing",
        ));
    }
    Ok(Page {
        bytes: body.len(),
        links: links(body),
    })
}

/// What the links of a page point to.
fn links(body: &str) -> Vec<String> {
    let links = body.split("href=\"").skip(1);
    links
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}
