//! [`Pool::submit`], [`Pool::map`] and their variants.

use super::cells::error::{MapError, TaskError};
use super::chunks::ChunkStream;
use super::job::{Each, Spread};
use super::map;
use super::pool::Pool;
use super::raw_task::RawTask;
use super::task::Task;
use crate::codec::encoding::Message;
use crate::process::entry::assert_captures_nothing;
use crate::process::{Captureless, Entry};

impl Pool {
    /// Submits a task that calls `f` with these arguments in a worker. Returns without waiting for the task.
    ///
    /// # Errors
    /// [`TaskError::Undecodable`] if the arguments cannot be sent, [`TaskError::Full`] if the shared memory is full,
    /// and [`TaskError::Closed`], [`TaskError::Terminated`] or [`TaskError::Broken`] if the pool accepts no tasks.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let (sum, product) = (pool.submit(|a: u32, b: u32| a + b, (6, 7))?, pool.submit(|a: u32, b: u32| a * b, (6, 7))?);
    /// assert_eq!((sum.get()?, product.get()?), (13, 42));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn submit<F, A>(&self, f: F, args: A) -> Result<Task<F::Output>, TaskError>
    where
        F: Captureless + Entry<A, Output: Message>,
        A: Message,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        RawTask::single::<Spread<F>, A>(&self.shared, &args, self.task_options()).map(Task::new)
    }

    /// Calls `f` with these arguments in a worker, and waits for the result.
    ///
    /// # Errors
    /// As [`submit`](Pool::submit) and [`Task::get`].
    ///
    /// ```
    /// assert_eq!(procession::Pool::new(1)?.apply(|a: u8, b: u8| a + b, (1, 2))?, 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn apply<F, A>(&self, f: F, args: A) -> Result<F::Output, TaskError>
    where
        F: Captureless + Entry<A, Output: Message>,
        A: Message,
    {
        self.submit(f, args)?.get()
    }

    /// Calls `f` with each item in the workers, waits for all results, and returns them in order. If items
    /// fail, returns the error of the failed item that comes first in the input. Items that no worker has
    /// begun when the error is found are never run.
    ///
    /// # Errors
    /// [`MapError`] with the position of the item that failed, and its error.
    ///
    /// # Panics
    /// Panics if the iterator panics. The pool can still be used after that.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// assert_eq!(pool.map(|n: u64| n * n, 1..5)?, [1, 4, 9, 16]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn map<F, I, R>(&self, f: F, items: I) -> Result<Vec<R>, MapError>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        map::all(self.stream::<F, I, R>(f, items))
    }

    /// As [`map`](Pool::map), but runs all items even if some fail, and returns a result or an error for
    /// each. The error says which item failed.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let parts = pool.try_map(|n: u32| 100 / n, [1, 0, 2]);
    /// assert_eq!((parts[0].clone()?, parts[2].clone()?), (100, 50));
    /// assert_eq!(parts[1].as_ref().unwrap_err().index, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_map<F, I, R>(&self, f: F, items: I) -> Vec<Result<R, MapError>>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        map::each(self.stream::<F, I, R>(f, items))
    }

    /// As [`map`](Pool::map), for items that are tuples of arguments.
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    ///
    /// # Panics
    /// As [`map`](Pool::map).
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// assert_eq!(pool.starmap(|a: u32, b: u32| a * b, [(2, 3), (4, 5)])?, [6, 20]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn starmap<F, I>(&self, f: F, tuples: I) -> Result<Vec<F::Output>, MapError>
    where
        I: IntoIterator<Item: Message>,
        F: Captureless + Entry<I::Item, Output: Message>,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        let items = tuples.into_iter();
        map::all(ChunkStream::new::<Spread<F>>(&self.shared, items, self.map_options()))
    }

    /// As [`map`](Pool::map), but returns without waiting for the map. A thread of this process reads the
    /// items, sends them to the workers and collects the results. If items fail, the task fails with
    /// [`TaskError::Item`], which names the one that comes first in the input. If the task is cancelled, it stops before the next
    /// chunk.
    ///
    /// # Errors
    /// As [`submit`](Pool::submit), and [`TaskError::Unusable`] if no thread can be started.
    ///
    /// # If a process dies
    /// If a worker dies, its item is retried or fails. If the process that called `submit_map` dies, the task
    /// fails with [`TaskError::WorkerDied`], because that process ran the task.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let task = pool.submit_map(|n: u64| n * n, 0..1000)?;
    /// assert_eq!(task.get()?[999], 998_001);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn submit_map<F, I, R>(&self, f: F, items: I) -> Result<Task<Vec<R>>, TaskError>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message, IntoIter: Send + 'static>,
        R: Message,
    {
        let task = RawTask::own(&self.shared)?;
        let mut stream = self.stream::<F, I, R>(f, items);
        stream.belongs_to_a_task();
        map::in_a_thread::<_, _, R>(task.clone(), stream)?;
        Ok(Task::new(task))
    }

    pub(super) fn stream<F, I, R>(&self, f: F, items: I) -> ChunkStream<I::IntoIter>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        ChunkStream::new::<Each<F, R>>(&self.shared, items.into_iter(), self.map_options())
    }
}
