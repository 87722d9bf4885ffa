//! [`Job`]: one command of a run, before and between its attempts.

use std::rc::Rc;
use std::time::Duration;

/// A command that is to run.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// From 1, in the order of the input.
    pub number: u64,
    pub arguments: Vec<Vec<u8>>,
    /// Its standard input.
    pub block: Option<Rc<[u8]>>,
    /// How often it was started.
    pub attempts: u32,
    /// When it may be tried again.
    pub not_before: Duration,
}

impl Job {
    /// Its argument with this number, from 1, or from the last, which is -1; nothing if it has none.
    pub fn argument(&self, number: i64) -> &[u8] {
        let index = match number {
            1.. => number - 1,
            _ => self.arguments.len() as i64 + number,
        };
        usize::try_from(index).ok().and_then(|index| self.arguments.get(index)).map_or(b"", Vec::as_slice)
    }

    /// Its input as one text.
    pub fn input(&self) -> Vec<u8> {
        self.arguments.join(&b' ')
    }
}
