//! Tables: words that name nodes.
//!
//! ```text
//!  63       56 55                0      63          32 31               0
//! ┌───────────┬──────────────────┐     ┌──────────────┬──────────────────┐
//! │ log2 bytes│      offset      │     │     hash     │ offset of node/16│
//! └───────────┴──────────────────┘     └──────────────┴──────────────────┘
//!   word that names a table: 0 none      word of a table: EMPTY, GONE, or a node
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::{allocate, word};
use crate::Result;
use crate::arena::owned_block::{self, OwnedBlock};
use crate::arena::{Arena, LARGEST};

/// The word of a place without a node. A search stops here.
pub(super) const EMPTY: u64 = 0;
/// The word of a place whose node was removed. A search continues past it.
pub(super) const GONE: u64 = 1;

/// Returns the word of a table that names the node at `at`.
#[inline]
pub(super) fn naming(hash: u64, at: u64) -> u64 {
    const { assert!(LARGEST >> 4 <= 1 << 32, "32 bits are enough for a sixteenth of any offset") };
    hash << 32 | at >> 4
}

/// Returns the node that a word of a table names.
#[inline]
pub(super) fn node_of(word: u64) -> Option<u64> {
    (word > GONE).then_some((word & u64::from(u32::MAX)) << 4)
}

/// The word that names a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Table(pub(super) u64);

impl Table {
    /// The length of the shortest table, in words.
    pub(super) const FEWEST: u64 = 8;

    /// Creates an empty table in a block of this process. With `now`, does not wait for memory.
    pub(super) fn make(arena: &'static Arena, words: u64, now: bool) -> Result<(Table, OwnedBlock)> {
        let words = words.next_power_of_two().max(Table::FEWEST);
        let block = allocate(8 * words, now)?;
        let table = Table(u64::from((8 * words).trailing_zeros()) << 56 | block.at());
        table.cells(arena).for_each(|cell| cell.store(EMPTY, Ordering::Relaxed));
        Ok((table, block))
    }

    #[inline]
    pub(super) fn offset(self) -> u64 {
        self.0 & ((1 << 56) - 1)
    }

    /// Returns the table's length in words.
    #[inline]
    pub(super) fn len(self) -> u64 {
        (1 << (self.0 >> 56 & 63)) / 8
    }

    /// Returns the table's word at `index`.
    #[inline]
    pub(super) fn cell(self, arena: &Arena, index: u64) -> Option<&'static AtomicU64> {
        word(arena, self.offset() + 8 * index)
    }

    pub(super) fn cells(self, arena: &Arena) -> impl Iterator<Item = &'static AtomicU64> {
        (0..self.len()).map_while(move |index| self.cell(arena, index))
    }

    pub(super) fn words(self, arena: &Arena) -> impl Iterator<Item = u64> {
        self.cells(arena).map(|cell| cell.load(Ordering::Acquire))
    }
}

/// A removed table that now belongs to this process, with the nodes that it names, beginning with its word
/// `first`. Dropping this value frees the table and the nodes.
pub(super) struct Emptied {
    pub(super) arena: &'static Arena,
    pub(super) table: Table,
    pub(super) first: u64,
}

impl Drop for Emptied {
    fn drop(&mut self) {
        let nodes = self.table.words(self.arena).skip(self.first as usize).filter_map(node_of);
        nodes.for_each(|node| owned_block::free(self.arena, node));
        owned_block::free(self.arena, self.table.offset());
    }
}
