//! [`List`]: a sequence that all processes of the family share.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::store::{Buffer, Encoded, End, Inside, Item, Sequence, decode};
use crate::arena::handle::Handle;
use crate::arena::objects::Kind;
use crate::codec::encoding::{self, Message};
use crate::{Error, Result};

/// A sequence that all processes of the family share.
///
/// A handle: clone it or send it to another process, also in another list, and it is the same list. Items are
/// copied in and out. At both ends it is quick; to put something in the middle, or take it out, takes time in
/// proportion to the length.
///
/// ```
/// use procession::{Process, state::List};
///
/// let list = List::from_items(["first".to_string()])?;
/// let child = Process::spawn(|list: List<String>| list.push("second".into()), (list.clone(),))?;
/// child.join()??;
/// assert_eq!(list.to_vec()?, ["first", "second"]);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # Waiting
///
/// Looking at an item takes no lock. Changes of one list wait for each other, also for the closure of an
/// [`update`](List::update).
///
/// # If a process dies
///
/// Whatever it was doing: it has been done or not; each item has its old value or its new one, whole. Nobody
/// waits for the dead, and their memory comes back.
pub struct List<T> {
    handle: Handle,
    sequence: Sequence,
    _carries: PhantomData<fn(T) -> T>,
}

impl<T> List<T> {
    /// An empty list.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no memory.
    ///
    /// ```
    /// let list = procession::state::List::<u32>::new()?;
    /// assert!(list.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<List<T>> {
        let (handle, sequence) = Sequence::make()?;
        Ok(List { handle, sequence, _carries: PhantomData })
    }

    #[cfg(feature = "internals")]
    pub(crate) fn inventory(&self) -> (u32, (Vec<u64>, usize)) {
        (self.handle.id().index(), self.sequence.inventory())
    }

    /// How many items there are. A snapshot; 0 in a plain fork of a member of the family.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!(list.len(), 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.sequence.len().unwrap_or(0) as usize
    }

    /// Whether there are no items. A snapshot.
    ///
    /// ```
    /// assert!(procession::state::List::<u8>::new()?.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, at once. The memory comes back.
    ///
    /// # Errors
    /// In a plain fork of a member of the family, and inside of an `update` of the same list.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// list.clear()?;
    /// assert_eq!(list.len(), 0);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.sequence.clear()
    }
}

impl<T: Message> List<T> {
    /// A list of these items.
    ///
    /// # Errors
    /// As [`new`](List::new) and [`push`](List::push).
    ///
    /// ```
    /// let list = procession::state::List::from_items(["a".to_string()])?;
    /// assert_eq!(list.to_vec()?, ["a"]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn from_items(items: impl IntoIterator<Item = T>) -> Result<List<T>> {
        let list = List::new()?;
        list.extend(items)?;
        Ok(list)
    }

    /// Puts an item at the end.
    ///
    /// # Errors
    /// [`Error::Full`] when the family's shared memory is full; [`Error::InvalidArgument`] when the item has 4 GiB or
    /// more; [`Error::Message`] when it cannot be encoded. In a plain fork, and inside of an `update` of the same list.
    ///
    /// ```
    /// let list = procession::state::List::new()?;
    /// list.push(1)?;
    /// assert_eq!(list.get(0)?, Some(1));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn push(&self, item: T) -> Result<()> {
        encoded(&item, |item| self.sequence.push(End::Back, item))
    }

    /// Puts an item before all others.
    ///
    /// # Errors
    /// As [`push`](List::push).
    ///
    /// ```
    /// let list = procession::state::List::from_items([2])?;
    /// list.push_front(1)?;
    /// assert_eq!(list.to_vec()?, [1, 2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn push_front(&self, item: T) -> Result<()> {
        encoded(&item, |item| self.sequence.push(End::Front, item))
    }

    /// Takes the last item.
    ///
    /// # Errors
    /// [`Error::Message`] when it cannot be read, and is gone. In a plain fork, and inside of an `update` of
    /// the same list.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!((list.pop()?, list.pop()?, list.pop()?), (Some(2), Some(1), None));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pop(&self) -> Result<Option<T>> {
        self.sequence.pop(End::Back)?.decode(self.sequence.arena())
    }

    /// Takes the first item.
    ///
    /// # Errors
    /// As [`pop`](List::pop).
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!((list.pop_front()?, list.len()), (Some(1), 1));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pop_front(&self) -> Result<Option<T>> {
        self.sequence.pop(End::Front)?.decode(self.sequence.arena())
    }

    /// A copy of the item with this index, if there is one.
    ///
    /// # Errors
    /// [`Error::Message`] when it cannot be read; [`Error::Forked`] in a plain fork.
    ///
    /// ```
    /// let list = procession::state::List::from_items(["a".to_string()])?;
    /// assert_eq!((list.get(0)?.as_deref(), list.get(1)?), (Some("a"), None));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get(&self, index: usize) -> Result<Option<T>> {
        let mut buffer = Buffer::new();
        let found = self.sequence.get(index as u64, &mut buffer)?;
        found.map(|found| found.decode(self.sequence.arena(), &buffer)).transpose()
    }

    /// Puts another item in the place of the one with this index, and gives that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no such item; otherwise as [`push`](List::push).
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!(list.set(1, 3)?, 2);
    /// assert!(list.set(2, 4).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set(&self, index: usize, item: T) -> Result<T> {
        let put = |item: Encoded<'_>| self.sequence.with_item(index as u64, |place| place.put(item));
        let old = encoded(&item, put)?.ok_or_else(|| self.no_such(index))?;
        old.decode(self.sequence.arena())?.ok_or_else(|| self.no_such(index))
    }

    /// Changes the item with this index, if there is one, with nobody else changing the list meanwhile; gives
    /// what `change` gives. Inside of it the same list can be looked at with [`get`](List::get), but not
    /// changed or copied.
    ///
    /// If the list is shorter, this changes nothing, does not call `change` and returns `Ok(None)`.
    ///
    /// # Errors
    /// As [`get`](List::get) and [`push`](List::push); then the old item stays.
    /// [`LockError::Deadlock`](crate::sync::LockError::Deadlock) when the wait for others closes a cycle.
    ///
    /// # If a process dies, or the closure panics
    /// The old item stays.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!(list.update(1, |n| { *n += 5; *n })?, Some(7));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[must_use = "it is `Ok(None)`, and nothing is changed, if the list has no item with this index"]
    pub fn update<R>(&self, index: usize, change: impl FnOnce(&mut T) -> R) -> Result<Option<R>> {
        self.sequence.with_item(index as u64, |place| {
            let mut item = place.decode::<T>()?;
            let inside = Inside::enter();
            let given = change(&mut item);
            drop(inside);
            put(place, &item)?;
            Ok(given)
        })
    }

    /// Puts an item before the one with this index, or at the end.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are fewer items than that; otherwise as [`push`](List::push).
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 3])?;
    /// list.insert(1, 2)?;
    /// assert_eq!(list.to_vec()?, [1, 2, 3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn insert(&self, index: usize, item: T) -> Result<()> {
        let done = encoded(&item, |item| self.sequence.insert(index as u64, item))?;
        if done { Ok(()) } else { Err(self.no_such(index)) }
    }

    /// Takes the item with this index out, if there is one.
    ///
    /// # Errors
    /// As [`pop`](List::pop); and [`Error::Full`], as the others are written down anew.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// assert_eq!((list.remove(1)?, list.to_vec()?), (Some(2), vec![1, 3]));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn remove(&self, index: usize) -> Result<Option<T>> {
        self.sequence.remove(index as u64)?.decode(self.sequence.arena())
    }

    /// Puts many items at the end, one by one.
    ///
    /// # Errors
    /// As [`push`](List::push); then some of the items are in.
    ///
    /// ```
    /// let list = procession::state::List::new()?;
    /// list.extend([1, 2, 3])?;
    /// assert_eq!(list.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<()> {
        items.into_iter().try_for_each(|item| self.push(item))
    }

    /// Goes through the items by their index, from 0 until there is none: so it sees what is changed meanwhile.
    /// What has ended stays ended.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// assert_eq!(list.iter().sum::<Result<i32, _>>()?, 6);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> ListIter<T> {
        ListIter { list: self.clone(), next: Some(0) }
    }

    /// A copy of all items as they are at one moment.
    ///
    /// # Errors
    /// As [`get`](List::get), and inside of an `update` of the same list.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// assert_eq!(list.to_vec()?[1..], [2, 3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let carried = self.sequence.copy(|item| {
            bytes.extend_from_slice(item);
            ends.push(bytes.len());
        })?;
        let mut carried = carried.into_iter().peekable();
        let (mut items, mut from, mut ends) = (Vec::new(), 0, ends.into_iter());
        loop {
            if let Some((_, node)) = carried.next_if(|(index, _)| *index == items.len() as u64) {
                items.push(decode(self.sequence.arena(), &node)?);
            } else if let Some(end) = ends.next() {
                items.push(encoding::from_bytes(&bytes[from..end])?);
                from = end;
            } else {
                return Ok(items);
            }
        }
    }

    fn no_such(&self, index: usize) -> Error {
        Error::InvalidArgument(format!("index {index} of a list of {}", self.len()))
    }
}

/// Calls `use_it` with the item's bytes, which would arrive.
fn encoded<T: Message, R>(item: &T, use_it: impl FnOnce(Encoded<'_>) -> Result<R>) -> Result<R> {
    encoding::with_bytes(item, |bytes, ids| {
        encoding::check_arrival::<T>(bytes)?;
        use_it(Encoded { bytes, ids })
    })?
}

/// Encodes an item, which is the user's code too, and puts it in its place.
fn put<T: Message>(place: Item<'_>, item: &T) -> Result<()> {
    let _inside = Inside::enter();
    drop(encoded(item, |item| place.put(item))?);
    Ok(())
}

/// Goes through the items of a [`List`]: see [`List::iter`].
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

impl<T> Clone for List<T> {
    fn clone(&self) -> List<T> {
        List { handle: self.handle.clone(), sequence: self.sequence, _carries: PhantomData }
    }
}

impl<T> fmt::Debug for List<T> {
    /// Tells how many items there are; a snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::List)?;
        let sequence = Sequence::of(handle.id().index()).map_err(serde::de::Error::custom)?;
        Ok(List { handle, sequence, _carries: PhantomData })
    }
}
