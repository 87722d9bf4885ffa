//! Spinning for a moment before going to sleep.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::OnceLock;

use crate::os::clock::{Deadline, now_ns};
use crate::os::limits;
use crate::rules::{self, Rule};

/// Waking a sleeper takes at least 50 µs. A partner that is awake answers either sooner than that or much
/// later.
const MAX_SPIN_NS: u64 = 50_000;
const MIN_SPIN_NS: u64 = 1_000;
/// If a spinning thread did not run for this long, another thread needs its processor.
const DISPLACED_NS: u64 = 20_000;

thread_local! {
    /// How long this thread spins: longer after a spin that succeeded, shorter after one that failed.
    static SPIN_NS: Cell<u64> = const { Cell::new(MAX_SPIN_NS) };
    /// How many spins have failed since the last one that succeeded.
    static FAILED_SPINS: Cell<u32> = const { Cell::new(0) };
}

/// One in this many failed spins lasts as long as possible, because each of the shorter spins may end just
/// too early.
const PROBE_INTERVAL: u32 = 32;

pub(crate) fn several_processors() -> bool {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(limits::processors) > 1
}

/// Spins until `ready` returns true, but no longer than is likely to pay off. Returns whether `ready`
/// returned true.
pub(crate) fn spin(deadline: Deadline, mut ready: impl FnMut() -> bool) -> bool {
    if !rules::holds(Rule::Spins) || !several_processors() {
        return false;
    }
    let (mut spin_ns, failed) = (SPIN_NS.get(), FAILED_SPINS.get());
    if failed % PROBE_INTERVAL == PROBE_INTERVAL - 1 {
        spin_ns = MAX_SPIN_NS;
    }
    let began = now_ns();
    let until = deadline.min_ns(began + spin_ns);
    let mut last = began;
    loop {
        for _ in 0..16 {
            if ready() {
                SPIN_NS.set((2 * spin_ns).clamp(4 * MIN_SPIN_NS, MAX_SPIN_NS));
                FAILED_SPINS.set(0);
                return true;
            }
            spin_loop();
        }
        let now = now_ns();
        if until.as_ns().is_some_and(|until| now > until) || now - last > DISPLACED_NS {
            SPIN_NS.set((SPIN_NS.get() / 2).max(MIN_SPIN_NS));
            FAILED_SPINS.set(failed.wrapping_add(1));
            return false;
        }
        last = now;
    }
}
