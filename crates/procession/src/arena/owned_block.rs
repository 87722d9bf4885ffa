//! A block that belongs to this process and is freed when dropped.

use super::blocks::{self, HEADER, Tag};
use super::{Arena, collect, heap, member};
use crate::Result;

/// A block that belongs to this process. Dropping it frees the block.
///
/// CRASH: the block's tag names this process, so the sweep after a death frees it.
pub(crate) struct OwnedBlock {
    arena: &'static Arena,
    at: u64,
}

impl OwnedBlock {
    /// Allocates a block of `bytes` bytes, its header of 16 included. With `now`, does not wait for memory.
    pub(crate) fn allocate(arena: &'static Arena, bytes: u64, now: bool) -> Result<OwnedBlock> {
        member::arena()?; // A stray fork has none.
        let (slot, bytes) = (member::slot(), bytes.saturating_sub(HEADER));
        let at =
            if now { heap::allocate_now(arena, slot, bytes)? } else { heap::allocate(arena, slot, bytes)? };
        Ok(OwnedBlock { arena, at })
    }

    /// Takes charge of a block that already belongs to this process.
    pub(crate) fn adopt(arena: &'static Arena, at: u64) -> OwnedBlock {
        OwnedBlock { arena, at }
    }

    /// Returns the block's offset.
    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Gives the block up without freeing it, because it belongs to an object now.
    #[inline]
    pub(crate) fn into_raw(self) -> u64 {
        let at = self.at;
        std::mem::forget(self);
        at
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        free(self.arena, self.at);
    }
}

/// Frees a block of this process.
pub(crate) fn free(arena: &'static Arena, at: u64) {
    if blocks::free(arena, member::slot(), at, Tag::process(member::slot())) {
        // The block carried handles, so an object may have become unreachable.
        collect::want(arena);
    }
}
