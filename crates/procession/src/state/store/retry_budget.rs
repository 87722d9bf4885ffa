//! [`RetryBudget`]: how often a reader tries without the lock.

/// The number of further attempts that a reader makes without the lock. It starts at a hundred, and falls
/// faster if failed attempts copy many bytes.
pub(super) struct RetryBudget(u64);

impl RetryBudget {
    #[inline]
    pub(super) fn new() -> RetryBudget {
        RetryBudget(100)
    }

    #[inline]
    pub(super) fn has_attempt(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }

    /// Counts a failed attempt that copied `bytes` bytes.
    #[inline]
    pub(super) fn charge(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub(bytes >> 14);
    }
}
