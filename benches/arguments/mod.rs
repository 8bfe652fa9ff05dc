//! What a bench with a harness of its own is told: the flags that cargo and
//! criterion's users pass to every bench, and `--name value` pairs.

use std::collections::BTreeMap;
use std::str::FromStr;

/// The arguments of the process.
pub struct Arguments {
    quick: bool,
    filters: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Arguments {
    /// Reads the arguments of the process, of which `names` take a value.
    ///
    /// # Errors
    ///
    /// A sentence about an argument that is not known or lacks its value.
    pub fn read(names: &[&str]) -> Result<Arguments, String> {
        let mut read = Arguments {
            // The figures of an unoptimised build, such as `cargo test
            // --benches` makes, would mean nothing.
            quick: cfg!(debug_assertions),
            filters: Vec::new(),
            values: BTreeMap::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                None => read.filters.push(argument),
                // `cargo bench` passes it to every bench.
                Some("bench") => {}
                Some("test" | "quick") => read.quick = true,
                Some(name) if names.contains(&name) => {
                    let value = arguments.next();
                    let value = value.ok_or_else(|| format!("--{name} needs a value"))?;
                    read.values.insert(name.to_owned(), value);
                }
                Some(_) => {
                    let names = names.join(" VALUE, --");
                    return Err(format!(
                        "{argument} is not known here; known: --test, --{names} VALUE \
                         (with `cargo bench --bench NAME -- …` one bench gets arguments of its own)"
                    ));
                }
            }
        }
        Ok(read)
    }

    /// Whether only a try is asked for: does it work, no matter how fast.
    pub fn quick(&self) -> bool {
        self.quick
    }

    /// Whether the filters, if any, let the bench of this name run.
    pub fn select(&self, bench: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| bench.contains(filter))
    }

    /// The value that was given under a name.
    ///
    /// # Errors
    ///
    /// A sentence about a value that is not one.
    pub fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.values.get(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("--{name} {text}: that is no value for it")),
        }
    }
}
