//! A seccomp filter that refuses io_uring, as container engines install.

use std::sync::OnceLock;

/// Refuses io_uring to the whole process if `GREENRING_TEST_REFUSE` says so.
pub fn refuse_if_asked() {
    refused();
}

/// The name of the errno that io_uring is refused with, if it is.
pub fn refused() -> Option<&'static str> {
    static REFUSED: OnceLock<Option<&'static str>> = OnceLock::new();
    *REFUSED.get_or_init(|| {
        let asked = std::env::var("GREENRING_TEST_REFUSE").ok()?;
        let (errno, name) = match asked.as_str() {
            "eperm" => (libc::EPERM, "EPERM"),
            "enosys" => (libc::ENOSYS, "ENOSYS"),
            other => panic!("GREENRING_TEST_REFUSE is {other:?}; allowed: eperm, enosys"),
        };
        refuse_io_uring(errno);
        Some(name)
    })
}

/// Makes io_uring_setup(2), io_uring_enter(2) and io_uring_register(2) fail
/// with `errno`, for all OS threads of the process and for good.
pub fn refuse_io_uring(errno: i32) {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The system call's number stands at offset 0 of seccomp_data.
        instruction(LOAD_WORD, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 3, 0, libc::SYS_io_uring_setup as u32),
        instruction(JUMP_IF_EQUAL, 2, 0, libc::SYS_io_uring_enter as u32),
        instruction(JUMP_IF_EQUAL, 1, 0, libc::SYS_io_uring_register as u32),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain system calls; the program outlives the second one.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let result = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        );
        assert_eq!(result, 0, "seccomp(2): {}", std::io::Error::last_os_error());
    }
}
