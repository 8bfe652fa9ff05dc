//! Which public types may be sent and shared, beside std's.
//!
//! README has the same table.

use std::cell::Cell;
use std::marker::{PhantomData, PhantomPinned};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use greenring::os::unix::net as unix;
use greenring::{Cancelled, fs, io, net, pool, process, runtime, sync, thread};

/// Whether a type implements a trait: the inherent constant hides the trait's
/// where its bound holds.
macro_rules! implements {
    ($type:ty: $bound:ident) => {{
        #[allow(dead_code)] // One of the two is hidden.
        struct Probe<T>(PhantomData<T>);
        #[allow(dead_code)]
        trait No {
            const IMPLEMENTS: bool = false;
        }
        impl<T> No for Probe<T> {}
        #[allow(dead_code)]
        impl<T: $bound> Probe<T> {
            const IMPLEMENTS: bool = true;
        }
        Probe::<$type>::IMPLEMENTS
    }};
}

/// Send, Sync, Unpin, UnwindSafe, RefUnwindSafe.
macro_rules! traits_of {
    ($type:ty) => {
        [
            implements!($type: Send),
            implements!($type: Sync),
            implements!($type: Unpin),
            implements!($type: UnwindSafe),
            implements!($type: RefUnwindSafe),
        ]
    };
}

#[test]
fn the_probe_tells_both() {
    assert_eq!(traits_of!(u8), [true; 5]);
    assert_eq!(traits_of!(Rc<u8>), [false, false, true, true, true]);
    assert_eq!(traits_of!(&'static mut u8), [true, true, true, false, true]);
}

#[test]
fn all_is_as_in_std() {
    macro_rules! as_std {
        ($($ours:ty = $std:ty),* $(,)?) => {$(
            assert_eq!(traits_of!($ours), traits_of!($std), "{}", stringify!($ours));
        )*};
    }
    as_std! {
        io::PipeReader = std::io::PipeReader,
        io::PipeWriter = std::io::PipeWriter,
        io::Stdin = std::io::Stdin,
        io::StdinLock<'static> = std::io::StdinLock<'static>,
        io::Stdout = std::io::Stdout,
        io::StdoutLock<'static> = std::io::StdoutLock<'static>,
        io::Stderr = std::io::Stderr,
        io::StderrLock<'static> = std::io::StderrLock<'static>,
        net::TcpStream = std::net::TcpStream,
        net::TcpListener = std::net::TcpListener,
        unix::UnixStream = std::os::unix::net::UnixStream,
        unix::UnixListener = std::os::unix::net::UnixListener,
        unix::UnixDatagram = std::os::unix::net::UnixDatagram,
        unix::Incoming<'static> = std::os::unix::net::Incoming<'static>,
        unix::SocketAddr = std::os::unix::net::SocketAddr,
        net::UdpSocket = std::net::UdpSocket,
        net::Incoming<'static> = std::net::Incoming<'static>,
        process::Command = std::process::Command,
        process::Child = std::process::Child,
        process::ChildStdin = std::process::ChildStdin,
        process::ChildStdout = std::process::ChildStdout,
        process::ChildStderr = std::process::ChildStderr,
        fs::File = std::fs::File,
        fs::OpenOptions = std::fs::OpenOptions,
        fs::ReadDir = std::fs::ReadDir,
        fs::DirEntry = std::fs::DirEntry,
        fs::DirBuilder = std::fs::DirBuilder,
        thread::Thread = std::thread::Thread,
        thread::ThreadId = std::thread::ThreadId,
        thread::Builder = std::thread::Builder,
        sync::Condvar = std::sync::Condvar,
        sync::WaitTimeoutResult = std::sync::WaitTimeoutResult,
        sync::Barrier = std::sync::Barrier,
        sync::BarrierWaitResult = std::sync::BarrierWaitResult,
        sync::Once = std::sync::Once,
    }
    macro_rules! as_std_with {
        ($($value:ty),*) => {$(
            as_std! {
                sync::Mutex<$value> = std::sync::Mutex<$value>,
                sync::MutexGuard<'static, $value> = std::sync::MutexGuard<'static, $value>,
                sync::RwLock<$value> = std::sync::RwLock<$value>,
                sync::RwLockReadGuard<'static, $value> =
                    std::sync::RwLockReadGuard<'static, $value>,
                sync::RwLockWriteGuard<'static, $value> =
                    std::sync::RwLockWriteGuard<'static, $value>,
                sync::OnceLock<$value> = std::sync::OnceLock<$value>,
                sync::LazyLock<$value> = std::sync::LazyLock<$value>,
                sync::LazyLock<u8, $value> = std::sync::LazyLock<u8, $value>,
            }
        )*};
    }
    as_std_with!(
        u8,
        Rc<u8>,
        Cell<u8>,
        &'static mut u8,
        std::sync::MutexGuard<'static, u8>,
        PhantomPinned
    );
}

#[test]
fn handles_are_as_stds_and_unwind_safe_besides() {
    macro_rules! as_std {
        ($($result:ty),*) => {$(
            let ours = traits_of!(thread::JoinHandle<$result>);
            let stds = traits_of!(std::thread::JoinHandle<$result>);
            assert_eq!(ours[..3], stds[..3], "{}", stringify!($result));
            assert_eq!(ours[3..], [true, true], "{}", stringify!($result));
        )*};
    }
    as_std!(u8, Cell<u8>, &'static mut u8);
}

#[test]
fn a_handle_is_sent_only_if_its_result_can_be() {
    // std's closures and results are always Send; ours need not be.
    assert_eq!(
        traits_of!(thread::JoinHandle<Rc<u8>>),
        [false, true, true, true, true]
    );
    assert_eq!(
        traits_of!(thread::JoinHandle<*mut u8>),
        [false, true, true, true, true]
    );
}

#[test]
fn what_std_has_not_is_plain_data() {
    assert_eq!(traits_of!(runtime::Builder), [true; 5]);
    assert_eq!(traits_of!(runtime::Backend), [true; 5]);
    assert_eq!(traits_of!(runtime::Stats), [true; 5]);
    assert_eq!(traits_of!(Cancelled), [true; 5]);
    assert_eq!(traits_of!(sync::Event), [true; 5]);
    assert_eq!(traits_of!(sync::Semaphore), [true; 5]);
    assert_eq!(traits_of!(sync::Permit<'static>), [true; 5]);
    assert_eq!(traits_of!(sync::OwnedPermit), [true; 5]);
}

#[test]
fn the_ends_of_channels_may_be_sent_as_their_items_may() {
    use greenring::sync::{channel, oneshot};
    assert_eq!(traits_of!(channel::Sender<u8>)[..2], [true; 2]);
    assert_eq!(traits_of!(channel::Receiver<u8>)[..2], [true; 2]);
    assert_eq!(traits_of!(channel::Sender<Rc<u8>>)[..2], [false; 2]);
    assert_eq!(traits_of!(channel::Receiver<Rc<u8>>)[..2], [false; 2]);
    assert_eq!(traits_of!(oneshot::Sender<u8>)[..2], [true; 2]);
    assert_eq!(traits_of!(oneshot::Receiver<u8>)[..2], [true, false]);
    assert_eq!(traits_of!(oneshot::Receiver<Rc<u8>>)[..2], [false; 2]);
    assert_eq!(traits_of!(greenring::time::Interval)[..2], [false; 2]);
    assert_eq!(traits_of!(greenring::signal::Signals)[..2], [false; 2]);
}

#[test]
fn scopes_and_pools_are_bound_to_their_os_thread() {
    assert_eq!(traits_of!(thread::Scope<'static, 'static>)[..2], [false; 2]);
    assert_eq!(traits_of!(pool::Group)[..2], [false; 2]);
    assert_eq!(traits_of!(pool::Pool)[..2], [false; 2]);
    assert_eq!(traits_of!(pool::Imap<u8>)[..2], [false; 2]);
    assert_eq!(traits_of!(pool::Resources<u8>)[..2], [false; 2]);
    assert_eq!(traits_of!(pool::Resource<'static, u8>)[..2], [false; 2]);
    // As `JoinHandle`.
    let handle = traits_of!(thread::ScopedJoinHandle<'static, u8>);
    assert_eq!(handle[..2], [true; 2]);
    let handle = traits_of!(thread::ScopedJoinHandle<'static, Rc<u8>>);
    assert_eq!(handle[..2], [false, true]);
    assert_eq!(traits_of!(greenring::io::Reader<'static>)[..2], [false; 2]);
    assert_eq!(
        traits_of!(greenring::io::Writer<'static, net::TcpStream>)[..2],
        [false; 2]
    );
    assert_eq!(traits_of!(net::server::StreamServer)[..2], [false; 2]);
    assert_eq!(traits_of!(net::server::UnixServer)[..2], [false; 2]);
    assert_eq!(traits_of!(net::server::DatagramServer)[..2], [false; 2]);
}
