//! [`TaskId`]: what distinguishes a task from all others.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::shared::CellRef;
use super::task::Task;

/// The identity of a [`Task`], returned by [`Task::id`]. All handles to one task return the same id, in every
/// process of the family. While a handle to the task exists, no other task has this id.
///
/// ```
/// use std::collections::HashMap;
/// use procession::pool::{Pool, as_completed};
/// let (pool, mut tasks, mut names) = (Pool::new(2)?, Vec::new(), HashMap::new());
/// for name in ["one", "two", "three"] {
///     let task = pool.submit(|name: String| name.len(), (name.to_string(),))?;
///     names.insert(task.id(), name);
///     tasks.push(task);
/// }
/// for task in as_completed(tasks) {
///     assert_eq!(task.get()?, names[&task.id()].len());
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    pool: u64,
    cell: u32,
    generation: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}.{}", self.pool, self.cell, self.generation)
    }
}

impl<R> Task<R> {
    /// Returns the identity of the task. Two handles are equal (`==`) if their ids are equal.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let (one, two) = (pool.submit(|| 1, ())?, pool.submit(|| 2, ())?);
    /// assert_eq!(one.id(), one.clone().id());
    /// assert_ne!(one, two);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn id(&self) -> TaskId {
        let CellRef { index, generation, .. } = self.raw.cell_ref;
        TaskId { pool: self.raw.shared.handle().id().0, cell: index, generation }
    }
}

impl<R> PartialEq for Task<R> {
    fn eq(&self, other: &Task<R>) -> bool {
        self.id() == other.id()
    }
}

impl<R> Eq for Task<R> {}

impl<R> Hash for Task<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}
