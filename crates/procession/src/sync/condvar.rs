//! [`Condvar`]: waiting for a condition on data that a lock guards.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::condvar_guard::Guard;
use super::error::LockError;
use super::raw::event;
use super::wait::{travels, waiters};
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::{Body, Kind};
use crate::os::clock::Deadline;

/// A condition variable in shared memory: it counts notifications.
#[repr(C)]
struct CondvarBody {
    events: AtomicU32,
}

// SAFETY: the field is an atomic, and every value is a count.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for CondvarBody {
    const KIND: Kind = Kind::Condvar;
}

/// A condition variable: threads wait for a condition on data that a [`Lock`](super::Lock) or a
/// [`Mutex`](super::Mutex) guards.
///
/// ```
/// use procession::{Process, sync::{Condvar, Mutex}};
///
/// let (count, changed) = (Mutex::new(0u32)?, Condvar::new()?);
/// Process::spawn(|count: Mutex<u32>, changed: Condvar| -> procession::Result<()> {
///     *count.lock()? = 3;
///     changed.notify_all()
/// }, (count.clone(), changed.clone()))?;
///
/// let count = changed.wait_while(count.lock()?, |count| **count < 3)?;
/// assert_eq!(*count, 3);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// If a guard recovered a poisoned lock, its `recovered_from()` still returns the dead process after a wait.
///
/// A wait may end without a notification. So check the condition again, or use
/// [`wait_while`](Condvar::wait_while). An [`RLock`](super::RLock) cannot be used, because the thread's other
/// guards would keep the lock held during the wait.
///
/// # If a process dies
///
/// While it **waits**: the other processes are not affected, and `notify_one` and `notify_all` never wait. If
/// a process dies just after it was **woken**, or after it changed the data and before it **notified**, every
/// waiter is woken to check the condition. If a process dies while it **holds the lock**, the waits fail with
/// [`LockError::OwnerDied`]. The lock is not held then, and [`lock_or_recover`](super::Lock::lock_or_recover)
/// acquires it.
///
/// # If a process is stopped
///
/// `notify_one` wakes a waiter that can run. It passes over a waiter that was stopped while it slept. If a
/// process is stopped after a notification woke it but before it ran, that notification is used up.
#[derive(Clone)]
pub struct Condvar {
    handle: Handle,
}

/// The result of a wait with a timeout. It says whether the timeout ended the wait.
///
/// ```
/// let (lock, condvar) = (procession::Lock::new()?, procession::sync::Condvar::new()?);
/// let (held, waited) = condvar.wait_timeout(lock.lock()?, std::time::Duration::from_millis(10))?;
/// assert!(waited.timed_out());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(pub(super) bool);

impl WaitTimeoutResult {
    /// Returns whether the timeout expired before a notification came.
    ///
    /// ```
    /// use procession::sync::{Condvar, Mutex};
    /// let (count, changed) = (Mutex::new(1u32)?, Condvar::new()?);
    /// let (count, waited) = changed.wait_timeout_while(count.lock()?, std::time::Duration::from_millis(10), |count| **count == 0)?;
    /// assert!(!waited.timed_out());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Creates a condition variable.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// let changed = procession::sync::Condvar::new()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Condvar> {
        Condvar::of(Handle::create::<CondvarBody>(|_| {})?)
    }

    fn of(handle: Handle) -> Result<Condvar> {
        Ok(Condvar { handle })
    }

    pub(crate) fn events(&self) -> &'static AtomicU32 {
        &self.handle.body::<CondvarBody>().events
    }

    /// Releases the lock, waits for a notification, and acquires the lock again. Neither of the two waits has
    /// a limit.
    ///
    /// # Errors
    /// The errors of `lock`, if the lock cannot be acquired again. Then the lock is not held.
    ///
    /// ```
    /// use procession::{Process, sync::{Condvar, Mutex}};
    /// let (ready, changed) = (Mutex::new(0u8)?, Condvar::new()?);
    /// let mut held = ready.lock()?;
    /// Process::spawn(|ready: Mutex<u8>, changed: Condvar| -> procession::Result<()> {
    ///     *ready.lock()? = 1;
    ///     changed.notify_one()
    /// }, (ready.clone(), changed.clone()))?;
    /// while *held == 0 {
    ///     held = changed.wait(held)?;
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait<G: Guard>(&self, guard: G) -> Result<G, LockError> {
        Ok(self.sleep(guard, Deadline::NEVER)?.0)
    }

    /// Waits like [`wait`](Condvar::wait), but waits for the notification for at most `timeout`. The wait to
    /// acquire the lock again has no limit.
    ///
    /// # Errors
    /// The errors of [`wait`](Condvar::wait).
    ///
    /// ```
    /// use procession::{Lock, sync::Condvar};
    /// let (lock, condvar) = (Lock::new()?, Condvar::new()?);
    /// let (held, waited) = condvar.wait_timeout(lock.lock()?, std::time::Duration::from_millis(1))?;
    /// assert!(waited.timed_out());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout<G: Guard>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, WaitTimeoutResult), LockError> {
        self.sleep(guard, Deadline::after(timeout))
    }

    /// Waits like [`wait_timeout`](Condvar::wait_timeout), until `deadline`.
    ///
    /// # Errors
    /// The errors of [`wait`](Condvar::wait).
    ///
    /// ```
    /// let (lock, condvar) = (procession::Lock::new()?, procession::sync::Condvar::new()?);
    /// let (held, waited) = condvar.wait_deadline(lock.lock()?, std::time::Instant::now())?;
    /// assert!(waited.timed_out());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline<G: Guard>(
        &self,
        guard: G,
        deadline: Instant,
    ) -> Result<(G, WaitTimeoutResult), LockError> {
        self.sleep(guard, Deadline::at(deadline))
    }

    /// Waits without a limit while `condition` returns true. Calls `condition` with the lock held.
    ///
    /// # Errors
    /// The errors of [`wait`](Condvar::wait).
    ///
    /// ```
    /// use procession::sync::{Condvar, Mutex};
    /// let (count, changed) = (Mutex::new(1u32)?, Condvar::new()?);
    /// let count = changed.wait_while(count.lock()?, |count| **count == 0)?; // it is not 0
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_while<G: Guard>(
        &self,
        guard: G,
        condition: impl FnMut(&mut G) -> bool,
    ) -> Result<G, LockError> {
        Ok(self.sleep_while(guard, Deadline::NEVER, condition)?.0)
    }

    /// Waits for at most `timeout` while `condition` returns true.
    /// [`timed_out`](WaitTimeoutResult::timed_out) of the result says whether `condition` was still true when
    /// the timeout expired.
    ///
    /// # Errors
    /// The errors of [`wait`](Condvar::wait).
    ///
    /// ```
    /// use procession::sync::{Condvar, Mutex};
    /// let (count, changed) = (Mutex::new(0u32)?, Condvar::new()?);
    /// let (count, waited) = changed.wait_timeout_while(count.lock()?, std::time::Duration::from_millis(10), |count| **count == 0)?;
    /// assert!(waited.timed_out());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout_while<G: Guard>(
        &self,
        guard: G,
        timeout: Duration,
        condition: impl FnMut(&mut G) -> bool,
    ) -> Result<(G, WaitTimeoutResult), LockError> {
        self.sleep_while(guard, Deadline::after(timeout), condition)
    }

    /// Waits like [`wait_timeout_while`](Condvar::wait_timeout_while), until `deadline`.
    ///
    /// # Errors
    /// The errors of [`wait`](Condvar::wait).
    ///
    /// ```
    /// use procession::sync::{Condvar, Mutex};
    /// let (count, changed) = (Mutex::new(0u32)?, Condvar::new()?);
    /// let (count, waited) = changed.wait_deadline_while(count.lock()?, std::time::Instant::now(), |count| **count == 0)?;
    /// assert!(waited.timed_out());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline_while<G: Guard>(
        &self,
        guard: G,
        deadline: Instant,
        condition: impl FnMut(&mut G) -> bool,
    ) -> Result<(G, WaitTimeoutResult), LockError> {
        self.sleep_while(guard, Deadline::at(deadline), condition)
    }

    /// Wakes one waiter, if there is one. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// procession::sync::Condvar::new()?.notify_one()?; // nobody waits
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn notify_one(&self) -> Result<()> {
        self.notify(1)
    }

    /// Wakes every waiter. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// procession::sync::Condvar::new()?.notify_all()?; // nobody waits
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn notify_all(&self) -> Result<()> {
        self.notify(i32::MAX)
    }

    fn notify(&self, count: i32) -> Result<()> {
        member::arena()?;
        // ORDERING: the caller may have changed the data without the lock. The fence orders that change
        // before our check for sleepers.
        std::sync::atomic::fence(Ordering::SeqCst);
        event::notify(self.events(), count);
        Ok(())
    }
}

impl fmt::Debug for Condvar {
    /// Shows how many threads wait. The number may already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").field("waiters", &waiters(self.events())).finish_non_exhaustive()
    }
}

travels!(Condvar, Kind::Condvar);
