//! [`Semaphore`]: so many may be inside at once.

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

/// A waiter that has slept this long gets the next permit.
const PATIENCE_NS: u64 = 1_000_000;

/// A semaphore in shared memory; its permits are cells in blocks: see `permits.rs`.
#[repr(C)]
pub(crate) struct SemaphoreBody {
    /// Held while a block of cells is added. First, so that it lies where the journal says.
    pub(super) growing: RawLock,
    pub(super) events: AtomicU32,
    /// The thread that gets the next permit, by its record's id + 1; 0 for nobody.
    pub(super) heir: AtomicU32,
    /// When a permit was last reserved for an heir.
    handed_ns: AtomicU64,
}

// SAFETY: atomics only, 32 bytes, and all zero is a semaphore without cells.
#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
unsafe impl Body for SemaphoreBody {
    const KIND: Kind = Kind::Semaphore;
}

/// A number of permits, of which each can be held by one process at a time.
///
/// ```
/// use procession::sync::Semaphore;
///
/// let printers = Semaphore::new(2)?;
/// {
///     let _permit = printers.acquire()?;
///     // at most two are in here, in all processes together
/// } // given back here
/// # Ok::<(), procession::Error>(())
/// ```
///
/// A [`Permit`] belongs to the process, not to the thread: it may be given to another thread. To use it as
/// a counter of things, where one takes and another gives, [`forget`](Permit::forget) what was taken and
/// [`add_permits`](Semaphore::add_permits).
///
/// # If a process dies
///
/// The permits it **held** come back, also those that it leaked, and the next ones who wait get them. While
/// it **waits**: nobody notices. What was [forgotten](Permit::forget) belongs to nobody and does not come
/// back. If it dies while it **adds** permits, some may have been added and others not.
///
/// # Fairness
///
/// A free permit goes to whoever comes first. Who has waited for a millisecond gets the next one that is
/// given back (one such waiter each millisecond).
///
/// # If a process is stopped
///
/// The permits that it **holds** stay its own until it continues. While it **waits**: the others take the permits. A
/// permit that is given back for a stopped waiter comes to them 10 ms later.
pub struct Semaphore {
    handle: Handle,
    first: &'static [AtomicU32],
    more: [OnceLock<&'static [AtomicU32]>; 2],
    /// Where this handle last found or left a free permit.
    hint: AtomicU32,
}

/// A permit of a [`Semaphore`]. Dropping it gives it back.
///
/// ```
/// let semaphore = procession::sync::Semaphore::new(1)?;
/// let permit = semaphore.acquire()?;
/// assert_eq!(semaphore.available_permits(), 0);
/// drop(permit);
/// assert_eq!(semaphore.available_permits(), 1);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the permit is given back at once when it is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    cell: &'static AtomicU32,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: u32 = 1 << 22;

    /// Makes a semaphore with that many permits, all free. 0 is allowed: then somebody has to
    /// [add](Semaphore::add_permits) some.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS), and when the shared
    /// memory is full or cannot be had.
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
        Semaphore::of(storage::create::<SemaphoreBody>(&[room], |_| {})?)
    }

    fn of(handle: Handle) -> Result<Semaphore> {
        let arena = member::arena()?;
        let first = permits::chunk(arena, handle.object(), handle.id().index(), 0);
        let first = first.ok_or_else(|| Error::StaleHandle("a damaged semaphore".into()))?;
        // Processes begin to look in different places.
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

    /// Takes a permit, and waits for one as long as it takes.
    ///
    /// # Errors
    /// [`WaitError::Unusable`] in a plain fork of a member of the family, or when the shared memory is full.
    ///
    /// ```
    /// let printers = procession::sync::Semaphore::new(2)?;
    /// let _permit = printers.acquire()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, WaitError> {
        match self.take_hinted() {
            Some(cell) => Ok(Permit { semaphore: self, cell }),
            None => self.take(Deadline::NEVER),
        }
    }

    /// Takes a permit if one is free.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] when none is; otherwise as [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// use procession::sync::{Semaphore, WaitError};
    /// let one = Semaphore::new(1)?;
    /// let permit = one.try_acquire()?;
    /// assert_eq!(one.try_acquire().err(), Some(WaitError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_acquire(&self) -> Result<Permit<'_>, WaitError> {
        self.take(Deadline::after(Duration::ZERO)).map_err(WaitError::at_once)
    }

    /// Takes a permit, and waits for one at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] when none was free; otherwise as [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// use procession::sync::{Semaphore, WaitError};
    /// assert_eq!(Semaphore::new(0)?.acquire_timeout(std::time::Duration::from_millis(10)).err(), Some(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.take(Deadline::after(timeout))
    }

    /// Takes a permit, and waits for one at most until `deadline`.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// ```
    /// use procession::sync::{Semaphore, WaitError};
    /// assert_eq!(Semaphore::new(0)?.acquire_deadline(std::time::Instant::now()).err(), Some(WaitError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.take(Deadline::at(deadline))
    }

    /// How many permits are free. A snapshot.
    ///
    /// ```
    /// assert_eq!(procession::sync::Semaphore::new(3)?.available_permits(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn available_permits(&self) -> usize {
        self.cells().filter(|cell| matches!(cell.load(Ordering::Relaxed), FREE | RESERVED)).count()
    }

    /// Adds permits, which belong to nobody: the other half of [`Permit::forget`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there would be more than
    /// [`MAX_PERMITS`](Semaphore::MAX_PERMITS); when the shared memory is full.
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
        // Room first, so that a full memory refuses all of them.
        while self.cells().filter(|cell| cell.load(Ordering::Relaxed) == ABSENT).count() < permits as usize {
            self.grow(arena)?;
        }
        let mut left = permits;
        while left != 0 {
            left = self.add_to_cells(left);
            if left != 0 {
                self.grow(arena)?; // others were faster
            }
        }
        Ok(())
    }

    /// Adds at most `permits` in one pass over the cells; says how many are left.
    fn add_to_cells(&self, permits: u32) -> u32 {
        let mut left = permits;
        for cell in self.cells() {
            if left == 0 {
                break;
            }
            // CRASH: each permit is there or not. Between this and the wake the death sweep wakes.
            if cell.load(Ordering::Relaxed) == ABSENT
                && cell.compare_exchange(ABSENT, FREE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                left -= 1;
                notify(&self.body().events, 1);
            }
        }
        left
    }

    /// Adds a block of cells, if nobody else has.
    #[cold]
    fn grow(&self, arena: &'static Arena) -> Result<()> {
        let (object, index) = (self.handle.object(), self.handle.id().index());
        let seen = self.more.iter().filter(|chunk| chunk.get().is_some()).count();
        with_me(|me| self.body().growing.acquire(me, self.handle.hot_offset(), true, Deadline::NEVER))??
            .1
            .map_or(Ok(()), |held| {
                let grown = permits::grow(arena, object, index, seen);
                self.body().growing.release(held);
                grown
            })
    }

    /// The cells of every chunk.
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
    fn take_hinted(&self) -> Option<&'static AtomicU32> {
        let cell = self.first.get(self.hint.load(Ordering::Relaxed) as usize)?;
        (!member::is_forked() && permits::claim(cell, FREE, member::slot())).then_some(cell)
    }

    #[cold]
    fn take(&self, deadline: Deadline) -> Result<Permit<'_>, WaitError> {
        let arena = member::arena().map_err(|e| WaitError::unusable(&e))?;
        let cell = match self.take_any(0) {
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
            // What was reserved for us alone may be free for us now.
            let taken = taken.or_else(|| self.take_any(0));
            if taken.is_none() && self.any_reserved() {
                // We may have been the only one awake that sees to it that a reservation ends.
                notify(&body.events, 1);
            }
            taken
        };
        loop {
            if let Some(cell) = self.take_any(id) {
                return leave(Some(cell)).ok_or(WaitError::TimedOut);
            }
            if deadline.passed() {
                return leave(None).ok_or(WaitError::TimedOut);
            }
            let now = now_ns();
            if since_ns == 0 {
                since_ns = now;
            }
            let handed = body.handed_ns.load(Ordering::Relaxed);
            let passed_over = now.saturating_sub(since_ns.max(handed)) >= PATIENCE_NS;
            if passed_over && rules::holds(Rule::HandedOn) {
                let _ = body.heir.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst);
            }
            // ORDERING: announced before we look again: see `wait::until`.
            let wait = Wait::announce_event(arena, me.record(), &body.events);
            let ticket = event::prepare(&body.events);
            if let Some(cell) = self.take_any(id) {
                return leave(Some(cell)).ok_or(WaitError::TimedOut);
            }
            let main_is_due = deadlock::main_is_due(arena, since_ns);
            if main_is_due.is_some_and(|due| now >= due) && permits::are_all_mains(self.cells()) {
                return leave(None).ok_or(WaitError::MainEnded);
            }
            // Wake up once to become the heir; from then on, or when there is one, sleep on.
            let promised = body.heir.load(Ordering::SeqCst) != 0;
            let until = if promised { deadline } else { deadline.min_ns(now + PATIENCE_NS) };
            let watched = self.any_reserved() && rules::holds(Rule::HeirBypassed);
            let until = if watched { until.min_ns(self.reserved_until_ns()) } else { until };
            // Main may hold the last permit also later: see how `deadlock.rs` looks.
            let until =
                main_is_due.map_or(until, |due| until.min_ns(due.max(now + deadlock::LOOK_AT_MAIN_NS)));
            wait.sleep_as(&body.events, ticket, until, futex::class_of(id));
        }
    }

    /// Takes a permit that is free for the thread `id`: of those that are reserved only as the heir, or if
    /// there is no heir.
    fn take_any(&self, id: u32) -> Option<&'static AtomicU32> {
        let slot = member::slot();
        let start = (self.hint.load(Ordering::Relaxed) as usize).min(self.first.len());
        let near = self.first[start..].iter().chain(&self.first[..start]);
        let found = near.chain(self.chunk(0)).chain(self.chunk(1)).find(|cell| {
            match cell.load(Ordering::SeqCst) {
                FREE => permits::claim(cell, FREE, slot),
                RESERVED => {
                    let heir = self.body().heir.load(Ordering::SeqCst);
                    // An heir that comes in between is only passed over once more.
                    let is_ours = heir == 0 || heir == id || self.bypass(heir);
                    is_ours && permits::claim(cell, RESERVED, slot)
                }
                _ => false,
            }
        })?;
        self.remember(found);
        Some(found)
    }

    /// Whether the heir, for which there is a permit, has not come for too long. Then it is the heir no more. It
    /// may be stopped.
    #[cold]
    fn bypass(&self, heir: u32) -> bool {
        let late = rules::holds(Rule::HeirBypassed) && now_ns() >= self.reserved_until_ns();
        if late {
            self.leave_heirship(heir);
        }
        late
    }

    /// When the last reservation ends.
    fn reserved_until_ns(&self) -> u64 {
        self.body().handed_ns.load(Ordering::Relaxed).min(now_ns()) + RESERVED_NS
    }

    fn any_reserved(&self) -> bool {
        self.cells().any(|cell| cell.load(Ordering::SeqCst) == RESERVED)
    }

    /// The thread is the heir no more; what others reserved for it meanwhile is for all.
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
    fn give_back(&self, cell: &'static AtomicU32) {
        let body = self.body();
        self.remember(cell);
        if body.heir.load(Ordering::SeqCst) != 0 {
            return self.hand_on(cell);
        }
        // ORDERING: SeqCst, before `notify` looks for sleepers.
        // CRASH: until this store the permit is ours and recovery gives it back; between it and the wake
        // the death sweep wakes who sleeps.
        cell.swap(FREE, Ordering::SeqCst);
        notify(&body.events, 1);
    }

    #[cold]
    fn hand_on(&self, cell: &'static AtomicU32) {
        let body = self.body();
        body.handed_ns.store(now_ns(), Ordering::Relaxed);
        cell.swap(RESERVED, Ordering::SeqCst);
        // ORDERING: an heir that leaves says so before it looks for what was reserved. Either it sees this
        // permit, or we see that it has gone.
        match body.heir.load(Ordering::SeqCst) {
            0 => notify(&body.events, 1),
            heir => {
                event::Word::count(&body.events);
                let woken = futex::wake_class(&body.events, futex::class_of(heir));
                // Who is stopped does not sleep on a futex, and cannot come. Another waiter sees to it that the
                // reservation ends.
                if woken == 0 && rules::holds(Rule::HeirWatched) {
                    futex::wake(&body.events, 1);
                }
            }
        }
    }
}

fn too_many(permits: u64) -> Error {
    let most = Semaphore::MAX_PERMITS;
    Error::InvalidArgument(format!("a semaphore can have {most} permits, and this would be {permits}"))
}

impl Permit<'_> {
    /// Takes the permit out of the semaphore for good: it does not come back, neither now nor when the
    /// process ends. [`Semaphore::add_permits`] puts one in.
    ///
    /// ```
    /// let semaphore = procession::sync::Semaphore::new(2)?;
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn forget(self) {
        // CRASH: before this store the permit comes back, from it on it is gone.
        self.cell.store(ABSENT, Ordering::SeqCst);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.give_back(self.cell);
    }
}

impl Clone for Semaphore {
    fn clone(&self) -> Semaphore {
        let hint = AtomicU32::new(self.hint.load(Ordering::Relaxed));
        Semaphore { handle: self.handle.clone(), first: self.first, more: self.more.clone(), hint }
    }
}

impl fmt::Debug for Semaphore {
    /// Tells how many permits are free, and how many wait for one; a snapshot.
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
