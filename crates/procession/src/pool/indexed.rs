//! [`Indexed`]: results with the positions of their items.

use super::as_completed::AsCompleted;
use super::cells::error::TaskError;
use super::imap::{Imap, LocalImap};
use super::task::Task;
use crate::codec::encoding::Message;

/// An iterator that also yields the position of each item in the input. [`Imap::indexed`],
/// [`LocalImap::indexed`] and [`AsCompleted::indexed`] return it.
///
/// ```
/// let pool = procession::Pool::new(2)?;
/// let mut parts: Vec<_> = pool.imap_unordered(|n: u32| 100 / n, [1, 0, 2]).indexed().collect();
/// parts.sort_by_key(|(index, _)| *index);
/// assert_eq!((&parts[0], &parts[2]), (&(0, Ok(100)), &(2, Ok(50))));
/// assert!(parts[1].1.is_err());
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "an iterator does nothing until it is used"]
#[derive(Debug)]
pub struct Indexed<I>(pub(super) I);

impl<R: Message> Iterator for Indexed<Imap<R>> {
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        self.0.next_indexed()
    }
}

impl<I: Iterator<Item: Message>, R: Message> Iterator for Indexed<LocalImap<I, R>> {
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<(usize, Result<R, TaskError>)> {
        self.0.next_indexed()
    }
}

impl<R: Message> Iterator for Indexed<AsCompleted<R>> {
    type Item = (usize, Task<R>);

    fn next(&mut self) -> Option<(usize, Task<R>)> {
        self.0.next_indexed()
    }
}
