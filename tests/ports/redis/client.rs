//! A client of redis: one connection, commands in order, replies in order.

use std::collections::VecDeque;

use super::sys::io::{self, BufRead, BufReader, BufWriter, Write};
use super::sys::net::{SocketAddr, TcpStream};
use super::sys::sync::mpsc;
use super::sys::thread;
use super::sys::time::Duration;

/// What redis answers, in RESP2.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Nil,
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
}

/// A connection that waits for its replies.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
    /// Commands written whose replies have not been read.
    outstanding: usize,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Nothing here takes that long, except when something is wrong.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client {
            writer: BufWriter::new(stream.try_clone()?),
            reader: BufReader::new(stream),
            outstanding: 0,
        })
    }

    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(timeout)
    }

    /// Sends one command and waits for its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Reply> {
        self.send(command)?;
        self.writer.flush()?;
        self.receive()
    }

    /// Puts a command into the pipeline.
    pub fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<()> {
        write_command(&mut self.writer, command)?;
        self.outstanding += 1;
        Ok(())
    }

    /// Sends the pipeline off and waits for all its replies.
    pub fn finish(&mut self) -> io::Result<Vec<Reply>> {
        self.writer.flush()?;
        (0..self.outstanding).map(|_| self.receive()).collect()
    }

    /// The next reply, or the next message of a subscriber.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let reply = read_reply(&mut self.reader)?;
        self.outstanding = self.outstanding.saturating_sub(1);
        Ok(reply)
    }
}

fn write_command<A: AsRef<[u8]>>(writer: &mut impl Write, command: &[A]) -> io::Result<()> {
    write!(writer, "*{}\r\n", command.len())?;
    for argument in command {
        let argument = argument.as_ref();
        write!(writer, "${}\r\n", argument.len())?;
        writer.write_all(argument)?;
        writer.write_all(b"\r\n")?;
    }
    Ok(())
}

fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(line) = line.strip_suffix("\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let (kind, rest) = line.split_at_checked(1).ok_or_else(malformed)?;
    let number = || rest.parse::<i64>().map_err(|_| malformed());
    Ok(match kind {
        "+" => Reply::Status(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Integer(number()?),
        "$" => match usize::try_from(number()?) {
            Ok(len) => {
                let mut bytes = vec![0; len + 2];
                reader.read_exact(&mut bytes)?;
                bytes.truncate(len);
                Reply::Bulk(bytes)
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(len) => Reply::Array(
                (0..len)
                    .map(|_| read_reply(reader))
                    .collect::<Result<_, _>>()?,
            ),
            Err(_) => Reply::Nil,
        },
        _ => return Err(malformed()),
    })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not RESP")
}

type Answer = io::Result<Reply>;

/// A connection that many share: one thread writes, one reads, and each caller
/// waits for its own reply only.
pub struct Shared {
    calls: mpsc::Sender<(Vec<Vec<u8>>, mpsc::Sender<Answer>)>,
}

impl Shared {
    pub fn connect(address: SocketAddr) -> io::Result<Shared> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = BufWriter::new(stream);
        let (calls, incoming) = mpsc::channel::<(Vec<Vec<u8>>, mpsc::Sender<Answer>)>();
        let (written, unanswered) = mpsc::sync_channel::<mpsc::Sender<Answer>>(64);
        thread::spawn(move || -> io::Result<()> {
            // Takes what has gathered before it flushes: callers at the same
            // time share a packet.
            let mut batch = VecDeque::new();
            while let Ok(call) = incoming.recv() {
                batch.push_back(call);
                batch.extend(incoming.try_iter().take(63));
                let callers: Vec<_> = batch
                    .drain(..)
                    .map(|(command, caller)| write_command(&mut writer, &command).map(|()| caller))
                    .collect::<Result<_, _>>()?;
                writer.flush()?;
                for caller in callers {
                    if written.send(caller).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        thread::spawn(move || {
            for caller in unanswered {
                let answer = read_reply(&mut reader);
                let is_over = answer.is_err();
                // A caller that has gone does not want its reply.
                let _ = caller.send(answer);
                if is_over {
                    break;
                }
            }
        });
        Ok(Shared { calls })
    }

    pub fn call(&self, command: &[&str]) -> Answer {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let command = command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let (caller, answer) = mpsc::channel();
        self.calls.send((command, caller)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}
