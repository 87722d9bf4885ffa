//! [`Once`]: an initialization that runs once in the family.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::{LockError, OwnerDied};
use super::raw::event::GONE;
use super::raw::lock_body::{LockBody, OnceBody};
use super::wait::travels;
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::Kind;
use crate::os::clock::Deadline;

/// An initialization that runs once in the whole family.
///
/// ```
/// use procession::sync::Once;
///
/// let setup = Once::new()?;
/// setup.call_once(|| println!("only the first one prints this"))?;
/// setup.call_once(|| unreachable!())?;
/// assert!(setup.is_completed());
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// While it **runs** the initialization: the work counts as not done, and may be half-done. Waiters and later
/// callers get [`LockError::OwnerDied`] until a process runs the initialization again with
/// [`call_once_or_recover`](Once::call_once_or_recover). This method passes the dead process to its function.
/// A panic inside the function has the same effect. While it **waits**: the other processes are not affected.
#[derive(Clone)]
pub struct Once {
    handle: Handle,
}

impl Once {
    /// Creates a `Once` whose initialization has not run.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// assert!(!procession::sync::Once::new()?.is_completed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Once> {
        Once::of(Handle::create::<OnceBody>(|_| {})?)
    }

    fn of(handle: Handle) -> Result<Once> {
        Ok(Once { handle })
    }

    pub(super) fn body(&self) -> &'static LockBody {
        self.handle.body()
    }

    /// Returns whether the initialization is complete. `true` is final, but `false` may be out of date when
    /// this returns.
    ///
    /// ```
    /// let once = procession::sync::Once::new()?;
    /// once.call_once(|| ())?;
    /// assert!(once.is_completed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        // ORDERING: Acquire pairs with the store in `call`, so we see what the initialization wrote.
        self.body().extra.load(Ordering::Acquire) & GONE != 0
    }

    /// Calls `f`, unless the initialization is complete. If another thread is running the initialization,
    /// waits for that thread without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: an earlier call did not finish.
    /// * [`LockError::Deadlock`]: `f` itself calls this `Once`.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let (once, mut times) = (procession::sync::Once::new()?, 0);
    /// once.call_once(|| times += 1)?;
    /// once.call_once(|| times += 1)?;
    /// assert_eq!(times, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once(&self, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::NEVER, |_| f())
    }

    /// Calls `f` like [`call_once`](Once::call_once). Does not wait for another thread that runs the initialization.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] if another thread runs the initialization. Otherwise, the errors of
    /// [`call_once`](Once::call_once).
    ///
    /// ```
    /// procession::sync::Once::new()?.try_call_once(|| println!("done"))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_call_once(&self, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::after(Duration::ZERO), |_| f()).map_err(LockError::at_once)
    }

    /// Calls `f` like [`call_once`](Once::call_once). Waits for another thread for at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] if the other thread did not finish in time. Otherwise, the errors of
    /// [`call_once`](Once::call_once).
    ///
    /// ```
    /// procession::sync::Once::new()?.call_once_timeout(std::time::Duration::from_millis(10), || println!("done"))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::after(timeout), |_| f())
    }

    /// Calls `f` like [`call_once`](Once::call_once). Waits for another thread until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`call_once_timeout`](Once::call_once_timeout).
    ///
    /// ```
    /// procession::sync::Once::new()?.call_once_deadline(std::time::Instant::now(), || println!("done"))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_deadline(&self, deadline: Instant, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::at(deadline), |_| f())
    }

    /// Calls `f` like [`call_once`](Once::call_once), even if an earlier call died or panicked. `f` receives the
    /// process that died or panicked.
    ///
    /// # Errors
    /// [`LockError::Deadlock`] if `f` itself calls this `Once`. [`LockError::Unusable`] in a process that was
    /// created by a plain `fork()`.
    ///
    /// ```
    /// use procession::{Process, sync::Once};
    /// let once = Once::new()?;
    /// let p = Process::spawn(|once: Once| once.call_once(|| std::process::abort()), (once.clone(),))?;
    /// assert!(p.join().is_err());
    /// once.call_once_or_recover(|died| assert_eq!(died.map(|who| who.pid), p.pid()))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_or_recover(&self, f: impl FnOnce(Option<&OwnerDied>)) -> Result<(), LockError> {
        self.call(true, Deadline::NEVER, f)
    }

    /// Calls `f` like [`call_once_or_recover`](Once::call_once_or_recover). Does not wait for another thread that
    /// runs the initialization.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] if another thread runs the initialization. Otherwise, the errors of
    /// `call_once_or_recover`.
    ///
    /// ```
    /// let once = procession::sync::Once::new()?;
    /// once.try_call_once_or_recover(|died| assert!(died.is_none()))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_call_once_or_recover(&self, f: impl FnOnce(Option<&OwnerDied>)) -> Result<(), LockError> {
        self.call(true, Deadline::after(Duration::ZERO), f).map_err(LockError::at_once)
    }

    /// Calls `f` like [`call_once_or_recover`](Once::call_once_or_recover). Waits for another thread for at most
    /// `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] if the other thread did not finish in time. Otherwise, the errors of
    /// `call_once_or_recover`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let once = procession::sync::Once::new()?;
    /// once.call_once_or_recover_timeout(Duration::from_millis(10), |died| assert!(died.is_none()))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_or_recover_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce(Option<&OwnerDied>),
    ) -> Result<(), LockError> {
        self.call(true, Deadline::after(timeout), f)
    }

    /// Calls `f` like [`call_once_or_recover`](Once::call_once_or_recover). Waits for another thread until `deadline`
    /// at the latest.
    ///
    /// # Errors
    /// The errors of [`call_once_or_recover_timeout`](Once::call_once_or_recover_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let once = procession::sync::Once::new()?;
    /// once.call_once_or_recover_deadline(Instant::now() + Duration::from_millis(10), |_| ())?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_or_recover_deadline(
        &self,
        deadline: Instant,
        f: impl FnOnce(Option<&OwnerDied>),
    ) -> Result<(), LockError> {
        self.call(true, Deadline::at(deadline), f)
    }

    /// Waits without a limit until another thread has completed the initialization. Does not run it.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: an earlier call did not finish.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let once = procession::sync::Once::new()?;
    /// once.call_once(|| ())?;
    /// once.wait()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait(&self) -> Result<(), LockError> {
        self.until(Deadline::NEVER)
    }

    /// Returns `Ok` if the initialization is complete. Does not wait.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] if the initialization is not complete. Otherwise, the errors of
    /// [`wait`](Once::wait).
    ///
    /// ```
    /// use procession::sync::{LockError, Once};
    /// assert_eq!(Once::new()?.try_wait(), Err(LockError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_wait(&self) -> Result<(), LockError> {
        self.until(Deadline::after(Duration::ZERO)).map_err(LockError::at_once)
    }

    /// Waits for at most `timeout` until the initialization is complete.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] if the initialization was not completed in time. Otherwise, the errors of
    /// [`wait`](Once::wait).
    ///
    /// ```
    /// use procession::sync::{LockError, Once};
    /// assert_eq!(Once::new()?.wait_timeout(std::time::Duration::from_millis(10)), Err(LockError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), LockError> {
        self.until(Deadline::after(timeout))
    }

    /// Waits until the initialization is complete, or until `deadline`.
    ///
    /// # Errors
    /// The errors of [`wait_timeout`](Once::wait_timeout).
    ///
    /// ```
    /// use procession::sync::{LockError, Once};
    /// assert_eq!(Once::new()?.wait_deadline(std::time::Instant::now()), Err(LockError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), LockError> {
        self.until(Deadline::at(deadline))
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("completed", &self.is_completed()).finish_non_exhaustive()
    }
}

travels!(Once, Kind::Once);
