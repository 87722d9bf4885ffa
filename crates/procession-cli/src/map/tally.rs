//! [`Tally`]: how commands ended, and the exit code of the whole run.

use std::time::Duration;

use super::job::Job;
use super::quoting::excerpt;
use crate::screen::count;

/// The exit codes, which are those of `xargs`.
const SOME_FAILED: u8 = 123;
const ONE_SAID_255: u8 = 124;
/// `map` itself failed.
pub const OURS: u8 = 125;
pub const NOT_EXECUTABLE: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Exited(i32),
    Killed(i32),
    /// The time limit ended the attempt. Contains the status that the kernel reported.
    TimedOut(Duration, Status),
    /// The command did not start. The code is [`NOT_EXECUTABLE`] or [`NOT_FOUND`].
    Refused(u8, String),
}

/// How a process ended, as the kernel reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Killed(i32),
}

impl End {
    pub fn is_good(&self) -> bool {
        *self == End::Exited(0)
    }

    /// Returns the exit code and the signal, for the log.
    pub fn numbers(&self) -> (Option<i32>, Option<i32>) {
        match self {
            End::Exited(code) | End::TimedOut(_, Status::Exited(code @ 1..)) => (Some(*code), None),
            End::Killed(signal) | End::TimedOut(_, Status::Killed(signal)) => (None, Some(*signal)),
            // The command ended successfully when it was asked to end, but it had not done its work.
            End::TimedOut(..) => (None, Some(15)),
            End::Refused(code, _) => (Some((*code).into()), None),
        }
    }

    /// Returns the message about a job that has failed for good.
    pub fn complaint(&self, job: &Job) -> String {
        let input = job.input();
        let which = if input.is_empty() { String::new() } else { format!(" ({})", excerpt(&input)) };
        let what = match self {
            End::Exited(code) => format!("exit code {code}"),
            End::Killed(signal) => format!("killed by signal {signal}"),
            End::TimedOut(limit, _) => format!("took more than {limit:?} and was killed"),
            End::Refused(code, why) => format!("{why} (exit code {code})"),
        };
        let attempts = if job.attempts > 1 { format!(", attempt {}", job.attempts) } else { String::new() };
        format!("job {}{which}: {what}{attempts}", job.number)
    }
}

/// The counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub succeeded: u64,
    pub failed: u64,
    /// Jobs that an earlier run has done, so that this run skips them.
    pub skipped: u64,
    /// Jobs that the user declined.
    pub declined: u64,
    worst: u8,
}

impl Tally {
    pub fn note(&mut self, end: &End) {
        if end.is_good() {
            self.succeeded += 1;
            return;
        }
        self.failed += 1;
        self.worst = self.worst.max(match end {
            End::Exited(255) => ONE_SAID_255,
            End::Refused(code, _) => *code,
            _ => SOME_FAILED,
        });
    }

    pub fn settled(&self) -> u64 {
        self.succeeded + self.failed + self.skipped + self.declined
    }

    /// Returns the exit code of a run that was not stopped.
    pub fn exit_code(&self) -> u8 {
        self.worst
    }

    /// Returns the summary. If the run stopped early, `left` says why, and how many jobs are left.
    pub fn summary(&self, left: Option<String>) -> String {
        let mut text = format!("{} succeeded, {} failed", count(self.succeeded, "command"), self.failed);
        if self.skipped > 0 {
            text += &format!(", {} done before", self.skipped);
        }
        if self.declined > 0 {
            text += &format!(", {} declined", self.declined);
        }
        left.map_or(text.clone(), |left| text + ", " + &left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_makes_the_exit_code() {
        let mut tally = Tally::default();
        let codes =
            [End::Exited(0), End::Exited(3), End::Killed(9), End::Exited(255), End::Exited(1)].map(|end| {
                tally.note(&end);
                tally.exit_code()
            });
        assert_eq!(codes, [0, 123, 123, 124, 124]);
        tally.note(&End::Refused(NOT_FOUND, String::new()));
        assert_eq!((tally.exit_code(), tally.succeeded, tally.failed), (127, 1, 5));
    }
}
