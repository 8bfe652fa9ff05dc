//! Real servers for the ports to talk to: from the distribution's packages, on
//! loopback, each with a directory of its own that goes with it.
//!
//! A server lives as long as its guard, which the test's own OS thread holds:
//! the kernel kills the server when that OS thread ends, however it ends.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// With the value 1 a server that is not installed is a failure.
const REQUIRE: &str = "GREENRING_REQUIRE_SERVERS";

/// The user that servers run as which refuse root: nobody, in every
/// distribution.
const NOBODY: u32 = 65534;

/// A server that runs; dropping it ends it and removes its directory.
pub struct Server {
    address: SocketAddr,
    child: Child,
    /// Reads what the server writes, so that it never waits for a reader.
    log: Option<JoinHandle<()>>,
    _directory: Directory,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to get into it, for [`postgres`].
    pub fn login(&self) -> Login {
        Login {
            address: self.address,
            user: USER,
            password: PASSWORD,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both servers end on it at once and do not wait for their clients.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT);
        let _ = self.child.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}

/// A redis server without persistence; `None`, and says so, if there is no
/// such program.
pub fn redis() -> Option<Server> {
    let program = required("redis-server", in_path("redis-server"))?;
    Some(start(
        "redis",
        "Ready to accept connections",
        |directory, port| {
            let mut command = Command::new("setpriv");
            command
                .args(["--pdeathsig", "KILL"])
                .arg(&program)
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
                .arg("--dir")
                .arg(directory);
            command
        },
    ))
}

/// Where [`postgres`] listens and whom it lets in.
#[derive(Clone, Copy)]
pub struct Login {
    pub address: SocketAddr,
    pub user: &'static str,
    pub password: &'static str,
}

const USER: &str = "greenring";
const PASSWORD: &str = "correct horse battery staple";

/// A PostgreSQL server that demands SCRAM-SHA-256 and does not care for its
/// data; `None`, and says so, if there is no such program.
pub fn postgres() -> Option<Server> {
    let program = required(
        "postgres",
        newest_postgres().or_else(|| in_path("postgres")),
    )?;
    let ready = "database system is ready to accept connections";
    Some(start("postgres", ready, |directory, port| {
        let data = directory.join("data");
        if !data.exists() {
            initialise(&program, directory, &data);
        }
        let mut command = unprivileged(directory, &program);
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=150"])
            .args(["-c", "shared_buffers=16MB"]);
        command
    }))
}

fn initialise(postgres: &Path, directory: &Path, data: &Path) {
    let password = directory.join("password");
    fs::write(&password, PASSWORD).expect("the password can be written");
    let initdb = postgres.with_file_name("initdb");
    let output = unprivileged(directory, &initdb)
        .args([
            "--auth=scram-sha-256",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ])
        .args(["-U", USER])
        .arg("--pwfile")
        .arg(password)
        .arg("-D")
        .arg(data)
        .output()
        .expect("initdb can be started");
    assert!(
        output.status.success(),
        "initdb: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The command that runs `program` in `directory`, not as root.
fn unprivileged(directory: &Path, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.current_dir(directory);
    let our_user = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    if our_user == 0 {
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may give directories away");
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Starts what `command` makes of a directory and a port, and returns when the
/// server has written `ready`.
fn start(name: &str, ready: &str, command: impl Fn(&Path, u16) -> Command) -> Server {
    let directory = Directory::new(name);
    let mut last_words = String::new();
    // Somebody else may take the port between our look and the server's bind.
    for _ in 0..5 {
        let port = free_port().expect("there is a free port");
        let (log, writer) = io::pipe().expect("there is room for a pipe");
        let mut child = {
            // The command holds the pipe's writing ends; dropped here, so that
            // the log ends with the server.
            let mut command = command(&directory.0, port);
            command
                .stdin(Stdio::null())
                .stdout(writer.try_clone().expect("there is room for a descriptor"))
                .stderr(writer);
            command.spawn().expect("setpriv(1) is installed")
        };
        let mut log = BufReader::new(log);
        last_words.clear();
        while log.read_line(&mut last_words).is_ok_and(|n| n > 0) {
            if last_words.contains(ready) {
                return Server {
                    address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    child,
                    log: Some(std::thread::spawn(move || {
                        let _ = io::copy(&mut log, &mut io::sink());
                    })),
                    _directory: directory,
                };
            }
        }
        let _ = child.wait();
    }
    panic!("{name} does not start:\n{last_words}");
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// `program`, if there is one; else says that the test is skipped, or fails.
fn required(name: &str, program: Option<PathBuf>) -> Option<PathBuf> {
    if program.is_none() {
        assert!(
            std::env::var_os(REQUIRE).is_none_or(|value| value != "1"),
            "{name} is not installed, and {REQUIRE}=1"
        );
        println!("skipped: {name} is not installed");
    }
    program
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Debian keeps PostgreSQL's programs apart, by version.
fn newest_postgres() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let program = entry.path().join("bin/postgres");
            program.is_file().then_some((version, program))
        })
        .max()
        .map(|(_, program)| program)
}

/// A fresh directory that only we can look into, removed with its guard.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        // A process that was killed leaves its directories, and ids come again.
        let path = (0..100)
            .map(|n| format!("greenring-{name}-{}-{n}", std::process::id()))
            .map(|name| std::env::temp_dir().join(name))
            .find(|path| fs::create_dir(path).is_ok())
            .expect("a directory for temporary files that we may write to");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it is ours");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
