//! [`ListRing`]: a list's table, and where the items in it begin and end.
//!
//! ```text
//! ┌──────┬───┬────┬────┬────┬────┬────┬────┐
//! │ ends │ 0 │ c  │ d  │    │    │ a  │ b  │      ends: 32 bits first │ 32 bits length
//! └──────┴───┴────┴────┴────┴────┴────┴────┘
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::table::{Table, node_of};
use crate::arena::Arena;

/// The index of the first word that may name a node.
pub(super) const FIRST: u64 = 2;

/// A table and its ends, as they were at the moment of the read.
#[derive(Clone, Copy)]
pub(super) struct ListRing {
    pub(super) table: Table,
    pub(super) first: u64,
    pub(super) len: u64,
}

impl ListRing {
    pub(super) fn room(self) -> u64 {
        if self.table.0 == 0 { 0 } else { self.table.len() - FIRST }
    }

    /// Returns the word for an index from -1 to the length.
    pub(super) fn cell(self, arena: &Arena, index: u64) -> Option<&'static AtomicU64> {
        let room = self.room();
        // Even invalid ends lead to a word of the arena.
        let at = self.first.wrapping_add(index).wrapping_add(room);
        self.table.cell(arena, FIRST + at % room.max(1))
    }

    pub(super) fn node(self, arena: &Arena, index: u64) -> Option<u64> {
        if index >= self.len {
            return None;
        }
        node_of(self.cell(arena, index)?.load(Ordering::Acquire))
    }

    pub(super) fn ends(first: u64, len: u64) -> u64 {
        first << 32 | len
    }

    /// Returns the value of `ends` for a list that begins `later` words further on and is `more` items
    /// longer.
    pub(super) fn moved(self, later: i64, more: i64) -> u64 {
        let first = (self.first + self.room()).wrapping_add_signed(later) % self.room();
        ListRing::ends(first, self.len.wrapping_add_signed(more))
    }
}
