//! [`Lock`]: mutual exclusion between processes and threads.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::acquire;
use super::error::LockError;
use super::guard::LockGuard;
use super::raw::lock_body::LockBody;
use super::raw::word;
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::{Kind, check_name};
use crate::os::clock::Deadline;

/// A lock for processes and threads alike, that outlives its owner.
///
/// A handle: clone it or send it to another process, and it is the same lock. It guards no data of
/// its own but whatever you agree that it does: a file, the terminal, a protocol.
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
/// While it **holds** the lock: the lock is free again within a fraction of a millisecond and
/// *poisoned*. Everyone who waits for it and everyone who comes gets [`LockError::OwnerDied`], until
/// somebody takes it with [`lock_or_recover`](Lock::lock_or_recover). A panic that unwinds through
/// a guard marks it too. While it **waits**: nobody notices.
///
/// # Fairness
///
/// A free lock goes to whoever comes first, which is fast. Who has waited for a millisecond is
/// handed the lock by the next release (one such waiter each millisecond).
///
/// # If a process is stopped
///
/// While it **holds** the lock: the others wait until it continues. While it **waits**: the others take the lock. A
/// release that hands the lock to a stopped waiter delays them by 10 ms, once.
#[derive(Clone)]
pub struct Lock {
    handle: Handle,
}

impl Lock {
    /// Makes a new lock, which is free.
    ///
    /// # Errors
    /// When the shared memory is full or cannot be had.
    ///
    /// ```
    /// let lock = procession::Lock::new()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Lock> {
        Lock::named("")
    }

    /// Makes a new lock with a name of at most 95 bytes, which reports and `Debug` show. The name
    /// is for people; two locks with the same name are two locks.
    ///
    /// # Errors
    /// As [`Lock::new`]; and [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the
    /// name is too long.
    ///
    /// ```
    /// let lock = procession::Lock::named("stock")?;
    /// assert_eq!(lock.name(), "stock");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named(name: &str) -> Result<Lock> {
        check_name(name)?;
        let handle = Handle::create::<LockBody>(|object| object.set_name(name))?;
        Ok(Lock { handle })
    }

    /// The name it was made with, or the empty string.
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

    /// Takes the lock, and waits for it as long as it takes.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: it is poisoned; see the type's
    ///   documentation.
    /// * [`LockError::Deadlock`]: this thread holds it already.
    /// * [`LockError::Unusable`]: in a plain fork of a member of the family.
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

    /// Whether anybody holds it. A snapshot: it may be otherwise when this returns.
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

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when somebody holds it; otherwise as [`lock`](Lock::lock).
    ///
    /// ```
    /// use procession::{Lock, sync::LockError};
    ///
    /// let lock = Lock::new()?;
    /// let held = lock.try_lock()?;
    /// let other = lock.clone();
    /// std::thread::spawn(move || assert_eq!(other.try_lock().err(), Some(LockError::WouldBlock)))
    ///     .join().unwrap();
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.take(false, Deadline::after(Duration::ZERO)).map_err(LockError::at_once)
    }

    /// Takes the lock, and waits for it at most `timeout`. A timeout of zero tries once.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when somebody held it all the time; otherwise as
    /// [`lock`](Lock::lock).
    ///
    /// ```
    /// use std::time::Duration;
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock_timeout(Duration::from_millis(10))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError> {
        self.take(false, Deadline::after(timeout))
    }

    /// Takes the lock, and waits for it at most until `deadline`.
    ///
    /// # Errors
    /// As [`lock_timeout`](Lock::lock_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock_deadline(Instant::now() + Duration::from_millis(10))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, LockError> {
        self.take(false, Deadline::at(deadline))
    }

    /// Takes the lock also when it is poisoned, clears the mark, and tells:
    /// [`LockGuard::recovered_from`] says who died. Waits as long as it takes.
    ///
    /// If this process dies before it releases the lock, the lock is poisoned again.
    ///
    /// # Errors
    /// [`LockError::Deadlock`] and [`LockError::Unusable`], as [`lock`](Lock::lock).
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
    /// // ... put right what the lock guards ...
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_or_recover(&self) -> Result<LockGuard<'_>, LockError> {
        self.take(true, Deadline::NEVER)
    }

    #[cfg(feature = "internals")]
    pub(crate) fn word(&self) -> u64 {
        self.body().raw.load()
    }

    #[cfg(feature = "internals")]
    pub(crate) fn raw(&self) -> *const crate::sync::raw::lock::RawLock {
        &raw const self.body().raw
    }

    /// As [`lock_or_recover`](Lock::lock_or_recover), if nobody holds the lock.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when somebody holds it; otherwise as `lock_or_recover`.
    ///
    /// ```
    /// let lock = procession::Lock::new()?;
    /// lock.lock()?.poison();
    /// assert!(lock.try_lock_or_recover()?.recovered_from().is_some());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_lock_or_recover(&self) -> Result<LockGuard<'_>, LockError> {
        self.take(true, Deadline::after(Duration::ZERO)).map_err(LockError::at_once)
    }

    /// As [`lock_or_recover`](Lock::lock_or_recover), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when somebody held it all the time; otherwise as `lock_or_recover`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock_or_recover_timeout(Duration::from_millis(10))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_or_recover_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError> {
        self.take(true, Deadline::after(timeout))
    }

    /// As [`lock_or_recover`](Lock::lock_or_recover), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`lock_or_recover_timeout`](Lock::lock_or_recover_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock_or_recover_deadline(Instant::now() + Duration::from_millis(10))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_or_recover_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, LockError> {
        self.take(true, Deadline::at(deadline))
    }

    fn take(&self, recover: bool, deadline: Deadline) -> Result<LockGuard<'_>, LockError> {
        let state = acquire::acquire_slow(self.body(), recover, deadline).map_err(|error| *error)?;
        Ok(LockGuard::new(self.body(), state))
    }
}

impl fmt::Debug for Lock {
    /// Tells the holder's process and how many wait; a snapshot.
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
