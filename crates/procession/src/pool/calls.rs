//! What can be asked of a pool: [`Pool::submit`], [`Pool::map`] and their kin.

use super::cells::error::{MapError, TaskError};
use super::chunks::ChunkStream;
use super::imap::{Imap, LocalImap};
use super::job::{Each, Spread};
use super::map;
use super::map::Progress;
use super::pool::Pool;
use super::raw_task::RawTask;
use super::task::Task;
use super::window::Window;
use crate::codec::encoding::Message;
use crate::process::entry::assert_captures_nothing;
use crate::process::{Captureless, Entry};

impl Pool {
    /// Gives the workers a task: to call `f` with these arguments. Does not wait for it.
    ///
    /// # Errors
    /// [`TaskError`], when the arguments cannot be sent, or the pool takes no tasks any more.
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

    /// Has a worker call `f` with these arguments, and waits for the result.
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

    /// Calls `f` with each item, and gives the results in order when all are there. If a task fails, the first
    /// one in order is the error, and what is not begun never is.
    ///
    /// # Errors
    /// [`MapError`] with the position of the item and what became of it.
    ///
    /// # Panics
    /// If the iterator does; the pool can be used on.
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
        map::all(self.stream::<F, I, R>(f, items), |_| {})
    }

    /// As [`map`](Pool::map), but each item has a result of its own, and all are done.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let halves = pool.try_map(|n: u32| 100 / n, [1, 0, 2]);
    /// assert_eq!((halves[0].clone()?, halves[2].clone()?), (100, 50));
    /// assert!(halves[1].is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_map<F, I, R>(&self, f: F, items: I) -> Vec<Result<R, TaskError>>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        map::each(self.stream::<F, I, R>(f, items))
    }

    /// As [`map`](Pool::map), for tuples of arguments.
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
        map::all(ChunkStream::new::<Spread<F>>(&self.shared, items, self.map_options()), |_| {})
    }

    /// As [`map`](Pool::map), and `hook` is called here each time that some more items are done.
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    ///
    /// # Panics
    /// As [`map`](Pool::map), and if `hook` does.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let mut last = 0;
    /// pool.map_with_progress(|n: u32| n, 0..100, |progress| last = progress.done)?;
    /// assert_eq!(last, 100);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn map_with_progress<F, I, R>(
        &self,
        f: F,
        items: I,
        hook: impl FnMut(Progress),
    ) -> Result<Vec<R>, MapError>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        map::all(self.stream::<F, I, R>(f, items), hook)
    }

    /// As [`map`](Pool::map), without waiting for it: a thread of this process reads the items, hands them out and
    /// gathers the results. The task fails as the first item that failed. Cancelling it stops it at the next chunk.
    ///
    /// # Errors
    /// [`TaskError`], when the pool takes no tasks any more, or no thread can be had.
    ///
    /// # If a process dies
    /// A worker: as in [`map`](Pool::map). The process that called this: the task fails with
    /// [`TaskError::WorkerDied`], for that process worked on it.
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

    /// Returns the results of a map in order, as they come. A thread of this process reads the items, from the first
    /// `next` on and a few for each worker ahead (see [`with_prefetch`](Pool::with_prefetch)): so there may be endlessly
    /// many of them.
    ///
    /// `next` blocks until the next result is there, and never for the input. An input that takes its time, or that
    /// has nothing to give for long, withholds no result and no item: what it has given is sent to the workers
    /// within a millisecond or so, unless the caller does something else meanwhile. It may even be made of the results.
    ///
    /// An input that borrows or that cannot leave its thread is for [`imap_local`](Pool::imap_local).
    ///
    /// # Errors
    /// Each result may be an error, as in [`try_map`](Pool::try_map). If no thread can be had, the only result is
    /// [`TaskError::Unusable`].
    ///
    /// # If a process dies
    /// A worker: as in [`map`](Pool::map).
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let first = pool.imap(|n: u64| n * n, 0..).take(3).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(first, [0, 1, 4]);
    ///
    /// // Each result is an item to come.
    /// let (feed, items) = std::sync::mpsc::channel();
    /// feed.send(1u64)?;
    /// for double in pool.imap(|n: u64| 2 * n, items) {
    ///     let double = double?;
    ///     if double > 1000 {
    ///         break;
    ///     }
    ///     feed.send(double)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn imap<F, I, R>(&self, f: F, items: I) -> Imap<R>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message, IntoIter: Send + 'static>,
        R: Message,
    {
        Imap::new(self, self.window::<F, I::Item, R>(f), items.into_iter(), true)
    }

    /// As [`imap`](Pool::imap), in the order in which they are done.
    ///
    /// # Errors
    /// As [`imap`](Pool::imap).
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let mut some: Vec<u64> = pool.imap_unordered(|n: u64| n * n, 1..4).collect::<Result<_, _>>()?;
    /// some.sort();
    /// assert_eq!(some, [1, 4, 9]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn imap_unordered<F, I, R>(&self, f: F, items: I) -> Imap<R>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message, IntoIter: Send + 'static>,
        R: Message,
    {
        Imap::new(self, self.window::<F, I::Item, R>(f), items.into_iter(), false)
    }

    /// As [`imap`](Pool::imap), but the calling thread reads the items, inside of `next`. So the input may borrow, and
    /// need not be `Send`.
    ///
    /// The price is that `next` waits for the input as well. It gives a result that is ready before it reads on; from
    /// an input that takes its time it reads one item at a time, and first waits for a result for as long as the
    /// last item took. But while the input has nothing to give, `next` does not return: an input that waits for a
    /// result waits for ever, unless [`with_prefetch(1)`](Pool::with_prefetch) has each result given before the next
    /// item is read.
    ///
    /// # Errors
    /// Each result may be an error, as in [`try_map`](Pool::try_map).
    ///
    /// ```
    /// let (pool, numbers) = (procession::Pool::new(2)?, vec![3, 4]);
    /// let squares = pool.imap_local(|n: u64| n * n, numbers.iter().copied()).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(squares, [9, 16]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn imap_local<F, I, R>(&self, f: F, items: I) -> LocalImap<I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        LocalImap::new(self, self.stream::<F, I, R>(f, items), true)
    }

    /// As [`imap_local`](Pool::imap_local), in the order in which they are done.
    ///
    /// # Errors
    /// As [`imap_local`](Pool::imap_local).
    ///
    /// ```
    /// let (pool, numbers) = (procession::Pool::new(2)?, vec![3, 4]);
    /// let squares = pool.imap_local_unordered(|n: u64| n * n, numbers.iter().copied());
    /// assert_eq!(squares.map(Result::unwrap).sum::<u64>(), 25);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn imap_local_unordered<F, I, R>(&self, f: F, items: I) -> LocalImap<I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message>,
        R: Message,
    {
        LocalImap::new(self, self.stream::<F, I, R>(f, items), false)
    }

    fn window<F, T, R>(&self, f: F) -> Window
    where
        F: Fn(T) -> R + Captureless,
        T: Message,
        R: Message,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        Window::new::<Each<F, R>, T>(&self.shared, self.map_options())
    }

    fn stream<F, I, R>(&self, f: F, items: I) -> ChunkStream<I::IntoIter>
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
