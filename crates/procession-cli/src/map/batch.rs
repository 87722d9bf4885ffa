//! [`Batch`]: gathers inputs into jobs.

use std::rc::Rc;

use super::job::Job;
use super::records::Row;
use super::template::Weight;

/// The condition that completes a job.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A fixed number of inputs.
    Count(usize),
    /// As many inputs as fit. The last ones are spread over `spread` jobs.
    /// The words take at most `room` bytes.
    Fill { room: usize, weight: Weight, spread: usize },
    /// Bytes for standard input.
    Blocks { size: usize, lines: Option<usize>, delimiter: u8 },
}

/// Inputs that wait until they complete a job.
#[derive(Debug)]
pub struct Batch {
    kind: Kind,
    made: u64,
    rows: Vec<Row>,
    /// The number of bytes that the rows take on a command line, or the number of bytes for a block.
    weight: usize,
    block: Vec<u8>,
}

impl Batch {
    pub fn new(kind: Kind) -> Batch {
        Batch { kind, made: 0, rows: Vec::new(), weight: 0, block: Vec::new() }
    }

    /// Returns the number of jobs that were made.
    pub fn made(&self) -> u64 {
        self.made
    }

    pub fn is_of_blocks(&self) -> bool {
        matches!(self.kind, Kind::Blocks { .. })
    }

    /// Adds an input. Returns a job if the input completes one.
    pub fn add(&mut self, row: Row) -> Option<Job> {
        match self.kind {
            Kind::Fill { room, weight, .. } => {
                let more = row.iter().map(|word| word.len() * weight.copies + weight.each).sum::<usize>();
                let is_full = !self.rows.is_empty() && weight.fixed + self.weight + more > room;
                let full = is_full.then(|| self.job(usize::MAX));
                self.weight += more;
                self.rows.push(row);
                full
            }
            Kind::Count(count) => {
                self.rows.push(row);
                (self.rows.len() >= count).then(|| self.job(usize::MAX))
            }
            Kind::Blocks { .. } => None,
        }
    }

    /// Adds bytes. Returns the jobs that they complete.
    pub fn add_bytes(&mut self, bytes: &[u8]) -> Vec<Job> {
        self.block.extend_from_slice(bytes);
        let mut jobs = Vec::new();
        while let Some(end) = self.end_of_block() {
            let rest = self.block.split_off(end);
            let block = std::mem::replace(&mut self.block, rest);
            jobs.push(self.job_of(block));
        }
        jobs
    }

    /// Returns the remaining jobs.
    pub fn finish(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let pieces = if let Kind::Fill { spread, .. } = self.kind { spread } else { 1 };
        let each = self.rows.len().div_ceil(pieces.max(1));
        while !self.rows.is_empty() {
            jobs.push(self.job(each));
        }
        if !self.block.is_empty() {
            let block = std::mem::take(&mut self.block);
            jobs.push(self.job_of(block));
        }
        jobs
    }

    fn job(&mut self, most: usize) -> Job {
        let count = most.min(self.rows.len());
        let arguments = self.rows.drain(..count).flatten().collect();
        (self.weight, self.made) = (0, self.made + 1);
        Job { number: self.made, arguments, ..Job::default() }
    }

    fn job_of(&mut self, block: Vec<u8>) -> Job {
        self.made += 1;
        Job { number: self.made, block: Some(Rc::from(block)), ..Job::default() }
    }

    /// Returns where the first block ends, if it is complete. A line that is longer than a block is not cut.
    fn end_of_block(&self) -> Option<usize> {
        let Kind::Blocks { size, lines, delimiter } = self.kind else { return None };
        let is_end = |byte: &u8| *byte == delimiter;
        if let Some(lines) = lines {
            return self
                .block
                .iter()
                .enumerate()
                .filter(|(_, byte)| is_end(byte))
                .nth(lines - 1)
                .map(|(end, _)| end + 1);
        }
        if self.block.len() < size {
            return None;
        }
        let within = self.block[..size].iter().rposition(is_end);
        let after = || self.block[size..].iter().position(is_end).map(|end| size + end);
        within.or_else(after).map(|end| end + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(jobs: impl IntoIterator<Item = Job>) -> Vec<String> {
        jobs.into_iter().map(|job| String::from_utf8(job.input()).unwrap()).collect()
    }

    fn gather(kind: Kind, inputs: &[&str]) -> Vec<String> {
        let mut batch = Batch::new(kind);
        let row = |word: &&str| vec![word.as_bytes().to_vec()];
        let mut jobs: Vec<Job> = inputs.iter().filter_map(|word| batch.add(row(word))).collect();
        jobs.extend(batch.finish());
        assert!(jobs.iter().map(|job| job.number).eq(1..=batch.made()));
        arguments(jobs)
    }

    #[test]
    fn so_many_inputs_make_a_job() {
        assert_eq!(gather(Kind::Count(2), &["a", "b", "c"]), ["a b", "c"]);
        assert_eq!(gather(Kind::Count(1), &[]), [""; 0]);
    }

    #[test]
    fn as_many_as_fit_and_the_rest_is_spread() {
        let fill =
            |spread| Kind::Fill { room: 130_000, weight: Weight { fixed: 100, each: 9, copies: 1 }, spread };
        assert_eq!(gather(fill(2), &["a", "b", "c", "d", "e"]), ["a b c", "d e"]);
        assert_eq!(gather(fill(9), &["a", "b"]), ["a", "b"]);
        let long = "x".repeat(60_000);
        assert_eq!(
            gather(fill(1), &[&long, &long, &long]).iter().map(String::len).collect::<Vec<_>>(),
            [120_001, 60_000]
        );
    }

    #[test]
    fn blocks_end_with_lines() {
        let blocks = |size, lines, pieces: &[&str]| {
            let mut batch = Batch::new(Kind::Blocks { size, lines, delimiter: b'\n' });
            let mut jobs: Vec<Job> =
                pieces.iter().flat_map(|piece| batch.add_bytes(piece.as_bytes())).collect();
            jobs.extend(batch.finish());
            jobs.iter()
                .map(|job| String::from_utf8(job.block.as_ref().unwrap().to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(blocks(4, None, &["a\nb", "\nc\nd\n"]), ["a\nb\n", "c\nd\n"]);
        assert_eq!(blocks(2, None, &["long line\nx", "\nend"]), ["long line\n", "x\n", "end"]);
        assert_eq!(blocks(100, Some(2), &["a\nb\nc\n"]), ["a\nb\n", "c\n"]);
        assert_eq!(blocks(4, None, &[]), [""; 0], "no command runs for an empty input");
    }
}
