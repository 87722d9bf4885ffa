//! [`Dict`]: a hash table that all processes of the family share.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lookup::Lookup;
use super::store::{Buffer, Encoded, Map};
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind, Object};
use crate::codec::encoding::{self, Message};

/// Makes a dict invariant in its key and value types, and makes it `Send` and `Sync` whatever these types
/// are.
type Carries<K, V> = PhantomData<(fn(K) -> K, fn(V) -> V)>;

/// A hash table that all processes of the family share.
///
/// A `Dict` is a handle. Its clones name the same dict, even after they were sent to another process, in a
/// queue or in another dict. Keys and values can have any type that implements [`Message`](crate::Message).
/// They are copied in and out, so changing a value that [`get`](Dict::get) returned does not change the dict.
/// To change the shared value, [`insert`](Dict::insert) the changed copy, or [`update`](Dict::update) the
/// value in one step.
///
/// ```
/// use procession::{Dict, Process};
///
/// let stock = Dict::from_entries([("apples".to_string(), 10), ("pears".to_string(), 5)])?;
/// let buyers: Vec<_> = (0..4)
///     .map(|_| Process::spawn(
///         |stock: Dict<String, i32>| stock.update("apples", |n| *n -= 1).map(drop),
///         (stock.clone(),),
///     ))
///     .collect::<procession::Result<_>>()?;
/// for buyer in buyers {
///     buyer.join()??;
/// }
/// assert_eq!(stock.get("apples")?, Some(6));
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # Keys
///
/// Two keys are equal if their *encodings* are equal. So `Eq` must compare exactly the data that is encoded, as a
/// derived `Eq` does. Methods take a key by reference, in any form that [`Lookup`] accepts: `dict.get("apples")`,
/// `dict.get(&7)`.
///
/// # Waiting
///
/// A lookup takes no lock, and does not wait for a closure that [`update`](Dict::update) runs.
///
/// Changes take a lock. The dict divides its keys among 32 locks by their hash. So a change waits for another
/// change only if their keys share a lock. For two random keys, the probability of that is 1 in 32. A closure
/// of `update` or [`get_or_insert_with`](Dict::get_or_insert_with) runs under the lock of its key. Keep such
/// a closure short: until it returns, other processes and threads cannot change this key or about 3 % of the
/// other keys.
///
/// # If a process dies
///
/// Whatever the process was doing, each entry has either its complete old value or its complete new value. If
/// the death or a panic interrupts a closure, the entry keeps its old value. The locks that the process held
/// are released, and the process's memory is freed. A dict is never poisoned, because a death cannot leave it
/// inconsistent.
pub struct Dict<K, V> {
    handle: Handle,
    map: Map,
    _carries: Carries<K, V>,
}

impl<K, V> Dict<K, V> {
    /// Creates an empty dict. It takes about 6 KiB of the family's shared memory, and more for its entries.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full) when the family's shared memory is full.
    ///
    /// ```
    /// let dict = procession::Dict::<u32, String>::new()?;
    /// assert!(dict.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Dict<K, V>> {
        let (handle, map) = Map::make()?;
        Ok(Dict { handle, map, _carries: PhantomData })
    }

    /// Returns the hash table in shared memory.
    pub(crate) fn map(&self) -> Map {
        self.map
    }

    /// Returns the dict that `id` names. Another handle must hold the dict during the call.
    pub(crate) fn with_id(id: Id) -> Result<Dict<K, V>> {
        let handle = Handle::take(id, Kind::Dict)?;
        let map = Map::of(id.index())?;
        Ok(Dict { handle, map, _carries: PhantomData })
    }

    pub(crate) fn id(&self) -> Id {
        self.handle.id()
    }

    pub(crate) fn object(&self) -> &'static Object {
        self.handle.object()
    }

    /// Returns the number of entries. The number may already have changed when this returns.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// assert_eq!(dict.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.map.len() as usize
    }

    /// Returns whether the dict has no entries. This may already have changed when this returns.
    ///
    /// ```
    /// assert!(procession::Dict::<u8, u8>::new()?.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all entries and frees their memory.
    ///
    /// The call clears the entries of one lock at a time. An entry that is inserted meanwhile may stay.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a process that a member of the family forked by itself;
    /// [`Error::Unsupported`](crate::Error::Unsupported) inside a closure of the same dict.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// dict.clear()?;
    /// assert_eq!(dict.get(&1)?, None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.map.clear()
    }
}

impl<K: Message + Eq + Hash, V: Message> Dict<K, V> {
    /// Creates a dict with these entries. If a key occurs several times, the dict keeps its last value.
    ///
    /// # Errors
    /// As [`new`](Dict::new) and [`insert`](Dict::insert).
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([("count".to_string(), 100)])?;
    /// assert_eq!(dict.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn from_entries(entries: impl IntoIterator<Item = (K, V)>) -> Result<Dict<K, V>> {
        let dict = Dict::new()?;
        dict.extend(entries)?;
        Ok(dict)
    }

    /// Returns a copy of the key's value, or `None` if the dict does not have the key. Takes no lock.
    ///
    /// # Errors
    /// [`Error::Message`](crate::Error::Message) when the value cannot be decoded as a `V`;
    /// [`Error::Forked`](crate::Error::Forked) in a process that a member of the family forked by itself.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([("count".to_string(), 100)])?;
    /// assert_eq!((dict.get("count")?, dict.get("other")?), (Some(100), None));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        let mut buffer = Buffer::new();
        match key.with_key(|key| self.map.get(key.bytes, &mut buffer))?? {
            Some(found) => found.decode(self.map.arena(), &buffer).map(Some),
            None => Ok(None),
        }
    }

    /// Returns whether the dict has the key. Takes no lock.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a process that a member of the family forked by itself.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(7, ())])?;
    /// assert!(dict.contains_key(&7)? && !dict.contains_key(&8)?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn contains_key<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        key.with_key(|key| self.map.contains(key.bytes))?
    }

    /// Sets the key's value, and returns the value that it had before, if any.
    ///
    /// # Errors
    /// * [`Error::Full`](crate::Error::Full) when the family's shared memory is full. In this case, nothing
    ///   has changed.
    /// * [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the encoded key has 2 GiB or more, or
    ///   the encoded value has 4 GiB or more.
    /// * [`Error::Message`](crate::Error::Message) when the new value cannot be encoded, or the old value
    ///   cannot be decoded. In the second case, the new value is set and the old value is lost.
    /// * [`Error::Forked`](crate::Error::Forked) in a process that a member of the family forked by itself.
    /// * [`Error::Unsupported`](crate::Error::Unsupported) inside a closure of the same dict.
    ///
    /// ```
    /// let dict = procession::Dict::<String, i32>::new()?;
    /// assert_eq!(dict.insert("count", 100)?, None);
    /// assert_eq!(dict.insert("count", 99)?, Some(100));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: V) -> Result<Option<V>> {
        let put = |value: Encoded<'_>| key.with_key(|key| self.map.insert(key, value));
        encoded(&value, put)???.decode(self.map.arena())
    }

    /// Removes a key, and returns its value, or `None` if the dict did not have the key.
    ///
    /// # Errors
    /// * [`Error::Message`](crate::Error::Message) when the value cannot be decoded. The key is removed
    ///   nevertheless.
    /// * [`Error::Forked`](crate::Error::Forked) in a process that a member of the family forked by itself.
    /// * [`Error::Unsupported`](crate::Error::Unsupported) inside a closure of the same dict.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([("count".to_string(), 100)])?;
    /// assert_eq!(dict.remove("count")?, Some(100));
    /// assert_eq!(dict.remove("count")?, None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        key.with_key(|key| self.map.remove(key.bytes))??.decode(self.map.arena())
    }

    /// Inserts many entries, one by one.
    ///
    /// # Errors
    /// As [`insert`](Dict::insert). The entries before the failed one stay inserted.
    ///
    /// ```
    /// let dict = procession::Dict::new()?;
    /// dict.extend((0..100).map(|n| (n, n * n)))?;
    /// assert_eq!(dict.get(&9)?, Some(81));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        for (key, value) in entries {
            // The old value is not decoded.
            drop(encoded(&value, |value| key.with_key(|key| self.map.insert(key, value)))???);
        }
        Ok(())
    }
}

/// Calls `use_it` with the value's encoding. In debug builds, first checks that the encoding can be decoded.
#[inline]
pub(super) fn encoded<V: Message, R>(value: &V, use_it: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
    encoding::with_bytes(value, |bytes, ids| {
        encoding::check_arrival::<V>(bytes)?;
        Ok(use_it(Encoded { bytes, ids }))
    })?
}

impl<K, V> Clone for Dict<K, V> {
    fn clone(&self) -> Dict<K, V> {
        Dict { handle: self.handle.clone(), map: self.map, _carries: PhantomData }
    }
}

impl<K, V> fmt::Debug for Dict<K, V> {
    /// Shows the number of entries, but not the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<K, V> Serialize for Dict<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, K, V> Deserialize<'de> for Dict<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dict<K, V>, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::Dict)?;
        let map = Map::of(handle.id().index()).map_err(serde::de::Error::custom)?;
        Ok(Dict { handle, map, _carries: PhantomData })
    }
}
