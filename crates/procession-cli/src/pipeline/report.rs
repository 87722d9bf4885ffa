//! The summary, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::writer::Written;
use crate::screen::count;

/// The summary of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The number of items that the producers have put into the queue. `None` if a signal ended the
    /// producers.
    pub produced: Option<u64>,
    #[serde(flatten)]
    pub written: Written,
    pub producers: u32,
    pub consumers: u32,
    pub killed: u32,
    pub kill_rate: f64,
    pub seed: u64,
    pub seconds: f64,
    /// The signal that ended the run early.
    pub interrupted_by: Option<i32>,
    /// Whether every item that was put into the queue was written exactly once.
    pub balanced: bool,
}

impl Report {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps of them have a JSON form")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { items, lines, words, bytes, told_twice, handed_out_again, missing, .. } = &self.written;
        match self.produced {
            Some(produced) => writeln!(f, "written    {} of {}", items, count(produced, "item"))?,
            None => writeln!(f, "written    {}", count(*items, "item"))?,
        }
        writeln!(f, "counted    {lines} lines, {words} words, {bytes} bytes")?;
        if self.kill_rate > 0.0 {
            writeln!(f, "killed     {} (seed {})", count(self.killed.into(), "consumer"), self.seed)?;
            if self.killed == 0 {
                writeln!(
                    f,
                    "           there was too little work to kill anybody at: this run shows nothing"
                )?;
            }
            writeln!(f, "again      {handed_out_again} handed out again, {told_twice} told twice")?;
        }
        if *missing > 0 {
            let what = if self.interrupted_by.is_some() { "left" } else { "missing" };
            writeln!(f, "{what:<11}{}", count(*missing, "item"))?;
        }
        write!(f, "seconds    {:.2}", self.seconds)?;
        if let Some(signal) = self.interrupted_by {
            write!(f, ", ended early by signal {signal}")?;
        }
        let books = match self.interrupted_by {
            Some(_) => "were left open",
            None if self.balanced => "balance",
            None => "DO NOT BALANCE",
        };
        write!(f, "\nbooks      {books}")
    }
}
