//! [`Job`]: one command of a run, before and between its attempts.

use std::rc::Rc;
use std::time::Duration;

/// A command that is to be run.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// The number of the job, from 1, in the order of the input.
    pub number: u64,
    pub arguments: Vec<Vec<u8>>,
    /// The standard input of the command.
    pub block: Option<Rc<[u8]>>,
    /// How often the command was started.
    pub attempts: u32,
    /// The earliest time of the next attempt.
    pub not_before: Duration,
}

impl Job {
    /// Returns the argument with this number. Numbers count from 1, or back from the last argument, which is
    /// -1. Returns an empty text if there is no such argument.
    pub fn argument(&self, number: i64) -> &[u8] {
        let index = match number {
            1.. => number - 1,
            _ => self.arguments.len() as i64 + number,
        };
        usize::try_from(index).ok().and_then(|index| self.arguments.get(index)).map_or(b"", Vec::as_slice)
    }

    /// Returns the input as one text.
    pub fn input(&self) -> Vec<u8> {
        self.arguments.join(&b' ')
    }
}
