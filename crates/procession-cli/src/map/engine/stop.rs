//! Ends the run before its input is done, and suspends it.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, getpid, wait};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};

use super::Engine;
use crate::map::outlet::Target;
use crate::map::running::{Cut, Running};
use crate::map::signals::Signals;
use crate::map::tally::OURS;
use crate::map::tree::Tree;
use crate::screen::Failed;

/// Why a run ends before its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Signal(i32),
    /// The rule of --halt.
    Halted,
    /// No process reads standard output any longer.
    Closed,
    /// The program cannot be executed for any input.
    NotExecutable,
    Failed,
}

/// How long an interrupted run waits for readers of its output after the last command.
const READER_TIMEOUT: Duration = Duration::from_secs(1);
const KILL_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Handles the signals that have come.
    pub(super) fn handle_signals(&mut self) {
        for signal in self.signals.take() {
            match signal {
                SIGCHLD => {
                    if let Err(error) = self.reap() {
                        self.fail(&error.to_string());
                    }
                }
                SIGINT | SIGTERM | SIGHUP => self.interrupt(signal),
                SIGTSTP => self.suspend(),
                SIGCONT => self.end_if_front_has_died(),
                _ => {}
            }
        }
    }

    /// Passes a first signal on and starts no more commands. Kills everything at the second one.
    pub(super) fn interrupt(&mut self, signal: i32) {
        if matches!(self.stopped.replace(Why::Signal(signal)), Some(Why::Signal(_))) {
            self.commands.iter_mut().for_each(kill);
            self.printer.outlet.close(Target::Out);
            return;
        }
        self.output_deadline = Some(self.clock.now() + READER_TIMEOUT);
        let passed = match signal {
            SIGINT => Signal::INT,
            SIGHUP => Signal::HUP,
            _ => Signal::TERM,
        };
        for command in self.commands.iter_mut().filter(|command| command.runs()) {
            command.cut.get_or_insert(Cut::Stopped);
            command.signal(passed);
            // A stopped command handles no signal until it is continued.
            command.signal(Signal::CONT);
        }
    }

    /// Asks all commands to end, and sets the time at which they are killed.
    fn end_commands(&mut self) {
        let kill_at = self.clock.now() + self.plan.kill_after;
        for command in self.commands.iter_mut().filter(|command| command.runs()) {
            command.cut.get_or_insert(Cut::Stopped);
            command.kill_at.get_or_insert(kill_at);
            command.signal(Signal::TERM);
            command.signal(Signal::CONT);
        }
    }

    /// Stops the run because of an error of this program.
    pub(super) fn fail(&mut self, why: &str) {
        if self.stopped != Some(Why::Failed) {
            self.printer.say(why);
            self.stopped = Some(Why::Failed);
            self.end_commands();
        }
    }

    /// Stops the run because no process reads its output any longer.
    pub(super) fn close(&mut self) {
        self.printer.outlet.close(Target::Out);
        self.printer.outlet.close(Target::Err);
        if self.stopped.is_none() {
            self.stopped = Some(Why::Closed);
            self.end_commands();
        }
    }

    pub(super) fn stop_for_want_of_a_program(&mut self) {
        self.stopped.get_or_insert(Why::NotExecutable);
    }

    pub(super) fn halt_if_due(&mut self) {
        let Some(halt) = self.plan.halt else { return };
        let all = self.plan.input.is_read().then(|| self.plan.input.made());
        if self.stopped.is_none() && halt.is_due(self.tally.succeeded, self.tally.failed, all) {
            self.stopped = Some(Why::Halted);
            if halt.now {
                self.end_commands();
            }
        }
    }

    /// Handles deadlines: time limits, kills, and the grace of processes that commands left behind.
    pub(super) fn handle_deadlines(&mut self) {
        let now = self.clock.now();
        let mut silent = Vec::new();
        for command in &mut self.commands {
            if command.due().is_none_or(|due| now < due) {
                continue;
            }
            if !command.runs() {
                silent.push(command.pid);
            } else if command.kill_at.is_some() {
                kill(command);
                command.kill_at = Some(now + KILL_AGAIN);
            } else {
                command.cut.get_or_insert(Cut::TimedOut);
                command.kill_at = Some(now + self.plan.kill_after);
                // After SIGTERM, processes that lose their parents can no longer be attributed to the command.
                command.doomed = Some(Tree::now().below(command.pid));
                command.signal(Signal::TERM);
                command.signal(Signal::CONT);
            }
        }
        for pid in silent {
            let place = self.commands.iter().position(|command| command.pid == pid && !command.runs());
            if let Some(Err(error)) = place.map(|place| self.complete(place)) {
                self.fail(&error.to_string());
            }
        }
        if self.output_deadline.is_some_and(|deadline| deadline <= now) {
            self.output_deadline = None;
            if self.running() == 0 {
                self.printer.outlet.close(Target::Out);
                self.printer.outlet.close(Target::Err);
            } else {
                self.output_deadline = Some(now + READER_TIMEOUT);
            }
        }
    }

    /// Stops the commands, reports the suspension to the front, and waits for SIGCONT. Time limits do not
    /// count meanwhile.
    fn suspend(&mut self) {
        let since = Instant::now();
        self.printer.outlet.bar().hide();
        self.commands.iter().for_each(|command| command.signal(Signal::STOP));
        self.front.report_suspension();
        self.await_continuation();
        self.clock.paused += since.elapsed();
        for command in &self.commands {
            if let Some(terminal) = self.terminal.as_ref().filter(|_| self.plan.has_terminal) {
                let _ = terminal.give(command.pid);
            }
            command.signal(Signal::CONT);
        }
    }

    /// Waits for SIGCONT, which comes from the front or when the front dies. Other signals are handled
    /// afterwards.
    ///
    /// CRASH: this process does not stop itself. If it did and the front died first, SIGCONT would come
    /// before the stop, and no process would be left to send another.
    fn await_continuation(&mut self) {
        loop {
            self.signals.read();
            self.end_if_front_has_died();
            if self.signals.take_job_control() == Some(SIGCONT) {
                return;
            }
            let _ = poll(&mut [PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)], None);
        }
    }

    /// Suspends the run because the command with the terminal was stopped, by Ctrl-Z or by using the terminal in the
    /// background.
    pub(super) fn command_was_stopped(&mut self) -> Result<(), Failed> {
        self.take_terminal_back()?;
        if let Some(terminal) = &self.terminal {
            terminal.stop_owner();
        }
        Ok(())
    }

    pub(super) fn take_terminal_back(&self) -> Result<(), Failed> {
        match &self.terminal {
            Some(terminal) => {
                terminal.take_back().map_err(|e| format!("the terminal cannot be taken back: {e}").into())
            }
            None => Ok(()),
        }
    }

    /// Kills everything and exits if the front, the process that the user has started, was killed.
    pub(super) fn end_if_front_has_died(&mut self) {
        if !self.front.lives() {
            self.kill_everything();
            std::process::exit(OURS.into());
        }
    }

    /// Kills every descendant of this process.
    pub(super) fn kill_everything(&mut self) {
        kill_descendants(Some(&mut self.signals));
    }
}

/// Kills every descendant of this process and reaps them. Gives up on a descendant that the kernel cannot
/// end.
pub fn kill_descendants(mut signals: Option<&mut Signals>) {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if Tree::now().kill_below(getpid().as_raw_nonzero().get()) == 0 {
            return;
        }
        let nap = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut fds: Vec<PollFd<'_>> =
            signals.iter().map(|signals| PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&nap));
        if let Some(signals) = &mut signals {
            signals.read();
        }
    }
}

/// Kills a command with its descendants. Those that have lost their parents are killed when the command has ended.
fn kill(command: &mut Running) {
    if command.runs() {
        let tree = Tree::now();
        command.doomed.get_or_insert_default().extend(tree.below(command.pid));
        command.signal(Signal::KILL);
        tree.kill_below(command.pid);
    }
}
