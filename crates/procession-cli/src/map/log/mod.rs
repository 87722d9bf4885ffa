//! [`Log`]: a line for each finished command, in the order in which they finished.
//!
//! A line is written by one call, so an interrupted run leaves whole lines. The file is locked while a run writes to
//! it. A file that is not a log is left unchanged.

mod format;

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub use format::{Entry, Format};

use super::job::Job;
use crate::screen::Failed;

pub struct Log {
    file: Option<File>,
    path: PathBuf,
    format: Format,
    /// Jobs that an earlier run has completed, by number.
    before: HashMap<u64, Done>,
}

/// A command that has succeeded, according to the log.
#[derive(Debug, PartialEq)]
struct Done {
    /// The input, which some formats omit.
    input: Option<Vec<u8>>,
    command: Vec<u8>,
}

impl Log {
    pub fn none() -> Log {
        Log { file: None, path: PathBuf::new(), format: Format::Table, before: HashMap::new() }
    }

    /// Opens a log for writing. Without `resume`, the existing content is dropped.
    pub fn open(path: &Path, format: Format, resume: bool) -> Result<Log, Failed> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .or_else(|e| {
                // A terminal or a pipe may be open for writing only.
                if path.exists() { OpenOptions::new().append(true).open(path) } else { Err(e) }
            })
            .map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            file.write_all(format.head()).map_err(failed)?;
            return Ok(Log { file: Some(file), path: path.to_owned(), format, before: HashMap::new() });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{}: another run is writing to it", path.display()).into());
            }
            Err(TryLockError::Error(e)) => return Err(failed(e).into()),
        }
        let text = read(&mut file, path, format)?;
        if !resume || text.is_empty() {
            file.set_len(0).and_then(|()| file.write_all(format.head())).map_err(failed)?;
        } else if !text.ends_with(b"\n") {
            // The machine stopped in the middle of a line. That job is run again.
            file.write_all(b"\n").map_err(failed)?;
        }
        let before = if resume { done(&text, format) } else { HashMap::new() };
        Ok(Log { file: Some(file), path: path.to_owned(), format, before })
    }

    /// Reads an existing log without writing to it.
    pub fn look(path: &Path, format: Format, resume: bool) -> Result<Log, Failed> {
        let mut log = Log { path: path.to_owned(), format, ..Log::none() };
        if resume && path.exists() {
            let mut file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
            log.before = done(&read(&mut file, path, format)?, format);
        }
        Ok(log)
    }

    /// Returns whether an earlier run has completed this job. Compares the command if `words` is given.
    ///
    /// # Errors
    ///
    /// The log has another input or another command for the job.
    pub fn has_done(&mut self, job: &Job, words: Option<&[Vec<u8>]>) -> Result<bool, Failed> {
        let Some(done) = self.before.remove(&job.number) else { return Ok(false) };
        let (path, number) = (self.path.display(), job.number);
        if let Some(input) = done.input.filter(|input| *input != self.format.input(&job.input())) {
            let input = super::quoting::excerpt(&input);
            return Err(format!("{path}: is the log of another input: job {number} was {input:?}").into());
        }
        if words.is_some_and(|words| !self.format.is_command(&done.command, words)) {
            let command = super::quoting::excerpt(&done.command);
            return Err(format!("{path}: is the log of another command: job {number} was {command}").into());
        }
        Ok(true)
    }

    /// Checks that an earlier run has done no jobs beyond the last one of this input.
    pub fn check_end(&self, last: u64) -> Result<(), Failed> {
        match self.before.keys().filter(|&&number| number > last).min() {
            Some(number) => {
                Err(format!("{}: is the log of another input: it has a job {number}", self.path.display())
                    .into())
            }
            None => Ok(()),
        }
    }

    pub fn note(&mut self, entry: &Entry<'_>) -> Result<(), Failed> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&self.format.line(entry)).map_err(|e| format!("{}: {e}", self.path.display()).into())
    }
}

/// Returns the text of a log, or an error if the file is not one.
fn read(file: &mut File, path: &Path, format: Format) -> Result<Vec<u8>, Failed> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|e| format!("{}: {e}", path.display()))?;
    if text.is_empty() || format.is_start_of(&text) {
        return Ok(text);
    }
    let what = if Format::ALL.iter().any(|other| other.is_start_of(&text)) {
        "is a log in another format"
    } else {
        "is no log of this program; it is left as it is"
    };
    Err(format!("{}: {what}", path.display()).into())
}

/// Returns the jobs that have succeeded. The last line of a job counts.
fn done(text: &[u8], format: Format) -> HashMap<u64, Done> {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &text[..end]);
    let mut done = HashMap::new();
    for told in whole.split(|&byte| byte == b'\n').filter_map(|line| format.parse(line)) {
        match told.succeeded {
            true => drop(done.insert(told.job, Done { input: told.input, command: told.command })),
            false => drop(done.remove(&told.job)),
        }
    }
    done
}
