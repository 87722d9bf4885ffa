//! [`Event`]: a flag that threads wait for.

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

/// Bit 0: the event is set. The higher bits count how often it was set.
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

// SAFETY: all fields are atomics, and all zeros are an event that is not set.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for EventBody {
    const KIND: Kind = Kind::Event;
}

/// A flag that any process or thread can set, clear and wait for.
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
/// Setting the event releases every thread that waits, even if another thread clears the event immediately.
///
/// # If a process dies
///
/// While it **waits**: the other processes are not affected, and `set` never waits. While it **sets** or
/// **clears** the event: the change either happens completely or does not happen. If it happens, every waiter
/// is woken. The event keeps its state.
#[derive(Clone)]
pub struct Event {
    handle: Handle,
}

impl Event {
    /// Creates an event that is not set.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
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

    /// Sets the event and wakes every waiter. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a process that was created by a plain `fork()`.
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
        // ORDERING: SeqCst, so that the store comes before `notify` looks for sleepers: see `raw/event.rs`.
        // CRASH: if we die between this store and the wake, the death sweep wakes the sleepers.
        let _ = body.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, set);
        notify(&body.events, i32::MAX);
        Ok(())
    }

    /// Clears the event. Later calls of `wait` wait until it is set again. Never waits.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a process that was created by a plain `fork()`.
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

    /// Returns whether the event is set. The answer may be out of date when this returns.
    ///
    /// ```
    /// let event = procession::sync::Event::new()?;
    /// event.set()?;
    /// assert!(event.is_set());
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn is_set(&self) -> bool {
        // ORDERING: Acquire pairs with the store in `set`, so we see everything that the setting process
        // wrote before that store.
        self.body().state.load(Ordering::Acquire) & SET != 0
    }

    /// Waits without a limit until the event is set.
    ///
    /// # Errors
    /// [`WaitError::Unusable`] in a process that was created by a plain `fork()`.
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

    /// Returns `Ok` if the event is set. Does not wait.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] if the event is not set. Otherwise, the errors of [`wait`](Event::wait).
    ///
    /// ```
    /// use procession::sync::{Event, WaitError};
    /// assert_eq!(Event::new()?.try_wait(), Err(WaitError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_wait(&self) -> Result<(), WaitError> {
        self.until(Deadline::after(Duration::ZERO)).map_err(WaitError::at_once)
    }

    /// Waits for at most `timeout` until the event is set.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the event was not set in time. Otherwise, the errors of [`wait`](Event::wait).
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

    /// Waits until the event is set, or until `deadline`.
    ///
    /// # Errors
    /// The errors of [`wait_timeout`](Event::wait_timeout).
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
    /// Shows whether the event is set and how many threads wait. The values may already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Event");
        out.field("set", &self.is_set()).field("waiters", &wait::waiters(&self.body().events));
        out.finish_non_exhaustive()
    }
}

travels!(Event, Kind::Event);
