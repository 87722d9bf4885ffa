//! A payload: bytes in a block, with the handles among them.
//!
//! ```text
//! ┌───────────┬──────────────┬───────────────────┬─────────────────────────┐
//! │ len: u64  │ handles: u64 │ len bytes, padded │ handle ids, 8 bytes each │
//! └───────────┴──────────────┴───────────────────┴─────────────────────────┘
//! ```
//!
//! `codec` writes values as such bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Arena;
use super::blocks::{self, HEADER, Tag};
use super::objects::Id;
use super::{heap, member};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// Takes a block of this process for these bytes, and the handles among them. Waits a moment for memory that there
/// is none of now.
pub(crate) fn pack_bytes(bytes: &[u8], ids: &[Id]) -> Result<u64> {
    pack_bytes_until(bytes, ids, Deadline::NEVER)
}

/// As [`pack_bytes`], but waits no longer than that.
pub(crate) fn pack_bytes_until(bytes: &[u8], ids: &[Id], deadline: Deadline) -> Result<u64> {
    let (arena, slot) = (member::arena()?, member::slot());
    let padded = (bytes.len() as u64).next_multiple_of(8);
    let at = heap::allocate_until(arena, slot, padded + 8 * ids.len() as u64, deadline)?;
    // CRASH: the block is ours and carries no handles yet; it is swept.
    fill(arena, at, bytes, ids);
    if !ids.is_empty() {
        blocks::announce_handles(arena, at, Tag::process(slot));
        // The objects are held by the value until we return, and by the block from here on.
        ids.iter().for_each(|id| arena.object(id.index()).touch());
    }
    Ok(at)
}

/// Takes a block of this process for `len` bytes, which `write` writes in place. Waits as [`pack_bytes_until`] does.
pub(crate) fn pack_in_place<R>(
    len: usize,
    write: impl FnOnce(&mut [u8]) -> R,
    deadline: Deadline,
) -> Result<(u64, R)> {
    let (arena, slot) = (member::arena()?, member::slot());
    let at = heap::allocate_until(arena, slot, len as u64, deadline)?;
    fill(arena, at, &[], &[]);
    let unwritten = Unwritten(at);
    let written = write(arena.bytes_mut(at + HEADER, len as u64));
    std::mem::forget(unwritten);
    arena.write(at, &(len as u64).to_le_bytes());
    Ok((at, written))
}

/// A block of this process that goes again if writing to it panics.
struct Unwritten(u64);

impl Drop for Unwritten {
    fn drop(&mut self) {
        if let Some(arena) = member::mapped() {
            blocks::free(arena, member::slot(), self.0, Tag::process(member::slot()));
        }
    }
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

/// The bytes of the payload at `at`.
pub(crate) fn contents(arena: &Arena, at: u64) -> Result<&'static [u8]> {
    let len = header(arena, at).and_then(|(len, handles)| {
        let (start, size) = blocks::around(arena, at)?;
        (start == at && trailer(len) + 8 * handles <= size).then_some(len)
    });
    let len = len.ok_or_else(|| Error::Message("a damaged message".into()))?;
    Ok(arena.bytes(at + HEADER, len))
}

/// Where the handles stand in a block, when that many bytes come before them.
fn trailer(len: u64) -> u64 {
    HEADER + len.next_multiple_of(8)
}

/// Whether the payload at `at` carries handles.
pub(crate) fn has_handles(arena: &Arena, at: u64) -> bool {
    at != 0 && header(arena, at).is_some_and(|(_, handles)| handles > 0)
}

/// Length and number of handles, checked against the arena's end.
fn header(arena: &Arena, at: u64) -> Option<(u64, u64)> {
    if !at.is_multiple_of(8) || !arena.layout.has_room_for(at, HEADER) {
        return None;
    }
    // SAFETY: within the spans and aligned; read as atomics because a damaged reference may point to
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
pub(crate) fn for_each_handle(arena: &Arena, at: u64, size: u64, f: &mut impl FnMut(Id)) {
    let Some((len, handles)) = header(arena, at) else { return };
    if trailer(len) + 8 * handles > size {
        return;
    }
    for i in 0..handles {
        // SAFETY: `header` checked the range; the offset is a multiple of 8.
        f(Id(unsafe { arena.at::<AtomicU64>(at + trailer(len) + 8 * i) }.load(Ordering::Acquire)));
    }
}
