//! Calls that the kernel has refused to the supervisor, and when they are repeated.

use crate::os::clock::{Deadline, now_ns};
use crate::os::process;

/// The first and the longest pause before a call is repeated.
const PAUSE_NS: [u64; 2] = [5_000_000, 1_000_000_000];

/// The calls to repeat.
#[derive(Default)]
pub(super) struct Backlog {
    /// The time of the next repetition on the monotonic clock, and the pause before it. `None` while there is
    /// no call to repeat.
    again: Option<(u64, u64)>,
    /// Processes that could not be killed.
    spared: Vec<i32>,
}

impl Backlog {
    /// Notes that a call was refused. The pause doubles, up to the longest one, while repetitions are
    /// refused.
    pub(super) fn note(&mut self) {
        let now = now_ns();
        if self.again.is_none_or(|(at, _)| at <= now) {
            let pause = self.again.map_or(PAUSE_NS[0], |(_, pause)| (2 * pause).min(PAUSE_NS[1]));
            self.again = Some((now + pause, pause));
        }
    }

    /// Returns when the next repetition is due.
    pub(super) fn due(&self) -> Deadline {
        self.again.map_or(Deadline::NEVER, |(at, _)| Deadline::NEVER.min_ns(at))
    }

    /// Kills a child or an adopted orphan. Its process id cannot be reused until it is reaped.
    pub(super) fn kill(&mut self, pid: i32) {
        if process::signal_child(pid, libc::SIGKILL).is_err_and(|e| e.raw_os_error() != Some(libc::ESRCH)) {
            if !self.spared.contains(&pid) {
                self.spared.push(pid);
            }
            self.note();
        }
    }

    /// Kills the processes that could not be killed before.
    pub(super) fn kill_again(&mut self) {
        std::mem::take(&mut self.spared).into_iter().for_each(|pid| self.kill(pid));
    }

    /// Forgets a process that is about to be reaped.
    pub(super) fn forget(&mut self, pid: i32) {
        self.spared.retain(|&spared| spared != pid);
    }

    /// Returns whether a repetition is due.
    pub(super) fn is_due(&self) -> bool {
        self.again.is_some_and(|(at, _)| at <= now_ns())
    }

    /// Ends a repetition that was due at `before`. If no call was refused since then, no call is left to
    /// repeat.
    pub(super) fn settle(&mut self, before: Deadline) {
        if self.due().as_ns() == before.as_ns() {
            self.again = None;
        }
    }
}
