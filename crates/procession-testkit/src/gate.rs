//! The part of a victim's run that is stepped.
#![allow(unsafe_code, reason = "a process stops itself")]

use crate::slip::{BEGUN, ENDED, Slip};

/// Passed to a victim. The victim prepares, calls [`begin`](Gate::begin), runs the operation under test, and calls
/// [`end`](Gate::end). Only the part in between is stepped.
pub struct Gate<'a> {
    slip: &'a Slip,
}

impl Gate<'_> {
    pub(crate) fn new(slip: &Slip) -> Gate<'_> {
        Gate { slip }
    }

    /// Starts the stepping.
    #[inline(never)]
    pub fn begin(&self) {
        self.slip.enter(BEGUN);
        // SAFETY: a system call without pointers. The test process sees the stop and removes the signal.
        unsafe { libc::syscall(libc::SYS_kill, libc::getpid(), libc::SIGSTOP) };
    }

    /// Ends the stepping. The rest of the closure runs freely. A panic there is a failure, too.
    #[inline(never)]
    pub fn end(&self) {
        self.slip.enter(ENDED);
    }
}
