//! How a worker claims a task. It adds a claim to its row, the task's number leaves the ring, and the cell's state
//! names the worker, in this order.
//!
//! The cell's cache lines come from another processor, which takes longer than all the rest. So the worker prefetches
//! them, and touches them only after it has left the ring to other workers.

use std::sync::atomic::Ordering;

use super::cells::claims::Claim;
use super::cells::state::{QUEUED, RETURNED, TAKEN};
use super::shared::{CellRef, Shared};
use super::worker;
use crate::arena::member;
use crate::rules::{self, Rule};
use crate::sync::raw::event;

/// A task that this process is about to claim.
pub(super) struct Reservation {
    claimed: Claimed,
    /// The cell's state names this process already.
    taken: bool,
}

/// A task that this process has claimed.
pub(super) struct Claimed {
    pub(super) cell_ref: CellRef,
    pub(super) claim: Claim,
}

impl Shared {
    /// Claims this task for this process to run, if no worker has begun it.
    pub(super) fn claim_cell(&self, index: u32, generation: u32) -> Option<Claimed> {
        self.claim(self.reserve(index, generation)?)
    }

    /// Adds a claim to this task. After this, the task's number may leave the ring.
    ///
    /// CRASH: recovery returns a queued task that the dead process has a claim to, wherever the number is. A worker
    /// that finds the number in the ring takes the task from there, or finds that another one has taken it.
    #[inline]
    pub(super) fn reserve(&self, index: u32, generation: u32) -> Option<Reservation> {
        let cell_ref = CellRef { index, generation, cell: self.cell(index)? };
        cell_ref.cell.prefetch();
        if !rules::holds(Rule::TaskClaimNoted) {
            return Some(Reservation { claimed: Claimed { cell_ref, claim: Claim::NONE }, taken: false });
        }
        let claim = self.add_claim(index);
        // If the row is full, recovery would not know of the claim. So the task is taken while its number is in the
        // ring.
        let taken = claim.is_none() && self.take(cell_ref);
        Some(Reservation { claimed: Claimed { cell_ref, claim }, taken })
    }

    /// Claims a reserved task, unless another process has taken it.
    #[inline]
    pub(super) fn claim(&self, reservation: Reservation) -> Option<Claimed> {
        let Reservation { mut claimed, taken } = reservation;
        if !taken && !self.take(claimed.cell_ref) {
            claimed.claim.clear();
            return None;
        }
        if !rules::holds(Rule::TaskClaimNoted) {
            claimed.claim = self.add_claim(claimed.cell_ref.index);
        }
        Some(claimed)
    }

    #[inline]
    fn add_claim(&self, index: u32) -> Claim {
        self.control.claims.add(worker::number(), member::slot(), index)
    }

    /// Moves a queued or returned task to `TAKEN` by this process. Returns false if it is in another phase.
    ///
    /// CRASH: recovery returns a task that we have taken.
    #[inline]
    fn take(&self, cell_ref: CellRef) -> bool {
        let me = member::slot();
        let taken = cell_ref.cell.fetch_update(|s| {
            let waits = matches!(s.phase(), QUEUED | RETURNED) && s.generation() == cell_ref.generation;
            waits.then(|| s.to(TAKEN).by(me))
        });
        taken.is_ok()
    }

    /// Claims a task that recovery has returned to the workers.
    pub(super) fn claim_returned(&self) -> Option<Claimed> {
        let hint = &self.control.returned.word;
        if hint.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // ORDERING: SeqCst, before the look at the cells: recovery sets the hint after it has returned a task.
        hint.store(0, Ordering::SeqCst);
        let list = &self.control.returned_list;
        let claim = |index, generation| self.claim_cell(index, generation);
        let listed = list.find(self.control, self.arena, claim);
        let found = listed.or_else(|| list.find_unlisted(|| self.claim_unlisted()));
        if found.is_some() {
            // There may be another task, and other workers may have looked while the hint was 0.
            // CRASH: recovery of any process sets the hint, and wakes the workers.
            hint.store(1, Ordering::SeqCst);
            if rules::holds(Rule::ReturnedNotified) {
                event::notify(&self.ring.control().filled.word, 1);
            }
        }
        found
    }

    /// Claims a returned task that is not listed, from any cell.
    #[cold]
    fn claim_unlisted(&self) -> Option<Claimed> {
        // Start where the last one was found, so that finding many does not take quadratic time.
        let (used, from) = (self.control.used(), self.control.returned_from().load(Ordering::Relaxed));
        (from.min(used)..used).chain(0..from.min(used)).find_map(|index| {
            let state = self.cell(index)?.state();
            let claimed =
                (state.phase() == RETURNED).then(|| self.claim_cell(index, state.generation()))??;
            self.control.returned_from().store(index + 1, Ordering::Relaxed);
            Some(claimed)
        })
    }
}
