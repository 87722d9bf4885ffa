//! [`RLock`]: a lock that its holder can take again.

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

/// In [`LockBody::extra`]: a guard was dropped by a panic; the last one marks the lock.
const POISON_ON_LAST_RELEASE: u32 = 1 << 31;
/// How often it can be held beyond the first time.
const MOST: u32 = 1 << 30;

/// A lock that the thread that holds it can take again: it is free when every guard is dropped, in
/// whatever order.
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
/// As with [`Lock`](super::Lock), however often it held it: the lock is free and poisoned, and
/// [`lock_or_recover`](RLock::lock_or_recover) takes it.
#[derive(Clone)]
pub struct RLock {
    handle: Handle,
}

/// An [`RLock`] that is held, once more or for the first time.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::sync::RLock::new().unwrap();
/// needs_send(lock.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "the lock is let go at once when its guard is dropped"]
pub struct RLockGuard<'a> {
    body: &'static LockBody,
    state: GuardState,
    _here: PhantomData<(&'a RLock, *mut ())>,
}

impl RLock {
    /// Makes a new lock, which is free.
    ///
    /// # Errors
    /// When the shared memory is full or cannot be had.
    ///
    /// ```
    /// let lock = procession::sync::RLock::new()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<RLock> {
        RLock::named("")
    }

    /// Makes a new lock with a name, as [`Lock::named`](super::Lock::named).
    ///
    /// # Errors
    /// As [`RLock::new`]; and when the name is too long.
    ///
    /// ```
    /// assert_eq!(procession::sync::RLock::named("stock")?.name(), "stock");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named(name: &str) -> Result<RLock> {
        check_name(name)?;
        RLock::of(Handle::create::<RLockBody>(|object| object.set_name(name))?)
    }

    fn of(handle: Handle) -> Result<RLock> {
        Ok(RLock { handle })
    }

    /// The name it was made with, or the empty string.
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

    /// Takes the lock, also when this thread holds it already, and waits for it as long as it takes.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: it is poisoned.
    /// * [`LockError::Deadlock`]: those who hold what this thread waits for wait for this thread.
    /// * [`LockError::Unusable`]: in a plain fork of a member of the family; and when a thread takes it
    ///   more than a billion times at once.
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
        let taken = match self.again() {
            Some(again) => again,
            None => acquire::acquire(body, self.handle.hot_offset()),
        };
        match taken {
            Ok(state) => Ok(RLockGuard { body, state, _here: PhantomData }),
            Err(error) => Err(*error),
        }
    }

    /// Whether anybody holds it. A snapshot.
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

    /// Takes it once more, if this thread has it.
    #[inline]
    fn again(&self) -> Option<Result<GuardState, Box<LockError>>> {
        let (holder, me) = (word::owner(self.body().raw.load()), thread::owner());
        (holder != 0 && holder == me).then(|| self.take_again())
    }

    #[cold]
    fn take_again(&self) -> Result<GuardState, Box<LockError>> {
        let body = self.body();
        let unusable = |why: &str| Box::new(LockError::Unusable(why.into()));
        let noted = member::mapped().and_then(|_| thread::entry_for(self.handle.hot_offset()));
        let entry = noted.ok_or_else(|| unusable("this thread is ending"))?;
        let times = body.extra.load(Ordering::Relaxed);
        if times & !POISON_ON_LAST_RELEASE >= MOST {
            return Err(unusable("the lock is held a billion times"));
        }
        // CRASH: only the holder counts; recovery sets it to 0 before it lets the lock go.
        body.extra.store(times + 1, Ordering::Relaxed);
        Ok(GuardState::new(entry))
    }

    fn take(&self, recover: bool, deadline: Deadline) -> Result<RLockGuard<'_>, LockError> {
        let body = self.body();
        let taken = self.again().unwrap_or_else(|| acquire::acquire_slow(body, recover, deadline));
        taken.map(|state| RLockGuard { body, state, _here: PhantomData }).map_err(|error| *error)
    }
}

impl RLockGuard<'_> {
    guard_methods!("procession::sync::RLock::new()", lock, lock_or_recover);

    /// One guard fewer, if the lock is still held. Says whether it was not the last; else the lock is let go of.
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

/// How often a lock is held, if it is.
pub(super) fn times(body: &LockBody) -> u32 {
    (body.extra.load(Ordering::Relaxed) & !POISON_ON_LAST_RELEASE) + 1
}

impl fmt::Debug for RLock {
    /// Tells the holder's process, how often it holds the lock, and how many wait; a snapshot.
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
