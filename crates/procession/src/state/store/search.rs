//! Finding a key's entry, and reading it without the lock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::RetryBudget;
use super::copy::Buffer;
use super::found::Found;
use super::map::Map;
use super::node::Node;
use super::part::{self, Part};
use super::table::{EMPTY, GONE, Table, node_of};
use crate::Result;
use crate::arena::member;

/// The place of a key in a table.
pub(super) enum Place {
    Taken {
        cell: &'static AtomicU64,
        index: u64,
        at: u64,
        node: Node,
    },
    /// The key is not in the table. Its node can be put into this word, which is `EMPTY` or `GONE`.
    Free {
        cell: &'static AtomicU64,
        was: u64,
    },
    /// The key is not in the table, and the table has no room or does not exist.
    Nowhere,
}

impl Map {
    /// Searches for a key. The result is only valid if the caller holds the part's lock, or if its optimistic
    /// read of the part is still current.
    #[inline]
    pub(super) fn search(&self, part: &Part, hash: u64, key: &[u8]) -> Place {
        // ORDERING: this Acquire and those of the cells below pair with the Release in `Part::commit`.
        let table = Table(part.table.load(Ordering::Acquire));
        let (mut free, hash) = (Place::Nowhere, hash & u64::from(u32::MAX));
        if table.0 == 0 {
            return free;
        }
        let (len, mut index) = (table.len(), hash & (table.len() - 1));
        for _ in 0..len {
            let Some(cell) = table.cell(self.arena, index) else { break };
            let word = cell.load(Ordering::Acquire);
            if word >> 32 == hash
                && let Some(at) = node_of(word)
                && let Some(node) = Node::read(self.arena, at)
                && node.has_key(self.arena, key)
            {
                return Place::Taken { cell, index, at, node };
            }
            if word <= GONE && matches!(free, Place::Nowhere) {
                free = Place::Free { cell, was: word };
            }
            if word == EMPTY {
                break;
            }
            index = (index + 1) & (len - 1);
        }
        free
    }

    /// As [`search`](Map::search), but for readers. Returns only the node with this key.
    #[inline]
    pub(super) fn find_node(&self, part: &Part, hash: u64, key: &[u8]) -> Option<Node> {
        let table = Table(part.table.load(Ordering::Acquire));
        if table.0 == 0 {
            return None;
        }
        let (mask, hash) = (table.len() - 1, hash & u64::from(u32::MAX));
        let mut index = hash & mask;
        for _ in 0..=mask {
            let word = table.cell(self.arena, index)?.load(Ordering::Acquire);
            if word >> 32 == hash
                && let Some(at) = node_of(word)
                && let Some(node) = Node::read(self.arena, at)
                && node.has_key(self.arena, key)
            {
                return Some(node);
            }
            if word == EMPTY {
                break;
            }
            index = (index + 1) & mask;
        }
        None
    }

    /// Copies the value of a key, or returns `None` if the key is missing. Acquires the lock only if other
    /// threads keep changing this part.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], buffer: &mut Buffer) -> Result<Option<Found>> {
        let hash = self.hash(key);
        let part = self.part(hash);
        loop {
            let mut budget = RetryBudget::new();
            while budget.has_attempt() {
                let read = part.begin_read();
                match self.find_node(part, hash, key) {
                    Some(node) => {
                        if let Some(found) = node.copy(self.arena, buffer, || read.is_current())? {
                            return Ok(Some(found));
                        }
                        budget.charge(node.value_len);
                    }
                    _ if read.is_unmapped() => break,
                    _ if read.is_current() => return Ok(None),
                    _ => {}
                }
                std::hint::spin_loop();
            }
            if !part::is_inside(self.parts) {
                return self.get_locked(part, hash, key, buffer);
            }
        }
    }

    #[cold]
    fn get_locked(
        &self,
        part: &'static Part,
        hash: u64,
        key: &[u8],
        to: &mut Buffer,
    ) -> Result<Option<Found>> {
        member::arena()?;
        let _guard = self.acquire(part)?;
        match self.find_node(part, hash, key) {
            Some(node) => node.copy(self.arena, to, || true),
            None => Ok(None),
        }
    }

    /// Returns whether the map has the key.
    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        let hash = self.hash(key);
        let part = self.part(hash);
        loop {
            let mut budget = RetryBudget::new();
            while budget.has_attempt() {
                let read = part.begin_read();
                let found = self.find_node(part, hash, key).is_some();
                if read.is_current() && !read.is_unmapped() {
                    return Ok(found);
                }
            }
            if !part::is_inside(self.parts) {
                member::arena()?;
                let _guard = self.acquire(part)?;
                return Ok(self.find_node(part, hash, key).is_some());
            }
        }
    }
}
