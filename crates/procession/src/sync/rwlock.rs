//! [`RwLock`]: many readers or one writer.
#![allow(unsafe_code)] // References to the value, while the lock excludes writers, or everybody.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use super::acquire;
use super::error::LockError;
use super::guard_state::GuardState;
use super::lock_methods::{guard_methods, lock_methods};
use super::mutex::Plain;
use super::raw::event::notify;
use super::raw::lock_body::{DIRTY, LockBody, RwLockBody};
use super::raw::readers::Cells;
use super::raw::{readers, word};
use super::wait::travels;
use crate::arena::handle::Handle;
use crate::arena::objects::{Kind, check_name};
use crate::arena::thread::Entry;
use crate::arena::{member, storage, thread};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// How often `try_read` looks again: the lock may be held for a moment by another reader that passes through.
const TRY_READ_ATTEMPTS: u32 = 100;

/// A value in shared memory that many threads may read at the same time, or one may write.
///
/// ```
/// use procession::sync::RwLock;
///
/// let limits = RwLock::new([10u32, 20])?;
/// assert_eq!(limits.read()?[1], 20);
/// limits.write()?[1] = 30;
/// # Ok::<(), procession::Error>(())
/// ```
///
/// Readers in different threads touch different cache lines, so reading scales. A waiting writer holds back later
/// readers. Readers and writers get the lock after a millisecond's wait, as with [`Lock`](super::Lock), so neither
/// starves the other. A reader may acquire the lock again for reading unless a writer waits. A reader that asks to
/// write gets [`LockError::Deadlock`] immediately.
///
/// # If a process dies
///
/// While it **reads**, or **waits** to read or write: the others are not affected. While it **writes**: the value
/// stays as the last store left it, and the lock is poisoned. Readers and writers get [`LockError::OwnerDied`] until
/// a process acquires the lock with [`write_or_recover`](RwLock::write_or_recover).
///
/// # If a process is stopped
///
/// While it **reads** or **writes**: the others wait until it continues. While it **waits** to read or write: the
/// others read and write. A stopped writer that waits for readers loses its turn, and waits for another one when it
/// continues.
pub struct RwLock<T> {
    handle: Handle,
    value: NonNull<T>,
    cells: Cells,
}

// SAFETY: `RwLock` is a handle. The value is accessed only under the lock.
unsafe impl<T> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for RwLock<T> {}

/// Proof that this thread may read the value of an [`RwLock`].
///
/// ```
/// let lock = procession::sync::RwLock::new(7u32)?;
/// let read = lock.read()?;
/// assert_eq!(*read, 7);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the guard releases the lock immediately"]
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    cell: &'static AtomicU32,
    /// The content of the cell.
    me: u32,
    entry: Entry,
    _here: PhantomData<*mut T>,
}

/// Proof that this thread may read and write the value of an [`RwLock`].
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::sync::RwLock::new(1).unwrap();
/// needs_send(lock.write().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "dropping the guard releases the lock immediately"]
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    state: GuardState,
    _here: PhantomData<*mut T>,
}

impl<T: Plain> RwLock<T> {
    /// Creates an unlocked lock with this value.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new([10u32, 20])?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(value: T) -> Result<RwLock<T>> {
        RwLock::named("", value)
    }

    /// Creates a lock with a name. See [`Lock::named`](super::Lock::named).
    ///
    /// # Errors
    /// The errors of [`RwLock::new`], and [`Error::InvalidArgument`] if the name is too long.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::named("limits", [10u32, 20])?;
    /// assert_eq!(limits.name(), "limits");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named(name: &str, value: T) -> Result<RwLock<T>> {
        check_name(name)?;
        let mut room = storage::make(size_of::<T>() as u64, align_of::<T>() as u64)?;
        room.write(bytemuck::bytes_of(&value));
        let cells = readers::make()?;
        RwLock::of(storage::create::<RwLockBody>([room, cells], |object| object.set_name(name))?)
    }
}

impl<T> RwLock<T> {
    fn of(handle: Handle) -> Result<RwLock<T>> {
        let (arena, object, index) = (member::arena()?, handle.object(), handle.id().index());
        let at = object.blocks[0].load(Ordering::Acquire);
        let data = storage::find(arena, index, at, align_of::<T>() as u64)
            .filter(|data| data.bytes == size_of::<T>() as u64);
        match (data, Cells::of(arena, object, index)) {
            (Some(data), Some(cells)) => {
                Ok(RwLock { value: storage::pointer(arena, data).cast(), handle, cells })
            }
            _ => Err(Error::StaleHandle(
                "this handle is a lock of another type; receive it as that type".into(),
            )),
        }
    }

    /// Returns the lock's name, or the empty string.
    ///
    /// ```
    /// assert_eq!(procession::sync::RwLock::new(1)?.name(), "");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    #[cfg(feature = "internals")]
    pub(crate) fn has_readers(&self) -> bool {
        !self.cells.all_empty()
    }

    #[inline]
    fn body(&self) -> &'static LockBody {
        self.handle.body()
    }
}

// Only for `Plain` types: a handle can be received as a lock of any type of the same size.
impl<T: Plain> RwLock<T> {
    /// Acquires the lock for reading. Waits for writers without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the lock is poisoned. See [`RwLock`].
    /// * [`LockError::Deadlock`]: this thread writes, or the wait closed a cycle of waits.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new([10u32, 20])?;
    /// assert_eq!(limits.read()?[0], 10);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn read(&self) -> Result<ReadGuard<'_, T>, LockError> {
        match self.try_read_fast() {
            Some(guard) => Ok(guard),
            None => self.read_slow(Deadline::NEVER),
        }
    }

    /// Acquires the lock for reading if no thread writes or waits to write. Does not wait.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] if a thread writes or waits to write. Otherwise, the errors of
    /// [`read`](RwLock::read).
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new(1u8)?;
    /// assert_eq!(*limits.try_read()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_read(&self) -> Result<ReadGuard<'_, T>, LockError> {
        for _ in 0..TRY_READ_ATTEMPTS {
            if let Some(guard) = self.try_read_fast() {
                return Ok(guard);
            }
            std::hint::spin_loop();
        }
        self.read_slow(Deadline::after(Duration::ZERO)).map_err(LockError::at_once)
    }

    /// Acquires the lock for reading. Waits for writers for at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] if threads wrote for the whole timeout. Otherwise, the errors of
    /// [`read`](RwLock::read).
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new(1u8)?;
    /// assert_eq!(*limits.read_timeout(std::time::Duration::from_millis(10))?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_, T>, LockError> {
        self.read_slow(Deadline::after(timeout))
    }

    /// Acquires the lock for reading. Waits for writers until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`read_timeout`](RwLock::read_timeout).
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new(1u8)?;
    /// assert_eq!(*limits.read_deadline(std::time::Instant::now())?, 1); // nobody writes
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn read_deadline(&self, deadline: Instant) -> Result<ReadGuard<'_, T>, LockError> {
        self.read_slow(Deadline::at(deadline))
    }

    #[inline]
    fn try_read_fast(&self) -> Option<ReadGuard<'_, T>> {
        let (cell, offset) = self.cells.of_thread(thread::owner())?;
        let (me, entry) = thread::journal_fast(offset)?;
        self.enter(cell, me, entry)
    }

    /// Claims `cell`, which the journal already names, unless a thread writes or waits to write.
    #[inline]
    fn enter(&self, cell: &'static AtomicU32, me: u32, entry: Entry) -> Option<ReadGuard<'_, T>> {
        // ORDERING: SeqCst. We claim the cell and then look for a writer. A writer acquires the lock and then looks
        // at the cells. At least one of the two sees the other.
        // CRASH: the journal names the cell, so recovery clears the cell and wakes the writer.
        if cell.compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            let guard = ReadGuard { lock: self, cell, me, entry, _here: PhantomData };
            let word = self.body().raw.load_in_order();
            return (word::owner(word) == 0 && word & word::POISONED == 0).then_some(guard);
        }
        thread::clear_entry(entry);
        None
    }

    #[cold]
    fn read_slow(&self, deadline: Deadline) -> Result<ReadGuard<'_, T>, LockError> {
        member::arena().map_err(|e| LockError::unusable(&e))?;
        let me = thread::with_me(|me| me.owner()).map_err(|e| LockError::unusable(&e))?;
        if let Some(guard) = self.enter_any(me)? {
            return Ok(guard);
        }
        // A thread writes or waits to write, or there are more readers than cells. While we hold the writers' lock,
        // no thread writes.
        let body = self.body();
        let mut turn = acquire::acquire_slow(body, false, deadline).map_err(|error| *error)?;
        let entered = loop {
            match self.cells.claim_any(me) {
                Ok(Some((cell, entry))) => {
                    break Ok(ReadGuard { lock: self, cell, me, entry, _here: PhantomData });
                }
                Ok(None) => {
                    if let Err(error) = self.cells.grow() {
                        break Err(LockError::unusable(&error));
                    }
                }
                Err(error) => break Err(LockError::unusable(&error)),
            }
        };
        acquire::release(body, &mut turn);
        entered
    }

    /// Claims any free cell, unless a thread writes or waits to write.
    fn enter_any(&self, me: u32) -> Result<Option<ReadGuard<'_, T>>, LockError> {
        let taken = self.cells.claim_any(me).map_err(|e| LockError::unusable(&e))?;
        Ok(taken.and_then(|(cell, entry)| {
            let guard = ReadGuard { lock: self, cell, me, entry, _here: PhantomData };
            let word = self.body().raw.load_in_order();
            (word::owner(word) == 0 && word & word::POISONED == 0).then_some(guard)
        }))
    }

    /// Acquires the lock for writing. Waits for readers and writers without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the lock is poisoned. See [`RwLock`].
    /// * [`LockError::Deadlock`]: this thread already reads or writes, or the wait closed a cycle of waits.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new(1u8)?;
    /// *limits.write()? = 2;
    /// assert_eq!(*limits.read()?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn write(&self) -> Result<WriteGuard<'_, T>, LockError> {
        match acquire::acquire(self.body(), self.handle.hot_offset()) {
            Ok(state) => self.drain(state, false, Deadline::NEVER),
            Err(error) => Err(*error),
        }
    }

    lock_methods! {
        WriteGuard<'_, T>, "the lock to write", "procession::sync::RwLock::new(0u64)",
        [write, try_write, write_timeout, write_deadline],
        [write_or_recover, try_write_or_recover, write_or_recover_timeout, write_or_recover_deadline]
    }

    fn acquire_slow(&self, recover: bool, deadline: Deadline) -> Result<WriteGuard<'_, T>, LockError> {
        let state = acquire::acquire_slow(self.body(), recover, deadline).map_err(|error| *error)?;
        self.drain(state, recover, deadline)
    }

    /// Waits until the last reader has left. New readers wait for the writers' lock, which this thread holds.
    fn drain(
        &self,
        mut state: GuardState,
        recover: bool,
        deadline: Deadline,
    ) -> Result<WriteGuard<'_, T>, LockError> {
        let body = self.body();
        // ORDERING: pairs with the SeqCst claim of the cell in `enter`.
        fence(Ordering::SeqCst);
        while !self.cells.all_empty() {
            match self.await_readers(deadline) {
                Ok(true) => break,
                // This process was stopped, and its turn was withdrawn.
                Ok(false) => {
                    body.raw.release_slow(state.take(), false);
                    state = acquire::acquire_slow(body, recover, deadline).map_err(|error| *error)?;
                    fence(Ordering::SeqCst);
                }
                Err(error) => {
                    // Poison that we were about to clear stays.
                    let poisoned = body.extra.load(Ordering::Relaxed) & DIRTY != 0;
                    body.raw.release_slow(state.take(), poisoned);
                    return Err(error);
                }
            }
        }
        // CRASH: from this store on the value may be half-written, so our death poisons the lock.
        body.extra.store(DIRTY, Ordering::Release);
        Ok(WriteGuard { lock: self, state, _here: PhantomData })
    }
}

impl<T: Plain> RwLock<T> {
    /// Waits until the last reader has left, while this thread holds the writers' lock. Returns false if its turn was
    /// withdrawn meanwhile: see `lock_body::withdraw`.
    #[cold]
    fn await_readers(&self, deadline: Deadline) -> Result<bool, LockError> {
        let body = self.body();
        if self.cells.names(thread::owner()) {
            return Err(acquire::self_deadlock(body));
        }
        if !body.raw.set_pending(true) {
            return Ok(false);
        }
        match self.cells.await_empty(deadline, || !body.raw.is_mine()) {
            // ORDERING: if we held the lock without a break, no reader has claimed a cell since the cells were empty.
            Ok(true) => Ok(body.raw.set_pending(false)),
            Ok(false) => Err(LockError::TimedOut),
            Err(Error::Lock(deadlock)) => Err(deadlock),
            Err(other) => Err(LockError::unusable(&other)),
        }
    }
}

impl<T> WriteGuard<'_, T> {
    guard_methods!("procession::sync::RwLock::new(0u64)", write, write_or_recover);
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the size and the alignment are right, every pattern of bytes is a `T`, and no thread writes while
        // our cell names us.
        unsafe { self.lock.value.as_ref() }
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the size and the alignment are right, every pattern of bytes is a `T`, and we hold the lock.
        unsafe { self.lock.value.as_ref() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.lock.value.as_ptr().as_mut_unchecked() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: SeqCst. Releases our reads to the next writer, and comes before the look for a sleeping writer.
        // CRASH: until this store recovery clears the cell. Between it and the wake the journal still names the cell,
        // and the death sweep wakes the writer. While the program ends, recovery may have cleared the cell already,
        // and another reader may have claimed it.
        let _ = self.cell.compare_exchange(self.me, 0, Ordering::SeqCst, Ordering::SeqCst);
        notify(self.lock.cells.events(), 1);
        thread::clear_entry(self.entry);
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let body = self.lock.body();
        if !acquire::must_poison(&self.state) && body.raw.is_still_held(self.state.entry()) {
            // CRASH: the value is whole again. Only the release remains.
            body.extra.store(0, Ordering::Release);
        }
        acquire::release(body, &mut self.state);
    }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> RwLock<T> {
        RwLock { handle: self.handle.clone(), value: self.value, cells: self.cells.clone() }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    /// Shows the name, the process that writes, and the number of waiters, but not the value. A snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        acquire::describe(f, "RwLock", self.handle.object())
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

travels!(RwLock<T: Sized>, Kind::RwLock);
