//! The consumers' end of a [`JoinableQueue`]: leases and dead letters.

use std::time::{Duration, Instant};

use super::super::error::GetError;
use super::super::lease::{DeadLetters, Lease};
use super::super::waiting;
use super::JoinableQueue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> JoinableQueue<T> {
    /// Leases the next item. Waits for one without a limit. On a closed queue, this call waits while other
    /// processes work on items, because those items may come back. So two consumers wait for each other
    /// forever if each keeps one lease while it gets another. Finish one item before you get the next.
    ///
    /// # Errors
    /// * [`GetError::Closed`]: the queue is closed and empty, and no other process works on an item.
    /// * [`GetError::Undecodable`]: the item cannot be decoded as a `T`. It counts as done.
    /// * [`GetError::Full`]: there is no shared memory to store the lease.
    /// * [`GetError::Unusable`]: this process was created by a plain `fork()`.
    ///
    /// # If a process dies
    /// If a consumer dies during this call, or later while it has the lease, the item comes back. The next
    /// consumer gets it.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// let lease = queue.get()?;
    /// assert_eq!(*lease, 7);
    /// lease.done()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get(&self) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::NEVER)
    }

    /// Leases the next item if there is one. Does not wait.
    ///
    /// # Errors
    /// [`GetError::Empty`] if there is none. Otherwise, the errors of [`get`](JoinableQueue::get).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::GetError};
    /// let queue = JoinableQueue::<u32>::bounded(3)?;
    /// assert_eq!(queue.try_get().unwrap_err(), GetError::Empty);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::after(Duration::ZERO))
    }

    /// Leases the next item. Waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] if no item came in time. Otherwise, the errors of [`get`](JoinableQueue::get).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert!(queue.get_timeout(Duration::from_millis(10)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::after(timeout))
    }

    /// Leases the next item. Waits for one until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`get_timeout`](JoinableQueue::get_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// let lease = queue.get_deadline(Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(*lease, 7);
    /// lease.done()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_deadline(&self, deadline: Instant) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::at(deadline))
    }

    fn lease(&self, deadline: Deadline) -> Result<Lease<T>, GetError> {
        let (ring, filled) = (&self.ring, &self.ring.control().filled.word);
        let (passed, come) = (|| ring.has_taken(), || ring.has_work());
        let leased = waiting::wait(ring.arena(), filled, deadline, passed, come, || ring.lease(deadline));
        match leased {
            Ok(leased) => Lease::new(self, leased),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Returns an iterator that leases items until the queue is closed and all items are done. Each step waits
    /// without a limit.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// queue.close()?;
    /// for lease in queue.iter() {
    ///     lease?.done()?;
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<Lease<T>, GetError>> {
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            match self.get() {
                Err(GetError::Closed) => None,
                got => {
                    over = matches!(got, Err(GetError::Unusable(_)));
                    Some(got)
                }
            }
        })
    }

    /// Returns an iterator that removes dead letters until there are none at the moment. A dead letter is an
    /// item that was leased as many times as [`with_max_attempts`](JoinableQueue::with_max_attempts) allows,
    /// but never finished. [`join`](JoinableQueue::join) counts it as done.
    ///
    /// # If a process dies
    /// If a process dies during this call, it may or may not have removed the dead letter. If not, the next
    /// process that asks gets the dead letter.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?.with_max_attempts(1)?;
    /// queue.put_many([1, 2])?;
    /// queue.get()?.done()?;
    /// drop(queue.get()?);
    /// let letters: Result<Vec<_>, _> = queue.dead_letters().collect();
    /// assert_eq!(letters?.into_iter().map(|letter| letter.item).collect::<Vec<_>>(), [2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn dead_letters(&self) -> DeadLetters<'_, T> {
        DeadLetters::of(self)
    }
}
