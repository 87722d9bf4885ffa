//! [`Queue`]: messages from any number of producers to any number of consumers.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{GetError, PutError};
use super::ring::{PlainBody, Ring, make};
use super::{receiving, sending};
use crate::arena::encoding::Message;
use crate::arena::handle::Handle;
use crate::arena::member;
use crate::arena::objects::Kind;
use crate::os::clock::Deadline;
use crate::{Error, Result};

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
    /// A queue for at most `capacity` items at a time.
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
    /// [`PutError::Full`].
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
        let (handle, ring) = make::<PlainBody>(items, bytes, size_of::<T>() as u64)?;
        Ok(Queue { handle, ring, _carries: PhantomData })
    }

    /// The queue behind an id that somebody holds.
    #[cfg(feature = "tracing")]
    pub(crate) fn with_id(id: crate::arena::objects::Id) -> Result<Queue<T>> {
        let handle = Handle::take(id, Kind::Queue)?;
        handle.object().touch();
        let ring = Ring::of(handle.id().index())?;
        Ok(Queue { handle, ring, _carries: PhantomData })
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn object(&self) -> &'static crate::arena::objects::Object {
        self.handle.object()
    }

    #[cfg(feature = "tracing")]
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
    /// [`GetError::Closed`], and iteration ends. Closing twice is fine.
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

impl<T: Message> Queue<T> {
    /// Puts an item, and waits for room as long as it takes.
    ///
    /// # Errors
    /// Each gives the item back. [`PutError::Closed`]; [`PutError::Unsendable`] when it cannot be encoded;
    /// [`PutError::Full`] when the family's shared memory is full; [`PutError::Unusable`] in a plain fork of
    /// a member of the family.
    ///
    /// # If a process dies
    /// Killed in here, it has put the item or not; in either case everybody else goes on. When this has returned, the item
    /// is in the queue whatever becomes of its producer.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put("first".to_string())?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::NEVER)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// [`PutError::Full`] when there is none; otherwise as [`put`](Queue::put).
    ///
    /// ```
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::bounded(1)?;
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
    /// [`PutError::Full`] when the time was up; otherwise as [`put`](Queue::put).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::bounded(1)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.put_timeout(2, Duration::from_millis(10)), Err(PutError::Full(2)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::after(timeout))
    }

    /// Puts an item, and waits for room at most until `deadline`.
    ///
    /// # Errors
    /// As [`put_timeout`](Queue::put_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put_deadline(1, Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(queue.get()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_deadline(&self, item: T, deadline: Instant) -> Result<(), PutError<T>> {
        sending::put(&self.ring, item, Deadline::at(deadline))
    }

    /// Puts many items, some hundred at a time, each such batch at once; waits for room as long as it takes.
    /// Much faster than one by one. Says how many.
    ///
    /// # Errors
    /// As [`put`](Queue::put), with those items that were taken from the iterator and not put.
    ///
    /// # If a process dies
    /// Killed in here, it has put all batches up to some one, each whole.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// assert_eq!(queue.put_many(1..=1000)?, 1000);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::NEVER)
    }

    /// As [`put_many`](Queue::put_many), as far as there is room now.
    ///
    /// # Errors
    /// As [`put_many`](Queue::put_many); [`PutError::Full`] with those items that were taken from the iterator
    /// and that there is no room for. Give an iterator `by_ref()` to keep the rest.
    ///
    /// ```
    /// use procession::{Queue, queue::PutError};
    /// let queue = Queue::bounded(3)?;
    /// let mut numbers = 1..=5;
    /// assert_eq!(queue.try_put_many(numbers.by_ref()), Err(PutError::Full(vec![4, 5])));
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::after(Duration::ZERO))
    }

    /// As [`put_many`](Queue::put_many), but waits at most `timeout` in all.
    ///
    /// # Errors
    /// As [`try_put_many`](Queue::try_put_many).
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::bounded(3)?;
    /// let refused = queue.put_many_timeout(1..=4, Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(refused.into_item(), [4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_timeout(
        &self,
        items: impl IntoIterator<Item = T>,
        timeout: Duration,
    ) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::after(timeout))
    }

    /// As [`put_many`](Queue::put_many), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`try_put_many`](Queue::try_put_many).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(3)?;
    /// assert_eq!(queue.put_many_deadline(1..=3, Instant::now() + Duration::from_secs(1))?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_deadline(
        &self,
        items: impl IntoIterator<Item = T>,
        deadline: Instant,
    ) -> Result<usize, PutError<Vec<T>>> {
        sending::put_many(&self.ring, items, Deadline::at(deadline))
    }

    /// Takes the next item, and waits for it as long as it takes.
    ///
    /// # Errors
    /// [`GetError::Closed`] when there is none and will be none; [`GetError::Undecodable`] when the
    /// item cannot be read as a `T`, which costs only this item; [`GetError::Unusable`] in a plain fork of a
    /// member of the family.
    ///
    /// # If a process dies
    /// Killed in here, it has taken the item or not: in the second case the next consumer gets it. What has been got goes
    /// with its consumer.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(7)?;
    /// assert_eq!(queue.get()?, 7);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::NEVER)
    }

    /// Takes the next item if there is one now.
    ///
    /// # Errors
    /// [`GetError::Empty`] when there is none; otherwise as [`get`](Queue::get).
    ///
    /// ```
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::<u32>::bounded(3)?;
    /// assert_eq!(queue.try_get(), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::after(Duration::ZERO))
    }

    /// Takes the next item, and waits for it at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] when the time was up; otherwise as [`get`](Queue::get).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::<u32>::bounded(3)?;
    /// assert_eq!(queue.get_timeout(Duration::from_millis(10)), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::after(timeout))
    }

    /// Takes the next item, and waits for it at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(7)?;
    /// assert_eq!(queue.get_deadline(Instant::now() + Duration::from_secs(1))?, 7);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        receiving::get(&self.ring, Deadline::at(deadline))
    }

    /// Takes up to `max` items at once; waits until there is one, as long as it takes. An item that cannot
    /// be read as a `T` is an error in its place.
    ///
    /// # Errors
    /// As [`get`](Queue::get), but for what cannot be read.
    ///
    /// # If a process dies
    /// Killed in here, it has taken all of them or none.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// queue.put_many(1..=5)?;
    /// let got: Result<Vec<i32>, _> = queue.get_many(3)?.into_iter().collect();
    /// assert_eq!(got?, [1, 2, 3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many(&self, max: usize) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::NEVER)
    }

    /// As [`get_many`](Queue::get_many), with what there is now.
    ///
    /// # Errors
    /// As [`try_get`](Queue::try_get), but for what cannot be read.
    ///
    /// ```
    /// use procession::{Queue, queue::GetError};
    /// let queue = Queue::bounded(3)?;
    /// assert!(matches!(queue.try_get_many(3), Err(GetError::Empty)));
    /// queue.put_many([1, 2])?;
    /// assert_eq!(queue.try_get_many(3)?, [Ok(1), Ok(2)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get_many(&self, max: usize) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::after(Duration::ZERO))
    }

    /// As [`get_many`](Queue::get_many), but waits at most `timeout`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout), but for what cannot be read.
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.get_many_timeout(3, Duration::from_secs(1))?, [Ok(1)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::after(timeout))
    }

    /// As [`get_many`](Queue::get_many), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout), but for what cannot be read.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let queue = procession::Queue::bounded(3)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.get_many_deadline(3, Instant::now() + Duration::from_secs(1))?, [Ok(1)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_deadline(
        &self,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Result<T, GetError>>, GetError> {
        receiving::get_many(&self.ring, max, Deadline::at(deadline))
    }

    /// Takes items one after the other, waiting for each, until the queue is closed and empty.
    ///
    /// ```
    /// let queue = procession::Queue::unbounded()?;
    /// queue.put_many(["a".to_string(), "b".to_string()])?;
    /// queue.close()?;
    /// let all: Result<Vec<String>, _> = queue.iter().collect();
    /// assert_eq!(all?, ["a", "b"]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, over: false }
    }
}

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

/// The items of a queue, until it is closed and empty: see [`Queue::iter`].
///
/// ```
/// let queue = procession::Queue::bounded(3)?;
/// queue.put_many([1, 2])?;
/// queue.close()?;
/// let all: Result<Vec<i32>, _> = (&queue).into_iter().collect();
/// assert_eq!(all?, [1, 2]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
    over: bool,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Result<T, GetError>> {
        if self.over {
            return None;
        }
        let got = self.queue.get();
        self.over = matches!(got, Err(GetError::Closed | GetError::Unusable(_)));
        (!matches!(got, Err(GetError::Closed))).then_some(got)
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<'a, T: Message> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
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
