//! Recovery of an end whose lock the dead process held. It runs while the lock's word still names the dead thread, so
//! no other thread uses that end. It can be started again after an interruption.

use std::sync::atomic::Ordering;

use super::control::Producers;
use super::record::{Header, WORD};
use super::{Ring, walk};
use crate::arena::blocks::{self, HEADER, Tag};
use crate::arena::recover::{Dead, Found, Journaled, Recover};
use crate::rules::{self, Rule};
use crate::sync::raw::lock;

/// Queues: the two ends of their ring.
pub(crate) struct Rings;

impl Recover for Rings {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        release_end(dead, found, entry);
    }
}

/// Joinable queues: the ends of their ring, and the dead process's leases.
pub(crate) struct LeasedRings;

impl Recover for LeasedRings {
    fn release(&self, dead: &Dead<'_>, found: &Found, entry: Journaled) {
        release_end(dead, found, entry);
    }

    fn return_work(&self, dead: &Dead<'_>, found: &Found) {
        if let Some(ring) = Ring::find(found.index).filter(|_| rules::holds(Rule::LeaseReturned)) {
            ring.return_leases_of(dead.slot);
        }
    }
}

/// Releases the end of the ring whose lock the journal names, if the dead thread held it.
pub(crate) fn release_end(dead: &Dead<'_>, found: &Found, entry: Journaled) {
    let Some(ring) = Ring::find(found.index) else { return };
    let (producers, consumers) = (&ring.control.producers.side, &ring.control.consumers.side);
    // An internal lock is never poisoned: the next owner finds the ring sound.
    if entry.offset == dead.arena.offset_of(&raw const producers.lock) {
        lock::recover(entry.record, &producers.lock, || {
            ring.recover_producers(dead.slot);
            false
        });
    } else if entry.offset == dead.arena.offset_of(&raw const consumers.lock) {
        lock::recover(entry.record, &consumers.lock, || {
            ring.recover_consumers(dead.slot);
            ring.recover_leases(dead.slot);
            false
        });
    }
}

impl Ring {
    /// If a batch was committed, moves the cursor past it. If not, takes the batch's blocks away from the
    /// queue.
    fn recover_producers(&self, slot: u32) {
        let Producers { side, room_to, intent_at, intent, .. } = &self.control.producers;
        room_to.store(0, Ordering::Release);
        let from = side.cursor();
        match self.header(from.offset()) {
            Header::Nothing if intent_at.load(Ordering::Acquire) == from.0 => {
                let first = Header::read(intent.load(Ordering::Acquire));
                self.hand_back_uncommitted(slot, from.offset(), first);
            }
            Header::Nothing | Header::Closed => {}
            first if rules::holds(Rule::CursorAdvanced) => {
                let mut passed = side.passed(from);
                let end = walk(self, from.offset(), first, |_, header| {
                    if let Header::Inline { len } | Header::Block { len } = header {
                        passed = passed.with(len);
                    }
                    true
                });
                side.advance(from, end, passed);
            }
            _ => {}
        }
        intent_at.store(0, Ordering::Release);
    }

    /// Hands the blocks of an uncommitted batch back to the dead process, whose blocks are swept next. The
    /// blocks are not freed here. Otherwise, if recovery started again, another process might already have
    /// taken a freed segment and written something other than records to it. Until the sweep, no process
    /// takes these blocks, and `intent` is cleared before the sweep.
    fn hand_back_uncommitted(&self, slot: u32, at: u64, first: Header) {
        walk(self, at, first, |at, header| {
            if let Some(block) = self.block_named(at, header) {
                if rules::holds(Rule::UncommittedKept) {
                    blocks::hand_over(self.arena, block, self.owner(), Tag::process(slot));
                } else {
                    blocks::free(self.arena, slot, block, self.owner());
                }
            }
            true
        });
    }

    /// Returns to the queue the blocks of messages that a consumer was taking. If a segment was being freed,
    /// hands it to the dead process, whose blocks are swept next.
    fn recover_consumers(&self, slot: u32) {
        let (dead, consumers) = (Tag::process(slot), &self.control.consumers);
        let at = consumers.side.cursor().offset();
        let mut more = consumers.taking.load(Ordering::Acquire);
        if rules::holds(Rule::TakenMessageReturned) {
            walk(self, at, self.header(at), |at, header| {
                if let Header::Block { .. } = header {
                    let block = self.word(at + WORD).load(Ordering::Acquire);
                    if blocks::owner(self.arena, block).same_owner(dead) {
                        blocks::hand_over(self.arena, block, dead, self.owner());
                    }
                }
                more = more.saturating_sub(1);
                more > 0
            });
        }
        let (start, _) = self.segment(at);
        let here = start - HEADER;
        if consumers.left.load(Ordering::Acquire) == here {
            consumers.left.store(0, Ordering::Release);
        }
        let leaving = consumers.leaving.load(Ordering::Acquire);
        if leaving != 0 {
            if blocks::owner(self.arena, leaving).same_owner(self.owner()) {
                // Hand it to the dead process, whose blocks are swept next.
                blocks::hand_over(self.arena, leaving, self.owner(), dead);
            }
            consumers.left.store(0, Ordering::Release);
            consumers.leaving.store(0, Ordering::Release);
        }
    }
}
