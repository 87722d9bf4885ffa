//! The consumers' end of a [`JoinableQueue`]: leases, and what is left of those that were given up.

use std::time::{Duration, Instant};

use super::super::error::GetError;
use super::super::lease::{DeadLetters, Lease};
use super::super::waiting;
use super::JoinableQueue;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<T: Message> JoinableQueue<T> {
    /// Takes a lease of the next item, and waits for it as long as it takes. On a closed queue it waits
    /// while other processes work on items, which may come back: so two consumers that each keep one lease
    /// while they get the next wait for each other. Finish one before you get another.
    ///
    /// # Errors
    /// [`GetError::Closed`] when there is none and will be none; [`GetError::Undecodable`] when the item
    /// cannot be read as a `T`: it counts as done; [`GetError::Full`] when there is no shared memory to
    /// note the lease in, or in a plain fork of a member of the family.
    ///
    /// # If a process dies
    /// Killed in here, or later with the lease in its hands, the item comes back, to whoever gets the next one.
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

    /// Takes a lease of the next item if there is one now.
    ///
    /// # Errors
    /// [`GetError::Empty`] when there is none; otherwise as [`get`](JoinableQueue::get).
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

    /// Takes a lease of the next item, and waits for it at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] when the time was up; otherwise as [`get`](JoinableQueue::get).
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

    /// Takes a lease of the next item, and waits for it at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](JoinableQueue::get_timeout).
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

    /// Takes leases one after the other, waiting for each, until the queue is closed, empty and done.
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

    /// Takes out the items that were handed out as often as
    /// [`with_max_attempts`](JoinableQueue::with_max_attempts) allows, and never done; one after the other,
    /// until there is none at the moment. They count as done for [`join`](JoinableQueue::join).
    ///
    /// # If a process dies
    /// Killed in here, it has taken the letter or not: in the second case the next one gets it.
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
