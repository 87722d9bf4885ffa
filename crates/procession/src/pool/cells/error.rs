//! [`TaskError`] and [`MapError`]: how a task or a map fails.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::attempt::Attempt;
use super::state::ending;

/// Why a task has no result. The error is plain data: it can be cloned and sent to other processes.
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
    /// The task's function panicked. Its worker continues with other tasks. If the program is built with
    /// `panic = "abort"`, the panic ends the worker, and another one replaces it.
    Panicked {
        /// The message of the panic.
        message: String,
        /// File, line and column. Empty if the program has replaced the panic hook.
        location: String,
        /// The backtrace, if `RUST_BACKTRACE` asked for one.
        backtrace: String,
        /// The process id of the worker.
        pid: u32,
        /// How often the task was begun, including this time.
        attempt: u32,
    },
    /// The worker died while it ran the task. It was killed, it crashed, or the task called `exit`.
    WorkerDied {
        /// The signal that killed the worker, if any.
        signal: Option<i32>,
        /// The exit code, if the worker called `exit`.
        exit_code: Option<i32>,
        /// The worker ran out of memory. Either the kernel killed it because the machine or its control group
        /// had no memory left, or it aborted because an allocation failed (see
        /// [`memory_limit`](crate::pool::Builder::memory_limit)).
        out_of_memory: bool,
        /// The process id of the worker.
        pid: u32,
        /// How often the task was begun, including this time.
        attempt: u32,
        /// Whether the task's function had been called. If a worker dies before it calls the function,
        /// another worker takes the task, and there is no error.
        started: bool,
    },
    /// The task exceeded its time limit, and its worker was killed.
    TimedOut {
        /// The time limit.
        limit: Duration,
        /// The process id of the worker that was killed.
        pid: u32,
        /// How often the task was begun, including this time.
        attempt: u32,
    },
    /// The task was cancelled.
    Cancelled,
    /// The arguments or the result cannot be encoded or decoded: see [`Message`](crate::Message). The text says why.
    Undecodable(String),
    /// The pool was closed before the task was submitted.
    Closed,
    /// The pool was terminated, or the process that created it has ended.
    Terminated,
    /// The pool has stopped replacing its workers, because too many died (see
    /// [`max_restarts`](crate::pool::Builder::max_restarts)). The text describes the last death.
    Broken(String),
    /// The task is not done yet, or waiting for it timed out. The task continues.
    NotDone,
    /// The pool cannot be used in this process. The text says why.
    Unusable(String),
    /// The shared memory of the family has no room for the task or its result. The text says which processes and
    /// objects use how much.
    Full(String),
    /// An item of a map failed, and the map itself is the task: see
    /// [`submit_map`](crate::Pool::submit_map). Says which item, and how it failed.
    #[serde(deserialize_with = "of_an_item")]
    Item(Box<MapError>),
}

/// How an item of a map failed, and which item it is. Every map of a [`Pool`](crate::Pool) returns errors of
/// this type.
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
    /// The position of the item in the input. The first item has position 0.
    pub index: usize,
    /// How the item failed.
    pub error: TaskError,
}

thread_local! {
    /// This thread decodes the error of an item.
    static IN_ITEM: Cell<bool> = const { Cell::new(false) };
}

/// Decodes the error of an item. Refuses an error of an item inside another one: no map creates such errors,
/// and damaged bytes must not make this function call itself without end.
fn of_an_item<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<MapError>, D::Error> {
    if IN_ITEM.replace(true) {
        return Err(serde::de::Error::custom("the error of an item is itself the error of an item"));
    }
    let error = Box::<MapError>::deserialize(deserializer);
    IN_ITEM.set(false);
    error
}

impl TaskError {
    /// Returns the position of the failed item, if the task is a map: see
    /// [`Pool::submit_map`](crate::Pool::submit_map).
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let error = pool.submit_map(|n: u32| 100 / n, [4, 2, 0, 1])?.get().unwrap_err();
    /// assert_eq!(error.index(), Some(2));
    /// assert!(error.to_string().starts_with("item 2: the task panicked"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn index(&self) -> Option<usize> {
        if let TaskError::Item(error) = self { Some(error.index) } else { None }
    }

    /// Returns the error of a task whose last attempt ended with its worker's death.
    pub(crate) fn of_death(last: Attempt, pid: u32, timeout_us: u64) -> TaskError {
        let attempt = last.number;
        match last.ending {
            ending::TIMED_OUT => {
                TaskError::TimedOut { limit: Duration::from_micros(timeout_us), pid, attempt }
            }
            ending::CANCELLED => TaskError::Cancelled,
            _ => TaskError::WorkerDied {
                signal: Some(last.status).filter(|&status| status > 0),
                exit_code: Some(-1 - last.status).filter(|_| last.status < 0),
                out_of_memory: last.no_memory,
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
            TaskError::Item(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text of this error is already the text of the item's error, so the source is the next one.
        if let TaskError::Item(error) = self { Some(&error.error) } else { None }
    }
}

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
    /// Returns [`TaskError::Item`], unless the error concerns the whole pool or the whole map.
    fn from(e: MapError) -> TaskError {
        use TaskError::{Broken, Cancelled, Closed, Terminated};
        match e.error {
            whole @ (Broken(_) | Cancelled | Closed | Terminated) => whole,
            _ => TaskError::Item(Box::new(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    /// Bytes that nest errors without end are refused, and later errors can still be decoded.
    #[test]
    fn the_error_of_an_item_holds_no_other_error_of_an_item() {
        let error = TaskError::from(MapError { index: 5, error: TaskError::NotDone });
        let (bytes, inner) = (codec::to_vec(&error).unwrap(), codec::to_vec(&TaskError::NotDone).unwrap());
        let nested = bytes.strip_suffix(&inner[..]).unwrap().repeat(1_000_000);
        assert!(codec::from_slice::<TaskError>(&nested).is_err());
        assert_eq!(codec::from_slice::<TaskError>(&bytes).ok(), Some(error));
    }
}
