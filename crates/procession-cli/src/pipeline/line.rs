//! The pipeline itself: starts the processes, kills some if asked to, waits, and closes the books.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use procession::{Error, JoinableQueue, Process, Queue};
use procession_launch::was_closed;

use super::report::Report;
use super::work::{News, Source};
use super::writer::{self, Written};
use super::{consumer, producer};
use crate::BAD_INPUT;
use crate::dice::Dice;
use crate::flags::Pipeline;
use crate::interrupt::Interrupt;
use crate::screen::{complain, progress_bar};

/// The exit code when an item was lost or written twice.
const UNBALANCED: u8 = 1;
/// The exit code when standard output has lost its reader, as if SIGPIPE had ended the program.
const READER_LEFT: u8 = 141;
/// The maximum number of bytes of work that no consumer has taken. A producer that is too far ahead waits.
const WORK_BYTES: usize = 16 << 20;
/// The maximum number of results that are not written yet. A consumer that is too far ahead waits.
const NEWS: usize = 16;
/// The maximum number of progress reports that are not read yet.
const REPORTS: usize = 1024;
/// How often the pipeline checks its consumers.
const TICK: Duration = Duration::from_millis(5);

type Failed = Box<dyn std::error::Error>;
type Producer = Process<procession::Result<u64>>;
type Consumer = Process<procession::Result<()>>;
type Writer = Process<procession::Result<Option<Written>>>;

/// Runs the pipeline that `flags` describe. Returns the exit code.
pub fn run(flags: &Pipeline) -> Result<u8, Failed> {
    let interrupt = Interrupt::listen()?;
    if was_closed(1) {
        return Err("standard output is closed".into());
    }
    let Some(report) = Line::new(flags, interrupt)?.run()? else { return Ok(READER_LEFT) };
    report.written.failed.iter().for_each(|why| complain(why));
    let text = if flags.json { report.to_json() } else { report.to_string() };
    let _ = writeln!(io::stderr(), "{text}");
    Ok(match report.interrupted_by {
        Some(signal) => 128 + signal as u8,
        None if !report.balanced => UNBALANCED,
        None if !report.written.failed.is_empty() => BAD_INPUT,
        None => 0,
    })
}

struct Line<'a> {
    flags: &'a Pipeline,
    interrupt: Interrupt,
    work: JoinableQueue<Vec<u8>>,
    news: Queue<News>,
    progress: Queue<u64>,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    writer: Writer,
    dice: Dice,
    seed: u64,
    killed: u32,
    bar: ProgressBar,
}

impl<'a> Line<'a> {
    fn new(flags: &'a Pipeline, interrupt: Interrupt) -> Result<Line<'a>, Failed> {
        let (sources, names) = sources(flags)?;
        let seed = flags.seed.unwrap_or_else(Dice::fresh_seed);
        let (work, news) = (JoinableQueue::bounded_bytes(WORK_BYTES)?, Queue::bounded(NEWS)?);
        let progress = Queue::bounded(REPORTS)?;
        let queue = Queue::unbounded()?;
        let readers = flags.producers.unwrap_or(2).min(sources.len() as u32);
        queue.put_many(sources)?;
        queue.close()?;
        let writer = Process::builder()
            .name("writer")
            .daemon(true)
            .spawn(writer::write, (names, news.clone(), progress.clone()))?;
        let producers = (0..readers)
            .map(|_| {
                let args = (queue.clone(), work.clone(), news.clone());
                Process::builder().name("producer").daemon(true).spawn(producer::produce, args)
            })
            .collect::<procession::Result<_>>()?;
        let bar = progress_bar(0, "batches")?;
        let (dice, killed, consumers) = (Dice::seeded(seed), 0, Vec::new());
        let mut line = Line {
            flags,
            interrupt,
            work,
            news,
            progress,
            producers,
            consumers,
            writer,
            dice,
            seed,
            killed,
            bar,
        };
        for _ in 0..line.wanted() {
            let consumer = line.hire()?;
            line.consumers.push(consumer);
        }
        Ok(line)
    }

    fn wanted(&self) -> u32 {
        let processors = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        self.flags.consumers.unwrap_or_else(processors)
    }

    fn hire(&self) -> procession::Result<Consumer> {
        Process::builder()
            .name("consumer")
            .daemon(true)
            .spawn(consumer::consume, (self.work.clone(), self.news.clone()))
    }

    /// Returns the report, or `None` if standard output has lost its reader.
    fn run(mut self) -> Result<Option<Report>, Failed> {
        let started = Instant::now();
        let mut produced = None;
        while self.interrupt.signal().is_none() {
            if produced.is_none() && self.producers.iter().all(|producer| !producer.is_alive()) {
                produced = Some(self.count_produced()?);
                // Consumers still work on queued and returned batches. Then they end.
                self.work.close()?;
            }
            if produced.is_some() && self.work.try_join().is_ok() {
                break;
            }
            self.look_after_consumers()?;
            match self.writer.try_join()? {
                Some(Err(error)) => return Err(self.give_up(&error)),
                Some(Ok(_)) => {
                    self.bar.finish_and_clear();
                    self.dismiss();
                    return Ok(None);
                }
                None => {}
            }
            self.follow_progress();
        }
        if self.interrupt.signal().is_some() {
            self.dismiss();
        }
        for consumer in std::mem::take(&mut self.consumers) {
            let _ = consumer.join();
        }
        self.news.close()?;
        let written = self.writer.join()??;
        self.bar.finish_and_clear();
        let Some(written) = written else { return Ok(None) };
        let interrupted_by = self.interrupt.signal();
        Ok(Some(Report {
            balanced: interrupted_by.is_none() && written.missing == 0 && Some(written.items) == produced,
            produced,
            written,
            producers: self.producers.len() as u32,
            consumers: self.wanted(),
            killed: self.killed,
            kill_rate: self.flags.kill_rate,
            seed: self.seed,
            seconds: started.elapsed().as_secs_f64(),
            interrupted_by,
        }))
    }

    fn count_produced(&self) -> procession::Result<u64> {
        self.producers.iter().map(|producer| producer.join()?).sum()
    }

    /// Waits a moment for news of written batches, and kills a consumer for some of the batches.
    fn follow_progress(&mut self) {
        let Ok(batches) = self.progress.get_timeout(TICK) else { return };
        let before = self.bar.position();
        self.bar.set_length(batches + self.work.unfinished() as u64);
        self.bar.set_position(batches);
        for _ in before..batches {
            if self.dice.throw() < self.flags.kill_rate {
                self.kill_one();
            }
        }
    }

    fn kill_one(&mut self) {
        let victim = (self.dice.throw() * self.consumers.len() as f64) as usize;
        if let Some(consumer) = self.consumers.get(victim).filter(|consumer| consumer.is_alive()) {
            let _ = consumer.kill();
        }
    }

    /// Starts replacements for consumers that died.
    fn look_after_consumers(&mut self) -> Result<(), Failed> {
        for place in 0..self.consumers.len() {
            match self.consumers[place].try_join() {
                Ok(Some(Err(error))) => return Err(self.give_up(&error)),
                Err(_) => {
                    self.killed += 1;
                    self.consumers[place] = self.hire()?;
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn give_up(&self, error: &Error) -> Failed {
        self.dismiss();
        let _ = self.writer.kill();
        error.to_string().into()
    }

    /// Ends every process but the writer.
    fn dismiss(&self) {
        for producer in &self.producers {
            let _ = producer.kill();
        }
        for consumer in &self.consumers {
            let _ = consumer.kill();
        }
    }
}

/// Returns the inputs in their order, with their names.
fn sources(flags: &Pipeline) -> Result<(Vec<Source>, Vec<Vec<u8>>), Failed> {
    let mut names: Vec<&OsStr> = flags.files.iter().map(|file| file.as_os_str()).collect();
    if names.iter().filter(|name| **name == "-").count() > 1 {
        return Err("standard input can be read only once".into());
    }
    if names.is_empty() {
        names.push(OsStr::new("-"));
    }
    let source = |(number, name): (u32, &&OsStr)| Source { number, path: path(name), lines: flags.lines };
    let sources = (0..).zip(&names).map(source).collect();
    Ok((sources, names.into_iter().map(|name| name.as_bytes().to_vec()).collect()))
}

/// Returns where a producer, which is another process, finds an input, or `None` for standard input. A name of one of
/// this process's descriptors, such as `/dev/fd/63` of `<(..)` in a shell, means nothing elsewhere.
fn path(name: &OsStr) -> Option<Vec<u8>> {
    let name = name.as_bytes();
    if name == b"-" {
        return None;
    }
    let number = match name {
        b"/dev/stdin" => Some(&b"0"[..]),
        _ => name.strip_prefix(b"/dev/fd/").or_else(|| name.strip_prefix(b"/proc/self/fd/")),
    };
    Some(match number {
        Some(number) => [format!("/proc/{}/fd/", std::process::id()).as_bytes(), number].concat(),
        None => name.to_vec(),
    })
}
