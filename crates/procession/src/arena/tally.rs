//! A count of handles that cannot wrap: when there are very many, it stays where it is.
//!
//! | count                | meaning                                                                |
//! |----------------------|------------------------------------------------------------------------|
//! | `1..STUCK`           | so many handles                                                        |
//! | `STUCK..`            | nobody knows how many: what they name is kept as long as the process   |
//!
//! Safe code can forget a clone without dropping it, so it can make more of them than 32 bits can count. A count that
//! began anew would let the last-but-one handle free what the others use.

use std::sync::atomic::{AtomicU32, Ordering};

/// From here on a count is stuck.
pub(crate) const STUCK: u32 = 1 << 31;
/// Where a stuck count is put again and again: far from both ends, so that threads that had seen it before, and count
/// up or down just then, do not move it out of its half.
const MIDDLE: u32 = STUCK + (STUCK >> 1);

/// Counts one more. Returns what the count was.
#[inline]
pub(crate) fn count_up(count: &AtomicU32) -> u32 {
    let before = count.fetch_add(1, Ordering::Relaxed);
    if before >= STUCK - 1 {
        stick(count);
    }
    before
}

#[cold]
fn stick(count: &AtomicU32) {
    count.store(MIDDLE, Ordering::Relaxed);
}

/// Counts one down, unless it is the last one. Returns whether it is.
#[inline]
pub(crate) fn count_down(count: &AtomicU32) -> bool {
    // ORDERING: Acquire: the threads that had the others have done with them.
    let mut now = count.load(Ordering::Acquire);
    while now > 1 {
        if now >= STUCK {
            return false;
        }
        // ORDERING: Release pairs with the Acquire of the thread that finds that its own is the last one.
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
    fn a_count_that_is_stuck_stays_so() {
        for start in [STUCK - 2, STUCK - 1, STUCK, MIDDLE, u32::MAX - 1, u32::MAX] {
            let count = AtomicU32::new(start);
            count_up(&count);
            count_up(&count);
            for _ in 0..10 {
                assert!(!count_down(&count), "{start:#x}");
            }
            assert!(count.load(Ordering::Relaxed) >= STUCK, "{start:#x}");
        }
    }

    #[test]
    fn threads_that_count_at_the_limit_do_not_bring_it_to_an_end() {
        let count = AtomicU32::new(STUCK - 4);
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
        assert!(count.load(Ordering::Relaxed) >= STUCK);
    }
}
