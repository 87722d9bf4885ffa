//! [`JoinableQueue`]: work that comes back when its worker dies. This file creates, inspects and closes queues.
//! `put.rs` and `get.rs` are the two ends, and `join.rs` waits for all items.

mod get;
mod join;
mod put;

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plain::check_bound;
use super::receiving;
use super::ring::{Ring, SMALL_FIRST, make};
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::{Error, Result};

/// A queue of work. It *leases* each item to a consumer until the consumer calls [`done`](super::Lease::done). If the
/// consumer dies, panics, or drops the lease, the item comes back.
///
/// Like a [`Queue`](crate::Queue), a joinable queue is a handle. [`join`](JoinableQueue::join) waits until
/// every item that was put is done.
///
/// ```
/// use procession::{JoinableQueue, Process};
///
/// fn consumer(queue: JoinableQueue<u64>) -> procession::Result<()> {
///     for lease in queue.iter() {
///         let lease = lease?;
///         // ... work on *lease ...
///         lease.done()?;
///     }
///     Ok(())
/// }
///
/// let queue = JoinableQueue::bounded(10)?;
/// let consumer = Process::spawn(consumer, (queue.clone(),))?;
/// queue.put_many(0..100)?;
/// queue.join()?; // all 100 are done
/// queue.close()?;
/// consumer.join()??;
/// # Ok::<(), procession::Error>(())
/// ```
///
/// [`consumers`](JoinableQueue::consumers) starts such consumers, and replaces each one that dies.
///
/// # If a process dies
///
/// If a **producer** dies, the items that it has put stay in the queue, as with [`Queue`](crate::Queue). If a
/// **consumer** dies, every item that it had leased and not finished returns to the front of the queue. The
/// number of attempts of such an item grows by one. So no item is lost, and only the items in progress are
/// worked on twice. An item that was leased [`max_attempts`](JoinableQueue::with_max_attempts) times becomes
/// a dead letter instead.
pub struct JoinableQueue<T> {
    handle: Handle,
    ring: Ring,
    _carries: PhantomData<fn(T) -> T>,
}

/// The object of a joinable queue. Everything else lies in blocks.
#[repr(C)]
struct JoinableBody(AtomicU64);

#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
// SAFETY: the field is an atomic, and zero is valid.
unsafe impl Body for JoinableBody {
    const KIND: Kind = Kind::JoinableQueue;
}

impl<T> JoinableQueue<T> {
    /// Creates a queue for at most `capacity` items that wait for a consumer.
    ///
    /// # Errors
    /// The errors of [`Queue::bounded`](crate::Queue::bounded).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert_eq!(queue.capacity(), Some(3));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn bounded(capacity: usize) -> Result<JoinableQueue<T>> {
        check_bound(capacity, "item", 8)?;
        JoinableQueue::make(capacity as u64, u64::MAX)
    }

    /// Creates a queue that grows until the shared memory is full.
    ///
    /// # Errors
    /// The errors of [`Queue::unbounded`](crate::Queue::unbounded).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::unbounded()?;
    /// assert_eq!(queue.capacity(), None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn unbounded() -> Result<JoinableQueue<T>> {
        JoinableQueue::make(u64::MAX, u64::MAX)
    }

    /// Creates a queue for at most `bytes` bytes of encoded items that wait for a consumer. A single larger
    /// item fits into an empty queue.
    ///
    /// # Errors
    /// The errors of [`Queue::bounded`](crate::Queue::bounded).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<Vec<u8>>::bounded_bytes(1000)?;
    /// queue.put(vec![0; 600])?;
    /// assert!(queue.try_put(vec![0; 600]).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn bounded_bytes(bytes: usize) -> Result<JoinableQueue<T>> {
        check_bound(bytes, "byte", 1)?;
        JoinableQueue::make(u64::MAX, bytes as u64)
    }

    fn make(items: u64, bytes: u64) -> Result<JoinableQueue<T>> {
        // Every item lies in its own block. Its record in the ring is 16 bytes long.
        let (handle, ring) = make::<JoinableBody>(items, bytes, 8, SMALL_FIRST)?;
        Ok(JoinableQueue { handle, ring, _carries: PhantomData })
    }

    /// Limits how often an item is leased. After `max` leases it becomes a [dead
    /// letter](JoinableQueue::dead_letters). Without this call, an item can come back any number of times.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `max` is 0.
    ///
    /// ```
    /// use procession::JoinableQueue;
    /// let queue = JoinableQueue::bounded(3)?.with_max_attempts(2)?;
    /// queue.put(13)?;
    /// drop(queue.get()?);
    /// drop(queue.get()?);
    /// assert!(queue.try_get().is_err());
    /// let letter = queue.dead_letters().next().unwrap()?;
    /// assert_eq!((letter.item, letter.attempts), (13, 2));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_max_attempts(self, max: u32) -> Result<JoinableQueue<T>> {
        if max == 0 {
            return Err(Error::InvalidArgument("the most attempts of an item must be at least 1".into()));
        }
        self.ring.set_max_attempts(max);
        Ok(self)
    }

    pub(super) fn ring(&self) -> Ring {
        self.ring
    }

    /// Returns the number of items that wait for a consumer, including those that came back. The answer may
    /// be out of date when this returns.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// let lease = queue.get()?;
    /// assert_eq!(queue.len(), 0);
    /// drop(lease);
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        (self.ring.len() + self.ring.count_leases().returned) as usize
    }

    /// Returns whether no items wait for a consumer. The answer may be out of date when this returns.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert!(queue.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of items that are not done: those that wait, and those that are leased. The answer
    /// may be out of date when this returns.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put_many([1, 2])?;
    /// let lease = queue.get()?;
    /// assert_eq!(queue.unfinished(), 2);
    /// lease.done()?;
    /// assert_eq!(queue.unfinished(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn unfinished(&self) -> usize {
        let waiting = self.ring.len();
        let leases = self.ring.count_leases();
        (waiting + leases.leased + leases.returned) as usize
    }

    /// Returns whether a bounded queue has reached its bound. The answer may be out of date when this
    /// returns.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.is_full());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_full(&self) -> bool {
        !self.ring.admits(1)
    }

    /// Returns the maximum number of items that can wait, or `None` if the number of items is not bounded.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert_eq!(queue.capacity(), Some(3));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        Some(self.ring.limits().items).filter(|&items| items != u64::MAX).map(|items| items as usize)
    }

    /// Returns whether the queue was closed. The answer may be out of date when this returns.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// queue.close()?;
    /// assert!(queue.is_closed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Closes the queue: `put` fails from now on. The items that are left can still be received, and so can
    /// items that come back from other processes. After the last item, `get` fails with
    /// [`GetError::Closed`](super::GetError::Closed). Closing a closed queue does nothing.
    ///
    /// # Errors
    /// Fails in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::GetError};
    /// let queue = JoinableQueue::<u32>::bounded(3)?;
    /// queue.close()?;
    /// assert_eq!(queue.get().unwrap_err(), GetError::Closed);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        receiving::close(&self.ring)
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> JoinableQueue<T> {
        JoinableQueue { handle: self.handle.clone(), ring: self.ring, _carries: PhantomData }
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    /// Shows how full the queue is, how many items are leased, and how many threads wait. The values may
    /// already have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("JoinableQueue");
        let leases = self.ring.count_leases();
        out.field("leased", &leases.leased).field("returned", &leases.returned);
        out.field("given_up", &leases.given_up);
        receiving::describe(&self.ring, out)
    }
}

impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JoinableQueue<T>, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::JoinableQueue)?;
        let ring = Ring::of(handle.id().index()).map_err(serde::de::Error::custom)?;
        Ok(JoinableQueue { handle, ring, _carries: PhantomData })
    }
}
