//! Spawning: a record, a body that fills it, and a stack from the hub.

#![allow(unsafe_code)] // Gives the hub a body that may borrow, for `spawn_unchecked`.

use std::io;
use std::panic::{self, AssertUnwindSafe, Location, catch_unwind};
use std::sync::Once;

use super::join_handle::JoinHandle;
use super::{Result, packet};
use crate::cancel::Cancelled;
use crate::hub::{self, Identity, Locals};

/// Configures a green thread before it is spawned.
///
/// # Examples
///
/// ```
/// use greenring::thread;
///
/// let handle = thread::Builder::new()
///     .name("parser".to_owned())
///     .stack_size(1024 * 1024)
///     .spawn(|| thread::current().name().map(str::to_owned))?;
/// assert_eq!(handle.join().unwrap().as_deref(), Some("parser"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "must eventually spawn the green thread"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    /// If it is not where spawning is called.
    spawned_at: Option<&'static Location<'static>>,
}

impl Builder {
    /// A green thread without a name and with the hub's stack size.
    ///
    /// # Examples
    ///
    /// ```
    /// let handle = greenring::thread::Builder::new().spawn(|| 1)?;
    /// assert_eq!(handle.join().unwrap(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the green thread, for panic messages and the table of green
    /// threads.
    ///
    /// # Panics
    ///
    /// Spawning panics if the name contains a zero byte, as in std.
    ///
    /// # Examples
    ///
    /// ```
    /// let builder = greenring::thread::Builder::new().name("worker-3".into());
    /// assert_eq!(builder.spawn(|| {})?.thread().name(), Some("worker-3"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Sets the size of the stack in bytes, guard page included.
    ///
    /// It is address space: memory is committed as it is touched. Rounded up
    /// to whole pages, and to 16 KiB at least; spawning refuses more than 1 GiB.
    ///
    /// # Examples
    ///
    /// ```
    /// let builder = greenring::thread::Builder::new().stack_size(64 * 1024);
    /// builder.spawn(|| {})?.join().unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Spawns the green thread.
    ///
    /// # Errors
    ///
    /// No memory, mappings or descriptors for a stack or for the hub; a stack
    /// size over 1 GiB (`InvalidInput`); an OS thread that is ending.
    ///
    /// # Panics
    ///
    /// If the name contains a zero byte, or if the hub must be started and the
    /// environment configures it wrongly.
    ///
    /// # Examples
    ///
    /// ```
    /// let handle = greenring::thread::Builder::new().spawn(|| "done")?;
    /// assert_eq!(handle.join().unwrap(), "done");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        // SAFETY: the closure and its result borrow nothing.
        unsafe { self.spawn_unchecked(f) }
    }

    /// Spawns a green thread whose closure may borrow.
    ///
    /// # Safety
    ///
    /// All that the closure and its result borrow outlives the green thread's
    /// end and, if the handle is not joined, the result's. Joining is not
    /// enough if the joiner itself may be abandoned with its hub.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// let builder = greenring::thread::Builder::new();
    /// // SAFETY: joined before `text` is gone.
    /// let handle = unsafe { builder.spawn_unchecked(|| text.len())? };
    /// assert_eq!(handle.join().unwrap(), 8);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T,
    {
        // SAFETY: the caller's promise.
        unsafe { self.spawn_with_end(f, |_| {}) }
    }

    /// Says that the green thread is spawned for a call that was made there.
    pub(crate) fn spawned_at(mut self, site: &'static Location<'static>) -> Builder {
        self.spawned_at = Some(site);
        self
    }

    /// As [`Builder::spawn`], with an `end` as in [`Builder::spawn_with_end`].
    #[track_caller]
    pub(crate) fn spawn_then<F, T>(
        self,
        f: F,
        end: impl FnOnce(bool) + 'static,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        // SAFETY: the closure, its result and `end` borrow nothing.
        unsafe { self.spawn_with_end(f, end) }
    }

    /// As [`Builder::spawn_unchecked`]; `end` runs on the green thread when its
    /// result is stored and nothing of the user's is left to run, and is told
    /// whether a panic has ended it. It must not unwind and must not wait.
    ///
    /// # Safety
    ///
    /// As there, and what `end` borrows outlives the green thread.
    #[track_caller]
    pub(crate) unsafe fn spawn_with_end<F, T>(
        self,
        f: F,
        end: impl FnOnce(bool),
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T,
    {
        let spawned_at = self.spawned_at.unwrap_or(Location::caller());
        let name = self.name.map(String::into_boxed_str);
        if let Some(name) = &name {
            assert!(
                !name.contains('\0'),
                "the name of a green thread must not contain a zero byte"
            );
        }
        install_panic_hook();
        let mut handle = None;
        let make = |home| {
            let (debt, thread) = packet::pair(Identity::new(name, spawned_at, home));
            handle = Some(JoinHandle::new(thread));
            let record = debt.record();
            let body = move || {
                let result = run(f);
                let mut panicked = is_panic(&result);
                let result = if debt.is_waived() {
                    // Nobody will fetch it. Its destructor finds the locals
                    // alive, as in std.
                    hub::shielded(|| drop(result));
                    end_locals(Ok(())).and(Err(Box::new(Cancelled)))
                } else {
                    end_locals(result)
                };
                panicked |= is_panic(&result);
                // Detached since then, its result is dropped there, and may
                // start locals.
                debt.pay(result, || {
                    if let Err(panic) = end_locals(Ok(())) {
                        discard(panic);
                    }
                });
                // The body holds the record no more, on which the hub relies,
                // and nothing of the user's is left to run.
                end(panicked);
            };
            (record, body)
        };
        // SAFETY: the record is a box, the body holds it until its end and does
        // not unwind; the caller answers for what it borrows.
        unsafe { hub::spawn(self.stack_size, make)? };
        Ok(handle.expect("made with the record"))
    }
}

/// Runs the user's closure to its end; its captures are gone afterwards.
fn run<T>(f: impl FnOnce() -> T) -> Result<T> {
    if hub::is_cancelled_before_start() {
        return match drop_caught(f) {
            Ok(()) => Err(Box::new(Cancelled)),
            Err(payload) => Err(payload),
        };
    }
    catch_unwind(AssertUnwindSafe(f))
}

fn is_panic<T>(result: &Result<T>) -> bool {
    matches!(result, Err(payload) if !Cancelled::is(&**payload))
}

/// Destroys the caller's locals, the last that was started first, until there
/// are none: their destructors may start others, and may wait.
///
/// A panic of theirs becomes the result, unless that is an error already.
#[inline]
fn end_locals<T>(result: Result<T>) -> Result<T> {
    if hub::has_locals() {
        end_all_locals(result)
    } else {
        result
    }
}

#[cold]
fn end_all_locals<T>(mut result: Result<T>) -> Result<T> {
    while let Some(local) = hub::with_locals(Locals::take_last) {
        if let Err(payload) = drop_caught(local) {
            let panic = Err(payload);
            discard(match result {
                Ok(_) => std::mem::replace(&mut result, panic),
                Err(_) => panic,
            });
        }
    }
    result
}

/// Drops what nobody will have; a panic of it has been told by the hook.
fn discard<T>(unwanted: T) {
    if let Err(payload) = drop_caught(unwanted) {
        std::mem::forget(payload);
    }
}

/// Drops what is the user's: what its destructor waits for, it gets.
fn drop_caught<T>(value: T) -> Result<()> {
    catch_unwind(AssertUnwindSafe(|| hub::shielded(|| drop(value))))
}

/// Puts a line before every panic message of a green thread, which would
/// otherwise be told under the OS thread's name.
pub(crate) fn install_panic_hook() {
    static INSTALL: Once = Once::new();
    // The hook cannot be changed while unwinding; the next spawn does it.
    if INSTALL.is_completed() || std::thread::panicking() {
        return;
    }
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if hub::is_green() {
                let record = hub::current();
                let identity = record.identity();
                let name = identity.name().unwrap_or("unnamed");
                match identity.spawned_at() {
                    Some(site) => {
                        hub::say(&format!(
                            "green thread '{name}', spawned at {site}, panics:"
                        ));
                    }
                    None => hub::say(&format!("green thread '{name}' panics:")),
                }
            }
            previous(info);
        }));
    });
}
