//! [`pipe()`]: two processes that exchange messages.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::GetError;
use super::plain::Queue;
use super::ring::{Refusal, Ring};
use super::{receiving, waiting};
use crate::arena::blocks::Tag;
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::arena::{Arena, member, payload};
use crate::codec;
use crate::os::clock::Deadline;
use crate::sync::raw::event;
use crate::{Error, Result};

/// The bytes that a pipe can contain in each direction before sending waits. A single larger message fits into an
/// empty pipe.
const ROOM: usize = 64 << 10;

/// Creates a pipe. A message that is sent into one end is received from the other. This works in both
/// directions.
///
/// # Errors
/// [`Error::Full`] if the shared memory is full.
///
/// ```
/// use procession::{Process, pipe, queue::Connection};
///
/// let (here, there) = pipe::<u32, String>()?;
/// let child = Process::spawn(
///     |end: Connection<String, u32>| -> procession::Result<()> {
///         let number = end.recv()?;
///         Ok(end.send(format!("{number} it is"))?)
///     },
///     (there,),
/// )?;
/// here.send(7)?;
/// assert_eq!(here.recv()?, "7 it is");
/// child.join()??;
/// assert!(here.recv().is_err()); // the other end is gone
/// # Ok::<(), procession::Error>(())
/// ```
pub fn pipe<A, B>() -> Result<(Connection<A, B>, Connection<B, A>)> {
    let forth = Queue::<()>::bounded_bytes(ROOM)?;
    let back = Queue::<()>::bounded_bytes(ROOM)?;
    let rings = (forth, back);
    Ok((Connection::make(&rings, 0)?, Connection::make(&rings, 1)?))
}

/// One end of a [`pipe()`]. It sends `A`s and receives `B`s.
///
/// A connection is a handle: it can be cloned and sent to another process. An end is *gone* when its last
/// handle has been dropped, when every process that had a handle is dead, or after
/// [`close`](Connection::close).
///
/// # If a process dies
///
/// Messages that the dead end has sent can still be received. After those messages, receiving fails with
/// [`GetError::Closed`]. Sending to the dead end fails with [`PutError::Closed`](crate::queue::PutError::Closed). Calls that already wait
/// fail immediately, too.
///
/// ```
/// let (a, b) = procession::pipe::<u32, u32>()?;
/// a.send(1)?;
/// b.send(2)?;
/// assert_eq!((a.recv()?, b.recv()?), (2, 1));
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Connection<A, B> {
    handle: Handle,
    sending: Ring,
    receiving: Ring,
    _carries: PhantomData<fn(A) -> B>,
}

/// An end of a pipe as an object. One of its blocks contains handles to the two queues.
#[repr(C)]
struct EndBody {
    /// The index of the queue into which this end sends.
    side: AtomicU64,
}

#[allow(unsafe_code, reason = "says that the layout is made of atomics")]
// SAFETY: the field is an atomic, and zero is valid.
unsafe impl Body for EndBody {
    const KIND: Kind = Kind::Connection;
}

impl<A, B> Connection<A, B> {
    /// Creates the end that sends into `queues` at index `side`.
    fn make(queues: &(Queue<()>, Queue<()>), side: usize) -> Result<Connection<A, B>> {
        let arena = member::arena()?;
        let rings = [queues.0.ring(), queues.1.ring()];
        let (sending, receiving) = (rings[side], rings[1 - side]);
        let block = codec::pack_block(queues)?;
        // When this end is freed, the threads that wait to receive from it or to send to it are notified on these
        // words.
        let notified = [&sending.control().filled.word, &receiving.control().emptied.word];
        let handle = Handle::create::<EndBody>(|object| {
            object.body::<EndBody>().side.store(side as u64, Ordering::Relaxed);
            object.blocks[0].store(block.at(), Ordering::Relaxed);
            object.register_end_words(notified.map(|word| arena.offset_of(word)));
        })?;
        // CRASH: if we die before this store, the block is swept with our other blocks, and the object is
        // freed with its only handle.
        block.give_to(Tag::object(handle.id().index()));
        Ok(Connection { handle, sending, receiving, _carries: PhantomData })
    }

    fn of(handle: Handle) -> Result<Connection<A, B>> {
        let arena = member::arena()?;
        let block = handle.object().blocks[0].load(Ordering::Acquire);
        let rings = rings_in(arena, block)
            .ok_or_else(|| Error::StaleHandle("this connection no longer exists".into()))?;
        let side = handle.body::<EndBody>().side.load(Ordering::Acquire) as usize & 1;
        Ok(Connection { handle, sending: rings[side], receiving: rings[1 - side], _carries: PhantomData })
    }

    /// Returns whether the other end can no longer send or receive. Messages that it sent may still be in the
    /// pipe. The answer may be out of date when this returns.
    ///
    /// ```
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// assert!(!a.is_closed());
    /// drop(b);
    /// assert!(a.is_closed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.is_other_end_gone() || self.sending.is_closed()
    }

    /// Closes both directions, for every holder of either end: sending fails from now on. Messages that are left can
    /// still be received.
    ///
    /// # Errors
    /// Fails in a process that was created by a plain `fork()`.
    ///
    /// ```
    /// use procession::{pipe, queue::GetError};
    /// let (a, b) = pipe::<u32, u32>()?;
    /// a.send(1)?;
    /// a.close()?;
    /// assert!(b.send(2).is_err());
    /// assert_eq!((b.recv(), b.recv()), (Ok(1), Err(GetError::Closed)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        receiving::close(&self.sending)?;
        receiving::close(&self.receiving)
    }

    /// Returns whether [`recv`](Connection::recv) would return immediately, with a message or an error. The
    /// answer may be out of date when this returns.
    ///
    /// ```
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// assert!(!b.poll());
    /// a.send(1)?;
    /// assert!(b.poll());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn poll(&self) -> bool {
        self.receiving.has_news() || self.is_other_end_gone()
    }

    /// Waits for at most `timeout` until [`recv`](Connection::recv) would return immediately, with a message or with
    /// [`GetError::Closed`].
    ///
    /// # Errors
    /// [`GetError::Empty`] if no message came in time. [`GetError::Unusable`] in a process that was created by a
    /// plain `fork()`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::queue::GetError;
    /// let (_a, b) = procession::pipe::<u32, u32>()?;
    /// assert_eq!(b.poll_timeout(Duration::from_millis(10)), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn poll_timeout(&self, timeout: Duration) -> Result<(), GetError> {
        self.wait(Deadline::after(timeout))
    }

    /// Waits like [`poll_timeout`](Connection::poll_timeout), until `deadline`.
    ///
    /// # Errors
    /// The errors of [`poll_timeout`](Connection::poll_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.send(1)?;
    /// b.poll_deadline(Instant::now() + Duration::from_secs(1))?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn poll_deadline(&self, deadline: Instant) -> Result<(), GetError> {
        self.wait(Deadline::at(deadline))
    }

    fn wait(&self, deadline: Deadline) -> Result<(), GetError> {
        if member::is_forked() {
            return Err(GetError::Unusable(Error::Forked.to_string()));
        }
        let ring = &self.receiving;
        let word = &ring.control().filled.word;
        let look = || if ring.has_news() { Ok(()) } else { Err(Refusal::Empty) };
        let news = waiting::wait(ring.arena(), word, deadline, || ring.has_taken(), || ring.has_news(), look);
        // This thread does not receive the message, but it may have used up the wake of a thread that would
        // receive it. So wake another thread.
        event::notify(word, 1);
        match news {
            Ok(()) | Err(Refusal::Closed) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Returns whether the other end is gone.
    pub(super) fn is_other_end_gone(&self) -> bool {
        // The other end's object notifies two words when it is freed. This is the first of them.
        is_gone(&self.receiving.control().filled.word)
    }

    pub(super) fn outgoing(&self) -> &Ring {
        &self.sending
    }

    pub(super) fn incoming(&self) -> &Ring {
        &self.receiving
    }
}

fn is_gone(word: &AtomicU32) -> bool {
    event::Word::load(word) & event::GONE != 0
}

/// Returns the two queues to which an end's block contains handles. The block keeps the queues alive, so the
/// returned rings need no further handles.
fn rings_in(arena: &Arena, block: u64) -> Option<[Ring; 2]> {
    let mut rings = Vec::with_capacity(2);
    payload::for_each_handle(arena, block, u64::MAX, &mut |id| rings.extend(Ring::find(id.index())));
    rings.try_into().ok()
}

impl<A, B> Clone for Connection<A, B> {
    fn clone(&self) -> Connection<A, B> {
        let (handle, _carries) = (self.handle.clone(), PhantomData);
        Connection { handle, sending: self.sending, receiving: self.receiving, _carries }
    }
}

impl<A, B> fmt::Debug for Connection<A, B> {
    /// Shows whether the other end exists, and how many messages the pipe contains. The values may already
    /// have changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Connection");
        if member::is_forked() {
            return out.finish_non_exhaustive();
        }
        out.field("closed", &self.is_closed()).field("sent", &self.sending.len());
        out.field("to_receive", &self.receiving.len()).finish()
    }
}

impl<A, B> Serialize for Connection<A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, A, B> Deserialize<'de> for Connection<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Connection<A, B>, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::Connection)?;
        Connection::of(handle).map_err(serde::de::Error::custom)
    }
}
