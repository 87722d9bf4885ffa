//! Iterators over the entries, keys and values of a [`Dict`].

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::dict::Dict;
use super::store::{Map, decode_both};
use crate::Result;
use crate::arena::owned_block::OwnedBlock;
use crate::codec::encoding::{self, Message};

impl<K: Message + Eq + Hash, V: Message> Dict<K, V> {
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

impl<K: Message + Eq + Hash, V: Message> IntoIterator for &Dict<K, V> {
    type Item = Result<(K, V)>;
    type IntoIter = Iter<K, V>;

    /// As [`Dict::iter`].
    fn into_iter(self) -> Iter<K, V> {
        self.iter()
    }
}

/// An iterator over the entries of a [`Dict`], from [`Dict::iter`].
///
/// ```
/// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
/// let entries: Vec<(i32, String)> = dict.iter().collect::<Result<_, _>>()?;
/// assert_eq!(entries, [(1, "one".to_string())]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Iter<K, V> {
    dict: Dict<K, V>,
    next_part: usize,
    /// The current part's entries without handles: the key's length, the key, the value's length, the value.
    plain: Vec<u8>,
    read: usize,
    /// The current part's entries with handles, as copies of their nodes.
    carried: Vec<OwnedBlock>,
}

impl<K, V> Iter<K, V> {
    pub(super) fn over(dict: Dict<K, V>) -> Iter<K, V> {
        Iter { dict, next_part: 0, plain: Vec::new(), read: 0, carried: Vec::new() }
    }
}

impl<K: Message, V: Message> Iter<K, V> {
    /// Copies the next part, if there is one.
    fn refill(&mut self) -> Result<bool> {
        if self.next_part == Map::PARTS {
            return Ok(false);
        }
        self.plain.clear();
        self.read = 0;
        let plain = &mut self.plain;
        let copied = self.dict.map().copy_part(self.next_part, |key, value| {
            for part in [key, value] {
                plain.extend_from_slice(&part.len().to_le_bytes());
                plain.extend_from_slice(part);
            }
        });
        self.next_part += 1;
        self.carried = copied.inspect_err(|_| self.next_part = Map::PARTS)?;
        Ok(true)
    }

    fn next_bytes(&mut self) -> std::ops::Range<usize> {
        let from = self.read + size_of::<usize>();
        let len = self.plain[self.read..].first_chunk().map_or(0, |len| usize::from_le_bytes(*len));
        self.read = from + len;
        from..self.read
    }
}

impl<K: Message, V: Message> Iterator for Iter<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Result<(K, V)>> {
        loop {
            if let Some(node) = self.carried.pop() {
                return Some(decode_both(self.dict.map().arena(), &node));
            }
            if self.read < self.plain.len() {
                let (key, value) = (self.next_bytes(), self.next_bytes());
                let key = encoding::from_bytes(&self.plain[key]);
                let both = key.and_then(|key| Ok((key, encoding::from_bytes(&self.plain[value])?)));
                return Some(both);
            }
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<K, V> fmt::Debug for Iter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("dict", &self.dict).finish_non_exhaustive()
    }
}

/// An iterator over the keys of a [`Dict`], from [`Dict::keys`].
///
/// ```
/// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
/// assert_eq!(dict.keys().collect::<Result<Vec<i32>, _>>()?, [1]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Keys<K, V>(pub(super) Iter<K, V>);

impl<K: Message, V: Message> Iterator for Keys<K, V> {
    type Item = Result<K>;

    fn next(&mut self) -> Option<Result<K>> {
        Some(self.0.next()?.map(|(key, _)| key))
    }
}

/// An iterator over the values of a [`Dict`], from [`Dict::values`].
///
/// ```
/// let dict = procession::Dict::from_entries([(1, "one".to_string())])?;
/// assert_eq!(dict.values().collect::<Result<Vec<String>, _>>()?, ["one"]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Values<K, V>(pub(super) Iter<K, V>);

impl<K: Message, V: Message> Iterator for Values<K, V> {
    type Item = Result<V>;

    fn next(&mut self) -> Option<Result<V>> {
        Some(self.0.next()?.map(|(_, value)| value))
    }
}
