//! Files to work on, made once and gone with the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use greenring::runtime::{Backend, Builder};

/// Bytes of the file that is read from.
pub const LENGTH: u64 = 64 << 20;

/// Bytes of one read.
pub const BLOCK: usize = 4096;

/// The file that is read from, all of it cached.
pub fn file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = directory().join("read");
        fs::write(&path, vec![7; LENGTH as usize]).expect("room for a file");
        path
    })
}

/// Small files to be asked about.
pub fn small_files() -> &'static [PathBuf] {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| {
        let name = |n| directory().join(format!("small-{n}"));
        let files: Vec<PathBuf> = (0..1000).map(name).collect();
        for file in &files {
            fs::write(file, "small").expect("room for a file");
        }
        files
    })
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let name = format!("greenring-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory of our own");
        path
    })
}

/// Removes everything.
pub fn remove() {
    // Nothing is lost if it fails: it is the directory of temporary files.
    let _ = fs::remove_dir_all(directory());
}

/// The offset of the read with this number, spread over the file.
pub fn offset(number: u64) -> u64 {
    let block = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (LENGTH / BLOCK as u64);
    block * BLOCK as u64
}

/// Runs `work` on a hub with this backend.
pub fn on<T>(backend: Backend, work: impl FnOnce() -> T) -> T {
    let hub = Builder::new().backend(backend).name("bench");
    hub.run(work).expect("the backend can be had")
}

/// What time is measured by: that of the processor, or that on the wall.
pub type Clock = fn() -> Duration;

/// The clock on the wall.
pub fn wall() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// How long `work` takes.
pub fn measured(clock: Clock, work: impl FnOnce()) -> Duration {
    let start = clock();
    work();
    clock().saturating_sub(start)
}
