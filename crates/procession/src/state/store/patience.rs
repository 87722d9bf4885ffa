//! [`Patience`]: how long a reader tries without the lock.

/// How long a reader looks without the lock: a hundred looks that came to nothing, or fewer when much was copied
/// in vain.
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

    /// So many bytes were copied in vain.
    #[inline]
    pub(super) fn spend(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub(bytes >> 14);
    }
}
