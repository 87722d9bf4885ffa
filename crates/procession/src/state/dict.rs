//! [`Dict`]: keys and values that all processes of the family share.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::dict_iter::{Iter, Keys, Values};
use super::lookup::Lookup;
use super::store::{Buffer, Encoded, Entry, Inside, Map};
use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::{Id, Kind, Object};
use crate::codec::encoding::{self, Message};

/// Invariant in both, and `Send` and `Sync` whatever they are.
type Carries<K, V> = PhantomData<(fn(K) -> K, fn(V) -> V)>;

/// A hash table that all processes of the family share.
///
/// A handle: clone it or send it to another process, also in another dict or a queue, and it is the same
/// dict. Keys and values are anything that can be sent; values are copied in and out. What was taken out is
/// your own: to change what is shared, [`insert`](Dict::insert) it again, or [`update`](Dict::update) it in
/// place.
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
/// Two keys are the same if they are *encoded* in the same way, as they cross to other processes. So `Eq` and
/// `Hash` must say no more than the data does, which holds for everything that derives them. Keys are given
/// by reference, in any form that [`Lookup`] knows: `dict.get("apples")`, `dict.get(&7)`.
///
/// # Waiting
///
/// Looking something up takes no lock, and never waits for a closure that [`update`](Dict::update) runs.
/// Changes of two entries wait for each other only when they belong to the same of 32 parts. So a closure of
/// `update` or [`get_or_insert_with`](Dict::get_or_insert_with) should be quick: meanwhile others cannot
/// change this entry, nor a 32nd of the others.
///
/// # If a process dies
///
/// Whatever it was doing: each entry has its old value or its new one, whole. A closure that its death, or a
/// panic, interrupts leaves the old value. Nobody waits for the dead, and their memory comes back. A dict is
/// never marked as broken, because it never is.
pub struct Dict<K, V> {
    handle: Handle,
    map: Map,
    _carries: Carries<K, V>,
}

impl<K, V> Dict<K, V> {
    /// An empty dict. It takes some 6 KiB; entries come on top.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full) when there is no memory.
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

    /// The map itself.
    pub(crate) fn map(&self) -> Map {
        self.map
    }

    /// The dict that this id names, while somebody else holds it.
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

    /// How many entries there are. A snapshot.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// assert_eq!(dict.len(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.map.len() as usize
    }

    /// Whether there are no entries. A snapshot.
    ///
    /// ```
    /// assert!(procession::Dict::<u8, u8>::new()?.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, part by part: what others put in meanwhile may stay. The memory comes back.
    ///
    /// # Errors
    /// In a plain fork of a member of the family, and inside of an `update` of the same dict.
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
    /// A dict with these entries. Of several with the same key the last one counts.
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

    /// A copy of the key's value, if it is there.
    ///
    /// # Errors
    /// [`Error::Message`](crate::Error::Message) when the value cannot be read as a `V`;
    /// [`Error::Forked`](crate::Error::Forked) in a plain fork of a member of the family.
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

    /// Whether the key is there. A snapshot.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked) in a plain fork of a member of the family.
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(7, ())])?;
    /// assert!(dict.contains_key(&7)? && !dict.contains_key(&8)?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn contains_key<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        key.with_key(|key| self.map.contains(key.bytes))?
    }

    /// Puts a value in, and gives the one that the key had before.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full) when the family's shared memory is full: then nothing has changed;
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the key has 2 GiB or more, or the value 4 GiB or
    /// more; [`Error::Message`](crate::Error::Message) when the value cannot be encoded, or the old one cannot be
    /// read, which is gone then. In a plain fork, and inside of an `update` of the same dict.
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

    /// Takes a key and its value out.
    ///
    /// # Errors
    /// [`Error::Message`](crate::Error::Message) when the value cannot be read, which is gone then. In a plain
    /// fork, and inside of an `update` of the same dict.
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

    /// Changes the key's value, if it is there, with nobody else changing it meanwhile; gives what `change`
    /// gives.
    ///
    /// Inside of `change` the same dict can be looked at, but not changed, copied or gone through. Other dicts
    /// can, also one that is the value. When two processes change two of them in opposite orders, one of them is
    /// told so, as with any two [locks](crate::sync#deadlocks).
    ///
    /// If the key is missing, this changes nothing, does not call `change` and returns `Ok(None)`. To count things that may
    /// be new, use [`update_or_insert_with`](Dict::update_or_insert_with).
    ///
    /// # Errors
    /// As [`get`](Dict::get) and [`insert`](Dict::insert); then the old value stays.
    /// [`LockError::Deadlock`](crate::sync::LockError::Deadlock) when the wait for others closes a cycle.
    ///
    /// # If a process dies, or the closure panics
    /// The old value stays.
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
                let inside = Inside::enter();
                let given = change(&mut value);
                drop(inside);
                put(entry, &value)?;
                Ok(Some(given))
            })
        })?
    }

    /// Changes the key's value, which is what `make` returns if the key is missing, and returns what `change` returns.
    ///
    /// For all other processes this is one step: they see the entry as it was before, or as `change` left it, and never
    /// the value that `make` returned. `change` is called in either case, so a counter starts at 0. What holds for the
    /// closure of [`update`](Dict::update) holds for both closures.
    ///
    /// # Errors
    /// As [`update`](Dict::update); then the old value stays, and a missing key stays missing.
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
                let inside = Inside::enter();
                let mut value = found.unwrap_or_else(make);
                let returned = change(&mut value);
                drop(inside);
                put(entry, &value)?;
                Ok(returned)
            })
        })?
    }

    /// The key's value; if it is not there, what `make` gives is put in first, with nobody else doing so
    /// meanwhile.
    ///
    /// What holds for the closure of [`update`](Dict::update) holds for this one.
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
                    let inside = Inside::enter();
                    let value = make();
                    drop(inside);
                    put(entry, &value)?;
                    Ok(value)
                }
            })
        })?
    }

    /// Puts `new` in if the key has the value `current`; says whether it did. Values are compared by their
    /// encoding.
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

    /// Puts many entries in, one by one.
    ///
    /// # Errors
    /// As [`insert`](Dict::insert); then some of the entries are in.
    ///
    /// ```
    /// let dict = procession::Dict::new()?;
    /// dict.extend((0..100).map(|n| (n, n * n)))?;
    /// assert_eq!(dict.get(&9)?, Some(81));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        for (key, value) in entries {
            // The old value is not looked at.
            drop(encoded(&value, |value| key.with_key(|key| self.map.insert(key, value)))???);
        }
        Ok(())
    }

    /// Goes through all entries, in no particular order; so does `for entry in &dict`.
    ///
    /// Each of the 32 parts is copied at one moment, when its turn comes. So an entry that is there all the time
    /// comes exactly once; one that is put in or taken out meanwhile may come or not; and no entry comes with
    /// half a value. To copy a part it is locked.
    ///
    /// An item is an error when the entry cannot be read; inside of an `update` of the same dict the first
    /// item is an error, and the last one.
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

    /// Goes through all keys: as [`iter`](Dict::iter).
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// assert_eq!(dict.keys().collect::<Result<Vec<_>, _>>()?, [1]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn keys(&self) -> Keys<K, V> {
        Keys(self.iter())
    }

    /// Goes through all values: as [`iter`](Dict::iter).
    ///
    /// ```
    /// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
    /// assert_eq!(dict.values().collect::<Result<Vec<_>, _>>()?, ["one"]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn values(&self) -> Values<K, V> {
        Values(self.iter())
    }

    /// A copy of all entries: as [`iter`](Dict::iter).
    ///
    /// # Errors
    /// As [`get`](Dict::get), and inside of an `update` of the same dict.
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

/// Calls `use_it` with the value's bytes, which would arrive.
#[inline]
fn encoded<V: Message, R>(value: &V, use_it: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
    encoding::with_bytes(value, |bytes, ids| {
        encoding::check_arrival::<V>(bytes)?;
        Ok(use_it(Encoded { bytes, ids }))
    })?
}

/// Encodes a value, which is the user's code too, and puts it in.
#[inline]
fn put<V: Message>(entry: Entry<'_>, value: &V) -> Result<()> {
    let _inside = Inside::enter();
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
    /// Tells how many entries there are; a snapshot.
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
