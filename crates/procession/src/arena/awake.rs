//! Clocks of the time in which processes could run: the monotonic clock without the time for which they were
//! suspended.
//!
//! A process cannot see that it is stopped, and a family cannot see that it is frozen. So the supervisor keeps two
//! things:
//!
//! * [`AwakeClock`], for the whole family. While a limit is watched, the supervisor wakes up in each period and lets
//!   the clock advance by at most [`STEPS`] periods. If the supervisor comes later than that, it was suspended with
//!   its family (SIGSTOP to the group, the freezer of a control group, a paused machine), and the rest is lost time.
//!   On a busy machine the clock still advances by [`STEPS`] periods each time. While no limit is watched, the clock
//!   stands still.
//! * [`Pace`], for each process. The kernel tells the supervisor when a child is stopped and continued.
//!
//! | pace           | meaning                                                        | who moves it |
//! |----------------|----------------------------------------------------------------|--------------|
//! | `lost << 1`    | it runs, and was stopped for `lost` nanoseconds in all         | supervisor   |
//! | `at << 1 \| 1` | it was stopped when its own clock showed `at`                  | supervisor   |
//!
//! CRASH: these words only delay what a limit does. If the supervisor dies, so do the children, and the next
//! supervisor continues from the words as they are.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::clock::now_ns;

/// How many periods the supervisor lets the clock advance.
const STEPS: u64 = 4;
/// The period is this fraction of the shortest limit, within these bounds.
const PART: u64 = 32;
const PERIOD_NS: [u64; 2] = [5_000_000, 250_000_000];

/// The time in which the family could run, as a clock.
#[repr(C)]
pub(crate) struct AwakeClock {
    /// By how much the clock is behind the monotonic clock.
    lost_ns: AtomicU64,
    /// Where the clock stops until the next tick. It only grows.
    bound_ns: AtomicU64,
    /// Until when the supervisor has to watch the clock, on the monotonic clock.
    wanted_until_ns: AtomicU64,
    /// The interval at which the supervisor wakes up, or 0 before the first limit.
    period_ns: AtomicU64,
    /// 1 while the supervisor wakes up by itself.
    is_watched: AtomicU64,
}

/// One moment on both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) monotonic_ns: u64,
    pub(crate) awake_ns: u64,
    /// The clock has reached its bound, so it stands still.
    pub(crate) stands: bool,
}

impl AwakeClock {
    pub(crate) fn read(&self) -> Moment {
        loop {
            // ORDERING: bound, lost, and the bound again. The supervisor writes what was lost, then the bound. If the
            // bound is the same before and after, the clock either shows the bound or was not corrected meanwhile.
            let bound = self.bound_ns.load(Ordering::SeqCst);
            let lost = self.lost_ns.load(Ordering::SeqCst);
            let monotonic_ns = now_ns();
            if self.bound_ns.load(Ordering::SeqCst) == bound {
                let now = monotonic_ns.saturating_sub(lost);
                return Moment { monotonic_ns, awake_ns: now.min(bound), stands: now >= bound };
            }
        }
    }

    /// Asks the supervisor to watch the clock until `until_ns` on the monotonic clock, closely enough for such a
    /// limit. Returns whether the supervisor has to be woken for it.
    pub(crate) fn want(&self, until_ns: u64, limit_ns: u64) -> bool {
        let period = (limit_ns / PART).clamp(PERIOD_NS[0], PERIOD_NS[1]);
        self.wanted_until_ns.fetch_max(until_ns, Ordering::SeqCst);
        let shorter = |now| (now == 0 || now > period).then_some(period);
        let shortened = self.period_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, shorter).is_ok();
        // ORDERING: SeqCst, after the request: see `tick`.
        shortened || self.is_watched.load(Ordering::SeqCst) == 0
    }

    /// Advances the clock to `now_ns`, or to its bound, and moves the bound if a limit is watched. Only the
    /// supervisor calls this.
    pub(crate) fn tick(&self, now_ns: u64) {
        if !self.is_wanted(now_ns) && self.is_watched.swap(0, Ordering::SeqCst) == 1 {
            self.period_ns.store(0, Ordering::SeqCst);
        }
        // ORDERING: SeqCst, after that store. `want` stores the request first and then reads whether the clock is
        // watched.
        if !self.is_wanted(now_ns) {
            return;
        }
        self.is_watched.store(1, Ordering::SeqCst);
        let (lost, bound) = (self.lost_ns.load(Ordering::Relaxed), self.bound_ns.load(Ordering::Relaxed));
        let now = now_ns.saturating_sub(lost);
        if now > bound {
            // CRASH: after this store and before the next, the clock shows its bound until the next tick.
            self.lost_ns.store(lost + (now - bound), Ordering::SeqCst);
        }
        self.bound_ns.store(now.min(bound) + STEPS * self.period_ns(), Ordering::SeqCst);
    }

    fn is_wanted(&self, now_ns: u64) -> bool {
        now_ns < self.wanted_until_ns.load(Ordering::SeqCst)
    }

    fn period_ns(&self) -> u64 {
        match self.period_ns.load(Ordering::SeqCst) {
            0 => PERIOD_NS[1],
            period => period.clamp(PERIOD_NS[0], PERIOD_NS[1]),
        }
    }

    /// Returns when the supervisor has to wake up for the next tick, or `None` if it need not.
    pub(crate) fn patience_ms(&self) -> Option<i32> {
        (self.is_watched.load(Ordering::Relaxed) == 1).then(|| (self.period_ns() / 1_000_000) as i32)
    }
}

/// For how long a process was stopped while its family could run.
#[repr(transparent)]
pub(crate) struct Pace(AtomicU64);

/// A moment on a process's own clock.
#[derive(Clone, Copy)]
pub(crate) struct OwnMoment {
    pub(crate) monotonic_ns: u64,
    /// The time in which the process could run.
    pub(crate) own_ns: u64,
    pub(crate) is_stopped: bool,
    /// The family's clock stands still.
    pub(crate) stands: bool,
}

impl Pace {
    pub(crate) fn read(&self, clock: &AwakeClock) -> OwnMoment {
        loop {
            // ORDERING: the word is the same before and after the clock is read, so the two belong together.
            let pace = self.0.load(Ordering::SeqCst);
            let Moment { monotonic_ns, awake_ns, stands } = clock.read();
            if self.0.load(Ordering::SeqCst) == pace {
                let (is_stopped, ns) = (pace & 1 == 1, pace >> 1);
                let own_ns = if is_stopped { ns } else { awake_ns.saturating_sub(ns) };
                return OwnMoment { monotonic_ns, own_ns, is_stopped, stands };
            }
        }
    }

    /// Notes that the process has been stopped.
    pub(crate) fn stop(&self, clock: &AwakeClock) {
        let now = self.read(clock);
        if !now.is_stopped {
            self.0.store(now.own_ns << 1 | 1, Ordering::SeqCst);
        }
    }

    /// Notes that the process has been continued.
    pub(crate) fn go_on(&self, clock: &AwakeClock) {
        let now = self.read(clock);
        if now.is_stopped {
            let lost = clock.read().awake_ns.saturating_sub(now.own_ns);
            self.0.store(lost << 1, Ordering::SeqCst);
        }
    }

    /// Resets the clock for another process in the slot.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const STEP: u64 = STEPS * SECOND / PART;

    fn clock() -> AwakeClock {
        let word = || AtomicU64::new(0);
        AwakeClock {
            lost_ns: word(),
            bound_ns: word(),
            wanted_until_ns: word(),
            period_ns: word(),
            is_watched: word(),
        }
    }

    /// Returns a clock that is watched closely enough for a limit of a second.
    fn watched_since(now: u64) -> AwakeClock {
        let clock = clock();
        assert!(clock.want(now_ns() + 100 * SECOND, SECOND), "the supervisor has to be told");
        clock.tick(now);
        clock
    }

    fn lost(clock: &AwakeClock) -> u64 {
        clock.lost_ns.load(Ordering::Relaxed)
    }

    #[test]
    fn it_stands_still_when_nobody_watches() {
        let clock = clock();
        clock.tick(now_ns());
        assert_eq!((clock.read().awake_ns, clock.read().stands, clock.patience_ms()), (0, true, None));
    }

    #[test]
    fn what_the_supervisor_misses_is_lost_and_what_it_vouched_for_is_not() {
        let now = now_ns();
        let clock = watched_since(now);
        assert!(!clock.want(now + 100 * SECOND, 2 * SECOND), "it ticks already");
        assert!(clock.want(now + 100 * SECOND, SECOND / 2), "it ticks too slowly");
        let clock = watched_since(now);
        assert_eq!(lost(&clock), now);
        // On a busy machine it comes late, but always within what it vouched for.
        clock.tick(now + STEP);
        assert_eq!(lost(&clock), now);
        // Suspended for ten seconds.
        clock.tick(now + STEP + 10 * SECOND);
        assert_eq!(lost(&clock), now + 10 * SECOND - STEP);
        // Suspended for so long that no limit is watched, until the next one is.
        clock.tick(now + 1000 * SECOND);
        assert_eq!(clock.patience_ms(), None);
        assert!(clock.want(now + 1100 * SECOND, SECOND));
        clock.tick(now + 1001 * SECOND);
        assert_eq!(lost(&clock), now + 1001 * SECOND - 3 * STEP);
    }

    #[test]
    fn it_stops_at_its_bound_until_the_next_tick() {
        let clock = watched_since(now_ns() - 10 * SECOND);
        assert_eq!((clock.read().awake_ns, clock.read().stands), (STEP, true));
        // The supervisor dies between the two stores of a tick.
        clock.lost_ns.store(now_ns() - STEP, Ordering::Relaxed);
        assert_eq!(clock.read().awake_ns, STEP);
        clock.tick(now_ns());
        assert!((STEP..=2 * STEP).contains(&clock.read().awake_ns));
    }

    #[test]
    fn the_own_time_of_a_process_stands_still_while_it_is_stopped() {
        let (clock, pace) = (watched_since(now_ns()), Pace(AtomicU64::new(0)));
        clock.bound_ns.store(1000 * SECOND, Ordering::Relaxed);
        let begun = pace.read(&clock).own_ns;
        pace.stop(&clock);
        let stopped = pace.read(&clock);
        assert!(stopped.is_stopped && stopped.own_ns >= begun);
        while now_ns() < stopped.monotonic_ns + 2_000_000 {}
        pace.stop(&clock);
        assert_eq!(pace.read(&clock).own_ns, stopped.own_ns);
        pace.go_on(&clock);
        pace.go_on(&clock);
        let on = pace.read(&clock);
        assert!(!on.is_stopped && on.own_ns >= stopped.own_ns);
        assert!(clock.read().awake_ns - on.own_ns >= 2_000_000);
    }
}
