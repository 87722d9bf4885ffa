//! [`Latch`]: a gate that opens when its count reaches 0.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::raw::event::notify;
use super::wait::{self, WaitError, travels};
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::{Body, Kind};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// A latch in shared memory.
#[repr(C)]
struct LatchBody {
    left: AtomicU32,
    events: AtomicU32,
}

// SAFETY: all fields are atomics, and all zeros are an open latch.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for LatchBody {
    const KIND: Kind = Kind::Latch;
}

/// A gate that opens for good when its count reaches 0.
///
/// ```
/// use procession::{Process, sync::Latch};
///
/// let ready = Latch::new(3)?;
/// for _ in 0..3 {
///     Process::spawn(|ready: Latch| ready.count_down(), (ready.clone(),))?;
/// }
/// ready.wait()?;
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// While it **waits**: the other processes are not affected. While it **counts down**: the count either
/// happens or does not. If it opens the latch, every waiter is woken. A process that dies *before* it counts
/// down leaves the latch waiting for a count that never comes. So join the processes too, wait with a
/// timeout, or use a [`Barrier`](super::Barrier), which such a death breaks.
#[derive(Clone)]
pub struct Latch {
    handle: Handle,
}

impl Latch {
    /// Creates a latch that opens after `count` counts. With 0, the latch is open from the beginning.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// assert!(!procession::sync::Latch::new(3)?.is_open());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(count: u32) -> Result<Latch> {
        let fill = |object: &crate::arena::objects::Object| {
            object.body::<LatchBody>().left.store(count, Ordering::Relaxed);
        };
        Latch::of(Handle::create::<LatchBody>(fill)?)
    }

    fn of(handle: Handle) -> Result<Latch> {
        Ok(Latch { handle })
    }

    fn body(&self) -> &'static LatchBody {
        self.handle.body()
    }

    /// Counts down by one. The last count opens the latch and wakes every waiter. Never waits.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the latch is already open. This means that the program counts down too
    /// often.
    ///
    /// ```
    /// let latch = procession::sync::Latch::new(1)?;
    /// latch.count_down()?;
    /// assert!(latch.count_down().is_err()); // once too often
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn count_down(&self) -> Result<()> {
        member::arena()?;
        let body = self.body();
        // CRASH: the count is one store. If we die between this store and the wake, the death sweep wakes the
        // sleepers.
        let counted = body.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match counted {
            Ok(1) => notify(&body.events, i32::MAX),
            Ok(_) => {}
            Err(_) => {
                return Err(Error::InvalidArgument(
                    "the latch is already open; it was counted down more often than its count".into(),
                ));
            }
        }
        Ok(())
    }

    /// Returns how many counts are left until the latch opens. The answer may be out of date when this
    /// returns.
    ///
    /// ```
    /// assert_eq!(procession::sync::Latch::new(3)?.count(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn count(&self) -> u32 {
        self.body().left.load(Ordering::Acquire)
    }

    /// Returns whether the latch is open. An open latch stays open.
    ///
    /// ```
    /// assert!(procession::sync::Latch::new(0)?.is_open());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_open(&self) -> bool {
        self.count() == 0
    }

    /// Waits without a limit until the latch opens.
    ///
    /// # Errors
    /// [`WaitError::Unusable`] in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// procession::sync::Latch::new(0)?.wait()?; // open from the beginning
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait(&self) -> Result<(), WaitError> {
        self.until(Deadline::NEVER)
    }

    /// Returns `Ok` if the latch is open. Does not wait.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] if the latch is closed. Otherwise, the errors of [`wait`](Latch::wait).
    ///
    /// ```
    /// use procession::sync::{Latch, WaitError};
    /// assert_eq!(Latch::new(1)?.try_wait(), Err(WaitError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_wait(&self) -> Result<(), WaitError> {
        self.until(Deadline::after(Duration::ZERO)).map_err(WaitError::at_once)
    }

    /// Waits for at most `timeout` until the latch opens.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the latch did not open in time. Otherwise, the errors of [`wait`](Latch::wait).
    ///
    /// ```
    /// use procession::sync::{Latch, WaitError};
    /// assert_eq!(Latch::new(1)?.wait_timeout(std::time::Duration::from_millis(10)), Err(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.until(Deadline::after(timeout))
    }

    /// Waits until the latch opens, or until `deadline`.
    ///
    /// # Errors
    /// The errors of [`wait_timeout`](Latch::wait_timeout).
    ///
    /// ```
    /// use procession::sync::{Latch, WaitError};
    /// assert_eq!(Latch::new(1)?.wait_deadline(std::time::Instant::now()), Err(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.until(Deadline::at(deadline))
    }

    fn until(&self, deadline: Deadline) -> Result<(), WaitError> {
        let body = self.body();
        wait::until(&body.events, deadline, || (body.left.load(Ordering::SeqCst) == 0).then_some(()))
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch").field("count", &self.count()).finish_non_exhaustive()
    }
}

travels!(Latch, Kind::Latch);
