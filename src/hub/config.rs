//! How a hub is set up: from the environment, overridden by code.

use std::env;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::stack;
use crate::backend::{Choice, Disabled, Kind, Setup};

const BACKEND: &str = "GREENRING_BACKEND";
const STACK_SIZE: &str = "GREENRING_STACK_SIZE";
const RING_ENTRIES: &str = "GREENRING_RING_ENTRIES";
const READER_BUFFERS: &str = "GREENRING_READER_BUFFERS";
const DISABLE: &str = "GREENRING_DISABLE";
const SHUFFLE: &str = "GREENRING_SHUFFLE";
const WATCHDOG: &str = "GREENRING_WATCHDOG";
const TRACE: &str = "GREENRING_TRACE";

/// Address space of a green thread's stack, guard page included. A TLS
/// handshake in a debug build needs 130 KiB; pages are committed when touched.
const DEFAULT_STACK_SIZE: usize = 256 * 1024;
/// The least and the most a stack may have.
pub(crate) const STACK_SIZES: RangeInclusive<usize> = stack::MIN_SIZE..=stack::MAX_SIZE;

/// Submission queue entries: more than one turn's budget of green threads
/// can queue, so that a turn is one enter.
const DEFAULT_RING_ENTRIES: u32 = 512;
pub(crate) const RING_ENTRIES_RANGE: RangeInclusive<u32> = 2..=32_768;

/// Buffers of 64 KiB that the readers of a hub share: enough for a burst of as
/// many connections, and no memory until there is one.
const DEFAULT_READER_BUFFERS: u16 = 1024;
pub(crate) const READER_BUFFERS_RANGE: RangeInclusive<u16> = 1..=16_384;

/// Milliseconds after which the watchdog may report, or the trace does: up to
/// an hour.
pub(crate) const INTERVAL_RANGE: RangeInclusive<u64> = 1..=3_600_000;

/// How long a hub's end waits for green threads that do not end.
const DEFAULT_END_TIMEOUT: Duration = Duration::from_secs(10);

/// What a hub needs to know before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) choice: Choice,
    pub(crate) stack_size: usize,
    pub(crate) ring_entries: u32,
    pub(crate) reader_buffers: u16,
    pub(crate) disabled: Disabled,
    /// Name of the hub's root in the table of green threads.
    pub(crate) name: Option<String>,
    pub(crate) end_timeout: Duration,
    /// Seed of a random order of the run queue.
    pub(crate) shuffle: Option<u64>,
    /// How long one green thread may hold the hub before that is reported.
    pub(crate) watchdog: Option<Duration>,
    /// How often the hub says what it does.
    pub(crate) trace: Option<Duration>,
}

impl Config {
    /// The environment's configuration.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, naming the variable, its value and what is allowed.
    pub(crate) fn from_environment() -> io::Result<Config> {
        Config::from_lookup(|name| {
            env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> io::Result<Config> {
        let choice = match lookup(BACKEND) {
            None => Choice::Automatic,
            Some(value) => match value.parse() {
                Ok(kind) => Choice::Asked { kind, by: BACKEND },
                Err(()) => return Err(invalid(BACKEND, &value, Kind::NAMES)),
            },
        };
        let stack_size = match lookup(STACK_SIZE) {
            None => DEFAULT_STACK_SIZE,
            Some(value) => match value.parse() {
                Ok(size) if STACK_SIZES.contains(&size) => size,
                _ => {
                    let allowed = format!(
                        "a number of bytes from {} to {}",
                        STACK_SIZES.start(),
                        STACK_SIZES.end()
                    );
                    return Err(invalid(STACK_SIZE, &value, &allowed));
                }
            },
        };
        let ring_entries = match lookup(RING_ENTRIES) {
            None => DEFAULT_RING_ENTRIES,
            Some(value) => match value.parse() {
                Ok(entries) if RING_ENTRIES_RANGE.contains(&entries) => entries,
                _ => {
                    let allowed = format!(
                        "a number from {} to {}",
                        RING_ENTRIES_RANGE.start(),
                        RING_ENTRIES_RANGE.end()
                    );
                    return Err(invalid(RING_ENTRIES, &value, &allowed));
                }
            },
        };
        let reader_buffers = match lookup(READER_BUFFERS) {
            None => DEFAULT_READER_BUFFERS,
            Some(value) => match value.parse() {
                Ok(buffers) if READER_BUFFERS_RANGE.contains(&buffers) => buffers,
                _ => {
                    let allowed = format!(
                        "a number from {} to {}",
                        READER_BUFFERS_RANGE.start(),
                        READER_BUFFERS_RANGE.end()
                    );
                    return Err(invalid(READER_BUFFERS, &value, &allowed));
                }
            },
        };
        let disabled = match lookup(DISABLE) {
            None => Disabled::default(),
            Some(value) => Disabled::parse(&value).map_err(|known| {
                invalid(
                    DISABLE,
                    &value,
                    &format!("a list, separated by commas, of {known}"),
                )
            })?,
        };
        let shuffle = match lookup(SHUFFLE) {
            None => None,
            Some(value) => match value.parse() {
                Ok(seed) => Some(seed),
                Err(_) => {
                    let allowed = format!("a number from 0 to {}", u64::MAX);
                    return Err(invalid(SHUFFLE, &value, &allowed));
                }
            },
        };
        Ok(Config {
            choice,
            stack_size,
            ring_entries,
            reader_buffers,
            disabled,
            name: None,
            end_timeout: DEFAULT_END_TIMEOUT,
            shuffle,
            watchdog: interval(WATCHDOG, lookup(WATCHDOG))?,
            trace: interval(TRACE, lookup(TRACE))?,
        })
    }

    /// Name of the calling OS thread's root.
    pub(crate) fn root_name(&self) -> String {
        let os_thread = std::thread::current();
        let name = self.name.as_deref().or(os_thread.name());
        name.unwrap_or("unnamed").to_owned()
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup {
            choice: self.choice,
            ring_entries: self.ring_entries,
            reader_buffers: self.reader_buffers,
            disabled: self.disabled,
        }
    }
}

/// Milliseconds, if the variable has a value.
fn interval(variable: &str, value: Option<String>) -> io::Result<Option<Duration>> {
    let Some(value) = value else {
        return Ok(None);
    };
    match value.parse() {
        Ok(milliseconds) if INTERVAL_RANGE.contains(&milliseconds) => {
            Ok(Some(Duration::from_millis(milliseconds)))
        }
        _ => {
            let allowed = format!(
                "a number of milliseconds from {} to {}",
                INTERVAL_RANGE.start(),
                INTERVAL_RANGE.end()
            );
            Err(invalid(variable, &value, &allowed))
        }
    }
}

fn invalid(variable: &str, value: &str, allowed: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("the environment variable {variable} is {value:?}; allowed: {allowed}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Feature;

    fn with(name: &'static str, value: &'static str) -> io::Result<Config> {
        Config::from_lookup(move |asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let config = Config::from_lookup(|_| None).unwrap();
        assert_eq!(config.choice, Choice::Automatic);
        assert_eq!(config.stack_size, DEFAULT_STACK_SIZE);
        assert_eq!(config.disabled, Disabled::default());
        assert_eq!(config.shuffle, None);
        assert_eq!((config.watchdog, config.trace), (None, None));
    }

    #[test]
    fn good_values_are_taken() {
        let kind = Kind::Epoll;
        assert_eq!(
            with(BACKEND, "epoll").unwrap().choice,
            Choice::Asked { kind, by: BACKEND }
        );
        assert_eq!(with(STACK_SIZE, "65536").unwrap().stack_size, 65_536);
        assert_eq!(with(RING_ENTRIES, "4").unwrap().ring_entries, 4);
        assert_eq!(with(READER_BUFFERS, "1").unwrap().reader_buffers, 1);
        assert_eq!(with(SHUFFLE, "0").unwrap().shuffle, Some(0));
        let limit = Duration::from_millis(100);
        assert_eq!(with(WATCHDOG, "100").unwrap().watchdog, Some(limit));
        assert_eq!(with(TRACE, "100").unwrap().trace, Some(limit));
        let disabled = with(DISABLE, "defer_taskrun, guard_install")
            .unwrap()
            .disabled;
        assert!(disabled.contains(Feature::DeferTaskrun));
        assert!(disabled.contains(Feature::GuardInstall));
        assert!(!disabled.contains(Feature::Uring));
    }

    #[test]
    fn a_bad_value_is_refused_with_the_variable_the_value_and_the_allowed_ones() {
        for (variable, value, allowed) in [
            (BACKEND, "iouring", "uring, epoll"),
            (BACKEND, "", "uring, epoll"),
            (STACK_SIZE, "64k", "from 16384 to"),
            (STACK_SIZE, "0", "from 16384 to"),
            (RING_ENTRIES, "1", "from 2 to 32768"),
            (READER_BUFFERS, "0", "from 1 to 16384"),
            (READER_BUFFERS, "16385", "from 1 to 16384"),
            (DISABLE, "uring,bogus", "defer_taskrun"),
            (SHUFFLE, "-1", "from 0 to 18446744073709551615"),
            (SHUFFLE, "on", "from 0 to"),
            (WATCHDOG, "0", "milliseconds from 1 to 3600000"),
            (WATCHDOG, "3600001", "from 1 to 3600000"),
            (WATCHDOG, "100ms", "from 1 to 3600000"),
            (TRACE, "0", "milliseconds from 1 to 3600000"),
            (TRACE, "1s", "from 1 to 3600000"),
            (TRACE, "", "from 1 to 3600000"),
        ] {
            let error = with(variable, value).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains(variable), "{text}");
            assert!(text.contains(&format!("{value:?}")), "{text}");
            assert!(text.contains(allowed), "{text}");
        }
    }
}
