//! [`LockGuard`]: a lock that is held.

use std::fmt;
use std::marker::PhantomData;

use super::acquire;
use super::error::OwnerDied;
use super::guard_state::{self, GuardState};
use super::lock::Lock;
use super::raw::lock_body::LockBody;

/// A lock that is held. Dropping it releases the lock.
///
/// It stays in the thread that took it. `mem::forget` of a guard keeps the lock held until the
/// process ends.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::Lock::new().unwrap();
/// needs_send(lock.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "the lock is released at once when its guard is dropped"]
pub struct LockGuard<'a> {
    body: &'static LockBody,
    state: GuardState,
    _here: PhantomData<(&'a Lock, *mut ())>,
}

impl<'a> LockGuard<'a> {
    #[inline]
    pub(super) fn new(body: &'static LockBody, state: GuardState) -> LockGuard<'a> {
        LockGuard { body, state, _here: PhantomData }
    }

    pub(super) fn parts(&mut self) -> (&'static LockBody, &mut GuardState) {
        (self.body, &mut self.state)
    }
}

impl LockGuard<'_> {
    /// Who died or panicked holding the lock before us, if it was poisoned when
    /// [`Lock::lock_or_recover`] took it.
    ///
    /// ```
    /// let lock = procession::Lock::new()?;
    /// assert!(lock.lock_or_recover()?.recovered_from().is_none());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn recovered_from(&self) -> Option<&OwnerDied> {
        self.state.recovered_from()
    }

    /// Marks the lock: whoever comes next is told that what it guards may be broken, as if this
    /// thread had panicked.
    ///
    /// ```
    /// use procession::{Lock, sync::LockError};
    /// let lock = Lock::new()?;
    /// lock.lock()?.poison();
    /// assert!(matches!(lock.lock(), Err(LockError::Panicked(_))));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn poison(mut self) {
        self.state.set(guard_state::POISON_ON_RELEASE);
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        acquire::release(self.body, &mut self.state);
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("recovered_from", &self.recovered_from()).finish_non_exhaustive()
    }
}
