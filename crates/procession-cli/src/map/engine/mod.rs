//! [`Engine`]: runs the commands. One thread waits for signals, descriptors and deadlines, and handles each.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | holds the state of a run and its loop |
//! | `start.rs` | starts commands |
//! | `wait.rs` | polls, reads and writes |
//! | `end.rs` | reaps commands and settles their jobs |
//! | `stop.rs` | ends the run early; suspends it |

mod end;
mod start;
mod stop;
mod wait;

use std::ffi::CString;
use std::fs::File;
use std::time::{Duration, Instant};

use procession_launch::Launcher;

use super::front::FrontHandle;
use super::job::Job;
use super::outlet::Outlet;
use super::plan::Plan;
use super::printer::Printer;
use super::program::{self, Found};
use super::progress::{Bar, Progress};
use super::running::Running;
use super::signals::Signals;
use super::tally::{OURS, Tally};
use super::terminal::Terminal;
use super::throttle::Throttle;
use crate::screen::Failed;
use stop::Why;
pub use stop::kill_descendants;

pub struct Engine {
    plan: Plan,
    front: FrontHandle,
    signals: Signals,
    launcher: Launcher,
    /// The variables that are the same for every command.
    environment: Vec<CString>,
    null: File,
    terminal: Option<Terminal>,
    /// The limit of open files that commands get, if that of this process was raised.
    open_files: Option<u64>,
    program: Found,
    printer: Printer,
    throttle: Throttle,
    tally: Tally,
    clock: Clock,
    /// Commands that run, and commands that have ended but whose output is still open.
    commands: Vec<Running>,
    /// Whether each slot is taken. Users see the first slot as 1.
    slots: Vec<bool>,
    /// Jobs that wait for another attempt, the next one last.
    again: Vec<Job>,
    /// The durations of successful commands, sorted. Kept only if the time limit is a percentage of their median.
    durations: Vec<Duration>,
    /// Whether the kernel refused another process. The next attempt to start one comes when a command has
    /// ended.
    is_full: bool,
    stopped: Option<Why>,
    /// The deadline after which unread output is dropped.
    output_deadline: Option<Duration>,
    shown: Duration,
    buffer: Vec<u8>,
}

/// The time since the start, not counting the time for which the run was suspended.
struct Clock {
    start: Instant,
    paused: Duration,
}

impl Clock {
    fn now(&self) -> Duration {
        self.start.elapsed() - self.paused
    }
}

impl Engine {
    pub fn new(
        plan: Plan,
        terminal: Option<Terminal>,
        front: FrontHandle,
        signals: Signals,
    ) -> Result<Engine, Failed> {
        let has_bar = !(plan.quiet || plan.output.ungroup || plan.ask || plan.dry_run);
        let outlet = Outlet::new(Bar::new(has_bar))?;
        Ok(Engine {
            front,
            signals,
            launcher: Launcher::new(),
            environment: program::environment(),
            null: File::options().read(true).write(true).open("/dev/null")?,
            terminal,
            open_files: program::raise_open_files(plan.jobs),
            program: Found::default(),
            printer: Printer::new(plan.output.clone(), outlet),
            throttle: Throttle::new(plan.starts),
            tally: Tally::default(),
            clock: Clock { start: Instant::now(), paused: Duration::ZERO },
            commands: Vec::new(),
            slots: Vec::new(),
            again: Vec::new(),
            durations: Vec::new(),
            is_full: false,
            stopped: None,
            output_deadline: None,
            shown: Duration::ZERO,
            buffer: vec![0; 64 << 10],
            plan,
        })
    }

    /// Runs every command and returns the exit code.
    pub fn run(mut self) -> u8 {
        // CRASH: a front that died before this process listened has sent a signal that nothing handled.
        self.end_if_front_has_died();
        loop {
            let done = self.turn();
            if let Err(error) = done {
                self.fail(&error.to_string());
            }
            if self.is_over() {
                break;
            }
        }
        self.leave()
    }

    fn turn(&mut self) -> Result<(), Failed> {
        self.handle_signals();
        self.plan.input.read(false)?;
        self.start_commands()?;
        self.handle_deadlines();
        self.show_progress();
        self.write_output()?;
        if !self.is_over() {
            self.wait()?;
        }
        if self.plan.input.is_read() && self.stopped.is_none() {
            self.plan.log.check_end(self.plan.input.made())?;
        }
        Ok(())
    }

    /// Returns the number of commands that run.
    fn running(&self) -> usize {
        self.commands.iter().filter(|command| command.runs()).count()
    }

    fn has_work(&self) -> bool {
        self.stopped.is_none() && !(self.plan.input.is_over() && self.again.is_empty())
    }

    fn is_over(&mut self) -> bool {
        if self.has_work() || !self.commands.is_empty() {
            return false;
        }
        if let Err(error) = self.printer.finish_all() {
            self.fail(&error.to_string());
        }
        self.printer.outlet.awaited().is_none()
    }

    fn show_progress(&mut self) {
        let now = self.clock.now();
        if !self.printer.outlet.is_bar_enabled() || now < self.shown + super::progress::TICK {
            return;
        }
        self.shown = now;
        let waits_for = match self.throttle.closed() {
            _ if self.stopped.is_some() => None,
            Some((_, what)) => Some(what.clone()),
            None if !self.plan.input.is_read() && !self.plan.input.has_job() => Some("input".into()),
            None => None,
        };
        let progress = Progress {
            done: self.tally.settled(),
            failed: self.tally.failed,
            running: self.running(),
            known: self.plan.input.made(),
            input_is_read: self.plan.input.is_read(),
            elapsed: now,
            waits_for,
        };
        self.printer.outlet.bar().show(&progress.text());
    }

    /// Prints the summary and returns the exit code. With `--kill-all`, kills everything that commands left behind.
    fn leave(mut self) -> u8 {
        if self.plan.kill_all {
            self.kill_everything();
        }
        self.printer.outlet.bar().remove();
        let is_silent = self.plan.quiet || self.plan.dry_run || matches!(self.stopped, Some(Why::Closed));
        if !is_silent {
            let left = self.stopped.as_ref().map(|why| self.left(why));
            let summary = self.tally.summary(left);
            self.printer.say(&summary);
            self.write_rest();
        }
        match self.stopped {
            None => self.tally.exit_code(),
            Some(Why::Signal(signal)) => 128 + signal as u8,
            Some(Why::Closed) => 128 + signal_hook::consts::SIGPIPE as u8,
            Some(Why::Failed) => OURS,
            Some(Why::Halted) if self.plan.halt.is_some_and(|halt| halt.is_success()) => 0,
            Some(Why::Halted | Why::NotExecutable) => self.tally.exit_code(),
        }
    }

    /// Writes the last messages. Waits for their reader until a signal comes.
    fn write_rest(&mut self) {
        while self.write_output().is_ok() && self.printer.outlet.awaited().is_some() && self.wait().is_ok() {
            self.handle_signals();
            self.handle_deadlines();
        }
    }

    fn left(&self, why: &Why) -> String {
        let left = self.plan.input.made() - self.tally.settled();
        let why = match why {
            Why::Signal(_) => "interrupted",
            Why::Halted => "halted",
            _ => "stopped",
        };
        match (left, self.plan.input.is_read()) {
            (0, true) => why.to_owned(),
            (0, false) => format!("{why} before the end of the input"),
            (_, true) => format!("{why} with {left} to do"),
            (_, false) => format!("{why} with at least {left} to do"),
        }
    }
}
