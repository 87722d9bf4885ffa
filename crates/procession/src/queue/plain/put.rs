//! The producers' end of a [`Queue`].

use std::time::{Duration, Instant};

use super::super::error::PutError;
use super::super::sending;
use super::Queue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Puts an item, and waits for room as long as it takes.
    ///
    /// # Errors
    /// Each gives the item back. [`PutError::Closed`]; [`PutError::Unsendable`] when it cannot be encoded;
    /// [`PutError::NoMemory`] when the family's shared memory is full; [`PutError::Unusable`] in a plain fork of
    /// a member of the family.
    ///
    /// # If a process dies
    /// Killed in here, it has put the item or not; in either case everybody else goes on. When this has returned, the item
    /// is in the queue whatever becomes of its producer.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put("first".to_string())?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::NEVER)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// [`PutError::Full`] when there is none; otherwise as [`put`](Queue::put).
    ///
    /// ```
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::bounded(1)?;
    /// queue.try_put(1)?;
    /// assert_eq!(queue.try_put(2), Err(PutError::Full(2)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(Duration::ZERO))
    }

    /// Puts an item, and waits for room at most `timeout`.
    ///
    /// # Errors
    /// [`PutError::Full`] when the time was up; otherwise as [`put`](Queue::put).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::bounded(1)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.put_timeout(2, Duration::from_millis(10)), Err(PutError::Full(2)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(timeout))
    }

    /// Puts an item, and waits for room at most until `deadline`.
    ///
    /// # Errors
    /// As [`put_timeout`](Queue::put_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put_deadline(1, Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(queue.get()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_deadline(&self, item: T, deadline: Instant) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::at(deadline))
    }

    /// Puts many items, some hundred at a time, each such batch at once; waits for room as long as it takes.
    /// Much faster than one by one. Says how many.
    ///
    /// # Errors
    /// As [`put`](Queue::put), with those items that were taken from the iterator and not put.
    ///
    /// # If a process dies
    /// Killed in here, it has put all batches up to some one, each whole.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// assert_eq!(queue.put_many(1..=1000)?, 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::NEVER)
    }

    /// As [`put_many`](Queue::put_many), as far as there is room now.
    ///
    /// # Errors
    /// As [`put_many`](Queue::put_many); [`PutError::Full`] with those items that were taken from the iterator
    /// and that there is no room for. Give an iterator `by_ref()` to keep the rest.
    ///
    /// ```
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::bounded(3)?;
    /// let mut numbers = 1..=5;
    /// assert_eq!(queue.try_put_many(numbers.by_ref()), Err(PutError::Full(vec![4, 5])));
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::after(Duration::ZERO))
    }

    /// As [`put_many`](Queue::put_many), but waits at most `timeout` in all.
    ///
    /// # Errors
    /// As [`try_put_many`](Queue::try_put_many).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::bounded(3)?;
    /// let refused = queue.put_many_timeout(1..=4, Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(refused.into_item(), [4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_timeout(
        &self,
        items: impl IntoIterator<Item = T>,
        timeout: Duration,
    ) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::after(timeout))
    }

    /// As [`put_many`](Queue::put_many), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`try_put_many`](Queue::try_put_many).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(3)?;
    /// assert_eq!(queue.put_many_deadline(1..=3, Instant::now() + Duration::from_secs(1))?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_deadline(
        &self,
        items: impl IntoIterator<Item = T>,
        deadline: Instant,
    ) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::at(deadline))
    }
}
