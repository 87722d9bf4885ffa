//! [`Input`]: the source of jobs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::batch::Batch;
use super::job::Job;
use super::records::{Cut, Records, Row, rows};
use crate::screen::Failed;

/// The number of jobs that are prepared in advance, so that the total is known early.
const AHEAD: usize = 10_000;
/// The maximum number of bytes of these jobs.
const AHEAD_BYTES: usize = 4 << 20;

/// Something to read inputs from.
#[derive(Debug)]
pub enum Source {
    Words(Vec<Vec<u8>>),
    /// An open file and its name in messages.
    Stream(OwnedFd, String),
}

impl Source {
    /// Opens a file. `-` is standard input.
    pub fn open(path: PathBuf) -> Result<Source, Failed> {
        if path.as_os_str() == "-" {
            return Source::standard_input().map_err(Into::into);
        }
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Source::Stream(file.into(), path.display().to_string()))
    }

    pub fn standard_input() -> io::Result<Source> {
        Ok(Source::Stream(io::stdin().as_fd().try_clone_to_owned()?, "standard input".into()))
    }

    pub fn words(words: Vec<OsString>) -> Source {
        Source::Words(words.into_iter().map(OsString::into_vec).collect())
    }

    fn read_whole(self, cut: &Cut) -> Result<Vec<Row>, Failed> {
        let records = match self {
            Source::Words(words) => words,
            Source::Stream(stream, name) => {
                let mut bytes = Vec::new();
                File::from(stream).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
                let mut records = Records::default();
                records.push(&bytes);
                let whole = records.take(cut.delimiter);
                whole.into_iter().chain(records.take_rest()).collect()
            }
        };
        Ok(records.into_iter().filter_map(|record| cut.row(record)).collect())
    }
}

enum Reading {
    Stream { file: File, name: String, records: Records },
    Rows(Box<dyn Iterator<Item = Row>>),
    Ended,
}

/// The jobs of a run, in the order of the input.
pub struct Input {
    reading: Reading,
    cut: Cut,
    batch: Batch,
    /// Jobs that have not been handed out.
    jobs: VecDeque<Job>,
    job_bytes: usize,
    buffer: Vec<u8>,
}

impl Input {
    /// Creates an input. A single source is read as its bytes come. Several sources are read to their ends,
    /// and combined.
    pub fn new(mut sources: Vec<Source>, cut: Cut, batch: Batch) -> Result<Input, Failed> {
        let single = if sources.len() == 1 { sources.pop() } else { None };
        let reading = match single {
            Some(Source::Stream(stream, name)) => {
                Reading::Stream { file: stream.into(), name, records: Records::default() }
            }
            Some(words) => Reading::Rows(Box::new(words.read_whole(&cut)?.into_iter())),
            None => {
                let sources = sources.into_iter().map(|source| source.read_whole(&cut));
                Reading::Rows(Box::new(rows(sources.collect::<Result<_, _>>()?)))
            }
        };
        Ok(Input { reading, cut, batch, jobs: VecDeque::new(), job_bytes: 0, buffer: Vec::new() })
    }

    /// Returns whether every job has been made.
    pub fn is_read(&self) -> bool {
        matches!(self.reading, Reading::Ended)
    }

    /// Returns whether every job has been handed out.
    pub fn is_over(&self) -> bool {
        self.is_read() && self.jobs.is_empty()
    }

    /// Returns the number of jobs that have been made.
    pub fn made(&self) -> u64 {
        self.batch.made()
    }

    fn wants_more(&self) -> bool {
        let blocks = self.batch.is_of_blocks() && self.jobs.len() > 1;
        !self.is_read() && !blocks && self.jobs.len() < AHEAD && self.job_bytes < AHEAD_BYTES
    }

    /// Returns the descriptor to wait for before [`read`](Self::read).
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match &self.reading {
            Reading::Stream { file, .. } if self.wants_more() => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Makes jobs of the bytes that can be read without waiting. If the source is a stream, wait for it
    /// first.
    pub fn read(&mut self, ready: bool) -> Result<(), Failed> {
        if !self.wants_more() {
            return Ok(());
        }
        match &mut self.reading {
            Reading::Stream { file, name, .. } if ready => {
                self.buffer.resize(64 << 10, 0);
                let length = match file.read(&mut self.buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
                    read => read.map_err(|e| format!("{name}: {e}"))?,
                };
                self.take_in(length);
            }
            Reading::Stream { .. } | Reading::Ended => {}
            Reading::Rows(rows) => {
                let some: Vec<Row> = rows.take(AHEAD).collect();
                let is_last = some.len() < AHEAD;
                let jobs: Vec<Job> = some.into_iter().filter_map(|row| self.batch.add(row)).collect();
                self.queue(jobs);
                if is_last {
                    self.finish();
                }
            }
        }
        Ok(())
    }

    fn take_in(&mut self, length: usize) {
        let Reading::Stream { records, .. } = &mut self.reading else { return };
        let bytes = &self.buffer[..length];
        let whole = match length {
            0 => records.take_rest().into_iter().collect(),
            _ if self.batch.is_of_blocks() => {
                let jobs = self.batch.add_bytes(bytes);
                return self.queue(jobs);
            }
            _ => {
                records.push(bytes);
                records.take(self.cut.delimiter)
            }
        };
        let rows = whole.into_iter().filter_map(|record| self.cut.row(record));
        let jobs: Vec<Job> = rows.filter_map(|row| self.batch.add(row)).collect();
        self.queue(jobs);
        if length == 0 {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let rest = self.batch.finish();
        self.queue(rest);
        self.reading = Reading::Ended;
    }

    fn queue(&mut self, jobs: Vec<Job>) {
        self.job_bytes += jobs.iter().map(weight).sum::<usize>();
        self.jobs.extend(jobs);
    }

    pub fn has_job(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Hands out the next job.
    pub fn next_job(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        self.job_bytes -= weight(&job);
        Some(job)
    }
}

fn weight(job: &Job) -> usize {
    job.arguments.iter().map(Vec::len).sum::<usize>() + job.block.as_ref().map_or(0, |block| block.len())
}
