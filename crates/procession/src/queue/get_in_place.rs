//! Receiving items that consist of bytes. The bytes are read in place, in the shared memory.

use std::time::{Duration, Instant};

use super::error::GetError;
use super::plain::Queue;
use super::receiving;
use crate::os::clock::Deadline;

/// Methods that read bytes in place, without a second copy.
impl Queue<Vec<u8>> {
    /// Receives up to `max` items in one step, and calls `read` with the bytes of each. Waits for the first
    /// one without a limit. Returns the number of items. The items count as received even if `read` panics.
    ///
    /// # Errors
    /// The errors of [`get`](Queue::get).
    ///
    /// ```
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// queue.put_many([vec![1], vec![2, 3]])?;
    /// let mut sum = 0;
    /// assert_eq!(queue.get_many_with(64, |bytes| sum += bytes.iter().sum::<u8>())?, 2);
    /// assert_eq!(sum, 6);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_with(&self, max: usize, read: impl FnMut(&[u8])) -> Result<usize, GetError> {
        receiving::get_many_with(&self.ring(), max, read, Deadline::NEVER)
    }

    /// Receives up to `max` items like [`get_many_with`](Queue::get_many_with). Does not wait.
    ///
    /// # Errors
    /// The errors of [`try_get`](Queue::try_get).
    ///
    /// ```
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::<Vec<u8>>::bounded(3)?;
    /// assert_eq!(queue.try_get_many_with(64, |_| ()), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get_many_with(&self, max: usize, read: impl FnMut(&[u8])) -> Result<usize, GetError> {
        receiving::get_many_with(&self.ring(), max, read, Deadline::after(Duration::ZERO))
    }

    /// Receives up to `max` items like [`get_many_with`](Queue::get_many_with). Waits for at most `timeout`.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// queue.put(vec![1])?;
    /// assert_eq!(queue.get_many_with_timeout(64, |_| (), Duration::from_secs(1))?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_with_timeout(
        &self,
        max: usize,
        read: impl FnMut(&[u8]),
        timeout: Duration,
    ) -> Result<usize, GetError> {
        receiving::get_many_with(&self.ring(), max, read, Deadline::after(timeout))
    }

    /// Receives up to `max` items like [`get_many_with`](Queue::get_many_with). Waits until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// queue.put(vec![1])?;
    /// assert_eq!(queue.get_many_with_deadline(64, |_| (), Instant::now() + Duration::from_secs(1))?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_with_deadline(
        &self,
        max: usize,
        read: impl FnMut(&[u8]),
        deadline: Instant,
    ) -> Result<usize, GetError> {
        receiving::get_many_with(&self.ring(), max, read, Deadline::at(deadline))
    }

    /// Receives the next item, and calls `read` with its bytes in place. Waits for one without a limit. The
    /// item counts as received even if `read` panics.
    ///
    /// # Errors
    /// The errors of [`get`](Queue::get).
    ///
    /// # If a process dies
    /// The same as with [`get`](Queue::get).
    ///
    /// ```
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// queue.put(vec![1, 2, 3])?;
    /// assert_eq!(queue.get_with(|bytes| bytes.len())?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn get_with<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Result<R, GetError> {
        receiving::get_with(&self.ring(), read, Deadline::NEVER)
    }

    /// Receives an item like [`get_with`](Queue::get_with), if there is one. Does not wait.
    ///
    /// # Errors
    /// The errors of [`try_get`](Queue::try_get).
    ///
    /// ```
    /// use procession::queue::GetError;
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// assert_eq!(queue.try_get_with(|bytes| bytes.len()), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get_with<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Result<R, GetError> {
        receiving::get_with(&self.ring(), read, Deadline::after(Duration::ZERO))
    }

    /// Receives an item like [`get_with`](Queue::get_with). Waits for one for at most `timeout`.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// queue.put(vec![1, 2, 3])?;
    /// assert_eq!(queue.get_with_timeout(|bytes| bytes.len(), Duration::from_secs(1))?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_with_timeout<R>(
        &self,
        read: impl FnOnce(&[u8]) -> R,
        timeout: Duration,
    ) -> Result<R, GetError> {
        receiving::get_with(&self.ring(), read, Deadline::after(timeout))
    }

    /// Receives an item like [`get_with`](Queue::get_with). Waits for one until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// queue.put(vec![1, 2, 3])?;
    /// let until = Instant::now() + Duration::from_secs(1);
    /// assert_eq!(queue.get_with_deadline(|bytes| bytes.len(), until)?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_with_deadline<R>(
        &self,
        read: impl FnOnce(&[u8]) -> R,
        deadline: Instant,
    ) -> Result<R, GetError> {
        receiving::get_with(&self.ring(), read, Deadline::at(deadline))
    }
}
