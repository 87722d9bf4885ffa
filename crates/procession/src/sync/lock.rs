//! [`Lock`]: mutual exclusion between processes and threads.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::acquire;
use super::error::LockError;
use super::guard::LockGuard;
use super::lock_methods::lock_methods;
use super::raw::lock_body::LockBody;
use super::raw::word;
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::{Kind, check_name};
use crate::os::clock::Deadline;

/// A lock for processes and threads. It outlives its owner.
///
/// A `Lock` is a handle: clone it or send it to another process, and it is the same lock. It contains no data. It
/// guards whatever your program decides: a file, the terminal, a protocol.
///
/// ```
/// use procession::Lock;
///
/// let lock = Lock::new()?;
/// {
///     let _held = lock.lock()?;
///     // nobody else is in here, in this process or another
/// } // released here
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// While it **holds** the lock: within a fraction of a millisecond the lock is free and *poisoned*. Every
/// waiter and every later caller gets [`LockError::OwnerDied`] until a process acquires the lock with
/// [`lock_or_recover`](Lock::lock_or_recover). A panic that unwinds through a guard poisons the lock too.
/// While it **waits**: the other processes are not affected.
///
/// ```
/// use procession::{Lock, Process};
///
/// let lock = Lock::new()?;
/// let child = Process::spawn(|lock: Lock| -> () {
///     std::mem::forget(lock.lock().unwrap());
///     std::process::abort();
/// }, (lock.clone(),))?;
/// assert!(child.join().is_err());
///
/// let held = lock.lock_or_recover()?;
/// assert_eq!(held.recovered_from().map(|who| who.pid), child.pid());
/// // ... repair what the lock guards ...
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # Fairness
///
/// A free lock goes to the first thread that asks, which is fast. If a thread has waited for a millisecond, the next
/// release reserves the lock for it. There is at most one such reservation per millisecond.
///
/// # If a process is stopped
///
/// While it **holds** the lock: the other processes wait until it continues. While it **waits**: the other
/// processes can acquire the lock. A release that reserves the lock for a stopped waiter delays them by 10
/// ms, once.
#[derive(Clone)]
pub struct Lock {
    handle: Handle,
}

impl Lock {
    /// Creates an unlocked lock.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// let lock = procession::Lock::new()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Lock> {
        Lock::labeled("")
    }

    /// Creates an unlocked lock with a label of at most 95 bytes, which error messages and `Debug` show. A label
    /// identifies nothing: two locks with the same label are two locks. [`Manager::named`](crate::Manager::named)
    /// finds a lock by its name.
    ///
    /// # Errors
    /// The errors of [`Lock::new`], and [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the label is too
    /// long.
    ///
    /// ```
    /// let lock = procession::Lock::labeled("stock")?;
    /// assert_eq!(lock.name(), "stock");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labeled(label: &str) -> Result<Lock> {
        check_name(label)?;
        let handle = Handle::create::<LockBody>(|object| object.set_name(label))?;
        Ok(Lock { handle })
    }

    /// Returns the label, or the name that the lock has in a manager. The string is empty if it has neither.
    ///
    /// ```
    /// assert_eq!(procession::Lock::new()?.name(), "");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    fn body(&self) -> &'static LockBody {
        self.handle.body()
    }

    /// Acquires the lock. Waits without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the lock is poisoned. See [`Lock`].
    /// * [`LockError::Deadlock`]: this thread already holds the lock, or the wait closed a cycle of waits.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock()?;
    /// drop(held);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError> {
        let body = self.body();
        match acquire::acquire(body, self.handle.hot_offset()) {
            Ok(state) => Ok(LockGuard::new(body, state)),
            Err(error) => Err(*error),
        }
    }

    /// Returns whether any thread holds the lock. The answer may be out of date when this returns.
    ///
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock()?;
    /// assert!(lock.is_locked());
    /// drop(held);
    /// assert!(!lock.is_locked());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_locked(&self) -> bool {
        word::owner(self.body().raw.load()) != 0
    }

    lock_methods! {
        LockGuard<'_>, "the lock", "procession::Lock::new()",
        [lock, try_lock, lock_timeout, lock_deadline],
        [lock_or_recover, try_lock_or_recover, lock_or_recover_timeout, lock_or_recover_deadline]
    }

    #[cfg(feature = "internals")]
    pub(crate) fn word(&self) -> u64 {
        self.body().raw.load()
    }

    #[cfg(feature = "internals")]
    pub(crate) fn raw(&self) -> *const crate::sync::raw::lock::RawLock {
        &raw const self.body().raw
    }

    fn acquire_slow(&self, recover: bool, deadline: Deadline) -> Result<LockGuard<'_>, LockError> {
        let state = acquire::acquire_slow(self.body(), recover, deadline).map_err(|error| *error)?;
        Ok(LockGuard::new(self.body(), state))
    }
}

impl fmt::Debug for Lock {
    /// Shows the name, the process that holds the lock, and the number of waiters. The values may already
    /// have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        acquire::describe(f, "Lock", self.handle.object())
    }
}

impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lock, D::Error> {
        Ok(Lock { handle: Handle::deserialize(deserializer, Kind::Lock)? })
    }
}
