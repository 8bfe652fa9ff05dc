//! The client: it keeps the server's replies, less what is different each time.

use super::sys::io::{self, BufRead, BufReader, Read, Write};
use super::sys::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use super::sys::time::Duration;

/// Who opens the data connection.
#[derive(Clone, Copy)]
pub enum Mode {
    Passive,
    Active,
}

pub struct Client {
    reader: BufReader<TcpStream>,
    mode: Mode,
    /// What the server has said.
    pub said: Vec<String>,
}

impl Client {
    pub fn connect(address: SocketAddr, mode: Mode) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Nothing here takes that long, except when something is wrong.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let reader = BufReader::new(stream);
        let mut client = Client {
            reader,
            mode,
            said: Vec::new(),
        };
        client.reply()?;
        Ok(client)
    }

    pub fn login(&mut self, user: &str, password: &str) -> io::Result<bool> {
        self.call(&format!("USER {user}"))?;
        Ok(self.call(&format!("PASS {password}"))?.starts_with("230"))
    }

    pub fn call(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.reply()
    }

    pub fn send(&mut self, command: &str) -> io::Result<()> {
        // One write, one packet.
        let line = format!("{command}\r\n");
        self.reader.get_mut().write_all(line.as_bytes())
    }

    pub fn reply(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reply = line.trim_end().to_owned();
        // Ports are different each time.
        let shown = reply.split(" (").next().unwrap_or_default();
        self.said.push(shown.to_owned());
        Ok(reply)
    }

    /// Opens a data connection for `command`; `None` if the server declines.
    pub fn open(&mut self, command: &str) -> io::Result<Option<TcpStream>> {
        match self.mode {
            Mode::Passive => {
                let reply = self.call("PASV")?;
                let address = passive_address(&reply).ok_or(io::ErrorKind::InvalidData)?;
                self.send(command)?;
                // The server takes it up, or closes its listener and refuses.
                let stream = TcpStream::connect(address)?;
                Ok(self.reply()?.starts_with("150").then_some(stream))
            }
            Mode::Active => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let port = listener.local_addr()?.port();
                self.call(&format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255))?;
                if !self.call(command)?.starts_with("150") {
                    return Ok(None);
                }
                Ok(Some(listener.accept()?.0))
            }
        }
    }

    pub fn retrieve(&mut self, command: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut stream) = self.open(command)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        self.reply()?;
        Ok(Some(bytes))
    }

    pub fn store(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut stream) = self.open(&format!("STOR {name}"))? {
            stream.write_all(bytes)?;
            stream.shutdown(Shutdown::Write)?;
            self.reply()?;
        }
        Ok(())
    }

    /// Takes leave, waits for the server's end, and returns what it has said.
    pub fn quit(mut self) -> io::Result<Vec<String>> {
        self.call("QUIT")?;
        let rest = self.reader.read_to_end(&mut Vec::new())?;
        assert_eq!(rest, 0, "nothing is said after the good-bye");
        Ok(self.said)
    }
}

fn passive_address(reply: &str) -> Option<SocketAddr> {
    let numbers = reply.split_once('(')?.1.strip_suffix(')')?;
    let numbers: Option<Vec<u8>> = numbers.split(',').map(|n| n.parse().ok()).collect();
    let [a, b, c, d, high, low] = numbers?.try_into().ok()?;
    Some(SocketAddr::from((
        [a, b, c, d],
        u16::from_be_bytes([high, low]),
    )))
}
