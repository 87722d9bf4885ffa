//! How a process allocates cells for its tasks, and frees them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::cells::cell::{self, Cell};
use super::cells::cell_table;
use super::cells::control::phase;
use super::cells::error::TaskError;
use super::cells::state::{DONE, FREE, NEW, State};
use super::shared::{CellRef, Shared};
use crate::arena::blocks::{self, Tag};
use crate::arena::{collect, member};
use crate::{Error, Result};

/// A process looks at this many used cells before it takes a fresh one.
const LOOK: u32 = 32;
/// After a process has found no free cell among used ones, its next tasks, up to this number, get fresh
/// cells.
const FRESH: u32 = 512;

/// What a process knows about free cells. All of these are only hints.
#[derive(Default)]
pub(super) struct FreeCells {
    /// The number of the cell that this process freed last, + 1. That cell links to the cell that was freed
    /// before it: see [`cell::link`]. If threads allocate and free at the same time, part of this list may
    /// get lost.
    freed: AtomicU32,
    /// Where the next look at used cells begins.
    look_from: AtomicU32,
    /// How many more tasks get fresh cells before this process looks at used cells again.
    fresh: AtomicU32,
}

impl Shared {
    /// Allocates a cell for a task of this process. A closed pool refuses, unless the task is `late`.
    #[inline]
    pub(super) fn allocate(&self, late: bool) -> Result<CellRef, TaskError> {
        match self.reuse_freed() {
            Some(cell_ref) if self.phase() == phase::OPEN => Ok(cell_ref),
            reused => self.allocate_slow(reused, late),
        }
    }

    #[cold]
    fn allocate_slow(&self, reused: Option<CellRef>, late: bool) -> Result<CellRef, TaskError> {
        if member::is_forked() {
            return Err(TaskError::unusable(&Error::Forked));
        }
        let cell_ref = match reused {
            Some(cell_ref) => cell_ref,
            None => self.find_free().map_err(|e| TaskError::unusable(&e))?,
        };
        let refusal = self.refusal().filter(|_| !late || self.phase() != phase::CLOSED);
        if let Some(refusal) = refusal {
            self.discard(cell_ref);
            return Err(refusal);
        }
        Ok(cell_ref)
    }

    /// Allocates the cell that this process freed last.
    fn reuse_freed(&self) -> Option<CellRef> {
        let last = self.free_cells.freed.load(Ordering::Acquire);
        let index = last.checked_sub(1).filter(|_| !member::is_forked())?;
        let was_used = index < self.control.used();
        let cell = if was_used { self.cell(index) } else { None };
        let before = cell.map_or(0, |cell| cell::linked(cell.args.load(Ordering::Relaxed)));
        let allocated = cell.and_then(|cell| self.allocate_cell(index, cell));
        if allocated.is_some() {
            self.free_cells.freed.store(before, Ordering::Release);
            // The next task will use the cell that comes first now, so prefetch it.
            before.checked_sub(1).and_then(|index| self.cell(index)).inspect(|next| next.prefetch());
        } else if self.free_cells.freed.load(Ordering::Relaxed) == last {
            // Another process has allocated the cell, so the cell's link is lost.
            self.free_cells.freed.store(0, Ordering::Relaxed);
        }
        allocated
    }

    fn find_free(&self) -> Result<CellRef> {
        let (used, fresh) = (self.control.used(), self.free_cells.fresh.load(Ordering::Relaxed));
        if fresh > 0 {
            self.free_cells.fresh.store(fresh - 1, Ordering::Relaxed);
        } else {
            for _ in 0..LOOK.min(used) {
                let index = self.free_cells.look_from.fetch_add(1, Ordering::Relaxed) % used;
                if let Some(cell_ref) = self.allocate_at(index) {
                    return Ok(cell_ref);
                }
            }
            self.free_cells.fresh.store(FRESH, Ordering::Relaxed);
        }
        loop {
            let index = match self.control.fresh(self.arena, self.tag) {
                Ok(index) => index,
                Err(full) => return (0..used).find_map(|index| self.allocate_at(index)).ok_or(full),
            };
            if let Some(cell_ref) = self.allocate_at(index) {
                return Ok(cell_ref);
            }
        }
    }

    fn allocate_at(&self, index: u32) -> Option<CellRef> {
        self.allocate_cell(index, self.cell(index)?)
    }

    /// Allocates this cell, if it is free.
    #[inline]
    fn allocate_cell(&self, index: u32, cell: &'static Cell) -> Option<CellRef> {
        if cell.state().phase() != FREE {
            return None;
        }
        let me = member::slot();
        // CRASH: mark us as a user before any cell names us. Then recovery looks for us in all cells.
        self.control.claims.mark_user(me);
        // CRASH: after this store, the cell is `NEW` and names us, and recovery frees it.
        // ORDERING: the cell is `NEW` before the phase is read. The process that closes the pool changes the
        // phase, and the cells are looked at only after that. So either we see that the pool is closed, or
        // the pool waits for our task.
        let was = cell.fetch_update(|s| (s.phase() == FREE).then(|| s.to(NEW).by(me))).ok()?;
        cell.submitter.store(me + 1, Ordering::Relaxed);
        cell.handles.store(1, Ordering::Relaxed);
        for word in [&cell.result, &cell.progress, &cell.attempt, &cell.clock_ns] {
            word.store(0, Ordering::Relaxed);
        }
        Some(CellRef { index, generation: was.generation(), cell })
    }

    /// Frees a cell that did not become a task.
    pub(super) fn discard(&self, cell_ref: CellRef) {
        self.free(Some(cell_ref.index), cell_ref.cell, cell_ref.generation, NEW);
        if self.phase() != phase::OPEN {
            self.notify_keeper();
        }
    }

    /// Frees the cell of a task that is done, after this process has dropped its last handle.
    #[inline]
    pub(super) fn free_done(&self, cell_ref: CellRef) {
        let CellRef { index, generation, cell } = cell_ref;
        let words = [&cell.args, &cell.result, &cell.note].map(|word| word.load(Ordering::Relaxed));
        if words[2] != 0 || words.iter().any(|&word| cell::block_in(word) != 0) {
            return self.free(Some(index), cell, generation, DONE);
        }
        // CRASH: until the cell is free, it is `DONE` and ours, and recovery frees it. It names no blocks.
        self.free_and_remember(index, cell, |cell| {
            let is = |s: State| s.is_done_here() && s.generation() == generation;
            _ = cell.fetch_update(|s| is(s).then(|| s.freed()));
        });
    }

    /// Calls `free`, which frees the cell, and makes it the first choice for this process's next task.
    #[inline]
    fn free_and_remember(&self, index: u32, cell: &Cell, free: impl FnOnce(&Cell)) {
        cell.args.store(cell::link(self.free_cells.freed.load(Ordering::Relaxed)), Ordering::Relaxed);
        free(cell);
        self.free_cells.freed.store(index + 1, Ordering::Release);
    }

    /// Frees the cell of this task, and its blocks, if the task is still in this phase.
    pub(super) fn free(&self, index: Option<u32>, cell: &Cell, generation: u32, phase: u64) {
        let me = member::slot();
        let is = |s: State| s.phase() == phase && s.generation() == generation;
        let Ok(was) = cell.fetch_update(|s| is(s).then(|| s.freeing(me))) else { return };
        let mut collect = false;
        for block in cell_table::detach_blocks(self.arena, self.tag, Tag::process(me), cell) {
            collect |= blocks::free(self.arena, me, block, Tag::process(me));
        }
        let freed = was.freeing(me).freed();
        match index {
            Some(index) => self.free_and_remember(index, cell, |cell| cell.store_release(freed)),
            None => cell.store_release(freed),
        }
        if collect {
            collect::want(self.arena);
        }
    }
}
