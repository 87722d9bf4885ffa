//! [`JoinableQueue`]: work that comes back when its worker dies.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{GetError, JoinError, PutError};
use super::lease::{DeadLetters, Lease};
use super::plain::check_bound;
use super::ring::{Refusal, Ring, make};
use super::{receiving, sending, waiting};
use crate::arena::encoding::Message;
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::os::clock::Deadline;
use crate::{Error, Result};

/// A queue of work: what a consumer gets is *leased* to it until it says that it is done, and comes back
/// when the consumer dies, panics, or drops it.
///
/// A handle, as [`Queue`](super::Queue) is. [`join`](JoinableQueue::join) waits until everything that was put
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
/// A **producer**: as with [`Queue`](super::Queue), what it has put is there. A **consumer**: every item that
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
    /// As [`Queue::bounded`](super::Queue::bounded).
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
    /// As [`Queue::unbounded`](super::Queue::unbounded).
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
    /// As [`Queue::bounded`](super::Queue::bounded).
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
        let (handle, ring) = make::<JoinableBody>(items, bytes, 8)?;
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
    /// then getting fails with [`GetError::Closed`]. Closing twice is fine.
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

impl<T: Message> JoinableQueue<T> {
    /// Puts an item, and waits for room as long as it takes.
    ///
    /// # Errors
    /// As [`Queue::put`](super::Queue::put).
    ///
    /// # If a process dies
    /// As with [`Queue::put`](super::Queue::put).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// assert_eq!(queue.unfinished(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::NEVER)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// As [`Queue::try_put`](super::Queue::try_put).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::PutError};
    /// let queue = JoinableQueue::bounded(1)?;
    /// queue.try_put(1)?;
    /// assert_eq!(queue.try_put(2), Err(PutError::Full(2)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(Duration::ZERO))
    }

    /// Puts an item, and waits for room at most `timeout`.
    ///
    /// # Errors
    /// As [`Queue::put_timeout`](super::Queue::put_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::JoinableQueue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.put_timeout(2, Duration::from_millis(10)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(timeout))
    }

    /// Puts an item, and waits for room at most until `deadline`.
    ///
    /// # Errors
    /// As [`put_timeout`](JoinableQueue::put_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::JoinableQueue::bounded(1)?;
    /// queue.put_deadline(1, Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_deadline(&self, item: T, deadline: Instant) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::at(deadline))
    }

    /// Puts many items, some hundred at a time; waits for room as long as it takes. Says how many.
    ///
    /// # Errors
    /// As [`Queue::put_many`](super::Queue::put_many).
    ///
    /// ```
    /// let queue = procession::JoinableQueue::unbounded()?;
    /// assert_eq!(queue.put_many(1..=1000)?, 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::NEVER)
    }

    /// Takes a lease of the next item, and waits for it as long as it takes. On a closed queue it waits
    /// while other processes work on items, which may come back: so two consumers that each keep one lease
    /// while they get the next wait for each other. Finish one before you get another.
    ///
    /// # Errors
    /// [`GetError::Closed`] when there is none and will be none; [`GetError::Undecodable`] when the item
    /// cannot be read as a `T`: it counts as done; [`GetError::Unusable`] when there is no shared memory to
    /// note the lease in, or in a plain fork of a member of the family.
    ///
    /// # If a process dies
    /// Killed in here, or later with the lease in its hands, the item comes back, to whoever gets the next one.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// let lease = queue.get()?;
    /// assert_eq!(*lease, 7);
    /// lease.done()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get(&self) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::NEVER)
    }

    /// Takes a lease of the next item if there is one now.
    ///
    /// # Errors
    /// [`GetError::Empty`] when there is none; otherwise as [`get`](JoinableQueue::get).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::GetError};
    /// let queue = JoinableQueue::<u32>::bounded(3)?;
    /// assert_eq!(queue.try_get().unwrap_err(), GetError::Empty);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::after(Duration::ZERO))
    }

    /// Takes a lease of the next item, and waits for it at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] when the time was up; otherwise as [`get`](JoinableQueue::get).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// assert!(queue.get_timeout(Duration::from_millis(10)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::after(timeout))
    }

    /// Takes a lease of the next item, and waits for it at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](JoinableQueue::get_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// let lease = queue.get_deadline(Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(*lease, 7);
    /// lease.done()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_deadline(&self, deadline: Instant) -> Result<Lease<T>, GetError> {
        self.lease(Deadline::at(deadline))
    }

    fn lease(&self, deadline: Deadline) -> Result<Lease<T>, GetError> {
        let (ring, filled) = (&self.ring, &self.ring.control().filled.word);
        let (passed, come) = (|| ring.has_taken(), || ring.has_work());
        let leased = waiting::wait(ring.arena(), filled, deadline, passed, come, || ring.lease(deadline));
        match leased {
            Ok(leased) => Lease::new(self, leased),
            Err(Refusal::NoMemory) => {
                Err(GetError::Unusable("there is no shared memory left to note who has the item".into()))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Takes leases one after the other, waiting for each, until the queue is closed, empty and done.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// queue.close()?;
    /// for lease in queue.iter() {
    ///     lease?.done()?;
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<Lease<T>, GetError>> {
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            match self.get() {
                Err(GetError::Closed) => None,
                got => {
                    over = matches!(got, Err(GetError::Unusable(_)));
                    Some(got)
                }
            }
        })
    }

    /// Takes out the items that were handed out as often as
    /// [`with_max_attempts`](JoinableQueue::with_max_attempts) allows, and never done; one after the other,
    /// until there is none at the moment. They count as done for [`join`](JoinableQueue::join).
    ///
    /// # If a process dies
    /// Killed in here, it has taken the letter or not: in the second case the next one gets it.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?.with_max_attempts(1)?;
    /// queue.put_many([1, 2])?;
    /// queue.get()?.done()?;
    /// drop(queue.get()?);
    /// let letters: Result<Vec<_>, _> = queue.dead_letters().collect();
    /// assert_eq!(letters?.into_iter().map(|letter| letter.item).collect::<Vec<_>>(), [2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn dead_letters(&self) -> DeadLetters<'_, T> {
        DeadLetters::of(self)
    }
}

impl<T> JoinableQueue<T> {
    /// Waits until everything that was put is done, or a dead letter, as long as it takes.
    ///
    /// # Errors
    /// [`JoinError::Unusable`] in a plain fork of a member of the family.
    ///
    /// # If a process dies
    /// What it worked on comes back to the queue and is waited for: somebody has to get it.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put("work".to_string())?;
    /// queue.get()?.done()?;
    /// queue.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::NEVER)
    }

    /// Whether everything is done: an error if not.
    ///
    /// # Errors
    /// [`JoinError::NotDone`]; otherwise as [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use procession::{JoinableQueue, queue::JoinError};
    /// let queue = JoinableQueue::bounded(3)?;
    /// assert_eq!(queue.try_join(), Ok(()));
    /// queue.put(1)?;
    /// assert_eq!(queue.try_join(), Err(JoinError::NotDone));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.wait(Deadline::after(Duration::ZERO))
    }

    /// As [`join`](JoinableQueue::join), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError::NotDone`] when the time was up; otherwise as [`join`](JoinableQueue::join).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{JoinableQueue, queue::JoinError};
    /// let queue = JoinableQueue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.join_timeout(Duration::from_millis(10)), Err(JoinError::NotDone));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.wait(Deadline::after(timeout))
    }

    /// As [`join`](JoinableQueue::join), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`join_timeout`](JoinableQueue::join_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
    /// queue.join_deadline(Instant::now() + Duration::from_secs(1))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<(), JoinError> {
        let ring = &self.ring;
        let finished = || if ring.is_finished() { Ok(()) } else { Err(Refusal::Empty) };
        let word = &ring.control().finished.word;
        match waiting::wait(ring.arena(), word, deadline, || 0, || ring.is_finished(), finished) {
            Ok(()) if crate::arena::member::is_forked() => {
                Err(JoinError::Unusable(Error::Forked.to_string()))
            }
            Ok(()) => Ok(()),
            Err(Refusal::Unusable(error)) => Err(JoinError::Unusable(error.to_string())),
            Err(_) => Err(JoinError::NotDone),
        }
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
