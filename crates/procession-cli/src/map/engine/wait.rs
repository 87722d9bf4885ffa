//! Polling, and moving bytes.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Engine;
use crate::map::outlet::Target;
use crate::map::progress::TICK;
use crate::screen::Failed;

/// The output of a command is not polled while the command is younger than this. Most commands end before
/// that age without filling a pipe, and their output is read when they end. This saves two of three wake-ups.
const OUTPUT_POLL_AGE: Duration = Duration::from_millis(2);

/// A descriptor that can become ready.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Input,
    Outlet,
    /// Standard output, whose reader may leave while output for it waits.
    Reader,
    /// An output of the command with this pid.
    Stream(i32, Target),
    Feed(i32),
}

impl Engine {
    /// Waits until a descriptor is ready or a deadline has come. Reads and writes what is ready.
    pub(super) fn wait(&mut self) -> Result<(), Failed> {
        for token in self.ready()? {
            match token {
                Token::Signals => self.signals.read(), // heeded at the start of the next turn
                Token::Input => self.plan.input.read(true)?,
                Token::Outlet => self.write_output()?,
                Token::Reader => self.close(),
                Token::Stream(pid, target) => self.read_stream(pid, target)?,
                Token::Feed(pid) => self.feed(pid),
            }
        }
        Ok(())
    }

    fn ready(&self) -> Result<Vec<Token>, Failed> {
        let now = self.clock.now();
        let mut tokens = vec![Token::Signals];
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        let mut watch = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if let Some(input) = self.plan.input.awaited().filter(|_| self.stopped.is_none()) {
            watch(Token::Input, input, PollFlags::IN);
        }
        if let Some(outlet) = self.printer.outlet.awaited() {
            watch(Token::Outlet, outlet, PollFlags::OUT);
        }
        if let Some(stdout) = self.printer.outlet.readable_stdout().filter(|_| self.printer.holds_output()) {
            watch(Token::Reader, stdout, PollFlags::empty());
        }
        let by_line = self.plan.output.by_line;
        let mut pollable_at = None;
        for command in &self.commands {
            if let Some(feed) = &command.feed {
                watch(Token::Feed(command.pid), feed.pipe.as_fd(), PollFlags::OUT);
            }
            if command.runs() && !by_line && now < command.started + OUTPUT_POLL_AGE {
                pollable_at =
                    Some(pollable_at.map_or(command.started + OUTPUT_POLL_AGE, |first: Duration| {
                        first.min(command.started + OUTPUT_POLL_AGE)
                    }));
                continue;
            }
            for (target, stream) in [Target::Out, Target::Err].into_iter().zip(&command.streams) {
                if let Some(stream) = stream
                    && self.printer.has_room(command.job.number)
                {
                    watch(Token::Stream(command.pid, target), stream.as_fd(), PollFlags::IN);
                }
            }
        }
        let due = self.due().into_iter().chain(pollable_at).min();
        let timeout = due.map(|due| due.saturating_sub(now));
        let timeout = if self.signals.has_any() { Some(Duration::ZERO) } else { timeout };
        let timeout = timeout.map(|time| Timespec::try_from(time).unwrap_or_default());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(format!("waiting failed: {e}").into()),
        }
        Ok(tokens
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(token, _)| token)
            .collect())
    }

    /// Returns the next deadline.
    fn due(&self) -> Option<Duration> {
        let commands = self.commands.iter().filter_map(|command| command.due());
        let again = self.again.last().map(|job| job.not_before);
        let closed = self.throttle.closed().map(|(until, _)| *until);
        let starts = [again, closed]
            .into_iter()
            .flatten()
            .filter(|_| self.stopped.is_none() && !self.is_full && self.running() < self.plan.jobs);
        let has_bar = self.printer.outlet.is_bar_enabled();
        let tick = has_bar.then(|| self.shown + TICK);
        commands.chain(starts).chain(tick).chain(self.output_deadline).min()
    }

    /// Reads once from a command's output.
    fn read_stream(&mut self, pid: i32, target: Target) -> Result<(), Failed> {
        let Some(place) = self.commands.iter().position(|command| command.pid == pid) else { return Ok(()) };
        let command = &mut self.commands[place];
        let bytes = command.read(target, &mut self.buffer);
        self.printer.take(command.job.number, target, bytes)?;
        if !command.runs() && !command.has_open_streams() {
            self.complete(place)?;
        }
        Ok(())
    }

    /// Reads the output that a command has left in its pipes, at most 2 MiB from each.
    pub(super) fn drain(&mut self, place: usize) -> Result<(), Failed> {
        let command = &mut self.commands[place];
        for target in [Target::Out, Target::Err] {
            // A process in the background may write without end.
            for _ in 0..32 {
                let bytes = command.read(target, &mut self.buffer);
                if bytes.is_empty() {
                    break;
                }
                self.printer.take(command.job.number, target, bytes)?;
            }
        }
        Ok(())
    }

    fn feed(&mut self, pid: i32) {
        if let Some(command) = self.commands.iter_mut().find(|command| command.pid == pid) {
            command.feed.take_if(|feed| !feed.write());
        }
    }

    /// Writes as much output as its readers take without blocking.
    pub(super) fn write_output(&mut self) -> Result<(), Failed> {
        match self.printer.outlet.write() {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.close();
                Ok(())
            }
            Err(e) => {
                self.printer.outlet.close(Target::Out);
                Err(format!("standard output: {e}").into())
            }
        }
    }
}
