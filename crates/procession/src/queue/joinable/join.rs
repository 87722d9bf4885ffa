//! Waiting until everything that was put into a [`JoinableQueue`] is done.

use std::time::{Duration, Instant};

use super::super::error::JoinError;
use super::super::ring::Refusal;
use super::super::waiting;
use super::JoinableQueue;
use crate::Error;
use crate::arena::member;
use crate::os::clock::Deadline;

impl<T> JoinableQueue<T> {
    /// Waits until everything that was put is done, or a dead letter, as long as it takes.
    ///
    /// # Errors
    /// [`JoinError::Unusable`] in a plain fork of a member of the family.
    ///
    /// # If a process dies
    /// What it worked on comes back to the queue and is waited for: somebody has to get it.
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

    /// Whether everything is done: an error if not.
    ///
    /// # Errors
    /// [`JoinError::NotDone`]; otherwise as [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::JoinError};
    /// let queue = JoinableQueue::bounded(3)?;
    /// assert_eq!(queue.try_join(), Ok(()));
    /// queue.put(1)?;
    /// assert_eq!(queue.try_join(), Err(JoinError::NotDone));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// As [`join`](JoinableQueue::join), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::NotDone`] when the time was up; otherwise as [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{JoinableQueue, queue::JoinError};
    /// let queue = JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.join_timeout(Duration::from_millis(10)), Err(JoinError::NotDone));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](JoinableQueue::join), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`join_timeout`](JoinableQueue::join_timeout).
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
            Err(_) => Err(JoinError::NotDone),
        }
    }
}
