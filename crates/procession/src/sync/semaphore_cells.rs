//! The cells of a semaphore's permits, and how permits are added.

use std::sync::atomic::{AtomicU32, Ordering};

use super::raw::event::notify;
use super::raw::permits;
use super::raw::permits::{ABSENT, FREE};
use super::semaphore::Semaphore;
use crate::Result;
use crate::arena::{Arena, member};
use crate::os::clock::Deadline;

impl Semaphore {
    /// Adds at most `permits` permits in one pass over the cells. Returns how many are left to add.
    pub(super) fn add_to_cells(&self, permits: u32) -> u32 {
        let mut left = permits;
        for cell in self.cells() {
            if left == 0 {
                break;
            }
            // CRASH: each permit is either added or not. If we die before the wake, the death sweep wakes the
            // waiters.
            if cell.load(Ordering::Relaxed) == ABSENT
                && cell.compare_exchange(ABSENT, FREE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                left -= 1;
                notify(&self.body().events, 1);
            }
        }
        left
    }

    /// Adds a block of cells, unless another process has added it.
    #[cold]
    pub(super) fn grow(&self, arena: &'static Arena) -> Result<()> {
        let (object, index) = (self.handle.object(), self.handle.id().index());
        let seen = self.more.iter().filter(|chunk| chunk.get().is_some()).count();
        match self.body().growing.lock_slow(self.handle.hot_offset(), Deadline::NEVER)? {
            Ok(_guard) => permits::grow(arena, object, index, seen),
            Err(_) => Ok(()),
        }
    }

    /// Returns the cells of all blocks.
    pub(super) fn cells(&self) -> impl Iterator<Item = &'static AtomicU32> {
        self.first.iter().chain(self.chunk(0)).chain(self.chunk(1))
    }

    pub(super) fn chunk(&self, which: usize) -> &'static [AtomicU32] {
        if let Some(chunk) = self.more[which].get() {
            return chunk;
        }
        let (object, index) = (self.handle.object(), self.handle.id().index());
        let at = object.blocks[which + 1].load(Ordering::Acquire);
        match member::mapped().filter(|_| at != 0) {
            Some(arena) => match permits::chunk(arena, object, index, which + 1) {
                Some(chunk) => self.more[which].get_or_init(|| chunk),
                None => &[],
            },
            None => &[],
        }
    }
}
