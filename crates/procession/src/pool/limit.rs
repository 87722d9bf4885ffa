//! How much of its time a task has left. A limit is time in which the task's worker could run: see
//! `arena/awake.rs`.

use std::sync::atomic::Ordering;

use super::cells::cell::{Cell, State};
use crate::arena::awake::OwnMoment;
use crate::arena::{Arena, member};
use crate::os::clock::now_ns;
use crate::rules::{self, Rule};

/// While tasks with limits run, the keeper asks the supervisor this often to watch the clock. So the clock is not
/// watched for long when they have ended before their limits.
const ASK_AGAIN_NS: u64 = 10_000_000_000;
/// For so much longer than necessary the clock is watched.
const MARGIN_NS: u64 = 100_000_000;
/// While the clock stands, a task is not looked at more often.
const LOOK_AGAIN_NS: u64 = 5_000_000;

/// What a running task has left of its time.
pub(super) enum Remaining {
    Nothing,
    /// Its worker is stopped.
    Stopped,
    /// It lasts until then at least, on the monotonic clock.
    Until(u64),
}

impl Remaining {
    /// Of the item that runs in a cell which says `seen`; `None` if it has no limit.
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

/// How the tasks that run want the supervisor to watch the clock.
#[derive(Default)]
pub(super) struct ClockRequest {
    /// The shortest limit of all, and when the last one ends.
    limit_ns: Option<u64>,
    until_ns: u64,
}

impl ClockRequest {
    /// Adds that of a task which has time left until `until_ns`.
    pub(super) fn add(&mut self, cell: &Cell, until_ns: u64) {
        self.limit_ns = self.limit_ns.into_iter().chain(limit_ns(cell)).min();
        self.until_ns = self.until_ns.max(until_ns);
    }

    /// Asks the supervisor. Returns when it has to be asked again, on the monotonic clock.
    pub(super) fn send(&self, arena: &Arena, unheard: &mut bool) -> u64 {
        let Some(limit_ns) = self.limit_ns else { return u64::MAX };
        let again = now_ns() + ASK_AGAIN_NS;
        let until = self.until_ns.min(again).saturating_add(MARGIN_NS);
        // What the supervisor did not hear, for want of a descriptor, it is told again.
        if arena.header().awake.want(until, limit_ns) || *unheard {
            *unheard = member::try_wake_supervisor(arena).is_err();
        }
        if self.until_ns > again { again } else { u64::MAX }
    }
}
