//! What recovery does to the pools that a dead process had to do with. It runs while the cells' words still
//! name the dead, so nobody else touches those cells; and it can be begun anew.

use std::sync::atomic::Ordering;

use super::cell::{
    ABANDONED, Attempt, CONDEMNED, Cell, FREEING, Filled, NEW, QUEUED, RETURNED, RUNNING, SHARED, State,
    TAKEN, WATCHED, block_in, ending,
};
use super::control::{Control, phase};
use super::{control, results};
use crate::arena::blocks::Tag;
use crate::arena::objects::Kind;
use crate::arena::recover::{Dead, Found, Journaled, Recover};
use crate::arena::{Arena, blocks, slots, sweep};
use crate::os::process::Ended;
use crate::queue::ring;
use crate::queue::ring::Ring;
use crate::rules;
use crate::rules::Rule;
use crate::sync::raw::event;

/// Pools: the ends of their ring, and the tasks of the dead process.
pub(crate) struct Pools;

impl Recover for Pools {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        ring::recover::release_end(dead, found, entry);
    }

    fn return_work(&self, dead: &Dead<'_>, found: &Found) {
        if let Some(control) = control::control_of(dead.arena, found.index) {
            return_tasks(dead, found.index, control);
        }
    }
}

/// Returns the tasks that the dead process worked on, abandons those that it had submitted, and ends the pool if its
/// keeper ran there.
pub(crate) fn return_tasks(dead: &Dead<'_>, index: u32, control: &'static Control) {
    let &Dead { arena, slot, how, .. } = dead;
    let recovery = Recovery::new(arena, slot, how, control, index);
    control.adopt_chunks(arena, recovery.dead, recovery.owner);
    let pid = arena.slot(slot).pid.load(Ordering::Relaxed);
    for its in control.worker_pids().filter(|its| its.load(Ordering::Relaxed) == pid) {
        its.store(0, Ordering::SeqCst);
    }
    let kept_here = control.creator.load(Ordering::Acquire) == slot + 1;
    if kept_here {
        control.phase.fetch_max(phase::TERMINATED, Ordering::SeqCst);
    }
    control.claims.of(slot).for_each(|index| recovery.return_reserved(index));
    // A worker that has submitted nothing has no more to do with the pool than what is in its hands.
    if kept_here || control.claims.is_user(slot) {
        (0..control.used()).for_each(|index| recovery.recover_cell(index));
    } else {
        control.claims.of(slot).for_each(|index| recovery.recover_cell(index));
    }
    control.claims.forget(slot);
    control.returned_list.count_unlisted();
    control.returned.word.store(1, Ordering::SeqCst);
    event::notify(&control.completed.word, i32::MAX);
    notify_keeper(control);
    if kept_here {
        control.shut_down.store(1, Ordering::SeqCst);
        event::notify(&control.ended.word, i32::MAX);
    }
    if let Some(ring) = Ring::find(index) {
        event::notify(&ring.control().filled.word, i32::MAX);
    }
}

/// The process ids of the workers of the pools that the dead process of `slot` kept. One that begins now sees that
/// its pool has ended.
pub(crate) fn workers_kept_by(arena: &Arena, slot: u32) -> Vec<i32> {
    let mut pids = Vec::new();
    for_each_pool(arena, slot, |_, control| {
        if control.creator.load(Ordering::Acquire) == slot + 1 {
            control.phase.fetch_max(phase::TERMINATED, Ordering::SeqCst);
            pids.extend(control.worker_pids().map(|pid| pid.load(Ordering::SeqCst)).filter(|&pid| pid > 0));
        }
    });
    pids
}

/// Notifies the keepers of the dead process's pools: they look for missing workers, and can see now that this one is
/// dead. A worker that died before it took its pool out of its arguments holds no handle yet, but carries one.
pub(crate) fn notify_keepers(arena: &Arena, slot: u32, clean: bool) {
    for_each_pool(arena, slot, |_, control| notify_keeper(control));
    if clean {
        return;
    }
    sweep::for_each_carried(arena, slot, &mut |id| {
        if id.index() < arena.layout.objects
            && arena.object(id.index()).is(id, Kind::PoolShared)
            && let Some(control) = control::control_of(arena, id.index())
        {
            notify_keeper(control);
        }
    });
}

fn notify_keeper(control: &Control) {
    if rules::holds(Rule::KeeperNotified) {
        event::notify(&control.keeper.word, i32::MAX);
    }
}

fn for_each_pool(arena: &Arena, slot: u32, mut f: impl FnMut(u32, &'static Control)) {
    arena.held_objects(slot).for_each(|index| {
        if index < arena.layout.objects
            && arena.object(index).is_any(Kind::PoolShared)
            && let Some(control) = control::control_of(arena, index)
        {
            f(index, control);
        }
    });
}

pub(crate) struct Recovery<'a> {
    arena: &'a Arena,
    slot: u32,
    how: Option<Ended>,
    control: &'static Control,
    dead: Tag,
    owner: Tag,
}

impl<'a> Recovery<'a> {
    /// Of the process in `slot`, as far as the pool with this index goes.
    pub(crate) fn new(
        arena: &'a Arena,
        slot: u32,
        how: Option<Ended>,
        control: &'static Control,
        index: u32,
    ) -> Recovery<'a> {
        Recovery { arena, slot, how, control, dead: Tag::process(slot), owner: Tag::object(index) }
    }

    /// The dead one may have taken the task's number out of the ring, and not have come to take the task.
    fn return_reserved(&self, index: u32) {
        let Some(cell) = self.control.cell(self.arena, index) else { return };
        let state = cell.state();
        if state.phase() == QUEUED && rules::holds(Rule::ReservationReturned) {
            // If somebody else takes it, or it is cancelled, that is as well.
            self.return_to_workers(cell, index, state);
        }
    }

    fn recover_cell(&self, index: u32) {
        if let Some(cell) = self.control.cell(self.arena, index) {
            self.recover(cell, index);
            // (If the maker is dead, too, nobody else does this.)
            match self.control.phase.load(Ordering::SeqCst) {
                phase::TERMINATED => self.end_unstarted(cell, ending::TERMINATED),
                phase::BROKEN => self.end_unstarted(cell, ending::BROKEN),
                _ => {}
            }
        }
    }

    pub(crate) fn recover(&self, cell: &Cell, index: u32) {
        // Somebody may condemn the task meanwhile.
        while !self.take_over(cell, index) {}
        if let Some(generation) = self.generation_submitted(cell) {
            self.abandon(cell, index, generation);
        }
        self.free_if_unreachable(cell);
    }

    /// The generation of the task in this cell, if the dead one has submitted it.
    fn generation_submitted(&self, cell: &Cell) -> Option<u32> {
        let is_its = || cell.submitter.load(Ordering::Acquire) == self.slot + 1;
        let was_its = !rules::holds(Rule::OwnerReadLast) && is_its();
        // ORDERING: the word before the owner: of a task that word speaks of the owner is known, or of a later one. (A
        // cell that is free, or that another is filling in, may still say who had it before.)
        let state = cell.state();
        (state.is_task() && (was_its || is_its())).then(|| state.generation())
    }

    /// Whoever was about to free it may have been the dead; anybody else who is loses to us, or we to him.
    fn free_if_unreachable(&self, cell: &Cell) {
        let state = cell.state();
        if state.is_unreachable() {
            self.free(cell, state);
        }
    }

    /// Takes a cell out of the dead one's hands, if it is there; false if it has changed meanwhile.
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
            RUNNING | CONDEMNED => self.interrupted(cell, index, state),
            _ => true,
        }
    }

    /// Returns the task to the workers, if it still is as it was.
    fn return_to_workers(&self, cell: &Cell, index: u32, state: State) -> bool {
        let list = || self.control.returned_list.list(self.control, self.arena, index, state.generation());
        let listed_first = rules::holds(Rule::ReturnedListed);
        if listed_first {
            list();
        }
        let given = cell.fetch_update(|s| s.is_still(state).then(|| s.to(RETURNED))).is_ok();
        if given && !listed_first {
            list();
        }
        given
    }

    /// The worker died at a task: it is tried again, or that was it.
    fn interrupted(&self, cell: &Cell, index: u32, state: State) -> bool {
        let chunk = cell.count.load(Ordering::Relaxed) != 0;
        self.recover_blocks(cell, chunk);
        let item = if chunk { Filled::read(cell.filled.load(Ordering::Acquire)).items } else { 0 };
        let mut fate = Attempt::read(cell.fate.load(Ordering::Acquire), item);
        fate.ending = if state.phase() == CONDEMNED { state.ending() } else { ending::DIED };
        let dead = self.arena.slot(self.slot);
        fate.no_memory = dead.flags.load(Ordering::Relaxed) & slots::NO_MEMORY != 0;
        fate.how = match self.how {
            Some(Ended::Signaled { signal, .. }) => signal,
            Some(Ended::Exited(code)) => -1 - code,
            None => 0,
        };
        cell.pid.store(dead.pid.load(Ordering::Relaxed), Ordering::Relaxed);
        cell.fate.store(fate.word(item), Ordering::Release);
        let over = match self.control.phase.load(Ordering::SeqCst) {
            phase::TERMINATED => Some(ending::TERMINATED),
            phase::BROKEN => Some(ending::BROKEN),
            _ if fate.ending == ending::CANCELLED => Some(ending::CANCELLED),
            _ if !chunk && fate.attempt > cell.retries.load(Ordering::Relaxed) => Some(fate.ending),
            _ => None,
        };
        // CRASH: until this the word names the dead, and all above is done again, with the same outcome.
        let Some(ending) = over else { return self.return_to_workers(cell, index, state) };
        let ended = cell.fetch_update(|s| s.is_still(state).then(|| s.ended(ending)));
        ended.map(|was| self.notify_done(cell, was)).is_ok()
    }

    /// What a chunk has brought forth stays; a single result that nobody was told of does not.
    fn recover_blocks(&self, cell: &Cell, chunk: bool) {
        let give = |block: u64, from: Tag, to: Tag| {
            if block != 0 && blocks::owner(self.arena, block).same_owner(from) {
                blocks::hand_over(self.arena, block, from, to);
            }
        };
        give(block_in(cell.note.load(Ordering::Acquire)), self.owner, self.dead);
        cell.note.store(0, Ordering::Release);
        let result = block_in(cell.result.load(Ordering::Acquire));
        if chunk && rules::holds(Rule::ResultsKept) {
            give(result, self.dead, self.owner);
            results::for_each_block(self.arena, cell, &mut |block| give(block, self.dead, self.owner));
        } else if !chunk {
            give(result, self.owner, self.dead);
            cell.result.store(0, Ordering::Release);
        }
    }

    fn end_unstarted(&self, cell: &Cell, ending: u64) {
        let ended = cell.fetch_update(|s| matches!(s.phase(), QUEUED | RETURNED).then(|| s.ended(ending)));
        if let Ok(was) = ended {
            self.notify_done(cell, was);
        }
        self.free_if_unreachable(cell);
    }

    /// Nobody has a handle any more. The task runs all the same; perhaps it never came into the ring.
    fn abandon(&self, cell: &Cell, index: u32, generation: u32) {
        let its = |s: State| s.generation() == generation && s.is_task() && !s.has(SHARED);
        let left = cell.fetch_update(|s| its(s).then(|| s.with(ABANDONED)));
        if let Ok(was) = left
            && was.phase() == QUEUED
        {
            // If a worker is faster, or it is cancelled, that is as well.
            self.return_to_workers(cell, index, was);
        }
    }

    fn notify_done(&self, cell: &Cell, was: State) {
        event::notify(&cell.done, i32::MAX);
        if was.has(WATCHED) {
            event::notify(&self.control.completed.word, i32::MAX);
        }
    }

    /// Frees a cell; its blocks are swept with the dead.
    fn free(&self, cell: &Cell, seen: State) {
        let again = seen.phase() == FREEING;
        let mine = cell.fetch_update(|s| s.is_as(seen).then(|| if again { s } else { s.freeing(self.slot) }));
        if mine.is_ok() {
            control::detach_blocks(self.arena, self.owner, self.dead, cell);
            cell.submitter.store(0, Ordering::Relaxed);
            let _ = cell.fetch_update(|s| Some(s.freed()));
        }
    }
}
