//! [`Lease`]: an item that a consumer works on.

use std::fmt;
use std::ops::Deref;

use super::error::GetError;
use super::joinable::JoinableQueue;
use super::receiving;
use super::ring::leases::Leased;
use crate::arena::{member, owned_block};
use crate::codec::encoding::Message;
use crate::{Error, Result};

/// An item of a [`JoinableQueue`] that this process works on until it calls [`done`](Lease::done).
///
/// If the lease ends in any other way, the item returns to the front of its queue. This happens on an early
/// return, on a panic, and when the process dies. The next consumer then gets the item with an
/// [`attempt`](Lease::attempt) that is one higher.
///
/// ```
/// use procession::JoinableQueue;
///
/// let queue = JoinableQueue::bounded(3)?;
/// queue.put("dishes".to_string())?;
/// drop(queue.get()?); // not done
/// let lease = queue.get()?;
/// assert_eq!((lease.as_str(), lease.attempt()), ("dishes", 2));
/// lease.done()?;
/// queue.join()?;
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "dropping the lease returns the item to the queue; call `done()` when the work is finished"]
pub struct Lease<T> {
    item: T,
    unfinished: Unfinished<T>,
}

/// A lease without its item.
pub(crate) struct Unfinished<T> {
    hold: Hold,
    _queue: JoinableQueue<T>,
}

impl<T> Unfinished<T> {
    /// Finishes the item: it does not come back.
    pub(crate) fn done(mut self) -> Result<()> {
        if member::is_forked() {
            return Err(Error::Forked);
        }
        if self.hold.finish() {
            return Ok(());
        }
        Err(Error::StaleHandle("this process no longer has the lease of the item".into()))
    }
}

impl<T: Message> Lease<T> {
    /// Decodes the item. An item that cannot be decoded counts as done, because no consumer could decode it.
    pub(super) fn new(queue: &JoinableQueue<T>, leased: Leased) -> Result<Lease<T>, GetError> {
        let hold = Hold { queue: queue.ring(), leased: Some(leased) };
        match receiving::read(leased.block) {
            Ok(item) => Ok(Lease { item, unfinished: Unfinished { hold, _queue: queue.clone() } }),
            Err(error) => {
                let mut hold = hold;
                hold.finish();
                Err(error)
            }
        }
    }
}

impl<T> Lease<T> {
    /// Finishes the item: it does not come back.
    ///
    /// # Errors
    /// [`Error::Forked`] in a plain fork of the process that has the lease.
    ///
    /// # If a process dies
    /// If the process dies before this call returns, the item may come back. If it dies later, the item does
    /// not come back.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// queue.get()?.done()?;
    /// assert_eq!(queue.unfinished(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn done(self) -> Result<()> {
        self.unfinished.done()
    }

    /// Separates the item from its lease.
    pub(crate) fn split(self) -> (T, Unfinished<T>) {
        (self.item, self.unfinished)
    }

    /// Returns how many times the item was leased, including this time. The result is 1 for the first lease.
    ///
    /// ```
    /// let queue = procession::JoinableQueue::bounded(3)?;
    /// queue.put(7)?;
    /// drop(queue.get()?);
    /// assert_eq!(queue.get()?.attempt(), 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn attempt(&self) -> u32 {
        self.unfinished.hold.leased.map_or(0, |leased| leased.attempt)
    }
}

/// The lease itself. Dropping it returns the item to the queue.
struct Hold {
    queue: super::ring::Ring,
    leased: Option<Leased>,
}

impl Hold {
    fn finish(&mut self) -> bool {
        self.leased.take().is_some_and(|leased| {
            let finished = self.queue.finish(leased);
            if finished {
                owned_block::free(self.queue.arena(), leased.block);
            }
            finished
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(leased) = self.leased.take().filter(|_| !member::is_forked()) {
            self.queue.return_lease(leased);
        }
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("item", &self.item).field("attempt", &self.attempt()).finish()
    }
}

/// An item that was leased as many times as its queue allows, but never finished.
///
/// ```
/// let queue = procession::JoinableQueue::bounded(3)?.with_max_attempts(1)?;
/// queue.put(13)?;
/// drop(queue.get()?);
/// let letter = queue.dead_letters().next().unwrap()?;
/// assert_eq!((letter.item, letter.attempts), (13, 1));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// The item.
    pub item: T,
    /// How many times the item was leased.
    pub attempts: u32,
}

/// An iterator that removes dead letters from a queue. [`JoinableQueue::dead_letters`] creates it.
///
/// ```
/// let queue = procession::JoinableQueue::<u32>::bounded(3)?;
/// assert_eq!(queue.dead_letters().count(), 0);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
pub struct DeadLetters<'a, T> {
    queue: &'a JoinableQueue<T>,
    /// The queue can no longer be used, and the iterator has returned that error.
    over: bool,
}

impl<'a, T> DeadLetters<'a, T> {
    pub(super) fn of(queue: &'a JoinableQueue<T>) -> DeadLetters<'a, T> {
        DeadLetters { queue, over: false }
    }
}

impl<T: Message> Iterator for DeadLetters<'_, T> {
    type Item = Result<DeadLetter<T>, GetError>;

    fn next(&mut self) -> Option<Result<DeadLetter<T>, GetError>> {
        if self.over {
            return None;
        }
        match self.queue.ring().take_given_up() {
            Ok(None) => None,
            Ok(Some((block, attempts))) => {
                Some(receiving::value_in(block).map(|item| DeadLetter { item, attempts }))
            }
            Err(refusal) => {
                self.over = true;
                Some(Err(refusal.into()))
            }
        }
    }
}

impl<T> fmt::Debug for DeadLetters<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("queue", &self.queue).finish_non_exhaustive()
    }
}
