//! [`Old`]: the value that an operation replaced or removed.

use std::sync::atomic::Ordering;

use super::found;
use super::node::{Encoded, Node};
use crate::arena::Arena;
use crate::arena::owned_block::OwnedBlock;
use crate::codec::encoding;
use crate::{Message, Result};

/// The previous value.
pub(crate) enum Old {
    Nothing,
    /// A value of at most 8 bytes, with its length.
    Word(u64, usize),
    Node(OwnedBlock),
}

impl Old {
    /// Decodes the value, if there was one.
    #[inline]
    pub(crate) fn decode<V: Message>(self, arena: &Arena) -> Result<Option<V>> {
        match self {
            Old::Nothing => Ok(None),
            Old::Word(word, len) => encoding::from_bytes(&word.to_le_bytes()[..len]).map(Some),
            Old::Node(node) => found::decode(arena, &node).map(Some),
        }
    }
}

/// Replaces a value of at most 8 bytes by a value of the same length with one store. Returns `None` if this
/// is not possible. The caller holds the lock.
#[inline]
pub(super) fn exchange_word(arena: &Arena, node: &Node, value: Encoded<'_>) -> Option<Old> {
    let len = value.bytes.len();
    let word = node.value_word(arena, len).filter(|_| value.ids.is_empty())?;
    let mut new = [0; 8];
    new[..len].copy_from_slice(value.bytes);
    let old = word.load(Ordering::Relaxed);
    // CRASH: before this store, the node has the old value, and after this store, the new value. Readers,
    // too, see one of the two.
    word.store(u64::from_le_bytes(new), Ordering::Release);
    Some(Old::Word(old, len))
}
