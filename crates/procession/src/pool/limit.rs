//! [`Remaining`]: how much time a task has left. Only the time in which the task's worker could run counts:
//! see `arena/awake.rs`.

use std::sync::atomic::Ordering;

use super::cells::cell::Cell;
use super::cells::state::State;
use crate::arena::awake::OwnMoment;
use crate::arena::{Arena, member};
use crate::os::clock::now_ns;
use crate::rules::{self, Rule};

/// While tasks with limits run, the keeper repeats its request that the supervisor watch the clock at this
/// interval. So the supervisor stops watching soon after the tasks have ended.
const ASK_AGAIN_NS: u64 = 10_000_000_000;
/// The supervisor watches the clock this much longer than necessary.
const MARGIN_NS: u64 = 100_000_000;
/// While the clock stands still, the keeper checks a task at most once in this time.
const LOOK_AGAIN_NS: u64 = 5_000_000;

/// The time that a running task has left.
pub(super) enum Remaining {
    Nothing,
    /// Its worker is stopped.
    Stopped,
    /// The task cannot exceed its limit before this time of the monotonic clock.
    Until(u64),
}

impl Remaining {
    /// Returns the time that the running item of a cell has left, or `None` if it has no limit. `seen` is the state of
    /// the cell.
    pub(super) fn of(arena: &Arena, cell: &Cell, seen: State) -> Option<Remaining> {
        let limit_ns = limit_ns(cell)?;
        let slot = arena.slot(seen.slot().filter(|&slot| slot < arena.layout.slots)?);
        let clock = &arena.header().awake;
        let mut now = slot.pace.read(clock);
        if !rules::holds(Rule::SuspensionExcluded) {
            now = OwnMoment { own_ns: clock.read().awake_ns, is_stopped: false, ..now };
        }
        let ends_at = cell.clock_ns.load(Ordering::SeqCst).saturating_add(limit_ns);
        Some(match ends_at.saturating_sub(now.own_ns) {
            0 => Remaining::Nothing,
            _ if now.is_stopped => Remaining::Stopped,
            left => {
                let left = left.max(if now.stands { LOOK_AGAIN_NS } else { 0 });
                Remaining::Until(now.monotonic_ns.saturating_add(left))
            }
        })
    }
}

fn limit_ns(cell: &Cell) -> Option<u64> {
    let limit_us = cell.timeout_us.load(Ordering::Relaxed);
    (limit_us != 0).then(|| limit_us.saturating_mul(1000))
}

/// How long the supervisor has to watch the clock for the running tasks, and how closely.
#[derive(Default)]
pub(super) struct ClockRequest {
    /// The shortest limit of all.
    limit_ns: Option<u64>,
    /// The time when the last of the limits ends.
    until_ns: u64,
}

impl ClockRequest {
    /// Adds a task that cannot exceed its limit before `until_ns`.
    pub(super) fn add(&mut self, cell: &Cell, until_ns: u64) {
        self.limit_ns = self.limit_ns.into_iter().chain(limit_ns(cell)).min();
        self.until_ns = self.until_ns.max(until_ns);
    }

    /// Sends the request to the supervisor. Returns the time of the monotonic clock when the request has to
    /// be sent again. `unheard` is true if the last request did not reach the supervisor. That happens if
    /// there is no free descriptor.
    pub(super) fn send(&self, arena: &Arena, unheard: &mut bool) -> u64 {
        let Some(limit_ns) = self.limit_ns else { return u64::MAX };
        let again = now_ns() + ASK_AGAIN_NS;
        let until = self.until_ns.min(again).saturating_add(MARGIN_NS);
        // A request that did not reach the supervisor is sent again.
        if arena.header().awake.want(until, limit_ns) || *unheard {
            *unheard = member::try_wake_supervisor(arena).is_err();
        }
        if self.until_ns > again { again } else { u64::MAX }
    }
}
