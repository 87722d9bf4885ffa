//! Clocks that count only the time in which processes could run: the monotonic clock minus the time for which
//! they were suspended.
//!
//! A process cannot see that it is stopped, and a family cannot see that it is frozen. So the supervisor keeps two
//! things:
//!
//! * [`AwakeClock`], for the whole family. While a limit is watched, the supervisor wakes up once per period
//!   and lets the clock advance by at most [`STEPS`] periods. If the supervisor wakes up later than that, it
//!   was suspended with its family, and the rest counts as lost time. (Causes are SIGSTOP to the group, the
//!   freezer of a control group, and a paused machine.) On a busy machine the clock still advances by up to
//!   [`STEPS`] periods per wake-up. While no limit is watched, the clock stands still.
//! * [`Pace`], for each process. The kernel notifies the supervisor when a child is stopped or continued.
//!
//! | pace           | meaning                                                        | who moves it |
//! |----------------|----------------------------------------------------------------|--------------|
//! | `lost << 1`    | the process runs, and was stopped for `lost` nanoseconds in all | supervisor   |
//! | `at << 1 \| 1` | the process is stopped, and its own clock shows `at`           | supervisor   |
//!
//! CRASH: a wrong value in these words can only delay a limit. If the supervisor dies, its children die too,
//! and the next supervisor continues from the words as they are.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::clock::now_ns;

/// The largest number of periods that the clock advances between two ticks of the supervisor.
const STEPS: u64 = 4;
/// The period is the shortest limit divided by `PART`, but stays within the bounds of `PERIOD_NS`.
const PART: u64 = 32;
const PERIOD_NS: [u64; 2] = [5_000_000, 250_000_000];

/// A clock that shows for how long the family could run.
#[repr(C)]
pub(crate) struct AwakeClock {
    /// How far this clock is behind the monotonic clock.
    lost_ns: AtomicU64,
    /// The bound: at this time the clock stops until the next tick. The bound only grows.
    bound_ns: AtomicU64,
    /// The moment, on the monotonic clock, until which the supervisor has to watch this clock.
    wanted_until_ns: AtomicU64,
    /// The interval at which the supervisor wakes up, or 0 before the first limit.
    period_ns: AtomicU64,
    /// 1 while the supervisor wakes up by itself.
    is_watched: AtomicU64,
}

/// One moment, on the monotonic clock and on the family's clock.
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
            // ORDERING: this reads the bound, then the lost time, then the bound again. The supervisor writes
            // the lost time first and the bound second. If both reads of the bound agree, then either the
            // clock shows the bound, or it was not corrected in between.
            let bound = self.bound_ns.load(Ordering::SeqCst);
            let lost = self.lost_ns.load(Ordering::SeqCst);
            let monotonic_ns = now_ns();
            if self.bound_ns.load(Ordering::SeqCst) == bound {
                let now = monotonic_ns.saturating_sub(lost);
                return Moment { monotonic_ns, awake_ns: now.min(bound), stands: now >= bound };
            }
        }
    }

    /// Asks the supervisor to watch the clock until `until_ns` on the monotonic clock, closely enough for a
    /// limit of `limit_ns`. Returns whether the caller has to wake the supervisor for this.
    pub(crate) fn want(&self, until_ns: u64, limit_ns: u64) -> bool {
        let period = (limit_ns / PART).clamp(PERIOD_NS[0], PERIOD_NS[1]);
        self.wanted_until_ns.fetch_max(until_ns, Ordering::SeqCst);
        let shorter = |now| (now == 0 || now > period).then_some(period);
        let shortened = self.period_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, shorter).is_ok();
        // ORDERING: SeqCst, and after the stores of the request: see `tick`.
        shortened || self.is_watched.load(Ordering::SeqCst) == 0
    }

    /// Advances the clock to `now_ns`, but at most to its bound. Moves the bound if a limit is watched. Only
    /// the supervisor calls this.
    pub(crate) fn tick(&self, now_ns: u64) {
        if !self.is_wanted(now_ns) && self.is_watched.swap(0, Ordering::SeqCst) == 1 {
            self.period_ns.store(0, Ordering::SeqCst);
        }
        // ORDERING: SeqCst, and after the swap above. `want` stores the request first and then reads whether
        // the clock is watched.
        if !self.is_wanted(now_ns) {
            return;
        }
        self.is_watched.store(1, Ordering::SeqCst);
        let (lost, bound) = (self.lost_ns.load(Ordering::Relaxed), self.bound_ns.load(Ordering::Relaxed));
        let now = now_ns.saturating_sub(lost);
        if now > bound {
            // CRASH: after a death between this store and the next one, the clock shows its bound until the
            // next tick.
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

    /// Returns after how many milliseconds the supervisor has to wake up for the next tick, or `None` if it
    /// need not.
    pub(crate) fn next_tick_ms(&self) -> Option<i32> {
        (self.is_watched.load(Ordering::Relaxed) == 1).then(|| (self.period_ns() / 1_000_000) as i32)
    }
}

/// The time for which a process was stopped while its family could run.
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
            // ORDERING: if the word is the same before and after the clock is read, then the word and the
            // time belong together.
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

    /// Resets the clock for the next process in the slot.
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

    /// Returns a clock that the supervisor watches closely enough for a limit of one second.
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
        assert_eq!((clock.read().awake_ns, clock.read().stands, clock.next_tick_ms()), (0, true, None));
    }

    #[test]
    fn what_the_supervisor_misses_is_lost_and_what_it_vouched_for_is_not() {
        let now = now_ns();
        let clock = watched_since(now);
        assert!(!clock.want(now + 100 * SECOND, 2 * SECOND), "it ticks already");
        assert!(clock.want(now + 100 * SECOND, SECOND / 2), "it ticks too slowly");
        let clock = watched_since(now);
        assert_eq!(lost(&clock), now);
        // On a busy machine the supervisor ticks late, but still within the bound that it has set.
        clock.tick(now + STEP);
        assert_eq!(lost(&clock), now);
        // The family is suspended for ten seconds.
        clock.tick(now + STEP + 10 * SECOND);
        assert_eq!(lost(&clock), now + 10 * SECOND - STEP);
        // The family is suspended for so long that no limit is watched any longer. Then a new limit is
        // watched.
        clock.tick(now + 1000 * SECOND);
        assert_eq!(clock.next_tick_ms(), None);
        assert!(clock.want(now + 1100 * SECOND, SECOND));
        clock.tick(now + 1001 * SECOND);
        assert_eq!(lost(&clock), now + 1001 * SECOND - 3 * STEP);
    }

    #[test]
    fn it_stops_at_its_bound_until_the_next_tick() {
        let clock = watched_since(now_ns() - 10 * SECOND);
        assert_eq!((clock.read().awake_ns, clock.read().stands), (STEP, true));
        // Simulates a supervisor that dies between the two stores of a tick.
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
