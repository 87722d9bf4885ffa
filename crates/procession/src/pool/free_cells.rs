//! Cells for tasks: how a process comes by one, and gives it back.

use std::sync::atomic::{AtomicU32, Ordering};

use super::cells::cell::{self, Cell, DONE, FREE, NEW, State};
use super::cells::control::{self, phase};
use super::cells::error::TaskError;
use super::shared::{Core, Seat};
use crate::arena::blocks::{self, Tag};
use crate::arena::{collect, member};
use crate::{Error, Result};

/// How many used cells are looked at before a fresh one is taken.
const LOOK: u32 = 32;
/// After a look at used cells in vain, so many tasks get fresh ones.
const FRESH: u32 = 512;

/// What a process knows of free cells: hints.
#[derive(Default)]
pub(super) struct Vacant {
    /// The number of the cell that this process freed last, + 1; in there stands which it freed before: see
    /// [`cell::link`]. (Threads that free and take cells at the same time may lose some.)
    freed: AtomicU32,
    /// Where another one is looked for.
    hand: AtomicU32,
    /// How many more tasks get fresh cells without a look at used ones.
    fresh: AtomicU32,
}

impl Core {
    /// Takes a cell for a task of this process's; `late` if a closed pool takes it, too.
    #[inline]
    pub(super) fn begin(&self, late: bool) -> Result<Seat, TaskError> {
        match self.take_free() {
            Some(seat) if self.phase() == phase::OPEN => Ok(seat),
            taken => self.begin_anyhow(taken, late),
        }
    }

    #[cold]
    fn begin_anyhow(&self, taken: Option<Seat>, late: bool) -> Result<Seat, TaskError> {
        if member::is_forked() {
            return Err(TaskError::unusable(&Error::Forked));
        }
        let seat = match taken {
            Some(seat) => seat,
            None => self.find_free().map_err(|e| TaskError::unusable(&e))?,
        };
        let refusal = self.refusal().filter(|_| !late || self.phase() != phase::CLOSED);
        if let Some(refusal) = refusal {
            self.give_up(seat);
            return Err(refusal);
        }
        Ok(seat)
    }

    /// A cell that this process has freed.
    fn take_free(&self) -> Option<Seat> {
        let last = self.vacant.freed.load(Ordering::Acquire);
        let index = last.checked_sub(1).filter(|_| !member::is_forked())?;
        let was_used = index < self.control.used();
        let cell = if was_used { self.cell(index) } else { None };
        let before = cell.map_or(0, |cell| cell::linked(cell.args.load(Ordering::Relaxed)));
        let taken = cell.and_then(|cell| self.claim(index, cell));
        if taken.is_some() {
            self.vacant.freed.store(before, Ordering::Release);
            // It will be the next one.
            before.checked_sub(1).and_then(|index| self.cell(index)).inspect(|next| next.prefetch());
        } else if self.vacant.freed.load(Ordering::Relaxed) == last {
            // Somebody else has taken it, and where it led to is lost.
            self.vacant.freed.store(0, Ordering::Relaxed);
        }
        taken
    }

    fn find_free(&self) -> Result<Seat> {
        let (used, fresh) = (self.control.used(), self.vacant.fresh.load(Ordering::Relaxed));
        if fresh > 0 {
            self.vacant.fresh.store(fresh - 1, Ordering::Relaxed);
        } else {
            for _ in 0..LOOK.min(used) {
                let index = self.vacant.hand.fetch_add(1, Ordering::Relaxed) % used;
                if let Some(seat) = self.claim_at(index) {
                    return Ok(seat);
                }
            }
            self.vacant.fresh.store(FRESH, Ordering::Relaxed);
        }
        loop {
            let index = match self.control.fresh(self.arena, self.owner()) {
                Ok(index) => index,
                Err(full) => return (0..used).find_map(|index| self.claim_at(index)).ok_or(full),
            };
            if let Some(seat) = self.claim_at(index) {
                return Ok(seat);
            }
        }
    }

    fn claim_at(&self, index: u32) -> Option<Seat> {
        self.claim(index, self.cell(index)?)
    }

    #[inline]
    fn claim(&self, index: u32, cell: &'static Cell) -> Option<Seat> {
        if cell.state().phase() != FREE {
            return None;
        }
        let me = member::slot();
        // CRASH: before any cell names us: recovery looks for us in all of them.
        self.control.hands.mark_user(me);
        // CRASH: `NEW` by us; recovery frees it.
        // ORDERING: the cell is `NEW` before the phase is read: who closes the pool looks at the cells after
        // that, so either we see that it is closed, or we are waited for.
        let was = cell.shift(|s| (s.phase() == FREE).then(|| s.to(NEW).by(me))).ok()?;
        cell.owner.store(me + 1, Ordering::Relaxed);
        cell.handles.store(1, Ordering::Relaxed);
        for word in [&cell.result, &cell.filled, &cell.fate, &cell.clock_ns] {
            word.store(0, Ordering::Relaxed);
        }
        Some(Seat { index, generation: was.generation(), cell })
    }

    /// Frees a cell that did not become a task.
    pub(super) fn give_up(&self, seat: Seat) {
        self.free(Some(seat.index), seat.cell, seat.generation, NEW);
        if self.phase() != phase::OPEN {
            self.tell_keeper();
        }
    }

    /// Frees the cell of a task that is done, and of which this process has let its last handle go.
    #[inline]
    pub(super) fn let_go(&self, seat: Seat) {
        let Seat { index, generation, cell } = seat;
        let words = [&cell.args, &cell.result, &cell.note].map(|word| word.load(Ordering::Relaxed));
        if words[2] != 0 || words.iter().any(|&word| cell::block_in(word) != 0) {
            return self.free(Some(index), cell, generation, DONE);
        }
        // CRASH: until it is free it is done and ours, and recovery frees it: there is nothing in it.
        self.remember(index, cell, |cell| {
            let is = |s: State| s.is_done_here() && s.generation() == generation;
            _ = cell.shift(|s| is(s).then(|| s.freed()));
        });
    }

    /// Has the next task of this process take this cell, which `free` frees.
    #[inline]
    fn remember(&self, index: u32, cell: &Cell, free: impl FnOnce(&Cell)) {
        cell.args.store(cell::link(self.vacant.freed.load(Ordering::Relaxed)), Ordering::Relaxed);
        free(cell);
        self.vacant.freed.store(index + 1, Ordering::Release);
    }

    /// Frees the cell of this task, if it is still in this phase.
    pub(super) fn free(&self, index: Option<u32>, cell: &Cell, generation: u32, phase: u64) {
        let me = member::slot();
        let is = |s: State| s.phase() == phase && s.generation() == generation;
        let Ok(was) = cell.shift(|s| is(s).then(|| s.freeing(me))) else { return };
        let mut collect = false;
        for block in control::strip(self.arena, self.owner(), Tag::process(me), cell) {
            collect |= blocks::free(self.arena, me, block, Tag::process(me));
        }
        let freed = was.freeing(me).freed();
        match index {
            Some(index) => self.remember(index, cell, |cell| cell.leave_as(freed)),
            None => cell.leave_as(freed),
        }
        if collect {
            collect::want(self.arena);
        }
    }
}
