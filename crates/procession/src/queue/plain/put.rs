//! The producers' end of a [`Queue`].

use std::time::{Duration, Instant};

use super::super::error::PutError;
use super::super::sending;
use super::Queue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Puts an item into the queue. Waits for room without a limit.
    ///
    /// # Errors
    /// Each error returns the item.
    /// * [`PutError::Closed`]: the queue is closed.
    /// * [`PutError::Unsendable`]: the item cannot be encoded.
    /// * [`PutError::NoMemory`]: the family's shared memory is full.
    /// * [`PutError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// # If a process dies
    /// If a producer dies during this call, it may or may not have put the item, and the other processes
    /// continue. Once the call returns, the item stays in the queue even if its producer dies.
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

    /// Puts an item into the queue if there is room. Does not wait.
    ///
    /// # Errors
    /// [`PutError::Full`] if there is no room. Otherwise, the errors of [`put`](Queue::put).
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

    /// Puts an item into the queue. Waits for room for at most `timeout`.
    ///
    /// # Errors
    /// [`PutError::Full`] if there was no room in time. Otherwise, the errors of [`put`](Queue::put).
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

    /// Puts an item into the queue. Waits for room until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`put_timeout`](Queue::put_timeout).
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

    /// Puts many items in batches of a few hundred. Each batch becomes visible in one step, which is much
    /// faster than putting one item at a time. Waits for room without a limit. Returns the number of items.
    ///
    /// # Errors
    /// The errors of [`put`](Queue::put). They return the items that were taken from the iterator and not put.
    ///
    /// # If a process dies
    /// If a producer dies during this call, it has put some number of whole batches.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// assert_eq!(queue.put_many(1..=1000)?, 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::NEVER)
    }

    /// Puts as many items as there is room for, like [`put_many`](Queue::put_many). Does not wait.
    ///
    /// # Errors
    /// The errors of [`put_many`](Queue::put_many), and [`PutError::Full`] with the items that were taken
    /// from the iterator and did not fit. Pass `iterator.by_ref()` to keep the remaining items.
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

    /// Puts many items like [`put_many`](Queue::put_many). Waits for room for at most `timeout` in all.
    ///
    /// # Errors
    /// The errors of [`try_put_many`](Queue::try_put_many).
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

    /// Puts many items like [`put_many`](Queue::put_many). Waits for room until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`try_put_many`](Queue::try_put_many).
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
