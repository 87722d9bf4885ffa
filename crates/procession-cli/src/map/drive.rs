//! Handing lines out, and taking outcomes in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use procession::pool::{Pool, TaskError};
use procession::queue::{Ready, select_timeout};
use procession::{Error, Result, Task};

use super::command::{self, Outcome};
use super::log::{Entry, Log};
use crate::flags::Map;
use crate::interrupt::Interrupt;
use crate::screen::{complain, count, job_bar};

type Failed = Box<dyn std::error::Error>;

/// How often a Ctrl-C is looked for while nothing else happens.
const TICK: Duration = Duration::from_millis(100);
/// What is on its way, at most: so many can be waited for at once.
const AHEAD: usize = 100;

/// What came of a command at last: what it did, or why it could not be told.
type Told = Result<Result<Outcome, String>, TaskError>;

/// A line whose command is on its way.
struct Flight {
    line: usize,
    attempt: u32,
    begun: Instant,
    task: Task<std::result::Result<Outcome, String>>,
}

/// A run.
struct Drive<'a> {
    flags: &'a Map,
    lines: Vec<String>,
    pool: Pool,
    log: Log,
    bar: ProgressBar,
    /// Lines that have not been handed out, with how often they were tried.
    todo: VecDeque<(usize, u32)>,
    flights: Vec<Flight>,
    /// With --keep-order, what waits for its turn.
    held: BTreeMap<usize, Outcome>,
    turn: usize,
    succeeded: u64,
    failed: u64,
}

/// Runs it; gives the exit code.
pub fn run(flags: &Map) -> Result<u8, Failed> {
    let interrupt = Interrupt::listen()?;
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| Error::other("the input is not UTF-8"))?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (log, done) = open_log(flags, &lines)?;
    let todo: VecDeque<(usize, u32)> =
        (0..lines.len()).filter(|line| !done.contains_key(line)).map(|line| (line, 0)).collect();
    let skipped = done.len() as u64;
    let bar = job_bar(todo.len() as u64).map_err(Error::other)?;
    let workers = flags.jobs.map_or_else(processors, |n| n as usize);
    let mut builder = Pool::builder().workers(workers).name("map");
    if let Some(seconds) = flags.timeout {
        builder = builder.task_timeout(Duration::from_secs_f64(seconds));
    }
    let mut drive = Drive {
        flags,
        lines,
        pool: builder.build()?,
        log,
        bar,
        todo,
        flights: Vec::new(),
        held: BTreeMap::new(),
        turn: 0,
        succeeded: 0,
        failed: 0,
    };
    let signal = drive.go(&interrupt, (2 * workers).min(AHEAD))?;
    drive.bar.finish_and_clear();
    drive.sum_up(skipped, signal);
    Ok(match signal {
        Some(signal) => 128 + signal as u8,
        None => u8::from(drive.failed > 0),
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The log, and which lines need not be done again.
fn open_log(flags: &Map, lines: &[String]) -> Result<(Log, HashMap<usize, String>)> {
    let Some(path) = flags.log.as_deref().filter(|_| flags.resume) else {
        return Ok((Log::create(flags.log.as_deref())?, HashMap::new()));
    };
    let (log, done) = Log::resume(path)?;
    // The log counts from 1.
    let done: HashMap<usize, String> = done.into_iter().map(|(n, text)| (n.wrapping_sub(1), text)).collect();
    for (line, input) in &done {
        if lines.get(*line) != Some(input) {
            let (number, path) = (line + 1, path.display());
            return Err(Error::other(format!(
                "{path} is the log of another input: line {number} was {input:?}"
            )));
        }
    }
    Ok((log, done))
}

impl Drive<'_> {
    /// Until every line has come to its end, or a signal says to stop; gives the signal.
    fn go(&mut self, interrupt: &Interrupt, most: usize) -> Result<Option<i32>> {
        loop {
            if let Some(signal) = interrupt.signal() {
                // The workers are killed, and the commands with them.
                self.pool.terminate()?;
                self.pool.join()?;
                return Ok(Some(signal));
            }
            while self.flights.len() < most
                && let Some((line, attempt)) = self.todo.pop_front()
            {
                let words = command::words(&self.flags.command, &self.lines[line]);
                let task = self.pool.submit(command::execute, (words,))?;
                self.flights.push(Flight { line, attempt: attempt + 1, begun: Instant::now(), task });
            }
            if self.flights.is_empty() {
                self.release_held()?;
                return Ok(None);
            }
            let ready: Vec<&dyn Ready> =
                self.flights.iter().map(|flight| &flight.task as &dyn Ready).collect();
            if let Ok(first) = select_timeout(&ready, TICK) {
                let flight = self.flights.swap_remove(first);
                self.land(flight)?;
            }
        }
    }

    fn land(&mut self, flight: Flight) -> Result<()> {
        let Flight { line, attempt, begun, task } = flight;
        let told: Told = task.get();
        let good = matches!(&told, Ok(Ok(outcome)) if outcome.code == Some(0));
        if !good && attempt <= self.flags.retries {
            self.todo.push_front((line, attempt));
            return Ok(());
        }
        let (exit, signal) = match &told {
            Ok(Ok(outcome)) => (outcome.code, outcome.signal),
            Ok(Err(_)) => (Some(127), None),
            Err(TaskError::TimedOut { .. }) => (None, Some(9)),
            Err(TaskError::WorkerDied { signal, exit_code, .. }) => (*exit_code, *signal),
            Err(_) => (None, None),
        };
        let (input, number) = (self.lines[line].clone(), line + 1);
        let seconds = begun.elapsed().as_secs_f64();
        self.log.note(&Entry { line: number, exit, signal, attempts: attempt, seconds, input: &input })?;
        self.bar.inc(1);
        if good {
            self.succeeded += 1
        } else {
            self.failed += 1
        }
        match told {
            Ok(Ok(outcome)) => {
                if !good {
                    let how = outcome.code.map_or_else(
                        || format!("was killed by signal {}", outcome.signal.unwrap_or(0)),
                        |code| format!("left with exit code {code}"),
                    );
                    self.say(&format!("line {number} ({input}) {how}, attempt {attempt}"));
                }
                self.show(line, outcome)
            }
            Ok(Err(why)) => {
                self.say(&format!("line {number} ({input}): {why}"));
                self.pass(line)
            }
            Err(error) => {
                self.say(&format!("line {number} ({input}): {error}"));
                self.pass(line)
            }
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| complain(text));
    }

    fn pass(&mut self, line: usize) -> Result<()> {
        self.show(line, Outcome { code: None, signal: None, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Writes what a command has said, all of it together; in the order of the input if that was asked for.
    fn show(&mut self, line: usize, outcome: Outcome) -> Result<()> {
        if !self.flags.keep_order {
            return self.write(&outcome);
        }
        self.held.insert(line, outcome);
        let earliest = self.flights.iter().map(|flight| flight.line);
        let earliest = earliest.chain(self.todo.iter().map(|(line, _)| *line)).min();
        self.turn = earliest.unwrap_or(usize::MAX);
        self.release_held()
    }

    fn release_held(&mut self) -> Result<()> {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() < self.turn) {
            let outcome = entry.remove();
            self.write(&outcome)?;
        }
        Ok(())
    }

    fn write(&self, outcome: &Outcome) -> Result<()> {
        self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&outcome.stdout)?;
            stdout.flush()?;
            io::stderr().lock().write_all(&outcome.stderr)
        })?;
        Ok(())
    }

    fn sum_up(&self, skipped: u64, signal: Option<i32>) {
        if self.flags.quiet {
            return;
        }
        let before = if skipped > 0 { format!(", {skipped} done before") } else { String::new() };
        let left = self.lines.len() as u64 - skipped - self.succeeded - self.failed;
        let left = if signal.is_some() { format!(", interrupted with {left} to do") } else { String::new() };
        let (all, failed) = (count(self.succeeded, "command"), self.failed);
        complain(&format!("{all} succeeded, {failed} failed{before}{left}"));
    }
}
