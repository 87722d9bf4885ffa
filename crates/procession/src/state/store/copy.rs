//! [`Buffer`]: bytes copied out of memory that other processes may change during the copying.
//!
//! Words are read as atomics, one by one, so each copied word was in memory at some moment. To find out
//! whether all copied words belong together, the caller checks the version of the part.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use super::word;
use crate::arena::Arena;

/// The length of the longest copy on the stack, in bytes.
const SHORT: usize = 128;

/// A buffer for a copy.
pub(crate) struct Buffer {
    short: [MaybeUninit<u64>; SHORT / 8],
    long: Vec<u64>,
    len: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn new() -> Buffer {
        Buffer { short: [const { MaybeUninit::uninit() }; SHORT / 8], long: Vec::new(), len: 0 }
    }

    /// Copies `len` bytes from the aligned offset `at`. Returns false if these bytes do not lie in the arena.
    #[inline]
    pub(super) fn fill(&mut self, arena: &Arena, at: u64, len: u64) -> bool {
        self.len = len as usize;
        let words = len.div_ceil(8);
        if len as usize > SHORT {
            return self.fill_long(arena, at, words);
        }
        for (i, to) in self.short.iter_mut().take(words as usize).enumerate() {
            let Some(from) = word(arena, at + 8 * i as u64) else { return false };
            to.write(from.load(Ordering::Relaxed));
        }
        true
    }

    #[cold]
    fn fill_long(&mut self, arena: &Arena, at: u64, words: u64) -> bool {
        self.long.clear();
        let all = at..at.saturating_add(8 * words);
        if all.end > arena.layout.bytes {
            return false;
        }
        self.long.reserve_exact(words as usize);
        let copied = all.step_by(8).map_while(|at| word(arena, at)).map(|word| word.load(Ordering::Relaxed));
        self.long.extend(copied);
        self.long.len() as u64 == words
    }

    /// Returns the bytes of the last copy.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let from = if self.len > SHORT { self.long.as_ptr() } else { self.short.as_ptr().cast() };
        const { assert!(cfg!(target_endian = "little"), "the bytes of a word are in order") };
        // SAFETY: `fill` has written the words that contain these bytes.
        unsafe { std::slice::from_raw_parts(from.cast(), self.len) }
    }
}
