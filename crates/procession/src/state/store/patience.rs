//! [`Patience`]: how often a reader tries without the lock.

/// The number of further attempts that a reader makes without the lock. It starts at a hundred, and falls
/// faster if failed attempts copy many bytes.
pub(super) struct Patience(u64);

impl Patience {
    #[inline]
    pub(super) fn new() -> Patience {
        Patience(100)
    }

    #[inline]
    pub(super) fn lasts(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }

    /// Counts a failed attempt that copied `bytes` bytes.
    #[inline]
    pub(super) fn spend(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub(bytes >> 14);
    }
}
