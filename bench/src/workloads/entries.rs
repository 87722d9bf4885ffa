//! The entries of a map, and the order in which every contender looks them up.

use std::time::Instant;

use crate::Result;

pub(super) const ENTRIES: u64 = 10_000;
pub(super) const INSERTS: u64 = 1_000_000;

/// Returns the operations per second of one process.
pub(super) fn timed(count: u64, mut operation: impl FnMut(u64) -> Result) -> Result<f64> {
    let started = Instant::now();
    for n in 0..count {
        operation(n)?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Returns the keys in an order in which neighboring keys do not follow each other.
pub(super) fn key(n: u64) -> u64 {
    n.wrapping_mul(7_919) % ENTRIES
}
