//! [`Pool::imap`] and its variants: maps whose results come as an iterator.

use super::imap::{Imap, LocalImap};
use super::job::Each;
use super::pool::Pool;
use super::window::Window;
use crate::codec::encoding::Message;
use crate::process::Captureless;
use crate::process::entry::assert_captures_nothing;

impl Pool {
    /// Returns an iterator over the results of a map, in order. A thread of this process reads the input. The
    /// thread starts at the first call of `next`, and reads only a few items per worker ahead of the results
    /// (see [`with_prefetch`](Pool::with_prefetch)). So the input may be endless.
    ///
    /// `next` waits for the next result, never for the input. Even while the input blocks, all results are
    /// returned. Items that the input has already yielded are sent to the workers within about a millisecond,
    /// if the caller is in `next`. So the input may even depend on the results.
    ///
    /// [`indexed`](Imap::indexed) ties each result to the position of its item.
    ///
    /// For an input that borrows, or that is not `Send`, use [`imap_local`](Pool::imap_local).
    ///
    /// # Errors
    /// Each item may fail by itself, as in [`try_map`](Pool::try_map). If no thread can be started, the only result is
    /// [`TaskError::Unusable`](super::TaskError::Unusable), as the error of the first item.
    ///
    /// # If a process dies
    /// If a worker dies, its item is retried or fails.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let first = pool.imap(|n: u64| n * n, 0..).take(3).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(first, [0, 1, 4]);
    ///
    /// // Each result is sent back as an item.
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
        let items = items.into_iter();
        Imap::new(self, self.window::<F, I::Item, R>(f, items.size_hint()), items, true)
    }

    /// As [`imap`](Pool::imap), but the results come in the order in which they are finished.
    /// [`indexed`](Imap::indexed) ties each result to the position of its item.
    ///
    /// # Errors
    /// As [`imap`](Pool::imap).
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// for (index, result) in pool.imap_unordered(|n: usize| n * n, 1..4).indexed() {
    ///     assert_eq!(result?, (index + 1) * (index + 1));
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn imap_unordered<F, I, R>(&self, f: F, items: I) -> Imap<R>
    where
        F: Fn(I::Item) -> R + Captureless,
        I: IntoIterator<Item: Message, IntoIter: Send + 'static>,
        R: Message,
    {
        let items = items.into_iter();
        Imap::new(self, self.window::<F, I::Item, R>(f, items.size_hint()), items, false)
    }

    /// As [`imap`](Pool::imap), but the calling thread reads the input, inside `next`. So the input may
    /// borrow, and need not be `Send`.
    ///
    /// The price is that `next` waits for the input too. If a result is finished, `next` returns it before
    /// reading more items. From a slow input, `next` reads one item at a time. Before each of these items, it
    /// waits for a result for as long as the input took for its previous item. While the input blocks, `next`
    /// does not return. So an input that waits for a result waits for ever. The exception is
    /// [`with_prefetch(1)`](Pool::with_prefetch), with which each result is returned before the next item is
    /// read.
    ///
    /// # Errors
    /// Each item may fail by itself, as in [`try_map`](Pool::try_map).
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

    /// As [`imap_local`](Pool::imap_local), but the results come in the order in which they are finished.
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

    fn window<F, T, R>(&self, f: F, left: (usize, Option<usize>)) -> Window
    where
        F: Fn(T) -> R + Captureless,
        T: Message,
        R: Message,
    {
        const { assert_captures_nothing::<F>() }
        let _ = f;
        Window::new::<Each<F, R>, T>(&self.shared, self.map_options(), left)
    }
}
