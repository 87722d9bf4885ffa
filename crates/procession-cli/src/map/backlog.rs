//! [`Backlog`]: the output of finished jobs that wait for their turn.

use std::collections::BTreeMap;
use std::io;

use super::outlet::Kind;
use super::spool::Spool;

/// Texts in the order in which they are printed. Neighbors are of different kinds, unless joining them failed.
pub type Pieces = Vec<(Kind, Spool)>;

/// Finished jobs, in runs of consecutive numbers. The texts of a run are joined, so many finished jobs behind one
/// that is slow take little memory.
#[derive(Default)]
pub struct Backlog(BTreeMap<u64, Run>);

struct Run {
    /// The number after the last job of the run.
    end: u64,
    pieces: Pieces,
}

impl Backlog {
    /// Adds a finished job.
    ///
    /// # Errors
    ///
    /// Texts could not be moved to a file. The rest of the later text is lost.
    pub fn insert(&mut self, number: u64, pieces: Pieces) -> io::Result<()> {
        let mut run = Run { end: number + 1, pieces };
        let joined = match self.0.remove(&run.end) {
            Some(next) => run.append(next),
            None => Ok(()),
        };
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if before.end == number => before.append(run).and(joined),
            _ => {
                self.0.insert(number, run);
                joined
            }
        }
    }

    /// Takes out the run that starts with this job: its texts, and the number after its last job.
    pub fn take(&mut self, first: u64) -> Option<(u64, Pieces)> {
        self.0.remove(&first).map(|run| (run.end, run.pieces))
    }

    /// Takes everything out, in the order of the jobs.
    pub fn take_all(&mut self) -> impl Iterator<Item = (Kind, Spool)> + use<> {
        std::mem::take(&mut self.0).into_values().flat_map(|run| run.pieces)
    }

    /// Returns whether a text of this kind waits.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.values().flat_map(|run| &run.pieces).any(|piece| piece.0 == kind)
    }
}

impl Run {
    fn append(&mut self, later: Run) -> io::Result<()> {
        self.end = later.end;
        let mut done = Ok(());
        for (kind, spool) in later.pieces {
            match self.pieces.last_mut() {
                Some((last, text)) if *last == kind => done = done.and(text.append(spool)),
                _ => self.pieces.push((kind, spool)),
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::outlet::Target;
    use crate::map::spool::Store;

    const OUT: Kind = Kind::Output(Target::Out);

    #[test]
    fn texts_of_consecutive_jobs_are_joined_in_order() {
        let store = Store::new(std::env::temp_dir());
        let text = |text: &str| {
            let mut spool = store.spool();
            spool.push(text.as_bytes()).unwrap();
            spool
        };
        let mut backlog = Backlog::default();
        for number in [3, 5, 2, 4, 7] {
            backlog.insert(number, vec![(OUT, text(&number.to_string()))]).unwrap();
        }
        assert!(backlog.take(1).is_none() && backlog.has(OUT) && !backlog.has(Kind::Message));
        let (end, mut pieces) = backlog.take(2).unwrap();
        assert_eq!((end, pieces.len()), (6, 1));
        assert_eq!(pieces[0].1.take().unwrap(), b"2345");
        backlog.insert(8, vec![(Kind::Message, text("8")), (OUT, text("8"))]).unwrap();
        assert_eq!(backlog.take_all().map(|piece| piece.0).collect::<Vec<_>>(), [OUT, Kind::Message, OUT]);
    }
}
