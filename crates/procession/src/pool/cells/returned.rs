//! [`Returned`]: the tasks that recovery has returned to the workers.
//!
//! ```text
//!  63         32 31          0
//! ┌─────────────┬─────────────┐
//! │ generation  │  cell + 1   │   an entry; 0 is a free place
//! └─────────────┴─────────────┘
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::claims::cell_in;
use super::control::Control;
use super::state::RETURNED;
use crate::arena::Arena;

/// The size of the list. If more tasks than this are returned and not yet taken, workers look for the
/// unlisted ones in all cells.
const LISTED: usize = 64;

/// The list of returned tasks. An entry stays until its task is taken, or is done.
#[repr(C)]
pub(crate) struct Returned {
    entries: [AtomicU64; LISTED],
    /// 1 if the list was full, and recovery has not yet counted that in `overflows`.
    overflowed: AtomicU32,
    /// How often recovery has returned tasks for which the list had no place.
    overflows: AtomicU64,
    /// The tasks of all overflows up to this number have been found.
    searched: AtomicU64,
}

impl Returned {
    /// Lists a task that recovery is about to return.
    ///
    /// CRASH: workers skip an entry whose task is not returned yet, and do not clear it. If recovery dies and
    /// runs again, it may no longer see that the dead process had this task. Even then, it need not list the
    /// task again.
    pub(crate) fn list(&self, control: &Control, arena: &Arena, cell: u32, generation: u32) {
        let entry = u64::from(generation) << 32 | u64::from(cell + 1);
        let is_there = |word: &AtomicU64| word.load(Ordering::SeqCst) == entry;
        if self.entries.iter().any(is_there) {
            return;
        }
        let put = self.entries.iter().any(|word| {
            let seen = word.load(Ordering::SeqCst);
            let free = seen == 0 || is_stale(control, arena, seen);
            free && word.compare_exchange(seen, entry, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        if !put {
            self.overflowed.store(1, Ordering::SeqCst);
        }
    }

    /// Counts an overflow, if there was one. Called after recovery has returned all tasks of a dead process.
    pub(crate) fn count_overflow(&self) {
        if self.overflowed.load(Ordering::SeqCst) != 0 {
            self.overflows.fetch_add(1, Ordering::SeqCst);
            self.overflowed.store(0, Ordering::SeqCst);
        }
    }

    /// Calls `claim` with one listed task after another until `claim` returns a claimed task, and returns
    /// that task.
    pub(crate) fn find<T>(
        &self,
        control: &Control,
        arena: &Arena,
        claim: impl Fn(u32, u32) -> Option<T>,
    ) -> Option<T> {
        self.entries.iter().find_map(|word| {
            let seen = word.load(Ordering::SeqCst);
            let (cell, generation) = (cell_in(seen)?, (seen >> 32) as u32);
            let clear = || _ = word.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
            let state = control.cell(arena, cell)?.state();
            if state.generation() == generation && state.phase() == RETURNED {
                let claimed = claim(cell, generation)?;
                // CRASH: the cell's state names us, whether or not the task is still listed. If we die,
                // recovery returns the task, and lists it again.
                clear();
                return Some(claimed);
            }
            if is_stale(control, arena, seen) {
                clear();
            }
            None
        })
    }

    /// If there may be returned tasks that are not listed, calls `search`, which looks at all cells.
    pub(crate) fn find_unlisted<T>(&self, search: impl FnOnce() -> Option<T>) -> Option<T> {
        let overflows = self.overflows.load(Ordering::SeqCst);
        if overflows == self.searched.load(Ordering::SeqCst) {
            return None;
        }
        let found = search();
        if found.is_none() {
            // CRASH: if we die before this store, the next worker searches again.
            self.searched.fetch_max(overflows, Ordering::SeqCst);
        }
        found
    }
}

/// Reports whether the task of an entry is done. A task that is done is never returned again.
fn is_stale(control: &Control, arena: &Arena, entry: u64) -> bool {
    cell_in(entry).and_then(|cell| control.cell(arena, cell)).is_none_or(|cell| {
        let state = cell.state();
        state.generation() != (entry >> 32) as u32 || !state.is_unfinished()
    })
}
