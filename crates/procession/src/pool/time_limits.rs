//! How the keeper enforces time limits.

use std::sync::atomic::Ordering;

use super::cells::cell::Cell;
use super::cells::control::phase;
use super::cells::state::{KILLING, RUNNING, State, ending};
use super::keeper::{Keeper, RETRY_NS};
use super::limit::{ClockRequest, Remaining};
use crate::arena::Arena;
use crate::os::clock::{Deadline, now_ns};
use crate::sync::raw::event;

/// The keeper of a finished pool checks at this interval whether one of the last workers was stopped.
const LAST_WORKERS_NS: u64 = 100_000_000;

impl Keeper {
    /// Moves the tasks that have exceeded their time limits to `KILLING`, and kills the workers of all tasks in that
    /// state.
    /// Returns the time when the keeper must look again.
    pub(super) fn enforce_limits(&mut self) -> Deadline {
        let shared = self.shared.clone();
        let control = shared.control;
        // ORDERING: this store precedes the look at the cells. If a task begins after that look, and its
        // limit ends earlier than we wake up, its worker notifies us.
        control.keeper_wakes_ns.store(u64::MAX, Ordering::SeqCst);
        let (mut next, mut killing, mut request) = (u64::MAX, Vec::new(), ClockRequest::default());
        let mut look = |cell: &Cell| match cell.state() {
            s if s.phase() == KILLING => killing.extend(s.slot()),
            s if s.phase() == RUNNING => match Remaining::of(shared.arena, cell, s) {
                None => {}
                Some(Remaining::Nothing) => {
                    if time_out(shared.arena, cell, s) {
                        control.timeouts.fetch_add(1, Ordering::Relaxed);
                        killing.extend(s.slot());
                    } else {
                        next = 0;
                    }
                }
                // The supervisor notifies the keeper when the stopped worker continues.
                Some(Remaining::Stopped) => {}
                Some(Remaining::Until(at)) => {
                    request.add(cell, at);
                    next = next.min(at);
                }
            },
            _ => {}
        };
        // Every running task has been claimed by a worker, so the claims lead to all running tasks.
        match control.claims.all() {
            Some(all) => all.filter_map(|index| shared.cell(index)).for_each(look),
            None => control.cells(shared.arena).for_each(|(_, cell)| look(cell)),
        }
        if !killing.is_empty() {
            self.kill(|worker| worker.process.slot().is_some_and(|slot| killing.contains(&slot)));
        }
        next = next.min(request.send(shared.arena, &mut self.clock_request_failed));
        self.look_again |= self.clock_request_failed;
        if self.look_again {
            next = next.min(now_ns() + RETRY_NS);
        }
        if shared.phase() == phase::FINISHED && !self.workers.list.is_empty() {
            next = next.min(now_ns() + LAST_WORKERS_NS);
        }
        if next == u64::MAX {
            return Deadline::NEVER;
        }
        control.keeper_wakes_ns.store(next, Ordering::SeqCst);
        Deadline::NEVER.min_ns(next)
    }
}

/// Moves a task that has exceeded its limit to `KILLING`. Returns false if the task has meanwhile reached its next item
/// or its end.
fn time_out(arena: &Arena, cell: &Cell, seen: State) -> bool {
    let same =
        |s: State| s.phase() == RUNNING && s.slot() == seen.slot() && s.generation() == seen.generation();
    if cell.fetch_update(|s| same(s).then(|| s.killing(ending::TIMED_OUT))).is_err() {
        return false;
    }
    if matches!(Remaining::of(arena, cell, seen), Some(Remaining::Nothing)) {
        return true;
    }
    // The next item has begun, so the worker is not killed. The worker may have seen the state and may be
    // waiting, so wake it.
    let slot = seen.slot().unwrap_or(0);
    let timed_out = |s: State| s.phase() == KILLING && s.ending() == ending::TIMED_OUT;
    let undone = cell.fetch_update(|s| timed_out(s).then(|| s.to(RUNNING).by(slot)));
    event::notify(&cell.done, i32::MAX);
    undone.is_err()
}
