//! std's Unix `SocketAddr` <-> the kernel's form of it.
//!
//! A [`SocketName`] is bytes in the layout of `sockaddr_un`, unix(7): the family,
//! then nothing (unnamed), a zero byte and a name (abstract), or a path and a
//! zero byte.

use std::ffi::OsStr;
use std::io;
use std::mem::offset_of;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use libc::{sa_family_t, sockaddr_un, socklen_t};

use crate::backend::SocketName;

const UNIX: sa_family_t = libc::AF_UNIX as sa_family_t;
const PATH: usize = offset_of!(sockaddr_un, sun_path);

/// The kernel's form of an address, for connect(2) and sendmsg(2).
pub(super) fn encode(address: &SocketAddr) -> SocketName {
    let mut name = SocketName::empty();
    name.storage[..PATH].copy_from_slice(&UNIX.to_ne_bytes());
    let mut length = PATH;
    let mut put = |bytes: &[u8]| {
        name.storage[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    if let Some(path) = address.as_pathname() {
        put(path.as_os_str().as_bytes());
        put(&[0]);
    } else if let Some(abstract_name) = address.as_abstract_name() {
        put(&[0]);
        put(abstract_name);
    }
    name.length = length as socklen_t;
    name
}

/// What the kernel wrote, for accept(2) and recvmsg(2); `None` if it is a path
/// that fills sockaddr_un to the last byte, which std's type has no constructor
/// for.
///
/// # Errors
///
/// `InvalidInput`: the descriptor is a socket of another family.
pub(super) fn decode(name: &SocketName) -> io::Result<Option<SocketAddr>> {
    let length = (name.length as usize).min(name.storage.len());
    // A datagram of an unnamed socket comes with no address at all.
    if length == 0 {
        return unnamed().map(Some);
    }
    if name.storage[..PATH] != UNIX.to_ne_bytes() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "file descriptor did not correspond to a Unix socket",
        ));
    }
    match name.storage.get(PATH..length) {
        None | Some([]) => unnamed().map(Some),
        Some([0, abstract_name @ ..]) => SocketAddr::from_abstract_name(abstract_name).map(Some),
        // The kernel counts the zero byte that it puts behind the path.
        Some([path @ .., _]) => Ok(SocketAddr::from_pathname(OsStr::from_bytes(path)).ok()),
    }
}

/// The address of a socket that has none.
pub(super) fn unnamed() -> io::Result<SocketAddr> {
    SocketAddr::from_pathname("")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use proptest::prelude::*;

    use super::*;
    use crate::fd::Socket;

    fn round_trip(address: &SocketAddr) {
        let decoded = decode(&encode(address)).unwrap().unwrap();
        assert_eq!(format!("{decoded:?}"), format!("{address:?}"));
        assert_eq!(decoded.as_pathname(), address.as_pathname());
        assert_eq!(decoded.as_abstract_name(), address.as_abstract_name());
        assert_eq!(decoded.is_unnamed(), address.is_unnamed());
    }

    #[test]
    fn addresses_of_all_kinds_round_trip() {
        round_trip(&UnixDatagram::unbound().unwrap().local_addr().unwrap());
        round_trip(&UnixStream::pair().unwrap().0.local_addr().unwrap());
        round_trip(&unnamed().unwrap());
        for length in [0, 1, 50, 107] {
            round_trip(&SocketAddr::from_abstract_name(vec![b'a'; length]).unwrap());
            if length > 0 {
                round_trip(&SocketAddr::from_pathname("p".repeat(length)).unwrap());
            }
        }
    }

    #[test]
    fn the_kernel_and_std_agree() {
        let name = format!("greenring-address-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        for address in [
            SocketAddr::from_abstract_name(&name).unwrap(),
            SocketAddr::from_pathname(&path).unwrap(),
        ] {
            let named = UnixDatagram::bind_addr(&address).unwrap();
            let client = Socket::fresh(UnixDatagram::unbound().unwrap());
            assert!(client.connect(&encode(&address), None).unwrap());
            for theirs in [named.local_addr(), client.std().peer_addr()] {
                assert_eq!(format!("{:?}", theirs.unwrap()), format!("{address:?}"));
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_family_is_refused() {
        let mut name = SocketName::empty();
        name.storage[..2].copy_from_slice(&(libc::AF_INET as sa_family_t).to_ne_bytes());
        let error = decode(&name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_path_without_room_for_its_zero_byte_is_not_std_s() {
        let mut name = encode(&SocketAddr::from_pathname("p".repeat(107)).unwrap());
        name.storage[PATH + 107] = b'p';
        name.length += 1;
        assert!(decode(&name).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn abstract_names_round_trip(name in proptest::collection::vec(any::<u8>(), 0..107)) {
            round_trip(&SocketAddr::from_abstract_name(name).unwrap());
        }
    }
}
