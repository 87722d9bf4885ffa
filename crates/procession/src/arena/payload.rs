//! A value as bytes in a block, with the handles inside it.
//!
//! ```text
//! ┌───────────┬──────────────┬───────────────────┬─────────────────────────┐
//! │ len: u64  │ handles: u64 │ len bytes, padded │ handle ids, 8 bytes each │
//! └───────────┴──────────────┴───────────────────┴─────────────────────────┘
//! ```
//!
//! Strings and byte vectors are copied as they are; everything else goes through postcard.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Arena;
use super::blocks::{self, HEADER, Tag};
use super::objects::Id;
use super::{handle, heap, member};
use crate::{Error, Result};

/// What can cross to another process: anything that serde can take apart and put together, and
/// that borrows nothing.
///
/// Values cross as [postcard](https://docs.rs/postcard), which is compact and not
/// self-describing: `serde_json::Value`, `#[serde(untagged)]`, `#[serde(flatten)]` and
/// `skip_serializing_if` do not survive the crossing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    note = "what crosses is owned and `serde::Serialize + serde::Deserialize`: `String`, not `&str`",
    note = "a function that never returns says so: `|| -> () {{ loop {{ .. }} }}`"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Message for T {}

/// Encodes a value.
pub(crate) fn to_bytes<T: Serialize + 'static>(value: &T) -> Result<Vec<u8>> {
    let any: &dyn Any = value;
    if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
        return Ok(bytes.clone());
    }
    if let Some((bytes,)) = any.downcast_ref::<(Vec<u8>,)>() {
        return Ok(bytes.clone());
    }
    if let Some(text) = any.downcast_ref::<String>() {
        return Ok(text.as_bytes().to_vec());
    }
    postcard::to_stdvec(value).map_err(|e| {
        let name = std::any::type_name::<T>();
        Error::Message(format!("a value of type {name} cannot be sent: {e}"))
    })
}

/// Decodes a value.
pub(crate) fn from_bytes<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T> {
    let mut value: Option<T> = None;
    let any: &mut dyn Any = &mut value;
    if let Some(place) = any.downcast_mut::<Option<Vec<u8>>>() {
        *place = Some(bytes.to_vec());
    } else if let Some(place) = any.downcast_mut::<Option<(Vec<u8>,)>>() {
        *place = Some((bytes.to_vec(),));
    } else if let Some(place) = any.downcast_mut::<Option<String>>() {
        *place = String::from_utf8(bytes.to_vec()).ok();
    } else {
        let name = std::any::type_name::<T>();
        let decoded = postcard::from_bytes(bytes)
            .map_err(|e| Error::Message(format!("a value of type {name} cannot be read back: {e}")))?;
        return Ok(decoded);
    }
    value.ok_or_else(|| Error::Message("a string arrived that is not UTF-8".into()))
}

/// Encodes a value into a block that belongs to this process. 0 stands for the empty payload,
/// which needs no block.
pub(crate) fn pack<T: Serialize + 'static>(value: &T) -> Result<u64> {
    let arena = member::arena()?;
    let (bytes, ids) = handle::collecting(|| to_bytes(value));
    let bytes = bytes?;
    if bytes.is_empty() && ids.is_empty() {
        return Ok(0);
    }
    let padded = (bytes.len() as u64).next_multiple_of(8);
    let slot = member::slot();
    let at = heap::allocate(arena, slot, padded + 8 * ids.len() as u64)?;
    // CRASH: the block is ours and carries no handles yet; it is swept.
    fill(arena, at, &bytes, &ids);
    if !ids.is_empty() {
        blocks::announce_handles(arena, at, Tag::process(slot));
        // The objects are held by `value` until we return, and by the block from here on.
        ids.iter().for_each(|id| arena.object(id.index()).touch());
    }
    Ok(at)
}

fn fill(arena: &Arena, at: u64, bytes: &[u8], ids: &[Id]) {
    arena.write(at, &(bytes.len() as u64).to_le_bytes());
    arena.write(at + 8, &(ids.len() as u64).to_le_bytes());
    arena.write(at + HEADER, bytes);
    let trailer: Vec<u8> = ids.iter().flat_map(|id| id.0.to_le_bytes()).collect();
    arena.write(at + HEADER + (bytes.len() as u64).next_multiple_of(8), &trailer);
}

/// Packs plain bytes, for a process that may be in the middle of a panic; `None` when that cannot
/// be done now.
pub(crate) fn try_pack_bytes(bytes: &[u8]) -> Option<u64> {
    let arena = member::mapped()?;
    let at = heap::try_allocate(arena, member::slot(), bytes.len() as u64)?;
    fill(arena, at, bytes, &[]);
    Some(at)
}

/// Decodes the value in a block; the block stays.
pub(crate) fn unpack<T: DeserializeOwned + 'static>(arena: &Arena, at: u64) -> Result<T> {
    let bytes = if at == 0 { &[][..] } else { contents(arena, at)? };
    handle::emptying(|| from_bytes(bytes))
}

/// The bytes of the payload at `at`.
pub(crate) fn contents(arena: &Arena, at: u64) -> Result<&'static [u8]> {
    let (len, _) = header(arena, at).ok_or_else(|| Error::Message("a damaged message".into()))?;
    Ok(arena.bytes(at + HEADER, len))
}

/// Length and number of handles, checked against the arena's end.
fn header(arena: &Arena, at: u64) -> Option<(u64, u64)> {
    if !at.is_multiple_of(8) || arena.layout.span_of(at).is_none() {
        return None;
    }
    // SAFETY: within a span and aligned; read as atomics because a damaged reference may point to
    // a block of somebody else.
    let word = |at| unsafe { arena.at::<AtomicU64>(at) }.load(Ordering::Acquire);
    let (len, handles) = (word(at), word(at + 8));
    let rest = arena.layout.bytes.checked_sub(at + HEADER)?;
    let trailer = handles.checked_mul(8)?;
    let all = len.checked_next_multiple_of(8)?.checked_add(trailer)?;
    (all <= rest).then_some((len, handles))
}

/// Calls `f` with every handle that the block at `at`, of `size` bytes, carries. The block may be
/// freed meanwhile: then what is read is stale, and marking too much does no harm.
pub(super) fn for_each_handle(arena: &Arena, at: u64, size: u64, f: &mut impl FnMut(Id)) {
    let Some((len, handles)) = header(arena, at) else { return };
    let trailer = HEADER + len.next_multiple_of(8);
    if trailer + 8 * handles > size {
        return;
    }
    for i in 0..handles {
        // SAFETY: `header` checked the range; the offset is a multiple of 8.
        f(Id(unsafe { arena.at::<AtomicU64>(at + trailer + 8 * i) }.load(Ordering::Acquire)));
    }
}
