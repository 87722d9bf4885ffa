//! [`Task`]: something that a pool does, until somebody has its result.

use std::fmt;
use std::marker::PhantomData;
use std::task::Waker;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cells::cell::{CONDEMNED, NEW, QUEUED, RETURNED, RUNNING, TAKEN, ending};
use super::cells::error::TaskError;
use super::raw_task::RawTask;
use super::shared::CellRef;
use super::worker::Transfer;
use crate::arena::member;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::queue::Ready;
use crate::queue::select::{Signal, sealed};

/// Where a task is. A snapshot.
///
/// ```
/// use procession::pool::{Pool, TaskState};
/// let pool = Pool::new(1)?;
/// let task = pool.submit(|| -> () { panic!("on purpose") }, ())?;
/// assert!(task.get().is_err());
/// assert_eq!(task.state(), TaskState::Failed);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskState {
    /// No worker has begun it.
    Waiting,
    /// A worker runs it.
    Running,
    /// It has a result.
    Returned,
    /// It has failed, in one way or another.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Something that a [`Pool`](super::Pool) does, and its result of type `R`.
///
/// A handle: it can be cloned and sent, and any process of the family can wait for it. Dropping it detaches: the
/// task goes on. (A task whose handle was sent keeps its result as long as the pool lives.) It is also a
/// [`Future`], and something that [`select`](crate::select) can wait for.
///
/// # If a process dies
///
/// If the task's worker dies, the task is tried again or fails with [`TaskError::WorkerDied`]; nothing else
/// fails. If the process that submitted it dies, the task goes on. If the process that made the pool dies, it
/// fails with [`TaskError::Terminated`].
///
/// ```
/// let pool = procession::Pool::new(1)?;
/// let task = pool.submit(|n: u32| n + 1, (41,))?;
/// assert_eq!(task.get()?, 42);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Task<R> {
    pub(super) raw: RawTask,
    /// Whom it has last promised to wake, as a future.
    pub(super) waker: Option<Waker>,
    _returns: PhantomData<fn() -> R>,
}

impl<R> Task<R> {
    /// How many handles the process that submitted the task has.
    #[cfg(feature = "internals")]
    pub(crate) fn handles(&self) -> &'static std::sync::atomic::AtomicU32 {
        &self.raw.cell_ref.cell.handles
    }

    pub(super) fn new(raw: RawTask) -> Task<R> {
        Task { raw, waker: None, _returns: PhantomData }
    }

    /// Whether it has a result or has failed. A snapshot.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let task = pool.submit(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert!(!task.is_done());
    /// task.cancel();
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_done(&self) -> bool {
        self.raw.is_done()
    }

    /// Where it is. A snapshot. (A plain fork of a member of the family sees no tasks: there they wait for ever.)
    ///
    /// ```
    /// use procession::pool::{Pool, TaskState};
    /// let pool = Pool::new(1)?;
    /// let task = pool.submit(|n: u32| n + 1, (1,))?;
    /// assert_eq!(task.get()?, 2);
    /// assert_eq!(task.state(), TaskState::Returned);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn state(&self) -> TaskState {
        if member::is_forked() {
            return TaskState::Waiting;
        }
        let state = self.raw.state();
        match (state.phase(), state.ending()) {
            (NEW | QUEUED | RETURNED | TAKEN, _) => TaskState::Waiting,
            (RUNNING | CONDEMNED, _) => TaskState::Running,
            (_, ending::RETURNED) => TaskState::Returned,
            (_, ending::CANCELLED) => TaskState::Cancelled,
            _ => TaskState::Failed,
        }
    }

    /// Cancels it: one that waits is not begun, one that runs is killed with its worker. Says whether that came
    /// in time; the task is not done before its worker is dead.
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::new(1)?;
    /// let task = pool.submit(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert!(task.cancel());
    /// assert_eq!(task.get(), Err(TaskError::Cancelled));
    /// assert_eq!(pool.apply(|| 7, ())?, 7); // the pool has another worker by now
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn cancel(&self) -> bool {
        !member::is_forked() && self.raw.cancel()
    }
}

impl<R: Message> Task<R> {
    /// Its result, for which this waits as long as it takes. It can be asked for again.
    ///
    /// # Errors
    /// [`TaskError`] says what became of it, if it has no result.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// assert_eq!(pool.submit(|| 6 * 7, ())?.get()?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get(&self) -> Result<R, TaskError> {
        self.wait(Deadline::NEVER)
    }

    /// Its result, if it is there.
    ///
    /// # Errors
    /// [`TaskError::NotDone`] when it is not; otherwise as [`get`](Task::get).
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::new(1)?;
    /// let task = pool.submit(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert!(matches!(task.try_get(), Err(TaskError::NotDone)));
    /// task.cancel();
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<R, TaskError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// Its result, for which this waits at most `timeout`. The task goes on if that was not enough.
    ///
    /// # Errors
    /// [`TaskError::NotDone`] when the time was up; otherwise as [`get`](Task::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.wait(Deadline::after(timeout))
    }

    /// Its result, for which this waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Task::get_timeout).
    pub fn get_deadline(&self, deadline: Instant) -> Result<R, TaskError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<R, TaskError> {
        if self.raw.wait(deadline)? { self.raw.value() } else { Err(TaskError::NotDone) }
    }
}

impl<R> Clone for Task<R> {
    fn clone(&self) -> Task<R> {
        Task::new(self.raw.clone())
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Task");
        if member::is_forked() {
            return out.finish_non_exhaustive();
        }
        out.field("state", &self.state()).finish()
    }
}

impl<R> sealed::Ready for Task<R> {
    fn is_ready(&self) -> bool {
        self.raw.is_done()
    }

    fn signal(&self) -> Signal<'_> {
        Signal::Events(&self.raw.cell_ref.cell.done)
    }
}

impl<R> Ready for Task<R> {}

impl<R> Serialize for Task<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.share();
        let CellRef { index, generation, .. } = self.raw.cell_ref;
        (Transfer(self.raw.shared.clone()), index, generation).serialize(serializer)
    }
}

impl<'de, R> Deserialize<'de> for Task<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Task<R>, D::Error> {
        let (Transfer(shared), index, generation) = <(Transfer, u32, u32)>::deserialize(deserializer)?;
        let gone = || serde::de::Error::custom("this task no longer exists");
        let cell = shared.cell(index).ok_or_else(gone)?;
        if cell.state().generation() != generation {
            return Err(gone());
        }
        let cell_ref = CellRef { index, generation, cell };
        Ok(Task::new(RawTask::of_another(shared, cell_ref)))
    }
}
