//! [`Array`]: plain values in shared memory, with a lock.
#![allow(unsafe_code)] // References to the elements, while the lock excludes all others.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::{Kind, check_name};
use crate::arena::storage::{self, Room};
use crate::os::clock::Deadline;
use crate::sync::guard_state::GuardState;
use crate::sync::lock_methods::{guard_methods, lock_methods};
use crate::sync::raw::lock_body::{ArrayBody, LockBody};
use crate::sync::wait::travels;
use crate::sync::{LockError, Plain, acquire};
use crate::{Error, Result};

/// A fixed number of plain values in shared memory, with a lock. The lock's guard derefs to a slice of the
/// values, so nothing is copied.
///
/// ```
/// use procession::{Process, state::Array};
///
/// let squares = Array::from_slice(&[1u64, 2, 3])?;
/// let square = |squares: Array<u64>| squares.lock().unwrap().iter_mut().for_each(|n| *n *= *n);
/// Process::spawn(square, (squares.clone(),))?.join()?;
/// assert_eq!(*squares.lock()?, [1, 4, 9]);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// The kernel allocates a page when it is first touched, so creating a huge array takes no time.
///
/// # If a process dies
///
/// If the process **holds** the lock, the elements stay as its last store left them, and the array is
/// poisoned, like a [`Mutex`](crate::sync::Mutex). If the process **waits** for the lock, the other processes
/// are not affected.
pub struct Array<T> {
    handle: Handle,
    first: NonNull<T>,
    len: usize,
}

// SAFETY: only the thread that holds the lock touches the elements.
unsafe impl<T> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Array<T> {}

/// The guard of an [`Array`]'s lock. It derefs to the elements as a slice.
///
/// ```compile_fail
/// fn needs_send<T: Send>(_: T) {}
/// let array = procession::state::Array::<u8>::new(1).unwrap();
/// needs_send(array.lock().unwrap()); // a guard cannot be sent to another thread
/// ```
#[must_use = "dropping the guard releases the array's lock immediately"]
pub struct ArrayGuard<'a, T> {
    array: &'a Array<T>,
    state: GuardState,
    _here: PhantomData<*mut T>,
}

impl<T: Plain> Array<T> {
    /// Creates an array of `len` elements whose bytes are all zero.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the element type has size 0; [`Error::Full`] when the family's shared
    /// memory does not have enough room; another error when the shared memory cannot be created.
    ///
    /// ```
    /// let zeros = procession::state::Array::<u32>::new(1000)?;
    /// assert_eq!(zeros.len(), 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(len: usize) -> Result<Array<T>> {
        Array::labeled("", len)
    }

    /// Creates an array of zeros with a label of at most 95 bytes, which `Debug` and error messages show. A label
    /// identifies nothing. [`Manager::named`](crate::Manager::named) finds an array by its name.
    ///
    /// # Errors
    /// As [`Array::new`]; [`Error::InvalidArgument`] when the label is too long.
    ///
    /// ```
    /// let prices = procession::state::Array::<f64>::labeled("prices", 10)?;
    /// assert_eq!(prices.name(), "prices");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labeled(label: &str, len: usize) -> Result<Array<T>> {
        Array::make(label, len, |_| {})
    }

    /// Creates an array with a copy of these values.
    ///
    /// # Errors
    /// As [`Array::new`].
    ///
    /// ```
    /// let array = procession::state::Array::from_slice(&[0.5, 1.5])?;
    /// assert_eq!(array.lock()?.iter().sum::<f64>(), 2.0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn from_slice(values: &[T]) -> Result<Array<T>> {
        Array::make("", values.len(), |room| room.write(bytemuck::cast_slice(values)))
    }

    fn make(name: &str, len: usize, fill: impl FnOnce(&mut Room)) -> Result<Array<T>> {
        check_name(name)?;
        if size_of::<T>() == 0 {
            return Err(Error::InvalidArgument(
                "the elements of an array must have a size, and this type has size 0".into(),
            ));
        }
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let mut room = storage::make(bytes, align_of::<T>() as u64)?;
        fill(&mut room);
        Array::of(storage::create::<ArrayBody>([room], |object| object.set_name(name))?)
    }
}

impl<T> Array<T> {
    fn of(handle: Handle) -> Result<Array<T>> {
        let arena = member::arena()?;
        let at = handle.object().blocks[0].load(Ordering::Acquire);
        let size = size_of::<T>() as u64;
        let data = storage::find(arena, handle.id().index(), at, align_of::<T>() as u64)
            .filter(|data| size != 0 && data.bytes.is_multiple_of(size))
            .ok_or_else(|| Error::StaleHandle("this is an array of another type".into()))?;
        let len = (data.bytes / size) as usize;
        Ok(Array { first: storage::pointer(arena, data).cast(), len, handle })
    }

    /// Returns the label, or the name that the array has in a manager. The string is empty if it has neither.
    ///
    /// ```
    /// assert_eq!(procession::state::Array::<u8>::new(1)?.name(), "");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> String {
        self.handle.object().name()
    }

    /// Returns the number of elements.
    ///
    /// ```
    /// assert_eq!(procession::state::Array::from_slice(b"abc")?.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the array has no elements.
    ///
    /// ```
    /// assert!(procession::state::Array::<u8>::new(0)?.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn body(&self) -> &'static LockBody {
        self.handle.body()
    }
}

// Only for plain types, because a received handle may name an array of another element type of the same size.
impl<T: Plain> Array<T> {
    /// Acquires the array's lock. Waits for the lock without a limit.
    ///
    /// # Errors
    /// * [`LockError::OwnerDied`], [`LockError::Panicked`]: the array is poisoned.
    /// * [`LockError::Deadlock`]: this thread holds the lock already, or the thread that holds the lock waits
    ///   for this thread.
    /// * [`LockError::Unusable`]: in a process that a member of the family forked by itself.
    ///
    /// ```
    /// let array = procession::state::Array::from_slice(&[3, 1, 2])?;
    /// array.lock()?.sort();
    /// assert_eq!(*array.lock()?, [1, 2, 3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        match acquire::acquire(self.body(), self.handle.hot_offset()) {
            Ok(state) => Ok(ArrayGuard { array: self, state, _here: PhantomData }),
            Err(error) => Err(*error),
        }
    }

    lock_methods! {
        ArrayGuard<'_, T>, "the array's lock", "procession::state::Array::<u8>::new(1)",
        [lock, try_lock, lock_timeout, lock_deadline],
        [lock_or_recover, try_lock_or_recover, lock_or_recover_timeout, lock_or_recover_deadline]
    }

    fn acquire_slow(&self, recover: bool, deadline: Deadline) -> Result<ArrayGuard<'_, T>, LockError> {
        let state = acquire::acquire_slow(self.body(), recover, deadline).map_err(|error| *error)?;
        Ok(ArrayGuard { array: self, state, _here: PhantomData })
    }
}

impl<T> ArrayGuard<'_, T> {
    guard_methods!("procession::state::Array::<u8>::new(1)", lock, lock_or_recover);
}

impl<T> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` aligned elements lie there, any bytes are a valid `T`, and this thread holds the
        // lock.
        unsafe { std::slice::from_raw_parts(self.array.first.as_ptr(), self.array.len) }
    }
}

impl<T> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.array.first.as_ptr(), self.array.len) }
    }
}

impl<T> Drop for ArrayGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        acquire::release(self.array.body(), &mut self.state);
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array { handle: self.handle.clone(), ..*self }
    }
}

impl<T> fmt::Debug for Array<T> {
    /// Shows which process holds the lock and how many threads wait. Does not show the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        acquire::describe(f, "Array", self.handle.object())
    }
}

impl<T: fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

travels!(Array<T: Sized>, Kind::Array);
