//! The job log: a line for each input line that has come to its end, in the order of the ends.
//!
//! ```text
//! line <tab> exit <tab> signal <tab> attempts <tab> seconds <tab> input
//! ```
//!
//! A line is written in one write when its command has ended, so an interrupted run leaves whole lines.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

const HEAD: &str = "line\texit\tsignal\tattempts\tseconds\tinput\n";

/// What the log says about one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    pub line: u64,
    pub exit: Option<i32>,
    pub signal: Option<i32>,
    pub attempts: u32,
    pub seconds: f64,
    pub input: &'a [u8],
}

pub struct Log(Option<File>);

impl Log {
    /// No log, or a fresh one.
    pub fn create(path: Option<&Path>) -> io::Result<Log> {
        let Some(path) = path else { return Ok(Log(None)) };
        let mut file = File::create(path)?;
        file.write_all(HEAD.as_bytes())?;
        Ok(Log(Some(file)))
    }

    /// The log of an interrupted run, to be continued, and which lines it says have succeeded, counted from 0.
    pub fn resume(path: &Path) -> io::Result<(Log, HashMap<u64, Vec<u8>>)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        if text.is_empty() {
            file.write_all(HEAD.as_bytes())?;
        } else if !text.ends_with(b"\n") {
            // The machine went down in the middle of a line: that one is done again.
            file.write_all(b"\n")?;
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &text[..end]);
        Ok((Log(Some(file)), whole.split(|byte| *byte == b'\n').filter_map(succeeded).collect()))
    }

    pub fn note(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let or_none = |n: Option<i32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let Entry { line, attempts, seconds, input, .. } = entry;
        let (exit, signal) = (or_none(entry.exit), or_none(entry.signal));
        let mut text = format!("{line}\t{exit}\t{signal}\t{attempts}\t{seconds:.3}\t").into_bytes();
        text.extend_from_slice(input);
        text.push(b'\n');
        file.write_all(&text)
    }
}

fn succeeded(line: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut words = line.splitn(6, |byte| *byte == b'\t');
    let number: u64 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    (words.next()? == b"0").then_some(())?;
    Some((number.checked_sub(1)?, words.nth(3)?.to_owned()))
}
