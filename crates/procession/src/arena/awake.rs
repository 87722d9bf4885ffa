//! How long processes could run: the monotonic clock without the time for which they were suspended.
//!
//! A process cannot see that it is stopped, nor a family that it is frozen. So the supervisor keeps two things:
//!
//! * [`AwakeClock`], for the whole family. While a limit is to be kept, the supervisor wakes up each period and vouches
//!   for the next [`STEPS`] periods: the clock goes that far and no further. When the supervisor comes later, it was
//!   suspended with its family (SIGSTOP to the group, the freezer of a control group, a paused machine), and
//!   what was missed is lost time. On a machine that is only busy, the clock goes on by [`STEPS`] periods each time.
//!   When no limit is to be kept, nobody watches the clock, and it stands still.
//! * [`Pace`], for each process. The kernel tells the supervisor when a child is stopped and continued.
//!
//! | pace           | meaning                                                        | who moves it |
//! |----------------|----------------------------------------------------------------|--------------|
//! | `lost << 1`    | it runs, and was stopped for that long in all                  | supervisor   |
//! | `at << 1 \| 1` | it is stopped, since its own time was `at`                     | supervisor   |
//!
//! CRASH: these words only delay what a limit does. When the supervisor dies, so do the children, and the
//! next supervisor goes on from the words as they are.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::clock::now_ns;

/// For so many periods the supervisor vouches in advance.
const STEPS: u64 = 4;
/// A period is this part of the shortest limit, within these bounds.
const PART: u64 = 32;
const PERIOD_NS: [u64; 2] = [5_000_000, 250_000_000];

/// The time in which the family could run.
#[repr(C)]
pub(crate) struct AwakeClock {
    /// How far it is behind the monotonic clock.
    lost_ns: AtomicU64,
    /// It stops there. Grows.
    bound_ns: AtomicU64,
    /// Until when, on the monotonic clock, it is to be watched.
    wanted_until_ns: AtomicU64,
    /// How often the supervisor is to wake up; 0 if nobody has said.
    period_ns: AtomicU64,
    /// 1 while the supervisor wakes up by itself.
    is_watched: AtomicU64,
}

/// One moment on both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) monotonic_ns: u64,
    pub(crate) awake_ns: u64,
    /// The supervisor has not vouched for more.
    pub(crate) stands: bool,
}

impl AwakeClock {
    pub(crate) fn read(&self) -> Moment {
        loop {
            // ORDERING: in this order, and the bound again. The supervisor writes what was lost, then the bound. With
            // the same bound before and after, the clock either shows that bound or was not corrected meanwhile.
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
        // ORDERING: SeqCst, after the wish: see `tick`.
        shortened || self.is_watched.load(Ordering::SeqCst) == 0
    }

    /// Brings the clock up to `now_ns`, or as far as the supervisor has vouched for, and vouches for more if
    /// somebody wants that. Only the supervisor calls this.
    pub(crate) fn tick(&self, now_ns: u64) {
        if !self.is_wanted(now_ns) && self.is_watched.swap(0, Ordering::SeqCst) == 1 {
            self.period_ns.store(0, Ordering::SeqCst);
        }
        // ORDERING: SeqCst, after that store: whoever wants the clock to be watched says so and then looks whether it
        // is.
        if !self.is_wanted(now_ns) {
            return;
        }
        self.is_watched.store(1, Ordering::SeqCst);
        let (lost, bound) = (self.lost_ns.load(Ordering::Relaxed), self.bound_ns.load(Ordering::Relaxed));
        let now = now_ns.saturating_sub(lost);
        if now > bound {
            // CRASH: with this store and without the next, the clock shows the bound until the next tick.
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

    /// When the supervisor has to wake up for the next tick; `None` if it need not.
    pub(crate) fn patience_ms(&self) -> Option<i32> {
        (self.is_watched.load(Ordering::Relaxed) == 1).then(|| (self.period_ns() / 1_000_000) as i32)
    }
}

/// For how long a process was stopped while its family was awake.
#[repr(transparent)]
pub(crate) struct Pace(AtomicU64);

/// One moment of a process.
#[derive(Clone, Copy)]
pub(crate) struct OwnMoment {
    pub(crate) monotonic_ns: u64,
    /// The time in which it could run.
    pub(crate) own_ns: u64,
    pub(crate) is_stopped: bool,
    /// The clock of the family stands.
    pub(crate) stands: bool,
}

impl Pace {
    pub(crate) fn read(&self, clock: &AwakeClock) -> OwnMoment {
        loop {
            // ORDERING: the same before and after the clock is read, so the two belong together.
            let pace = self.0.load(Ordering::SeqCst);
            let Moment { monotonic_ns, awake_ns, stands } = clock.read();
            if self.0.load(Ordering::SeqCst) == pace {
                let (is_stopped, ns) = (pace & 1 == 1, pace >> 1);
                let own_ns = if is_stopped { ns } else { awake_ns.saturating_sub(ns) };
                return OwnMoment { monotonic_ns, own_ns, is_stopped, stands };
            }
        }
    }

    /// The process has been stopped.
    pub(crate) fn stop(&self, clock: &AwakeClock) {
        let now = self.read(clock);
        if !now.is_stopped {
            self.0.store(now.own_ns << 1 | 1, Ordering::SeqCst);
        }
    }

    /// The process has been continued.
    pub(crate) fn go_on(&self, clock: &AwakeClock) {
        let now = self.read(clock);
        if now.is_stopped {
            let lost = clock.read().awake_ns.saturating_sub(now.own_ns);
            self.0.store(lost << 1, Ordering::SeqCst);
        }
    }

    /// Another process begins.
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

    /// One that is watched closely enough for a second.
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
        // Suspended for so long that nobody wants it any more, until somebody does again.
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
