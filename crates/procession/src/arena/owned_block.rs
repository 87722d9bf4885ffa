//! A block that belongs to this process and is freed when dropped.

use super::blocks::{self, HEADER, Tag};
use super::layout::SPAN;
use super::{Arena, collect, heap, member, payload};
use crate::Result;
use crate::os::clock::Deadline;

/// A block that belongs to this process. Dropping it frees the block.
///
/// CRASH: the block's tag names this process, so the sweep after this process's death frees the block.
#[derive(Debug)]
pub(crate) struct OwnedBlock {
    arena: &'static Arena,
    at: u64,
}

impl OwnedBlock {
    /// Allocates a block with room for `bytes` bytes after its header. Waits up to a second for memory.
    pub(crate) fn allocate(bytes: u64) -> Result<OwnedBlock> {
        OwnedBlock::allocate_until(bytes, Deadline::NEVER)
    }

    /// As [`allocate`](OwnedBlock::allocate), but does not wait beyond `deadline`.
    pub(crate) fn allocate_until(bytes: u64, deadline: Deadline) -> Result<OwnedBlock> {
        let arena = member::arena()?;
        let at = heap::allocate_until(arena, member::slot(), bytes, deadline)?;
        Ok(OwnedBlock { arena, at })
    }

    /// As [`allocate`](OwnedBlock::allocate), but does not wait for memory.
    pub(crate) fn allocate_now(bytes: u64) -> Result<OwnedBlock> {
        let arena = member::arena()?;
        let at = heap::allocate_now(arena, member::slot(), bytes)?;
        Ok(OwnedBlock { arena, at })
    }

    /// Takes ownership of the block at `at`.
    ///
    /// # Safety
    /// The block belongs to this process, and nothing else in the process uses or frees it.
    #[inline]
    pub(crate) unsafe fn adopt(arena: &'static Arena, at: u64) -> OwnedBlock {
        OwnedBlock { arena, at }
    }

    /// Returns the block's offset.
    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Returns the first `bytes` bytes of the block, its header included, for writing. Panics if the block is
    /// smaller.
    pub(crate) fn bytes_mut(&mut self, bytes: u64) -> &mut [u8] {
        let size = blocks::around(self.arena, self.at).map_or(0, |(_, size)| size);
        assert!(bytes <= size, "INVARIANT: a block of {size} bytes has {bytes}");
        // SAFETY: the block belongs to this process, and in this process only `self` uses it. `self` is
        // borrowed exclusively.
        unsafe { self.arena.bytes_mut(self.at, bytes) }
    }

    /// Returns the first `bytes` bytes after the header, for writing.
    pub(crate) fn room_mut(&mut self, bytes: u64) -> &mut [u8] {
        &mut self.bytes_mut(HEADER.saturating_add(bytes))[HEADER as usize..]
    }

    /// Sets every byte of the block to zero. A large block gets fresh pages from the kernel instead.
    pub(crate) fn clear(&mut self) {
        let Some((at, size)) = blocks::around(self.arena, self.at) else { return };
        if size < SPAN || !self.arena.punch(at, size) {
            self.bytes_mut(size).fill(0);
        }
    }

    /// Returns the bytes of the payload in the block.
    ///
    /// # Errors
    /// When the block holds no payload.
    pub(crate) fn payload(&self) -> Result<&[u8]> {
        payload::contents(self.arena, self.at)
    }

    /// Releases ownership without freeing the block, because a word of the arena names the block from now on.
    /// Returns the block's offset.
    #[inline]
    pub(crate) fn into_raw(self) -> u64 {
        let at = self.at;
        std::mem::forget(self);
        at
    }

    /// Transfers the block to another owner with one store, and returns the block's offset.
    pub(crate) fn give_to(self, owner: Tag) -> u64 {
        blocks::hand_over(self.arena, self.at, Tag::process(member::slot()), owner);
        self.into_raw()
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
