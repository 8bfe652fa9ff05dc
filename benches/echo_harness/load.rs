//! A load: how many connections there are, and what goes over them.

use std::fmt;
use std::str::FromStr;

/// What a generator sends, and so what a server has to bear.
///
/// As text it is `CONNECTIONS:BYTES:PIPELINING`, of which the ends may be left
/// out (64 bytes, one request at a time); `connect` in the third place stands for a
/// connection per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open at a time.
    pub connections: usize,
    /// Bytes of a request, and of its reply.
    pub payload: usize,
    /// Requests that are sent at once; then the replies to all of them come.
    pub pipelining: usize,
    /// Every request comes on a connection of its own.
    pub connect_per_request: bool,
}

/// Bytes of a request unless told otherwise.
const PAYLOAD: usize = 64;

/// A stamp at its beginning tells each request from all others.
pub const LEAST_PAYLOAD: usize = 8;

/// On a connection of its own a request is sent whole before the reply is
/// waited for: it must fit the sockets' buffers.
const MOST_TO_CONNECT: usize = 16 * 1024;

impl Load {
    /// Bytes that are sent at once.
    pub fn burst(&self) -> usize {
        self.payload * self.pipelining
    }

    /// For people.
    pub fn name(&self) -> String {
        let size = match self.payload {
            bytes if bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
            bytes => format!("{bytes} B"),
        };
        let pipelined = match self.pipelining {
            1 => String::new(),
            depth => format!(" x {depth} pipelined"),
        };
        let connections = match self.connections {
            _ if self.connect_per_request => {
                format!("connect per request, {} at a time", self.connections)
            }
            1 => "1 connection".to_owned(),
            many => format!("{many} connections"),
        };
        format!("{size}{pipelined}, {connections}")
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.connections, self.payload)?;
        match self.connect_per_request {
            true => f.write_str("connect"),
            false => write!(f, "{}", self.pipelining),
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Load, String> {
        let mut parts = text.split(':');
        let mut number = |absent: usize| match parts.next() {
            None => Ok((absent, false)),
            Some("connect") => Ok((1, true)),
            Some(part) => match part.parse() {
                Ok(number) if number > 0 => Ok((number, false)),
                _ => Err(format!("{text}: '{part}' is no number above zero")),
            },
        };
        let (connections, _) = number(1)?;
        let (payload, _) = number(PAYLOAD)?;
        let (pipelining, connect_per_request) = number(1)?;
        let load = Load {
            connections,
            payload,
            pipelining,
            connect_per_request,
        };
        if payload < LEAST_PAYLOAD || connect_per_request && load.burst() > MOST_TO_CONNECT {
            return Err(format!("{text}: not with {payload} bytes"));
        }
        Ok(load)
    }
}
