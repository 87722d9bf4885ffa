//! The blocks of shared data: a table's words, the parts of an object, and their allocation.

use std::sync::atomic::{AtomicU64, Ordering};

use super::part::Part;
use crate::Result;
use crate::arena::blocks::{HEADER, Tag};
use crate::arena::handle::Handle;
use crate::arena::objects::Body;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, member};

/// Returns the word at `offset`, if the offset is aligned and lies in the arena.
#[inline]
pub(super) fn word(arena: &Arena, offset: u64) -> Option<&'static AtomicU64> {
    let sound = offset.is_multiple_of(8) && offset < arena.layout.bytes - 7;
    // SAFETY: the word lies in the arena and is aligned, and any eight such bytes can be read as an atomic.
    // This module writes to a word only if it lies in a block of this process, or under the lock that guards
    // the word.
    sound.then(|| unsafe { arena.at(offset) })
}

/// Returns the parts in a block.
pub(super) fn parts_at<const N: usize>(arena: &Arena, block: u64) -> &'static [Part; N] {
    // SAFETY: the parts are aligned, and consist of atomics. The block has room for them even after the
    // alignment.
    unsafe { arena.at((block + HEADER).next_multiple_of(PART_ALIGNMENT)) }
}

/// The alignment of parts: two cache lines, because processors fetch lines in pairs.
const PART_ALIGNMENT: u64 = 128;

/// Creates an object that owns a block with `N` empty parts.
pub(super) fn make_parts<B: Body, const N: usize>() -> Result<Handle> {
    let arena = member::arena()?;
    let size = size_of::<[Part; N]>() as u64 + PART_ALIGNMENT;
    let mut block = OwnedBlock::allocate(size)?;
    block.bytes_mut(HEADER + size).fill(0);
    parts_at::<N>(arena, block.at()).iter().for_each(Part::initialise);
    let handle = Handle::create::<B>(|object| object.blocks[0].store(block.at(), Ordering::Relaxed))?;
    // CRASH: if we die before this store, recovery sweeps the block with our other blocks. It also frees the
    // object, because we have the only handle.
    block.give_to(Tag::object(handle.id().index()));
    Ok(handle)
}

/// Allocates a block of `bytes` bytes for this process. The block needs no payload header, so the header's
/// bytes count as room. With `now`, does not wait for memory.
pub(super) fn allocate(bytes: u64, now: bool) -> Result<OwnedBlock> {
    let room = bytes.saturating_sub(HEADER);
    if now { OwnedBlock::allocate_now(room) } else { OwnedBlock::allocate(room) }
}
