//! The methods of [`Value`] that do not wait for the lock, or wait only for a limited time.

use std::time::{Duration, Instant};

use super::value::Value;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// Methods that do not wait for the lock, or wait only for a limited time.
impl<T: Message> Value<T> {
    /// As [`get`](Value::get), but does not wait for the lock.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`](crate::sync::LockError::WouldBlock), in an [`Error::Lock`], when another thread
    /// reads or changes the value at the moment; otherwise as [`get`](Value::get).
    ///
    /// ```
    /// let door = procession::state::Value::new(true)?;
    /// assert!(door.try_get()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<T> {
        at_once(self.get_until(Deadline::after(Duration::ZERO)))
    }

    /// As [`get`](Value::get), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`](crate::sync::LockError::TimedOut), in an [`Error::Lock`], when the lock could not be
    /// acquired in that time; otherwise as [`get`](Value::get).
    ///
    /// ```
    /// let door = procession::state::Value::new(true)?;
    /// assert!(door.get_timeout(std::time::Duration::from_millis(10))?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_until(Deadline::after(timeout))
    }

    /// As [`get_timeout`](Value::get_timeout), but waits until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Value::get_timeout).
    ///
    /// ```
    /// let door = procession::state::Value::new(true)?;
    /// assert!(door.get_deadline(std::time::Instant::now())?); // nobody is in the way
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_deadline(&self, deadline: Instant) -> Result<T> {
        self.get_until(Deadline::at(deadline))
    }

    /// As [`set`](Value::set), but does not wait for the lock.
    ///
    /// # Errors
    /// As [`try_get`](Value::try_get) and [`set`](Value::set).
    ///
    /// ```
    /// let door = procession::state::Value::new(true)?;
    /// door.try_set(false)?;
    /// assert!(!door.get()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_set(&self, value: T) -> Result<()> {
        at_once(self.set_until(value, Deadline::after(Duration::ZERO)))
    }

    /// As [`set`](Value::set), but waits at most `timeout`.
    ///
    /// # Errors
    /// As [`get_timeout`](Value::get_timeout) and [`set`](Value::set).
    ///
    /// ```
    /// let door = procession::state::Value::new(true)?;
    /// door.set_timeout(false, std::time::Duration::from_millis(10))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set_timeout(&self, value: T, timeout: Duration) -> Result<()> {
        self.set_until(value, Deadline::after(timeout))
    }

    /// As [`set_timeout`](Value::set_timeout), but waits until `deadline`.
    ///
    /// # Errors
    /// As [`set_timeout`](Value::set_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let door = procession::state::Value::new(true)?;
    /// door.set_deadline(false, Instant::now() + Duration::from_millis(10))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set_deadline(&self, value: T, deadline: Instant) -> Result<()> {
        self.set_until(value, Deadline::at(deadline))
    }

    /// As [`update`](Value::update), but does not wait for the lock: `change` is called immediately or not at all.
    ///
    /// # Errors
    /// As [`try_get`](Value::try_get) and [`update`](Value::update).
    ///
    /// ```
    /// let count = procession::state::Value::new(1)?;
    /// assert_eq!(count.try_update(|n| std::mem::replace(n, 2))?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        at_once(self.update_until(Deadline::after(Duration::ZERO), change))
    }

    /// As [`update`](Value::update), but waits for the lock at most `timeout`. The limit does not include `change`.
    ///
    /// # Errors
    /// As [`get_timeout`](Value::get_timeout) and [`update`](Value::update).
    ///
    /// ```
    /// let count = procession::state::Value::new(1)?;
    /// count.update_timeout(std::time::Duration::from_millis(10), |n| *n += 1)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn update_timeout<R>(&self, timeout: Duration, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.update_until(Deadline::after(timeout), change)
    }

    /// As [`update_timeout`](Value::update_timeout), but waits until `deadline`.
    ///
    /// # Errors
    /// As [`update_timeout`](Value::update_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let count = procession::state::Value::new(1)?;
    /// count.update_deadline(Instant::now() + Duration::from_millis(10), |n| *n += 1)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn update_deadline<R>(&self, deadline: Instant, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.update_until(Deadline::at(deadline), change)
    }
}

/// Reports a timeout as `WouldBlock`, for a call that does not wait.
fn at_once<R>(result: Result<R>) -> Result<R> {
    result.map_err(|error| match error {
        Error::Lock(error) => Error::Lock(error.at_once()),
        other => other,
    })
}
