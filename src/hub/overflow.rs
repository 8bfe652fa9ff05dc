//! What a process says when a green thread overflows its stack.
//!
//! The overflow hits the guard page and raises SIGSEGV. The handler runs on the OS thread's alternate
//! signal stack, since the green thread's own is used up; it asks the hub whose stack the address
//! belongs to, writes the name, the size and the setting to raise, and aborts as std does. A fault that
//! is nobody's overflow goes on to the handler that was there before, usually std's: exactly, but that
//! it then always runs on the alternate stack.
//!
//! Two things must hold, and each has its function: the handler is installed once in a process
//! ([`install_overflow_handler`]), and every OS thread that runs a hub has an alternate stack
//! ([`ensure_alternate_stack`]). Everything that runs inside the handler is async-signal-safe: no
//! allocation, no lock, no thread-local that is initialised on first use.

// Signal handlers, and the memory that they run on.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, ProtFlags};

/// The least alternate stack: enough for a crash reporter's handler that ours may pass a fault on to.
const MIN_ALTERNATE_STACK: usize = 64 << 10;

/// Room for handlers above what the kernel itself needs for a signal frame.
const HANDLER_ROOM: usize = 32 << 10;

/// `AT_MINSIGSTKSZ` of getauxval(3): the size of a signal frame with this CPU's registers, since
/// Linux 5.14 on x86-64 and always on arm64; not in libc 0.2.191 for this target.
const AT_MINSIGSTKSZ: libc::c_ulong = 51;

/// The green thread whose guard page was hit.
#[derive(Clone, Copy, Debug)]
pub struct OverflowedStack {
    /// Its name, in UTF-8.
    pub name: *const [u8],
    /// The size of its stack as the user knows it.
    pub size: usize,
}

/// Tells whose guard page an address is in, if it is one of the calling OS thread's green threads.
pub type Describe = fn(fault_address: usize) -> Option<OverflowedStack>;

/// What the handler needs. Set once, complete, before the handler is installed, so that the handler
/// only ever reads it.
static HANDLER: OnceLock<Handler> = OnceLock::new();

struct Handler {
    describe: Describe,
    /// What was to be done with SIGSEGV before.
    segv: libc::sigaction,
    /// What was to be done with SIGBUS before.
    bus: libc::sigaction,
}

/// Installs the handler of SIGSEGV and SIGBUS; from the second call on, does nothing.
///
/// # Safety
///
/// `describe` is called in a signal handler, on any OS thread of the process, whatever was
/// interrupted: it must be async-signal-safe. The name that it returns must stay readable while that
/// OS thread stays in the handler, which it never leaves.
pub unsafe fn install_overflow_handler(describe: Describe) -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let segv = current_action(libc::SIGSEGV)?;
    let bus = current_action(libc::SIGBUS)?;
    HANDLER.get_or_init(|| Handler {
        describe,
        segv,
        bus,
    });
    set_action(libc::SIGSEGV, &ours_before(&segv))?;
    set_action(libc::SIGBUS, &ours_before(&bus))?;
    *installed = true;
    Ok(())
}

/// The action that runs [`on_fault`], with the mask that the handler it may pass on to counts on.
fn ours_before(previous: &libc::sigaction) -> libc::sigaction {
    let mut action = *previous;
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (previous.sa_flags & libc::SA_NODEFER);
    action
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(handler) = HANDLER.get() else {
        return;
    };
    // SAFETY: the kernel passes a valid siginfo_t to an SA_SIGINFO handler.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Only a fault has an address; zero and negative codes are signals that a process sent.
    let is_fault = code > 0;
    if is_fault && let Some(stack) = (handler.describe)(address) {
        report(&stack);
        abort();
    }
    let previous = if signal == libc::SIGBUS {
        &handler.bus
    } else {
        &handler.segv
    };
    // SAFETY: `previous` is the action that the kernel had for this signal, and these are the arguments
    // that the kernel gave for it.
    unsafe { pass_on(previous, is_fault, signal, info, context) };
}

/// Does what would have been done without us.
///
/// # Safety
///
/// `previous` was an action of `signal` in this process, and `info` and `context` come from the kernel.
unsafe fn pass_on(
    previous: &libc::sigaction,
    is_fault: bool,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    if previous.sa_flags & libc::SA_RESETHAND != 0 {
        // SAFETY: async-signal-safe, and takes plain values.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    match previous.sa_sigaction {
        // A fault cannot be ignored: the kernel takes the default action instead, so both come to
        // the same. Once the default is back, returning repeats the fault; a signal that was sent
        // is sent again and delivered on return, when it is no longer blocked.
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: both calls are async-signal-safe and take plain values.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if !is_fault {
                    libc::raise(signal);
                }
            }
        }
        address if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            type Full = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: sigaction(2): with SA_SIGINFO the address is that of a function of three
            // arguments.
            let function = unsafe { mem::transmute::<libc::sighandler_t, Full>(address) };
            function(signal, info, context);
        }
        address => {
            // SAFETY: sigaction(2): without SA_SIGINFO the address is that of a function of one
            // argument.
            let function =
                unsafe { mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(address) };
            function(signal);
        }
    }
}

/// Writes the message, whole, by one writev(2). A standard error that takes less of it or none leaves
/// nothing that could be done about it here.
fn report(stack: &OverflowedStack) {
    let mut digits = [0; 20];
    // SAFETY: the promise of `install_overflow_handler` covers the name.
    let name = unsafe { &*stack.name };
    let parts: [&[u8]; 5] = [
        b"\ngreen thread '",
        name,
        b"' has overflowed its stack of ",
        decimal(stack.size, &mut digits),
        b" bytes; raise it with thread::Builder::stack_size or GREENRING_STACK_SIZE\n\
          fatal runtime error: stack overflow, aborting\n",
    ];
    let vectors = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: each vector describes a slice that outlives the call; writev only reads from them.
    unsafe { libc::writev(libc::STDERR_FILENO, vectors.as_ptr(), 5) };
}

/// `value` in decimal, written to the end of `digits`, without the formatting machinery.
fn decimal(mut value: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[start..];
        }
    }
}

/// Ends the process by SIGABRT, whatever handler the program has for it.
fn abort() -> ! {
    // SAFETY: both are async-signal-safe and have no preconditions.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::abort()
    }
}

fn current_action(signal: c_int) -> io::Result<libc::sigaction> {
    // SAFETY: all zeros is a value of this C structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: a null new action asks only; the old one is written to a structure of the right type.
    Errno::result(unsafe { libc::sigaction(signal, ptr::null(), &mut action) })?;
    Ok(action)
}

fn set_action(signal: c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the action is a valid structure whose handler, `on_fault`, is async-signal-safe.
    Errno::result(unsafe { libc::sigaction(signal, action, ptr::null_mut()) })?;
    Ok(())
}

/// Keeps the calling OS thread's alternate signal stack; dropped on the same OS thread, when it runs no
/// green thread any more.
#[derive(Debug)]
#[must_use = "dropping it takes the alternate stack away"]
pub struct AlternateStack {
    /// The mapping, guard page first, if it had to be made; `None` where the OS thread had one.
    made: Option<(NonNull<c_void>, usize)>,
    /// An alternate stack belongs to one OS thread: neither Send nor Sync.
    _this_os_thread: PhantomData<*const ()>,
}

/// Gives the calling OS thread an alternate signal stack, unless it has one.
///
/// std's own OS threads have one; those that foreign code made may not, and there the handler could
/// not run once a stack has overflowed: the process would die without a word.
pub fn ensure_alternate_stack() -> io::Result<AlternateStack> {
    let mut alternate = AlternateStack {
        made: None,
        _this_os_thread: PhantomData,
    };
    if current_alternate_stack()?.ss_flags & libc::SS_DISABLE == 0 {
        return Ok(alternate);
    }
    // SAFETY: both functions have no preconditions; an unknown auxiliary value reads as 0.
    let (frame, page) = unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        (libc::getauxval(AT_MINSIGSTKSZ) as usize, page)
    };
    let usable = MIN_ALTERNATE_STACK
        .max(frame + HANDLER_ROOM)
        .next_multiple_of(page);
    let length = NonZeroUsize::new(page + usable).expect("a page is not empty");
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK;
    // SAFETY: a new mapping at an address of the kernel's choice, without MAP_FIXED, replaces nothing.
    let start = unsafe { mman::mmap_anonymous(None, length, access, flags) }?;
    // From here on dropping `alternate` unmaps it.
    alternate.made = Some((start, length.get()));
    // SAFETY: the first page of the mapping just made, to which nothing refers.
    unsafe { mman::mprotect(start, page, ProtFlags::PROT_NONE) }?;
    let stack = libc::stack_t {
        // SAFETY: one page into a mapping that is longer than a page.
        ss_sp: unsafe { start.byte_add(page) }.as_ptr(),
        ss_flags: 0,
        ss_size: usable,
    };
    // SAFETY: the memory is ours, writable, and stays mapped until `AlternateStack::drop` has taken it
    // out of use.
    Errno::result(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) })?;
    Ok(alternate)
}

fn current_alternate_stack() -> io::Result<libc::stack_t> {
    // SAFETY: all zeros is a value of this C structure.
    let mut current: libc::stack_t = unsafe { mem::zeroed() };
    // SAFETY: a null new stack asks only; the old one is written to a structure of the right type.
    Errno::result(unsafe { libc::sigaltstack(ptr::null(), &mut current) })?;
    Ok(current)
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        let Some((start, length)) = self.made else {
            return;
        };
        let current = current_alternate_stack().expect("sigaltstack(2) always answers a query");
        let range = start.addr().get()..start.addr().get() + length;
        // Whoever set another one since then is left alone.
        if current.ss_flags & libc::SS_DISABLE == 0 && range.contains(&current.ss_sp.addr()) {
            let none = libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            // SAFETY: disabling takes no memory.
            let result = Errno::result(unsafe { libc::sigaltstack(&none, ptr::null_mut()) });
            assert!(result.is_ok(), "an alternate stack freed while in use");
        }
        // SAFETY: the mapping is ours and, as of the lines above, not this OS thread's alternate stack.
        let result = unsafe { mman::munmap(start, length) };
        assert!(result.is_ok(), "munmap of an alternate stack: {result:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Tells the child's role to a test that runs itself again in a child process.
    const CHILD: &str = "GREENRING_TEST_OVERFLOW_CHILD";

    fn is_child() -> bool {
        std::env::var_os(CHILD).is_some()
    }

    /// Runs the test of this name again, alone, as a child.
    fn run_child(test: &str) -> Output {
        let (_, module) = module_path!().split_once("::").expect("a path in a crate");
        Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "--nocapture", &format!("{module}::{test}")])
            .env(CHILD, "1")
            .output()
            .expect("the child runs")
    }

    /// The page that stands for a guard in the children.
    static GUARD: AtomicUsize = AtomicUsize::new(0);

    fn describe(address: usize) -> Option<OverflowedStack> {
        (address & !4095 == GUARD.load(Ordering::Relaxed)).then_some(OverflowedStack {
            name: b"digger" as &[u8],
            size: 262_144,
        })
    }

    fn inaccessible_page() -> NonNull<c_void> {
        let length = NonZeroUsize::new(4096).expect("not zero");
        // SAFETY: a new mapping replaces nothing.
        unsafe { mman::mmap_anonymous(None, length, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) }
            .expect("a page")
    }

    fn fault(page: NonNull<c_void>) {
        // SAFETY: not sound, and meant so: the page is inaccessible, the child dies of it.
        unsafe { page.cast::<u8>().byte_add(8).write_volatile(1) };
    }

    fn install() {
        // SAFETY: `describe` reads one atomic and returns a static name.
        unsafe { install_overflow_handler(describe) }.expect("sigaction");
    }

    #[test]
    fn an_overflow_is_named_and_aborts() {
        if is_child() {
            extern "C" fn survive(_: c_int) {
                std::process::exit(0);
            }
            // SAFETY: a handler that the abort must not run.
            unsafe { libc::signal(libc::SIGABRT, survive as *const () as libc::sighandler_t) };
            install();
            install();
            let page = inaccessible_page();
            GUARD.store(page.addr().get(), Ordering::Relaxed);
            fault(page);
        }
        let output = run_child("an_overflow_is_named_and_aborts");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.ends_with(
                "\ngreen thread 'digger' has overflowed its stack of 262144 bytes; raise it with \
                 thread::Builder::stack_size or GREENRING_STACK_SIZE\n\
                 fatal runtime error: stack overflow, aborting\n"
            ),
            "{stderr}"
        );
    }

    /// Takes out std's handler, so that ours finds the kernel's default.
    fn set_default(signal: c_int) {
        // SAFETY: takes plain values.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }

    #[test]
    fn another_fault_dies_as_before() {
        if is_child() {
            set_default(libc::SIGSEGV);
            install();
            fault(inaccessible_page());
        }
        let output = run_child("another_fault_dies_as_before");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("overflowed"));
    }

    #[test]
    fn another_fault_dies_as_before_under_std() {
        if is_child() {
            install();
            fault(inaccessible_page());
        }
        let output = run_child("another_fault_dies_as_before_under_std");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    }

    #[test]
    fn a_signal_that_was_sent_still_kills() {
        if is_child() {
            set_default(libc::SIGBUS);
            install();
            // SAFETY: takes plain values.
            unsafe { libc::raise(libc::SIGBUS) };
        }
        let output = run_child("a_signal_that_was_sent_still_kills");
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    }

    #[test]
    fn an_ignored_signal_stays_ignored_but_a_fault_kills() {
        if is_child() {
            // SAFETY: takes plain values.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_IGN) };
            install();
            // SAFETY: takes plain values.
            unsafe { libc::raise(libc::SIGSEGV) };
            eprintln!("still here");
            fault(inaccessible_page());
        }
        let output = run_child("an_ignored_signal_stays_ignored_but_a_fault_kills");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("still here"));
    }

    #[test]
    fn the_plain_handler_before_is_called() {
        if is_child() {
            extern "C" fn previous(signal: c_int) {
                std::process::exit(40 + signal);
            }
            // SAFETY: exits, which is more than a handler may do in general, but the child is idle.
            unsafe { libc::signal(libc::SIGSEGV, previous as *const () as libc::sighandler_t) };
            install();
            fault(inaccessible_page());
        }
        let output = run_child("the_plain_handler_before_is_called");
        assert_eq!(output.status.code(), Some(40 + libc::SIGSEGV), "{output:?}");
    }

    #[test]
    fn the_full_handler_before_is_called_with_its_arguments() {
        if is_child() {
            extern "C" fn previous(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
                // SAFETY: the kernel's siginfo_t, passed on.
                let address = unsafe { (*info).si_addr() }.addr();
                let right = address == GUARD.load(Ordering::Relaxed) + 4096 + 8;
                std::process::exit(if right && !context.is_null() { 41 } else { 42 });
            }
            let mut action = current_action(libc::SIGSEGV).expect("sigaction");
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = previous;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
            set_action(libc::SIGSEGV, &action).expect("sigaction");
            install();
            let page = inaccessible_page();
            GUARD.store(page.addr().get() - 4096, Ordering::Relaxed);
            fault(page);
        }
        let output = run_child("the_full_handler_before_is_called_with_its_arguments");
        assert_eq!(output.status.code(), Some(41), "{output:?}");
    }

    #[test]
    fn decimals() {
        for value in [0, 9, 10, 262_144, usize::MAX] {
            let mut digits = [0; 20];
            assert_eq!(decimal(value, &mut digits), value.to_string().as_bytes());
        }
    }

    #[test]
    fn an_alternate_stack_comes_and_goes() {
        // An OS thread of its own, whose alternate stack nobody else's test depends on.
        let test = std::thread::spawn(|| {
            let of_std = current_alternate_stack().expect("query");
            let kept = ensure_alternate_stack().expect("there is one");
            assert!(kept.made.is_none(), "std gives its OS threads one");
            drop(kept);
            let none = libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            // SAFETY: disabling takes no memory.
            unsafe { libc::sigaltstack(&none, ptr::null_mut()) };

            let made = ensure_alternate_stack().expect("a new one");
            let (start, length) = made.made.expect("made");
            let current = current_alternate_stack().expect("query");
            assert_eq!(current.ss_flags, 0);
            assert!(current.ss_size >= MIN_ALTERNATE_STACK);
            let end = current.ss_sp.addr() + current.ss_size;
            assert_eq!(end, start.addr().get() + length);
            assert!(current.ss_sp.addr() > start.addr().get(), "a guard below");
            drop(made);
            let after = current_alternate_stack().expect("query");
            assert_eq!(after.ss_flags, libc::SS_DISABLE);

            // One that was replaced meanwhile is left in place.
            let made = ensure_alternate_stack().expect("a new one");
            // SAFETY: std's own alternate stack, still mapped.
            unsafe { libc::sigaltstack(&of_std, ptr::null_mut()) };
            drop(made);
            let after = current_alternate_stack().expect("query");
            assert_eq!(after.ss_sp, of_std.ss_sp);
        });
        test.join().expect("the test's OS thread");
    }
}
