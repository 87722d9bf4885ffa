//! Items of bytes that are written and read where they lie in the shared memory.

use std::time::{Duration, Instant};

use super::error::{GetError, PutError};
use super::plain::Queue;
use super::{receiving, sending};
use crate::os::clock::Deadline;

/// Bytes in place, without a second copy.
impl Queue<Vec<u8>> {
    /// Puts an item of `len` bytes that `write` writes where the consumers will read it. What stands in the
    /// buffer at first is arbitrary. Waits for room as long as it takes.
    ///
    /// # Errors
    /// As [`put`](Queue::put), without an item.
    ///
    /// # If a process dies
    /// As with [`put`](Queue::put); also while `write` writes: then nothing is put.
    ///
    /// ```
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// queue.put_with(4, |buffer| buffer.copy_from_slice(b"ping"))?;
    /// assert_eq!(queue.get_with(|bytes| bytes.to_ascii_uppercase())?, b"PING");
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn put_with(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<(), PutError<()>> {
        sending::put_with(&self.ring(), len, write, Deadline::NEVER)
    }

    /// As [`put_with`](Queue::put_with), if there is room now.
    ///
    /// # Errors
    /// As [`try_put`](Queue::try_put), without an item.
    ///
    /// ```
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// queue.try_put_with(4, |buffer| buffer.fill(1))?;
    /// assert!(queue.try_put_with(4, |buffer| buffer.fill(2)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put_with(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<(), PutError<()>> {
        sending::put_with(&self.ring(), len, write, Deadline::after(Duration::ZERO))
    }

    /// As [`put_with`](Queue::put_with), but waits at most `timeout`.
    ///
    /// # Errors
    /// As [`put_timeout`](Queue::put_timeout), without an item.
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// queue.put_with_timeout(4, |buffer| buffer.fill(1), Duration::from_secs(1))?;
    /// assert_eq!(queue.get()?, [1; 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_with_timeout(
        &self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
        timeout: Duration,
    ) -> Result<(), PutError<()>> {
        sending::put_with(&self.ring(), len, write, Deadline::after(timeout))
    }

    /// As [`put_with`](Queue::put_with), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`put_timeout`](Queue::put_timeout), without an item.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::<Vec<u8>>::bounded(1)?;
    /// let until = Instant::now() + Duration::from_secs(1);
    /// queue.put_with_deadline(4, |buffer| buffer.fill(1), until)?;
    /// assert_eq!(queue.get()?, [1; 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_with_deadline(
        &self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
        deadline: Instant,
    ) -> Result<(), PutError<()>> {
        sending::put_with(&self.ring(), len, write, Deadline::at(deadline))
    }

    /// Puts `count` items of `len` bytes each, some hundred at a time, each such batch at once; `write` writes
    /// each, and is told which it is. What stands in the buffer at first is arbitrary. Waits for room as long as
    /// it takes. The fastest way for small items.
    ///
    /// # Errors
    /// As [`put`](Queue::put), with the number of items that were not put.
    ///
    /// # If a process dies
    /// As with [`put_many`](Queue::put_many).
    ///
    /// ```
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// queue.put_many_with(3, 8, |at, buffer| buffer.copy_from_slice(&(at as u64).to_le_bytes()))?;
    /// let mut sum = 0;
    /// queue.get_many_with(3, |bytes| sum += bytes[0])?;
    /// assert_eq!(sum, 0 + 1 + 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_with(
        &self,
        count: usize,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), PutError<usize>> {
        sending::put_many_with(&self.ring(), count, len, write, Deadline::NEVER)
    }

    /// As [`put_many_with`](Queue::put_many_with), as far as there is room now.
    ///
    /// # Errors
    /// As [`put_many_with`](Queue::put_many_with); [`PutError::Full`] with the number of items that there is no room
    /// for. `write` may have been called for some of these.
    ///
    /// ```
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::<Vec<u8>>::bounded(3)?;
    /// assert_eq!(queue.try_put_many_with(5, 8, |at, buffer| buffer.fill(at as u8)), Err(PutError::Full(2)));
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put_many_with(
        &self,
        count: usize,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), PutError<usize>> {
        sending::put_many_with(&self.ring(), count, len, write, Deadline::after(Duration::ZERO))
    }

    /// As [`put_many_with`](Queue::put_many_with), but waits at most `timeout` in all.
    ///
    /// # Errors
    /// As [`try_put_many_with`](Queue::try_put_many_with).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// queue.put_many_with_timeout(3, 8, |at, buffer| buffer.fill(at as u8), Duration::from_secs(1))?;
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_with_timeout(
        &self,
        count: usize,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
        timeout: Duration,
    ) -> Result<(), PutError<usize>> {
        sending::put_many_with(&self.ring(), count, len, write, Deadline::after(timeout))
    }

    /// As [`put_many_with`](Queue::put_many_with), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`try_put_many_with`](Queue::try_put_many_with).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::<Vec<u8>>::bounded(3)?;
    /// let until = Instant::now() + Duration::from_secs(1);
    /// queue.put_many_with_deadline(3, 8, |at, buffer| buffer.fill(at as u8), until)?;
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_with_deadline(
        &self,
        count: usize,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
        deadline: Instant,
    ) -> Result<(), PutError<usize>> {
        sending::put_many_with(&self.ring(), count, len, write, Deadline::at(deadline))
    }

    /// Takes up to `max` items at once and has `read` look at the bytes of each; waits until there is one, as
    /// long as it takes. Says how many. The items are taken, also when `read` panics.
    ///
    /// # Errors
    /// As [`get`](Queue::get).
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

    /// As [`get_many_with`](Queue::get_many_with), with what there is now.
    ///
    /// # Errors
    /// As [`try_get`](Queue::try_get).
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

    /// As [`get_many_with`](Queue::get_many_with), but waits at most `timeout`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
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

    /// As [`get_many_with`](Queue::get_many_with), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
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

    /// Takes the next item and has `read` look at its bytes where they are. Waits for it as long as it takes.
    /// The item is taken, also when `read` panics.
    ///
    /// # Errors
    /// As [`get`](Queue::get).
    ///
    /// # If a process dies
    /// Killed in here, it has taken the item or not: in the second case the next consumer gets it. What has been got goes
    /// with its consumer.
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

    /// As [`get_with`](Queue::get_with), if there is an item now.
    ///
    /// # Errors
    /// As [`try_get`](Queue::try_get).
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

    /// As [`get_with`](Queue::get_with), but waits at most `timeout`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
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

    /// As [`get_with`](Queue::get_with), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
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
