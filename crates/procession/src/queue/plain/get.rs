//! The consumers' end of a [`Queue`].

use std::fmt;
use std::time::{Duration, Instant};

use super::super::error::GetError;
use super::super::receiving;
use super::Queue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Receives the next item. Waits for one without a limit.
    ///
    /// # Errors
    /// * [`GetError::Closed`]: the queue is closed and empty.
    /// * [`GetError::Undecodable`]: the item cannot be decoded as a `T`. Only this item is lost.
    /// * [`GetError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// # If a process dies
    /// If a consumer dies during this call, it may or may not have received the item. If not, the next
    /// consumer gets the item. A received item is lost with its consumer.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(7)?;
    /// assert_eq!(queue.get()?, 7);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::NEVER)
    }

    /// Receives the next item if there is one. Does not wait.
    ///
    /// # Errors
    /// [`GetError::Empty`] if the queue is empty. Otherwise, the errors of [`get`](Queue::get).
    ///
    /// ```
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::<u32>::bounded(3)?;
    /// assert_eq!(queue.try_get(), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::after(Duration::ZERO))
    }

    /// Receives the next item. Waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] if no item came in time. Otherwise, the errors of [`get`](Queue::get).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::<u32>::bounded(3)?;
    /// assert_eq!(queue.get_timeout(Duration::from_millis(10)), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::after(timeout))
    }

    /// Receives the next item. Waits for one until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(7)?;
    /// assert_eq!(queue.get_deadline(Instant::now() + Duration::from_secs(1))?, 7);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::at(deadline))
    }

    /// Receives up to `max` items in one step. Waits for the first one without a limit. An item that cannot
    /// be decoded as a `T` appears as an `Err` in its place in the list.
    ///
    /// # Errors
    /// The errors of [`get`](Queue::get), except [`GetError::Undecodable`].
    ///
    /// # If a process dies
    /// If a consumer dies during this call, it has received either all of the items or none.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// queue.put_many(1..=5)?;
    /// let got: Result<Vec<i32>, _> = queue.get_many(3)?.into_iter().collect();
    /// assert_eq!(got?, [1, 2, 3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many(&self, max: usize) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::NEVER)
    }

    /// Receives up to `max` items like [`get_many`](Queue::get_many). Does not wait.
    ///
    /// # Errors
    /// The errors of [`try_get`](Queue::try_get), except [`GetError::Undecodable`].
    ///
    /// ```
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::bounded(3)?;
    /// assert!(matches!(queue.try_get_many(3), Err(GetError::Empty)));
    /// queue.put_many([1, 2])?;
    /// assert_eq!(queue.try_get_many(3)?, [Ok(1), Ok(2)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get_many(&self, max: usize) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::after(Duration::ZERO))
    }

    /// Receives up to `max` items like [`get_many`](Queue::get_many). Waits for at most `timeout`.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout), except [`GetError::Undecodable`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.get_many_timeout(3, Duration::from_secs(1))?, [Ok(1)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::after(timeout))
    }

    /// Receives up to `max` items like [`get_many`](Queue::get_many). Waits until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](Queue::get_timeout), except [`GetError::Undecodable`].
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.get_many_deadline(3, Instant::now() + Duration::from_secs(1))?, [Ok(1)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_deadline(
        &self,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::at(deadline))
    }

    /// Returns an iterator that receives items until the queue is closed and empty. Each step waits without a limit.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// queue.put_many(["a".to_string(), "b".to_string()])?;
    /// queue.close()?;
    /// let all: Result<Vec<String>, _> = queue.iter().collect();
    /// assert_eq!(all?, ["a", "b"]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, over: false }
    }
}

/// An iterator over the items of a queue until it is closed and empty. [`Queue::iter`] creates it.
///
/// ```
/// let queue = procession::Queue::bounded(3)?;
/// queue.put_many([1, 2])?;
/// queue.close()?;
/// let all: Result<Vec<i32>, _> = (&queue).into_iter().collect();
/// assert_eq!(all?, [1, 2]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
    over: bool,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Result<T, GetError>> {
        if self.over {
            return None;
        }
        let got = self.queue.get();
        self.over = matches!(got, Err(GetError::Closed | GetError::Unusable(_)));
        (!matches!(got, Err(GetError::Closed))).then_some(got)
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<'a, T: Message> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
