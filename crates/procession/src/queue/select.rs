//! [`select`]: waiting for the first of several sources.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::joinable::JoinableQueue;
use super::plain::Queue;
use crate::arena::member;
use crate::arena::thread::{Me, with_me};
use crate::os::clock::Deadline;
use crate::os::futex;
use crate::rules::{self, Rule};
use crate::sync::raw::event;
use crate::sync::raw::park::Wait;

/// A source that [`select`] can wait for. A queue or connection is ready when it has an item, or is closed. A process
/// is ready when it has ended. Only types of this crate implement it.
///
/// ```
/// use procession::{Queue, pipe, queue::Ready, select};
/// let (queue, (end, _other)) = (Queue::bounded(3)?, pipe::<u8, u8>()?);
/// queue.put(1)?;
/// let sources: [&dyn Ready; 2] = [&end, &queue];
/// assert_eq!(select(&sources)?, 1);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Ready: sealed::Ready {}

pub(crate) mod sealed {
    use super::Signal;

    pub trait Ready {
        #[doc(hidden)]
        fn is_ready(&self) -> bool;
        #[doc(hidden)]
        fn signal(&self) -> Signal<'_>;
    }
}

/// The word to sleep on until the source may be ready.
#[derive(Clone, Copy)]
pub enum Signal<'a> {
    /// An event count.
    #[doc(hidden)]
    Events(&'a AtomicU32),
    /// A word that no longer has this value once the source may be ready.
    #[doc(hidden)]
    Changes(&'a AtomicU32, u32),
}

/// Why [`select`] found no source.
///
/// ```
/// use procession::queue::{SelectError, try_select};
/// assert!(matches!(try_select(&[]), Err(SelectError::InvalidArgument(_))));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SelectError {
    /// No source is ready, and the call does not wait.
    WouldBlock,
    /// No source was ready when the timeout expired.
    TimedOut,
    /// The list of sources is empty.
    InvalidArgument(String),
    /// This process cannot wait for the sources. The text says why.
    Unusable(String),
    /// The shared memory of the family is full. The text says which processes hold how much.
    Full(String),
}

/// Waits without a limit until a source is ready. Returns the index of the first source in the list that is
/// ready. The number of sources is not limited. The kernel can wait for 127 of them. With more sources, the
/// call polls all of them every few milliseconds.
///
/// The result is a hint, because another process may take the item first. Then call
/// [`try_get`](Queue::try_get), [`try_recv`](Connection::try_recv) or [`try_join`](crate::Process::try_join).
///
/// # Errors
/// [`SelectError::InvalidArgument`] if `sources` is empty. [`SelectError::Unusable`] in a process that was created by
/// a plain `fork()`.
///
/// # If a process dies
/// The dead process is a ready source, and so is the other end of each of its pipes.
///
/// ```
/// use procession::{Process, Queue, select};
///
/// let queue = Queue::<u32>::bounded(3)?;
/// let process = Process::spawn(|| (), ())?;
/// match select(&[&queue, &process])? {
///     0 => println!("got {}", queue.try_get()?),
///     _ => process.join()?,
/// }
/// # Ok::<(), procession::Error>(())
/// ```
pub fn select(sources: &[&dyn Ready]) -> Result<usize, SelectError> {
    until(sources, Deadline::NEVER)
}

/// Returns the index of the first source that is ready. Does not wait.
///
/// # Errors
/// [`SelectError::WouldBlock`] if no source is ready. Otherwise, the errors of [`select`].
///
/// ```
/// use procession::{Queue, queue::{SelectError, try_select}};
/// let queue = Queue::bounded(3)?;
/// assert_eq!(try_select(&[&queue]), Err(SelectError::WouldBlock));
/// queue.put(1)?;
/// assert_eq!(try_select(&[&queue]), Ok(0));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn try_select(sources: &[&dyn Ready]) -> Result<usize, SelectError> {
    until(sources, Deadline::after(Duration::ZERO)).map_err(SelectError::without_waiting)
}

/// Waits like [`select`], for at most `timeout`.
///
/// # Errors
/// [`SelectError::TimedOut`] if no source was ready in time. Otherwise, the errors of [`select`].
///
/// ```
/// use std::time::Duration;
/// use procession::{Queue, queue::{SelectError, select_timeout}};
/// let queue = Queue::<u32>::bounded(3)?;
/// assert_eq!(select_timeout(&[&queue], Duration::from_millis(10)), Err(SelectError::TimedOut));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn select_timeout(sources: &[&dyn Ready], timeout: Duration) -> Result<usize, SelectError> {
    until(sources, Deadline::after(timeout))
}

/// Waits like [`select`], until `deadline` at the latest.
///
/// # Errors
/// The errors of [`select_timeout`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use procession::{Queue, queue::select_deadline};
/// let queue = Queue::bounded(3)?;
/// queue.put(1)?;
/// assert_eq!(select_deadline(&[&queue], Instant::now() + Duration::from_secs(1)), Ok(0));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn select_deadline(sources: &[&dyn Ready], deadline: Instant) -> Result<usize, SelectError> {
    until(sources, Deadline::at(deadline))
}

fn until(sources: &[&dyn Ready], deadline: Deadline) -> Result<usize, SelectError> {
    if sources.is_empty() {
        return Err(SelectError::InvalidArgument("select() needs at least one source to wait for".into()));
    }
    if let Some(first) = first_ready(sources) {
        return Ok(first);
    }
    with_me(|me| sleep_until_ready(me, sources, deadline))
        .map_err(|error| match error {
            crate::Error::Full(why) => SelectError::Full(why),
            other => SelectError::Unusable(other.to_string()),
        })?
        .ok_or(SelectError::TimedOut)
}

fn first_ready(sources: &[&dyn Ready]) -> Option<usize> {
    sources.iter().position(|source| source.is_ready())
}

fn sleep_until_ready(me: &Me, sources: &[&dyn Ready], deadline: Deadline) -> Option<usize> {
    let arena = member::mapped()?;
    let record = me.record();
    let mut slept = false;
    loop {
        // The death sweep counts an event on this word, as it does on a word that a single wait announced.
        let announced = Wait::announce_event(arena, record, &record.select_event);
        let seen = event::prepare(&record.select_event);
        let words = sources.iter().map(|source| match source.signal() {
            Signal::Events(word) => (word, event::prepare(word)),
            Signal::Changes(word, from) => (word, from),
        });
        let words: Vec<_> = words.chain([(&record.select_event, seen)]).collect();
        if let Some(first) = first_ready(sources) {
            drop(announced);
            if slept {
                pass_on(sources);
            }
            return Some(first);
        }
        if deadline.passed() {
            return None;
        }
        futex::wait_any(&words, deadline);
        slept = true;
    }
}

/// Wakes one more thread for each ready source. The wake that ended our sleep may have been meant for another
/// thread, and our caller may not receive the item.
fn pass_on(sources: &[&dyn Ready]) {
    if !rules::holds(Rule::WakePassedOn) {
        return;
    }
    for source in sources.iter().filter(|source| source.is_ready()) {
        if let Signal::Events(word) = source.signal() {
            event::notify(word, 1);
        }
    }
}

impl<T> sealed::Ready for Queue<T> {
    fn is_ready(&self) -> bool {
        self.ring().has_news()
    }

    fn signal(&self) -> Signal<'_> {
        Signal::Events(&self.ring().control().filled.word)
    }
}

impl<T> Ready for Queue<T> {}

impl<T> sealed::Ready for JoinableQueue<T> {
    fn is_ready(&self) -> bool {
        self.ring().has_answer()
    }

    fn signal(&self) -> Signal<'_> {
        Signal::Events(&self.ring().control().filled.word)
    }
}

impl<T> Ready for JoinableQueue<T> {}

impl<A, B> sealed::Ready for Connection<A, B> {
    fn is_ready(&self) -> bool {
        self.poll()
    }

    fn signal(&self) -> Signal<'_> {
        Signal::Events(&self.incoming().control().filled.word)
    }
}

impl<A, B> Ready for Connection<A, B> {}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelectError::WouldBlock => f.write_str("no source is ready"),
            SelectError::TimedOut => f.write_str("timed out: no source was ready in time"),
            SelectError::InvalidArgument(why) | SelectError::Unusable(why) | SelectError::Full(why) => {
                f.write_str(why)
            }
        }
    }
}

impl SelectError {
    /// Converts the [`SelectError::TimedOut`] of a call that does not wait into [`SelectError::WouldBlock`].
    fn without_waiting(self) -> SelectError {
        match self {
            SelectError::TimedOut => SelectError::WouldBlock,
            other => other,
        }
    }
}

impl std::error::Error for SelectError {}

impl From<SelectError> for crate::Error {
    fn from(e: SelectError) -> crate::Error {
        match e {
            SelectError::InvalidArgument(why) => crate::Error::InvalidArgument(why),
            SelectError::Full(why) => crate::Error::Full(why),
            other => crate::Error::Select(other),
        }
    }
}
