//! [`RwLock`]: many readers or one writer.
#![allow(unsafe_code)] // A handle with a pointer to the value may be sent to other threads.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::acquire;
use super::error::LockError;
use super::lock_methods::lock_methods;
use super::mutex::Plain;
use super::raw::lock_body::{LockBody, RwLockBody};
use super::raw::readers;
use super::raw::readers::Cells;
use super::rwlock_guards::{ReadGuard, WriteGuard};
use super::wait::travels;
use crate::arena::handle::Handle;
use crate::arena::objects::{Kind, check_name};
use crate::arena::{member, storage};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// How many attempts `try_read` makes. Another reader that is about to enter may hold the lock for a moment.
const TRY_READ_ATTEMPTS: u32 = 100;

/// A value in shared memory that many threads may read at the same time, or that one thread may write.
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
/// Readers in different threads touch different cache lines, so reading scales. A waiting writer holds back
/// later readers. A reader or writer that has waited for a millisecond gets the lock next, as with
/// [`Lock`](super::Lock), so neither starves the other. A reader may acquire the lock again for reading
/// unless a writer waits. A reader that asks to write gets [`LockError::Deadlock`] immediately.
///
/// # If a process dies
///
/// While it **reads**, or **waits** to read or write: the other processes are not affected. While it
/// **writes**: the value stays as the last store left it, and the lock is poisoned. Readers and writers get
/// [`LockError::OwnerDied`] until a process acquires the lock with
/// [`write_or_recover`](RwLock::write_or_recover).
///
/// # If a process is stopped
///
/// While it **reads** or **writes**: the other processes wait until it continues. While it **waits** to read
/// or write: the other processes can read and write. A stopped writer that waits for readers loses its turn,
/// and waits for another one when it continues.
pub struct RwLock<T> {
    handle: Handle,
    pub(super) value: NonNull<T>,
    pub(super) cells: Cells,
}

// SAFETY: `RwLock` is a handle. The value is accessed only under the lock.
unsafe impl<T> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for RwLock<T> {}

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
        RwLock::labeled("", value)
    }

    /// Creates a lock with a label. See [`Lock::labeled`](super::Lock::labeled).
    ///
    /// # Errors
    /// The errors of [`RwLock::new`], and [`Error::InvalidArgument`] if the label is too long.
    ///
    /// ```
    /// let limits = procession::sync::RwLock::labeled("limits", [10u32, 20])?;
    /// assert_eq!(limits.name(), "limits");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labeled(label: &str, value: T) -> Result<RwLock<T>> {
        check_name(label)?;
        let mut room = storage::make(size_of::<T>() as u64, align_of::<T>() as u64)?;
        room.write(bytemuck::bytes_of(&value));
        let cells = readers::make()?;
        RwLock::of(storage::create::<RwLockBody>([room, cells], |object| object.set_name(label))?)
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

    /// Returns the label, or the name that the lock has in a manager. The string is empty if it has neither.
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
    pub(super) fn body(&self) -> &'static LockBody {
        self.handle.body()
    }
}

// These methods exist only for `Plain` types, because a process can receive a handle as a lock of any type of
// the same size.
impl<T: Plain> RwLock<T> {
    /// Acquires the lock for reading. Waits for writers without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the lock is poisoned. See [`RwLock`].
    /// * [`LockError::Deadlock`]: this thread already writes, or the wait closed a cycle of waits.
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
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> RwLock<T> {
        RwLock { handle: self.handle.clone(), value: self.value, cells: self.cells.clone() }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    /// Shows the name, the process that writes, and the number of waiters, but not the value. The values may
    /// already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        acquire::describe(f, "RwLock", self.handle.object())
    }
}

travels!(RwLock<T: Sized>, Kind::RwLock);
