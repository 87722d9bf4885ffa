//! How a pool is doing, grows, shrinks and ends.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cells::cell::{CONDEMNED, DONE, NEW, QUEUED, RETURNED, RUNNING, TAKEN};
use super::cells::control::phase;
use super::pool::Pool;
use super::{builder, worker};
use crate::arena::member;
use crate::os::clock::Deadline;
use crate::queue::ring::Refusal;
use crate::queue::{JoinError, waiting};
use crate::{Error, Result};

/// How a pool is doing. A snapshot.
///
/// ```
/// let pool = procession::Pool::new(2)?;
/// pool.apply(|| (), ())?;
/// let stats = pool.stats();
/// assert_eq!((stats.workers, stats.waiting, stats.done, stats.deaths), (2, 0, 1, 0));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// How many workers there should be.
    pub workers: usize,
    /// The workers' process ids, of those that are ready for tasks.
    pub pids: Vec<i32>,
    /// Tasks, or chunks of maps, that nobody has begun.
    pub waiting: usize,
    /// Those that are being done.
    pub running: usize,
    /// Those that are done, one way or another.
    pub done: u64,
    /// How many workers were started.
    pub started: u64,
    /// How many workers have died.
    pub deaths: u64,
    /// How many tasks were killed because they took too long.
    pub timeouts: u64,
}

impl Pool {
    /// Has more workers, or fewer: those that are too many leave after their task.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero workers, or too many.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// pool.resize(3)?;
    /// assert_eq!(pool.stats().workers, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn resize(&self, workers: usize) -> Result<()> {
        member::arena()?;
        builder::check_workers(workers)?;
        self.shared.resize(workers as u32);
        Ok(())
    }

    /// How it is doing. (A plain fork of a member of the family sees nothing.)
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// pool.map(|n: u32| n, 0..10)?;
    /// assert!(pool.stats().done > 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if member::is_forked() {
            return stats;
        }
        let control = self.shared.control;
        let count = |word: &std::sync::atomic::AtomicU32| u64::from(word.load(Ordering::Relaxed));
        stats.workers = control.wanted.load(Ordering::Relaxed) as usize;
        stats.started = count(&control.started);
        stats.deaths = count(&control.deaths);
        stats.timeouts = count(&control.timeouts);
        stats.pids =
            control.ready.iter().map(|pid| pid.load(Ordering::SeqCst)).filter(|&pid| pid != 0).collect();
        for (_, cell) in control.cells(self.shared.arena) {
            let state = cell.state();
            stats.done += u64::from(state.generation());
            match state.phase() {
                NEW | QUEUED | RETURNED => stats.waiting += 1,
                TAKEN | RUNNING | CONDEMNED => stats.running += 1,
                DONE => stats.done += 1,
                _ => {}
            }
        }
        stats
    }

    /// Takes no more tasks; those that are there are done. Then the workers leave.
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::new(1)?;
    /// let last = pool.submit(|| 1, ())?;
    /// pool.close()?;
    /// assert_eq!(pool.submit(|| 2, ()).unwrap_err(), TaskError::Closed);
    /// pool.join()?;
    /// assert_eq!(last.get()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Errors
    /// In a plain fork of a member of the family.
    pub fn close(&self) -> Result<()> {
        member::arena()?;
        self.shared.advance(phase::CLOSED);
        Ok(())
    }

    /// Ends the pool now: kills its workers, and fails the tasks that are not done with
    /// [`TaskError::Terminated`](super::TaskError::Terminated). [`join`](Pool::join) waits until that has happened.
    ///
    /// # Errors
    /// In a plain fork of a member of the family.
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::new(1)?;
    /// let endless = pool.submit(|| -> () { loop { std::thread::park() } }, ())?;
    /// pool.terminate()?;
    /// assert!(matches!(endless.get(), Err(TaskError::Terminated)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn terminate(&self) -> Result<()> {
        member::arena()?;
        self.shared.advance(phase::TERMINATED);
        Ok(())
    }

    /// Waits until a closed or terminated pool has no workers any more.
    ///
    /// # Errors
    /// [`JoinError::Unusable`] when it is not closed, and in its own workers: both would wait for ever.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let task = pool.submit(|| 6 * 7, ())?;
    /// pool.close()?;
    /// pool.join()?;
    /// assert_eq!(task.get()?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::NEVER)
    }

    /// Whether a closed or terminated pool has no workers any more.
    ///
    /// # Errors
    /// [`JoinError::NotDone`] when it has; otherwise as [`join`](Pool::join).
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// assert!(pool.try_join().is_err()); // it is not even closed
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// As [`join`](Pool::join), but at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::NotDone`] when the time was up; otherwise as [`join`](Pool::join).
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// pool.close()?;
    /// pool.join_timeout(std::time::Duration::from_secs(60))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](Pool::join), but at most until `deadline`.
    ///
    /// # Errors
    /// As [`join_timeout`](Pool::join_timeout).
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// pool.close()?;
    /// pool.join_deadline(std::time::Instant::now() + std::time::Duration::from_secs(60))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<(), JoinError> {
        let (shared, control) = (&self.shared, self.shared.control);
        let unusable = |why: &str| Err(JoinError::Unusable(why.into()));
        if member::is_forked() {
            return Err(JoinError::Unusable(Error::Forked.to_string()));
        }
        if shared.phase() == phase::OPEN {
            return unusable("the pool is open: close or terminate it first, or this would wait for ever");
        }
        if worker::is_worker_of(shared) {
            return unusable("a worker that waits for the end of its own pool would wait for ever");
        }
        let over =
            || if control.shut_down.load(Ordering::SeqCst) == 1 { Ok(()) } else { Err(Refusal::Empty) };
        match waiting::wait(shared.arena, &control.ended.word, deadline, || 0, || over().is_ok(), over) {
            Ok(()) => Ok(()),
            Err(Refusal::Unusable(error)) => Err(JoinError::unusable(&error)),
            Err(_) => Err(JoinError::NotDone),
        }
    }
}
