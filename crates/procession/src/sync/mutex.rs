//! [`Mutex`]: a lock and the value that it guards, both in shared memory.
#![allow(unsafe_code)] // References to the value, while the lock excludes every other thread.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::acquire;
use super::error::LockError;
use super::guard_state::GuardState;
use super::lock_methods::{guard_methods, lock_methods};
use super::raw::lock_body::{LockBody, MutexBody};
use super::raw::word;
use super::wait::travels;
use crate::arena::handle::Handle;
use crate::arena::objects::{Kind, check_name};
use crate::arena::{member, storage};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// Types whose bytes can lie in shared memory: [`bytemuck::Pod`]. These are numbers, arrays of numbers, and
/// `#[repr(C)]` structures of them without padding. `bytemuck` can derive `Pod` for such structures.
///
/// Every pattern of bytes is a valid value of such a type, so even a value that a death left half-written is valid.
/// For `bool`, `String`, enums and other serde types use [`Value`](crate::state::Value).
///
/// ```
/// use procession::sync::{Mutex, Plain};
///
/// fn doubled<T: Plain + std::ops::Add<Output = T>>(mutex: &Mutex<T>) -> procession::Result<T> {
///     let value = *mutex.lock()?;
///     Ok(value + value)
/// }
/// assert_eq!(doubled(&Mutex::new(21u32)?)?, 42);
/// # Ok::<(), procession::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in shared memory as plain bytes",
    note = "plain types implement `bytemuck::Pod`; for `bool`, `String` and enums use `procession::state::Value`"
)]
pub trait Plain: bytemuck::Pod {}

impl<T: bytemuck::Pod> Plain for T {}

/// A value in shared memory, and the lock that guards it.
///
/// ```
/// use procession::{Process, sync::Mutex};
///
/// let count = Mutex::new(0u64)?;
/// let child = Process::spawn(|count: Mutex<u64>| *count.lock().unwrap() += 1, (count.clone(),))?;
/// *count.lock()? += 1;
/// child.join()?;
/// assert_eq!(*count.lock()?, 2);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// While it **holds** the mutex: the value stays as the last store left it, perhaps between two stores that
/// belong together. So the mutex is poisoned like a [`Lock`](super::Lock). Every caller gets
/// [`LockError::OwnerDied`] until a process acquires the mutex with
/// [`lock_or_recover`](Mutex::lock_or_recover) and repairs the value. While it **waits**: the other processes
/// are not affected.
pub struct Mutex<T> {
    handle: Handle,
    value: NonNull<T>,
}

// SAFETY: `Mutex` is a handle. Only the thread that holds the lock accesses the value.
unsafe impl<T> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mutex<T> {}

/// Proof that this thread holds a [`Mutex`]. Dereferences to its value. Dropping the guard releases the mutex.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let mutex = procession::sync::Mutex::new(1).unwrap();
/// needs_send(mutex.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
///
/// ```compile_fail
/// // Even if a program receives a mutex of such a type, it cannot access the value.
/// fn first(words: procession::sync::Mutex<String>) -> char {
///     words.lock().unwrap().chars().next().unwrap()
/// }
/// ```
#[must_use = "dropping the guard releases the mutex immediately"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    state: GuardState,
    _here: PhantomData<*mut T>,
}

impl<T: Plain> Mutex<T> {
    /// Creates an unlocked mutex with this value.
    ///
    /// # Errors
    /// Fails if the shared memory is full or cannot be created.
    ///
    /// ```
    /// let point = procession::sync::Mutex::new([0.0f64; 2])?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(value: T) -> Result<Mutex<T>> {
        Mutex::labeled("", value)
    }

    /// Creates a mutex with a label. See [`Lock::labeled`](super::Lock::labeled).
    ///
    /// # Errors
    /// The errors of [`Mutex::new`], and [`Error::InvalidArgument`] if the label is too long.
    ///
    /// ```
    /// let stock = procession::sync::Mutex::labeled("stock", 100u32)?;
    /// assert_eq!(stock.name(), "stock");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labeled(label: &str, value: T) -> Result<Mutex<T>> {
        check_name(label)?;
        let mut room = storage::make(size_of::<T>() as u64, align_of::<T>() as u64)?;
        room.write(bytemuck::bytes_of(&value));
        Mutex::of(storage::create::<MutexBody>([room], |object| object.set_name(label))?)
    }
}

impl<T> Mutex<T> {
    fn of(handle: Handle) -> Result<Mutex<T>> {
        let arena = member::arena()?;
        let at = handle.object().blocks[0].load(Ordering::Acquire);
        let data = storage::find(arena, handle.id().index(), at, align_of::<T>() as u64)
            .filter(|data| data.bytes == size_of::<T>() as u64)
            .ok_or_else(|| {
                Error::StaleHandle("this handle is a mutex of another type; receive it as that type".into())
            })?;
        Ok(Mutex { value: storage::pointer(arena, data).cast(), handle })
    }

    /// Returns the label, or the name that the mutex has in a manager. The string is empty if it has neither.
    ///
    /// ```
    /// assert_eq!(procession::sync::Mutex::new(1)?.name(), "");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    #[inline]
    fn body(&self) -> &'static LockBody {
        self.handle.body()
    }
}

// These methods exist only for `Plain` types, because a process can receive a handle as a mutex of any type
// of the same size.
impl<T: Plain> Mutex<T> {
    /// Acquires the mutex. Waits without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the mutex is poisoned. See [`Mutex`].
    /// * [`LockError::Deadlock`]: this thread already holds the mutex, or the wait closed a cycle of waits.
    /// * [`LockError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// ```
    /// let stock = procession::sync::Mutex::new(100u32)?;
    /// *stock.lock()? -= 1;
    /// assert_eq!(*stock.lock()?, 99);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        match acquire::acquire(self.body(), self.handle.hot_offset()) {
            Ok(state) => Ok(MutexGuard { mutex: self, state, _here: PhantomData }),
            Err(error) => Err(*error),
        }
    }

    /// Returns whether any thread holds the mutex. The answer may be out of date when this returns.
    ///
    /// ```
    /// let stock = procession::sync::Mutex::new(100u32)?;
    /// assert!(!stock.is_locked());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_locked(&self) -> bool {
        word::owner(self.body().raw.load()) != 0
    }

    lock_methods! {
        MutexGuard<'_, T>, "the mutex", "procession::sync::Mutex::new(0u64)",
        [lock, try_lock, lock_timeout, lock_deadline],
        [lock_or_recover, try_lock_or_recover, lock_or_recover_timeout, lock_or_recover_deadline]
    }

    fn acquire_slow(&self, recover: bool, deadline: Deadline) -> Result<MutexGuard<'_, T>, LockError> {
        let state = acquire::acquire_slow(self.body(), recover, deadline).map_err(|error| *error)?;
        Ok(MutexGuard { mutex: self, state, _here: PhantomData })
    }
}

impl<T> MutexGuard<'_, T> {
    guard_methods!("procession::sync::Mutex::new(0u64)", lock, lock_or_recover);

    pub(super) fn parts(&mut self) -> (&'static LockBody, &mut GuardState) {
        (self.mutex.body(), &mut self.state)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the size and the alignment are right, every pattern of bytes is a `T`, and we hold the lock.
        unsafe { self.mutex.value.as_ref() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.mutex.value.as_ptr().as_mut_unchecked() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        acquire::release(self.mutex.body(), &mut self.state);
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Mutex<T> {
        Mutex { handle: self.handle.clone(), value: self.value }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    /// Shows the name, the process that holds the mutex, and the number of waiters, but not the value. The
    /// values may already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        acquire::describe(f, "Mutex", self.handle.object())
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

travels!(Mutex<T: Sized>, Kind::Mutex);
