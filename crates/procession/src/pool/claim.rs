//! How a worker claims a task. First the worker adds a claim to its row, then the task's number leaves the
//! ring, and then the cell's state names the worker.
//!
//! The cell's cache lines come from another processor, and fetching them takes longer than all other steps
//! together. So the worker prefetches them first. It touches them only after other workers can use the ring
//! again.

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
    /// The cell's state already names this process.
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

    /// Adds a claim for this task to the worker's row. After this, the task's number may leave the ring.
    ///
    /// CRASH: if the dead process has a claim to a queued task, recovery returns the task, whether or not its
    /// number is still in the ring. If the number is still in the ring, a worker that finds it there takes
    /// the task, or sees that another worker has taken it.
    #[inline]
    pub(super) fn reserve(&self, index: u32, generation: u32) -> Option<Reservation> {
        let cell_ref = CellRef { index, generation, cell: self.cell(index)? };
        cell_ref.cell.prefetch();
        if !rules::holds(Rule::ClaimAddedFirst) {
            return Some(Reservation { claimed: Claimed { cell_ref, claim: Claim::NONE }, taken: false });
        }
        let claim = self.add_claim(index);
        // If the row is full, the claim is not noted, and recovery would not know of it. So the task is taken
        // while its number is still in the ring.
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
        if !rules::holds(Rule::ClaimAddedFirst) {
            claimed.claim = self.add_claim(claimed.cell_ref.index);
        }
        Some(claimed)
    }

    #[inline]
    fn add_claim(&self, index: u32) -> Claim {
        self.control.claims.add(worker::number(), member::slot(), index)
    }

    /// Moves a queued or returned task to `TAKEN`, and names this process in the state. Returns false if the
    /// task is in another phase.
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
        // ORDERING: SeqCst. The hint is cleared before the look at the cells, because recovery sets the hint
        // after it has returned a task.
        hint.store(0, Ordering::SeqCst);
        let list = &self.control.returned_list;
        let claim = |index, generation| self.claim_cell(index, generation);
        let listed = list.find(self.control, self.arena, claim);
        let found = listed.or_else(|| list.find_unlisted(|| self.claim_unlisted()));
        if found.is_some() {
            // There may be another returned task, and other workers may have read the hint while it was 0.
            // CRASH: if we die before this, our recovery sets the hint and wakes the workers, as the recovery
            // of any process does.
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
        // Start where the last returned task was found, so that finding many of them does not take quadratic
        // time.
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
