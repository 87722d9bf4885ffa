//! [`RwLock`]: many who read, or one who writes.
#![allow(unsafe_code)] // References to the value, while the lock keeps writers or everybody away.

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

/// How often a reader that may not wait looks again, because the lock may be held by another reader that is
/// about to pass.
const GLANCES: u32 = 100;

/// A value in shared memory that many may read at once, or one may write.
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
/// Readers of different threads touch different cache lines, so reading scales. Who waits to write holds
/// later readers off, and the 1 ms hand-over of [`Lock`](super::Lock) holds for both, so neither starves
/// the other. A thread that reads may read again if nobody waits to write; one that reads and asks to write is
/// told [`LockError::Deadlock`] at once.
///
/// # If a process dies
///
/// While it **reads**, or **waits** for either: nobody notices; writers go on. While it **writes**:
/// the value is as the last store left it, and the lock is poisoned: everyone, also who only reads, gets
/// [`LockError::OwnerDied`] until somebody takes it with [`write_or_recover`](RwLock::write_or_recover).
///
/// # If a process is stopped
///
/// While it **reads** or **writes**: the others wait until it continues. While it **waits** for either: the others read
/// and write. A writer that waits for readers loses its turn, and takes another when it continues.
pub struct RwLock<T> {
    handle: Handle,
    value: NonNull<T>,
    cells: Cells,
}

// SAFETY: a handle; the value is only touched under the lock.
unsafe impl<T> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for RwLock<T> {}

/// An [`RwLock`] that is held to read.
///
/// ```
/// let lock = procession::sync::RwLock::new(7u32)?;
/// let read = lock.read()?;
/// assert_eq!(*read, 7);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the lock is released at once when its guard is dropped"]
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    cell: &'static AtomicU32,
    /// What the cell says.
    me: u32,
    entry: Entry,
    _here: PhantomData<*mut T>,
}

/// An [`RwLock`] that is held to write.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let lock = procession::sync::RwLock::new(1).unwrap();
/// needs_send(lock.write().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "the lock is released at once when its guard is dropped"]
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    state: GuardState,
    _here: PhantomData<*mut T>,
}

impl<T: Plain> RwLock<T> {
    /// Makes a lock with this value, which is free.
    ///
    /// # Errors
    /// When the shared memory is full or cannot be had.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new([10u32, 20])?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(value: T) -> Result<RwLock<T>> {
        RwLock::named("", value)
    }

    /// Makes a lock with a name, as [`Lock::named`](super::Lock::named).
    ///
    /// # Errors
    /// As [`RwLock::new`]; and when the name is too long.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::named("limits", [10u32, 20])?;
    /// assert_eq!(limits.name(), "limits");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named(name: &str, value: T) -> Result<RwLock<T>> {
        check_name(name)?;
        let arena = member::arena()?;
        let room = storage::make(arena, size_of::<T>() as u64, align_of::<T>() as u64)?;
        arena.write(room.1.offset, bytemuck::bytes_of(&value));
        let cells = readers::make(arena).inspect_err(|_| storage::discard(arena, &[room]))?;
        RwLock::of(storage::create::<RwLockBody>(&[room, cells], |object| object.set_name(name))?)
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
            _ => Err(Error::StaleHandle("this is a lock of another type".into())),
        }
    }

    /// The name it was made with, or the empty string.
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

// Only of what is plain: a handle may arrive as one to any type of this size.
impl<T: Plain> RwLock<T> {
    /// Takes the lock to read, and waits for writers as long as it takes.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: it is poisoned.
    /// * [`LockError::Deadlock`]: this thread writes, or those who hold what it waits for wait for it.
    /// * [`LockError::Unusable`]: in a plain fork of a member of the family.
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

    /// Takes the lock to read if nobody writes or waits to.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when somebody does; otherwise as [`read`](RwLock::read).
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new(1u8)?;
    /// assert_eq!(*limits.try_read()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_read(&self) -> Result<ReadGuard<'_, T>, LockError> {
        for _ in 0..GLANCES {
            if let Some(guard) = self.try_read_fast() {
                return Ok(guard);
            }
            std::hint::spin_loop();
        }
        self.read_slow(Deadline::after(Duration::ZERO)).map_err(LockError::at_once)
    }

    /// Takes the lock to read, and waits for writers at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when somebody wrote all the time; otherwise as [`read`](RwLock::read).
    ///
    /// ```
    /// let limits = procession::sync::RwLock::new(1u8)?;
    /// assert_eq!(*limits.read_timeout(std::time::Duration::from_millis(10))?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_, T>, LockError> {
        self.read_slow(Deadline::after(timeout))
    }

    /// Takes the lock to read, and waits for writers at most until `deadline`.
    ///
    /// # Errors
    /// As [`read_timeout`](RwLock::read_timeout).
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

    /// Reads in `cell`, which the journal has noted, unless somebody writes or waits to.
    #[inline]
    fn enter(&self, cell: &'static AtomicU32, me: u32, entry: Entry) -> Option<ReadGuard<'_, T>> {
        // ORDERING: SeqCst: we enter the cell and then look for a writer, who takes the lock and then looks at
        // the cells. One of us sees the other.
        // CRASH: the journal names the cell, so our death empties it and wakes the writer.
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
        // Somebody writes or waits to, or there are more readers than cells. In our turn nobody writes.
        let body = self.body();
        let mut turn = acquire::acquire_slow(body, false, deadline).map_err(|error| *error)?;
        let entered = loop {
            match self.cells.take_any(me) {
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

    /// Enters any free cell, unless somebody writes or waits to.
    fn enter_any(&self, me: u32) -> Result<Option<ReadGuard<'_, T>>, LockError> {
        let taken = self.cells.take_any(me).map_err(|e| LockError::unusable(&e))?;
        Ok(taken.and_then(|(cell, entry)| {
            let guard = ReadGuard { lock: self, cell, me, entry, _here: PhantomData };
            let word = self.body().raw.load_in_order();
            (word::owner(word) == 0 && word & word::POISONED == 0).then_some(guard)
        }))
    }

    /// Takes the lock to write, and waits for readers and writers as long as it takes.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: it is poisoned.
    /// * [`LockError::Deadlock`]: this thread reads or writes, or those who hold what it waits for wait for
    ///   it.
    /// * [`LockError::Unusable`]: in a plain fork of a member of the family.
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

    fn take(&self, recover: bool, deadline: Deadline) -> Result<WriteGuard<'_, T>, LockError> {
        let state = acquire::acquire_slow(self.body(), recover, deadline).map_err(|error| *error)?;
        self.drain(state, recover, deadline)
    }

    /// Waits until nobody reads; readers that come wait for us meanwhile.
    fn drain(
        &self,
        mut state: GuardState,
        recover: bool,
        deadline: Deadline,
    ) -> Result<WriteGuard<'_, T>, LockError> {
        let body = self.body();
        // ORDERING: with the one in `enter`.
        fence(Ordering::SeqCst);
        while !self.cells.all_empty() {
            match self.await_readers(deadline) {
                Ok(true) => break,
                // This process was stopped, and others had our turn.
                Ok(false) => {
                    body.raw.release_slow(state.take(), false);
                    state = acquire::acquire_slow(body, recover, deadline).map_err(|error| *error)?;
                    fence(Ordering::SeqCst);
                }
                Err(error) => {
                    // A mark that we were about to clear stays.
                    let poisoned = body.extra.load(Ordering::Relaxed) & DIRTY != 0;
                    body.raw.release_slow(state.take(), poisoned);
                    return Err(error);
                }
            }
        }
        // CRASH: from here on the value may be half-written: our death marks the lock.
        body.extra.store(DIRTY, Ordering::Release);
        Ok(WriteGuard { lock: self, state, _here: PhantomData })
    }
}

impl<T: Plain> RwLock<T> {
    /// Waits, with the lock, until nobody reads. Returns false if our turn was withdrawn meanwhile: see [`withdraw`].
    #[cold]
    fn await_readers(&self, deadline: Deadline) -> Result<bool, LockError> {
        let body = self.body();
        if self.cells.names(thread::owner()) {
            return Err(acquire::itself(body));
        }
        if !body.raw.set_pending(true) {
            return Ok(false);
        }
        match self.cells.await_empty(deadline, || !body.raw.is_mine()) {
            // ORDERING: nobody has entered since the cells were empty if we have had the lock until now.
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
        // SAFETY: of the right size and alignment, any bytes are a `T`, and nobody writes while our cell
        // names us.
        unsafe { self.lock.value.as_ref() }
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: of the right size and alignment, any bytes are a `T`, and we hold the lock.
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
        // ORDERING: SeqCst: Release towards the writer, and before the look for one that sleeps.
        // CRASH: until this store recovery empties the cell; between it and the wake the journal still names
        // it, and the death sweep wakes the writer. When the program is ending, recovery may have emptied the
        // cell already, and another may read there.
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
            // CRASH: the value is whole again; what remains is to let go.
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
    /// Tells the writer's process and how many wait; a snapshot. It does not show the value.
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
