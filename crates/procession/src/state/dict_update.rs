//! The methods of [`Dict`] that read a value and change it in one step, under the key's lock.

use std::hash::Hash;

use super::dict::{Dict, encoded};
use super::lookup::Lookup;
use super::store::{Entry, UserCode};
use crate::Result;
use crate::codec::encoding::{self, Message};

impl<K: Message + Eq + Hash, V: Message> Dict<K, V> {
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
            self.map().with_entry(key, |entry| {
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
            self.map().with_entry(key, |entry| {
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
            self.map().with_entry(key, |entry| match entry.decode()? {
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
                    self.map().with_entry(key, |entry| {
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
}

/// Stores a value. Encoding the value runs user code, as calling the closure does.
#[inline]
fn put<V: Message>(entry: Entry<'_>, value: &V) -> Result<()> {
    let _inside = UserCode::enter();
    drop(encoded(value, |value| entry.put(value))??);
    Ok(())
}
