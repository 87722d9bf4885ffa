//! The state of a pool, its size, and its end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cells::control::phase;
use super::cells::state::{DONE, KILLING, NEW, QUEUED, RETURNED, RUNNING, TAKEN};
use super::pool::Pool;
use super::{builder, worker};
use crate::arena::member;
use crate::os::clock::Deadline;
use crate::queue::ring::Refusal;
use crate::queue::{JoinError, waiting};
use crate::{Error, Result};

/// A snapshot of a pool's counters.
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
    /// The number of workers that the pool should have.
    pub workers: usize,
    /// The process ids of the workers that are ready for tasks.
    pub pids: Vec<u32>,
    /// The number of tasks, or chunks of maps, that no worker has begun.
    pub waiting: usize,
    /// The number of tasks or chunks that are running.
    pub running: usize,
    /// The number of tasks or chunks that are done, whether they returned or failed.
    pub done: u64,
    /// The number of workers that were started.
    pub started: u64,
    /// The number of workers that have died, including workers that were killed because of their task.
    pub deaths: u64,
    /// The number of times that a task exceeded its time limit.
    pub timeouts: u64,
}

impl Pool {
    /// Changes the number of workers. Surplus workers end after their current task.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero workers or more than 1000.
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

    /// Returns the counters of the pool. In a plain fork of a member of the family all are 0.
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
        let ready = control.ready.iter().map(|pid| pid.load(Ordering::SeqCst).cast_unsigned());
        stats.pids = ready.filter(|&pid| pid != 0).collect();
        for (_, cell) in control.cells(self.shared.arena) {
            let state = cell.state();
            stats.done += u64::from(state.generation());
            match state.phase() {
                NEW | QUEUED | RETURNED => stats.waiting += 1,
                TAKEN | RUNNING | KILLING => stats.running += 1,
                DONE => stats.done += 1,
                _ => {}
            }
        }
        stats
    }

    /// Closes the pool: from now on, [`submit`](Pool::submit) and similar calls fail with
    /// [`TaskError::Closed`](super::TaskError::Closed). The workers finish the tasks that were submitted
    /// before, and then end. Returns without waiting for that. Use [`join`](Pool::join) to wait.
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
    /// [`Error::Forked`] in a plain fork of a member of the family.
    pub fn close(&self) -> Result<()> {
        member::arena()?;
        self.shared.advance(phase::CLOSED);
        Ok(())
    }

    /// Ends the pool now: kills its workers, and fails all unfinished tasks with
    /// [`TaskError::Terminated`](super::TaskError::Terminated). Returns without waiting for that. Use
    /// [`join`](Pool::join) to wait.
    ///
    /// # Errors
    /// [`Error::Forked`] in a plain fork of a member of the family.
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

    /// Waits until a closed or terminated pool has finished its tasks and its workers have ended.
    ///
    /// # Errors
    /// [`JoinError::Unusable`] if the pool is open, or if the caller is one of its workers. In both cases the
    /// call would wait for ever.
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

    /// As [`join`](Pool::join), without waiting.
    ///
    /// # Errors
    /// [`JoinError::WouldBlock`] while the pool has workers. Otherwise as [`join`](Pool::join).
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// assert!(pool.try_join().is_err()); // it is not closed
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO)).map_err(JoinError::without_waiting)
    }

    /// As [`join`](Pool::join), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::TimedOut`] if the wait times out. Otherwise as [`join`](Pool::join).
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

    /// As [`join`](Pool::join), but waits at most until `deadline`.
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
            return unusable(
                "the pool is open, so joining it would wait for ever: close or terminate it first",
            );
        }
        if worker::is_worker_of(shared) {
            return unusable("a worker cannot join its own pool: it would wait for ever");
        }
        let ended =
            || if control.shut_down.load(Ordering::SeqCst) == 1 { Ok(()) } else { Err(Refusal::Empty) };
        match waiting::wait(shared.arena, &control.ended.word, deadline, || 0, || ended().is_ok(), ended) {
            Ok(()) => Ok(()),
            Err(Refusal::Unusable(error)) => Err(JoinError::unusable(&error)),
            Err(_) => Err(JoinError::TimedOut),
        }
    }
}
