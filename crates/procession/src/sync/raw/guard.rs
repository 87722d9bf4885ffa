//! [`RawGuard`]: proof that this thread holds an internal lock.

use super::lock::RawLock;
use super::word::Outcome;
use crate::Result;
use crate::arena::thread::{Entry, with_me};
use crate::os::clock::Deadline;

/// Proof that this thread holds a lock inside the library. Examples are the lock of a queue's end, the lock
/// of a part of a dict, and the lock of a value. Dropping the guard releases the lock. Such a lock is never
/// left poisoned, because recovery repairs what it guards.
pub(crate) struct RawGuard {
    lock: &'static RawLock,
    entry: Entry,
}

impl Drop for RawGuard {
    #[inline]
    fn drop(&mut self) {
        self.lock.release(self.entry);
    }
}

impl RawLock {
    /// Acquires the lock at `offset` if one exchange is enough.
    #[inline]
    pub(crate) fn try_lock_fast(&'static self, offset: u64) -> Option<RawGuard> {
        self.try_acquire_fast(offset).map(|entry| RawGuard { lock: self, entry })
    }

    /// Acquires the lock at `offset`. Waits until `deadline` at the latest. If the lock was not acquired,
    /// returns the reason: [`Outcome::TimedOut`] or [`Outcome::Relocked`].
    #[cold]
    pub(crate) fn lock_slow(
        &'static self,
        offset: u64,
        deadline: Deadline,
    ) -> Result<Result<RawGuard, Outcome>> {
        let (outcome, entry) = with_me(|me| self.acquire(me, offset, true, deadline))??;
        Ok(entry.map(|entry| RawGuard { lock: self, entry }).ok_or(outcome))
    }
}
