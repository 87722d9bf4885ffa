//! [`Patience`]: how long a reader tries without the lock.

/// The number of attempts that a reader still makes without the lock: a hundred, or fewer when failed attempts have
/// copied many bytes.
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
