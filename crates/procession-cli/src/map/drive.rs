//! Handing lines out, and taking outcomes in.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use procession::pool::{Pool, TaskError, TaskState};
use procession::{Error, Result, Task};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::SIGTERM;

use super::command::{self, Groups, Outcome};
use super::input;
use super::log::{Entry, Log};
use super::printer::Printer;
use crate::flags::Map;
use crate::interrupt::Interrupt;
use crate::screen::{complain, count, job_bar};

type Failed = Box<dyn std::error::Error>;

/// How often a Ctrl-C is looked for while nothing else happens.
const TICK: Duration = Duration::from_millis(100);

/// What came of a command at last: what it did, or why it could not be told.
type Told = std::result::Result<std::result::Result<Outcome, String>, TaskError>;

/// What the driver hears of.
pub enum News {
    Line(Vec<u8>),
    End(io::Result<()>),
    Done(u64, Told),
}

/// A line, and how often its command was begun.
struct Line {
    number: u64,
    text: Vec<u8>,
    attempts: u32,
}

/// A line whose command is on its way.
struct Flight {
    line: Line,
    begun: Instant,
    task: Task<std::result::Result<Outcome, String>>,
}

/// A run.
struct Drive<'a> {
    flags: &'a Map,
    pool: Pool,
    groups: Groups,
    log: Log,
    /// What an earlier run has done.
    before: HashMap<u64, Vec<u8>>,
    printer: Printer,
    tell: Sender<News>,
    credit: Sender<()>,
    /// Lines that have not been handed out.
    todo: VecDeque<Line>,
    flights: HashMap<u64, Flight>,
    read: u64,
    ended: bool,
    /// The signal that ends it, and who was told of that.
    stopped_by: Option<i32>,
    signalled: HashSet<u64>,
    skipped: u64,
    succeeded: u64,
    failed: u64,
}

/// Runs it; gives the exit code.
pub fn run(flags: &Map) -> std::result::Result<u8, Failed> {
    let interrupt = Interrupt::listen()?;
    let (log, before) = match flags.log.as_deref().filter(|_| flags.resume) {
        Some(path) => Log::resume(path)?,
        None => (Log::create(flags.log.as_deref())?, HashMap::new()),
    };
    let bar = job_bar(0)?;
    let workers = flags.jobs.map_or_else(processors, |n| n as usize);
    let mut builder = Pool::builder().workers(workers).name("map");
    builder = builder.initializer(command::leave_signals_to_the_driver, ());
    if let Some(seconds) = flags.timeout {
        builder = builder.task_timeout(Duration::from_secs_f64(seconds));
    }
    let (tell, news) = mpsc::channel();
    let (credit, credits) = mpsc::channel();
    let mut drive = Drive {
        flags,
        pool: builder.build()?,
        groups: Groups::new()?,
        log,
        before,
        printer: Printer::new(bar.clone(), flags.keep_order),
        tell: tell.clone(),
        credit,
        todo: VecDeque::new(),
        flights: HashMap::new(),
        read: 0,
        ended: false,
        stopped_by: None,
        signalled: HashSet::new(),
        skipped: 0,
        succeeded: 0,
        failed: 0,
    };
    (0..input::AHEAD).for_each(|_| drive.give_credit());
    thread::spawn(move || input::read_lines(&credits, &tell));
    drive.go(&interrupt, &news, 2 * workers, &bar)?;
    bar.finish_and_clear();
    drive.sum_up();
    Ok(match drive.stopped_by {
        Some(signal) => 128 + signal as u8,
        None => u8::from(drive.failed > 0),
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

impl Drive<'_> {
    /// Until every line has come to its end, or a signal says to stop.
    fn go(
        &mut self,
        interrupt: &Interrupt,
        news: &mpsc::Receiver<News>,
        most: usize,
        bar: &ProgressBar,
    ) -> Result<()> {
        loop {
            if let Some(signal) = interrupt.signal() {
                self.stop(signal)?;
            }
            while self.stopped_by.is_none()
                && self.flights.len() < most
                && let Some(line) = self.todo.pop_front()
            {
                self.launch(line)?;
            }
            let nothing_to_come = self.stopped_by.is_some() || (self.ended && self.todo.is_empty());
            if self.flights.is_empty() && nothing_to_come {
                self.printer.turn(u64::MAX)?;
                return Ok(());
            }
            match news.recv_timeout(TICK) {
                Ok(News::Line(text)) => self.take_line(text, bar)?,
                Ok(News::End(end)) => self.end_of_input(end)?,
                Ok(News::Done(number, told)) => self.land(number, told, bar)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    fn give_credit(&self) {
        // The reader may have come to its end.
        let _ = self.credit.send(());
    }

    fn take_line(&mut self, text: Vec<u8>, bar: &ProgressBar) -> Result<()> {
        let number = self.read;
        self.read += 1;
        match self.before.remove(&number) {
            Some(done) if done == text => {
                self.skipped += 1;
                self.give_credit();
            }
            Some(done) => return Err(self.another_input(number, &done)),
            None => {
                bar.inc_length(1);
                self.todo.push_back(Line { number, text, attempts: 0 });
            }
        }
        Ok(())
    }

    fn end_of_input(&mut self, end: io::Result<()>) -> Result<()> {
        end?;
        self.ended = true;
        match self.before.iter().next() {
            Some((&number, done)) => Err(self.another_input(number, done)),
            None => Ok(()),
        }
    }

    fn another_input(&self, number: u64, text: &[u8]) -> Error {
        let path = self.flags.log.as_deref().unwrap_or("the log".as_ref()).display();
        let text = String::from_utf8_lossy(text);
        Error::other(format!("{path} is the log of another input: line {} was {text:?}", number + 1))
    }

    fn launch(&mut self, mut line: Line) -> Result<()> {
        let words = command::words(&self.flags.command, &line.text);
        let number = line.number;
        let task = self.pool.submit(command::execute, (number, words, self.groups.clone()))?;
        let tell = self.tell.clone();
        task.on_done(move |told| _ = tell.send(News::Done(number, told)))?;
        if line.attempts == 0 {
            self.give_credit();
        }
        line.attempts += 1;
        self.flights.insert(number, Flight { line, begun: Instant::now(), task });
        Ok(())
    }

    /// No more commands. Those that run get the signal, as they would from the terminal. (A second signal ends this
    /// program where it stands, and everything with it.)
    fn stop(&mut self, signal: i32) -> Result<()> {
        if self.stopped_by.replace(signal).is_none() {
            let waiting = self.flights.values().filter(|flight| flight.task.state() == TaskState::Waiting);
            waiting.for_each(|flight| _ = flight.task.cancel());
        }
        let sign = if signal == SIGTERM { Signal::TERM } else { Signal::INT };
        for (number, group) in self.groups.to_map()? {
            if let Some(group) = Pid::from_raw(group)
                && self.flights.contains_key(&number)
                && self.signalled.insert(number)
            {
                let _ = kill_process_group(group, sign);
            }
        }
        Ok(())
    }

    fn land(&mut self, number: u64, told: Told, bar: &ProgressBar) -> Result<()> {
        let Some(Flight { line, begun, .. }) = self.flights.remove(&number) else { return Ok(()) };
        if told.is_err() {
            // Its worker could not do it.
            self.groups.remove(&number)?;
        }
        let good = matches!(&told, Ok(Ok(outcome)) if outcome.code == Some(0));
        if !good && self.stopped_by.is_some() {
            return Ok(()); // still to do
        }
        if !good && line.attempts <= self.flags.retries {
            self.todo.push_front(line);
            return Ok(());
        }
        self.note(&line, &told, begun)?;
        bar.inc(1);
        if good {
            self.succeeded += 1;
        } else {
            self.failed += 1;
            self.printer.say(&complaint(&line, &told));
        }
        self.printer.take(number, told.ok().and_then(std::result::Result::ok).unwrap_or_default())?;
        let earliest = self.flights.keys().copied().chain(self.todo.iter().map(|line| line.number)).min();
        self.printer.turn(earliest.unwrap_or(self.read))
    }

    fn note(&mut self, line: &Line, told: &Told, begun: Instant) -> Result<()> {
        let (exit, signal) = match told {
            Ok(Ok(outcome)) => (outcome.code, outcome.signal),
            Ok(Err(_)) => (Some(127), None),
            Err(TaskError::TimedOut { .. }) => (None, Some(9)),
            Err(TaskError::WorkerDied { signal, exit_code, .. }) => (*exit_code, *signal),
            Err(_) => (None, None),
        };
        let seconds = match told {
            Ok(Ok(outcome)) => outcome.seconds,
            _ => begun.elapsed().as_secs_f64(),
        };
        let (number, attempts) = (line.number + 1, line.attempts);
        Ok(self.log.note(&Entry { line: number, exit, signal, attempts, seconds, input: &line.text })?)
    }

    fn sum_up(&self) {
        if self.flags.quiet {
            return;
        }
        let before = if self.skipped > 0 { format!(", {} done before", self.skipped) } else { String::new() };
        let left = self.read - self.skipped - self.succeeded - self.failed;
        let more = if self.ended { "" } else { "at least " };
        let left = match self.stopped_by {
            Some(_) => format!(", interrupted with {more}{left} to do"),
            None => String::new(),
        };
        let (all, failed) = (count(self.succeeded, "command"), self.failed);
        complain(&format!("{all} succeeded, {failed} failed{before}{left}"));
    }
}

/// What is said of a command that has failed for good.
fn complaint(line: &Line, told: &Told) -> String {
    let head = format!("line {} ({})", line.number + 1, String::from_utf8_lossy(&line.text));
    match told {
        Ok(Ok(Outcome { code: Some(code), .. })) => {
            format!("{head} left with exit code {code}, attempt {}", line.attempts)
        }
        Ok(Ok(Outcome { signal, .. })) => {
            format!("{head} was killed by signal {}, attempt {}", signal.unwrap_or(0), line.attempts)
        }
        Ok(Err(why)) => format!("{head}: {why}"),
        Err(TaskError::TimedOut { limit, .. }) => {
            format!("{head} took more than {limit:?} and was killed, attempt {}", line.attempts)
        }
        Err(error) => format!("{head}: {error}"),
    }
}
