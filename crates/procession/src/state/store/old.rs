//! [`Old`]: the value that an operation replaced or removed.

use std::sync::atomic::Ordering;

use super::node::{self, Encoded, Node};
use crate::arena::Arena;
use crate::arena::owned_block::OwnedBlock;
use crate::codec::encoding;
use crate::{Message, Result};

/// What was there before.
pub(crate) enum Old {
    Nothing,
    /// A value of so many bytes.
    Word(u64, usize),
    Node(OwnedBlock),
}

impl Old {
    /// Puts the value together.
    #[inline]
    pub(crate) fn decode<V: Message>(self, arena: &Arena) -> Result<Option<V>> {
        match self {
            Old::Nothing => Ok(None),
            Old::Word(word, len) => encoding::from_bytes(&word.to_le_bytes()[..len]).map(Some),
            Old::Node(node) => node::decode(arena, &node).map(Some),
        }
    }
}

/// Exchanges a value that is one word for another, if both are. For who holds the lock.
#[inline]
pub(super) fn exchange_word(arena: &Arena, node: &Node, value: Encoded<'_>) -> Option<Old> {
    let len = value.bytes.len();
    let word = node.value_word(arena, len).filter(|_| value.ids.is_empty())?;
    let mut new = [0; 8];
    new[..len].copy_from_slice(value.bytes);
    let old = word.load(Ordering::Relaxed);
    // CRASH: before this store it is the old value, after it the new one. Readers see one or the other, too.
    word.store(u64::from_le_bytes(new), Ordering::Release);
    Some(Old::Word(old, len))
}
