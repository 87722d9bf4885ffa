//! One round of a barrier: arriving, waiting, and closing the round.

use std::sync::atomic::Ordering::SeqCst;

use super::barrier::{Barrier, BarrierWaitResult};
use super::raw::barrier_cells::{DEAD, arrived_for, is_free_for};
use super::raw::barrier_state::{TIMED_OUT, cause, next, round};
use super::raw::event::notify;
use super::wait::{self, Broken, WaitError};
use crate::arena::member;
use crate::arena::thread::with_me;
use crate::os::clock::Deadline;

impl Barrier {
    pub(super) fn meet(&self, deadline: Deadline) -> Result<BarrierWaitResult, WaitError> {
        member::arena().map_err(|e| WaitError::unusable(&e))?;
        let me = with_me(|me| me.owner()).map_err(|e| WaitError::unusable(&e))?;
        let (round, index) = self.arrive(me, deadline)?;
        if self.complete(round) {
            return Ok(BarrierWaitResult { index, leader: true });
        }
        let body = self.body();
        let over = || match body.ended(round) {
            // The last party may have died before it closed the round, or the barrier may have shrunk.
            None if self.complete(round) => Some(Ok(true)),
            None => None,
            Some(ended) => Some(ended.map(|()| false)),
        };
        match wait::until(&body.events, deadline, over) {
            Ok(met) => met.map(|leader| BarrierWaitResult { index, leader }),
            Err(WaitError::TimedOut) => {
                body.break_it(Some(round), TIMED_OUT);
                match body.ended(round) {
                    Some(Ok(())) => Ok(BarrierWaitResult { index, leader: false }),
                    Some(Err(WaitError::Broken(Broken::TimedOut))) | None => Err(WaitError::TimedOut),
                    Some(Err(other)) => Err(other),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// Claims a cell in the current round. Returns the round and the cell's index.
    fn arrive(&self, me: u32, deadline: Deadline) -> Result<(u32, u32), WaitError> {
        let body = self.body();
        loop {
            let state = body.state.load(SeqCst);
            if cause(state) != 0 {
                return Err(body.broken(state));
            }
            let round = round(state);
            for (index, cell) in self.cells.iter().enumerate() {
                let now = cell.load(SeqCst);
                if !is_free_for(now, round) {
                    continue;
                }
                let mine = u64::from(round) << 32 | u64::from(me);
                // CRASH: from this store on we have arrived, and our death breaks or shrinks the barrier. If
                // the round ends before this store, another arrival has overwritten the cell, so the exchange
                // fails. A reset ends the round but does not change the cells, so the exchange may still
                // succeed. Then the reset counts as later than our arrival.
                if cell.compare_exchange(now, mine, SeqCst, SeqCst).is_ok() {
                    return Ok((round, index as u32));
                }
            }
            if self.parties() == 0 {
                return Ok((round, 0)); // all parties are dead, so this thread passes alone
            }
            // More threads than parties have arrived. One of the parties closes the round in a moment.
            wait::until(&body.events, deadline, || body.ended(round).map(drop))?;
        }
    }

    /// Closes the round if all parties have arrived. Returns whether this thread closed it.
    fn complete(&self, round_now: u32) -> bool {
        let body = self.body();
        if !self.cells.iter().all(|cell| {
            let now = cell.load(SeqCst);
            now & DEAD != 0 || arrived_for(now, round_now)
        }) {
            return false;
        }
        let state = body.state.load(SeqCst);
        let whole = round(state) == round_now && cause(state) == 0;
        // CRASH: if we die before this store, another waiter or arrival closes the round. If we die after it,
        // the death sweep wakes the sleepers.
        let done = whole && body.state.compare_exchange(state, next(state, false), SeqCst, SeqCst).is_ok();
        if done {
            notify(&body.events, i32::MAX);
        }
        done
    }
}
