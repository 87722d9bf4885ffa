//! [`Imap`] and [`LocalImap`]: iterators over the results of a map.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fmt, io, mem};

use super::cells::error::{MapError, TaskError};
use super::chunks::ChunkStream;
use super::feed::Feed;
use super::indexed::Indexed;
use super::pool::Pool;
use super::window::Window;
use crate::arena::member;
use crate::codec::encoding::Message;

/// An iterator over the results of [`Pool::imap`](super::Pool::imap) or
/// [`imap_unordered`](super::Pool::imap_unordered). Dropping the iterator stops the work. Like a handle, the
/// iterator keeps the pool from being terminated.
///
/// A thread of the library reads the input. The thread starts at the first call of `next`, and reads no
/// further ahead than [`with_prefetch`](super::Pool::with_prefetch) allows. `next` waits only for results,
/// never for the input.
///
/// Dropping the iterator also drops the input before `drop` returns. The exception is a thread that is
/// waiting inside the input at that moment. That thread drops the input later, when it has got the item.
///
/// # Panics
///
/// `next` panics if the input iterator panics. If `next` is called again after that, it continues with the
/// following item.
///
/// ```
/// let pool = procession::Pool::new(2)?;
/// let mut squares = pool.imap(|n: u64| n * n, 1..); // the endless input is read as needed
/// assert_eq!(squares.next().unwrap()?, 1);
/// assert_eq!(squares.next().unwrap()?, 4);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
pub struct Imap<R> {
    feed: Arc<Feed>,
    reader: Reader,
    ready: Ready<R>,
    /// Keeps the pool from being terminated while results may be asked for.
    _pool: Pool,
}

/// The results of one chunk that the iterator has not returned yet.
struct Ready<R> {
    results: VecDeque<Result<R, TaskError>>,
    /// The position of the first of them. The others follow it.
    first: usize,
}

impl<R> Default for Ready<R> {
    fn default() -> Ready<R> {
        Ready { results: VecDeque::new(), first: 0 }
    }
}

impl<R> Ready<R> {
    #[inline]
    fn push(&mut self, index: usize, result: Result<R, TaskError>) {
        if self.results.is_empty() {
            self.first = index;
        }
        self.results.push_back(result);
    }

    #[inline]
    fn pop(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        let result = self.results.pop_front()?;
        self.first += 1;
        Some((self.first - 1, result))
    }
}

/// The state of the thread that reads the input.
enum Reader {
    Waits(Start),
    Runs(JoinHandle<()>),
    /// The thread could not be started, or this process is a fork that does not have the thread. There are no
    /// more results.
    Gone,
}

type Start = Box<dyn FnOnce(&Arc<Feed>) -> io::Result<JoinHandle<()>> + Send>;

impl<R> Imap<R> {
    pub(super) fn new<T: Message, I>(pool: &Pool, window: Window, items: I, in_order: bool) -> Imap<R>
    where
        I: Iterator<Item = T> + Send + 'static,
    {
        let start = Box::new(move |feed: &Arc<Feed>| feed.start(items));
        let feed = Feed::new(&pool.shared, window, in_order);
        Imap { feed, reader: Reader::Waits(start), ready: Ready::default(), _pool: pool.clone() }
    }

    /// Starts the thread if it does not run yet. If the thread cannot be started, returns an error the first
    /// time. Returns `None` if there are no more results.
    fn begin(&mut self) -> Option<Result<(), TaskError>> {
        let error = match mem::replace(&mut self.reader, Reader::Gone) {
            Reader::Gone => return None,
            // The thread, and any lock that it held, exist only in the process that forked.
            _ if member::is_forked() => TaskError::unusable(&crate::Error::Forked),
            Reader::Runs(thread) => {
                self.reader = Reader::Runs(thread);
                return Some(Ok(()));
            }
            Reader::Waits(start) => match start(&self.feed) {
                Ok(thread) => {
                    self.reader = Reader::Runs(thread);
                    return Some(Ok(()));
                }
                Err(e) => TaskError::Unusable(format!("cannot start a thread to read the input: {e}")),
            },
        };
        Some(Err(error))
    }
}

impl<R: Message> Imap<R> {
    /// Returns an iterator over the same results, each with the position of its item in the input.
    ///
    /// ```
    /// let (pool, names) = (procession::Pool::new(2)?, ["one", "two", "three"]);
    /// for (index, length) in pool.imap_unordered(|name: String| name.len(), names.map(String::from)).indexed() {
    ///     assert_eq!(length?, names[index].len());
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn indexed(self) -> Indexed<Imap<R>> {
        Indexed(self)
    }

    pub(super) fn next_indexed(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        loop {
            if let Some(next) = self.ready.pop() {
                return Some(next);
            }
            if let Err(error) = self.begin()? {
                return Some((self.ready.first, Err(error)));
            }
            let ready = &mut self.ready;
            if !self.feed.next(&mut |index, result| ready.push(index, result)) {
                self.feed.finish_report();
                return None;
            }
        }
    }
}

impl<R: Message> Iterator for Imap<R> {
    type Item = Result<R, MapError>;

    fn next(&mut self) -> Option<Result<R, MapError>> {
        let (index, result) = self.next_indexed()?;
        Some(result.map_err(|error| MapError { index, error }))
    }
}

impl<R> Drop for Imap<R> {
    fn drop(&mut self) {
        if member::is_forked() {
            return mem::forget(mem::replace(&mut self.reader, Reader::Gone));
        }
        let ends = self.feed.stop();
        if let Reader::Runs(thread) = mem::replace(&mut self.reader, Reader::Gone)
            && ends
        {
            // If `drop` of the input panicked, the panic hook has reported it.
            let _ = thread.join();
        }
    }
}

impl<R> fmt::Debug for Imap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("in_order", &self.feed.in_order())
            .field("ready", &self.ready.results.len())
            .finish_non_exhaustive()
    }
}

/// An iterator over the results of [`Pool::imap_local`](super::Pool::imap_local) or
/// [`imap_local_unordered`](super::Pool::imap_local_unordered). Dropping the iterator stops the work. Like a
/// handle, the iterator keeps the pool from being terminated.
///
/// # Panics
///
/// `next` panics if the input iterator panics. If `next` is called again after that, it continues with the
/// following item.
///
/// ```
/// let (pool, words) = (procession::Pool::new(2)?, ["to", "be"]);
/// let mut lengths = pool.imap_local(|word: String| word.len(), words.iter().map(|word| word.to_string()));
/// assert_eq!(lengths.next().unwrap()?, 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
pub struct LocalImap<I: Iterator, R> {
    stream: ChunkStream<I>,
    in_order: bool,
    ready: Ready<R>,
    /// Keeps the pool from being terminated while results may be asked for.
    _pool: Pool,
}

impl<I: Iterator, R> LocalImap<I, R> {
    pub(super) fn new(pool: &Pool, stream: ChunkStream<I>, in_order: bool) -> LocalImap<I, R> {
        LocalImap { stream, in_order, ready: Ready::default(), _pool: pool.clone() }
    }
}

impl<I: Iterator<Item: Message>, R: Message> LocalImap<I, R> {
    /// Returns an iterator over the same results, each with the position of its item in the input.
    ///
    /// ```
    /// let (pool, names) = (procession::Pool::new(2)?, ["one", "two", "three"]);
    /// let lengths = pool.imap_local_unordered(|name: String| name.len(), names.iter().map(|s| s.to_string()));
    /// for (index, length) in lengths.indexed() {
    ///     assert_eq!(length?, names[index].len());
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn indexed(self) -> Indexed<LocalImap<I, R>> {
        Indexed(self)
    }

    pub(super) fn next_indexed(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        loop {
            if let Some(next) = self.ready.pop() {
                return Some(next);
            }
            let ready = &mut self.ready;
            if !self.stream.advance(self.in_order, &mut |index, result| ready.push(index, result)) {
                self.stream.finish_report();
                return self.ready.pop();
            }
        }
    }
}

impl<I: Iterator<Item: Message>, R: Message> Iterator for LocalImap<I, R> {
    type Item = Result<R, MapError>;

    fn next(&mut self) -> Option<Result<R, MapError>> {
        let (index, result) = self.next_indexed()?;
        Some(result.map_err(|error| MapError { index, error }))
    }
}

impl<I: Iterator, R> fmt::Debug for LocalImap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalImap")
            .field("in_order", &self.in_order)
            .field("ready", &self.ready.results.len())
            .finish_non_exhaustive()
    }
}
