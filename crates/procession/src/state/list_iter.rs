//! Copies of all items of a [`List`]: its iterator, and [`List::to_vec`].

use std::fmt;

use super::list::List;
use super::store::decode;
use crate::Result;
use crate::codec::encoding::{self, Message};

impl<T: Message> List<T> {
    /// Returns an iterator over copies of the items.
    ///
    /// The iterator reads one item after the other by index, so it sees changes that are made meanwhile. Once
    /// it has returned `None` or an error, it only returns `None`.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// assert_eq!(list.iter().sum::<Result<i32, _>>()?, 6);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> ListIter<T> {
        ListIter { list: self.clone(), next: Some(0) }
    }

    /// Returns a copy of all items as they are at one moment. Acquires the list's lock.
    ///
    /// # Errors
    /// As [`get`](List::get). [`Error::Unsupported`](crate::Error::Unsupported) inside an `update` of the same list.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// assert_eq!(list.to_vec()?[1..], [2, 3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let carried = self.sequence().copy(|item| {
            bytes.extend_from_slice(item);
            ends.push(bytes.len());
        })?;
        let mut carried = carried.into_iter().peekable();
        let (mut items, mut from, mut ends) = (Vec::new(), 0, ends.into_iter());
        loop {
            if let Some((_, node)) = carried.next_if(|(index, _)| *index == items.len() as u64) {
                items.push(decode(self.sequence().arena(), &node)?);
            } else if let Some(end) = ends.next() {
                items.push(encoding::from_bytes(&bytes[from..end])?);
                from = end;
            } else {
                return Ok(items);
            }
        }
    }
}

/// An iterator over the items of a [`List`], from [`List::iter`].
///
/// ```
/// let list = procession::List::<u32>::new()?;
/// list.push(7)?;
/// assert_eq!(list.iter().collect::<Result<Vec<u32>, _>>()?, [7]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct ListIter<T> {
    list: List<T>,
    next: Option<usize>,
}

impl<T: Message> Iterator for ListIter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let item = self.list.get(self.next?).transpose();
        self.next = self.next.filter(|_| matches!(item, Some(Ok(_)))).map(|index| index + 1);
        item
    }
}

impl<T: Message> IntoIterator for &List<T> {
    type Item = Result<T>;
    type IntoIter = ListIter<T>;

    /// As [`List::iter`].
    fn into_iter(self) -> ListIter<T> {
        self.iter()
    }
}

impl<T> fmt::Debug for ListIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListIter").field("list", &self.list).field("next", &self.next).finish()
    }
}
