//! [`Remaining`]: how much time a task has left. A limit counts the time in which the task's worker could run: see
//! `arena/awake.rs`.

use std::sync::atomic::Ordering;

use super::cells::cell::Cell;
use super::cells::state::State;
use crate::arena::awake::OwnMoment;
use crate::arena::{Arena, member};
use crate::os::clock::now_ns;
use crate::rules::{self, Rule};

/// How often the keeper asks the supervisor to watch the clock, while tasks with limits run. So the supervisor does not
/// go on for long after they have ended.
const ASK_AGAIN_NS: u64 = 10_000_000_000;
/// How much longer than necessary the supervisor watches the clock.
const MARGIN_NS: u64 = 100_000_000;
/// While the clock stands still, a task is not looked at more often than this.
const LOOK_AGAIN_NS: u64 = 5_000_000;

/// The time that a running task has left.
pub(super) enum Remaining {
    Nothing,
    /// Its worker is stopped.
    Stopped,
    /// It cannot exceed its limit before this time, on the monotonic clock.
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

/// How long, and how closely, the supervisor has to watch the clock for the tasks that run.
#[derive(Default)]
pub(super) struct ClockRequest {
    /// The shortest limit of all.
    limit_ns: Option<u64>,
    /// When the last of the limits ends.
    until_ns: u64,
}

impl ClockRequest {
    /// Adds a task that has time left until `until_ns`.
    pub(super) fn add(&mut self, cell: &Cell, until_ns: u64) {
        self.limit_ns = self.limit_ns.into_iter().chain(limit_ns(cell)).min();
        self.until_ns = self.until_ns.max(until_ns);
    }

    /// Sends the request to the supervisor. Returns when it has to be sent again, on the monotonic clock. `failed` says
    /// whether the last request did not reach the supervisor, which can happen when there is no free descriptor.
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
