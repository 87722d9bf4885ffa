//! The stretch of a victim's run in which it is stepped.
#![allow(unsafe_code, reason = "a process stops itself")]

use crate::slip::{BEGUN, ENDED, Slip};

/// Handed to a victim: it prepares, calls [`begin`](Gate::begin), does the operation under test, calls
/// [`end`](Gate::end). Only what lies between is stepped.
pub struct Gate<'a> {
    slip: &'a Slip,
}

impl Gate<'_> {
    pub(crate) fn new(slip: &Slip) -> Gate<'_> {
        Gate { slip }
    }

    /// Here the stepping begins.
    #[inline(never)]
    pub fn begin(&self) {
        self.slip.enter(BEGUN);
        // SAFETY: a system call without pointers. The tester sees the stop and takes the signal away.
        unsafe { libc::syscall(libc::SYS_kill, libc::getpid(), libc::SIGSTOP) };
    }

    /// Here the stepping ends. The rest of the closure runs freely; its panic is a failure too.
    #[inline(never)]
    pub fn end(&self) {
        self.slip.enter(ENDED);
    }
}
