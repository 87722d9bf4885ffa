//! The monotonic clock, the same for every process of the machine.

use std::time::{Duration, Instant};

/// Returns the nanoseconds of `CLOCK_MONOTONIC`, which are comparable between processes, unlike an `Instant`.
pub(crate) fn now_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the kernel to write to, and this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The moment at which a wait times out, or never. A timeout that is too long to be added to the clock means
/// never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<u64>);

impl Deadline {
    /// A wait without a limit.
    pub(crate) const NEVER: Deadline = Deadline(None);

    pub(crate) fn after(timeout: Duration) -> Deadline {
        let ns = u64::try_from(timeout.as_nanos()).ok();
        // The kernel takes signed seconds. Half of the range of `u64` is 292 years.
        Deadline(ns.and_then(|ns| now_ns().checked_add(ns)).filter(|&at| at < u64::MAX / 2))
    }

    pub(crate) fn at(instant: Instant) -> Deadline {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the moment has come.
    pub(crate) fn passed(self) -> bool {
        self.0.is_some_and(|at| now_ns() >= at)
    }

    /// Returns the milliseconds until the moment, rounded up, as `poll` expects them: -1 means never.
    pub(crate) fn left_ms(self) -> i32 {
        self.0.map_or(-1, |at| at.saturating_sub(now_ns()).div_ceil(1_000_000).try_into().unwrap_or(i32::MAX))
    }

    /// Returns the earlier of this moment and `ns` on the monotonic clock.
    pub(crate) fn min_ns(self, ns: u64) -> Deadline {
        Deadline(Some(self.0.map_or(ns, |at| at.min(ns))))
    }

    /// Returns the later of this moment and `ns` on the monotonic clock.
    pub(crate) fn max_ns(self, ns: u64) -> Deadline {
        Deadline(self.0.map(|at| at.max(ns)))
    }

    pub(crate) fn as_ns(self) -> Option<u64> {
        self.0
    }
}
