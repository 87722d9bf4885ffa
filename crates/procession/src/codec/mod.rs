//! The codec: values as bytes, and bytes as values.
//!
//! A value is sent in serde's postcard format. A handle in it is encoded as a number, and the handles' ids follow the
//! bytes in the block, so recovery and the collector find them without decoding.
//!
//! | file            | what it holds                                                          |
//! |-----------------|------------------------------------------------------------------------|
//! | `encoding.rs`   | [`Message`](encoding::Message), encoding and decoding, shortcuts for plain types |
//! | `encoder.rs`    | the serde serializer that writes the format                            |
//! | `output.rs`     | where encoded bytes gather                                             |
//! | `value_text.rs` | a value as readable text, for error messages                           |
#![allow(unsafe_code)] // Copies slices of numbers as the bytes that they are.

mod encoder;
pub(crate) mod encoding;
mod output;
pub(crate) mod value_text;

use crate::Result;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, handle, payload};
use encoding::Message;

/// Encodes a value into a block that belongs to this process. Returns 0 for an empty payload, which needs no block.
pub(crate) fn pack<T: Message>(value: &T) -> Result<u64> {
    encoding::with_bytes(value, |bytes, ids| match bytes.is_empty() && ids.is_empty() {
        true => Ok(0),
        false => payload::pack_bytes(bytes, ids).map(OwnedBlock::into_raw),
    })?
}

/// Encodes a value into a block of this process, which it gets even if its payload is empty.
pub(crate) fn pack_block<T: Message>(value: &T) -> Result<OwnedBlock> {
    encoding::with_bytes(value, payload::pack_bytes)?
}

/// Decodes the value in a block. The block stays.
pub(crate) fn unpack<T: Message>(arena: &Arena, at: u64) -> Result<T> {
    let bytes = if at == 0 { &[][..] } else { payload::contents(arena, at)? };
    handle::emptying(|| encoding::from_bytes(bytes))
}
