//! [`Mutex`]: a lock with the value that it guards, both in shared memory.
#![allow(unsafe_code)] // References to the value, while the lock keeps everybody else away.

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

/// What may lie in shared memory as it is: [`bytemuck::Pod`], that is, numbers, arrays of numbers, and
/// `#[repr(C)]` structures of them without padding, for which `bytemuck` can derive it.
///
/// Anything less plain could be left half-written by a death in a state that is no value at all. For
/// `bool`, `String`, enums and everything else that serde knows there is
/// [`Value`](crate::state::Value).
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
    message = "`{Self}` cannot lie in shared memory as it is",
    note = "it can if it is `bytemuck::Pod`; for `bool`, `String` and enums use `procession::state::Value`"
)]
pub trait Plain: bytemuck::Pod {}

impl<T: bytemuck::Pod> Plain for T {}

/// A value in shared memory, and the lock without which nobody touches it.
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
/// While it **holds** the mutex: the value is as the last store left it, perhaps between two that belong
/// together. So the mutex is poisoned, as a [`Lock`](super::Lock) is: everyone gets [`LockError::OwnerDied`]
/// until somebody takes it with [`lock_or_recover`](Mutex::lock_or_recover) and puts the value right. While
/// it **waits**: nobody notices.
pub struct Mutex<T> {
    handle: Handle,
    value: NonNull<T>,
}

// SAFETY: a handle; the value is only touched by whoever holds the lock.
unsafe impl<T> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mutex<T> {}

/// A [`Mutex`] that is held: the way to its value.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let mutex = procession::sync::Mutex::new(1).unwrap();
/// needs_send(mutex.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
///
/// ```compile_fail
/// // However one comes by a mutex of such a type, what lies in it is never taken for one.
/// fn first(words: procession::sync::Mutex<String>) -> char {
///     words.lock().unwrap().chars().next().unwrap()
/// }
/// ```
#[must_use = "the mutex is released at once when its guard is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    state: GuardState,
    _here: PhantomData<*mut T>,
}

impl<T: Plain> Mutex<T> {
    /// Makes a mutex with this value, which is free.
    ///
    /// # Errors
    /// When the shared memory is full or cannot be had.
    ///
    /// ```
    /// let point = procession::sync::Mutex::new([0.0f64; 2])?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(value: T) -> Result<Mutex<T>> {
        Mutex::named("", value)
    }

    /// Makes a mutex with a name, as [`Lock::named`](super::Lock::named).
    ///
    /// # Errors
    /// As [`Mutex::new`]; and when the name is too long.
    ///
    /// ```
    /// let stock = procession::sync::Mutex::named("stock", 100u32)?;
    /// assert_eq!(stock.name(), "stock");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named(name: &str, value: T) -> Result<Mutex<T>> {
        check_name(name)?;
        let arena = member::arena()?;
        let room = storage::make(arena, size_of::<T>() as u64, align_of::<T>() as u64)?;
        arena.write(room.1.offset, bytemuck::bytes_of(&value));
        Mutex::of(storage::create::<MutexBody>(&[room], |object| object.set_name(name))?)
    }
}

impl<T> Mutex<T> {
    fn of(handle: Handle) -> Result<Mutex<T>> {
        let arena = member::arena()?;
        let at = handle.object().blocks[0].load(Ordering::Acquire);
        let data = storage::find(arena, handle.id().index(), at, align_of::<T>() as u64)
            .filter(|data| data.bytes == size_of::<T>() as u64)
            .ok_or_else(|| Error::StaleHandle("this is a mutex of another type".into()))?;
        Ok(Mutex { value: storage::pointer(arena, data).cast(), handle })
    }

    /// The name it was made with, or the empty string.
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

// Only of what is plain: a handle may arrive as one to any type of this size.
impl<T: Plain> Mutex<T> {
    /// Takes the mutex, and waits for it as long as it takes.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: it is poisoned.
    /// * [`LockError::Deadlock`]: this thread holds it already, or those who hold what it waits for wait
    ///   for this thread.
    /// * [`LockError::Unusable`]: in a plain fork of a member of the family.
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

    /// Whether anybody holds it. A snapshot.
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

    fn take(&self, recover: bool, deadline: Deadline) -> Result<MutexGuard<'_, T>, LockError> {
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
        // SAFETY: of the right size and alignment, any bytes are a `T`, and we hold the lock.
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
    /// Tells the holder's process and how many wait; a snapshot. It does not show the value.
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
