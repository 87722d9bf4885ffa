//! What can become of a task other than its result.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cell::{Attempt, ending};

/// Why there is no result of a task. Plain data: it can be cloned and sent.
///
/// ```
/// use procession::pool::{Pool, TaskError};
/// let pool = Pool::new(1)?;
/// match pool.apply(|| -> () { std::process::abort() }, ()) {
///     Err(TaskError::WorkerDied { signal, started, .. }) => assert_eq!((signal, started), (Some(6), true)),
///     other => panic!("it aborted, and {other:?}"),
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskError {
    /// The task's function panicked. Its worker lives on.
    Panicked {
        /// What it said.
        message: String,
        /// File, line and column; empty when the panic hook was replaced.
        location: String,
        /// Where it came from, if `RUST_BACKTRACE` asked for it.
        backtrace: String,
        /// The worker.
        pid: i32,
        /// How often the task was begun.
        attempt: u32,
    },
    /// The worker died while it ran the task: it was killed, crashed, or the task called `exit`.
    WorkerDied {
        /// The signal that ended it.
        signal: Option<i32>,
        /// Or the code that it left with.
        exit_code: Option<i32>,
        /// There was no memory: the kernel killed it because the machine's or its control group's ran out, or it
        /// ended itself because it was refused some (see [`memory_limit`](crate::pool::Builder::memory_limit)).
        out_of_memory: bool,
        /// The worker.
        pid: i32,
        /// How often the task was begun.
        attempt: u32,
        /// Whether the task's function had been called. (A task whose worker dies before that is given to
        /// another, and nobody hears of it.)
        started: bool,
    },
    /// The task took longer than it may, and was killed.
    TimedOut {
        /// How long it may take.
        limit: Duration,
        /// The worker that was killed with it.
        pid: i32,
        /// How often the task was begun.
        attempt: u32,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// The argument, or the result, does not survive the crossing; and why.
    Undecodable(String),
    /// The pool was closed before the task came.
    Closed,
    /// The pool was terminated, or the process that made it has ended.
    Terminated,
    /// The pool has no workers and gets no more; and why.
    Broken(String),
    /// It is not done: now, or until the time was up. It goes on.
    NotDone,
    /// The pool cannot be used from here, and why.
    Unusable(String),
    /// The shared memory of the family has no room for the task, or for its result; the text says who holds how
    /// much.
    Full(String),
}

/// The first task of a map that failed.
///
/// ```
/// let pool = procession::Pool::new(2)?;
/// let error = pool.map(|n: u32| 100 / n, [4, 2, 0, 1]).unwrap_err();
/// assert_eq!(error.index, 2);
/// assert!(error.to_string().contains("divide by zero"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapError {
    /// The position of its item.
    pub index: usize,
    /// What became of it.
    pub error: TaskError,
}

impl TaskError {
    /// What a worker's death did to a task.
    pub(crate) fn of_death(fate: Attempt, pid: i32, timeout_us: u64) -> TaskError {
        let attempt = fate.attempt;
        match fate.ending {
            ending::TIMED_OUT => {
                TaskError::TimedOut { limit: Duration::from_micros(timeout_us), pid, attempt }
            }
            ending::CANCELLED => TaskError::Cancelled,
            _ => TaskError::WorkerDied {
                signal: Some(fate.how).filter(|&how| how > 0),
                exit_code: Some(-1 - fate.how).filter(|_| fate.how < 0),
                out_of_memory: fate.no_memory,
                pid,
                attempt,
                started: true,
            },
        }
    }

    pub(crate) fn unusable(error: &crate::Error) -> TaskError {
        match error {
            crate::Error::Full(why) => TaskError::Full(why.clone()),
            other => TaskError::Unusable(other.to_string()),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Panicked { message, location, attempt, .. } => {
                write!(f, "the task panicked")?;
                if !location.is_empty() {
                    write!(f, " at {location}")?;
                }
                write!(f, ": {message} (attempt {attempt})")
            }
            TaskError::WorkerDied { signal, exit_code, out_of_memory, pid, attempt, .. } => {
                write!(f, "the task's worker (pid {pid}) ")?;
                match (signal, exit_code) {
                    (Some(signal), _) => write!(f, "was killed by signal {signal}")?,
                    (None, Some(code)) => write!(f, "called exit with code {code}")?,
                    (None, None) => f.write_str("was lost")?,
                }
                f.write_str(if *out_of_memory { " because memory ran out" } else { "" })?;
                write!(f, " (attempt {attempt})")
            }
            TaskError::TimedOut { limit, pid, attempt } => {
                write!(
                    f,
                    "the task took more than {limit:?}, and its worker (pid {pid}) was killed (attempt {attempt})"
                )
            }
            TaskError::Cancelled => f.write_str("the task was cancelled"),
            TaskError::Undecodable(why) | TaskError::Unusable(why) | TaskError::Full(why) => f.write_str(why),
            TaskError::Closed => f.write_str("the pool is closed: it takes no more tasks"),
            TaskError::Terminated => f.write_str("the pool was terminated"),
            TaskError::Broken(why) => write!(f, "the pool is broken: {why}"),
            TaskError::NotDone => f.write_str("the task is not done yet"),
        }
    }
}

impl std::error::Error for TaskError {}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}: {}", self.index, self.error)
    }
}

impl std::error::Error for MapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<MapError> for TaskError {
    fn from(e: MapError) -> TaskError {
        e.error
    }
}
