//! [`Dict`]: a hash table that all processes of the family share.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::dict_iter::{Iter, Keys, Values};
use super::lookup::Lookup;
use super::store::{Buffer, Encoded, Entry, Map, UserCode};
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

    /// Calls `change` with the key's value, stores the changed value, and returns what `change` returned.
    ///
    /// Meanwhile, no other process or thread changes the value: `update` waits for the key's lock and holds
    /// it until the new value is stored. Until then, lookups still return the old value.
    ///
    /// Inside `change`, the same dict can be read by [`get`](Dict::get) and
    /// [`contains_key`](Dict::contains_key), but it cannot be changed, copied or iterated over. Other dicts
    /// can, including a dict that is the value. If two processes update two dicts in opposite orders, one of
    /// them gets a deadlock error, as with two [locks](crate::sync#deadlocks).
    ///
    /// If the dict does not have the key, this changes nothing, does not call `change` and returns
    /// `Ok(None)`. To count under keys that the dict may not have yet, use
    /// [`update_or_insert_with`](Dict::update_or_insert_with).
    ///
    /// # Errors
    /// As [`get`](Dict::get) and [`insert`](Dict::insert). [`LockError::Deadlock`](crate::sync::LockError::Deadlock),
    /// in an [`Error::Lock`](crate::Error::Lock), when waiting for the lock would close a cycle. After an error the
    /// old value stays.
    ///
    /// # If a process dies, or the closure panics
    /// The old value stays, and the lock is released.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([("count".to_string(), 100)])?;
    /// let left = dict.update("count", |n| {
    ///     *n -= 1;
    ///     *n
    /// })?;
    /// assert_eq!(left, Some(99));
    /// assert_eq!(dict.update("other", |n| *n -= 1)?, None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    #[must_use = "it is `Ok(None)`, and nothing is changed, if the key is missing: see `update_or_insert_with`"]
    pub fn update<Q: Lookup<K> + ?Sized, R>(
        &self,
        key: &Q,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<Option<R>> {
        key.with_key(|key| {
            self.map.with_entry(key, |entry| {
                let Some(mut value) = entry.decode::<V>()? else { return Ok(None) };
                let inside = UserCode::enter();
                let given = change(&mut value);
                drop(inside);
                put(entry, &value)?;
                Ok(Some(given))
            })
        })?
    }

    /// Calls `change` with the key's value, stores the changed value, and returns what `change` returned. If
    /// the key is missing, `change` gets the value that `make` returns.
    ///
    /// For all other processes this is one step: they see the entry as it was before, or as `change` left it,
    /// but never the value that `make` returned. `change` is called in either case, so a counter starts at 0.
    /// Both closures run under the key's lock, like the closure of [`update`](Dict::update).
    ///
    /// # Errors
    /// As [`update`](Dict::update). After an error, the old value stays, and a missing key stays missing.
    ///
    /// # If a process dies, or a closure panics
    /// The old value stays, and a missing key stays missing.
    ///
    /// ```
    /// let counts = procession::Dict::<String, u32>::new()?;
    /// for word in "the more the better".split(' ') {
    ///     counts.update_or_insert_with(word, || 0, |n| *n += 1)?;
    /// }
    /// assert_eq!((counts.get("the")?, counts.get("more")?), (Some(2), Some(1)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn update_or_insert_with<Q: Lookup<K> + ?Sized, R>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        key.with_key(|key| {
            self.map.with_entry(key, |entry| {
                let found = entry.decode::<V>()?;
                let inside = UserCode::enter();
                let mut value = found.unwrap_or_else(make);
                let returned = change(&mut value);
                drop(inside);
                put(entry, &value)?;
                Ok(returned)
            })
        })?
    }

    /// Returns a copy of the key's value. If the dict does not have the key, first inserts the key with the
    /// value that `make` returns.
    ///
    /// If several processes call this at the same time for a missing key, only one of them calls `make`, and
    /// the others get that value. `make` runs under the key's lock, like the closure of
    /// [`update`](Dict::update).
    ///
    /// # Errors
    /// As [`get`](Dict::get) and [`insert`](Dict::insert).
    ///
    /// ```
    /// let dict = procession::Dict::<String, Vec<u8>>::new()?;
    /// assert_eq!(dict.get_or_insert_with("key", || vec![1, 2])?, [1, 2]);
    /// assert_eq!(dict.get_or_insert_with("key", || unreachable!())?, [1, 2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_or_insert_with<Q: Lookup<K> + ?Sized>(&self, key: &Q, make: impl FnOnce() -> V) -> Result<V> {
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        key.with_key(|key| {
            self.map.with_entry(key, |entry| match entry.decode()? {
                Some(value) => Ok(value),
                None => {
                    let inside = UserCode::enter();
                    let value = make();
                    drop(inside);
                    put(entry, &value)?;
                    Ok(value)
                }
            })
        })?
    }

    /// Sets the key's value to `new` if the value is `current`. Returns whether it was.
    ///
    /// Two values are equal if their encodings are equal.
    ///
    /// # Errors
    /// As [`insert`](Dict::insert).
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([("count".to_string(), 100)])?;
    /// assert!(dict.compare_exchange("count", &100, 99)?);
    /// assert!(!dict.compare_exchange("count", &100, 98)?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn compare_exchange<Q: Lookup<K> + ?Sized>(&self, key: &Q, current: &V, new: V) -> Result<bool> {
        encoding::with_bytes(current, |current, _| {
            encoded(&new, |new| {
                key.with_key(|key| {
                    self.map.with_entry(key, |entry| {
                        let same = entry.value()? == Some(current);
                        if same {
                            drop(entry.put(new)?);
                        }
                        Ok(same)
                    })
                })
            })
        })???
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

    /// Returns an iterator over copies of all entries, in no particular order. `for entry in &dict` uses the
    /// same iterator.
    ///
    /// The iterator copies the entries of one of the 32 locks at a time, while it holds that lock. So it
    /// returns each entry that exists during the whole iteration exactly once. An entry that is inserted or
    /// removed meanwhile may be missing. No value is ever half old and half new.
    ///
    /// An item is an error if its entry cannot be decoded. Inside a closure of the same dict, the only item
    /// is an error.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, 10), (2, 20)])?;
    /// let sum: i32 = dict.iter().map(|entry| entry.map(|(k, v)| k + v)).sum::<Result<_, _>>()?;
    /// assert_eq!(sum, 33);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<K, V> {
        Iter::over(self.clone())
    }

    /// Returns an iterator over copies of all keys. See [`iter`](Dict::iter).
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// assert_eq!(dict.keys().collect::<Result<Vec<_>, _>>()?, [1]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn keys(&self) -> Keys<K, V> {
        Keys(self.iter())
    }

    /// Returns an iterator over copies of all values. See [`iter`](Dict::iter).
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// assert_eq!(dict.values().collect::<Result<Vec<_>, _>>()?, ["one"]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn values(&self) -> Values<K, V> {
        Values(self.iter())
    }

    /// Returns a copy of all entries. See [`iter`](Dict::iter).
    ///
    /// # Errors
    /// As [`get`](Dict::get). [`Error::Unsupported`](crate::Error::Unsupported) inside a closure of the same dict.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([("count".to_string(), 0)])?;
    /// println!("{:?}", dict.to_map()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn to_map(&self) -> Result<HashMap<K, V>> {
        self.iter().collect()
    }
}

/// Calls `use_it` with the value's encoding. In debug builds, first checks that the encoding can be decoded.
#[inline]
fn encoded<V: Message, R>(value: &V, use_it: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
    encoding::with_bytes(value, |bytes, ids| {
        encoding::check_arrival::<V>(bytes)?;
        Ok(use_it(Encoded { bytes, ids }))
    })?
}

/// Stores a value. Encoding the value runs user code, as calling the closure does.
#[inline]
fn put<V: Message>(entry: Entry<'_>, value: &V) -> Result<()> {
    let _inside = UserCode::enter();
    drop(encoded(value, |value| entry.put(value))??);
    Ok(())
}

impl<K: Message + Eq + Hash, V: Message> IntoIterator for &Dict<K, V> {
    type Item = Result<(K, V)>;
    type IntoIter = Iter<K, V>;

    /// As [`Dict::iter`].
    fn into_iter(self) -> Iter<K, V> {
        self.iter()
    }
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
