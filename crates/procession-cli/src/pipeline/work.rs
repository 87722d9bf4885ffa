//! The items of the queues.

use procession::Error;
use serde::{Deserialize, Serialize};

/// An input, by its position on the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    pub number: u32,
    /// The bytes of its name, which need not be UTF-8. `None` is standard input.
    pub path: Option<Vec<u8>>,
    pub lines: bool,
}

/// The items of a source that a batch contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub source: u32,
    /// The number of the first item.
    pub first: u64,
    /// Whether each line is an item. Otherwise the whole source is one item.
    pub lines: bool,
}

/// Packs a batch and its bytes into one vector: the length of the head, the head, and the bytes unchanged.
pub fn pack(batch: Batch, bytes: &[u8]) -> Vec<u8> {
    let head = [u64::from(batch.source), batch.first, u64::from(batch.lines)];
    let mut packed = Vec::with_capacity(HEAD + bytes.len());
    head.iter().for_each(|word| packed.extend_from_slice(&word.to_le_bytes()));
    packed.extend_from_slice(bytes);
    packed
}

const HEAD: usize = 24;

/// Unpacks what [`pack`] has packed.
pub fn unpack(packed: &[u8]) -> Result<(Batch, &[u8]), Error> {
    let short = || Error::other("a batch arrived that is too short");
    let (head, bytes) = packed.split_at_checked(HEAD).ok_or_else(short)?;
    let words: Vec<u64> = head
        .chunks_exact(8)
        .map(|word| word.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
        .collect();
    let batch = Batch { source: words[0] as u32, first: words[1], lines: words[2] != 0 };
    Ok((batch, bytes))
}

/// A message to the writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum News {
    /// A batch is done: the results of its items, and the number of the attempt.
    Done { batch: Batch, outcomes: Vec<Outcome>, attempt: u32 },
    /// The number of items of a source, and the error if it could not be read to its end.
    End { source: u32, items: u64, failed: Option<String> },
}

/// The result of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub digest: [u8; 32],
    pub lines: u64,
    pub words: u64,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_as_it_was() {
        let batch = Batch { source: 3, first: u64::MAX - 1, lines: true };
        assert_eq!(unpack(&pack(batch, b"a\nb")).unwrap(), (batch, &b"a\nb"[..]));
        assert!(unpack(b"short").is_err());
    }
}
