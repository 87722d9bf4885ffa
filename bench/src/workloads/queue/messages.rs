//! The messages of a queue, alike for every contender, and the figures that are computed from them.

use std::sync::atomic::Ordering;

use crate::Result;
use crate::board::Board;
use crate::workload::{Sample, ensure};

/// Bytes of a large message.
pub(super) const LEN: usize = 1 << 20;

/// A message. Its number is in the first and in the last word, so a torn message is detected.
pub(super) type Words = [u64; 8];

pub(super) fn words(number: u64) -> Words {
    [number, 1, 2, 3, 4, 5, 6, !number]
}

/// Returns the number of a message. Returns an error if the message is torn.
#[inline]
pub(super) fn number_of(words: &Words) -> Result<u64> {
    if words[7] == !words[0] { Ok(words[0]) } else { Err("a message is torn".into()) }
}

#[inline]
pub(super) fn write(number: u64, bytes: &mut [u8]) {
    for (to, word) in bytes.chunks_exact_mut(8).zip(words(number)) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<u64> {
    let bytes: &[u8; 64] = bytes.try_into()?;
    let (first, last): (&[u8; 8], &[u8; 8]) = (bytes[..8].try_into()?, bytes[56..].try_into()?);
    number_of(&[u64::from_le_bytes(*first), 0, 0, 0, 0, 0, 0, u64::from_le_bytes(*last)])
}

pub(super) fn in_mb(sample: Sample) -> Sample {
    Sample { value: sample.value * LEN as f64 / 1e6, ..sample }
}

pub(super) fn stamp(bytes: &mut [u8], number: u64) {
    for at in [0, LEN / 2, LEN - 8] {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
}

/// Returns the number of a message. Returns an error if the message is torn.
pub(super) fn stamped(bytes: &[u8]) -> Result<u64> {
    ensure(bytes.len() == LEN, "a message of another length")?;
    let word = |at: usize| {
        Ok::<u64, std::array::TryFromSliceError>(u64::from_le_bytes(bytes[at..at + 8].try_into()?))
    };
    let number = word(0)?;
    ensure(word(LEN / 2)? == number && word(LEN - 8)? == number, "a message is torn")?;
    Ok(number)
}

/// The number of turns of slow peers.
#[cfg(feature = "peers")]
pub(super) const TURNS_OF_PEERS: u64 = 20_000;

/// Returns the mean of the `turns` round trips of party 0.
pub(super) fn mean_ns(board: &Board, turns: u64) -> Result<Sample> {
    let sum = board.counter.0.load(Ordering::SeqCst);
    ensure(sum == turns, "answers were lost")?;
    Ok(Sample::new(board.elapsed().as_nanos() as f64 / turns as f64))
}
