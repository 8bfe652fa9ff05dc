//! epoll by hand, edge-triggered: what a runtime on readiness can reach. One
//! buffer for everybody, a receive and a send for each request, and no second
//! receive after one that did not fill the buffer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::listen;
use crate::echo_harness::Control;

/// Readiness taken at a time.
const EVENTS: usize = 1024;

/// Connections by descriptor; the listener has none.
type Connections = Vec<Option<Connection>>;

struct Connection {
    stream: TcpStream,
    /// What was received and found no room.
    unsent: Vec<u8>,
}

pub fn serve(control: Control) -> io::Result<()> {
    let mut buffer = vec![0; control.load().buffer()];
    let (listener, address) = listen()?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let listening = listener.as_raw_fd() as u64;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, listening))?;
    let enters = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&enters);
    control.listening(address, move || Ok(Some(counted.load(Ordering::Relaxed))))?;
    let mut connections = Connections::new();
    let mut events = [EpollEvent::empty(); EVENTS];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        // Nobody else writes it.
        enters.store(enters.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        for event in &events[..ready] {
            if event.data() == listening {
                accept(&listener, &epoll, &mut connections)?;
                continue;
            }
            let place = &mut connections[event.data() as usize];
            let Some(connection) = place else { continue };
            match connection.echo(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end, in one way or the other, which closes it.
                Ok(()) | Err(_) => *place = None,
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &Epoll, connections: &mut Connections) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let descriptor = stream.as_raw_fd() as usize;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&stream, EpollEvent::new(interest, descriptor as u64))?;
        if connections.len() <= descriptor {
            connections.resize_with(descriptor + 1, || None);
        }
        connections[descriptor] = Some(Connection {
            stream,
            unsent: Vec::new(),
        });
    }
}

impl Connection {
    /// Until the end, or an error: that there is nothing more to do now is
    /// `WouldBlock`.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let sent = self.stream.write(&self.unsent)?;
            self.unsent.drain(..sent);
        }
        loop {
            let received = self.stream.read(buffer)?;
            if received == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..received];
            while !rest.is_empty() {
                match self.stream.write(rest) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(error) => {
                        self.unsent.extend_from_slice(rest);
                        return Err(error);
                    }
                }
            }
            if received < buffer.len() {
                // It has been emptied; what comes from now on is an edge.
                return Err(ErrorKind::WouldBlock.into());
            }
        }
    }
}
