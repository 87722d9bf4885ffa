//! [`TaskRecovery`]: what recovery does to one task of a pool.

use std::sync::atomic::Ordering;

use super::attempt::Attempt;
use super::cell::{Cell, block_in};
use super::progress::ChunkProgress;
use super::state::{
    ABANDONED, FREEING, KILLING, NEW, QUEUED, RETURNED, RUNNING, SHARED, State, TAKEN, ending,
};
use super::view::PoolView;
use super::{cell_table, results};
use crate::arena::blocks::Tag;
use crate::arena::recover::Dead;
use crate::arena::{blocks, slots};
use crate::os::process::Ended;
use crate::rules;
use crate::rules::Rule;

/// Recovers the cells of one pool after the death of one process.
pub(crate) struct TaskRecovery<'a> {
    pool: PoolView<'a>,
    slot: u32,
    how: Option<Ended>,
    dead: Tag,
}

impl<'a> TaskRecovery<'a> {
    pub(crate) fn new(dead: &Dead<'_>, pool: PoolView<'a>) -> TaskRecovery<'a> {
        TaskRecovery { pool, slot: dead.slot, how: dead.how, dead: Tag::process(dead.slot) }
    }

    pub(super) fn dead_tag(&self) -> Tag {
        self.dead
    }

    /// Returns to the workers a queued task that the dead process had reserved. The process may have taken
    /// the task's number out of the ring, and may then have died before it took the task.
    pub(super) fn return_reserved(&self, index: u32) {
        let Some(cell) = self.pool.cell(index) else { return };
        let state = cell.state();
        if state.phase() == QUEUED && rules::holds(Rule::ReservationReturned) {
            // Losing this race to a worker or a canceller is fine.
            self.return_to_workers(cell, index, state);
        }
    }

    pub(super) fn recover_cell(&self, index: u32) {
        if let Some(cell) = self.pool.cell(index) {
            self.recover(cell, index);
            // Normally the keeper ends these tasks. If the pool's creator is dead too, there is no keeper.
            if let Some(ending) = self.pool.ending_of_unstarted() {
                self.end_unstarted(cell, ending);
            }
        }
    }

    pub(crate) fn recover(&self, cell: &Cell, index: u32) {
        // Another process may move the task to `KILLING` meanwhile. Then the state has changed, so try again.
        while !self.take_over(cell, index) {}
        if let Some(generation) = self.generation_submitted(cell) {
            self.abandon(cell, index, generation);
        }
        self.free_if_unreachable(cell);
    }

    /// Returns the generation of the task in this cell, if the dead process had submitted it.
    fn generation_submitted(&self, cell: &Cell) -> Option<u32> {
        let is_its = || cell.submitter.load(Ordering::Acquire) == self.slot + 1;
        let was_its = !rules::holds(Rule::OwnerReadLast) && is_its();
        // ORDERING: the state is read before the submitter. So the submitter that is read belongs to this
        // task or to a later one. A cell that is free, or that is being filled in, may still name the
        // submitter of its previous task.
        let state = cell.state();
        (state.is_task() && (was_its || is_its())).then(|| state.generation())
    }

    /// Frees a task that is done and to which no process has a handle. The dead process may have been about
    /// to free it. If several processes try this, only one succeeds.
    fn free_if_unreachable(&self, cell: &Cell) {
        let state = cell.state();
        if state.is_unreachable() {
            self.free(cell, state);
        }
    }

    /// Recovers a cell if its state names the dead process. Returns false if the state changed meanwhile.
    fn take_over(&self, cell: &Cell, index: u32) -> bool {
        let state = cell.state();
        match state.phase() {
            _ if state.slot() != Some(self.slot) => true,
            NEW | FREEING => {
                self.free(cell, state);
                true
            }
            _ if !rules::holds(Rule::TaskReturned) => true,
            TAKEN => self.return_to_workers(cell, index, state),
            RUNNING | KILLING => self.retry_or_end(cell, index, state),
            _ => true,
        }
    }

    /// Returns the task to the workers. Returns false if its state is no longer `state`.
    fn return_to_workers(&self, cell: &Cell, index: u32, state: State) -> bool {
        let PoolView { arena, control, .. } = self.pool;
        let list = || control.returned_list.list(control, arena, index, state.generation());
        let listed_first = rules::holds(Rule::ReturnedListed);
        if listed_first {
            list();
        }
        let returned = cell.fetch_update(|s| s.is_still(state).then(|| s.to(RETURNED))).is_ok();
        if returned && !listed_first {
            list();
        }
        returned
    }

    /// Retries the task during which the worker died, or ends it. Returns false if its state is no longer `state`.
    fn retry_or_end(&self, cell: &Cell, index: u32, state: State) -> bool {
        let is_chunk = cell.count.load(Ordering::Relaxed) != 0;
        self.recover_blocks(cell, is_chunk);
        let attempt = self.record_death(cell, state, is_chunk);
        let ending = match self.pool.ending_of_unstarted() {
            Some(ending) => Some(ending),
            None if attempt.ending == ending::CANCELLED => Some(ending::CANCELLED),
            // A chunk is always returned. Its next worker decides whether the item is retried.
            None if !is_chunk && attempt.number > cell.retries.load(Ordering::Relaxed) => {
                Some(attempt.ending)
            }
            None => None,
        };
        // CRASH: until the state changes, it names the dead process. If recovery dies before that, it does
        // all of this again, with the same effect.
        let Some(ending) = ending else { return self.return_to_workers(cell, index, state) };
        let ended = cell.fetch_update(|s| s.is_still(state).then(|| s.ended(ending)));
        ended.map(|was| self.pool.notify_waiters(cell, was)).is_ok()
    }

    /// Stores how the worker died while it ran the current item.
    fn record_death(&self, cell: &Cell, state: State, is_chunk: bool) -> Attempt {
        let item =
            if is_chunk { ChunkProgress::read(cell.progress.load(Ordering::Acquire)).items } else { 0 };
        let mut attempt = Attempt::read(cell.attempt.load(Ordering::Acquire), item);
        attempt.ending = if state.phase() == KILLING { state.ending() } else { ending::DIED };
        let dead = self.pool.arena.slot(self.slot);
        attempt.no_memory = dead.flags.load(Ordering::Relaxed) & slots::NO_MEMORY != 0;
        attempt.status = match self.how {
            Some(Ended::Signaled { signal, .. }) => signal,
            Some(Ended::Exited(code)) => -1 - code,
            None => 0,
        };
        let is_item = !is_chunk || item < cell.count.load(Ordering::Relaxed);
        attempt.panicked = is_item && attempt.ending == ending::DIED && self.keep_panic_text(cell);
        cell.pid.store(dead.pid.load(Ordering::Relaxed), Ordering::Relaxed);
        cell.attempt.store(attempt.word(item), Ordering::Release);
        attempt
    }

    /// If a panic aborted the worker, makes the text of the panic the cell's note. Returns whether it did.
    fn keep_panic_text(&self, cell: &Cell) -> bool {
        let PoolView { arena, tag, .. } = self.pool;
        let dead = arena.slot(self.slot);
        let text = dead.panic_text.load(Ordering::Acquire);
        let panicking = dead.flags.load(Ordering::Relaxed) & slots::PANICKING != 0;
        let aborted = matches!(self.how, Some(Ended::Signaled { signal: libc::SIGABRT, .. }));
        if text == 0 || !panicking || !aborted {
            return false;
        }
        // CRASH: if recovery dies here, it runs again. It first takes the note back from the cell, so it can
        // hand the block over again.
        cell.note.store(text, Ordering::Release);
        let kept = blocks::hand_over(arena, text, self.dead, tag);
        if !kept {
            // The text is already the note of another task that the worker ran.
            cell.note.store(0, Ordering::Release);
        }
        kept
    }

    /// Keeps the finished results of a chunk. Drops the note. Also drops the result of a single call, because
    /// that result is not yet published.
    fn recover_blocks(&self, cell: &Cell, is_chunk: bool) {
        let PoolView { arena, tag, .. } = self.pool;
        let hand_over = |block: u64, from: Tag, to: Tag| {
            if block != 0 && blocks::owner(arena, block).same_owner(from) {
                blocks::hand_over(arena, block, from, to);
            }
        };
        hand_over(block_in(cell.note.load(Ordering::Acquire)), tag, self.dead);
        cell.note.store(0, Ordering::Release);
        let result = block_in(cell.result.load(Ordering::Acquire));
        if is_chunk && rules::holds(Rule::ResultsKept) {
            hand_over(result, self.dead, tag);
            results::for_each_block(arena, cell, &mut |block| hand_over(block, self.dead, tag));
        } else if !is_chunk {
            hand_over(result, tag, self.dead);
            cell.result.store(0, Ordering::Release);
        }
    }

    fn end_unstarted(&self, cell: &Cell, ending: u64) {
        let ended = cell.fetch_update(|s| matches!(s.phase(), QUEUED | RETURNED).then(|| s.ended(ending)));
        if let Ok(was) = ended {
            self.pool.notify_waiters(cell, was);
        }
        self.free_if_unreachable(cell);
    }

    /// Marks a task of the dead submitter as abandoned, because no process has a handle to it. The task still
    /// runs. Its number may not be in the ring yet, so a queued task is returned to the workers.
    fn abandon(&self, cell: &Cell, index: u32, generation: u32) {
        let its = |s: State| s.generation() == generation && s.is_task() && !s.has(SHARED);
        let marked = cell.fetch_update(|s| its(s).then(|| s.with(ABANDONED)));
        if let Ok(was) = marked
            && was.phase() == QUEUED
        {
            // Losing this race to a worker or a canceller is fine.
            self.return_to_workers(cell, index, was);
        }
    }

    /// Frees a cell. The cell's blocks are handed over to the dead process, and the sweep frees them.
    fn free(&self, cell: &Cell, seen: State) {
        let was_freeing = seen.phase() == FREEING;
        let freeing = |s: State| if was_freeing { s } else { s.freeing(self.slot) };
        if cell.fetch_update(|s| s.is_as(seen).then(|| freeing(s))).is_ok() {
            cell_table::detach_blocks(self.pool.arena, self.pool.tag, self.dead, cell);
            cell.submitter.store(0, Ordering::Relaxed);
            let _ = cell.fetch_update(|s| Some(s.freed()));
        }
    }
}
