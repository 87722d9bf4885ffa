//! Putting items that consist of bytes. The bytes are written in place, in the shared memory.

use std::time::{Duration, Instant};

use super::error::PutError;
use super::plain::Queue;
use super::sending;
use crate::os::clock::Deadline;

/// Methods that write bytes in place, without a second copy.
impl Queue<Vec<u8>> {
    /// Puts an item of `len` bytes. `write` writes these bytes in the place where the consumers will read
    /// them. The buffer's initial content is arbitrary. Waits for room without a limit.
    ///
    /// # Errors
    /// The errors of [`put`](Queue::put), without an item.
    ///
    /// # If a process dies
    /// The same as with [`put`](Queue::put). If the process dies while `write` runs, no item is put.
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

    /// Puts an item like [`put_with`](Queue::put_with), if there is room. Does not wait.
    ///
    /// # Errors
    /// The errors of [`try_put`](Queue::try_put), without an item.
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

    /// Puts an item like [`put_with`](Queue::put_with). Waits for room for at most `timeout`.
    ///
    /// # Errors
    /// The errors of [`put_timeout`](Queue::put_timeout), without an item.
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

    /// Puts an item like [`put_with`](Queue::put_with). Waits for room until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`put_timeout`](Queue::put_timeout), without an item.
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

    /// Puts `count` items of `len` bytes each, in batches of a few hundred. `write` receives the index of an
    /// item and writes its bytes. The buffer's initial content is arbitrary. Each batch becomes visible in
    /// one step. Waits for room without a limit. This is the fastest way to put small items.
    ///
    /// # Errors
    /// The errors of [`put`](Queue::put), with the number of items that were not put.
    ///
    /// # If a process dies
    /// The same as with [`put_many`](Queue::put_many).
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

    /// Puts as many items as there is room for, like [`put_many_with`](Queue::put_many_with). Does not wait.
    ///
    /// # Errors
    /// The errors of [`put_many_with`](Queue::put_many_with), and [`PutError::Full`] with the number of items that
    /// did not fit. `write` may have been called for some of these.
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

    /// Puts items like [`put_many_with`](Queue::put_many_with). Waits for room for at most `timeout` in all.
    ///
    /// # Errors
    /// The errors of [`try_put_many_with`](Queue::try_put_many_with).
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

    /// Puts items like [`put_many_with`](Queue::put_many_with). Waits for room until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`try_put_many_with`](Queue::try_put_many_with).
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
}
