//! [`Queue`]: messages from any number of producers to any number of consumers. How it is made, looked at and
//! closed; `put.rs` and `get.rs` are its two ends.

mod get;
mod put;

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::receiving;
use super::ring::{PlainBody, Ring, SMALL_FIRST, make};
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::Kind;
use crate::{Error, Result};

pub use get::Iter;

/// A queue between processes, and threads.
///
/// A handle: clone it or send it to another process, also through a queue, and it is the same queue.
/// Items come out in the order in which they went in, each once, whoever puts and gets them. They may be of
/// any size, and different sizes; small ones are copied once in and once out.
///
/// ```
/// use procession::{Process, Queue};
///
/// let queue = Queue::bounded(3)?;
/// let producer = Process::spawn(
///     |queue: Queue<u32>| -> procession::Result<()> {
///         (1..=10).try_for_each(|n| queue.put(n))?;
///         queue.close()
///     },
///     (queue.clone(),),
/// )?;
/// let sum = queue.iter().sum::<Result<u32, _>>()?;
/// assert_eq!(sum, 55);
/// producer.join()??;
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # If a process dies
///
/// When `put` has returned, the item is in the queue, and stays when its producer dies. A process killed in
/// the middle of putting or getting has done it or not. An item that a consumer has got goes with it when it
/// dies: if it should come back, use a [`JoinableQueue`](super::JoinableQueue). Nobody waits for the dead,
/// and their memory comes back.
pub struct Queue<T> {
    handle: Handle,
    ring: Ring,
    _carries: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A queue for at most `capacity` items at a time. An empty one takes less than 4 KiB; it takes memory as it fills.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `capacity` is 0, or more than the shared memory could hold;
    /// [`Error::Full`] when there is no memory.
    ///
    /// ```
    /// let queue = procession::Queue::<String>::bounded(3)?;
    /// assert_eq!(queue.capacity(), Some(3));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn bounded(capacity: usize) -> Result<Queue<T>> {
        check_bound(capacity, "item", 8)?;
        Queue::make(capacity as u64, u64::MAX)
    }

    /// A queue that grows as long as there is shared memory; then putting fails with
    /// [`PutError::NoMemory`](super::PutError::NoMemory). An empty one takes less than 4 KiB.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no memory.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// (0..1000).try_for_each(|n| queue.put(n))?;
    /// assert_eq!(queue.len(), 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn unbounded() -> Result<Queue<T>> {
        Queue::make(u64::MAX, u64::MAX)
    }

    /// A queue for at most `bytes` bytes of encoded items at a time. One item that is larger goes in alone.
    ///
    /// # Errors
    /// As [`bounded`](Queue::bounded).
    ///
    /// ```
    /// let queue = procession::Queue::<Vec<u8>>::bounded_bytes(1000)?;
    /// queue.put(vec![0; 600])?;
    /// assert!(queue.try_put(vec![0; 600]).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn bounded_bytes(bytes: usize) -> Result<Queue<T>> {
        check_bound(bytes, "byte", 1)?;
        Queue::make(u64::MAX, bytes as u64)
    }

    fn make(items: u64, bytes: u64) -> Result<Queue<T>> {
        let (handle, ring) = make::<PlainBody>(items, bytes, size_of::<T>() as u64, SMALL_FIRST)?;
        Ok(Queue { handle, ring, _carries: PhantomData })
    }

    /// The queue behind an id that somebody holds.
    #[cfg(any(feature = "tracing", feature = "log"))]
    pub(crate) fn with_id(id: crate::arena::objects::Id) -> Result<Queue<T>> {
        let handle = Handle::take(id, Kind::Queue)?;
        handle.object().touch();
        let ring = Ring::of(handle.id().index())?;
        Ok(Queue { handle, ring, _carries: PhantomData })
    }

    #[cfg(any(feature = "tracing", feature = "log"))]
    pub(crate) fn object(&self) -> &'static crate::arena::objects::Object {
        self.handle.object()
    }

    #[cfg(any(feature = "tracing", feature = "log"))]
    pub(crate) fn id(&self) -> crate::arena::objects::Id {
        self.handle.id()
    }

    pub(crate) fn ring(&self) -> Ring {
        self.ring
    }

    /// How many items there are. A snapshot.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.ring.len() as usize
    }

    /// Whether there are no items. A snapshot.
    ///
    /// ```
    /// let queue = procession::Queue::<u32>::bounded(3)?;
    /// assert!(queue.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a bounded queue has as many items, or bytes, as it may have. A snapshot.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.is_full());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_full(&self) -> bool {
        !self.ring.admits(1)
    }

    /// The most items at a time; `None` when their number is not bounded.
    ///
    /// ```
    /// use procession::Queue;
    /// assert_eq!(Queue::<u32>::bounded(3)?.capacity(), Some(3));
    /// assert_eq!(Queue::<u32>::bounded_bytes(1000)?.capacity(), None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        Some(self.ring.limits().items).filter(|&items| items != u64::MAX).map(|items| items as usize)
    }

    /// Whether it was closed. A snapshot.
    ///
    /// ```
    /// let queue = procession::Queue::<u32>::bounded(3)?;
    /// queue.close()?;
    /// assert!(queue.is_closed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Lets nobody put any more. What is in the queue can still be got; then getting fails with
    /// [`GetError::Closed`](super::GetError::Closed), and iteration ends. Closing twice is fine.
    ///
    /// # Errors
    /// In a plain fork of a member of the family.
    ///
    /// # If a process dies
    /// Killed in here, it has closed the queue or not; if it has, everybody who waits hears of it.
    ///
    /// ```
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::bounded(3)?;
    /// queue.put(1)?;
    /// queue.close()?;
    /// assert!(queue.put(2).is_err());
    /// assert_eq!((queue.get(), queue.get()), (Ok(1), Err(GetError::Closed)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        receiving::close(&self.ring)
    }
}

/// An error unless a queue for so much can be made.
pub(super) fn check_bound(bound: usize, what: &str, least: u64) -> Result<()> {
    if bound == 0 {
        return Err(Error::InvalidArgument(format!("a queue needs room for at least one {what}")));
    }
    let all = member::arena()?.layout.bytes;
    if (bound as u64).checked_mul(least).is_none_or(|bytes| bytes > all) {
        return Err(Error::InvalidArgument(format!(
            "the family's shared memory of {} MiB cannot hold {bound} {what}s; use a smaller bound, or `unbounded`",
            all >> 20
        )));
    }
    Ok(())
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { handle: self.handle.clone(), ring: self.ring, _carries: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    /// Tells how full it is and how many wait; a snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        receiving::describe(&self.ring, f.debug_struct("Queue"))
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queue<T>, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::Queue)?;
        let ring = Ring::of(handle.id().index()).map_err(serde::de::Error::custom)?;
        Ok(Queue { handle, ring, _carries: PhantomData })
    }
}
