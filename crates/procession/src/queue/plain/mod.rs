//! [`Queue`]: messages from any number of producers to any number of consumers. This file creates, inspects and
//! closes queues. `put.rs` and `get.rs` are the two ends.

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

/// A queue between processes and threads.
///
/// A `Queue` is a handle: clone it or send it to another process, even through a queue, and it is the same
/// queue. Items are received in the order in which they were put, each once, whichever processes put and
/// receive them. Items may be of any size. Small items are copied once when they are put and once when they
/// are received.
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
/// When `put` has returned, the item is in the queue and stays there when its producer dies. If a process
/// dies while it puts or receives an item, that call has either its full effect or no effect. A received item
/// is lost when its consumer dies; to get it back, use a [`JoinableQueue`](super::JoinableQueue). No process
/// waits for a dead process, and a dead process's memory is freed.
pub struct Queue<T> {
    handle: Handle,
    ring: Ring,
    _carries: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// Creates a queue for at most `capacity` items. An empty queue takes less than 4 KiB, and grows as it fills.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `capacity` is 0 or more than the shared memory could hold. [`Error::Full`] if
    /// the shared memory is full.
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

    /// Creates a queue that grows until the shared memory is full. Then putting fails with
    /// [`PutError::NoMemory`](super::PutError::NoMemory). An empty queue takes less than 4 KiB.
    ///
    /// # Errors
    /// [`Error::Full`] if the shared memory is full.
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

    /// Creates a queue for at most `bytes` bytes of encoded items. A single larger item fits into an empty queue.
    ///
    /// # Errors
    /// The errors of [`bounded`](Queue::bounded).
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

    /// Returns the queue with this id. The caller knows that another process holds a handle to it.
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

    /// Returns the number of items in the queue. The answer may be out of date when this returns.
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

    /// Returns whether the queue is empty. The answer may be out of date when this returns.
    ///
    /// ```
    /// let queue = procession::Queue::<u32>::bounded(3)?;
    /// assert!(queue.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a bounded queue has reached its bound. The answer may be out of date when this
    /// returns.
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

    /// Returns the maximum number of items in the queue, or `None` if the number of items is not bounded.
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

    /// Returns whether the queue was closed. The answer may be out of date when this returns.
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

    /// Closes the queue: `put` fails from now on. Items that are left can still be received. After the last
    /// item, `get` fails with [`GetError::Closed`](super::GetError::Closed), and iterators end. Closing a
    /// closed queue does nothing.
    ///
    /// # Errors
    /// Fails in a process that was created by a plain `fork()`.
    ///
    /// # If a process dies
    /// If a process dies during this call, it may or may not have closed the queue. If it has, every waiter
    /// is woken.
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

/// Returns an error unless a queue with this bound can be created.
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
    /// Shows how full the queue is and how many threads wait. The values may already have changed.
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
