//! [`as_completed`]: tasks in the order in which they are done.

use std::fmt;

use super::indexed::Indexed;
use super::shared::Shared;
use super::task::Task;
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;
use crate::queue::select::{Signal, sealed};
use crate::queue::{Ready, select};

/// Returns an iterator over the tasks in the order in which they are done. The iterator blocks until the next
/// task is done, and ends after the last task.
///
/// [`indexed`](AsCompleted::indexed) also yields the position of each task in the input, which ties a result to
/// what the task was submitted with. [`Task::id`] does so if there is no such position.
///
/// ```
/// use procession::pool::{Pool, as_completed};
/// let pool = Pool::new(2)?;
/// let tasks = [5, 6, 7].map(|n: u32| pool.submit(|n: u32| n * n, (n,)));
/// let tasks = tasks.into_iter().collect::<Result<Vec<_>, _>>()?;
/// let mut squares = as_completed(tasks).map(|task| task.get()).collect::<Result<Vec<_>, _>>()?;
/// squares.sort();
/// assert_eq!(squares, [25, 36, 49]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn as_completed<R: Message>(tasks: impl IntoIterator<Item = Task<R>>) -> AsCompleted<R> {
    AsCompleted { tasks: tasks.into_iter().enumerate().collect() }
}

/// The iterator that [`as_completed`] returns.
///
/// ```
/// use procession::pool::{Pool, as_completed};
/// let pool = Pool::new(2)?;
/// let task = pool.submit(|| 6 * 7, ())?;
/// let mut done = as_completed([task.clone()]);
/// assert_eq!(done.next(), Some(task));
/// assert_eq!(done.next(), None);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
pub struct AsCompleted<R> {
    /// The tasks that were not yielded yet, each with its position in the input.
    tasks: Vec<(usize, Task<R>)>,
}

impl<R: Message> AsCompleted<R> {
    /// Returns an iterator over the same tasks, each with its position in the input.
    ///
    /// ```
    /// use procession::pool::{Pool, as_completed};
    /// let (pool, names) = (Pool::new(2)?, ["one", "two", "three"]);
    /// let submit = |name: &str| pool.submit(|name: String| name.len(), (name.to_string(),));
    /// let tasks = names.map(submit).into_iter().collect::<Result<Vec<_>, _>>()?;
    /// for (index, task) in as_completed(tasks).indexed() {
    ///     assert_eq!(task.get()?, names[index].len());
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn indexed(self) -> Indexed<AsCompleted<R>> {
        Indexed(self)
    }

    pub(super) fn next_indexed(&mut self) -> Option<(usize, Task<R>)> {
        let tasks = &mut self.tasks;
        if tasks.is_empty() {
            return None;
        }
        loop {
            if let Some(first) = tasks.iter().position(is_done) {
                return Some(tasks.remove(first));
            }
            tasks.iter().for_each(|(_, task)| task.raw.watch());
            if tasks.iter().any(is_done) {
                continue;
            }
            let mut pools: Vec<Completion<'_, R>> = Vec::new();
            for (_, task) in tasks.iter() {
                let shared = &task.raw.shared;
                if !pools.iter().any(|pool| std::ptr::eq(pool.shared.control, shared.control)) {
                    pools.push(Completion { shared, tasks });
                }
            }
            let ready: Vec<&dyn Ready> = pools.iter().map(|pool| pool as &dyn Ready).collect();
            if select(&ready).is_err() {
                // Waiting for several tasks at the same time is not possible here, so wait for the first one.
                let _ = tasks[0].1.raw.wait(Deadline::NEVER);
                return Some(tasks.remove(0));
            }
        }
    }
}

fn is_done<R>((_, task): &(usize, Task<R>)) -> bool {
    task.is_done()
}

impl<R: Message> Iterator for AsCompleted<R> {
    type Item = Task<R>;

    fn next(&mut self) -> Option<Task<R>> {
        self.next_indexed().map(|(_, task)| task)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.tasks.len(), Some(self.tasks.len()))
    }
}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// The event that one of these tasks is done. Considers only the tasks of the pool `shared`.
struct Completion<'a, R> {
    shared: &'a Shared,
    tasks: &'a [(usize, Task<R>)],
}

impl<R> sealed::Ready for Completion<'_, R> {
    fn is_ready(&self) -> bool {
        let mut mine =
            self.tasks.iter().filter(|(_, task)| std::ptr::eq(task.raw.shared.control, self.shared.control));
        mine.any(is_done)
    }

    fn signal(&self) -> Signal<'_> {
        Signal::Events(&self.shared.control.completed.word)
    }
}

impl<R> Ready for Completion<'_, R> {}
