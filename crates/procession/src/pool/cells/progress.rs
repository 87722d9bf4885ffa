//! [`ChunkProgress`]: how much of a chunk is finished. Both numbers are in one word, so recovery always finds
//! two numbers that belong together.
//!
//! ```text
//!  63        40 39                  0
//! ┌────────────┬─────────────────────┐
//! │   items    │        bytes        │
//! └────────────┴─────────────────────┘
//! ```

use crate::arena::LARGEST;

/// The decoded word: the number of finished items, and the size of their results in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkProgress {
    pub(crate) items: u32,
    pub(crate) bytes: u64,
}

impl ChunkProgress {
    const BYTES: u32 = 40;
    /// The largest size in bytes that the word can hold. Every arena is smaller than this.
    pub(crate) const MOST_BYTES: u64 = (1 << ChunkProgress::BYTES) - 1;
    /// The most items that the word can count.
    pub(crate) const MOST_ITEMS: u32 = (1 << (64 - ChunkProgress::BYTES)) - 1;

    #[inline]
    pub(crate) fn word(self) -> u64 {
        const { assert!(LARGEST <= ChunkProgress::MOST_BYTES, "the word can hold the size of any block") };
        debug_assert!(self.items <= ChunkProgress::MOST_ITEMS && self.bytes <= ChunkProgress::MOST_BYTES);
        u64::from(self.items) << ChunkProgress::BYTES | self.bytes
    }

    #[inline]
    pub(crate) fn read(word: u64) -> ChunkProgress {
        ChunkProgress {
            items: (word >> ChunkProgress::BYTES) as u32,
            bytes: word & ChunkProgress::MOST_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_items_do_not_run_into_each_other() {
        let near = |limit: u64| [limit - 1, limit, limit + 1];
        let bytes = [0, 1].into_iter().chain(near(1 << 31)).chain(near(1 << 32)).chain(near(1 << 36));
        for bytes in bytes.chain([ChunkProgress::MOST_BYTES]) {
            for items in [0, 1, 0xffff, 1 << 23, ChunkProgress::MOST_ITEMS] {
                let progress = ChunkProgress { items, bytes };
                assert_eq!(ChunkProgress::read(progress.word()), progress);
            }
        }
    }
}
