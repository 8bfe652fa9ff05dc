//! `map`: a function over many items, all results at once.

use std::any::Any;
use std::panic::{Location, resume_unwind};

use super::members::{Door, Members};
use crate::cancel::{self, Cancelled};
use crate::thread::{self, Builder, Result, Scope};

/// Cancels those of a scope when it is dropped.
struct CancelOnDrop<'scope, 'env>(&'scope Scope<'scope, 'env>);

impl Drop for CancelOnDrop<'_, '_> {
    fn drop(&mut self) {
        if cancel::supported() {
            self.0.cancel();
        }
    }
}

/// Runs `f` on a member of its own for every item. The members borrow, and are
/// seen off by a scope; whatever unwinds through it cancels them.
#[track_caller]
pub(super) fn map<I, R>(members: &Members, items: I, f: impl Fn(I::Item) -> R) -> Vec<R>
where
    I: IntoIterator,
{
    let site = Location::caller();
    let f = &f;
    let door = &Door::open(members);
    let (results, is_cancelled) = thread::scope(|scope| {
        let unwinding = CancelOnDrop(scope);
        let mut handles = Vec::new();
        let mut is_cancelled = false;
        for item in items {
            let admission = door.admit();
            if door.is_closed() {
                is_cancelled = true;
                break;
            }
            let builder = Builder::new().spawned_at(site);
            let handle = members.spawn_scoped(admission, builder, scope, move || f(item));
            handles.push(handle.unwrap_or_else(|error| {
                panic!("failed to spawn a green thread: {error}");
            }));
        }
        let results = handles.into_iter().map(|handle| handle.join());
        let results: Vec<Result<R>> = results.collect();
        std::mem::forget(unwinding);
        (results, is_cancelled)
    });
    let mut first: Option<Box<dyn Any + Send>> = None;
    let mut all = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(result) => all.push(result),
            // A panic says more than that the others were cancelled for it.
            Err(payload) => match &first {
                Some(earlier) if !Cancelled::is(&**earlier) => {}
                Some(_) if Cancelled::is(&*payload) => {}
                _ => first = Some(payload),
            },
        }
    }
    match first {
        Some(payload) => resume_unwind(payload),
        None if is_cancelled => resume_unwind(Box::new(Cancelled)),
        None => all,
    }
}
