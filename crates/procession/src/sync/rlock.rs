//! [`RLock`]: a lock that its owner can acquire again.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::acquire;
use super::error::LockError;
use super::guard_state::{self, GuardState};
use super::lock_methods::{guard_methods, lock_methods};
use super::raw::lock_body::{LockBody, RLockBody};
use super::raw::word;
use super::wait::travels;
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::{Kind, check_name};
use crate::arena::thread;
use crate::os::clock::Deadline;

/// In [`LockBody::extra`]: a panic dropped a guard, so the last guard poisons the lock.
const POISON_ON_LAST_RELEASE: u32 = 1 << 31;
/// The maximum number of guards of one owner, besides the first.
const MAX_AGAIN: u32 = 1 << 30;

/// A lock that its owner can acquire again. The lock is released when the owner has dropped all its guards,
/// in any order.
///
/// ```
/// use procession::sync::RLock;
///
/// let lock = RLock::new()?;
/// let outer = lock.lock()?;
/// let inner = lock.lock()?; // no deadlock
/// drop(outer);
/// drop(inner); // free now
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// The lock is free and poisoned like a [`Lock`](super::Lock), however many guards the dead process had.
/// [`lock_or_recover`](RLock::lock_or_recover) acquires it.
#[derive(Clone)]
pub struct RLock {
    handle: Handle,
}

/// Proof that this thread holds an [`RLock`]. Dropping the thread's last guard releases the lock.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::sync::RLock::new().unwrap();
/// needs_send(lock.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "dropping the guard releases the lock immediately"]
pub struct RLockGuard<'a> {
    body: &'static LockBody,
    state: GuardState,
    _here: PhantomData<(&'a RLock, *mut ())>,
}

impl RLock {
    /// Creates an unlocked lock.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// let lock = procession::sync::RLock::new()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<RLock> {
        RLock::labeled("")
    }

    /// Creates a lock with a label. See [`Lock::labeled`](super::Lock::labeled).
    ///
    /// # Errors
    /// The errors of [`RLock::new`], and [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the label is too
    /// long.
    ///
    /// ```
    /// assert_eq!(procession::sync::RLock::labeled("stock")?.name(), "stock");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labeled(label: &str) -> Result<RLock> {
        check_name(label)?;
        RLock::of(Handle::create::<RLockBody>(|object| object.set_name(label))?)
    }

    fn of(handle: Handle) -> Result<RLock> {
        Ok(RLock { handle })
    }

    /// Returns the label, or the name that the lock has in a manager. The string is empty if it has neither.
    ///
    /// ```
    /// assert_eq!(procession::sync::RLock::new()?.name(), "");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    fn body(&self) -> &'static LockBody {
        self.handle.body()
    }

    /// Acquires the lock, even if this thread already holds it. Waits without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the lock is poisoned. See [`RLock`].
    /// * [`LockError::Deadlock`]: the wait closed a cycle of waits.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`, or this thread has more than a
    ///   billion guards.
    ///
    /// ```
    /// let lock = procession::sync::RLock::new()?;
    /// let outer = lock.lock()?;
    /// let inner = lock.lock()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError> {
        let body = self.body();
        let taken = match self.try_again() {
            Some(outcome) => outcome,
            None => acquire::acquire(body, self.handle.hot_offset()),
        };
        match taken {
            Ok(state) => Ok(RLockGuard { body, state, _here: PhantomData }),
            Err(error) => Err(*error),
        }
    }

    /// Returns whether any thread holds the lock. The answer may be out of date when this returns.
    ///
    /// ```
    /// let lock = procession::sync::RLock::new()?;
    /// let held = lock.lock()?;
    /// assert!(lock.is_locked());
    /// # drop(held);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_locked(&self) -> bool {
        word::owner(self.body().raw.load()) != 0
    }

    lock_methods! {
        RLockGuard<'_>, "the lock", "procession::sync::RLock::new()",
        [lock, try_lock, lock_timeout, lock_deadline],
        [lock_or_recover, try_lock_or_recover, lock_or_recover_timeout, lock_or_recover_deadline]
    }

    /// Acquires the lock once more, if this thread already holds it.
    #[inline]
    fn try_again(&self) -> Option<Result<GuardState, Box<LockError>>> {
        let (holder, me) = (word::owner(self.body().raw.load()), thread::owner());
        (holder != 0 && holder == me).then(|| self.acquire_again())
    }

    #[cold]
    fn acquire_again(&self) -> Result<GuardState, Box<LockError>> {
        let body = self.body();
        let unusable = |why: &str| Box::new(LockError::Unusable(why.into()));
        let noted = member::mapped().and_then(|_| thread::entry_for(self.handle.hot_offset()));
        let entry =
            noted.ok_or_else(|| unusable("this thread is ending, so it cannot acquire the lock again"))?;
        let times = body.extra.load(Ordering::Relaxed);
        if times & !POISON_ON_LAST_RELEASE >= MAX_AGAIN {
            return Err(unusable("this thread already has a billion guards of the lock; drop some of them"));
        }
        // CRASH: only the owner changes the count. Recovery resets the count before it releases the lock.
        body.extra.store(times + 1, Ordering::Relaxed);
        Ok(GuardState::new(entry))
    }

    fn acquire_slow(&self, recover: bool, deadline: Deadline) -> Result<RLockGuard<'_>, LockError> {
        let body = self.body();
        let taken = self.try_again().unwrap_or_else(|| acquire::acquire_slow(body, recover, deadline));
        taken.map(|state| RLockGuard { body, state, _here: PhantomData }).map_err(|error| *error)
    }
}

impl RLockGuard<'_> {
    guard_methods!("procession::sync::RLock::new()", lock, lock_or_recover);

    /// Subtracts this guard from the count if the lock is still held and the guard is not the last. Otherwise
    /// returns false, and the caller releases the lock.
    #[cold]
    fn count_down(&mut self, times: u32) -> bool {
        if !self.body.raw.is_still_held(self.state.entry()) {
            return false;
        }
        if times & !POISON_ON_LAST_RELEASE != 0 {
            let poison = if acquire::must_poison(&self.state) { POISON_ON_LAST_RELEASE } else { 0 };
            self.state.take();
            self.body.extra.store((times - 1) | poison, Ordering::Relaxed);
            return true;
        }
        self.state.set(guard_state::POISON_ON_RELEASE);
        self.body.extra.store(0, Ordering::Relaxed);
        false
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let times = self.body.extra.load(Ordering::Relaxed);
        if times == 0 || !self.count_down(times) {
            acquire::release(self.body, &mut self.state);
        }
    }
}

/// Returns how many guards the owner of a held lock has.
pub(super) fn times(body: &LockBody) -> u32 {
    (body.extra.load(Ordering::Relaxed) & !POISON_ON_LAST_RELEASE) + 1
}

impl fmt::Debug for RLock {
    /// Shows the name, the process that holds the lock, its number of guards, and the number of waiters. The
    /// values may already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        acquire::describe(f, "RLock", self.handle.object())
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").field("recovered_from", &self.recovered_from()).finish_non_exhaustive()
    }
}

travels!(RLock, Kind::RLock);
