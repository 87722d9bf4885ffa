//! [`Semaphore`]: a limited number of permits.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::permit::Permit;
use super::raw::lock::RawLock;
use super::raw::permits;
use super::raw::permits::{ABSENT, FREE, RESERVED};
use super::wait::{WaitError, travels, waiters};
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::arena::storage::LINE;
use crate::arena::thread::with_me;
use crate::arena::{member, storage};
use crate::os::clock::Deadline;
use crate::{Error, Result};

#[cfg(feature = "internals")]
use crate::arena::recover::{Dead, Found};

/// A semaphore in shared memory. Its permits are cells in blocks: see `permits.rs`.
#[repr(C)]
pub(crate) struct SemaphoreBody {
    /// Held while a block of cells is added. This lock is the first field because journals name it by the
    /// object's offset.
    pub(super) growing: RawLock,
    pub(super) events: AtomicU32,
    /// The thread for which the next permit is reserved: its record's id + 1, or 0 for none.
    pub(super) heir: AtomicU32,
    /// When a permit was last reserved.
    pub(super) reserved_at_ns: AtomicU64,
}

// SAFETY: all fields are atomics, the size is 32 bytes, and all zeros are a semaphore without cells.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for SemaphoreBody {
    const KIND: Kind = Kind::Semaphore;
}

/// A number of permits. Each permit is held by at most one process at a time.
///
/// ```
/// use procession::sync::Semaphore;
///
/// let printers = Semaphore::new(2)?;
/// {
///     let _permit = printers.acquire()?;
///     // at most two are in here, in all processes together
/// } // the permit is returned here
/// # Ok::<(), procession::Error>(())
/// ```
///
/// A [`Permit`] belongs to the process, so another thread of the process can drop it. An [`OwnedPermit`](super::OwnedPermit)
/// does not borrow the semaphore, so a struct can keep it. A semaphore also works as a
/// counter of items. The producer calls [`add_permits`](Semaphore::add_permits). The consumer acquires a permit and
/// [forgets](Permit::forget) it.
///
/// # If a process dies
///
/// The permits that it **held**, including leaked ones, are free again, and waiters are woken. While it
/// **waits**: the other processes are not affected. [Forgotten](Permit::forget) permits belong to no process
/// and do not come back. If the process dies while it **adds** permits, some may have been added and others
/// not.
///
/// # Fairness
///
/// A free permit goes to the first thread that asks. If a thread has waited for a millisecond, the next permit that
/// is returned is reserved for it. There is at most one such reservation per millisecond.
///
/// # If a process is stopped
///
/// A stopped process keeps the permits that it **holds** until it continues. While it **waits**: the other
/// processes can acquire the permits. A permit that was reserved for a stopped waiter is free for them after
/// 10 ms.
pub struct Semaphore {
    pub(super) handle: Handle,
    pub(super) first: &'static [AtomicU32],
    pub(super) more: [OnceLock<&'static [AtomicU32]>; 2],
    /// The index of the cell that this handle last claimed or returned.
    pub(super) hint: AtomicU32,
}

impl Semaphore {
    /// The maximum number of permits of a semaphore.
    pub const MAX_PERMITS: u32 = 1 << 22;

    /// Creates a semaphore with this number of free permits. With 0 permits, waiters wait until a process
    /// [adds](Semaphore::add_permits) some.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS). Also fails if the shared
    /// memory is full or cannot be created.
    ///
    /// ```
    /// use procession::sync::Semaphore;
    /// assert_eq!(Semaphore::new(3)?.available_permits(), 3);
    /// assert!(Semaphore::new(u32::MAX).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(permits: u32) -> Result<Semaphore> {
        if permits > Semaphore::MAX_PERMITS {
            return Err(too_many(permits.into()));
        }
        let room = permits::make(member::arena()?, permits, permits.max(permits::SMALLEST))?;
        Semaphore::of(storage::create::<SemaphoreBody>([room], |_| {})?)
    }

    fn of(handle: Handle) -> Result<Semaphore> {
        let arena = member::arena()?;
        let first = permits::chunk(arena, handle.object(), handle.id().index(), 0);
        let first = first.ok_or_else(|| {
            Error::StaleHandle("the semaphore's memory is damaged: its permits were not found".into())
        })?;
        // Each process starts its search at a different cell.
        let hint = member::slot().wrapping_mul(16) % first.len() as u32;
        Ok(Semaphore { handle, first, more: Default::default(), hint: hint.into() })
    }

    #[cfg(feature = "internals")]
    pub(crate) fn heir(&self) -> u32 {
        self.body().heir.load(Ordering::SeqCst)
    }

    #[cfg(feature = "internals")]
    pub(crate) fn return_permits_of(&self, slot: u32) {
        if let Some(arena) = member::mapped() {
            let found = Found { index: self.handle.id().index(), object: self.handle.object() };
            permits::return_permits(&Dead { arena, slot, how: None, returned: false }, &found);
        }
    }

    pub(super) fn body(&self) -> &'static SemaphoreBody {
        self.handle.body()
    }

    /// Acquires a permit. Waits for one without a limit.
    ///
    /// # Errors
    /// [`WaitError::Unusable`] in a process that was created by a plain `fork()`. [`WaitError::Full`] if the shared
    /// memory is full. [`WaitError::MainEnded`] if main has ended and keeps every permit.
    ///
    /// ```
    /// let printers = procession::sync::Semaphore::new(2)?;
    /// let _permit = printers.acquire()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, WaitError> {
        match self.try_acquire_fast() {
            Some(cell) => Ok(Permit { semaphore: self, cell }),
            None => self.acquire_slow(Deadline::NEVER),
        }
    }

    /// Acquires a permit if one is free. Does not wait.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] if no permit is free. Otherwise, the errors of [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// use procession::sync::{Semaphore, WaitError};
    /// let one = Semaphore::new(1)?;
    /// let permit = one.try_acquire()?;
    /// assert_eq!(one.try_acquire().err(), Some(WaitError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_acquire(&self) -> Result<Permit<'_>, WaitError> {
        self.acquire_slow(Deadline::after(Duration::ZERO)).map_err(WaitError::at_once)
    }

    /// Acquires a permit. Waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if no permit became free. Otherwise, the errors of [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// use procession::sync::{Semaphore, WaitError};
    /// assert_eq!(Semaphore::new(0)?.acquire_timeout(std::time::Duration::from_millis(10)).err(), Some(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.acquire_slow(Deadline::after(timeout))
    }

    /// Acquires a permit. Waits for one until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// ```
    /// use procession::sync::{Semaphore, WaitError};
    /// assert_eq!(Semaphore::new(0)?.acquire_deadline(std::time::Instant::now()).err(), Some(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.acquire_slow(Deadline::at(deadline))
    }

    /// Returns how many permits are free. The answer may be out of date when this returns.
    ///
    /// ```
    /// assert_eq!(procession::sync::Semaphore::new(3)?.available_permits(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn available_permits(&self) -> usize {
        self.cells().filter(|cell| matches!(cell.load(Ordering::Relaxed), FREE | RESERVED)).count()
    }

    /// Adds free permits. This is the counterpart of [`Permit::forget`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the semaphore would have more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS)
    /// permits. [`Error::Full`] if the shared memory is full.
    ///
    /// ```
    /// use procession::sync::Semaphore;
    /// let things = Semaphore::new(0)?;
    /// things.add_permits(1)?;
    /// things.acquire()?.forget();
    /// assert_eq!(things.available_permits(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn add_permits(&self, permits: u32) -> Result<()> {
        let arena = member::arena()?;
        let there = self.cells().filter(|cell| cell.load(Ordering::Relaxed) != ABSENT).count();
        let all = there as u64 + u64::from(permits);
        if all > u64::from(Semaphore::MAX_PERMITS) {
            return Err(too_many(all));
        }
        // Makes room first. So if the shared memory is full, the call fails before it adds any permit.
        while self.cells().filter(|cell| cell.load(Ordering::Relaxed) == ABSENT).count() < permits as usize {
            self.grow(arena)?;
        }
        let mut left = permits;
        while left != 0 {
            left = self.add_to_cells(left);
            if left != 0 {
                self.grow(arena)?; // other processes used the room first
            }
        }
        Ok(())
    }

    #[inline]
    fn try_acquire_fast(&self) -> Option<&'static AtomicU32> {
        let cell = self.first.get(self.hint.load(Ordering::Relaxed) as usize)?;
        (!member::is_forked() && permits::claim(cell, FREE, member::slot())).then_some(cell)
    }

    #[cold]
    fn acquire_slow(&self, deadline: Deadline) -> Result<Permit<'_>, WaitError> {
        let arena = member::arena().map_err(|e| WaitError::unusable(&e))?;
        let cell = match self.claim_any(0) {
            Some(cell) => cell,
            None => with_me(|me| self.wait_for_permit(arena, me, deadline))
                .map_err(|e| WaitError::unusable(&e))??,
        };
        Ok(Permit { semaphore: self, cell })
    }
}

fn too_many(permits: u64) -> Error {
    let most = Semaphore::MAX_PERMITS;
    Error::InvalidArgument(format!("a semaphore can have at most {most} permits, not {permits}"))
}

impl Clone for Semaphore {
    fn clone(&self) -> Semaphore {
        let hint = AtomicU32::new(self.hint.load(Ordering::Relaxed));
        Semaphore { handle: self.handle.clone(), first: self.first, more: self.more.clone(), hint }
    }
}

impl fmt::Debug for Semaphore {
    /// Shows how many permits are free and how many threads wait. The values may already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Semaphore");
        out.field("available", &self.available_permits()).field("waiters", &waiters(&self.body().events));
        out.finish_non_exhaustive()
    }
}

travels!(Semaphore, Kind::Semaphore);

const _: () = assert!(LINE == 64);
