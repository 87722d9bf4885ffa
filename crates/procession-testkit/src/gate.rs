//! The part of a victim's run that is stepped.
#![allow(unsafe_code, reason = "a process stops itself")]

use crate::report_page::{BEGUN, ENDED, ReportPage};

/// Passed to a victim. The victim prepares, calls [`begin`](Gate::begin), runs the operation under test, and calls
/// [`end`](Gate::end). Only the part in between is stepped.
pub struct Gate<'a> {
    report_page: &'a ReportPage,
}

impl Gate<'_> {
    pub(crate) fn new(report_page: &ReportPage) -> Gate<'_> {
        Gate { report_page }
    }

    /// Starts the stepping.
    #[inline(never)]
    pub fn begin(&self) {
        self.report_page.enter(BEGUN);
        // SAFETY: a system call without pointers. The test process sees the stop and removes the signal.
        unsafe { libc::syscall(libc::SYS_kill, libc::getpid(), libc::SIGSTOP) };
    }

    /// Ends the stepping. The rest of the closure runs freely. A panic there is a failure, too.
    #[inline(never)]
    pub fn end(&self) {
        self.report_page.enter(ENDED);
    }
}
