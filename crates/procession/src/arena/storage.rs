//! Blocks of plain data that an object keeps until it is freed: a mutex's value, an array's elements, the cells of
//! permits and readers.
//!
//! ```text
//! ┌────────────┬────────────┬─ ─ ─ ─┬──────────────────────┐
//! │ bytes: u64 │ align: u64 │       │ the data, aligned    │
//! └────────────┴────────────┴─ ─ ─ ─┴──────────────────────┘
//! ```
//!
//! The data is zero at first. The kernel allocates the pages of large data when they are first touched.
#![allow(unsafe_code)] // Reads headers and cells as atomics, by their offsets.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Arena;
use super::blocks::{self, HEADER, Tag};
use super::handle::Handle;
use super::objects::{Body, Object};
use super::owned_block::OwnedBlock;
use crate::Result;

/// The data of a block: its offset and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

fn data_offset(at: u64, align: u64) -> u64 {
    (at + HEADER).next_multiple_of(align.max(1))
}

/// A block of data that does not belong to an object yet. Dropping it frees the block.
pub(crate) struct Room {
    block: OwnedBlock,
    pub(crate) data: Data,
}

impl Room {
    /// Copies plain data into the room. Panics if the data does not fit.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() as u64 <= self.data.bytes, "INVARIANT: the data fits into its room");
        let start = (self.data.offset - self.block.at()) as usize;
        let end = start + bytes.len();
        self.block.bytes_mut(end as u64)[start..].copy_from_slice(bytes);
    }

    /// Returns the block's offset.
    pub(crate) fn at(&self) -> u64 {
        self.block.at()
    }

    /// Transfers the block to an object with one store.
    pub(crate) fn give_to(self, object: u32) {
        self.block.give_to(Tag::object(object));
    }
}

/// Allocates a block of this process with room for `bytes` bytes, which are zero and aligned to `align`.
pub(crate) fn make(bytes: u64, align: u64) -> Result<Room> {
    let room = bytes.saturating_add(align);
    let mut block = OwnedBlock::allocate(room)?;
    block.clear();
    let header = block.bytes_mut(HEADER);
    header[..8].copy_from_slice(&bytes.to_le_bytes());
    header[8..].copy_from_slice(&align.to_le_bytes());
    let data = Data { offset: data_offset(block.at(), align), bytes };
    Ok(Room { block, data })
}

/// Returns the data of the block at `at`, if the object with this index owns the block and the block was made
/// with this alignment.
pub(crate) fn find(arena: &Arena, object: u32, at: u64, align: u64) -> Option<Data> {
    if at == 0 || !blocks::owner(arena, at).same_owner(Tag::object(object)) {
        return None;
    }
    // SAFETY: a block starts at `at`. Blocks are aligned to 16 bytes and are not shorter than their header.
    let word = |at| unsafe { arena.at::<AtomicU64>(at) }.load(Ordering::Relaxed);
    let (bytes, offset) = (word(at), data_offset(at, align));
    let within = offset.checked_add(bytes).is_some_and(|end| end <= arena.layout.bytes);
    (word(at + 8) == align && within).then_some(Data { offset, bytes })
}

/// Creates an object with blocks of data, and the first handle to it.
pub(crate) fn create<T: Body>(
    rooms: impl IntoIterator<Item = Room>,
    fill: impl FnOnce(&Object),
) -> Result<Handle> {
    let rooms: Vec<Room> = rooms.into_iter().collect();
    let handle = Handle::create::<T>(|object| {
        for (to, room) in object.blocks.iter().zip(&rooms) {
            to.store(room.at(), Ordering::Relaxed);
        }
        fill(object);
    })?;
    // CRASH: until the transfer, the blocks belong to this process, which is the only holder of the object.
    // So recovery frees both.
    rooms.into_iter().for_each(|room| room.give_to(handle.id().index()));
    Ok(handle)
}

/// Returns a pointer to data.
pub(crate) fn pointer(arena: &Arena, data: Data) -> NonNull<u8> {
    // SAFETY: `find` returns ranges within the mapping.
    unsafe { arena.base.add(data.offset as usize) }
}

/// Returns data as 32-bit cells.
pub(crate) fn cells(arena: &Arena, data: Data) -> &'static [AtomicU32] {
    assert!(data.offset.is_multiple_of(4), "INVARIANT: cells are aligned to a cache line");
    // SAFETY: `find` and `make` return ranges within the mapping. Cells are only used as atomics.
    unsafe { std::slice::from_raw_parts(arena.at::<AtomicU32>(data.offset), data.bytes as usize / 4) }
}

/// Returns data as 64-bit cells.
pub(crate) fn wide_cells(arena: &Arena, data: Data) -> &'static [AtomicU64] {
    assert!(data.offset.is_multiple_of(8), "INVARIANT: cells are aligned to a cache line");
    // SAFETY: as in `cells`.
    unsafe { std::slice::from_raw_parts(arena.at::<AtomicU64>(data.offset), data.bytes as usize / 8) }
}

/// Returns the 32-bit cells in the block at `at`, if it belongs to the object.
pub(crate) fn find_cells(arena: &Arena, object: u32, at: u64) -> Option<&'static [AtomicU32]> {
    find(arena, object, at, LINE).map(|data| cells(arena, data))
}

/// The alignment of cells: a cache line. Words of different threads use different lines.
pub(crate) const LINE: u64 = 64;
