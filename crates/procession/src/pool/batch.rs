//! [`Batch`]: items of a map that were read from the input but not yet sent out. Even if the input then
//! panics, these items can still be sent out.

use super::cells::error::TaskError;
use super::cells::items::ItemWriter;
use super::cells::progress::ChunkProgress;
use crate::codec::encoding::Message;

/// The size in bytes at which a chunk is full. It is this small so that the blocks of chunks are reused.
pub(super) const MOST_BYTES: usize = 32_000;
const _: () = assert!(
    MOST_BYTES < ChunkProgress::MOST_ITEMS as usize,
    "each item has a byte at least, so the items of a chunk can be counted"
);

#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: ItemWriter,
    pub(super) count: usize,
}

impl Batch {
    /// Adds an item. Returns an error if it cannot be encoded.
    #[inline]
    pub(super) fn add<T: Message>(&mut self, item: &T) -> Result<(), TaskError> {
        self.items.push(item).map_err(|error| TaskError::Undecodable(error.to_string()))?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Reports whether the batch should be sent out now, if a chunk should have `size` items.
    #[inline]
    pub(super) fn is_full(&self, size: usize) -> bool {
        self.count >= size || self.items.len() >= MOST_BYTES
    }
}
