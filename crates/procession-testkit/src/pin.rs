//! Keeps the test process, the victim and the checkers on one processor, so that switching between them wakes
//! no other processor.
//!
//! These processes take turns anyway, because each waits for another.
#![allow(unsafe_code, reason = "sched_setaffinity")]

use std::mem;

/// Keeps this thread and its forks on the current processor until it is dropped.
pub(crate) struct Pin {
    before: libc::cpu_set_t,
}

impl Pin {
    pub(crate) fn here() -> Pin {
        // SAFETY: a set of processors is plain bits; both calls stay within it.
        unsafe {
            let mut before: libc::cpu_set_t = mem::zeroed();
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut before);
            let mut one: libc::cpu_set_t = mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &one);
            Pin { before }
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.before) };
    }
}
