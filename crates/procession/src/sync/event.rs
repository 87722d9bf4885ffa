//! [`Event`]: something that has happened, or not yet.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::raw::event::notify;
use super::wait::{self, WaitError, travels};
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::{Body, Kind};
use crate::os::clock::Deadline;

/// Bit 0: it has happened. Above: how often it was set.
const SET: u64 = 1;

/// An event in shared memory.
///
/// | `state`   | meaning               | who moves it                 |
/// |-----------|-----------------------|------------------------------|
/// | `n, 0`    | not set               | anyone who sets → `n + 1, 1` |
/// | `n, 1`    | set, for the nth time | anyone who clears → `n, 0`   |
#[repr(C)]
struct EventBody {
    state: AtomicU64,
    events: AtomicU32,
}

// SAFETY: atomics only, and all zero is an event that has not happened.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for EventBody {
    const KIND: Kind = Kind::Event;
}

/// A flag that processes and threads can wait for, that is set and cleared by any of them.
///
/// ```
/// use procession::{Process, sync::Event};
///
/// let ready = Event::new()?;
/// Process::spawn(|ready: Event| ready.set(), (ready.clone(),))?;
/// ready.wait()?;
/// assert!(ready.is_set());
/// # Ok::<(), procession::Error>(())
/// ```
///
/// Everyone who waits when it is set goes on, also when it is cleared at once.
///
/// # If a process dies
///
/// While it **waits**: nobody notices, and `set` never waits for anybody. While it **sets** or **clears**:
/// it has or it has not; if it has, everyone who waits is woken. The event stays as it is.
#[derive(Clone)]
pub struct Event {
    handle: Handle,
}

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    /// When the shared memory is full or cannot be had.
    ///
    /// ```
    /// assert!(!procession::sync::Event::new()?.is_set());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Event> {
        Event::of(Handle::create::<EventBody>(|_| {})?)
    }

    fn of(handle: Handle) -> Result<Event> {
        Ok(Event { handle })
    }

    fn body(&self) -> &'static EventBody {
        self.handle.body()
    }

    /// Sets it: everyone who waits goes on. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a plain fork of a member of the family.
    ///
    /// ```
    /// let event = procession::sync::Event::new()?;
    /// event.set()?;
    /// event.wait()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set(&self) -> Result<()> {
        member::arena()?;
        let body = self.body();
        let set = |now: u64| (now & SET == 0).then(|| now.wrapping_add(2) | SET);
        // ORDERING: SeqCst, before `notify` looks for sleepers: see `raw/event.rs`.
        // CRASH: between this store and the wake the death sweep wakes who sleeps.
        let _ = body.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, set);
        notify(&body.events, i32::MAX);
        Ok(())
    }

    /// Clears it: who waits from now on waits until it is set again. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a plain fork of a member of the family.
    ///
    /// ```
    /// let event = procession::sync::Event::new()?;
    /// event.set()?;
    /// event.clear()?;
    /// assert!(!event.is_set());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        member::arena()?;
        self.body().state.fetch_and(!SET, Ordering::SeqCst);
        Ok(())
    }

    /// Whether it is set. A snapshot.
    ///
    /// ```
    /// let event = procession::sync::Event::new()?;
    /// event.set()?;
    /// assert!(event.is_set());
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn is_set(&self) -> bool {
        // ORDERING: Acquire pairs with `set`: what was written before it is seen.
        self.body().state.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set, as long as it takes.
    ///
    /// # Errors
    /// [`WaitError::Unusable`] in a plain fork of a member of the family.
    ///
    /// ```
    /// use procession::{Process, sync::Event};
    /// let ready = Event::new()?;
    /// Process::spawn(|ready: Event| ready.set(), (ready.clone(),))?;
    /// ready.wait()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait(&self) -> Result<(), WaitError> {
        self.until(Deadline::NEVER)
    }

    /// Whether it is set, as a result.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] when it is not; otherwise as [`wait`](Event::wait).
    ///
    /// ```
    /// use procession::sync::{Event, WaitError};
    /// assert_eq!(Event::new()?.try_wait(), Err(WaitError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_wait(&self) -> Result<(), WaitError> {
        self.until(Deadline::after(Duration::ZERO)).map_err(WaitError::at_once)
    }

    /// Waits until it is set, at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] when it was not; otherwise as [`wait`](Event::wait).
    ///
    /// ```
    /// use procession::sync::{Event, WaitError};
    /// let soon = std::time::Duration::from_millis(1);
    /// assert_eq!(Event::new()?.wait_timeout(soon), Err(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.until(Deadline::after(timeout))
    }

    /// Waits until it is set, at most until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Event::wait_timeout).
    ///
    /// ```
    /// use procession::sync::{Event, WaitError};
    /// assert_eq!(Event::new()?.wait_deadline(std::time::Instant::now()), Err(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.until(Deadline::at(deadline))
    }

    fn until(&self, deadline: Deadline) -> Result<(), WaitError> {
        let body = self.body();
        let before = body.state.load(Ordering::SeqCst);
        let happened = || {
            let now = body.state.load(Ordering::SeqCst);
            (now & SET != 0 || now >> 1 != before >> 1).then_some(())
        };
        wait::until(&body.events, deadline, happened)
    }
}

impl fmt::Debug for Event {
    /// Tells whether it is set, and how many wait; a snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Event");
        out.field("set", &self.is_set()).field("waiters", &wait::waiters(&self.body().events));
        out.finish_non_exhaustive()
    }
}

travels!(Event, Kind::Event);
