//! [`Task`]: a call that was submitted to a pool, and its result.

use std::fmt;
use std::marker::PhantomData;
use std::task::Waker;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cells::error::TaskError;
use super::cells::state::{KILLING, NEW, QUEUED, RETURNED, RUNNING, TAKEN, ending};
use super::raw_task::RawTask;
use super::shared::CellRef;
use super::worker::Transfer;
use crate::arena::member;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::queue::Ready;
use crate::queue::select::{Signal, sealed};

/// A snapshot of a task's state.
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
    /// No worker has begun the task.
    Waiting,
    /// A worker runs the task.
    Running,
    /// The task's function has returned.
    Returned,
    /// The task has failed. [`Task::get`] returns the error.
    Failed,
    /// The task was cancelled.
    Cancelled,
}

/// A call that was submitted to a [`Pool`](super::Pool), and its result of type `R`.
///
/// A `Task` is a handle. It can be cloned and sent to other processes, and any process of the family can wait
/// for the task. If all handles are dropped, the task still runs. If a handle was ever sent to another
/// process, the result is kept until the pool ends. A `Task` is also a [`Future`], and
/// [`select`](crate::select) can wait for it.
///
/// # If a process dies
///
/// * The **worker**: the task is retried, or fails with [`TaskError::WorkerDied`]. No other task is affected.
/// * The process that **submitted** the task: the task still runs.
/// * The process that **created** the pool: an unfinished task fails with [`TaskError::Terminated`].
///
/// ```
/// let pool = procession::Pool::new(1)?;
/// let task = pool.submit(|n: u32| n + 1, (41,))?;
/// assert_eq!(task.get()?, 42);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Task<R> {
    pub(super) raw: RawTask,
    /// The waker that is called when the task is done. Used when the task is polled as a future.
    pub(super) waker: Option<Waker>,
    _returns: PhantomData<fn() -> R>,
}

impl<R> Task<R> {
    /// Returns the number of handles that the submitter has.
    #[cfg(feature = "internals")]
    pub(crate) fn handles(&self) -> &'static std::sync::atomic::AtomicU32 {
        &self.raw.cell_ref.cell.handles
    }

    pub(super) fn new(raw: RawTask) -> Task<R> {
        Task { raw, waker: None, _returns: PhantomData }
    }

    /// Reports whether the task is done: it has returned, has failed or was cancelled. The answer is a
    /// snapshot.
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

    /// Returns a snapshot of the task's state. In a plain fork of a member of the family, the state is always
    /// `Waiting`.
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
            (RUNNING | KILLING, _) => TaskState::Running,
            (_, ending::RETURNED) => TaskState::Returned,
            (_, ending::CANCELLED) => TaskState::Cancelled,
            _ => TaskState::Failed,
        }
    }

    /// Cancels the task. If no worker has begun it, it never runs. If it is running, its worker is killed,
    /// and the task is done when that worker is dead. Returns false if the task was already done.
    ///
    /// ```
    /// use procession::pool::{Pool, TaskError};
    /// let pool = Pool::new(1)?;
    /// let task = pool.submit(|| -> () { loop { std::thread::park() } }, ())?;
    /// assert!(task.cancel());
    /// assert_eq!(task.get(), Err(TaskError::Cancelled));
    /// assert_eq!(pool.apply(|| 7, ())?, 7); // another worker has taken its place
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn cancel(&self) -> bool {
        !member::is_forked() && self.raw.cancel()
    }
}

impl<R: Message> Task<R> {
    /// Waits until the task is done, and returns its result. Can be called again.
    ///
    /// # Errors
    /// [`TaskError`] says how the task failed.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// assert_eq!(pool.submit(|| 6 * 7, ())?.get()?, 42);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get(&self) -> Result<R, TaskError> {
        self.wait(Deadline::NEVER)
    }

    /// Returns the result of the task, without waiting.
    ///
    /// # Errors
    /// [`TaskError::NotDone`] if the task is not done. Otherwise as [`get`](Task::get).
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

    /// As [`get`](Task::get), but waits at most `timeout`. If the wait times out, the task continues.
    ///
    /// # Errors
    /// [`TaskError::NotDone`] if the wait times out. Otherwise as [`get`](Task::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`get`](Task::get), but waits at most until `deadline`.
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
        out.field("id", &format_args!("{}", self.id())).field("state", &self.state()).finish()
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
        let gone = || {
            serde::de::Error::custom(
                "this task no longer exists: its result was dropped with the last handle",
            )
        };
        let cell = shared.cell(index).ok_or_else(gone)?;
        if cell.state().generation() != generation {
            return Err(gone());
        }
        let cell_ref = CellRef { index, generation, cell };
        Ok(Task::new(RawTask::of_another(shared, cell_ref)))
    }
}
