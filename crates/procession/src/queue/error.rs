//! Why a message was not put or received.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an item was not put. The error contains the item, so the caller gets it back.
///
/// ```
/// use procession::{Queue, queue::PutError};
/// let queue = Queue::bounded(1)?;
/// queue.put("one".to_string())?;
/// match queue.try_put("two".to_string()) {
///     Err(PutError::Full(item)) => assert_eq!(item, "two"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue is full, or it was still full when the timeout expired.
    Full(T),
    /// The queue is closed, or the other end of the pipe no longer exists.
    Closed(T),
    /// The item cannot be encoded as bytes that the receiver could decode. The text says why.
    Unsendable(T, String),
    /// The queue cannot be used from this process. The text says why.
    Unusable(T, String),
    /// The shared memory of the family is full, even if the queue has room. The text says which processes hold how
    /// much. [`Error`](crate::Error) turns this into [`Error::Full`](crate::Error::Full).
    NoMemory(T, String),
}

/// Why no item was received. Plain data.
///
/// ```
/// use procession::{Queue, queue::GetError};
/// let queue = Queue::<u32>::bounded(1)?;
/// assert_eq!(queue.try_get(), Err(GetError::Empty));
/// queue.close()?;
/// assert_eq!(queue.try_get(), Err(GetError::Closed));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GetError {
    /// The queue is empty, or it was still empty when the timeout expired.
    Empty,
    /// The queue is empty and stays empty: it is closed, or the other end of the pipe no longer exists.
    Closed,
    /// An item was received, but it cannot be decoded as the requested type. The text says why. Only this
    /// item is lost.
    Undecodable(String),
    /// The queue cannot be used from this process. The text says why.
    Unusable(String),
    /// The shared memory of the family is full. The text says which processes hold how much. No item was received.
    Full(String),
}

/// Why waiting for all items of a queue, or for the end of a pool, failed.
///
/// ```
/// use procession::{JoinableQueue, queue::JoinError};
/// let queue = JoinableQueue::bounded(1)?;
/// queue.put(1)?;
/// assert_eq!(queue.try_join(), Err(JoinError::WouldBlock));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JoinError {
    /// Some items are not done, or the pool still has workers, and the call does not wait.
    WouldBlock,
    /// Some items were not done, or the pool still had workers, when the timeout expired.
    TimedOut,
    /// The queue cannot be used from this process. The text says why.
    Unusable(String),
    /// The shared memory of the family is full. The text says which processes hold how much.
    Full(String),
    /// The [consumers](crate::Consumers) of the queue have ended early, because none could be started. The text says
    /// why.
    Broken(String),
}

impl JoinError {
    pub(crate) fn unusable(error: &crate::Error) -> JoinError {
        match error {
            crate::Error::Full(why) => JoinError::Full(why.clone()),
            other => JoinError::Unusable(other.to_string()),
        }
    }

    /// Converts the [`JoinError::TimedOut`] of a call that does not wait into [`JoinError::WouldBlock`].
    pub(crate) fn without_waiting(self) -> JoinError {
        match self {
            JoinError::TimedOut => JoinError::WouldBlock,
            other => other,
        }
    }
}

impl<T> PutError<T> {
    /// Returns the item that was not put.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.try_put(2).unwrap_err().into_item(), 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn into_item(self) -> T {
        match self {
            PutError::Full(item)
            | PutError::Closed(item)
            | PutError::Unsendable(item, _)
            | PutError::Unusable(item, _)
            | PutError::NoMemory(item, _) => item,
        }
    }

    /// Returns the same error with another item.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> PutError<U> {
        match self {
            PutError::Full(item) => PutError::Full(f(item)),
            PutError::Closed(item) => PutError::Closed(f(item)),
            PutError::Unsendable(item, why) => PutError::Unsendable(f(item), why),
            PutError::Unusable(item, why) => PutError::Unusable(f(item), why),
            PutError::NoMemory(item, why) => PutError::NoMemory(f(item), why),
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("the queue or pipe is full"),
            PutError::Closed(_) => f.write_str("the queue is closed, or the other end of the pipe is gone"),
            PutError::Unsendable(_, why) | PutError::Unusable(_, why) | PutError::NoMemory(_, why) => {
                f.write_str(why)
            }
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("Full(..)"),
            PutError::Closed(_) => f.write_str("Closed(..)"),
            PutError::Unsendable(_, why) => write!(f, "Unsendable(.., {why:?})"),
            PutError::Unusable(_, why) => write!(f, "Unusable(.., {why:?})"),
            PutError::NoMemory(_, why) => write!(f, "NoMemory(.., {why:?})"),
        }
    }
}

impl<T> std::error::Error for PutError<T> {}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Empty => f.write_str("the queue or pipe is empty"),
            GetError::Closed => f.write_str(
                "nothing is left to receive, and the queue is closed or the other end of the pipe is gone",
            ),
            GetError::Undecodable(why) | GetError::Unusable(why) | GetError::Full(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for GetError {}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::WouldBlock => f.write_str(
                "items of the queue are not done, or the pool still has workers; wait with join(), and finish leases with done()",
            ),
            JoinError::TimedOut => f.write_str(
                "timed out: items of the queue were not done, or the pool still had workers; finish leases with done()",
            ),
            JoinError::Unusable(why) | JoinError::Full(why) => f.write_str(why),
            JoinError::Broken(why) => write!(f, "the consumers of the queue could not be started: {why}"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for crate::Error {
    fn from(e: JoinError) -> crate::Error {
        match e {
            JoinError::Full(why) => crate::Error::Full(why),
            other => crate::Error::Join(other),
        }
    }
}

impl<T> From<PutError<T>> for crate::Error {
    fn from(e: PutError<T>) -> crate::Error {
        match e.map(drop) {
            PutError::NoMemory((), why) => crate::Error::Full(why),
            other => crate::Error::Put(other),
        }
    }
}

impl From<GetError> for crate::Error {
    fn from(e: GetError) -> crate::Error {
        match e {
            GetError::Full(why) => crate::Error::Full(why),
            other => crate::Error::Get(other),
        }
    }
}
