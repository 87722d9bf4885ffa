//! The items of a chunk as bytes, in a block that the cell names. Numbers are adjacent. Each other item is a
//! record: a length, and bytes.

use crate::Result;
use crate::arena::handle::Handle;
use crate::arena::objects::Id;
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{Arena, member, payload};
use crate::codec::encoding;
use crate::codec::encoding::Message;

/// Encodes the items of a chunk.
#[derive(Default)]
pub(crate) struct ItemWriter {
    bytes: Vec<u8>,
    ids: Vec<Id>,
    /// Handles to the objects of `ids`. They are held until a block carries them, because the item may have
    /// had the only other handle.
    held: Vec<Handle>,
}

impl ItemWriter {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an item. An error leaves everything as it was.
    #[inline]
    pub(crate) fn push<T: Message>(&mut self, item: &T) -> Result<()> {
        let number = encoding::size_of_number::<T>().is_some();
        encoding::with_bytes(item, |bytes, ids| {
            if number {
                self.bytes.extend_from_slice(bytes);
                return Ok(());
            }
            encoding::check_arrival::<T>(bytes)?;
            self.bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(bytes);
            self.ids.extend_from_slice(ids);
            if ids.is_empty() { Ok(()) } else { self.hold(ids) }
        })?
    }

    /// Acquires a handle to each object that an item names. The item must hold the objects during the call.
    #[cold]
    fn hold(&mut self, ids: &[Id]) -> Result<()> {
        let arena = member::arena()?;
        for &id in ids.iter().filter(|id| id.index() < arena.layout.objects) {
            if let Some(kind) = arena.object(id.index()).kind() {
                self.held.push(Handle::take(id, kind)?);
            }
        }
        Ok(())
    }

    /// Returns a block that contains all items and belongs to this process.
    pub(crate) fn pack(&self) -> Result<u64> {
        payload::pack_bytes(&self.bytes, &self.ids).map(OwnedBlock::into_raw)
    }
}

/// Decodes the items of a chunk, in a worker.
pub(crate) struct ItemReader<T> {
    numbers: std::vec::IntoIter<T>,
    /// The remaining records, if the items are not numbers.
    bytes: &'static [u8],
}

impl<T: Message> ItemReader<T> {
    /// Returns a reader that starts at item `first`.
    pub(crate) fn open(arena: &'static Arena, block: u64, first: u32) -> Result<ItemReader<T>> {
        let mut bytes = payload::contents(arena, block)?;
        if let Some(size) = encoding::size_of_number::<T>() {
            let rest = bytes.get(first as usize * size..).unwrap_or_default();
            let numbers = encoding::from_bytes::<Vec<T>>(rest)?;
            return Ok(ItemReader { numbers: numbers.into_iter(), bytes: &[] });
        }
        for _ in 0..first {
            split_first(&mut bytes);
        }
        Ok(ItemReader { numbers: Vec::new().into_iter(), bytes })
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<T> {
        if let Some(number) = self.numbers.next() {
            return Ok(number);
        }
        encoding::decode_carried(split_first(&mut self.bytes))
    }
}

fn split_first(bytes: &mut &'static [u8]) -> &'static [u8] {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return &[] };
    let len = (u64::from_le_bytes(*head) as usize).min(rest.len());
    let (first, rest) = rest.split_at(len);
    *bytes = rest;
    first
}
