//! `SocketAddr` <-> the kernel's form of it.
//!
//! A [`SocketName`] is bytes in the layout of `sockaddr_in` (ip(7)) or
//! `sockaddr_in6` (ipv6(7)): port and address in network byte order, the
//! family, the flow information and the scope as the kernel handed them over,
//! which is what std does with them too.

use std::array;
use std::io;
use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::backend::SocketName;

const INET: sa_family_t = libc::AF_INET as sa_family_t;
const INET6: sa_family_t = libc::AF_INET6 as sa_family_t;

/// The kernel's form of an address, for connect(2).
pub(crate) fn encode(address: &SocketAddr) -> SocketName {
    let mut name = SocketName::empty();
    let mut put = |offset: usize, bytes: &[u8]| {
        name.storage[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let length = match address {
        SocketAddr::V4(v4) => {
            put(offset_of!(sockaddr_in, sin_family), &INET.to_ne_bytes());
            put(offset_of!(sockaddr_in, sin_port), &v4.port().to_be_bytes());
            put(offset_of!(sockaddr_in, sin_addr), &v4.ip().octets());
            size_of::<sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let flow = v6.flowinfo().to_ne_bytes();
            let scope = v6.scope_id().to_ne_bytes();
            put(offset_of!(sockaddr_in6, sin6_family), &INET6.to_ne_bytes());
            put(
                offset_of!(sockaddr_in6, sin6_port),
                &v6.port().to_be_bytes(),
            );
            put(offset_of!(sockaddr_in6, sin6_flowinfo), &flow);
            put(offset_of!(sockaddr_in6, sin6_addr), &v6.ip().octets());
            put(offset_of!(sockaddr_in6, sin6_scope_id), &scope);
            size_of::<sockaddr_in6>()
        }
    };
    name.length = length as socklen_t;
    name
}

/// What the kernel wrote, for accept(2).
///
/// # Errors
///
/// `InvalidInput`: it is no address of the Internet, because the descriptor is
/// a socket of another family.
pub(crate) fn decode(name: &SocketName) -> io::Result<SocketAddr> {
    let length = name.length as usize;
    let family = sa_family_t::from_ne_bytes(bytes(name, offset_of!(sockaddr, sa_family)));
    if family == INET && length >= size_of::<sockaddr_in>() {
        let ip: [u8; 4] = bytes(name, offset_of!(sockaddr_in, sin_addr));
        let port = u16::from_be_bytes(bytes(name, offset_of!(sockaddr_in, sin_port)));
        Ok(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
    } else if family == INET6 && length >= size_of::<sockaddr_in6>() {
        let ip: [u8; 16] = bytes(name, offset_of!(sockaddr_in6, sin6_addr));
        let port = u16::from_be_bytes(bytes(name, offset_of!(sockaddr_in6, sin6_port)));
        let flow = u32::from_ne_bytes(bytes(name, offset_of!(sockaddr_in6, sin6_flowinfo)));
        let scope = u32::from_ne_bytes(bytes(name, offset_of!(sockaddr_in6, sin6_scope_id)));
        Ok(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "invalid argument",
        ))
    }
}

/// The `N` bytes of a name that start at `offset`.
fn bytes<const N: usize>(name: &SocketName, offset: usize) -> [u8; N] {
    array::from_fn(|index| name.storage[offset + index])
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use proptest::prelude::*;

    use super::*;
    use crate::fd::Socket;

    #[test]
    fn the_kernel_and_std_agree() {
        for (family, any) in [
            (AddressFamily::Inet, "127.0.0.1:0"),
            (AddressFamily::Inet6, "[::1]:0"),
        ] {
            let listener = match TcpListener::bind(any) {
                Ok(listener) => listener,
                Err(error) => {
                    eprintln!("skipped {any}: {error}");
                    continue;
                }
            };
            let address = listener.local_addr().unwrap();
            let client = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            let client = Socket::fresh(TcpStream::from(client));
            assert!(client.connect(&encode(&address), None).unwrap());
            assert_eq!(client.std().peer_addr().unwrap(), address);

            listener.set_nonblocking(true).unwrap();
            let (_accepted, peer) = Socket::fresh(listener).accept(true).unwrap();
            let expected = client.std().local_addr().unwrap();
            assert_eq!(decode(&peer).unwrap(), expected);
        }
    }

    #[test]
    fn other_families_and_short_names_are_refused() {
        let mut unix = SocketName::empty();
        unix.storage[..2].copy_from_slice(&(libc::AF_UNIX as sa_family_t).to_ne_bytes());
        let mut short = encode(&"[::1]:80".parse().unwrap());
        short.length -= 1;
        for name in [SocketName::empty(), unix, short] {
            let error = decode(&name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "invalid argument");
        }
    }

    proptest! {
        #[test]
        fn v4_round_trips(ip: u32, port: u16) {
            let address = SocketAddr::from((Ipv4Addr::from(ip), port));
            prop_assert_eq!(decode(&encode(&address)).unwrap(), address);
        }

        #[test]
        fn v6_round_trips(ip: u128, port: u16, flow: u32, scope: u32) {
            let address = SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into();
            prop_assert_eq!(decode(&encode(&address)).unwrap(), address);
        }
    }
}
