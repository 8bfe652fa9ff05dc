//! Names into addresses, without stopping the hub.
//!
//! The C library's resolver, getaddrinfo(3), blocks the OS thread that calls
//! it. So a name is looked up by an OS thread of the offload pool while the
//! caller parks. The answer, right or wrong, is std's own: it is std that is
//! called there.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::{iter, option, slice, vec};

use crate::blocking::{self, Lane};

/// What can be turned into one or more socket addresses.
///
/// Text is `host:port`, where the host is an address or a name.
///
/// # Difference from std
///
/// It is a trait of its own with std's implementors, because std's looks names
/// up on the calling OS thread. A type that implements std's trait has to
/// implement this one.
///
/// # Examples
///
/// ```
/// use greenring::net::ToSocketAddrs;
///
/// let mut addresses = ("127.0.0.1", 80).to_socket_addrs()?;
/// assert_eq!(addresses.next(), Some(([127, 0, 0, 1], 80).into()));
/// assert_eq!(addresses.next(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait ToSocketAddrs {
    /// The addresses, in the order in which they are to be tried.
    type Iter: Iterator<Item = SocketAddr>;

    /// Resolves to addresses; a name parks the caller until it was looked up.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for text that is not `host:port`; a name that cannot be
    /// looked up gives the message of getaddrinfo(3). Beyond std's errors: no
    /// OS thread can be had for the lookup.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::ToSocketAddrs;
    ///
    /// assert!("localhost:80".to_socket_addrs()?.all(|address| address.ip().is_loopback()));
    /// assert!("localhost".to_socket_addrs().is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

impl ToSocketAddrs for SocketAddr {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(Some(*self).into_iter())
    }
}

impl ToSocketAddrs for SocketAddrV4 {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::V4(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for SocketAddrV6 {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::V6(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (IpAddr, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::from(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (Ipv4Addr, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::from(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (Ipv6Addr, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::from(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = *self;
        resolve(host, (host.to_owned(), port))
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (&*self.0, self.1).to_socket_addrs()
    }
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match name_in(self) {
            Some(name) => resolve(name, self.to_owned()),
            None => std::net::ToSocketAddrs::to_socket_addrs(self),
        }
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Cloned<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// The addresses of a host, without stopping the hub.
///
/// What [`TcpStream::connect`](super::TcpStream::connect) and its like do with
/// their argument, for who wants to choose among the addresses: `host` is
/// `host:port`, a pair of the two, or what else [`ToSocketAddrs`] takes. An
/// address is resolved at once, and so is the name `localhost` if it stands in
/// /etc/hosts; another name is looked up by getaddrinfo(3) on another OS thread,
/// while the caller is parked.
///
/// A [`timeout`](crate::time::timeout) or a
/// [cancel](crate::thread::JoinHandle::cancel) ends the wait at once, however
/// long the name server stays silent. At most 16 names are looked up at a time;
/// further ones wait in order, and are not asked for if nobody waits any more.
///
/// # Errors
///
/// Those of [`ToSocketAddrs::to_socket_addrs`].
///
/// # Examples
///
/// ```
/// use greenring::net::{self, TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// // Prefer IPv4.
/// let mut addresses = Vec::from_iter(net::lookup_host(("localhost", port))?);
/// addresses.sort_by_key(|address| address.is_ipv6());
/// let stream = TcpStream::connect(&addresses[..])?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn lookup_host<A: ToSocketAddrs>(host: A) -> io::Result<A::Iter> {
    host.to_socket_addrs()
}

/// What `work` makes of the first address for which it succeeds, or its last
/// error.
pub(crate) fn each_address<T>(
    addresses: impl ToSocketAddrs,
    mut work: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses.to_socket_addrs()? {
        match work(address) {
            Ok(made) => return Ok(made),
            Err(error) => last = Some(error),
        }
    }
    let none: &[SocketAddr] = &[];
    // std makes its errors in a form of their own, which nobody else can.
    last.map_or_else(
        || std::net::TcpStream::connect(none).map(|_| unreachable!()),
        Err,
    )
}

/// The host that std would look up for this text; `None` if it is an address
/// or not `host:port` at all.
fn name_in(text: &str) -> Option<&str> {
    if text.parse::<SocketAddr>().is_ok() {
        return None;
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().is_ok().then_some(host)
}

/// Whether `host` stands in /etc/hosts, hosts(5). A file that is not there or
/// cannot be read has no names.
fn is_in_hosts_file(host: &str) -> bool {
    let Ok(file) = File::open("/etc/hosts") else {
        return false;
    };
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.any(|line| {
        let names = line.split('#').next().unwrap_or_default();
        names.split_whitespace().skip(1).any(|name| name == host)
    })
}

/// Has std resolve `whole`, of which `host` is the host: here if that asks
/// nobody but the files of this machine, otherwise on the offload pool.
///
/// Even `localhost` is asked of name servers where /etc/hosts lacks it.
fn resolve<A>(host: &str, whole: A) -> io::Result<vec::IntoIter<SocketAddr>>
where
    A: std::net::ToSocketAddrs<Iter = vec::IntoIter<SocketAddr>> + Send + 'static,
{
    if host.parse::<IpAddr>().is_ok() || host == "localhost" && is_in_hosts_file(host) {
        return whole.to_socket_addrs();
    }
    // Gone when the caller is. A name server that is dead would otherwise be
    // asked, name by name, on behalf of all who gave up long ago.
    let caller = Arc::new(());
    let wanted = Arc::downgrade(&caller);
    blocking::offload(Lane::Names, move || match wanted.strong_count() {
        0 => Ok(Vec::new().into_iter()),
        _ => whole.to_socket_addrs(),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    /// Compares all there is to see of two resolutions of the same thing.
    fn assert_same<A>(address: &A)
    where
        A: ToSocketAddrs + std::net::ToSocketAddrs + Debug + ?Sized,
    {
        fn seen<I: Iterator<Item = SocketAddr>>(
            result: io::Result<I>,
        ) -> Result<Vec<SocketAddr>, (io::ErrorKind, String)> {
            match result {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => Err((error.kind(), error.to_string())),
            }
        }
        let ours = seen(ToSocketAddrs::to_socket_addrs(address));
        let std = seen(std::net::ToSocketAddrs::to_socket_addrs(address));
        assert_eq!(ours, std, "{address:?}");
    }

    #[test]
    fn text_resolves_as_in_std() {
        for text in [
            "127.0.0.1:80",
            "[::1]:80",
            "[fe80::1%3]:80",
            "::1:80",
            "localhost:80",
            "localhost:0",
            // The C library's short form of 127.0.0.1.
            "127.1:80",
            // Neither of these reaches the resolver.
            "",
            "localhost",
            "127.0.0.1",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:-1",
            // These do, and fail there without a question to the network.
            ":80",
            "a..b:80",
            "a name with \0:80",
        ] {
            assert_same(text);
            assert_same(&text.to_owned());
            assert_same(&text);
        }
    }

    #[test]
    fn hosts_with_a_port_resolve_as_in_std() {
        for host in ["127.0.0.1", "::1", "localhost", "127.1", "", "a..b", "\0"] {
            assert_same(&(host, 80));
            assert_same(&(host.to_owned(), 80));
        }
    }

    #[test]
    fn addresses_resolve_to_themselves() {
        let v4: SocketAddrV4 = "192.0.2.1:80".parse().unwrap();
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 1, 2);
        assert_same(&v4);
        assert_same(&v6);
        assert_same(&SocketAddr::from(v6));
        assert_same(&(*v4.ip(), 80));
        assert_same(&(*v6.ip(), 80));
        assert_same(&(IpAddr::from(*v6.ip()), 80));
        assert_same(&&[SocketAddr::from(v4), SocketAddr::from(v6)][..]);
        assert_same(&&[][..]);
    }

    #[test]
    fn only_what_std_would_look_up_is_a_name() {
        assert_eq!(name_in("example.com:80"), Some("example.com"));
        assert_eq!(name_in(":80"), Some(""));
        assert_eq!(name_in("::1:80"), Some("::1"));
        for text in ["127.0.0.1:80", "[::1]:80", "example.com", "example.com:x"] {
            assert_eq!(name_in(text), None);
        }
    }

    #[test]
    fn each_address_gives_the_first_success_or_the_last_error() {
        let addresses: Vec<SocketAddr> =
            (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let fail_below = |least: u16| {
            move |address: SocketAddr| match address.port() {
                port if port >= least => Ok(port),
                port => Err(io::Error::other(port.to_string())),
            }
        };
        assert_eq!(each_address(&addresses[..], fail_below(2)).unwrap(), 2);
        let error = each_address(&addresses[..], fail_below(4)).unwrap_err();
        assert_eq!(error.to_string(), "3");

        let none: &[SocketAddr] = &[];
        let error = each_address(none, fail_below(0)).unwrap_err();
        let std = std::net::TcpStream::connect(none).unwrap_err();
        assert_eq!(error.kind(), std.kind());
        assert_eq!(error.to_string(), std.to_string());
    }
}
