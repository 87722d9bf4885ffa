//! [`Consumers`]: a handle to a fleet of consumers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::consumer::consume;
use super::fleet::{Fleet, Ties};
use super::handled::Handled;
use super::keeper::{Keeper, Start};
use crate::arena::member;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::os::threads;
use crate::process::Captureless;
use crate::process::entry::assert_captures_nothing;
use crate::queue::JoinError;
use crate::{Error, JoinableQueue, Process, Result, unwind};

/// The maximum number of consumers of a fleet.
const MOST: usize = 1000;

/// A fleet of processes that work on the items of a [`JoinableQueue`]. [`JoinableQueue::consumers`] creates it.
///
/// The fleet ends when its queue is closed and every item is done or has become a dead letter, or when it is
/// [stopped](Consumers::stop). Dropping the handle also stops the fleet. A `Consumers` is a [`Future`] that is ready
/// when the fleet has ended.
///
/// The consumers are daemons: when main returns, they are ended wherever they are. So join the fleet before that.
///
/// # If a process dies
///
/// * A **consumer**: its item returns to the front of the queue, with its attempt counted. After
///   [`with_max_attempts`](JoinableQueue::with_max_attempts) attempts it becomes a dead letter instead. Another
///   process replaces the consumer.
/// * The process that **created** the fleet: the consumers finish the items that they work on, and leave. They
///   are not replaced. All other items stay in the queue.
///
/// ```
/// use procession::JoinableQueue;
///
/// fn work(n: u64) -> Result<(), String> {
///     match n {
///         13 => std::process::abort(), // as a bug in native code would
///         17 => Err("17 cannot be done".into()),
///         _ => Ok(()),
///     }
/// }
///
/// let queue = JoinableQueue::unbounded()?.with_max_attempts(2)?;
/// let consumers = queue.consumers(3, work)?;
/// queue.put_many(0..100)?;
/// queue.close()?;
/// consumers.join()?;
/// assert_eq!((queue.unfinished(), consumers.deaths()), (0, 2));
/// let mut failed = queue.dead_letters().map(|letter| Ok(letter?.item)).collect::<procession::Result<Vec<_>>>()?;
/// failed.sort();
/// assert_eq!(failed, [13, 17]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the handle stops the consumers"]
pub struct Consumers {
    fleet: Arc<Fleet>,
}

impl<T: Message> JoinableQueue<T> {
    /// Starts `count` processes that call `f` with the items of the queue, and replaces each one that dies. An
    /// item is done when `f` has returned `()` or `Ok(())`. If `f` returns an `Err` or panics, the item returns to
    /// the front of the queue.
    ///
    /// An item that fails again and again comes back for ever, unless
    /// [`with_max_attempts`](JoinableQueue::with_max_attempts) makes it a dead letter at some point.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for zero consumers or more than 1000. Otherwise as
    /// [`Process::spawn`](crate::Process::spawn).
    ///
    /// # If a process dies
    /// If a consumer dies, the item that it worked on returns to the queue, and another process replaces the
    /// consumer. [`Consumers`] says more.
    ///
    /// ```
    /// use procession::{JoinableQueue, Queue};
    /// let (words, lengths) = (JoinableQueue::bounded(10)?, Queue::unbounded()?);
    /// let measure = |(word, lengths): (String, Queue<usize>)| lengths.put(word.len());
    /// let consumers = words.consumers(2, measure)?;
    /// for word in ["to", "be", "or", "not"] {
    ///     words.put((word.to_string(), lengths.clone()))?;
    /// }
    /// words.close()?;
    /// consumers.join()?;
    /// assert_eq!(lengths.len(), 4);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn consumers<F, R>(&self, count: usize, f: F) -> Result<Consumers>
    where
        F: Fn(T) -> R + Captureless,
        R: Handled + 'static,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        if !(1..=MOST).contains(&count) {
            return Err(Error::InvalidArgument(format!("a fleet has 1 to {MOST} consumers, not {count}")));
        }
        let (ties, queue) = (Ties::new()?, self.clone());
        let fleet = Arc::new(Fleet::new(ties.clone()));
        let start: Start = Box::new(move |number| {
            let builder = Process::builder().name(format!("consumer-{number}")).daemon(true);
            builder.spawn(consume::<F, T, R>, (queue.clone(), ties.clone()))
        });
        let keeper = Keeper::new(&fleet, count, start)?;
        // If the thread cannot be started, dropping the handle stops the consumers.
        let consumers = Consumers { fleet: fleet.clone() };
        let started = threads::start("procession-fleet", move || {
            let ended = unwind::catch(|| keeper.keep());
            let panicked = |_| Err(JoinError::Broken("the thread that replaces consumers panicked".into()));
            fleet.end(ended.unwrap_or_else(panicked));
        });
        started.map_err(|e| Error::os("starting the thread of a fleet", &e))?;
        Ok(consumers)
    }
}

impl Consumers {
    /// Stops the fleet in an orderly way: each consumer finishes the item that it works on, and leaves. All other
    /// items stay in the queue. Returns without waiting for that. Use [`join`](Consumers::join) to wait.
    ///
    /// # Errors
    /// [`Error::Forked`] in a plain fork of the process that created the fleet.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// let consumers = queue.consumers(2, |_: u32| ())?;
    /// consumers.stop()?;
    /// consumers.join()?;
    /// assert!(!queue.is_closed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn stop(&self) -> Result<()> {
        self.fleet.ties.stop.close()
    }

    /// Stops the fleet now: kills the consumers. The items that they worked on return to the queue, with their
    /// attempts counted. Returns without waiting for that. Use [`join`](Consumers::join) to wait.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel refuses. [`Error::Forked`] in a plain fork of the process that created the
    /// fleet.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// let consumers = queue.consumers(1, |_: u32| -> () { loop { std::thread::park() } })?;
    /// consumers.kill()?;
    /// consumers.join()?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn kill(&self) -> Result<()> {
        self.stop()?;
        // A consumer that the keeper starts after this has found the fleet stopped before it leases an item.
        let running = self.fleet.state().consumers.clone();
        running.iter().try_for_each(Process::kill)
    }

    /// Waits until the fleet has ended. Can be called again.
    ///
    /// # Errors
    /// [`JoinError::Broken`] if the fleet has ended early because its consumers could not be started.
    /// [`JoinError::Unusable`] in a plain fork of the process that created the fleet.
    ///
    /// # If a process dies
    /// A consumer that dies is replaced, and the wait continues.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// let consumers = queue.consumers(2, |n: u32| assert!(n < 3))?;
    /// queue.put_many(0..3)?;
    /// queue.close()?;
    /// consumers.join()?;
    /// assert_eq!(queue.unfinished(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::NEVER)
    }

    /// As [`join`](Consumers::join), without waiting.
    ///
    /// # Errors
    /// [`JoinError::WouldBlock`] while the fleet has consumers. Otherwise as [`join`](Consumers::join).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// let consumers = queue.consumers(2, |_: u32| ())?;
    /// assert!(consumers.try_join().is_err()); // the queue is not closed
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO)).map_err(JoinError::without_waiting)
    }

    /// As [`join`](Consumers::join), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::TimedOut`] if the wait times out. Otherwise as [`join`](Consumers::join).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// let consumers = queue.consumers(2, |_: u32| ())?;
    /// queue.close()?;
    /// consumers.join_timeout(std::time::Duration::from_secs(60))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](Consumers::join), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`join_timeout`](Consumers::join_timeout).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// let consumers = queue.consumers(2, |_: u32| ())?;
    /// queue.close()?;
    /// consumers.join_deadline(std::time::Instant::now() + std::time::Duration::from_secs(60))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<(), JoinError> {
        if member::is_forked() {
            return Err(JoinError::Unusable(Error::Forked.to_string()));
        }
        self.fleet.wait(deadline).unwrap_or(Err(JoinError::TimedOut))
    }

    /// Returns how many consumers have died. Each of them was replaced, unless the fleet was stopped.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?.with_max_attempts(2)?;
    /// queue.put(1)?;
    /// queue.close()?;
    /// let consumers = queue.consumers(1, |_: u32| -> () { std::process::abort() })?;
    /// consumers.join()?;
    /// assert_eq!(consumers.deaths(), 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn deaths(&self) -> u64 {
        if member::is_forked() { 0 } else { self.fleet.state().deaths }
    }

    /// Returns why an item failed or a consumer died, for the last time that this happened.
    ///
    /// # Errors
    /// [`Error::Forked`] in a plain fork of the process that created the fleet.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?.with_max_attempts(1)?;
    /// queue.put(0)?;
    /// queue.close()?;
    /// let consumers = queue.consumers(1, |n: u32| if n == 0 { Err("nothing to do") } else { Ok(()) })?;
    /// consumers.join()?;
    /// assert_eq!(consumers.last_failure()?.unwrap(), "attempt 1 at an item failed: nothing to do");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn last_failure(&self) -> Result<Option<String>> {
        self.fleet.ties.last_failure()
    }
}

impl Future for Consumers {
    type Output = Result<(), JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), JoinError>> {
        if member::is_forked() {
            return Poll::Ready(Err(JoinError::Unusable(Error::Forked.to_string())));
        }
        self.fleet.outcome_or_wake(context.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        // In a plain fork this fails, and the fleet goes on.
        let _ = self.stop();
    }
}

impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Consumers");
        if !member::is_forked() {
            let pids: Vec<_> = self.fleet.state().consumers.iter().filter_map(Process::pid).collect();
            out.field("pids", &pids).field("deaths", &self.deaths());
        }
        out.finish_non_exhaustive()
    }
}
