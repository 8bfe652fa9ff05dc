//! `io::copy`, which has the kernel move the bytes where it can.
//!
//! std finds out by specialization that it is given a file or a socket. Here the
//! types are compared at run time: a list of our own types, each by itself, by
//! reference and as the source of a `Take`. How the bytes are moved is in
//! `fd/splice.rs`.

#![allow(unsafe_code)] // Looks at a value under the type that it has been found to have.

use std::any::TypeId;
use std::io::{self, Read, Take, Write};
use std::marker::PhantomData;
use std::mem::transmute;
use std::ptr;

use super::{PipeReader, PipeWriter};
use crate::fd::splice::{self, End, Moved};
use crate::fs::File;
use crate::net::TcpStream;
use crate::net::unix::UnixStream;
use crate::process::{ChildStderr, ChildStdin, ChildStdout};

/// Copies from `reader` to `writer` until the reader ends, and gives the number
/// of bytes.
///
/// Between greenring's own files, pipes, sockets and child processes' pipes, or
/// references to them, or [`take`](Read::take)n parts of them, the kernel moves the bytes
/// without a buffer in between: splice(2), copy_file_range(2). Whatever waits
/// meanwhile parks; the disk is waited for on the offload pool.
///
/// A [cancel](crate::thread::JoinHandle::cancel) or a
/// [`timeout`](crate::time::timeout) ends a copy between two steps, of at most
/// 1 MiB where a socket or pipe is involved. A socket's own time limits hold for
/// each wait.
///
/// # Errors
///
/// Those of reading and writing. What has been read and not been written when the
/// writer fails, or when the copy is interrupted, is lost; unless the reader is a
/// file: its position is then behind the last byte that was written.
///
/// # Difference from std
///
/// A socket that takes part is in non-blocking mode during each step, for less
/// than the step takes and never while other green threads of the hub run. Other
/// processes, and other OS threads that use the same socket by std's means, could
/// notice.
///
/// # Examples
///
/// ```
/// use greenring::fs::File;
/// use greenring::io;
/// use greenring::net::{TcpListener, TcpStream};
/// use greenring::thread;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let server = thread::spawn(move || {
///     let (mut stream, _) = listener.accept()?;
///     io::copy(&mut File::open("Cargo.toml")?, &mut stream)
/// });
/// let mut received = Vec::new();
/// let length = io::copy(&mut client, &mut received)?;
/// assert_eq!(length, received.len() as u64);
/// assert_eq!(server.join().unwrap()?, length);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: ?Sized + Read,
    W: ?Sized + Write,
{
    let moved = Moved::default();
    let noted = Noted {
        reader: &mut *reader,
        moved: &moved,
    };
    let result = match (source(noted.reader), target(writer)) {
        (Some((from, most)), Some(to)) => splice::copy(from, to, most, &moved),
        _ => Ok(false),
    };
    drop(noted);
    match result? {
        true => Ok(moved.given()),
        false => Ok(moved.given() + io::copy(reader, writer)?),
    }
}

/// Tells a `Take` in the end what was taken behind its back, also when the copy
/// is interrupted.
struct Noted<'a, R: ?Sized> {
    reader: &'a mut R,
    moved: &'a Moved,
}

impl<R: ?Sized> Drop for Noted<'_, R> {
    fn drop(&mut self) {
        note_taken(self.reader, self.moved.taken());
    }
}

/// The id of any type, its lifetimes taken for `'static`.
fn type_id<T: ?Sized>() -> TypeId {
    trait Typed {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }

    impl<T: ?Sized> Typed for PhantomData<T> {
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }

    let typed = PhantomData::<T>;
    let typed: &dyn Typed = &typed;
    // SAFETY: only the bound changes; `id` looks at nothing but the type.
    let typed: &(dyn Typed + 'static) = unsafe { transmute(typed) };
    typed.id()
}

/// `value` as a `T`, if that is what it is but for lifetimes.
///
/// # Safety
///
/// The caller makes no use of lifetimes in `T` that are longer than those of
/// `value`'s own type.
unsafe fn cast<V: ?Sized, T: 'static>(value: &V) -> Option<&T> {
    (type_id::<V>() == TypeId::of::<T>()).then(|| {
        // SAFETY: it is a `T`, of which at most the lifetimes are shorter; those
        // are the caller's business.
        unsafe { &*ptr::from_ref(value).cast::<T>() }
    })
}

/// As [`cast`], for changes.
///
/// # Safety
///
/// That of [`cast`], and nothing that has a lifetime is put into the value.
unsafe fn cast_mut<V: ?Sized, T: 'static>(value: &mut V) -> Option<&mut T> {
    (type_id::<V>() == TypeId::of::<T>()).then(|| {
        // SAFETY: as in `cast`, and the value is borrowed exclusively.
        unsafe { &mut *ptr::from_mut(value).cast::<T>() }
    })
}

/// What the kernel can take bytes from: `reader`'s end, and how many of them it
/// may be.
fn source<R: ?Sized>(reader: &R) -> Option<(&dyn End, u64)> {
    macro_rules! look {
        ($($own:ty),*) => {$(
            look!(@plain $own, &'static $own, &'static mut $own);
        )*};
        (@plain $($held:ty),*) => {$(
            // SAFETY: what is borrowed from it is returned with the lifetime
            // of `reader`.
            if let Some(held) = unsafe { cast::<R, $held>(reader) } {
                return Some((&held.0, u64::MAX));
            }
            // SAFETY: as above.
            if let Some(part) = unsafe { cast::<R, Take<$held>>(reader) } {
                return Some((&part.get_ref().0, part.limit()));
            }
        )*};
    }
    look!(
        File,
        TcpStream,
        UnixStream,
        PipeReader,
        ChildStdout,
        ChildStderr
    );
    None
}

/// What the kernel can give bytes to.
fn target<W: ?Sized>(writer: &W) -> Option<&dyn End> {
    macro_rules! look {
        ($($own:ty),*) => {$(
            look!(@plain $own, &'static $own, &'static mut $own);
        )*};
        (@plain $($held:ty),*) => {$(
            // SAFETY: what is borrowed from it is returned with the lifetime
            // of `writer`.
            if let Some(held) = unsafe { cast::<W, $held>(writer) } {
                return Some(&held.0);
            }
        )*};
    }
    look!(File, TcpStream, UnixStream, PipeWriter, ChildStdin);
    None
}

/// Lowers the limit of a `Take`.
fn note_taken<R: ?Sized>(reader: &mut R, taken: u64) {
    macro_rules! look {
        ($($own:ty),*) => {$(
            look!(@plain $own, &'static $own, &'static mut $own);
        )*};
        (@plain $($held:ty),*) => {$(
            // SAFETY: only the number in it is changed.
            if let Some(part) = unsafe { cast_mut::<R, Take<$held>>(reader) } {
                part.set_limit(part.limit() - taken);
                return;
            }
        )*};
    }
    look!(
        File,
        TcpStream,
        UnixStream,
        PipeReader,
        ChildStdout,
        ChildStderr
    );
}
