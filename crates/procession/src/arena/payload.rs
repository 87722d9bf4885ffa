//! A payload: a value's bytes in a block, with the handles among them.
//!
//! ```text
//! ┌───────────┬──────────────┬───────────────────┬─────────────────────────┐
//! │ len: u64  │ handles: u64 │ len bytes, padded │ handle ids, 8 bytes each │
//! └───────────┴──────────────┴───────────────────┴─────────────────────────┘
//! ```
//!
//! `codec` turns values into these bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Arena;
use super::blocks::{self, HEADER, Tag};
use super::objects::Id;
use super::owned_block::OwnedBlock;
use super::{heap, member};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// Writes bytes, and the ids of the handles among them, into a block of this process. Waits up to a second for memory.
pub(crate) fn pack_bytes(bytes: &[u8], ids: &[Id]) -> Result<OwnedBlock> {
    pack_bytes_until(bytes, ids, Deadline::NEVER)
}

/// As [`pack_bytes`], but does not wait beyond `deadline`.
pub(crate) fn pack_bytes_until(bytes: &[u8], ids: &[Id], deadline: Deadline) -> Result<OwnedBlock> {
    let arena = member::arena()?;
    let room = room_for(bytes.len(), ids.len());
    // CRASH: the block is ours and carries no handles yet, so recovery sweeps it.
    let block = OwnedBlock::allocate_until(room, deadline)?;
    // SAFETY: the block has this room, and nothing else uses it yet.
    fill(unsafe { arena.bytes_mut(block.at(), HEADER + room) }, bytes, ids);
    if !ids.is_empty() {
        blocks::announce_handles(arena, block.at(), Tag::process(member::slot()));
        // The value holds the objects until we return, and the block holds them from here on.
        ids.iter().for_each(|id| arena.object(id.index()).touch());
    }
    Ok(block)
}

/// Calls `write` to write `len` bytes directly into a block of this process. Waits for memory as
/// [`pack_bytes_until`] does.
pub(crate) fn pack_in_place<R>(
    len: usize,
    write: impl FnOnce(&mut [u8]) -> R,
    deadline: Deadline,
) -> Result<(OwnedBlock, R)> {
    let mut block = OwnedBlock::allocate_until(len as u64, deadline)?;
    let (header, room) = block.bytes_mut(HEADER + len as u64).split_at_mut(HEADER as usize);
    header.fill(0);
    let written = write(room);
    header[..8].copy_from_slice(&(len as u64).to_le_bytes());
    Ok((block, written))
}

/// Returns how many bytes a payload takes after its header.
fn room_for(bytes: usize, ids: usize) -> u64 {
    (bytes as u64).next_multiple_of(8) + 8 * ids as u64
}

/// Writes a payload into `block`, the beginning of a block, header included.
fn fill(block: &mut [u8], bytes: &[u8], ids: &[Id]) {
    let (header, room) = block.split_at_mut(HEADER as usize);
    header[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    header[8..].copy_from_slice(&(ids.len() as u64).to_le_bytes());
    room[..bytes.len()].copy_from_slice(bytes);
    let trailer = room[bytes.len().next_multiple_of(8)..].chunks_exact_mut(8);
    trailer.zip(ids).for_each(|(to, id)| to.copy_from_slice(&id.0.to_le_bytes()));
}

/// Writes plain bytes into a block of this process. For a thread that may be in the middle of a panic.
/// Returns `None` if there is no memory, or if this thread cannot allocate memory at the moment.
pub(crate) fn try_pack_bytes(bytes: &[u8]) -> Option<u64> {
    let arena = member::mapped()?;
    let at = heap::try_allocate(arena, member::slot(), bytes.len() as u64)?;
    // SAFETY: this process has just allocated the block, and nothing else uses it.
    let mut block = unsafe { OwnedBlock::adopt(arena, at) };
    fill(block.bytes_mut(HEADER + room_for(bytes.len(), 0)), bytes, &[]);
    Some(block.into_raw())
}

/// Returns the bytes of the payload at `at`.
pub(crate) fn contents(arena: &Arena, at: u64) -> Result<&'static [u8]> {
    let len = header(arena, at).and_then(|(len, handles)| {
        let (start, size) = blocks::around(arena, at)?;
        (start == at && trailer(len) + 8 * handles <= size).then_some(len)
    });
    let len = len
        .ok_or_else(|| Error::Message("the message is damaged: its length does not fit its block".into()))?;
    // SAFETY: a payload is written before any other process can reach its block, and not changed until it is freed.
    Ok(unsafe { arena.bytes(at + HEADER, len) })
}

/// Returns where in a block the handle ids begin: after the `len` bytes.
fn trailer(len: u64) -> u64 {
    HEADER + len.next_multiple_of(8)
}

/// Returns whether the payload at `at` carries handles.
pub(crate) fn has_handles(arena: &Arena, at: u64) -> bool {
    at != 0 && header(arena, at).is_some_and(|(_, handles)| handles > 0)
}

/// Returns the length and the number of handles of the payload at `at`. Checks that the payload ends within
/// the arena.
fn header(arena: &Arena, at: u64) -> Option<(u64, u64)> {
    if !at.is_multiple_of(8) || !arena.layout.has_room_for(at, HEADER) {
        return None;
    }
    // SAFETY: the word lies within the spans and is aligned. It is read as an atomic, because a damaged
    // reference may name a block that another process writes to.
    let word = |at| unsafe { arena.at::<AtomicU64>(at) }.load(Ordering::Acquire);
    let (len, handles) = (word(at), word(at + 8));
    let rest = arena.layout.bytes.checked_sub(at + HEADER)?;
    let trailer = handles.checked_mul(8)?;
    let all = len.checked_next_multiple_of(8)?.checked_add(trailer)?;
    (all <= rest).then_some((len, handles))
}

/// Calls `f` with every handle that the block at `at`, of `size` bytes, carries. If the block is freed
/// meanwhile, this may read stale handles. For the collector that is harmless, because it then only marks too
/// many objects.
pub(crate) fn for_each_handle(arena: &Arena, at: u64, size: u64, f: &mut impl FnMut(Id)) {
    let Some((len, handles)) = header(arena, at) else { return };
    if trailer(len) + 8 * handles > size {
        return;
    }
    for i in 0..handles {
        // SAFETY: `header` has checked the range, and the offset is a multiple of 8.
        f(Id(unsafe { arena.at::<AtomicU64>(at + trailer(len) + 8 * i) }.load(Ordering::Acquire)));
    }
}
