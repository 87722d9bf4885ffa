//! [`ChunkCounts`]: how many items of a chunk are done and have failed, and how often items were retried.
//!
//! A worker counts failures and retries in two words. A chunk has its items in a block, so these words lie where a
//! single call has its small arguments. A worker writes them only if an item fails or is retried.
//!
//! ```text
//!           63        48 47                24 23                 0
//!          ┌────────────┬────────────────────┬────────────────────┐
//! Failures │     0      │       count        │  last failed item  │   its number + 1; 0 if there is none
//!          ├────────────┼────────────────────┼────────────────────┤
//! Retries  │  attempt   │       count        │ last retried item  │   and the number of its last attempt
//!          └────────────┴────────────────────┴────────────────────┘
//! ```
//!
//! CRASH: a worker counts before it commits the failure or the attempt. If it dies in between, the next worker
//! fails or retries the same item again. The word names this item, so the next worker does not count it twice.

use std::sync::atomic::Ordering;

use super::cell::Cell;
use super::progress::ChunkProgress;
use crate::rules;
use crate::rules::Rule;

const BITS: u32 = 24;
const MASK: u32 = (1 << BITS) - 1;
const _: () = assert!(ChunkProgress::MOST_ITEMS <= MASK, "each item and each count fits into its field");

fn count(word: u64) -> u32 {
    (word >> BITS) as u32 & MASK
}

fn item(word: u64) -> u32 {
    word as u32 & MASK
}

fn word(attempt: u32, count: u32, item: u32) -> u64 {
    u64::from(attempt.min(0xffff)) << (2 * BITS) | u64::from(count.min(MASK)) << BITS | u64::from(item & MASK)
}

/// Counts the failure of this item, unless a dead worker has counted it already.
pub(crate) fn count_failure(cell: &Cell, failed: u32) {
    let before = cell.failures().load(Ordering::Relaxed);
    if item(before) != failed + 1 || !rules::holds(Rule::CountedOnce) {
        cell.failures().store(word(0, count(before) + 1, failed + 1), Ordering::Release);
    }
}

/// Counts a retry of this item, unless a dead worker has counted this attempt already.
pub(crate) fn count_retry(cell: &Cell, retried: u32, attempt: u32) {
    let before = cell.retried().load(Ordering::Relaxed);
    let is_counted = word(attempt, count(before), retried) == before;
    if !is_counted || !rules::holds(Rule::CountedOnce) {
        cell.retried().store(word(attempt, count(before) + 1, retried), Ordering::Release);
    }
}

/// A snapshot of the counts of one chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkCounts {
    /// The number of items that have a result or have failed.
    pub(crate) done: u32,
    pub(crate) failed: u32,
    pub(crate) retried: u32,
}

impl ChunkCounts {
    pub(crate) fn of(cell: &Cell) -> ChunkCounts {
        let items = cell.count.load(Ordering::Relaxed);
        // The state is read first: the progress of a chunk that is done does not change.
        let is_done = cell.state().is_done();
        let finished = ChunkProgress::read(cell.progress.load(Ordering::Acquire)).items.min(items);
        let failures = cell.failures().load(Ordering::Acquire);
        // The worker may have counted the failure of an item that is not finished yet.
        let uncommitted = u32::from(item(failures) > finished);
        let failed = count(failures).saturating_sub(uncommitted).min(finished);
        // If a chunk ends early, each of its remaining items fails.
        let rest = if is_done { items - finished } else { 0 };
        let retried = count(cell.retried().load(Ordering::Acquire));
        ChunkCounts { done: finished + rest, failed: failed + rest, retried }
    }
}
