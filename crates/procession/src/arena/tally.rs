//! A count of handles that cannot overflow, because it stops counting near its limit.
//!
//! | count          | meaning                                                       |
//! |----------------|---------------------------------------------------------------|
//! | `1..SATURATED` | the number of handles                                         |
//! | `SATURATED..`  | an unknown number: the process holds the object until it ends |
//!
//! Safe code can forget clones without dropping them, so it can create more handles than 32 bits can count.
//! If the count wrapped, dropping one handle could free an object that others still use.

use std::sync::atomic::{AtomicU32, Ordering};

/// A count at or above this value has stopped.
pub(crate) const SATURATED: u32 = 1 << 31;
/// The value to which a stopped count returns. It is far from both ends of the upper half of the range. So
/// threads that count at the same moment do not move the count out of that half.
const MIDDLE: u32 = SATURATED + (SATURATED >> 1);

/// Adds one. Returns the previous count.
#[inline]
pub(crate) fn count_up(count: &AtomicU32) -> u32 {
    let before = count.fetch_add(1, Ordering::Relaxed);
    if before >= SATURATED - 1 {
        saturate(count);
    }
    before
}

#[cold]
fn saturate(count: &AtomicU32) {
    count.store(MIDDLE, Ordering::Relaxed);
}

/// Subtracts one, unless the count is 1. Returns whether the count is 1.
#[inline]
pub(crate) fn count_down(count: &AtomicU32) -> bool {
    // ORDERING: Acquire, so what other threads did with their handles happens before the caller frees
    // anything.
    let mut now = count.load(Ordering::Acquire);
    while now > 1 {
        if now >= SATURATED {
            return false;
        }
        // ORDERING: Release pairs with the Acquire of the thread that finds that its own handle is the last
        // one.
        match count.compare_exchange_weak(now, now - 1, Ordering::Release, Ordering::Acquire) {
            Ok(_) => return false,
            Err(other) => now = other,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_the_last_one() {
        let count = AtomicU32::new(0);
        (0..3).for_each(|before| assert_eq!(count_up(&count), before));
        assert_eq!([count_down(&count), count_down(&count), count_down(&count)], [false, false, true]);
    }

    #[test]
    fn a_saturated_count_stays_saturated() {
        for start in [SATURATED - 2, SATURATED - 1, SATURATED, MIDDLE, u32::MAX - 1, u32::MAX] {
            let count = AtomicU32::new(start);
            count_up(&count);
            count_up(&count);
            for _ in 0..10 {
                assert!(!count_down(&count), "{start:#x}");
            }
            assert!(count.load(Ordering::Relaxed) >= SATURATED, "{start:#x}");
        }
    }

    #[test]
    fn threads_that_count_at_the_limit_do_not_bring_it_to_an_end() {
        let count = AtomicU32::new(SATURATED - 4);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        count_up(&count);
                        count_up(&count);
                        assert!(!count_down(&count));
                    }
                });
            }
        });
        assert!(count.load(Ordering::Relaxed) >= SATURATED);
    }
}
