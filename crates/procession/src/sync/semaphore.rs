//! [`Semaphore`]: a limited number of permits.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::raw::event::notify;
use super::raw::lock::{RESERVED_NS, RawLock};
use super::raw::park::Wait;
use super::raw::permits::{ABSENT, FREE, RESERVED};
use super::raw::{deadlock, event, permits};
use super::wait::{WaitError, travels, waiters};
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::arena::storage::LINE;
use crate::arena::thread::{Me, with_me};
use crate::arena::{Arena, member, storage};
use crate::os::clock::{Deadline, now_ns};
use crate::os::futex;
use crate::rules::Rule;
use crate::{Error, Result, rules};

#[cfg(feature = "internals")]
use crate::arena::recover::{Dead, Found};

/// The next permit is reserved for a waiter that has slept this long.
const STARVING_NS: u64 = 1_000_000;

/// A semaphore in shared memory. Its permits are cells in blocks: see `permits.rs`.
#[repr(C)]
pub(crate) struct SemaphoreBody {
    /// Held while a block of cells is added. It is the first field because journals name it by the object's offset.
    pub(super) growing: RawLock,
    pub(super) events: AtomicU32,
    /// The thread for which the next permit is reserved, as its record's id + 1. 0 for none.
    pub(super) heir: AtomicU32,
    /// When a permit was last reserved.
    reserved_at_ns: AtomicU64,
}

// SAFETY: all fields are atomics, the size is 32 bytes, and all zeros are a semaphore without cells.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for SemaphoreBody {
    const KIND: Kind = Kind::Semaphore;
}

/// A number of permits. One process holds each permit at a time.
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
/// The permits that it **held**, leaked ones too, are free again, and waiters are woken. While it **waits**: the
/// others are not affected. [Forgotten](Permit::forget) permits belong to no process and do not come back. If it dies
/// while it **adds** permits, some may have been added and others not.
///
/// # Fairness
///
/// A free permit goes to the first thread that asks. If a thread has waited for a millisecond, the next permit that
/// is returned is reserved for it. There is at most one such reservation per millisecond.
///
/// # If a process is stopped
///
/// It keeps the permits that it **holds** until it continues. While it **waits**: the others acquire the permits. A
/// permit that was reserved for a stopped waiter is free for the others after 10 ms.
pub struct Semaphore {
    handle: Handle,
    first: &'static [AtomicU32],
    more: [OnceLock<&'static [AtomicU32]>; 2],
    /// Where this handle last found or returned a free permit.
    hint: AtomicU32,
}

/// A permit of a [`Semaphore`]. Dropping it returns it.
///
/// ```
/// let semaphore = procession::sync::Semaphore::new(1)?;
/// let permit = semaphore.acquire()?;
/// assert_eq!(semaphore.available_permits(), 0);
/// drop(permit);
/// assert_eq!(semaphore.available_permits(), 1);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the permit returns it immediately"]
pub struct Permit<'a> {
    pub(super) semaphore: &'a Semaphore,
    pub(super) cell: &'static AtomicU32,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
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
            permits::let_go(&Dead { arena, slot, how: None, returned: false }, &found);
        }
    }

    fn body(&self) -> &'static SemaphoreBody {
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

    /// Returns how many permits are free. A snapshot.
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
        // Makes room first, so that a full memory refuses all permits rather than some.
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

    /// Adds at most `permits` permits in one pass over the cells. Returns how many are left to add.
    fn add_to_cells(&self, permits: u32) -> u32 {
        let mut left = permits;
        for cell in self.cells() {
            if left == 0 {
                break;
            }
            // CRASH: each permit is either added or not. If we die before the wake, the death sweep wakes the
            // waiters.
            if cell.load(Ordering::Relaxed) == ABSENT
                && cell.compare_exchange(ABSENT, FREE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                left -= 1;
                notify(&self.body().events, 1);
            }
        }
        left
    }

    /// Adds a block of cells, unless another process has added it.
    #[cold]
    fn grow(&self, arena: &'static Arena) -> Result<()> {
        let (object, index) = (self.handle.object(), self.handle.id().index());
        let seen = self.more.iter().filter(|chunk| chunk.get().is_some()).count();
        match self.body().growing.lock_slow(self.handle.hot_offset(), Deadline::NEVER)? {
            Ok(_guard) => permits::grow(arena, object, index, seen),
            Err(_) => Ok(()),
        }
    }

    /// Returns the cells of all blocks.
    fn cells(&self) -> impl Iterator<Item = &'static AtomicU32> {
        self.first.iter().chain(self.chunk(0)).chain(self.chunk(1))
    }

    fn chunk(&self, which: usize) -> &'static [AtomicU32] {
        if let Some(chunk) = self.more[which].get() {
            return chunk;
        }
        let (object, index) = (self.handle.object(), self.handle.id().index());
        let at = object.blocks[which + 1].load(Ordering::Acquire);
        match member::mapped().filter(|_| at != 0) {
            Some(arena) => match permits::chunk(arena, object, index, which + 1) {
                Some(chunk) => self.more[which].get_or_init(|| chunk),
                None => &[],
            },
            None => &[],
        }
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
            None => with_me(|me| self.wait(arena, me, deadline)).map_err(|e| WaitError::unusable(&e))??,
        };
        Ok(Permit { semaphore: self, cell })
    }

    fn wait(&self, arena: &Arena, me: &Me, deadline: Deadline) -> Result<&'static AtomicU32, WaitError> {
        let (body, id) = (self.body(), me.owner());
        let mut since_ns = 0;
        let leave = |taken: Option<&'static AtomicU32>| {
            self.leave_heirship(id);
            // A permit that was reserved for us alone may be free for everyone now.
            let taken = taken.or_else(|| self.claim_any(0));
            if taken.is_none() && self.any_reserved() {
                // We may have been the only thread awake that watches over a reservation.
                notify(&body.events, 1);
            }
            taken
        };
        loop {
            if let Some(cell) = self.claim_any(id) {
                return leave(Some(cell)).ok_or(WaitError::TimedOut);
            }
            if deadline.passed() {
                return leave(None).ok_or(WaitError::TimedOut);
            }
            let now = now_ns();
            if since_ns == 0 {
                since_ns = now;
            }
            let reserved_at = body.reserved_at_ns.load(Ordering::Relaxed);
            let passed_over = now.saturating_sub(since_ns.max(reserved_at)) >= STARVING_NS;
            if passed_over && rules::holds(Rule::HandedOn) {
                let _ = body.heir.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst);
            }
            // ORDERING: the wait is announced before we look again: see `wait::until`.
            let wait = Wait::announce_event(arena, me.record(), &body.events);
            let ticket = event::prepare(&body.events);
            if let Some(cell) = self.claim_any(id) {
                return leave(Some(cell)).ok_or(WaitError::TimedOut);
            }
            let main_is_due = deadlock::main_is_due(arena, since_ns);
            if main_is_due.is_some_and(|due| now >= due) && permits::are_all_mains(self.cells()) {
                return leave(None).ok_or(WaitError::MainEnded);
            }
            // Without an heir, wake up once to become it. From then on sleep on.
            let promised = body.heir.load(Ordering::SeqCst) != 0;
            let until = if promised { deadline } else { deadline.min_ns(now + STARVING_NS) };
            let watched = self.any_reserved() && rules::holds(Rule::HeirBypassed);
            let until = if watched { until.min_ns(self.reserved_until_ns()) } else { until };
            // Main may acquire the last permit later too: see `Watch::check` in `deadlock.rs`.
            let until = main_is_due
                .map_or(until, |due| until.min_ns(due.max(now + deadlock::MAIN_CHECK_INTERVAL_NS)));
            wait.sleep_as(&body.events, ticket, until, futex::class_of(id));
        }
    }

    /// Claims a permit that is free for the thread `id`. A reserved permit is free for the heir, or for everyone if
    /// there is no heir.
    fn claim_any(&self, id: u32) -> Option<&'static AtomicU32> {
        let slot = member::slot();
        let start = (self.hint.load(Ordering::Relaxed) as usize).min(self.first.len());
        let near = self.first[start..].iter().chain(&self.first[..start]);
        let found = near.chain(self.chunk(0)).chain(self.chunk(1)).find(|cell| {
            match cell.load(Ordering::SeqCst) {
                FREE => permits::claim(cell, FREE, slot),
                RESERVED => {
                    let heir = self.body().heir.load(Ordering::SeqCst);
                    // If a thread becomes the heir after this load, it is passed over once more.
                    let is_ours = heir == 0 || heir == id || self.bypass(heir);
                    is_ours && permits::claim(cell, RESERVED, slot)
                }
                _ => false,
            }
        })?;
        self.remember(found);
        Some(found)
    }

    /// Ends the reservation if the heir has not come in time; it may be stopped. Returns whether it did.
    #[cold]
    fn bypass(&self, heir: u32) -> bool {
        let late = rules::holds(Rule::HeirBypassed) && now_ns() >= self.reserved_until_ns();
        if late {
            self.leave_heirship(heir);
        }
        late
    }

    /// Returns when the last reservation ends.
    fn reserved_until_ns(&self) -> u64 {
        self.body().reserved_at_ns.load(Ordering::Relaxed).min(now_ns()) + RESERVED_NS
    }

    fn any_reserved(&self) -> bool {
        self.cells().any(|cell| cell.load(Ordering::SeqCst) == RESERVED)
    }

    /// Removes the thread as the heir. Permits that were reserved for it are free for everyone, so waiters are
    /// notified.
    fn leave_heirship(&self, id: u32) {
        let body = self.body();
        if body.heir.compare_exchange(id, 0, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        for cell in self.cells() {
            if cell.load(Ordering::SeqCst) == RESERVED {
                notify(&body.events, 1);
            }
        }
    }

    fn remember(&self, cell: &'static AtomicU32) {
        if let Some(index) = self.first.element_offset(cell) {
            self.hint.store(index as u32, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn return_permit(&self, cell: &'static AtomicU32) {
        let body = self.body();
        self.remember(cell);
        if body.heir.load(Ordering::SeqCst) != 0 {
            return self.reserve_for_heir(cell);
        }
        // ORDERING: SeqCst, so that the store comes before `notify` looks for sleepers.
        // CRASH: until this store recovery returns our permit. Between the store and the wake the death sweep wakes
        // the waiters.
        cell.swap(FREE, Ordering::SeqCst);
        notify(&body.events, 1);
    }

    #[cold]
    fn reserve_for_heir(&self, cell: &'static AtomicU32) {
        let body = self.body();
        body.reserved_at_ns.store(now_ns(), Ordering::Relaxed);
        cell.swap(RESERVED, Ordering::SeqCst);
        // ORDERING: a leaving heir removes itself before it looks for reserved permits. Either it sees this permit,
        // or we see that it has left.
        match body.heir.load(Ordering::SeqCst) {
            0 => notify(&body.events, 1),
            heir => {
                event::Word::count(&body.events);
                let woken = futex::wake_class(&body.events, futex::class_of(heir));
                // A stopped thread does not sleep on a futex, so this wake did not reach it. Another waiter watches
                // until the reservation ends.
                if woken == 0 && rules::holds(Rule::HeirWatched) {
                    futex::wake(&body.events, 1);
                }
            }
        }
    }
}

fn too_many(permits: u64) -> Error {
    let most = Semaphore::MAX_PERMITS;
    Error::InvalidArgument(format!("a semaphore can have at most {most} permits, not {permits}"))
}

impl Permit<'_> {
    /// Removes the permit from the semaphore for good. It does not come back when the process ends.
    /// [`Semaphore::add_permits`] adds another one.
    ///
    /// ```
    /// let semaphore = procession::sync::Semaphore::new(2)?;
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn forget(self) {
        // CRASH: before this store the permit comes back. After it the permit is gone.
        self.cell.store(ABSENT, Ordering::SeqCst);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.return_permit(self.cell);
    }
}

impl Clone for Semaphore {
    fn clone(&self) -> Semaphore {
        let hint = AtomicU32::new(self.hint.load(Ordering::Relaxed));
        Semaphore { handle: self.handle.clone(), first: self.first, more: self.more.clone(), hint }
    }
}

impl fmt::Debug for Semaphore {
    /// Shows how many permits are free and how many threads wait. A snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Semaphore");
        out.field("available", &self.available_permits()).field("waiters", &waiters(&self.body().events));
        out.finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

travels!(Semaphore, Kind::Semaphore);

const _: () = assert!(LINE == 64);
