//! Values that belong to one green thread, or to one OS thread: what
//! `thread_local!` stands on.
//!
//! A key's number is its place in the table, so access is a few loads.
//!
//! 1. Whoever uses a value holds a count of it. So its reference stays good,
//!    whatever is started, replaced or destroyed meanwhile.
//! 2. Nothing of the user's runs in here: the caller makes values before, and
//!    drops what it is given after the call.
//! 3. A value with a destructor is listed in the order of its start from then
//!    until it is destroyed. One without is never destroyed; it goes with the
//!    table, and may be used by the destructors of all others.

use std::any::Any;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// The locals of one green thread or of one OS thread.
#[derive(Debug)]
pub(crate) struct Locals {
    table: RefCell<Table>,
}

#[derive(Debug)]
enum Table {
    /// No key was used yet, as in most green threads.
    Empty,
    Used(Box<Values>),
    /// The OS thread ends: everything counts as destroyed.
    Closed,
}

#[derive(Debug, Default)]
struct Values {
    /// By the keys' numbers.
    values: Vec<Local>,
    /// The numbers of those that are to be destroyed, the first that was
    /// started first.
    order: Vec<usize>,
}

/// What there is of a key.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    /// It was not used yet.
    Unused,
    Alive(Rc<dyn Any>),
    /// Its destructor runs, or has run.
    Destroyed,
}

impl Default for Locals {
    fn default() -> Locals {
        Locals::new()
    }
}

impl Locals {
    const fn new() -> Locals {
        Locals {
            table: RefCell::new(Table::Empty),
        }
    }

    /// Whether no key was used yet.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        matches!(&*self.table.borrow(), Table::Empty)
    }

    #[inline]
    pub(crate) fn get(&self, key: usize) -> Local {
        match &*self.table.borrow() {
            Table::Empty => Local::Unused,
            Table::Used(used) => used.values.get(key).unwrap_or(&Local::Unused).clone(),
            Table::Closed => Local::Destroyed,
        }
    }

    /// Starts a key with `value` unless it was used before; gives what there is
    /// of it then. `has_destructor` says whether dropping it means anything.
    pub(crate) fn start(&self, key: usize, value: Rc<dyn Any>, has_destructor: bool) -> Local {
        let present = self.get(key);
        if !matches!(present, Local::Unused) {
            return present;
        }
        let mut table = self.table.borrow_mut();
        if let Table::Empty = *table {
            *table = Table::Used(Box::default());
        }
        let Table::Used(used) = &mut *table else {
            unreachable!("a closed table has no unused keys");
        };
        if key >= used.values.len() {
            used.values.resize(key + 1, Local::Unused);
        }
        if has_destructor {
            used.order.push(key);
        }
        used.values[key] = Local::Alive(Rc::clone(&value));
        Local::Alive(value)
    }

    /// Puts `value` in the place of one that is alive, and gives that one.
    pub(crate) fn replace(&self, key: usize, value: Rc<dyn Any>) -> Local {
        match &mut *self.table.borrow_mut() {
            Table::Used(used) => std::mem::replace(&mut used.values[key], Local::Alive(value)),
            Table::Empty | Table::Closed => unreachable!("only what is alive is replaced"),
        }
    }

    /// Takes out the value that was started last, for the caller to drop: a
    /// step of their destruction, which ends with `None`.
    #[inline]
    pub(crate) fn take_last(&self) -> Option<Local> {
        match &mut *self.table.borrow_mut() {
            Table::Used(used) => used.take_last(),
            Table::Empty | Table::Closed => None,
        }
    }

    /// Frees the table: everything counts as destroyed from now on.
    fn close(&self) {
        // None of the values that are left has a destructor.
        self.table.replace(Table::Closed);
    }
}

impl Values {
    fn take_last(&mut self) -> Option<Local> {
        let key = self.order.pop()?;
        Some(std::mem::replace(&mut self.values[key], Local::Destroyed))
    }
}

thread_local! {
    /// What belongs to this OS thread, outside all green threads. Never
    /// destroyed itself, so that its values' destructors find the others.
    static OS_THREAD: ManuallyDrop<Locals> = const { ManuallyDrop::new(Locals::new()) };
    /// Destroys the values by its destructor.
    static OS_THREAD_END: OsThreadEnd = const { OsThreadEnd };
}

/// A thread-local destructor that destroys the locals of the OS thread.
struct OsThreadEnd;

impl Drop for OsThreadEnd {
    fn drop(&mut self) {
        OS_THREAD.with(|locals| {
            while let Some(local) = locals.take_last() {
                drop(local);
            }
            locals.close();
        });
    }
}

/// Looks at the locals of the calling OS thread.
#[inline]
pub(super) fn with_os_thread<R>(look: impl FnOnce(&Locals) -> R) -> R {
    // It fails while they are being destroyed, which it will go on with, and
    // afterwards, when they are closed.
    let _ = OS_THREAD_END.try_with(|_| ());
    OS_THREAD.with(|locals| look(locals))
}
