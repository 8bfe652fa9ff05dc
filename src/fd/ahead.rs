//! What a reader has read ahead of its stream and nobody has consumed.
//!
//! It belongs to the open stream and not to the reader: when the reader is
//! dropped the bytes stay here, and the next read, peek or reader sees them
//! first.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::atomic::lock;

/// A reader exists.
const READING: u8 = 1;
/// Bytes are left.
const LEFT: u8 = 2;

/// The bytes of a stream that a reader has left, shared by all duplicates.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    state: AtomicU8,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    bytes: Vec<u8>,
    /// Those before this one have been taken.
    start: usize,
}

impl Ahead {
    /// Whether a receive may go to the kernel directly, for all duplicates that
    /// the caller knows of; else it asks [`take`](Ahead::take) first.
    #[inline]
    pub(crate) fn is_unused(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 0
    }

    /// Says that a reader exists, and gives what an earlier one has left.
    ///
    /// # Panics
    ///
    /// There is one already.
    pub(super) fn begin(&self) -> Vec<u8> {
        // The state changes under the lock only: who takes the last of what is
        // left may do so on another OS thread.
        let mut left = lock(&self.left);
        assert!(
            self.state.load(Ordering::Relaxed) != READING,
            "this stream has a reader already: two would take each other's bytes"
        );
        self.state.store(READING, Ordering::Relaxed);
        let Left { mut bytes, start } = std::mem::take(&mut *left);
        bytes.drain(..start);
        bytes
    }

    /// Says that the reader is gone, and what it leaves.
    pub(super) fn end(&self, bytes: Vec<u8>) {
        let state = if bytes.is_empty() { 0 } else { LEFT };
        let mut left = lock(&self.left);
        *left = Left { bytes, start: 0 };
        self.state.store(state, Ordering::Relaxed);
    }

    /// Moves bytes that are left to `buffers` in turn, or copies them if they
    /// are only peeked at. `None` if there are none.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` while a reader exists, which may be ahead of everybody.
    #[cold]
    pub(super) fn take<'a>(
        &self,
        buffers: impl IntoIterator<Item = &'a mut [u8]>,
        peek: bool,
    ) -> Option<io::Result<usize>> {
        let mut left = lock(&self.left);
        match self.state.load(Ordering::Relaxed) {
            0 => return None,
            LEFT => {}
            _ => {
                return Some(Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "this stream is read by its reader(), which may have read ahead",
                )));
            }
        }
        let mut rest = &left.bytes[left.start..];
        for buffer in buffers {
            let most = rest.len().min(buffer.len());
            let (taken, others) = rest.split_at(most);
            buffer[..most].copy_from_slice(taken);
            rest = others;
        }
        let start = left.bytes.len() - rest.len();
        let taken = start - left.start;
        if !peek {
            left.start = start;
            if start == left.bytes.len() {
                *left = Left::default();
                self.state.store(0, Ordering::Relaxed);
            }
        }
        Some(Ok(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ahead: &Ahead, most: usize, peek: bool) -> Option<Vec<u8>> {
        let mut buffer = vec![0; most];
        let taken = ahead.take([&mut buffer[..]], peek)?.unwrap();
        buffer.truncate(taken);
        Some(buffer)
    }

    #[test]
    fn what_is_left_is_taken_in_order_and_once() {
        let ahead = Ahead::default();
        assert!(ahead.is_unused() && ahead.begin().is_empty());
        let busy = ahead.take([&mut [0][..]], false).unwrap().unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        ahead.end(b"abcdef".to_vec());
        assert_eq!(take(&ahead, 2, true).unwrap(), b"ab");
        assert_eq!(take(&ahead, 2, false).unwrap(), b"ab");
        let (mut one, mut other) = ([0; 1], [0; 2]);
        let taken = ahead.take([&mut one[..], &mut other[..]], false);
        assert_eq!(taken.unwrap().unwrap(), 3);
        assert_eq!((&one, &other), (b"c", b"de"));
        assert_eq!(ahead.begin(), b"f");
        ahead.end(Vec::new());
        assert!(ahead.is_unused() && take(&ahead, 1, false).is_none());
    }

    #[test]
    #[should_panic(expected = "has a reader already")]
    fn a_second_reader_is_refused() {
        let ahead = Ahead::default();
        ahead.begin();
        ahead.begin();
    }
}
