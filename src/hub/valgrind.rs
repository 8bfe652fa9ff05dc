//! Tells valgrind which memory is a stack, so that it takes a switch for one and
//! not for a frame of megabytes. Costs a few instructions elsewhere.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))] // Valgrind is asked by instructions.

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use corosensei::stack::valgrind::ValgrindStackRegistration as Registration;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::Registration;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;

    const REGISTER: u64 = 0x1501;
    const DEREGISTER: u64 = 0x1502;

    /// Memory that is a stack until this is dropped.
    #[derive(Debug)]
    pub(crate) struct Registration(u64);

    impl Registration {
        pub(crate) fn new(lowest: *mut u8, bytes: usize) -> Registration {
            let lowest = lowest.addr() as u64;
            Registration(request([REGISTER, lowest, lowest + bytes as u64, 0, 0, 0]))
        }
    }

    impl Drop for Registration {
        fn drop(&mut self) {
            request([DEREGISTER, self.0, 0, 0, 0, 0]);
        }
    }

    /// Asks valgrind; 0 if the program does not run under it.
    fn request(question: [u64; 6]) -> u64 {
        let answer;
        // SAFETY: the four rotations turn `rdi` once round, the exchange changes
        // nothing. Valgrind knows the sequence, reads the question and puts its
        // answer into `rdx`.
        unsafe {
            asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                inout("rdx") 0_u64 => answer,
                in("rax") &raw const question,
                out("rdi") _,
                options(nostack),
            );
        }
        answer
    }
}
