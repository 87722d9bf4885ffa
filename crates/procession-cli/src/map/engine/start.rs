//! Starting commands.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use procession_launch::{Failure, Order, Step};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Engine;
use crate::map::job::Job;
use crate::map::outlet::{Kind, Target};
use crate::map::quantity::TimeLimit;
use crate::map::quoting::command_line;
use crate::map::running::{Feed, Running};
use crate::map::tally::{End, NOT_EXECUTABLE, NOT_FOUND};
use crate::screen::Failed;

/// A time limit relative to the median applies once this many commands have succeeded.
const FEWEST_DURATIONS: usize = 3;

/// The result of trying to start a job.
enum Start {
    Begun,
    /// The job was put back.
    Later,
}

impl Engine {
    /// Starts as many commands as may run.
    pub(super) fn start_commands(&mut self) -> Result<(), Failed> {
        while self.may_start() {
            let Some(job) = self.next_job() else { break };
            if job.attempts == 0 && self.was_done_before(&job)? {
                continue;
            }
            if let Start::Later = self.start(job)? {
                break;
            }
        }
        Ok(())
    }

    fn may_start(&mut self) -> bool {
        let has_job = || self.plan.input.has_job() || !self.again.is_empty();
        self.stopped.is_none()
            && !self.is_full
            && has_job()
            && self.running() < self.plan.jobs
            && self.throttle.is_open(self.clock.now())
    }

    /// Takes a job whose next attempt is due, or the next one of the input.
    fn next_job(&mut self) -> Option<Job> {
        let now = self.clock.now();
        match self.again.last() {
            Some(job) if job.not_before <= now => self.again.pop(),
            _ => self.plan.input.next_job(),
        }
    }

    fn was_done_before(&mut self, job: &Job) -> Result<bool, Failed> {
        let words = self.plan.template.is_repeatable().then(|| self.plan.template.words(job, 0));
        let was_done = self.plan.log.has_done(job, words.as_deref())?;
        if was_done {
            self.tally.skipped += 1;
            self.printer.finish(job.number, None)?;
        }
        Ok(was_done)
    }

    fn start(&mut self, mut job: Job) -> Result<Start, Failed> {
        let slot = self.slots.iter().position(|taken| !taken).unwrap_or(self.slots.len());
        let words = self.plan.template.words(&job, slot + 1);
        if self.plan.ask && job.attempts == 0 {
            match self.is_wanted(&words)? {
                Some(true) => {}
                Some(false) => {
                    self.tally.declined += 1;
                    self.printer.finish(job.number, None)?;
                    return Ok(Start::Begun);
                }
                None => {
                    self.again.push(job);
                    return Ok(Start::Later);
                }
            }
        }
        self.printer.begin(&job)?;
        if self.plan.dry_run {
            let line = [&command_line(&words)[..], b"\n"].concat();
            self.printer.take(job.number, Target::Out, &line)?;
            self.printer.finish(job.number, None)?;
            self.tally.succeeded += 1;
            return Ok(Start::Begun);
        }
        if self.plan.verbose {
            let line = [&command_line(&words)[..], b"\n"].concat();
            self.printer.outlet.push(Kind::Message, line);
        }
        job.attempts += 1;
        match self.launch(&job, &words, slot) {
            Ok(launched) => {
                self.note_start(job, words, slot, launched);
                Ok(Start::Begun)
            }
            Err(Failure { step: Step::Clone, error }) => {
                if self.running() == 0 {
                    return Err(format!("no process can be started: {error}").into());
                }
                // A command that ends makes room.
                self.is_full = true;
                job.attempts -= 1;
                self.again.push(job);
                Ok(Start::Later)
            }
            Err(failure) => {
                self.refuse(job, words, failure)?;
                Ok(Start::Begun)
            }
        }
    }

    fn is_wanted(&mut self, words: &[Vec<u8>]) -> Result<Option<bool>, Failed> {
        let terminal = self.terminal.as_ref().ok_or("there is no terminal to ask at")?;
        Ok(terminal.ask(&command_line(words), &mut self.signals)?)
    }

    fn launch(&mut self, job: &Job, words: &[Vec<u8>], slot: usize) -> Result<Launched, Failure> {
        let arguments = words.iter().map(|word| CString::new(&word[..])).collect::<Result<Vec<_>, _>>();
        let arguments = arguments.map_err(|e| refused(io::Error::new(ErrorKind::InvalidData, e)))?;
        let program = self.program.find(&words[0]).map_err(refused)?;
        let full = |e: rustix::io::Errno| Failure { step: Step::Clone, error: e.into() };
        let (mut streams, mut theirs) = ([None, None], [None, None]);
        if !self.plan.output.ungroup {
            for place in 0..2 {
                let (ours, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(full)?;
                unblock(&ours).map_err(full)?;
                (streams[place], theirs[place]) = (Some(File::from(ours)), Some(writer));
            }
        }
        let (mut feed, mut input) = (None, None);
        if let Some(block) = &job.block {
            let (reader, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(full)?;
            unblock(&ours).map_err(full)?;
            (feed, input) = (Some(Feed::new(ours, block.clone())), Some(reader));
        }
        let terminal =
            self.terminal.as_ref().filter(|_| self.plan.has_terminal).map(|terminal| terminal.stream());
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let own = [format!("PROCESSION_JOB={}", job.number), format!("PROCESSION_SLOT={}", slot + 1)];
        let own = own.map(|text| CString::new(text).unwrap_or_default());
        let environment: Vec<&CStr> = self.environment.iter().chain(&own).map(CString::as_c_str).collect();
        let order = Order {
            program,
            arguments: &arguments,
            environment: &environment,
            directory: self.plan.directory.as_deref(),
            streams: [
                input.as_ref().map(AsFd::as_fd).or(terminal).unwrap_or(self.null.as_fd()),
                theirs[0].as_ref().map_or(stdout.as_fd(), AsFd::as_fd),
                theirs[1].as_ref().map_or(stderr.as_fd(), AsFd::as_fd),
            ],
            terminal,
            nice: self.plan.nice,
            open_files: self.open_files,
        };
        // Taken before the call, which returns when the command executes its program. By then a short command may have
        // ended.
        let (started, start_time) = (self.clock.now(), SystemTime::now());
        let pid = self.launcher.start(&order)?;
        Ok(Launched { pid, started, start_time, streams, feed })
    }

    fn note_start(&mut self, job: Job, words: Vec<Vec<u8>>, slot: usize, launched: Launched) {
        if slot == self.slots.len() {
            self.slots.push(false);
        }
        self.slots[slot] = true;
        let Launched { pid, started, start_time, streams, mut feed } = launched;
        self.throttle.note_start(started);
        feed.take_if(|feed| !feed.write());
        self.commands.push(Running {
            job,
            words,
            pid,
            slot,
            started,
            start_time,
            streams,
            feed,
            limit: self.time_limit(),
            kill_at: None,
            cut: None,
            doomed: None,
            end: None,
            grace: Duration::ZERO,
        });
    }

    fn time_limit(&self) -> Option<Duration> {
        match self.plan.timeout? {
            TimeLimit::After(limit) => Some(limit),
            TimeLimit::Percent(percent) => {
                let known = self.durations.len() >= FEWEST_DURATIONS;
                known.then(|| self.durations[self.durations.len() / 2].mul_f64(percent / 100.0))
            }
        }
    }

    /// Settles a job whose command could not be started.
    fn refuse(&mut self, job: Job, words: Vec<Vec<u8>>, failure: Failure) -> Result<(), Failed> {
        let name = crate::map::quoting::excerpt(&words[0]);
        let Failure { step, error } = failure;
        let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        let why = match step {
            Step::Execute if code == NOT_FOUND => format!("{name}: command not found"),
            Step::Execute if error.kind() == ErrorKind::InvalidData => {
                "the input has a null byte, which no argument can have; use -0 if null bytes end the inputs"
                    .into()
            }
            Step::Execute => format!("{name}: cannot be executed: {error}"),
            Step::Directory => return Err(format!("the directory of --wd cannot be entered: {error}").into()),
            Step::Nice => return Err(format!("--nice {}: {error}", self.plan.nice).into()),
            step => return Err(format!("{name}: cannot be started ({step:?}): {error}").into()),
        };
        // A missing program is missing for the next input, too. A command line that is too long may be the
        // only such one.
        let is_hopeless = self.plan.template.has_fixed_program()
            && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
        self.settle(job, &words, SystemTime::now(), End::Refused(code, why), Duration::ZERO)?;
        if is_hopeless {
            self.stop_for_want_of_a_program();
        }
        Ok(())
    }
}

struct Launched {
    pid: i32,
    started: Duration,
    start_time: SystemTime,
    streams: [Option<File>; 2],
    feed: Option<Feed>,
}

fn refused(error: io::Error) -> Failure {
    Failure { step: Step::Execute, error }
}

fn unblock(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::NONBLOCK)
}
