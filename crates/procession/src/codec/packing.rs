//! Values in blocks.

use super::encoding::{self, Message};
use crate::Result;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, handle, payload};

/// Encodes a value into a block that belongs to this process. Returns 0 for an empty payload, which needs no block.
pub(crate) fn pack<T: Message>(value: &T) -> Result<u64> {
    encoding::with_bytes(value, |bytes, ids| match bytes.is_empty() && ids.is_empty() {
        true => Ok(0),
        false => payload::pack_bytes(bytes, ids).map(OwnedBlock::into_raw),
    })?
}

/// As [`pack`]. In debug builds, first checks that the encoding can be decoded.
pub(crate) fn pack_checked<T: Message>(value: &T) -> Result<u64> {
    encoding::with_bytes(value, |bytes, ids| {
        encoding::check_arrival::<T>(bytes)?;
        match bytes.is_empty() && ids.is_empty() {
            true => Ok(0),
            false => payload::pack_bytes(bytes, ids).map(OwnedBlock::into_raw),
        }
    })?
}

/// Encodes a value into a block of this process. The value gets a block even if its payload is empty.
pub(crate) fn pack_block<T: Message>(value: &T) -> Result<OwnedBlock> {
    encoding::with_bytes(value, payload::pack_bytes)?
}

/// Decodes the value in a block. Does not free the block.
pub(crate) fn unpack<T: Message>(arena: &Arena, at: u64) -> Result<T> {
    let bytes = if at == 0 { &[][..] } else { payload::contents(arena, at)? };
    handle::decoding(|| encoding::from_bytes(bytes))
}
