//! What ureq asks for to run over other sockets than std's: a resolver, a
//! connector and a transport. As ureq's own, with other imports.

use super::sys::io::{self, ErrorKind, Read, Write};
use super::sys::net::{Shutdown, TcpStream, ToSocketAddrs};
use super::sys::sync::{Arc, Weak};
use super::sys::time::Duration;

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

#[derive(Debug)]
pub struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(80);
        let mut addresses = self.empty();
        for address in (host, port).to_socket_addrs()?.take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

#[derive(Debug)]
pub struct Tcp;

impl Connector for Tcp {
    type Out = TcpTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<TcpTransport>, Error> {
        let mut error = Error::HostNotFound;
        for address in &details.addrs {
            let connected = match limit(details.timeout) {
                Some(timeout) => TcpStream::connect_timeout(address, timeout),
                None => TcpStream::connect(address),
            };
            match connected {
                Ok(stream) => {
                    stream.set_nodelay(details.config.no_delay())?;
                    let transport = TcpTransport::new(stream, details.config);
                    let stream: Weak<dyn ShutdownHandle> =
                        Arc::<Socket>::downgrade(&transport.socket);
                    (details.register_shutdown)(stream)?;
                    return Ok(Some(transport));
                }
                Err(refusal) => error = named(refusal, details.timeout.reason),
            }
        }
        Err(error)
    }
}

/// Shared with the agent, which may shut it down.
struct Socket(TcpStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // An error means that the connection has ended.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

pub struct TcpTransport {
    socket: Arc<Socket>,
    buffers: LazyBuffers,
}

impl TcpTransport {
    fn new(stream: TcpStream, config: &Config) -> TcpTransport {
        TcpTransport {
            socket: Arc::new(Socket(stream)),
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        }
    }
}

impl std::fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.socket.0.fmt(f)
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let mut stream = &self.socket.0;
        stream.set_write_timeout(limit(timeout))?;
        let output = &self.buffers.output()[..amount];
        let sent = stream.write_all(output);
        sent.map_err(|error| named(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let mut stream = &self.socket.0;
        stream.set_read_timeout(limit(timeout))?;
        let received = stream.read(self.buffers.input_append_buf());
        let amount = received.map_err(|error| named(error, timeout.reason))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Nothing to read and no end: whatever else comes between two calls makes
    /// the connection useless.
    ///
    /// ureq asks this under a std lock. Of greenring's calls also one that does
    /// not wait may let others run, and one of them would want that lock and
    /// stop the hub; so this is recv(2) itself.
    fn is_open(&mut self) -> bool {
        let fd = self.socket.0.as_raw_fd();
        let probe = recv(fd, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        probe == Err(Errno::EAGAIN)
    }
}

fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|duration| *duration)
}

/// A time limit is ureq's to name.
fn named(error: io::Error, limit: Timeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(limit),
        _ => Error::Io(error),
    }
}
