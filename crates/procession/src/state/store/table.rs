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

/// Nothing was ever here.
pub(super) const EMPTY: u64 = 0;
/// A node was here.
pub(super) const GONE: u64 = 1;

/// The word of a table that names the node at `at`.
#[inline]
pub(super) fn naming(hash: u64, at: u64) -> u64 {
    const { assert!(LARGEST >> 4 <= 1 << 32, "32 bits are enough for a sixteenth of any offset") };
    hash << 32 | at >> 4
}

/// The node that a word of a table names.
#[inline]
pub(super) fn node_of(word: u64) -> Option<u64> {
    (word > GONE).then_some((word & u64::from(u32::MAX)) << 4)
}

/// The word that names a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Table(pub(super) u64);

impl Table {
    /// The fewest words.
    pub(super) const FEWEST: u64 = 8;

    /// An empty table in a block of this process.
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

    /// How many words it has.
    #[inline]
    pub(super) fn len(self) -> u64 {
        (1 << (self.0 >> 56 & 63)) / 8
    }

    /// One of its words.
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

/// A table that has become this process's, with the nodes that it names from its word `first` on.
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
