//! The methods of [`Named`] for the types of [`sync`](crate::sync).

use super::manager::Manager;
use super::named::Named;
use crate::Result;
use crate::sync::{Barrier, Condvar, Event, Latch, Lock, Mutex, Plain, RLock, RwLock, Semaphore};

impl Named<'_> {
    /// Returns the [`Lock`] with this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Lock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the lock").lock()?;
    /// let same = manager.named("the lock").lock()?;
    /// let held = made.lock()?;
    /// assert!(same.try_lock().is_err());
    /// # drop(held);
    /// # manager.remove("the lock")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock(&self) -> Result<Lock> {
        self.find_or_make(Manager::lock)
    }

    /// Returns the [`RLock`] with this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`RLock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the rlock").rlock()?;
    /// let same = manager.named("the rlock").rlock()?;
    /// let _one = made.lock()?;
    /// let _two = same.lock()?;
    /// # manager.remove("the rlock")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rlock(&self) -> Result<RLock> {
        self.find_or_make(Manager::rlock)
    }

    /// Returns the [`Mutex`] with this name. If it is new, it has this value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Mutex::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the mutex").mutex(1u32)?;
    /// let same = manager.named("the mutex").mutex(1u32)?;
    /// *made.lock()? += 1;
    /// assert_eq!(*same.lock()?, 2);
    /// # manager.remove("the mutex")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn mutex<T: Plain>(&self, value: T) -> Result<Mutex<T>> {
        self.find_or_make(|manager| manager.mutex(value))
    }

    /// Returns the [`RwLock`] with this name. If it is new, it has this value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`RwLock::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the rwlock").rwlock(1u32)?;
    /// let same = manager.named("the rwlock").rwlock(1u32)?;
    /// let _one = made.read()?;
    /// assert_eq!(*same.read()?, 1);
    /// # manager.remove("the rwlock")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn rwlock<T: Plain>(&self, value: T) -> Result<RwLock<T>> {
        self.find_or_make(|manager| manager.rwlock(value))
    }

    /// Returns the [`Semaphore`] with this name. If it is new, it has this many permits.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Semaphore::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the semaphore").semaphore(1)?;
    /// let same = manager.named("the semaphore").semaphore(1)?;
    /// let permit = made.acquire()?;
    /// assert!(same.try_acquire().is_err());
    /// # drop(permit);
    /// # manager.remove("the semaphore")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn semaphore(&self, permits: u32) -> Result<Semaphore> {
        self.find_or_make(|manager| manager.semaphore(permits))
    }

    /// Returns the [`Event`] with this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Event::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the event").event()?;
    /// let same = manager.named("the event").event()?;
    /// made.set()?;
    /// assert!(same.is_set());
    /// # manager.remove("the event")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn event(&self) -> Result<Event> {
        self.find_or_make(Manager::event)
    }

    /// Returns the [`Condvar`] with this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Condvar::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the condvar").condvar()?;
    /// let same = manager.named("the condvar").condvar()?;
    /// made.notify_all()?;
    /// # drop(same);
    /// # manager.remove("the condvar")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn condvar(&self) -> Result<Condvar> {
        self.find_or_make(Manager::condvar)
    }

    /// Returns the [`Barrier`] with this name. If it is new, it is for this many parties.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Barrier::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the barrier").barrier(1)?;
    /// let same = manager.named("the barrier").barrier(1)?;
    /// made.wait()?;
    /// same.wait()?;
    /// # manager.remove("the barrier")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn barrier(&self, parties: u32) -> Result<Barrier> {
        self.find_or_make(|manager| manager.barrier(parties))
    }

    /// Returns the [`Latch`] with this name. If it is new, it opens after `count` calls of `count_down`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the name is empty or belongs to an object of another type.
    /// Otherwise as [`Latch::new`].
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let made = manager.named("the latch").latch(1)?;
    /// let same = manager.named("the latch").latch(1)?;
    /// made.count_down()?;
    /// same.wait()?;
    /// # manager.remove("the latch")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn latch(&self, count: u32) -> Result<Latch> {
        self.find_or_make(|manager| manager.latch(count))
    }
}
