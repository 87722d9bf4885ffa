//! [`LockGuard`]: proof that this thread holds a lock.

use std::fmt;
use std::marker::PhantomData;

use super::acquire;
use super::guard_state::GuardState;
use super::lock::Lock;
use super::lock_methods::guard_methods;
use super::raw::lock_body::LockBody;

/// Proof that this thread holds a [`Lock`]. Dropping the guard releases the lock.
///
/// A guard cannot leave the thread that acquired the lock. If a guard is passed to `mem::forget`, the lock
/// stays held until the process ends.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::Lock::new().unwrap();
/// needs_send(lock.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "dropping the guard releases the lock immediately"]
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
    guard_methods!("procession::Lock::new()", lock, lock_or_recover);
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
