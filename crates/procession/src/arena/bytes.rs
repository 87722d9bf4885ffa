//! Reads and writes bytes of the arena that no other process changes at the same time.
//!
//! Most copies are short, and the compiler does not know their length. For a short copy, a call of `memcpy`
//! takes longer than the copying itself. So the two copy functions here are inlined.

use std::ptr::copy_nonoverlapping;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Arena;

impl Arena {
    /// Returns the `len` bytes that start at `offset`.
    ///
    /// # Safety
    /// No thread of any process writes to these bytes while the slice is in use: the caller owns their block, or holds
    /// the lock that guards them.
    #[inline]
    pub(crate) unsafe fn bytes(&self, offset: u64, len: u64) -> &'static [u8] {
        // SAFETY: the bytes lie within the mapping, which is never unmapped. The caller keeps writers away.
        unsafe { std::slice::from_raw_parts(self.range(offset, len), len as usize) }
    }

    /// Returns the `len` bytes that start at `offset`, for writing.
    ///
    /// # Safety
    /// No other thread of any process reads or writes these bytes while the slice is in use: the caller owns their
    /// block, or holds the lock that guards them.
    #[inline]
    pub(crate) unsafe fn bytes_mut(&self, offset: u64, len: u64) -> &'static mut [u8] {
        // SAFETY: the bytes lie within the mapping, which is never unmapped. The caller keeps all other
        // threads away.
        unsafe { std::slice::from_raw_parts_mut(self.range(offset, len), len as usize) }
    }

    /// Writes bytes at `offset`.
    ///
    /// # Safety
    /// During the call, no other thread of any process reads or writes these bytes: the caller owns the
    /// block, or holds the lock that guards it.
    #[inline]
    pub(crate) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
        // SAFETY: within the mapping; the caller keeps all others away.
        unsafe { copy_few(bytes.as_ptr(), self.range(offset, bytes.len() as u64), bytes.len()) };
    }

    /// Writes bytes at `offset`, a multiple of 8, word by word. The rest of the last word becomes zero.
    ///
    /// For bytes that this thread has just stored. A load that is wider than those stores would stall until
    /// they have left the store buffer.
    ///
    /// # Safety
    /// As [`write`](Arena::write), for whole words.
    #[inline]
    pub(crate) unsafe fn write_words(&self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(8), "INVARIANT: words are aligned");
        let to = self.range(offset, (bytes.len() as u64).next_multiple_of(8));
        // SAFETY: within the mapping; the caller keeps all others away.
        unsafe { copy_by_words(bytes, to.cast()) };
    }

    /// Returns a pointer to a range. Panics if the range does not lie in the arena.
    #[inline]
    fn range(&self, offset: u64, len: u64) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(end.is_some_and(|end| end <= self.layout.bytes), "INVARIANT: within the arena");
        // SAFETY: within the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }
}

/// Copies `len` bytes. Inlined for short copies.
///
/// # Safety
/// As [`copy_nonoverlapping`].
#[inline(always)]
pub(crate) unsafe fn copy_few(from: *const u8, to: *mut u8, len: usize) {
    /// Copies the first `$bytes` and the last `$bytes` bytes. The two parts overlap if there are fewer than
    /// `2 * $bytes` bytes.
    macro_rules! both_ends {
        ($bytes:literal) => {
            // SAFETY: `len` is at least `$bytes`, and `from` and `to` do not overlap.
            unsafe {
                copy_nonoverlapping(from, to, $bytes);
                copy_nonoverlapping(from.add(len - $bytes), to.add(len - $bytes), $bytes);
            }
        };
    }
    match len {
        0 => {}
        1 => both_ends!(1),
        2..=3 => both_ends!(2),
        4..=7 => both_ends!(4),
        8..=15 => both_ends!(8),
        16..=31 => both_ends!(16),
        32..=64 => both_ends!(32),
        // SAFETY: promised by the caller.
        _ => unsafe { copy_nonoverlapping(from, to, len) },
    }
}

/// Data longer than this, in bytes, has probably left the store buffer.
const FRESH_MAX: usize = 48;

/// Copies bytes word by word. For bytes that this thread has just stored, with stores of a word or wider. A
/// load that is wider than the store stalls until the store has left the store buffer. The rest of the last
/// word becomes zero.
///
/// # Safety
/// There is room for whole words, and no other thread reads or writes there.
#[inline(always)]
unsafe fn copy_by_words(from: &[u8], to: *mut u64) {
    let (words, rest) = from.as_chunks();
    // SAFETY: promised by the caller, and an atomic has the layout of its value.
    let at = |i: usize| unsafe { &*to.add(i).cast::<AtomicU64>() };
    if from.len() > FRESH_MAX {
        // SAFETY: promised by the caller.
        unsafe { copy_nonoverlapping(words.as_ptr().cast::<u8>(), to.cast(), words.len() * 8) };
    } else {
        // The stores are atomic, so the compiler does not merge them into wider ones.
        words.iter().enumerate().for_each(|(i, &word)| at(i).store(u64::from_le_bytes(word), Relaxed));
    }
    if !rest.is_empty() {
        at(words.len()).store(word_of(rest), Relaxed);
    }
}

/// Returns the word that begins with these bytes and ends with zeros. There are at most 8 bytes. The word
/// combines the first bytes and the last bytes, and these two parts may overlap.
#[inline(always)]
fn word_of(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (len - 4));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u16::from_le_bytes(*first), u16::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (len - 2));
    }
    bytes.first().map_or(0, |&byte| byte.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_copied_and_the_last_is_filled_with_zeros() {
        let from: Vec<u8> = (1..=200).collect();
        for len in 0..=200 {
            let mut to = [u64::MAX; 26];
            // SAFETY: there is room for 208 bytes.
            unsafe { copy_by_words(&from[..len], to.as_mut_ptr()) };
            let bytes: Vec<u8> = to.iter().flat_map(|word| word.to_le_bytes()).collect();
            let (copied, rest) = bytes.split_at(len);
            let (filled, other) = rest.split_at(len.next_multiple_of(8) - len);
            assert!(copied == &from[..len] && filled.iter().all(|&byte| byte == 0), "{len} bytes");
            assert!(other.iter().all(|&byte| byte == u8::MAX), "{len} bytes");
        }
    }

    #[test]
    fn every_number_of_bytes_is_copied_and_no_more() {
        let from: Vec<u8> = (1..=100).collect();
        for len in 0..=100 {
            let mut to = [0; 101];
            // SAFETY: both have at least 100 bytes.
            unsafe { copy_few(from.as_ptr(), to.as_mut_ptr(), len) };
            assert!(to[..len] == from[..len] && to[len..].iter().all(|&byte| byte == 0), "{len} bytes");
        }
    }
}
