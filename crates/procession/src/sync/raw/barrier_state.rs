//! The state of a barrier in one word. Only the arrivals are stored elsewhere, in the barrier's cells:
//!
//! ```text
//!  63          36 35    32 31                0
//! ┌──────────────┬────────┬───────────────────┐
//! │   history    │ cause  │       round       │   how each of the last 28 rounds ended: 1 by a reset
//! └──────────────┴────────┴───────────────────┘
//! ```
//!
//! | state            | meaning                       | who moves it                                    |
//! |------------------|-------------------------------|-------------------------------------------------|
//! | round r, whole   | parties arrive                | a thread that finds all arrived → `r + 1`; a reset → `r + 1` |
//! | round r, a cause | broken: every wait fails      | a reset → `r + 1`, whole                        |

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use super::event::notify;
use crate::arena::objects::{Body, Kind};
use crate::sync::wait::{Broken, WaitError};

const CAUSE_SHIFT: u32 = 32;
const CAUSE: u64 = 0xf << CAUSE_SHIFT;
const HISTORY_SHIFT: u32 = 36;
const HISTORY: u32 = 28;
pub(crate) const DIED: u64 = 1;
pub(crate) const TIMED_OUT: u64 = 2;
pub(crate) const ABORTED: u64 = 3;
pub(crate) const PANICKED: u64 = 4;

/// A barrier in shared memory. Its cells lie in a block.
#[repr(C)]
pub(crate) struct BarrierBody {
    pub(crate) state: AtomicU64,
    pub(crate) events: AtomicU32,
    pub(crate) shrinks: AtomicU32,
    /// The ids of the process that broke the barrier by dying, and of the process that broke it by a panic. A
    /// party that panics because the barrier is already broken is not the cause, and overwrites neither id.
    pub(crate) died: AtomicU32,
    pub(crate) panicked: AtomicU32,
    /// The last round that a reset ended or was about to end.
    pub(crate) last_reset: AtomicU32,
}

// SAFETY: all fields are atomics, the size is 32 bytes, and all zeros are a barrier without cells.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for BarrierBody {
    const KIND: Kind = Kind::Barrier;
}

pub(crate) fn round(state: u64) -> u32 {
    state as u32
}

pub(crate) fn cause(state: u64) -> u64 {
    (state & CAUSE) >> CAUSE_SHIFT
}

pub(crate) fn next(state: u64, by_reset: bool) -> u64 {
    let history = state >> HISTORY_SHIFT << 1 | u64::from(by_reset);
    history << HISTORY_SHIFT | u64::from(round(state).wrapping_add(1))
}

impl BarrierBody {
    /// Returns how the round ended, or `None` while it goes on.
    pub(crate) fn ended(&self, round_then: u32) -> Option<Result<(), WaitError>> {
        let state = self.state.load(SeqCst);
        match round(state).wrapping_sub(round_then) {
            0 if cause(state) == 0 => None,
            0 => Some(Err(self.broken(state))),
            later if later <= HISTORY && state >> HISTORY_SHIFT >> (later - 1) & 1 == 0 => Some(Ok(())),
            // This thread slept through more rounds than the history holds. This can happen if there are more
            // threads than parties. Its round ended well unless a reset has happened since.
            later
                if later > HISTORY && self.last_reset.load(SeqCst).wrapping_sub(round_then) as i32 <= -1 =>
            {
                Some(Ok(()))
            }
            _ => Some(Err(WaitError::Broken(Broken::Reset))),
        }
    }

    pub(crate) fn broken(&self, state: u64) -> WaitError {
        WaitError::Broken(match cause(state) {
            DIED => Broken::ProcessDied { pid: self.died.load(SeqCst) },
            PANICKED => Broken::Panicked { pid: self.panicked.load(SeqCst) },
            TIMED_OUT => Broken::TimedOut,
            _ => Broken::Aborted,
        })
    }

    /// Breaks the barrier if it is whole, and stores `pid` as the cause.
    pub(crate) fn break_by(&self, why: u64, pid: u32) {
        if cause(self.state.load(SeqCst)) == 0 {
            let place = if why == DIED { &self.died } else { &self.panicked };
            place.store(pid, SeqCst);
            self.break_it(None, why);
        } else {
            notify(&self.events, i32::MAX);
        }
    }

    /// Breaks the barrier if it is whole. If `in_round` names a round, the barrier must also still be in that
    /// round.
    pub(crate) fn break_it(&self, in_round: Option<u32>, why: u64) {
        let broken = |now: u64| {
            let same = in_round.is_none_or(|then| then == round(now));
            (same && cause(now) == 0).then_some(now | why << CAUSE_SHIFT)
        };
        let _ = self.state.fetch_update(SeqCst, SeqCst, broken);
        notify(&self.events, i32::MAX);
    }
}
