//! The producers' end of a [`JoinableQueue`].

use std::time::{Duration, Instant};

use super::super::error::PutError;
use super::super::sending;
use super::JoinableQueue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> JoinableQueue<T> {
    /// Puts an item into the queue. Waits for room without a limit.
    ///
    /// # Errors
    /// The errors of [`Queue::put`](crate::Queue::put).
    ///
    /// # If a process dies
    /// The same as with [`Queue::put`](crate::Queue::put).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// assert_eq!(queue.unfinished(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::NEVER)
    }

    /// Puts an item into the queue if there is room. Does not wait.
    ///
    /// # Errors
    /// The errors of [`Queue::try_put`](crate::Queue::try_put).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::PutError};
    /// let queue = JoinableQueue::bounded(1)?;
    /// queue.try_put(1)?;
    /// assert_eq!(queue.try_put(2), Err(PutError::Full(2)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(Duration::ZERO))
    }

    /// Puts an item into the queue. Waits for room for at most `timeout`.
    ///
    /// # Errors
    /// The errors of [`Queue::put_timeout`](crate::Queue::put_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::JoinableQueue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.put_timeout(2, Duration::from_millis(10)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(timeout))
    }

    /// Puts an item into the queue. Waits for room until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`put_timeout`](JoinableQueue::put_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::JoinableQueue::bounded(1)?;
    /// queue.put_deadline(1, Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_deadline(&self, item: T, deadline: Instant) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::at(deadline))
    }

    /// Puts many items in batches of a few hundred. Waits for room without a limit. Returns the number of
    /// items.
    ///
    /// # Errors
    /// The errors of [`Queue::put_many`](crate::Queue::put_many).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::unbounded()?;
    /// assert_eq!(queue.put_many(1..=1000)?, 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::NEVER)
    }
}
