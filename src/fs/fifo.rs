//! Opening a file, which for a FIFO may mean to wait for its other end.
//!
//! open(2) of one end of a FIFO blocks until somebody opens the other. Were
//! that done by the offload pool, enough readers would hold all its OS threads,
//! and the writers they wait for would queue behind them. So a FIFO is opened
//! with O_NONBLOCK, which tells at once whether the other end is there, and the
//! caller looks again after growing pauses.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::sys::stat::fstat;

use super::on_path;
use crate::fd::{self, Interest, Limit};
use crate::hub;
use crate::pauses::Pauses;

/// An open file.
type File = fd::File<fs::File>;

/// What an attempt to open came to.
enum Attempt {
    Open(File),
    /// A FIFO for reading, open but without a writer, in non-blocking mode.
    NoWriter(File),
    /// A FIFO for writing, which cannot even be opened without a reader.
    NoReader,
}

/// Opens a file through the ring, without an OS thread of the pool; `None` where
/// that cannot be, or says too little.
pub(super) fn open_by_the_ring(path: &Path, flags: i32) -> io::Result<Option<File>> {
    if !hub::works_on_storage() {
        return Ok(None);
    }
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return Ok(None);
    };
    let file = match fd::open(&path, flags) {
        Ok(file) => fs::File::from(file),
        // A FIFO without a reader, among others; a file that somebody has to give
        // up a lease of first, fcntl(2).
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EAGAIN)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let is_for_reading = flags & libc::O_ACCMODE == libc::O_RDONLY;
    let file = if is_for_reading && is_fifo(&file) {
        when_written(File::new(file))?
    } else {
        blocking(file)?
    };
    Ok(Some(file))
}

fn is_fifo(file: &fs::File) -> bool {
    fstat(file).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

/// Opens a file. `custom_flags` are those that `options` have.
pub(super) fn open(options: &fs::OpenOptions, custom_flags: i32, path: &Path) -> io::Result<File> {
    let mut pauses = Pauses::short();
    loop {
        let options = options.clone();
        match on_path(path, move |path| attempt(options, custom_flags, path))? {
            Attempt::Open(file) => return Ok(file),
            Attempt::NoWriter(file) => return when_written(file),
            Attempt::NoReader => pauses.sleep(),
        }
    }
}

/// Opens a file without waiting for the other end of a FIFO. Run by the offload
/// pool.
fn attempt(mut options: fs::OpenOptions, flags: i32, path: &Path) -> io::Result<Attempt> {
    // With these the open does not wait in any case.
    let never_waits = flags & (libc::O_NONBLOCK | libc::O_PATH) != 0;
    // Who replaces a file by a FIFO after this look has an OS thread wait.
    let is_fifo = || fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    if never_waits || !is_fifo() {
        return Ok(Attempt::Open(File::new(options.open(path)?)));
    }
    let file = match options.custom_flags(flags | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(Attempt::NoReader),
        Err(error) => return Err(error),
    };
    if fcntl(&file, FcntlArg::F_GETFL)? & libc::O_ACCMODE == libc::O_RDONLY {
        return Ok(Attempt::NoWriter(File::new(file)));
    }
    blocking(file).map(Attempt::Open)
}

/// Waits until a reader's FIFO has, or has had, a writer.
fn when_written(file: File) -> io::Result<File> {
    let mut pauses = Pauses::short();
    loop {
        // Data, or the hang-up of a writer that has gone again.
        if file.wait_for(Interest::Readable, Limit::Timeout(pauses.next()))?
            || has_silent_writer(&file)?
        {
            return blocking(file.into_std());
        }
    }
}

/// Whether somebody has an empty FIFO open for writing. tee(2) takes nothing
/// out of it, and knows: nothing to come is 0, nothing yet is EAGAIN.
fn has_silent_writer(file: &File) -> io::Result<bool> {
    let (_reader, writer) = io::pipe()?;
    match tee(file.std(), &writer, 1, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(0) => Ok(false),
        Ok(_) | Err(Errno::EAGAIN) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes O_NONBLOCK back.
fn blocking(file: fs::File) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(File::new(file))
}
