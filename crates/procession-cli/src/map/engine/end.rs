//! The consequences of a command's end.

use std::time::{Duration, SystemTime};

use rustix::process::{WaitOptions, WaitStatus, wait};
use signal_hook::consts::SIGINT;

use super::Engine;
use crate::map::job::Job;
use crate::map::log::Entry;
use crate::map::program::mark_of_run;
use crate::map::quantity::TimeLimit;
use crate::map::running::Cut;
use crate::map::tally::{End, Status};
use crate::map::tree::Tree;
use crate::screen::Failed;

/// How long output is still read after a command has ended, if a process that it left behind has it open.
const GRACE: Duration = Duration::from_millis(500);
/// The longest delay before another attempt, unless `--retry-delay` is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

impl Engine {
    /// Reaps every child that has ended: commands, and orphans that this process has adopted.
    pub(super) fn reap(&mut self) -> Result<(), Failed> {
        let stops = if self.plan.has_terminal { WaitOptions::UNTRACED } else { WaitOptions::empty() };
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | stops) {
            let pid = pid.as_raw_nonzero().get();
            let place = self.commands.iter().position(|command| command.pid == pid && command.runs());
            match place {
                None => {}
                Some(_) if status.stopped() => self.command_was_stopped()?,
                Some(place) => self.ended(place, understood(status))?,
            }
        }
        Ok(())
    }

    fn ended(&mut self, place: usize, status: Status) -> Result<(), Failed> {
        let now = self.clock.now();
        let command = &mut self.commands[place];
        let end = match (command.cut, command.limit, status) {
            (Some(Cut::TimedOut), Some(limit), _) => End::TimedOut(limit, status),
            (_, _, Status::Exited(code)) => End::Exited(code),
            (_, _, Status::Killed(signal)) => End::Killed(signal),
        };
        command.end = Some((end, now - command.started));
        command.grace = now + GRACE;
        command.feed = None;
        self.slots[command.slot] = false;
        self.is_full = false;
        if self.plan.kill_all || command.doomed.is_some() {
            let mark = format!("PROCESSION_JOB={}", command.job.number);
            let tree = Tree::now();
            tree.kill_orphans(command.pid, [mark.as_bytes(), mark_of_run().as_bytes()]);
            tree.kill_survivors(command.doomed.iter().flatten());
        }
        if self.plan.output.ungroup && status != Status::Exited(0) && self.printer.outlet.has_lost_reader() {
            // The command could not print.
            self.close();
            self.commands[place].cut.get_or_insert(Cut::Stopped);
        }
        if self.plan.has_terminal {
            self.take_terminal_back()?;
            if status == Status::Killed(SIGINT) {
                // Ctrl-C reached only the command.
                self.interrupt(SIGINT);
            }
        }
        self.drain(place)?;
        if !self.commands[place].has_open_streams() {
            self.complete(place)?;
        }
        Ok(())
    }

    /// Decides what becomes of the job of a command that has ended and whose output is complete.
    pub(super) fn complete(&mut self, place: usize) -> Result<(), Failed> {
        let command = self.commands.swap_remove(place);
        let Some((end, took)) = command.end else { return Ok(()) };
        let mut job = command.job;
        if command.cut == Some(Cut::Stopped) && !end.is_good() {
            self.printer.finish(job.number, None)?; // `--resume` does it again
        } else if !end.is_good() && job.attempts <= self.plan.retries && self.stopped.is_none() {
            job.not_before = self.clock.now() + self.delay_after(job.attempts);
            self.again.push(job);
            self.again.sort_by_key(|job| std::cmp::Reverse(job.not_before));
        } else {
            self.settle(job, &command.words, command.start_time, end, took)?;
        }
        Ok(())
    }

    /// Returns the delay before the next attempt. It doubles with each attempt.
    fn delay_after(&self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
        self.plan.retry_delay.saturating_mul(factor).min(LONGEST_DELAY.max(self.plan.retry_delay))
    }

    /// Logs, counts and prints a job that has no further attempt.
    pub(super) fn settle(
        &mut self,
        job: Job,
        words: &[Vec<u8>],
        start: SystemTime,
        end: End,
        took: Duration,
    ) -> Result<(), Failed> {
        let (exit, signal) = end.numbers();
        self.plan.log.note(&Entry {
            job: job.number,
            start,
            seconds: took.as_secs_f64(),
            attempt: job.attempts,
            exit,
            signal,
            timed_out: matches!(end, End::TimedOut(..)),
            input: &job.input(),
            words,
            sent: job.block.as_ref().map_or(0, |block| block.len() as u64),
            received: self.printer.received(job.number),
        })?;
        self.tally.note(&end);
        if end.is_good() && matches!(self.plan.timeout, Some(TimeLimit::Percent(_))) {
            let place = self.durations.partition_point(|&other| other < took);
            self.durations.insert(place, took);
        }
        let remark = (!end.is_good()).then(|| end.complaint(&job));
        self.printer.finish(job.number, remark)?;
        self.halt_if_due();
        Ok(())
    }
}

fn understood(status: WaitStatus) -> Status {
    match status.terminating_signal() {
        Some(signal) => Status::Killed(signal),
        None => Status::Exited(status.exit_status().unwrap_or(0)),
    }
}
