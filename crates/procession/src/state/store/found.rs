//! [`Found`]: a value that a reader has found in a node, and how such a value is decoded.

use super::copy::Buffer;
use super::node::{Node, damaged};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, handle};
use crate::codec::encoding;
use crate::{Message, Result};

/// A value that a reader has found.
pub(crate) enum Found {
    /// The value's bytes are in the buffer.
    Copied,
    /// The value carries handles, so the node was copied into a block of this process.
    Carried(OwnedBlock),
}

impl Found {
    /// Decodes the value.
    #[inline]
    pub(crate) fn decode<V: Message>(self, arena: &Arena, buffer: &Buffer) -> Result<V> {
        match self {
            Found::Copied => encoding::from_bytes(buffer.bytes()),
            Found::Carried(node) => decode(arena, &node),
        }
    }
}

/// Decodes the value of a node that belongs to this process.
pub(crate) fn decode<V: Message>(arena: &Arena, node: &OwnedBlock) -> Result<V> {
    decode_at(arena, node.at())
}

/// Decodes the key and the value of a node that belongs to this process.
pub(crate) fn decode_both<K: Message, V: Message>(arena: &Arena, node: &OwnedBlock) -> Result<(K, V)> {
    let node = Node::read(arena, node.at()).ok_or_else(damaged)?;
    handle::decoding(|| {
        Ok((encoding::from_bytes(node.key(arena)?)?, encoding::from_bytes(node.value(arena)?)?))
    })
}

/// Decodes the value of a node that cannot change during the call.
pub(super) fn decode_at<V: Message>(arena: &Arena, at: u64) -> Result<V> {
    let node = Node::read(arena, at).ok_or_else(damaged)?;
    handle::decoding(|| encoding::from_bytes(node.value(arena)?))
}
