//! A block that belongs to this process, and is freed when it is dropped.

use crate::Result;
use crate::arena::blocks::{self, HEADER, Tag};
use crate::arena::{Arena, collect, heap, member};

/// A block of this process's own.
pub(crate) struct Mine {
    arena: &'static Arena,
    at: u64,
}

impl Mine {
    /// Takes a block of `bytes` bytes, its first 16 included. With `now`, does not wait for memory to come back.
    pub(super) fn take(arena: &'static Arena, bytes: u64, now: bool) -> Result<Mine> {
        member::arena()?; // in a stray fork there is none
        let (slot, bytes) = (member::slot(), bytes.saturating_sub(HEADER));
        let at =
            if now { heap::allocate_now(arena, slot, bytes)? } else { heap::allocate(arena, slot, bytes)? };
        Ok(Mine { arena, at })
    }

    /// A block that has become this process's.
    pub(super) fn adopt(arena: &'static Arena, at: u64) -> Mine {
        Mine { arena, at }
    }

    #[inline]
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// It belongs to an object now.
    #[inline]
    pub(super) fn given_away(self) {
        std::mem::forget(self);
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        free(self.arena, self.at);
    }
}

/// Frees a block of this process.
pub(super) fn free(arena: &'static Arena, at: u64) {
    if blocks::free(arena, member::slot(), at, Tag::process(member::slot())) {
        // It carried handles.
        collect::want(arena);
    }
}
