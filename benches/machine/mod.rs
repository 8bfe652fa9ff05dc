//! The conditions a bench runs under: one CPU, shared in turns, and how fast
//! the machine is at the moment. Time is CPU time: what other processes take
//! meanwhile is not counted.

#![allow(unsafe_code)] // The scheduler's and the clock's system calls take pointers.

use std::fs;
use std::hint::black_box;
use std::io;
use std::mem;
use std::os::unix::process::parent_id;
use std::time::Duration;

/// Confines the calling process, and what it starts, to one CPU under
/// `SCHED_BATCH`, and says which.
///
/// Processes of that policy do not preempt each other on a wake-up
/// (sched(7)): a server and its load generator take turns, and each turn finds
/// a full batch of work. Without `cpu` it is the last one that is allowed,
/// because the first serves more of the machine's interrupts.
///
/// # Errors
///
/// The CPU does not exist or is not allowed.
pub fn share_one_cpu(cpu: Option<usize>) -> io::Result<usize> {
    let size = mem::size_of::<libc::cpu_set_t>();
    // SAFETY: an array of words, of which all bits zero is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes into the set.
    check(unsafe { libc::sched_getaffinity(0, size, &mut allowed) })?;
    let is_allowed = |cpu: usize| {
        // SAFETY: below CPU_SETSIZE the bit lies in the set.
        cpu < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(cpu, &allowed) }
    };
    let last = (0..libc::CPU_SETSIZE as usize).rfind(|&cpu| is_allowed(cpu));
    let cpu = cpu.or(last).unwrap_or(0);
    if !is_allowed(cpu) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("this process may not run on CPU {cpu}"),
        ));
    }
    // SAFETY: as above: the empty set, and a bit that lies in it.
    let mut one: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(cpu, &mut one) };
    // SAFETY: the kernel reads `size` bytes of the set.
    check(unsafe { libc::sched_setaffinity(0, size, &one) })?;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameters.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameters) })?;
    Ok(cpu)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The kernel and the processor, for whoever writes the figures down.
pub fn describe() -> String {
    format!("Linux {}, {}", kernel(), processor())
}

/// The kernel's release.
pub fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// The processor's model.
pub fn processor() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = processors.lines();
    let model = lines.find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model
        .map_or("not known", |(_, model)| model.trim())
        .to_owned()
}

/// CPU time that the calling process has used, user and system.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes into `time`.
    check(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) })
        .expect("every process has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time since an earlier [`cpu_time`].
pub fn cpu_time_since(earlier: Duration) -> Duration {
    cpu_time().saturating_sub(earlier)
}

/// Nanoseconds that a `getppid` takes now: the cheapest system call, which no
/// libc caches.
pub fn getppid_nanoseconds() -> f64 {
    const CALLS: u32 = 4000;
    let start = cpu_time();
    for _ in 0..CALLS {
        black_box(parent_id());
    }
    cpu_time_since(start).as_nanos() as f64 / f64::from(CALLS)
}
