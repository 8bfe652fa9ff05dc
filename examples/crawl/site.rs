//! The site: a server whose pages link to each other, and which has all the
//! faults that a crawler meets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use greenring::io::{self, BufRead, BufReader, Read, Write};
use greenring::net::{SocketAddr, TcpListener, TcpStream};
use greenring::time::Duration;
use greenring::{runtime, thread};
use nix::sys::socket::{Backlog, listen};

struct Site {
    pages: usize,
    /// How often each page was asked for.
    requests: RefCell<HashMap<usize, usize>>,
}

/// Serves a site of so many pages, on an OS thread and a hub of its own, which
/// end with the process.
pub fn start(pages: usize) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // More may come at once than the 128 that std lets wait.
    listen(&listener, Backlog::new(1024)?)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let served = runtime::Builder::new().run(|| serve(&listener, pages));
        if let Err(error) = served.flatten() {
            eprintln!("crawl: the site has ended: {error}");
        }
    });
    Ok(address)
}

fn serve(listener: &TcpListener, pages: usize) -> io::Result<()> {
    let site = Rc::new(Site {
        pages,
        requests: RefCell::default(),
    });
    for stream in listener.incoming() {
        let (site, stream) = (Rc::clone(&site), stream?);
        thread::spawn(move || {
            // Crawlers hang up while they wait; that is no matter to report.
            let _ = site.answer(&stream);
        });
    }
    Ok(())
}

impl Site {
    fn answer(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (status, body) = match self.page_at(path) {
            None => ("404 Not Found", String::new()),
            Some(page) => {
                let before = self.count_request(page);
                // An answer takes its time, here and there a lot.
                let delay = if page % 10 == 3 { 60 } else { 5 + page % 15 };
                thread::sleep(Duration::from_millis(delay as u64));
                match page {
                    // Does not answer the first time, but waits for the end.
                    _ if page % 25 == 7 && before == 0 => {
                        return stream.read_to_end(&mut Vec::new()).map(drop);
                    }
                    // Hangs up the first time.
                    _ if page % 40 == 11 && before == 0 => return Ok(()),
                    _ if page % 9 == 4 && before < 2 => ("503 Service Unavailable", String::new()),
                    _ => ("200 OK", self.body(page)),
                }
            }
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())
    }

    /// The page with this path, if there is one.
    fn page_at(&self, path: &str) -> Option<usize> {
        let page = match path {
            "/" => 0,
            _ => path.strip_prefix("/page/")?.parse().ok()?,
        };
        (page < self.pages).then_some(page)
    }

    /// How often the page was asked for before.
    fn count_request(&self, page: usize) -> usize {
        let mut requests = self.requests.borrow_mut();
        let count = requests.entry(page).or_default();
        *count += 1;
        *count - 1
    }

    /// Every page can be reached by the first two links, as in a binary tree.
    /// One more link leads anywhere, and now and then one to nothing.
    fn body(&self, page: usize) -> String {
        let links = [2 * page + 1, 2 * page + 2, page * 7 % self.pages];
        let links = links.iter().filter(|link| (1..self.pages).contains(link));
        let mut body: String = links
            .map(|link| format!("<a href=\"/page/{link}\">page {link}</a>\n"))
            .collect();
        if page.is_multiple_of(50) {
            body += &format!("<a href=\"/lost/{page}\">lost</a>\n");
        }
        body + &"There is more to say.\n".repeat(page * 37 % 400)
    }
}
