//! Reports which green thread holds its hub for too long.
//!
//! A hub that wants it writes down whom it lets run, and an OS thread, one for
//! the whole process, looks from time to time whether that has changed. It can
//! name who computes for long, makes a system call that blocks, or waits for a
//! std lock: what stops a hub without a word. A hub that sleeps, or whose root
//! works while it has no green threads, keeps nobody waiting and is no incident.
//!
//! A child of a fork has no such OS thread, and the locks of the registry may
//! be held there for ever. So nothing of a registry is touched but by the
//! process that made it, which [`ForkWord`] tells.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::unistd::{Pid, gettid, write};

use super::Hub;
use super::fork::ForkWord;
use super::green_thread::GreenThread;
use super::record::SharedRecord;
use crate::atomic::{Mutex, MutexGuard, lock};

/// Who has the OS thread of a hub to itself.
pub(super) enum Holder {
    /// The hub itself, or nobody: it sleeps.
    Hub,
    /// The root, while green threads are alive.
    Root,
    GreenThread(SharedRecord),
}

/// What a hub writes down and the watchdog reads.
pub(super) struct Watched {
    registry: &'static Registry,
    pulse: Arc<Pulse>,
}

struct Pulse {
    /// Name of the hub's root.
    root: Box<str>,
    os_thread: Pid,
    limit: Duration,
    beat: Mutex<Beat>,
}

struct Beat {
    holder: Holder,
    /// Counts the changes of `holder`.
    number: u64,
}

/// The hubs that are watched.
struct Registry {
    /// Of the process that has it.
    process: ForkWord,
    hubs: Mutex<Vec<Watch>>,
    changed: Condvar,
}

/// A hub and what the watchdog has seen of it.
struct Watch {
    pulse: Arc<Pulse>,
    sight: Sight,
}

/// The registry of this process, or of the one that it was forked from.
/// Locked by OS threads that start a hub or wonder whether they are alone, and
/// never for longer than it takes to look.
static REGISTRY: Mutex<Option<&'static Registry>> = Mutex::new(None);

/// OS threads that the watchdog has, in this process.
pub(super) fn os_threads() -> usize {
    let registry = *lock(&REGISTRY);
    usize::from(registry.is_some_and(|registry| !registry.process.is_forked_child()))
}

impl Watched {
    /// Has the calling OS thread's new hub watched.
    ///
    /// # Errors
    ///
    /// No OS thread can be made.
    pub(super) fn start(process: ForkWord, root: &str, limit: Duration) -> io::Result<Watched> {
        let registry = Registry::get(process)?;
        let pulse = Arc::new(Pulse {
            root: root.into(),
            os_thread: gettid(),
            limit,
            beat: Mutex::new(Beat {
                holder: Holder::Hub,
                number: 0,
            }),
        });
        lock(&registry.hubs).push(Watch {
            pulse: Arc::clone(&pulse),
            sight: Sight::new(Instant::now()),
        });
        registry.changed.notify_one();
        Ok(Watched { registry, pulse })
    }

    /// Writes down who holds the hub from now on.
    pub(super) fn note(&self, holder: Holder) {
        if self.registry.process.is_forked_child() {
            return;
        }
        let mut beat = lock(&self.pulse.beat);
        beat.number += 1;
        let before = std::mem::replace(&mut beat.holder, holder);
        drop(beat);
        // May be the last holder of a record, whose result has been taken.
        drop(before);
    }

    /// The hub ends, or is given up and stays in memory.
    pub(super) fn end(&self) {
        if !self.registry.process.is_forked_child() {
            lock(&self.registry.hubs).retain(|watch| !Arc::ptr_eq(&watch.pulse, &self.pulse));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}

impl Hub {
    /// Tells the watchdog who has the OS thread from now on.
    #[inline]
    pub(super) fn note(&self, holder: Holder) {
        if let Some(watched) = &self.watched {
            watched.note(holder);
        }
    }

    #[cold]
    pub(super) fn note_green_thread(&self, block: &GreenThread) {
        if let Some(record) = block.share_record() {
            self.note(Holder::GreenThread(record));
        }
    }

    /// The root holds the hub only if somebody else could want it.
    #[inline]
    pub(super) fn note_root(&self) {
        if self.watched.is_some() {
            self.note(match self.live.get() {
                0 => Holder::Hub,
                _ => Holder::Root,
            });
        }
    }
}

impl Registry {
    /// The registry of this process, made with its OS thread at the first call.
    fn get(process: ForkWord) -> io::Result<&'static Registry> {
        let mut registry = lock(&REGISTRY);
        if let Some(registry) = *registry
            && !registry.process.is_forked_child()
        {
            return Ok(registry);
        }
        let new: &'static Registry = Box::leak(Box::new(Registry {
            process,
            hubs: Mutex::default(),
            changed: Condvar::new(),
        }));
        thread::Builder::new()
            .name("greenring-watchdog".to_owned())
            .spawn(|| new.watch())?;
        *registry = Some(new);
        Ok(new)
    }

    /// The life of the OS thread: as long as the process's.
    fn watch(&self) {
        // The program's signals are for the OS threads that it knows.
        let _ = SigSet::all().thread_block();
        let mut hubs = lock(&self.hubs);
        loop {
            hubs = self.wait(hubs);
            let now = Instant::now();
            let incidents: Vec<_> = hubs.iter_mut().filter_map(|hub| hub.look(now)).collect();
            drop(hubs);
            for incident in incidents {
                report(&incident);
            }
            hubs = lock(&self.hubs);
        }
    }

    /// Waits until it is time to look again: for a quarter of the shortest
    /// limit, for ever while there is no hub.
    fn wait<'a>(&self, hubs: MutexGuard<'a, Vec<Watch>>) -> MutexGuard<'a, Vec<Watch>> {
        match hubs.iter().map(|hub| hub.pulse.limit).min() {
            None => self
                .changed
                .wait(hubs)
                .unwrap_or_else(PoisonError::into_inner),
            Some(shortest) => {
                let pause = (shortest / 4).max(Duration::from_millis(1));
                self.changed
                    .wait_timeout(hubs, pause)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }
}

impl Watch {
    /// What is to be reported of the hub, if anything is.
    fn look(&mut self, now: Instant) -> Option<Incident> {
        let beat = lock(&self.pulse.beat);
        let holder = match &beat.holder {
            Holder::Hub => None,
            Holder::Root => Some(None),
            Holder::GreenThread(record) => Some(Some(record)),
        };
        let held = self.sight.look(beat.number, now);
        if held < self.pulse.limit || self.sight.reported {
            return None;
        }
        let green_thread = holder?.cloned();
        self.sight.reported = true;
        drop(beat);
        Some(Incident {
            pulse: Arc::clone(&self.pulse),
            green_thread,
            held,
        })
    }
}

/// Since when the same beat has been seen.
struct Sight {
    number: u64,
    since: Instant,
    reported: bool,
}

impl Sight {
    fn new(now: Instant) -> Sight {
        Sight {
            number: 0,
            since: now,
            reported: false,
        }
    }

    /// How long the beat with this number has lasted, at the least.
    fn look(&mut self, number: u64, now: Instant) -> Duration {
        if self.number != number {
            *self = Sight {
                number,
                ..Sight::new(now)
            };
        }
        now - self.since
    }
}

/// Somebody holds a hub for too long.
struct Incident {
    pulse: Arc<Pulse>,
    /// `None` for the root.
    green_thread: Option<SharedRecord>,
    held: Duration,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pulse {
            root, os_thread, ..
        } = &*self.pulse;
        f.write_str("greenring: watchdog: ")?;
        match &self.green_thread {
            None => write!(f, "root '{root}' has held its hub")?,
            Some(record) => {
                let identity = record.identity();
                let name = identity.name().unwrap_or("unnamed");
                write!(f, "green thread '{name}' (id {}", identity.id())?;
                if let Some(spawned_at) = identity.spawned_at() {
                    write!(f, ", spawned at {spawned_at}")?;
                }
                write!(f, ") has held the hub of root '{root}'")?;
            }
        }
        write!(
            f,
            " for {} ms and {}: no other green thread can run there",
            self.held.as_millis(),
            doing(*os_thread)
        )
    }
}

/// Writes an incident to stderr, without std's lock: a fork at that moment would
/// leave it locked in the child.
fn report(incident: &Incident) {
    let line = format!("{incident}\n");
    let _ = write(io::stderr(), line.as_bytes());
}

/// What an OS thread of this process does, as the kernel sees it.
fn doing(os_thread: Pid) -> &'static str {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{os_thread}/stat"));
    // The state follows the name in parentheses, proc_pid_stat(5).
    let state = stat.as_deref().unwrap_or("").rsplit(") ").next();
    match state.and_then(|rest| rest.chars().next()) {
        Some('R') => "computes",
        Some('S' | 'D') => "blocks its OS thread in a system call or a lock",
        _ => "goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_lasts_from_when_it_was_first_seen() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut sight = Sight::new(start);
        assert_eq!(sight.look(0, after(10)), Duration::from_millis(10));
        assert_eq!(sight.look(1, after(20)), Duration::ZERO);
        assert_eq!(sight.look(1, after(120)), Duration::from_millis(100));
        sight.reported = true;
        assert_eq!(sight.look(7, after(130)), Duration::ZERO);
        assert!(!sight.reported, "another beat is another incident");
    }
    #[test]
    fn a_hub_that_ends_is_watched_no_more() {
        let process = ForkWord::get().unwrap();
        let limit = Duration::from_secs(3600);
        let watched = Watched::start(process, "of a test", limit).unwrap();
        let pulse = Arc::clone(&watched.pulse);
        let is_watched = || {
            let hubs = lock(&watched.registry.hubs);
            hubs.iter().any(|watch| Arc::ptr_eq(&watch.pulse, &pulse))
        };
        assert!(is_watched());
        assert_eq!(os_threads(), 1);
        watched.end();
        assert!(!is_watched());
        assert_eq!(os_threads(), 1, "it waits for another hub");
    }
}
