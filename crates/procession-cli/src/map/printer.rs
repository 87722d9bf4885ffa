//! What the commands have said, each in one piece; in the order of the input if that was asked for.

use std::collections::BTreeMap;
use std::io::{self, Write};

use indicatif::ProgressBar;
use procession::Result;

use super::command::Outcome;
use crate::screen::complain;

pub struct Printer {
    bar: ProgressBar,
    keep_order: bool,
    /// What waits for its turn.
    held: BTreeMap<u64, Outcome>,
}

impl Printer {
    pub fn new(bar: ProgressBar, keep_order: bool) -> Printer {
        Printer { bar, keep_order, held: BTreeMap::new() }
    }

    pub fn say(&self, text: &str) {
        self.bar.suspend(|| complain(text));
    }

    pub fn take(&mut self, number: u64, outcome: Outcome) -> Result<()> {
        if self.keep_order {
            self.held.insert(number, outcome);
            return Ok(());
        }
        self.write(&outcome)
    }

    /// It is this line's turn: everything before it may go.
    pub fn turn(&mut self, number: u64) -> Result<()> {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() < number) {
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
}
