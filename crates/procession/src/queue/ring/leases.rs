//! Leases: which process works on which message.
//!
//! Every message that was taken out of a [`JoinableQueue`](crate::queue::JoinableQueue) has a *cell* until
//! the message is done (`cells.rs`). Until then, the message's block still belongs to the queue.
//!
//! A cell becomes `LEASED` before the consumers' cursor moves past the message's record. If the process dies
//! in between, it still holds the lock, and recovery finds that the record is still there. Then recovery
//! frees the cell instead of returning the message.

use std::sync::atomic::Ordering;

use super::cells::{Cell, FREE, GIVEN_UP, LEASED, RETURNED, attempt, is_leased_by, phase, state};
use super::produce::after_release;
use super::record::{Header, WORD};
use super::{Refusal, Ring, walk};
use crate::arena::blocks::{self, Tag};
use crate::arena::member;
use crate::arena::owned_block::OwnedBlock;
use crate::os::clock::Deadline;
use crate::sync::raw::event;

/// A message that is leased to this process.
#[derive(Clone, Copy)]
pub(crate) struct Leased {
    cell: &'static Cell,
    pub(crate) block: u64,
    /// How many times the message was leased, including this time.
    pub(crate) attempt: u32,
}

impl Ring {
    /// Leases a message: one that came back, or the next one in the ring. Waits only for the lock.
    pub(crate) fn lease(&self, deadline: Deadline) -> Result<Leased, Refusal> {
        let guard = self.lock(&self.control.consumers.side, deadline)?;
        if let Some(leased) = self.lease_returned() {
            return Ok(leased);
        }
        let (cursor, header) = match self.next() {
            // Messages that other processes work on may come back.
            Err(Refusal::Closed) if self.others_have_leases() => return Err(Refusal::Empty),
            next => next?,
        };
        let Header::Block { .. } = header else { return Err(Refusal::Empty) };
        let block = self.word(cursor.offset() + WORD).load(Ordering::Acquire);
        let cell = self.free_cell()?;
        cell.block.store(block, Ordering::Relaxed);
        // CRASH: if we die after this store, the cell is leased but the record is still there, so recovery
        // frees the cell.
        cell.state.store(state(LEASED, member::slot(), 1), Ordering::Release);
        self.step(cursor, header);
        self.notify_producers(guard, 1);
        Ok(Leased { cell, block, attempt: 1 })
    }

    fn lease_returned(&self) -> Option<Leased> {
        let returned = &self.control.leases.returned;
        if returned.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // ORDERING: SeqCst, and before we look at the cells. A process that returns a message first changes
        // the cell and then sets the hint.
        // CRASH: if we die here, we hold the lock, so recovery sets the hint again.
        returned.store(0, Ordering::SeqCst);
        let is_returned = |cell: &Cell| phase(cell.state.load(Ordering::SeqCst)) == RETURNED;
        let cell = self.find_cell(is_returned, usize::MAX)?;
        let attempt = attempt(cell.state.load(Ordering::Acquire));
        cell.state.store(state(LEASED, member::slot(), attempt), Ordering::SeqCst);
        // There may be more returned messages.
        returned.store(1, Ordering::SeqCst);
        Some(Leased { cell, block: cell.block.load(Ordering::Acquire), attempt })
    }

    /// Returns whether other processes have messages that may come back.
    fn others_have_leases(&self) -> bool {
        let me = member::slot();
        self.cells().any(|cell| match cell.state.load(Ordering::SeqCst) {
            now if phase(now) == LEASED => !is_leased_by(now, me),
            now => phase(now) == RETURNED,
        })
    }

    /// Finishes a message. Transfers the message's block to this process, which frees the block. Returns
    /// false if the message was not leased to this process.
    pub(crate) fn finish(&self, leased: Leased) -> bool {
        let now = state(LEASED, member::slot(), leased.attempt);
        if leased.cell.state.load(Ordering::Acquire) != now {
            return false;
        }
        // CRASH: if we die between these two steps, the block is ours and the cell is still leased. Then
        // recovery hands the block back to the queue and returns the message.
        blocks::hand_over(self.arena, leased.block, self.owner(), Ring::me());
        leased.cell.state.store(FREE, Ordering::SeqCst);
        self.add_to_list(leased.cell);
        self.notify_joiners();
        true
    }

    /// Returns an unfinished message to the queue.
    pub(crate) fn return_lease(&self, leased: Leased) {
        self.release_cell(leased.cell, member::slot());
        event::notify(&self.control.filled.word, 1);
    }

    /// Wakes the threads that wait until all messages are done, and, if the queue is closed, the threads that
    /// wait for messages that others may return. The caller has just moved a cell out of `LEASED` by a SeqCst
    /// store.
    fn notify_joiners(&self) {
        // ORDERING: when two processes finish the last two messages, one of them must see that no message is
        // left. So each process changes its cell before it checks for messages. Otherwise, one process could
        // check while the other's message is still in the ring, and notify no thread. The other process could
        // then wake a joiner, which would find the first process's cell still leased and sleep again.
        after_release();
        let closed = self.is_closed();
        if closed || !self.has_message() {
            event::notify(&self.control.finished.word, i32::MAX);
        }
        if closed {
            event::notify(&self.control.filled.word, i32::MAX);
        }
    }

    /// Releases a cell that is leased to `slot`. The cell becomes `RETURNED` for the next consumer, or
    /// `GIVEN_UP` if its message has been leased as many times as allowed.
    fn release_cell(&self, cell: &Cell, slot: u32) {
        let leases = &self.control.leases;
        let now = cell.state.load(Ordering::Acquire);
        if !is_leased_by(now, slot) {
            return;
        }
        let most = leases.max_attempts.load(Ordering::Relaxed) as u32;
        let next = match attempt(now) {
            last if last >= most => state(GIVEN_UP, slot, last),
            last => state(RETURNED, slot, last + 1),
        };
        // CRASH: the change is one store. Recovery sets the hint too.
        cell.state.store(next, Ordering::SeqCst);
        leases.returned.store(1, Ordering::SeqCst);
        // ORDERING: the change of the cell comes before the caller looks for sleepers.
        after_release();
        if phase(next) == GIVEN_UP {
            self.notify_joiners();
        }
    }

    /// Takes a dead letter, and transfers its block to this process. Returns the block, and how many times
    /// the message was leased.
    pub(crate) fn take_given_up(&self) -> Result<Option<(OwnedBlock, u32)>, Refusal> {
        let _guard = self.lock(&self.control.consumers.side, Deadline::NEVER)?;
        let given_up = |cell: &&Cell| phase(cell.state.load(Ordering::Acquire)) == GIVEN_UP;
        let Some(cell) = self.cells().find(given_up) else { return Ok(None) };
        let (block, attempts) =
            (cell.block.load(Ordering::Acquire), attempt(cell.state.load(Ordering::Acquire)));
        // CRASH: if we die between these two steps, the block is ours but still in its cell. Then recovery
        // hands the block back.
        self.adopt(block);
        cell.state.store(FREE, Ordering::SeqCst);
        self.add_to_list(cell);
        Ok(Some((self.owned(block), attempts)))
    }

    /// Counts the messages that came back, are leased, or were given up. The answer may be out of date when
    /// this returns.
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

    /// Returns whether there was a moment during this call at which every message was done or given up.
    pub(crate) fn is_finished(&self) -> bool {
        let side = &self.control.consumers.side;
        loop {
            let cursor = side.cursor();
            // A message gets its cell before it leaves the ring.
            if self.has_message() || self.cells().any(|cell| cell.is_unfinished()) {
                return false;
            }
            // Meanwhile a message may have come, and moved to a cell that we had already checked. But then
            // the cursor has moved past the message's record. If the cursor has not moved, no message came,
            // and free cells stayed free.
            if side.cursor() == cursor && !self.has_message() {
                return true;
            }
        }
    }

    /// Returns whether a consumer would get a result without waiting, because there is a message or there
    /// will be none. The answer may be out of date when this returns.
    pub(crate) fn has_answer(&self) -> bool {
        let is_returned = |cell: &Cell| phase(cell.state.load(Ordering::SeqCst)) == RETURNED;
        // The hint may be wrong, and perhaps no consumer comes to correct it.
        let has_returned = || self.has_work() && self.cells().any(is_returned);
        self.has_message() || has_returned() || (self.is_closed() && !self.others_have_leases())
    }

    /// Returns whether a consumer would find a message, either a new one or one that came back. The answer
    /// may be out of date when this returns.
    pub(crate) fn has_work(&self) -> bool {
        self.control.leases.returned.load(Ordering::SeqCst) != 0 || self.has_message()
    }

    pub(crate) fn set_max_attempts(&self, most: u32) {
        self.control.leases.max_attempts.store(u64::from(most), Ordering::SeqCst);
    }

    /// Repairs the leases after the death of the holder of the consumers' lock.
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
        // If a message was being leased, its record is still in the ring.
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

    /// Returns to the queue the messages that the dead process in `slot` worked on.
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
        // The process may have died after it changed a cell and before it set the hint.
        self.control.leases.returned.store(1, Ordering::SeqCst);
        after_release();
        for event in [&self.control.filled, &self.control.finished] {
            event::notify(&event.word, i32::MAX);
        }
    }
}

/// The result of [`Ring::count_leases`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leases {
    pub(crate) leased: u64,
    pub(crate) returned: u64,
    pub(crate) given_up: u64,
}
