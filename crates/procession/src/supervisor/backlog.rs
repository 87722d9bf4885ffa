//! What the kernel refused to do for the supervisor, and when it is asked again.

use crate::os::clock::{Deadline, now_ns};
use crate::os::process;

/// The first and the longest pause before the kernel is asked again.
const PAUSE_NS: [u64; 2] = [5_000_000, 1_000_000_000];

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    /// When to ask again, on the monotonic clock, and how long the pause before is; `None` while nothing is owed.
    again: Option<(u64, u64)>,
    /// Processes that are to die and could not be killed.
    spared: Vec<i32>,
}

impl Backlog {
    /// Notes that something could not be done. The pauses grow while that goes on.
    pub(super) fn note(&mut self) {
        let now = now_ns();
        if self.again.is_none_or(|(at, _)| at <= now) {
            let pause = self.again.map_or(PAUSE_NS[0], |(_, pause)| (2 * pause).min(PAUSE_NS[1]));
            self.again = Some((now + pause, pause));
        }
    }

    /// When the supervisor is to look again although nothing may have happened.
    pub(super) fn due(&self) -> Deadline {
        self.again.map_or(Deadline::NEVER, |(at, _)| Deadline::NEVER.min_ns(at))
    }

    /// Kills a child, or an orphan that was adopted: until it is reaped, the number is its own.
    pub(super) fn kill(&mut self, pid: i32) {
        if process::signal_child(pid, libc::SIGKILL).is_err_and(|e| e.raw_os_error() != Some(libc::ESRCH)) {
            if !self.spared.contains(&pid) {
                self.spared.push(pid);
            }
            self.note();
        }
    }

    /// Kills those again that could not be killed.
    pub(super) fn kill_again(&mut self) {
        std::mem::take(&mut self.spared).into_iter().for_each(|pid| self.kill(pid));
    }

    /// The process is about to be reaped.
    pub(super) fn forget(&mut self, pid: i32) {
        self.spared.retain(|&spared| spared != pid);
    }

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self) -> bool {
        self.again.is_some_and(|(at, _)| at <= now_ns())
    }

    /// What was owed when `before` was due has been asked for again: nothing is owed if nothing was noted since.
    pub(super) fn settle(&mut self, before: Deadline) {
        if self.due().as_ns() == before.as_ns() {
            self.again = None;
        }
    }
}
