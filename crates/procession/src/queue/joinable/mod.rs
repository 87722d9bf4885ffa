//! [`JoinableQueue`]: work that comes back when its worker dies. How it is made, looked at and closed; `put.rs`
//! and `get.rs` are its two ends, `join.rs` waits for everything to be done.

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

/// A queue of work: what a consumer gets is *leased* to it until it says that it is done, and comes back
/// when the consumer dies, panics, or drops it.
///
/// A handle, as [`Queue`](crate::Queue) is. [`join`](JoinableQueue::join) waits until everything that was put
/// is done.
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
/// # If a process dies
///
/// A **producer**: as with [`Queue`](crate::Queue), what it has put is there. A **consumer**: every item that
/// it had and had not said to be done goes back to the front of the queue, with an attempt that is one more.
/// So nothing is lost, and only what was in hand is done twice. An item that was handed out
/// [`max_attempts`](JoinableQueue::with_max_attempts) times becomes a dead letter instead.
pub struct JoinableQueue<T> {
    handle: Handle,
    ring: Ring,
    _carries: PhantomData<fn(T) -> T>,
}

/// The queue in its object: all that there is of it is in blocks.
#[repr(C)]
struct JoinableBody(AtomicU64);

#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
// SAFETY: an atomic, and zero is valid.
unsafe impl Body for JoinableBody {
    const KIND: Kind = Kind::JoinableQueue;
}

impl<T> JoinableQueue<T> {
    /// A queue for at most `capacity` items that nobody has got yet.
    ///
    /// # Errors
    /// As [`Queue::bounded`](crate::Queue::bounded).
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

    /// A queue that grows as long as there is shared memory.
    ///
    /// # Errors
    /// As [`Queue::unbounded`](crate::Queue::unbounded).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::unbounded()?;
    /// assert_eq!(queue.capacity(), None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn unbounded() -> Result<JoinableQueue<T>> {
        JoinableQueue::make(u64::MAX, u64::MAX)
    }

    /// A queue for at most `bytes` bytes of encoded items that nobody has got yet. One item that is larger
    /// goes in alone.
    ///
    /// # Errors
    /// As [`Queue::bounded`](crate::Queue::bounded).
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
        // Every item is in a block of its own, which the ring names in 16 bytes.
        let (handle, ring) = make::<JoinableBody>(items, bytes, 8, SMALL_FIRST)?;
        Ok(JoinableQueue { handle, ring, _carries: PhantomData })
    }

    /// The same queue, in which an item is handed out at most `most` times; then it is a
    /// [dead letter](JoinableQueue::dead_letters). Without this it comes back for ever.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `most` is 0.
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
    pub fn with_max_attempts(self, most: u32) -> Result<JoinableQueue<T>> {
        if most == 0 {
            return Err(Error::InvalidArgument("an item has to be handed out at least once".into()));
        }
        self.ring.set_most_attempts(most);
        Ok(self)
    }

    pub(super) fn ring(&self) -> Ring {
        self.ring
    }

    /// How many items wait to be got, those that came back included. A snapshot.
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

    /// Whether no items wait to be got. A snapshot.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert!(queue.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items are not done: those that wait, and those that somebody works on. A snapshot.
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

    /// Whether a bounded queue has as many items, or bytes, as it may have. A snapshot.
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

    /// The most items that may wait; `None` when their number is not bounded.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert_eq!(queue.capacity(), Some(3));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        Some(self.ring.limits().items).filter(|&items| items != u64::MAX).map(|items| items as usize)
    }

    /// Whether it was closed. A snapshot.
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

    /// Lets nobody put any more. What is there can still be got, also what comes back from other processes;
    /// then getting fails with [`GetError::Closed`](super::GetError::Closed). Closing twice is fine.
    ///
    /// # Errors
    /// In a plain fork of a member of the family.
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
    /// Tells how full it is, how many items are being worked on, and how many wait; a snapshot.
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
