//! What Linux adds to sockets, as in `std::os::linux::net`.

use std::io;
use std::os::linux::net::TcpStreamExt as _;

use crate::net::TcpStream;

#[doc(no_inline)]
pub use std::os::linux::net::SocketAddrExt;

mod sealed {
    /// Keeps the trait ours, so that methods can be added to it.
    pub trait Sealed {}
    impl Sealed for crate::net::TcpStream {}
}

/// What Linux adds to a [`TcpStream`].
///
/// # Difference from std
///
/// It is a trait of its own with std's methods, because std's can be
/// implemented by std's stream alone.
///
/// # Examples
///
/// ```
/// use greenring::net::{TcpListener, TcpStream};
/// use greenring::os::linux::net::TcpStreamExt;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// stream.set_quickack(true)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait TcpStreamExt: sealed::Sealed {
    /// Sets TCP_QUICKACK: whether data is acknowledged at once or with a delay.
    ///
    /// The kernel may change it back when it sees fit, tcp(7).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::os::linux::net::TcpStreamExt;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_quickack(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn set_quickack(&self, quickack: bool) -> io::Result<()>;

    /// Whether TCP_QUICKACK is set at present, tcp(7).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::net::{TcpListener, TcpStream};
    /// use greenring::os::linux::net::TcpStreamExt;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_quickack(false)?;
    /// assert!(!stream.quickack()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn quickack(&self) -> io::Result<bool>;
}

impl TcpStreamExt for TcpStream {
    fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.as_std().set_quickack(quickack)
    }

    fn quickack(&self) -> io::Result<bool> {
        self.as_std().quickack()
    }
}
