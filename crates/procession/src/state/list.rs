//! [`List`]: a sequence that all processes of the family share.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::store::{Buffer, Encoded, End, Item, Sequence, UserCode};
use crate::arena::handle::Handle;
use crate::arena::objects::Kind;
use crate::codec::encoding::{self, Message};
use crate::{Error, Result};

/// A sequence that all processes of the family share.
///
/// A `List` is a handle. Its clones name the same list, even after they were sent to another process. Items
/// can have any type that implements [`Message`](crate::Message), and are copied in and out.
///
/// Adding and removing at both ends takes constant time. Inserting and removing in the middle takes time
/// proportional to the length.
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
/// Reading an item takes no lock. All changes to a list take the same lock, so they wait for each other, and for the
/// closure of an [`update`](List::update).
///
/// # If a process dies
///
/// The operation that the process was performing has happened completely or not at all. Each item has either
/// its complete old value or its complete new value. The lock is released, and the process's memory is freed.
/// A list is never poisoned.
pub struct List<T> {
    handle: Handle,
    sequence: Sequence,
    _carries: PhantomData<fn(T) -> T>,
}

impl<T> List<T> {
    /// Creates an empty list.
    ///
    /// # Errors
    /// [`Error::Full`] when the family's shared memory is full.
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

    /// Returns the items in shared memory.
    pub(super) fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Returns the number of items. The number may already have changed when this returns. Returns 0 in a
    /// process that a member of the family forked by itself.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!(list.len(), 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.sequence.len().unwrap_or(0) as usize
    }

    /// Returns whether the list has no items. This may already have changed when this returns.
    ///
    /// ```
    /// assert!(procession::state::List::<u8>::new()?.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all items in one step, and frees their memory.
    ///
    /// # Errors
    /// [`Error::Forked`] in a process that a member of the family forked by itself; [`Error::Unsupported`] inside an
    /// `update` of the same list.
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
    /// Creates a list of these items.
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

    /// Appends an item at the end.
    ///
    /// # Errors
    /// * [`Error::Full`] when the family's shared memory is full.
    /// * [`Error::InvalidArgument`] when the encoded item has 4 GiB or more.
    /// * [`Error::Message`] when the item cannot be encoded.
    /// * [`Error::Forked`] in a process that a member of the family forked by itself.
    /// * [`Error::Unsupported`] inside an `update` of the same list.
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

    /// Inserts an item before all others.
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

    /// Removes the last item and returns it. Returns `None` if the list is empty.
    ///
    /// # Errors
    /// * [`Error::Message`] when the item cannot be decoded. The item is removed nevertheless.
    /// * [`Error::Forked`] in a process that a member of the family forked by itself.
    /// * [`Error::Unsupported`] inside an `update` of the same list.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2])?;
    /// assert_eq!((list.pop()?, list.pop()?, list.pop()?), (Some(2), Some(1), None));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn pop(&self) -> Result<Option<T>> {
        self.sequence.pop(End::Back)?.decode(self.sequence.arena())
    }

    /// Removes the first item and returns it. Returns `None` if the list is empty.
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

    /// Returns a copy of the item at `index`, or `None` if the list is shorter. Takes no lock.
    ///
    /// # Errors
    /// [`Error::Message`] when the item cannot be decoded; [`Error::Forked`] in a process that a member of the family
    /// forked by itself.
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

    /// Replaces the item at `index`, and returns the old item.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the list has no such item; otherwise as [`push`](List::push).
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

    /// Calls `change` with the item at `index`, stores the changed item, and returns what `change` returned.
    /// Returns `None` without calling `change` if the list has no such item.
    ///
    /// Meanwhile, no other process or thread changes the list: `update` waits for the list's lock and holds
    /// it until the new item is stored. Inside `change`, the same list can be read by [`get`](List::get), but
    /// it cannot be changed or copied.
    ///
    /// If the list is shorter, this changes nothing, does not call `change` and returns `Ok(None)`.
    ///
    /// # Errors
    /// As [`get`](List::get) and [`push`](List::push). [`LockError::Deadlock`](crate::sync::LockError::Deadlock), in an
    /// [`Error::Lock`], when waiting for the lock would close a cycle. After an error the old item stays.
    ///
    /// # If a process dies, or the closure panics
    /// The old item stays, and the lock is released.
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
            let inside = UserCode::enter();
            let given = change(&mut item);
            drop(inside);
            put(place, &item)?;
            Ok(given)
        })
    }

    /// Inserts an item at `index`, before the item that has this index now. `index` may be the list's length.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `index` is greater than the length; otherwise as [`push`](List::push).
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

    /// Removes the item at `index` and returns it. Returns `None` if the list has no such item.
    ///
    /// # Errors
    /// As [`pop`](List::pop). [`Error::Full`] when there is no memory for a copy of the list's table. Only a
    /// removal in the middle needs this copy.
    ///
    /// ```
    /// let list = procession::state::List::from_items([1, 2, 3])?;
    /// assert_eq!((list.remove(1)?, list.to_vec()?), (Some(2), vec![1, 3]));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn remove(&self, index: usize) -> Result<Option<T>> {
        self.sequence.remove(index as u64)?.decode(self.sequence.arena())
    }

    /// Appends many items, one by one.
    ///
    /// # Errors
    /// As [`push`](List::push). The items before the failed one stay in the list.
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

    fn no_such(&self, index: usize) -> Error {
        Error::InvalidArgument(format!("index {index} is out of range for a list of {} items", self.len()))
    }
}

/// Calls `use_it` with the item's encoding. In debug builds, first checks that the encoding can be decoded.
fn encoded<T: Message, R>(item: &T, use_it: impl FnOnce(Encoded<'_>) -> Result<R>) -> Result<R> {
    encoding::with_bytes(item, |bytes, ids| {
        encoding::check_arrival::<T>(bytes)?;
        use_it(Encoded { bytes, ids })
    })?
}

/// Stores an item. Encoding the item runs user code, as calling the closure does.
fn put<T: Message>(place: Item<'_>, item: &T) -> Result<()> {
    let _inside = UserCode::enter();
    drop(encoded(item, |item| place.put(item))?);
    Ok(())
}

impl<T> Clone for List<T> {
    fn clone(&self) -> List<T> {
        List { handle: self.handle.clone(), sequence: self.sequence, _carries: PhantomData }
    }
}

impl<T> fmt::Debug for List<T> {
    /// Shows the number of items, but not the items.
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
