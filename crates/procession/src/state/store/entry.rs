//! [`Entry`]: the entry of a key, in a locked part.

use super::found::decode_at;
use super::map::Map;
use super::node::{self, Encoded, Node};
use super::part::{PartGuard, UserCode};
use super::search::Place;
use super::{Old, exchange_word};
use crate::codec::encoding;
use crate::{Message, Result};

/// The entry of a key, in a part whose lock this thread holds. There may be no node for the key yet.
pub(crate) struct Entry<'a> {
    map: &'a Map,
    guard: PartGuard,
    hash: u64,
    key: Encoded<'a>,
    node: Option<(Node, u64)>,
}

impl Entry<'_> {
    /// Decodes the value, if there is one.
    #[inline]
    pub(crate) fn decode<V: Message>(&self) -> Result<Option<V>> {
        let Some((node, at)) = &self.node else { return Ok(None) };
        let _inside = UserCode::enter();
        if node.is_plain() {
            return encoding::from_bytes(node.value(self.map.arena)?).map(Some);
        }
        decode_at(self.map.arena, *at).map(Some)
    }

    /// Returns the value's bytes, if there is one.
    pub(crate) fn value(&self) -> Result<Option<&'static [u8]>> {
        self.node.as_ref().map(|(node, _)| node.value(self.map.arena)).transpose()
    }

    /// Sets the value. Returns the old value, which the caller frees after the lock is released.
    #[inline]
    pub(crate) fn put(self, value: Encoded<'_>) -> Result<Old> {
        if let Some((node, _)) = &self.node
            && let Some(old) = exchange_word(self.map.arena, node, value)
        {
            return Ok(old);
        }
        let node = node::make(self.map.arena, self.key, value, false)?;
        self.map.place(&self.guard, self.hash, self.key.bytes, node)
    }
}

impl Map {
    /// Calls `f` with the key's entry, under the lock of its part.
    #[inline]
    pub(crate) fn with_entry<R>(
        &self,
        key: Encoded<'_>,
        f: impl FnOnce(Entry<'_>) -> Result<R>,
    ) -> Result<R> {
        let hash = self.hash(key.bytes);
        let part = self.part(hash);
        let guard = self.acquire(part)?;
        let node = match self.search(part, hash, key.bytes) {
            Place::Taken { node, at, .. } => Some((node, at)),
            _ => None,
        };
        f(Entry { map: self, guard, hash, key, node })
    }
}
