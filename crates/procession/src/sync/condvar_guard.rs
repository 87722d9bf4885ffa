//! [`Guard`]: the guards that a condition variable accepts.

use super::guard::LockGuard;
use super::guard_state::GuardState;
use super::mutex::MutexGuard;
use super::raw::lock_body::LockBody;

pub(super) mod sealed {
    use super::{GuardState, LockBody};

    pub trait Parts {
        #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
        fn parts(&mut self) -> (&'static LockBody, &mut GuardState);
    }
}

/// Guards that [`Condvar`](super::Condvar) accepts: [`LockGuard`] and [`MutexGuard`].
///
/// ```
/// use procession::sync::{Condvar, Guard, LockError, Mutex};
///
/// /// Waits at most a millisecond, whatever is guarded; says whether nobody notified.
/// fn a_moment<G: Guard>(changed: &Condvar, guard: G) -> Result<(G, bool), LockError> {
///     let (guard, waited) = changed.wait_timeout(guard, std::time::Duration::from_millis(1))?;
///     Ok((guard, waited.timed_out()))
/// }
///
/// let (changed, number) = (Condvar::new()?, Mutex::new(7u32)?);
/// let (guard, in_vain) = a_moment(&changed, number.lock()?)?;
/// assert_eq!((*guard, in_vain), (7, true));
/// # drop(guard);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Guard: sealed::Parts {}

impl sealed::Parts for LockGuard<'_> {
    #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
    fn parts(&mut self) -> (&'static LockBody, &mut GuardState) {
        LockGuard::parts(self)
    }
}

impl<T> sealed::Parts for MutexGuard<'_, T> {
    #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
    fn parts(&mut self) -> (&'static LockBody, &mut GuardState) {
        MutexGuard::parts(self)
    }
}

impl Guard for LockGuard<'_> {}
impl<T> Guard for MutexGuard<'_, T> {}
