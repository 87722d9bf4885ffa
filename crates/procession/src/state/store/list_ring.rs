//! [`ListRing`]: a list's table, and where its items begin and end.
//!
//! ```text
//! ┌──────┬───┬────┬────┬────┬────┬────┬────┐
//! │ ends │ 0 │ c  │ d  │    │    │ a  │ b  │      ends: 32 bits first │ 32 bits length
//! └──────┴───┴────┴────┴────┴────┴────┴────┘
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::table::{Table, node_of};
use crate::arena::Arena;

/// The first word that may name a node.
pub(super) const FIRST: u64 = 2;

/// A table with its ends, as they are now.
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

    /// The word for the index, which may be one behind the last, or -1.
    pub(super) fn cell(self, arena: &Arena, index: u64) -> Option<&'static AtomicU64> {
        let room = self.room();
        // Ends that are nonsense lead to a word of the arena like any other.
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

    /// What `ends` becomes when the list begins so many words later, and has so many more.
    pub(super) fn moved(self, later: i64, more: i64) -> u64 {
        let first = (self.first + self.room()).wrapping_add_signed(later) % self.room();
        ListRing::ends(first, self.len.wrapping_add_signed(more))
    }
}
