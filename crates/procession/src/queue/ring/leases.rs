//! Which messages are being worked on, by whom.
//!
//! Every message that was taken out of a [`JoinableQueue`](crate::queue::JoinableQueue) stands in a *cell*
//! until it is done (`cells.rs`). Its block stays the queue's.
//!
//! A cell becomes `LEASED` before the consumers' cursor moves behind its record. If its process dies in
//! between, it holds the lock, and recovery finds the record still there: the cell is freed, not returned.

use std::sync::atomic::Ordering;

use super::cells::{Cell, FREE, GIVEN_UP, LEASED, RETURNED, attempt, is_leased_by, phase, state};
use super::produce::after_release;
use super::record::{Header, WORD};
use super::{Refusal, Ring, walk};
use crate::arena::blocks::{self, Tag};
use crate::arena::member;
use crate::os::clock::Deadline;
use crate::sync::raw::event;

/// A message that this process works on.
#[derive(Clone, Copy)]
pub(crate) struct Leased {
    cell: &'static Cell,
    pub(crate) block: u64,
    /// 1 for the first time.
    pub(crate) attempt: u32,
}

impl Ring {
    /// Leases the next message: one that came back, or the next one. Waits only for its turn.
    pub(crate) fn lease(&self, deadline: Deadline) -> Result<Leased, Refusal> {
        let turn = self.turn(&self.control.consumers.side, deadline)?;
        if let Some(leased) = self.lease_returned() {
            return Ok(leased);
        }
        let (cursor, header) = match self.next() {
            // What others work on may come back.
            Err(Refusal::Closed) if self.others_work() => return Err(Refusal::Empty),
            next => next?,
        };
        let Header::Block { .. } = header else { return Err(Refusal::Empty) };
        let block = self.word(cursor.offset() + WORD).load(Ordering::Acquire);
        let cell = self.free_cell()?;
        cell.block.store(block, Ordering::Relaxed);
        // CRASH: leased, and the record still there: recovery frees the cell.
        cell.state.store(state(LEASED, member::slot(), 1), Ordering::Release);
        self.step(cursor, header);
        self.tell_producers(turn, 1);
        Ok(Leased { cell, block, attempt: 1 })
    }

    fn lease_returned(&self) -> Option<Leased> {
        let returned = &self.control.leases.returned;
        if returned.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // ORDERING: SeqCst, before the look at the cells: who returns one sets this after it.
        // CRASH: recovery sets it again, because we hold the lock.
        returned.store(0, Ordering::SeqCst);
        let is_returned = |cell: &Cell| phase(cell.state.load(Ordering::SeqCst)) == RETURNED;
        let cell = self.look_for(is_returned, usize::MAX)?;
        let attempt = attempt(cell.state.load(Ordering::Acquire));
        cell.state.store(state(LEASED, member::slot(), attempt), Ordering::SeqCst);
        // There may be another.
        returned.store(1, Ordering::SeqCst);
        Some(Leased { cell, block: cell.block.load(Ordering::Acquire), attempt })
    }

    /// Whether another process works on a message.
    fn others_work(&self) -> bool {
        let me = member::slot();
        self.cells().any(|cell| match cell.state.load(Ordering::SeqCst) {
            now if phase(now) == LEASED => !is_leased_by(now, me),
            now => phase(now) == RETURNED,
        })
    }

    /// Says that a message is done. Its block becomes this process's, to be freed. False if the message
    /// was not leased to this process.
    pub(crate) fn finish(&self, leased: Leased) -> bool {
        let now = state(LEASED, member::slot(), leased.attempt);
        if leased.cell.state.load(Ordering::Acquire) != now {
            return false;
        }
        // CRASH: ours and still leased: recovery gives the block back to the queue, and returns it.
        blocks::hand_over(self.arena, leased.block, self.owner(), Ring::me());
        leased.cell.state.store(FREE, Ordering::SeqCst);
        self.offer(leased.cell);
        self.tell_joiners();
        true
    }

    /// Gives a message back that is not done.
    pub(crate) fn return_lease(&self, leased: Leased) {
        self.release_cell(leased.cell, member::slot());
        event::notify(&self.control.filled.word, 1);
    }

    /// Who waits for all to be done, or for what others may still return, looks again. A cell has just left
    /// `LEASED`, by a sequentially consistent store.
    fn tell_joiners(&self) {
        // ORDERING: Of two who finish the last two messages, one has to see that there is no other message: so each
        // moves its cell before it looks. (Or one looks while the other's message is still in the ring, and tells
        // nobody; and that other tells a joiner, who finds the first one's cell still leased, and sleeps on.)
        after_release();
        let closed = self.is_closed();
        if closed || !self.has_message() {
            event::notify(&self.control.finished.word, i32::MAX);
        }
        if closed {
            event::notify(&self.control.filled.word, i32::MAX);
        }
    }

    /// Moves a cell that `slot` leases to where the next consumer, or nobody, finds it.
    fn release_cell(&self, cell: &Cell, slot: u32) {
        let leases = &self.control.leases;
        let now = cell.state.load(Ordering::Acquire);
        if !is_leased_by(now, slot) {
            return;
        }
        let most = leases.most_attempts.load(Ordering::Relaxed) as u32;
        let next = match attempt(now) {
            last if last >= most => state(GIVEN_UP, slot, last),
            last => state(RETURNED, slot, last + 1),
        };
        // CRASH: one store. The hint is set by recovery too.
        cell.state.store(next, Ordering::SeqCst);
        leases.returned.store(1, Ordering::SeqCst);
        // ORDERING: before the caller looks who sleeps.
        after_release();
        if phase(next) == GIVEN_UP {
            self.tell_joiners();
        }
    }

    /// Takes a message that was returned too often; it is this process's then. Gives its block and how
    /// often it was tried.
    pub(crate) fn take_given_up(&self) -> Result<Option<(u64, u32)>, Refusal> {
        let _turn = self.turn(&self.control.consumers.side, Deadline::NEVER)?;
        let given_up = |cell: &&Cell| phase(cell.state.load(Ordering::Acquire)) == GIVEN_UP;
        let Some(cell) = self.cells().find(given_up) else { return Ok(None) };
        let (block, attempts) =
            (cell.block.load(Ordering::Acquire), attempt(cell.state.load(Ordering::Acquire)));
        // CRASH: ours and still in its cell: recovery gives it back.
        self.adopt(block);
        cell.state.store(FREE, Ordering::SeqCst);
        self.offer(cell);
        Ok(Some((block, attempts)))
    }

    /// How many messages came back, or are being worked on, or were given up. A snapshot.
    pub(crate) fn count_leases(&self) -> Leases {
        let mut counts = Leases::default();
        for cell in self.cells() {
            match phase(cell.state.load(Ordering::SeqCst)) {
                LEASED => counts.leased += 1,
                RETURNED => counts.returned += 1,
                GIVEN_UP => counts.given_up += 1,
                _ => {}
            }
        }
        counts
    }

    /// Whether every message that was put is done, or given up: at one moment while this runs.
    pub(crate) fn is_finished(&self) -> bool {
        let side = &self.control.consumers.side;
        loop {
            let cursor = side.cursor();
            // A message is in its cell before it leaves the ring.
            if self.has_message() || self.cells().any(|cell| cell.is_unfinished()) {
                return false;
            }
            // Meanwhile one may have come, and gone to a cell that was looked at before; but then the
            // cursor has moved behind it. If it has not, nothing came, and what was free stayed free.
            if side.cursor() == cursor && !self.has_message() {
                return true;
            }
        }
    }

    /// Whether who wants a message would not have to wait: there is one, or there will be none. A snapshot.
    pub(crate) fn has_answer(&self) -> bool {
        let is_returned = |cell: &Cell| phase(cell.state.load(Ordering::SeqCst)) == RETURNED;
        // The hint errs, and nobody may come to correct it.
        let has_returned = || self.has_work() && self.cells().any(is_returned);
        self.has_message() || has_returned() || (self.is_closed() && !self.others_work())
    }

    /// Whether a consumer would find a message that came back, or another. A snapshot.
    pub(crate) fn has_work(&self) -> bool {
        self.control.leases.returned.load(Ordering::SeqCst) != 0 || self.has_message()
    }

    pub(crate) fn set_most_attempts(&self, most: u32) {
        self.control.leases.most_attempts.store(u64::from(most), Ordering::SeqCst);
    }

    /// What recovery does when the dead of `slot` held the consumers' lock.
    pub(super) fn recover_leases(&self, slot: u32) {
        if !self.blocks_only {
            return;
        }
        let (dead, leases) = (Tag::process(slot), &self.control.leases);
        for (at, _) in self.chunks() {
            if blocks::owner(self.arena, at).same_owner(dead) {
                blocks::hand_over(self.arena, at, dead, self.owner());
            }
        }
        // A record that was being leased is still there.
        let at = self.control.consumers.side.cursor().offset();
        walk(self, at, self.header(at), |at, header| {
            if let Header::Block { .. } = header {
                let block = self.word(at + WORD).load(Ordering::Acquire);
                let mine = |cell: &&Cell| {
                    is_leased_by(cell.state.load(Ordering::Acquire), slot)
                        && cell.block.load(Ordering::Acquire) == block
                };
                if let Some(cell) = self.cells().find(mine) {
                    cell.state.store(FREE, Ordering::SeqCst);
                }
                return false;
            }
            true
        });
        leases.returned.store(1, Ordering::SeqCst);
    }

    /// Returns what the dead of `slot` worked on.
    pub(super) fn return_leases_of(&self, slot: u32) {
        let dead = Tag::process(slot);
        for cell in self.cells() {
            let now = cell.state.load(Ordering::Acquire);
            if phase(now) == FREE {
                continue;
            }
            let block = cell.block.load(Ordering::Acquire);
            if blocks::owner(self.arena, block).same_owner(dead) {
                blocks::hand_over(self.arena, block, dead, self.owner());
            }
            self.release_cell(cell, slot);
        }
        // It may have died between a cell and this.
        self.control.leases.returned.store(1, Ordering::SeqCst);
        after_release();
        for event in [&self.control.filled, &self.control.finished] {
            event::notify(&event.word, i32::MAX);
        }
    }
}

/// See [`Ring::count_leases`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leases {
    pub(crate) leased: u64,
    pub(crate) returned: u64,
    pub(crate) given_up: u64,
}
