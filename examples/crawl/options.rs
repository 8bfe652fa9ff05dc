//! The command line of the crawl example.

use greenring::time::Duration;

pub const HELP: &str = "\
Crawls a site that it serves itself on a loopback port, where some pages are
slow, some fail at first and some links are dead; prints how it went.

  --pages N       of the site, 1 to 100000 (300)
  --at-once N     requests at a time, 1 to 500 (32)
  --timeout MS    for a request, 1 to 60000 (250)
  --quiet         no progress bar; there is none anyway if stderr is no terminal
  --help          this text
";

pub struct Options {
    pub pages: usize,
    pub at_once: usize,
    pub timeout: Duration,
    pub quiet: bool,
    pub help: bool,
}

impl Options {
    /// Reads the arguments; an error is a sentence for the user.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            pages: 300,
            at_once: 32,
            timeout: Duration::from_millis(250),
            quiet: false,
            help: false,
        };
        while let Some(name) = arguments.next() {
            let mut number = |most| match arguments.next().map(|value| value.parse()) {
                Some(Ok(number)) if (1..=most).contains(&number) => Ok(number),
                _ => Err(format!("{name} needs a number from 1 to {most}")),
            };
            match name.as_str() {
                "--help" | "-h" => options.help = true,
                "--quiet" => options.quiet = true,
                "--pages" => options.pages = number(100_000)?,
                "--at-once" => options.at_once = number(500)?,
                "--timeout" => options.timeout = Duration::from_millis(number(60_000)? as u64),
                _ => return Err(format!("{name:?} is not known; --help says what is")),
            }
        }
        Ok(options)
    }
}
