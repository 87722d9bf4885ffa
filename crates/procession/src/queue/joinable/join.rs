//! Waiting until every item of a [`JoinableQueue`] is done.

use std::time::{Duration, Instant};

use super::super::error::JoinError;
use super::super::ring::Refusal;
use super::super::waiting;
use super::JoinableQueue;
use crate::Error;
use crate::arena::member;
use crate::os::clock::Deadline;

impl<T> JoinableQueue<T> {
    /// Waits without a limit until every item is done or has become a dead letter.
    ///
    /// # Errors
    /// [`JoinError::Unusable`] in a process that was created by a plain `fork()`. [`JoinError::Full`] if the shared
    /// memory is full.
    ///
    /// # If a process dies
    /// An item that the dead process worked on comes back to the queue, and the wait continues until a
    /// consumer has finished the item.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put("work".to_string())?;
    /// queue.get()?.done()?;
    /// queue.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::NEVER)
    }

    /// Returns `Ok` if every item is done. Does not wait.
    ///
    /// # Errors
    /// [`JoinError::WouldBlock`] if some items are not done. Otherwise, the errors of [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::JoinError};
    /// let queue = JoinableQueue::bounded(3)?;
    /// assert_eq!(queue.try_join(), Ok(()));
    /// queue.put(1)?;
    /// assert_eq!(queue.try_join(), Err(JoinError::WouldBlock));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO)).map_err(JoinError::without_waiting)
    }

    /// Waits like [`join`](JoinableQueue::join), for at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::TimedOut`] if some items were not done in time. Otherwise, the errors of
    /// [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{JoinableQueue, queue::JoinError};
    /// let queue = JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.join_timeout(Duration::from_millis(10)), Err(JoinError::TimedOut));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.wait(Deadline::after(timeout))
    }

    /// Waits like [`join`](JoinableQueue::join), until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`join_timeout`](JoinableQueue::join_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// queue.join_deadline(Instant::now() + Duration::from_secs(1))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<(), JoinError> {
        let ring = &self.ring;
        let finished = || if ring.is_finished() { Ok(()) } else { Err(Refusal::Empty) };
        let word = &ring.control().finished.word;
        match waiting::wait(ring.arena(), word, deadline, || 0, || ring.is_finished(), finished) {
            Ok(()) if member::is_forked() => Err(JoinError::Unusable(Error::Forked.to_string())),
            Ok(()) => Ok(()),
            Err(Refusal::Unusable(error)) => Err(JoinError::unusable(&error)),
            Err(_) => Err(JoinError::TimedOut),
        }
    }
}
