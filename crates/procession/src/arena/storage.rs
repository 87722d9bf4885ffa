//! Blocks of plain data that an object keeps for good: a mutex's value, an array's elements, the cells in
//! which permits and readers stand.
//!
//! ```text
//! ┌────────────┬────────────┬─ ─ ─ ─┬──────────────────────┐
//! │ bytes: u64 │ align: u64 │       │ the data, aligned    │
//! └────────────┴────────────┴─ ─ ─ ─┴──────────────────────┘
//! ```
//!
//! The data is zero at first, and pages of it exist from when they are touched.
#![allow(unsafe_code)] // Reads the header, which is atomics, and gives cells as atomics.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::blocks::{self, HEADER, Tag};
use super::classes::{CLASSES, class_for};
use super::handle::Handle;
use super::layout::SPAN;
use super::objects::{Body, Object};
use super::{Arena, heap, member};
use crate::Result;

/// Where the data of a block lies, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

fn data_offset(at: u64, align: u64) -> u64 {
    (at + HEADER).next_multiple_of(align.max(1))
}

/// Takes a block of this process with room for `bytes` zero bytes, aligned.
pub(crate) fn make(arena: &Arena, bytes: u64, align: u64) -> Result<(u64, Data)> {
    let room = bytes.saturating_add(align);
    let at = heap::allocate(arena, member::slot(), room)?;
    match class_for(room + HEADER) {
        Some(class) => arena.write(at, &vec![0; CLASSES[class as usize] as usize]),
        None => {
            let all = (room + HEADER).next_multiple_of(SPAN);
            if !arena.punch(at, all) {
                let zeros = vec![0; SPAN as usize];
                (0..all / SPAN).for_each(|span| arena.write(at + span * SPAN, &zeros));
            }
        }
    }
    arena.write(at, &bytes.to_le_bytes());
    arena.write(at + 8, &align.to_le_bytes());
    Ok((at, Data { offset: data_offset(at, align), bytes }))
}

/// The data of the block at `at`, if the object with this index owns it and it was made with this
/// alignment.
pub(crate) fn find(arena: &Arena, object: u32, at: u64, align: u64) -> Option<Data> {
    if at == 0 || !blocks::owner(arena, at).same_owner(Tag::object(object)) {
        return None;
    }
    // SAFETY: a block starts at `at`, and no block is shorter than its header; aligned to 16.
    let word = |at| unsafe { arena.at::<AtomicU64>(at) }.load(Ordering::Relaxed);
    let (bytes, offset) = (word(at), data_offset(at, align));
    let within = offset.checked_add(bytes).is_some_and(|end| end <= arena.layout.bytes);
    (word(at + 8) == align && within).then_some(Data { offset, bytes })
}

/// Makes an object with blocks of data, and the first handle to it.
pub(crate) fn create<T: Body>(rooms: &[(u64, Data)], fill: impl FnOnce(&Object)) -> Result<Handle> {
    let arena = member::arena()?;
    let (slot, mine) = (member::slot(), Tag::process(member::slot()));
    let made = Handle::create::<T>(|object| {
        for (to, (at, _)) in object.blocks.iter().zip(rooms) {
            to.store(*at, Ordering::Relaxed);
        }
        fill(object);
    });
    match &made {
        // CRASH: until then the blocks are this process's, which is the only one that has the object.
        Ok(handle) => rooms.iter().for_each(|(at, _)| {
            blocks::hand_over(arena, *at, mine, Tag::object(handle.id().index()));
        }),
        Err(_) => rooms.iter().for_each(|(at, _)| {
            blocks::free(arena, slot, *at, mine);
        }),
    }
    made
}

/// Frees the blocks of [`make`] that are not needed after all.
pub(crate) fn discard(arena: &Arena, rooms: &[(u64, Data)]) {
    for (at, _) in rooms {
        blocks::free(arena, member::slot(), *at, Tag::process(member::slot()));
    }
}

/// Where data lies in this process.
pub(crate) fn pointer(arena: &Arena, data: Data) -> NonNull<u8> {
    // SAFETY: `find` gives ranges within the mapping.
    unsafe { arena.base.add(data.offset as usize) }
}

/// Data as 32-bit cells.
pub(crate) fn cells(arena: &Arena, data: Data) -> &'static [AtomicU32] {
    assert!(data.offset.is_multiple_of(4), "INVARIANT: cells are aligned to a cache line");
    // SAFETY: `find` and `make` give ranges within the mapping; cells are only used as atomics.
    unsafe { std::slice::from_raw_parts(arena.at::<AtomicU32>(data.offset), data.bytes as usize / 4) }
}

/// Data as 64-bit cells.
pub(crate) fn wide_cells(arena: &Arena, data: Data) -> &'static [AtomicU64] {
    assert!(data.offset.is_multiple_of(8), "INVARIANT: cells are aligned to a cache line");
    // SAFETY: as in `cells`.
    unsafe { std::slice::from_raw_parts(arena.at::<AtomicU64>(data.offset), data.bytes as usize / 8) }
}

/// The 32-bit cells in a block of an object.
pub(crate) fn find_cells(arena: &Arena, object: u32, at: u64) -> Option<&'static [AtomicU32]> {
    find(arena, object, at, LINE).map(|data| cells(arena, data))
}

/// Cells begin at a cache line, and two threads that are to keep apart use two of them.
pub(crate) const LINE: u64 = 64;
