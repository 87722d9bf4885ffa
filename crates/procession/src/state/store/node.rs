//! A node: a key and a value in a block. A node never changes while a table names it, with one exception: a
//! value of one word is replaced in place.
//!
//! ```text
//! plain          ┌──────┬─────────────┬───────────────┐
//!                │ meta │ key, padded │ value, padded │
//!                └──────┴─────────────┴───────────────┘
//! with handles   ┌─────┬─────────┬──────┬─────────────┬───────────────┬─────┐
//!                │ len │ handles │ meta │ key, padded │ value, padded │ ids │     (as in arena/payload.rs)
//!                └─────┴─────────┴──────┴─────────────┴───────────────┴─────┘
//! meta           plain: 1 bit │ length of key: 31 bits │ length of value: 32 bits
//! ```
//!
//! Keys and values are padded with zeros to whole words. The length of a payload never has the bit for
//! "plain" set.

use std::sync::atomic::{AtomicU64, Ordering};

use super::copy::Buffer;
use super::found::Found;
use super::{allocate, word};
use crate::arena::blocks::{self, HEADER, Tag};
use crate::arena::objects::Id;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, member};
use crate::{Error, Result};

const PLAIN: u64 = 1 << 63;
const WORD: u64 = 8;
const MOST_KEY: usize = (1 << 31) - 1;
const MOST_VALUE: usize = u32::MAX as usize;

/// A key or a value as bytes, with the handles in it.
#[derive(Clone, Copy)]
pub struct Encoded<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) ids: &'a [Id],
}

/// What the first words of a node say about it.
#[derive(Clone, Copy)]
pub(super) struct Node {
    at: u64,
    key_at: u64,
    pub(super) key_len: u64,
    pub(super) value_len: u64,
    handles: u64,
}

/// Returns the word that contains both lengths.
#[inline]
fn meta(key_len: u64, value_len: u64) -> u64 {
    debug_assert!(key_len <= MOST_KEY as u64 && value_len <= MOST_VALUE as u64);
    key_len << 32 | value_len
}

/// Returns the lengths of the key and of the value from a word that [`meta`] made.
#[inline]
fn lengths(meta: u64) -> (u64, u64) {
    ((meta & !PLAIN) >> 32, meta & u64::from(u32::MAX))
}

#[inline]
fn padded(len: u64) -> u64 {
    len.next_multiple_of(WORD)
}

impl Node {
    /// Reads the first words of the node at `at`. If the caller does not hold the lock, the result may be
    /// invalid. Returns `None` if there cannot be a node at `at`.
    #[inline]
    pub(super) fn read(arena: &Arena, at: u64) -> Option<Node> {
        // ORDERING: the caller loaded the word that names the node with Acquire. That load pairs with the
        // Release that published the node, so Relaxed is enough here.
        let first = word(arena, at)?.load(Ordering::Relaxed);
        let (meta, handles, key_at) = if first & PLAIN != 0 {
            (first, 0, at + WORD)
        } else {
            let handles = word(arena, at + WORD)?.load(Ordering::Relaxed);
            (word(arena, at + 2 * WORD)?.load(Ordering::Relaxed), handles, at + 3 * WORD)
        };
        let (key_len, value_len) = lengths(meta);
        Some(Node { at, key_at, key_len, value_len, handles })
    }

    #[inline]
    fn value_at(&self) -> u64 {
        self.key_at + padded(self.key_len)
    }

    /// Returns whether the node carries no handles.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.handles == 0
    }

    fn end(&self) -> u64 {
        (self.value_at() + padded(self.value_len)).saturating_add(WORD.saturating_mul(self.handles))
    }

    /// Returns whether the node lies within its block. If the lock is held and the node does not, a faulty
    /// process has overwritten the node. A short node is not checked, because reading it does no harm.
    #[inline]
    fn is_sound(&self, arena: &Arena) -> bool {
        let short = self.handles == 0 && self.key_len + self.value_len <= 8 * WORD;
        short || blocks::around(arena, self.at).is_some_and(|(start, size)| self.end() <= start + size)
    }

    /// Returns whether the node has this key.
    #[inline]
    pub(super) fn has_key(&self, arena: &Arena, key: &[u8]) -> bool {
        if self.key_len != key.len() as u64 {
            return false;
        }
        let (words, rest) = key.as_chunks::<8>();
        let is = |i: usize, expected: u64| {
            word(arena, self.key_at + WORD * i as u64).is_some_and(|w| w.load(Ordering::Relaxed) == expected)
        };
        if let ([only], []) = (words, rest) {
            return is(0, u64::from_le_bytes(*only));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.iter().enumerate().all(|(i, chunk)| is(i, u64::from_le_bytes(*chunk)))
            && (rest.is_empty() || is(words.len(), u64::from_le_bytes(last)))
    }

    /// Returns the word that contains the whole value, if the value can be replaced by one store.
    #[inline]
    pub(super) fn value_word(&self, arena: &Arena, len: usize) -> Option<&'static AtomicU64> {
        let fits = self.handles == 0 && self.key_at == self.at + WORD && self.value_len <= WORD;
        (fits && self.value_len > 0 && self.value_len == len as u64).then(|| word(arena, self.value_at()))?
    }

    /// Copies the value, or the whole node if the node carries handles. `still` says whether what was read is
    /// still valid. Returns `Ok(None)` if `still` returns false.
    #[inline]
    pub(super) fn copy(
        &self,
        arena: &'static Arena,
        buffer: &mut Buffer,
        still: impl Fn() -> bool,
    ) -> Result<Option<Found>> {
        if self.handles != 0 {
            return self.carry(arena, still);
        }
        // A value with an invalid length must not be copied. The length may be invalid because it was read
        // during a change, or because a faulty process has overwritten it.
        if self.value_len > 4 * WORD {
            let sound = self.is_sound(arena);
            if !still() {
                return Ok(None);
            }
            if !sound {
                return Err(damaged());
            }
        }
        if !buffer.fill(arena, self.value_at(), self.value_len) || !still() {
            return Ok(None);
        }
        Ok(Some(Found::Copied))
    }

    /// Copies the node into a block of this process. The block then also holds the objects that the node
    /// carries.
    #[cold]
    fn carry(&self, arena: &'static Arena, still: impl Fn() -> bool) -> Result<Option<Found>> {
        let sound = self.is_sound(arena);
        if !still() {
            return Ok(None);
        }
        if !sound {
            return Err(damaged());
        }
        let words = (self.end() - self.at) / WORD;
        let copy = allocate(words * WORD, false)?;
        for i in 0..words {
            let (Some(from), Some(to)) = (word(arena, self.at + WORD * i), word(arena, copy.at() + WORD * i))
            else {
                return Ok(None);
            };
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if !still() {
            return Ok(None);
        }
        // This moves the handles (see `arena/collect.rs`): our block first announces that it holds the
        // objects, and then we touch the objects. If `still` returns true after that, the node held the
        // objects until after the move.
        blocks::announce_handles(arena, copy.at(), Tag::process(member::slot()));
        crate::arena::payload::for_each_handle(arena, copy.at(), u64::MAX, &mut |id| touch(arena, id));
        Ok(still().then_some(Found::Carried(copy)))
    }

    /// Returns the key's bytes. The caller holds the lock, or owns the node.
    pub(super) fn key(&self, arena: &Arena) -> Result<&'static [u8]> {
        if !self.is_sound(arena) {
            return Err(damaged());
        }
        // SAFETY: the key lies within the node's block. No process writes to it once a table names the node,
        // and the block is not freed while the caller holds the lock or owns the node.
        Ok(unsafe { arena.bytes(self.key_at, self.key_len) })
    }

    /// Returns the value's bytes. The caller holds the lock, or owns the node.
    #[inline]
    pub(super) fn value(&self, arena: &Arena) -> Result<&'static [u8]> {
        if !self.is_sound(arena) {
            return Err(damaged());
        }
        // SAFETY: as for the key. A value of one word is replaced only under the lock.
        Ok(unsafe { arena.bytes(self.value_at(), self.value_len) })
    }
}

fn touch(arena: &Arena, id: Id) {
    if id.index() < arena.layout.objects {
        arena.object(id.index()).touch();
    }
}

#[cold]
pub(super) fn damaged() -> Error {
    Error::Message("an entry is damaged: a faulty process has overwritten the family's shared memory".into())
}

/// Writes a node into a block of this process. With `now`, does not wait for memory.
pub(super) fn make(arena: &'static Arena, key: Encoded, value: Encoded, now: bool) -> Result<OwnedBlock> {
    if key.bytes.len() > MOST_KEY || value.bytes.len() > MOST_VALUE {
        return Err(Error::InvalidArgument(format!(
            "the entry is too large: its key has {} bytes and its value {} bytes, and the limits are 2 GiB and 4 GiB",
            key.bytes.len(),
            value.bytes.len()
        )));
    }
    let (key_len, value_len) = (key.bytes.len() as u64, value.bytes.len() as u64);
    let handles = (key.ids.len() + value.ids.len()) as u64;
    let content = WORD + padded(key_len) + padded(value_len);
    let before_meta = if handles == 0 { 0 } else { HEADER };
    let node = allocate(before_meta + content + WORD * handles, now)?;
    let at = node.at();
    // CRASH: the block is ours, and recovery sweeps it.
    // SAFETY: the write stays within the block, and no other process can see the block yet.
    let write = |at, bytes: &[u8]| unsafe { arena.write(at, bytes) };
    let mut meta = meta(key_len, value_len);
    if handles == 0 {
        meta |= PLAIN;
    } else {
        write(at, &content.to_le_bytes());
        write(at + WORD, &handles.to_le_bytes());
    }
    let mut end = at + before_meta;
    for part in [&meta.to_le_bytes()[..], key.bytes, value.bytes] {
        let next = end + padded(part.len() as u64);
        if next > end {
            write(next - WORD, &[0; WORD as usize]);
        }
        write(end, part);
        end = next;
    }
    if handles != 0 {
        for (i, id) in key.ids.iter().chain(value.ids).enumerate() {
            write(end + WORD * i as u64, &id.0.to_le_bytes());
        }
        blocks::announce_handles(arena, at, Tag::process(member::slot()));
        // The value holds the objects until we return, and the block holds them from here on.
        key.ids.iter().chain(value.ids).for_each(|&id| touch(arena, id));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_do_not_run_into_each_other() {
        for key in [0, 1, 1 << 16, MOST_KEY as u64 - 1, MOST_KEY as u64] {
            for value in [0, 1, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, MOST_VALUE as u64] {
                assert_eq!(lengths(meta(key, value)), (key, value));
                assert_eq!(lengths(PLAIN | meta(key, value)), (key, value));
            }
        }
    }
}
