//! The consumers' end of a [`Queue`].

use std::fmt;
use std::time::{Duration, Instant};

use super::super::error::GetError;
use super::super::receiving;
use super::Queue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Takes the next item, and waits for it as long as it takes.
    ///
    /// # Errors
    /// [`GetError::Closed`] when there is none and will be none; [`GetError::Undecodable`] when the
    /// item cannot be read as a `T`, which costs only this item; [`GetError::Unusable`] in a plain fork of a
    /// member of the family.
    ///
    /// # If a process dies
    /// Killed in here, it has taken the item or not: in the second case the next consumer gets it. What has been got goes
    /// with its consumer.
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

    /// Takes the next item if there is one now.
    ///
    /// # Errors
    /// [`GetError::Empty`] when there is none; otherwise as [`get`](Queue::get).
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

    /// Takes the next item, and waits for it at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] when the time was up; otherwise as [`get`](Queue::get).
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

    /// Takes the next item, and waits for it at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
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

    /// Takes up to `max` items at once; waits until there is one, as long as it takes. An item that cannot
    /// be read as a `T` is an error in its place.
    ///
    /// # Errors
    /// As [`get`](Queue::get), but for what cannot be read.
    ///
    /// # If a process dies
    /// Killed in here, it has taken all of them or none.
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

    /// As [`get_many`](Queue::get_many), with what there is now.
    ///
    /// # Errors
    /// As [`try_get`](Queue::try_get), but for what cannot be read.
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

    /// As [`get_many`](Queue::get_many), but waits at most `timeout`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout), but for what cannot be read.
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

    /// As [`get_many`](Queue::get_many), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout), but for what cannot be read.
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

    /// Takes items one after the other, waiting for each, until the queue is closed and empty.
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

/// The items of a queue, until it is closed and empty: see [`Queue::iter`].
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
