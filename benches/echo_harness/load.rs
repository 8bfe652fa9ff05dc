//! A load: how many connections there are, and what goes over them.

use std::fmt;
use std::str::FromStr;

use super::BUFFER;

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

    /// Bytes of the buffer that a server reads a connection into, the same for
    /// everybody: a large request fits.
    pub fn buffer(&self) -> usize {
        BUFFER.max(self.payload)
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
        let number = |part: &str| match part.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{text}: '{part}' is no number above zero")),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (connections, payload, last) = match parts[..] {
            [connections] => (number(connections)?, PAYLOAD, "1"),
            [connections, payload] => (number(connections)?, number(payload)?, "1"),
            [connections, payload, last] => (number(connections)?, number(payload)?, last),
            _ => return Err(format!("{text}: not CONNECTIONS:BYTES:PIPELINING")),
        };
        let connect_per_request = last == "connect";
        let pipelining = if connect_per_request {
            1
        } else {
            number(last)?
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_as_it_is_written() {
        for text in ["50:64:1", "10000:65536:1", "50:64:16", "8:64:connect"] {
            assert_eq!(text.parse::<Load>().unwrap().to_string(), text);
        }
        assert_eq!("50".parse(), "50:64:1".parse::<Load>());
    }

    #[test]
    fn what_is_no_load_is_refused() {
        for text in [
            "",
            "0",
            "50:7",
            "50:64:0",
            "connect",
            "50:64:1:1",
            "50:65536:connect",
        ] {
            assert!(text.parse::<Load>().is_err(), "{text}");
        }
    }
}
