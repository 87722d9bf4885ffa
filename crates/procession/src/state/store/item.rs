//! [`Item`]: an item of a locked list.

use std::sync::atomic::AtomicU64;

use super::found::decode_at;
use super::node::{self, Encoded, Node};
use super::part::{Change, PartGuard, UserCode};
use super::sequence::{NOTHING, Sequence};
use super::table::naming;
use super::{Old, exchange_word};
use crate::codec::encoding;
use crate::{Message, Result};

/// An item of a list, while this thread holds the list's lock.
pub(crate) struct Item<'a> {
    list: &'a Sequence,
    _guard: PartGuard,
    cell: &'static AtomicU64,
    at: u64,
}

impl Item<'_> {
    /// Decodes the item.
    pub(crate) fn decode<T: Message>(&self) -> Result<T> {
        let _inside = UserCode::enter();
        let node = Node::read(self.list.arena, self.at).ok_or_else(node::damaged)?;
        if node.is_plain() {
            return encoding::from_bytes(node.value(self.list.arena)?);
        }
        decode_at(self.list.arena, self.at)
    }

    /// Replaces the item. Returns the old item, which the caller frees after the lock is released.
    pub(crate) fn put(self, value: Encoded<'_>) -> Result<Old> {
        let arena = self.list.arena;
        let node = Node::read(arena, self.at).ok_or_else(node::damaged)?;
        if let Some(old) = exchange_word(arena, &node, value) {
            return Ok(old);
        }
        let node = node::make(arena, NOTHING, value, false)?;
        let to = naming(0, node.at());
        self.list.commit(Change { at: self.cell, to, fresh: [node.at(), 0], stale: [self.at, 0] });
        node.into_raw();
        Ok(Old::Node(self.list.part().take_stale(arena, self.at)))
    }
}

impl Sequence {
    /// Calls `f` with the item at `index`, under the lock. Returns `None` if there is no such item.
    pub(crate) fn with_item<R>(
        &self,
        index: u64,
        f: impl FnOnce(Item<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let guard = self.acquire()?;
        let ring = self.ring();
        let (Some(at), Some(cell)) = (ring.node(self.arena, index), ring.cell(self.arena, index)) else {
            return Ok(None);
        };
        f(Item { list: self, _guard: guard, cell, at }).map(Some)
    }
}
