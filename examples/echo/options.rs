//! The command line of the echo example.

use greenring::runtime::Backend;
use greenring::time::Duration;

pub const HELP: &str = "\
Serves echo on a loopback port, drives it with many connections on io_uring and
then on epoll, checks every byte and prints what it measured.

  --listen ADDR       serve only, on this address
  --connect ADDR      drive only, a server that is there already
  --backend NAME      uring or epoll; if not given, what GREENRING_BACKEND says,
                      else one after the other (with --listen and --connect:
                      io_uring if it can be had)
  --connections N     connections, 1 to 1000000 (1000)
  --size BYTES        of a request, 1 to 65536 (64)
  --seconds N         of each measurement, 1 to 86400 (3)
  --help              this text
";

pub struct Options {
    pub listen: Option<String>,
    pub connect: Option<String>,
    pub backend: Option<Backend>,
    pub connections: usize,
    /// Not more than the buffers of two sockets hold: a client writes its whole
    /// request before it reads.
    pub size: usize,
    pub duration: Duration,
    pub help: bool,
}

impl Options {
    /// Reads the arguments; an error is a sentence for the user.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            listen: None,
            connect: None,
            backend: None,
            connections: 1000,
            size: 64,
            duration: Duration::from_secs(3),
            help: false,
        };
        while let Some(name) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--help" | "-h" => options.help = true,
                "--listen" => options.listen = Some(value()?),
                "--connect" => options.connect = Some(value()?),
                "--backend" => options.backend = Some(backend(&value()?)?),
                "--connections" => options.connections = number(&name, &value()?, 1_000_000)?,
                "--size" => options.size = number(&name, &value()?, 65_536)?,
                "--seconds" => {
                    let seconds = number(&name, &value()?, 86_400)?;
                    options.duration = Duration::from_secs(seconds as u64);
                }
                _ => return Err(format!("{name:?} is not known; --help says what is")),
            }
        }
        if options.listen.is_some() && options.connect.is_some() {
            return Err("--listen and --connect need a process each".to_owned());
        }
        Ok(options)
    }
}

fn backend(name: &str) -> Result<Backend, String> {
    let refusal = |()| format!("--backend is uring or epoll, not {name:?}");
    name.parse().map_err(refusal)
}

fn number(name: &str, value: &str, most: usize) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!(
            "{name} is a number from 1 to {most}, not {value:?}"
        )),
    }
}
