//! Looking again and again for a moment before going to sleep.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::OnceLock;

use crate::os::clock::{Deadline, now_ns};
use crate::os::limits;
use crate::rules::{self, Rule};

/// A sleeping partner costs 50 µs and more; who is awake answers sooner than that, if ever.
const SPIN_MOST_NS: u64 = 50_000;
const SPIN_LEAST_NS: u64 = 1_000;
/// A spinner that did not run for so long shares its processor with somebody who needs it.
const DISPLACED_NS: u64 = 20_000;

thread_local! {
    /// For how long this thread spins: longer when that helped, shorter when it did not.
    static PATIENCE_NS: Cell<u64> = const { Cell::new(SPIN_MOST_NS) };
    /// Spins in vain since the last one that was not.
    static IN_VAIN: Cell<u32> = const { Cell::new(0) };
}

/// After so many spins in vain one is as long as any: a shorter one may just end too early each time.
const PROBE: u32 = 32;

pub(crate) fn several_processors() -> bool {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(limits::processors) > 1
}

/// Spins until `come`, as long as that is likely to be worth it. Says whether it has come.
pub(crate) fn spin(deadline: Deadline, mut come: impl FnMut() -> bool) -> bool {
    if !rules::holds(Rule::Spins) || !several_processors() {
        return false;
    }
    let (mut patience, in_vain) = (PATIENCE_NS.get(), IN_VAIN.get());
    if in_vain % PROBE == PROBE - 1 {
        patience = SPIN_MOST_NS;
    }
    let began = now_ns();
    let until = deadline.min_ns(began + patience);
    let mut last = began;
    loop {
        for _ in 0..16 {
            if come() {
                PATIENCE_NS.set((2 * patience).clamp(4 * SPIN_LEAST_NS, SPIN_MOST_NS));
                IN_VAIN.set(0);
                return true;
            }
            spin_loop();
        }
        let now = now_ns();
        if until.as_ns().is_some_and(|until| now > until) || now - last > DISPLACED_NS {
            PATIENCE_NS.set((PATIENCE_NS.get() / 2).max(SPIN_LEAST_NS));
            IN_VAIN.set(in_vain.wrapping_add(1));
            return false;
        }
        last = now;
    }
}
