//! How a worker takes a task: it notes the cell in its row, the number leaves the ring, the cell's word names it.
//!
//! The cell comes from another processor, and that takes longer than all the rest: so it is waited for when the others
//! can have their turn at the ring.

use std::sync::atomic::Ordering;

use super::cells::cell::{QUEUED, RETURNED, TAKEN};
use super::cells::claims::Claim;
use super::shared::{CellRef, Shared};
use super::worker;
use crate::arena::member;
use crate::rules::{self, Rule};
use crate::sync::raw::event;

/// A task that this process is about to take.
pub(super) struct Reservation {
    claimed: Claimed,
    taken: bool,
}

/// A task that this process has in its hands.
pub(super) struct Claimed {
    pub(super) cell_ref: CellRef,
    pub(super) claim: Claim,
}

impl Shared {
    /// Takes this task, if nobody has begun it, for this process to run.
    pub(super) fn claim_cell(&self, index: u32, generation: u32) -> Option<Claimed> {
        self.claim(self.reserve(index, generation)?)
    }

    /// Notes that this process is about to take this task, whose number may leave the ring behind this.
    ///
    /// CRASH: recovery returns a task that waits and that the dead one reached for, wherever its number is; who finds
    /// that in the ring takes the task from there, or finds that somebody else has.
    #[inline]
    pub(super) fn reserve(&self, index: u32, generation: u32) -> Option<Reservation> {
        let cell_ref = CellRef { index, generation, cell: self.cell(index)? };
        cell_ref.cell.prefetch();
        if !rules::holds(Rule::TaskClaimNoted) {
            return Some(Reservation { claimed: Claimed { cell_ref, claim: Claim::NONE }, taken: false });
        }
        let claim = self.note(index);
        // Where there is no place for it, nobody would know: so it is taken while its number is in the ring.
        let taken = claim.is_none() && self.name_claimant(cell_ref);
        Some(Reservation { claimed: Claimed { cell_ref, claim }, taken })
    }

    /// Takes what this process has reached for, if nobody else has.
    #[inline]
    pub(super) fn claim(&self, reservation: Reservation) -> Option<Claimed> {
        let Reservation { mut claimed, taken } = reservation;
        if !taken && !self.name_claimant(claimed.cell_ref) {
            claimed.claim.clear();
            return None;
        }
        if !rules::holds(Rule::TaskClaimNoted) {
            claimed.claim = self.note(claimed.cell_ref.index);
        }
        Some(claimed)
    }

    #[inline]
    fn note(&self, index: u32) -> Claim {
        self.control.claims.add(worker::number(), member::slot(), index)
    }

    /// CRASH: `TAKEN` by us: recovery returns it.
    #[inline]
    fn name_claimant(&self, cell_ref: CellRef) -> bool {
        let me = member::slot();
        let taken = cell_ref.cell.fetch_update(|s| {
            let waits = matches!(s.phase(), QUEUED | RETURNED) && s.generation() == cell_ref.generation;
            waits.then(|| s.to(TAKEN).by(me))
        });
        taken.is_ok()
    }

    /// A task that came back.
    pub(super) fn claim_returned(&self) -> Option<Claimed> {
        let hint = &self.control.returned.word;
        if hint.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // ORDERING: SeqCst, before the look at the cells: who returns one sets this after it.
        hint.store(0, Ordering::SeqCst);
        let list = &self.control.returned_list;
        let take = |index, generation| self.claim_cell(index, generation);
        let listed = list.find(self.control, self.arena, take);
        let found = listed.or_else(|| list.find_unlisted(|| self.claim_unlisted()));
        if found.is_some() {
            // There may be another, and others may have looked while this said no.
            // CRASH: recovery of whoever dies sets it and wakes them, too.
            hint.store(1, Ordering::SeqCst);
            if rules::holds(Rule::ReturnedNotified) {
                event::notify(&self.ring.control().filled.word, 1);
            }
        }
        found
    }

    /// One of those that are too many for the list.
    #[cold]
    fn claim_unlisted(&self) -> Option<Claimed> {
        // From where the last one was: so many of them are not looked for from the beginning each time.
        let (used, from) = (self.control.used(), self.control.returned_from.load(Ordering::Relaxed));
        (from.min(used)..used).chain(0..from.min(used)).find_map(|index| {
            let state = self.cell(index)?.state();
            let claimed =
                (state.phase() == RETURNED).then(|| self.claim_cell(index, state.generation()))??;
            self.control.returned_from.store(index + 1, Ordering::Relaxed);
            Some(claimed)
        })
    }
}
