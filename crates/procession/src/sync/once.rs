//! [`Once`]: what is done once, by whoever comes first.

use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::error::{LockError, OwnerDied};
use super::guard_state::GuardState;
use super::raw::deadlock::LOOK_AT_MAIN_NS;
use super::raw::event::{GONE, notify};
use super::raw::lock_body::{LockBody, OnceBody};
use super::raw::word::POISONED;
use super::raw::{deadlock, word};
use super::wait::{WaitError, travels};
use super::{acquire, wait};
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::Kind;
use crate::arena::{Arena, member};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;

/// Something to be done once in the whole family.
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
/// While it **does** it: it is not done, and perhaps half-done. Whoever waits or comes gets
/// [`LockError::OwnerDied`], until somebody begins anew with
/// [`call_once_or_recover`](Once::call_once_or_recover), which is told. A panic inside does the same. While it
/// **waits**: nobody notices.
#[derive(Clone)]
pub struct Once {
    handle: Handle,
}

impl Once {
    /// Makes one for something that is not done yet.
    ///
    /// # Errors
    /// When the shared memory is full or cannot be had.
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

    fn body(&self) -> &'static LockBody {
        self.handle.body()
    }

    /// Whether it is done. A snapshot.
    ///
    /// ```
    /// let once = procession::sync::Once::new()?;
    /// once.call_once(|| ())?;
    /// assert!(once.is_completed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        // ORDERING: Acquire pairs with the store in `call`: what was done is seen.
        self.body().extra.load(Ordering::Acquire) & GONE != 0
    }

    /// Calls `f`, unless it is done; if somebody is doing it, waits for that as long as it takes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`], [`LockError::Panicked`]: somebody began, and did not come to the end.
    /// [`LockError::Deadlock`]: `f` itself calls this.
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

    /// As [`call_once`](Once::call_once), but does not wait for who is doing it.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when somebody is doing it; otherwise as [`call_once`](Once::call_once).
    ///
    /// ```
    /// procession::sync::Once::new()?.try_call_once(|| println!("done"))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_call_once(&self, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::after(Duration::ZERO), |_| f()).map_err(LockError::at_once)
    }

    /// As [`call_once`](Once::call_once), but waits for who is doing it at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`]; otherwise as [`call_once`](Once::call_once).
    ///
    /// ```
    /// procession::sync::Once::new()?.call_once_timeout(std::time::Duration::from_millis(10), || println!("done"))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::after(timeout), |_| f())
    }

    /// As [`call_once_timeout`](Once::call_once_timeout), until `deadline`.
    ///
    /// # Errors
    /// As [`call_once_timeout`](Once::call_once_timeout).
    ///
    /// ```
    /// procession::sync::Once::new()?.call_once_deadline(std::time::Instant::now(), || println!("done"))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn call_once_deadline(&self, deadline: Instant, f: impl FnOnce()) -> Result<(), LockError> {
        self.call(false, Deadline::at(deadline), |_| f())
    }

    /// As [`call_once`](Once::call_once), also after somebody began and died or panicked: `f` is told who.
    ///
    /// # Errors
    /// [`LockError::Deadlock`]: `f` itself calls this.
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

    /// As [`call_once_or_recover`](Once::call_once_or_recover), but does not wait for who is doing it.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when somebody is doing it; otherwise as `call_once_or_recover`.
    ///
    /// ```
    /// let once = procession::sync::Once::new()?;
    /// once.try_call_once_or_recover(|died| assert!(died.is_none()))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_call_once_or_recover(&self, f: impl FnOnce(Option<&OwnerDied>)) -> Result<(), LockError> {
        self.call(true, Deadline::after(Duration::ZERO), f).map_err(LockError::at_once)
    }

    /// As [`call_once_or_recover`](Once::call_once_or_recover), but waits for who is doing it at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`]; otherwise as `call_once_or_recover`.
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

    /// As [`call_once_or_recover_timeout`](Once::call_once_or_recover_timeout), until `deadline`.
    ///
    /// # Errors
    /// As [`call_once_or_recover_timeout`](Once::call_once_or_recover_timeout).
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

    /// Waits until somebody has done it, as long as it takes. Does nothing itself.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`], [`LockError::Panicked`]: somebody began, and did not come to the end.
    /// [`LockError::Unusable`] in a plain fork of a member of the family.
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

    /// Whether it is done, as a result.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when it is not; otherwise as [`wait`](Once::wait).
    ///
    /// ```
    /// use procession::sync::{LockError, Once};
    /// assert_eq!(Once::new()?.try_wait(), Err(LockError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_wait(&self) -> Result<(), LockError> {
        self.until(Deadline::after(Duration::ZERO)).map_err(LockError::at_once)
    }

    /// Waits until it is done, at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when it was not; otherwise as [`wait`](Once::wait).
    ///
    /// ```
    /// use procession::sync::{LockError, Once};
    /// assert_eq!(Once::new()?.wait_timeout(std::time::Duration::from_millis(10)), Err(LockError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), LockError> {
        self.until(Deadline::after(timeout))
    }

    /// Waits until it is done, at most until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Once::wait_timeout).
    ///
    /// ```
    /// use procession::sync::{LockError, Once};
    /// assert_eq!(Once::new()?.wait_deadline(std::time::Instant::now()), Err(LockError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), LockError> {
        self.until(Deadline::at(deadline))
    }

    fn until(&self, deadline: Deadline) -> Result<(), LockError> {
        let arena = member::arena().map_err(|e| LockError::unusable(&e))?;
        let (body, began_ns) = (self.body(), now_ns());
        let main_is_due = || deadlock::main_is_due(arena, began_ns);
        loop {
            let due = main_is_due();
            let settled = || match self.outcome(arena) {
                // Main has ended since, and woke us so that we look again in time.
                None | Some(Err(LockError::MainEnded { .. })) if due.is_none() && main_is_due().is_some() => {
                    Some(None)
                }
                Some(Err(LockError::MainEnded { .. })) if due.is_none_or(|due| now_ns() < due) => None,
                outcome => outcome.map(Some),
            };
            let until = due.map_or(deadline, |due| deadline.min_ns(due.max(now_ns() + LOOK_AT_MAIN_NS)));
            match wait::until(&body.extra, until, settled) {
                Ok(Some(outcome)) => return outcome,
                Err(WaitError::Unusable(why)) => return Err(LockError::Unusable(why)),
                Err(_) if deadline.passed() => return Err(LockError::TimedOut),
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// What has come of it: it is done, it failed, or main is doing it. `None` otherwise.
    fn outcome(&self, arena: &Arena) -> Option<Result<(), LockError>> {
        let body = self.body();
        // ORDERING: Acquire, before the look whether it is done: who does it and dies right after leaves a mark
        // behind the store that says so.
        let now = body.raw.load();
        if self.is_completed() {
            return Some(Ok(()));
        }
        match word::owner(now) {
            0 => (now & POISONED != 0).then(|| Err(acquire::poison_error(body))),
            owner => deadlock::kept_by_main(arena, owner - 1).map(Err),
        }
    }

    fn call(
        &self,
        recover: bool,
        deadline: Deadline,
        f: impl FnOnce(Option<&OwnerDied>),
    ) -> Result<(), LockError> {
        member::arena().map_err(|e| LockError::unusable(&e))?;
        if self.is_completed() {
            return Ok(());
        }
        let body = self.body();
        let state = match acquire::acquire_slow(body, recover, deadline) {
            // It may have been done by the very one whose news these are.
            Err(_) if self.is_completed() => return Ok(()),
            taken => taken.map_err(|error| *error)?,
        };
        let held = Held { body, state };
        if self.is_completed() {
            return Ok(());
        }
        f(held.state.recovered_from());
        // CRASH: until this store it is not done, and the lock is poisoned by our death; from it on it is
        // done, whatever the lock says. The death sweep wakes who sleeps.
        body.extra.fetch_or(GONE, Ordering::SeqCst);
        futex::wake_all(&body.extra);
        Ok(())
    }
}

/// Held while it is done: a panic lets go, and marks.
struct Held {
    body: &'static LockBody,
    state: GuardState,
}

impl Drop for Held {
    fn drop(&mut self) {
        acquire::release(self.body, &mut self.state);
        if self.body.extra.load(Ordering::Relaxed) & GONE == 0 && !member::is_forked() {
            // Whoever waits until it is done is told that it failed.
            // ORDERING: the mark comes before the look for sleepers: see `raw/event.rs`.
            // CRASH: between the mark and this the death sweep wakes who sleeps.
            fence(Ordering::SeqCst);
            notify(&self.body.extra, i32::MAX);
        }
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("completed", &self.is_completed()).finish_non_exhaustive()
    }
}

travels!(Once, Kind::Once);
