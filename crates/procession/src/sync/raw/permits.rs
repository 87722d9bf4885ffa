//! The permits of a semaphore. Each permit is a cell in a block. The cell names the process that holds the
//! permit.
//!
//! | cell       | meaning                          | who moves it                                     |
//! |------------|----------------------------------|--------------------------------------------------|
//! | `FREE`     | no process holds it              | anyone → `slot + 1`                              |
//! | `slot + 1` | held by that process             | it → `FREE`, `RESERVED`, `ABSENT`; recovery → `FREE` |
//! | `RESERVED` | for the heir; free if there is none or it does not come | the heir, or anyone → `slot + 1` |
//! | `ABSENT`   | the permit does not exist        | a thread that adds a permit → `FREE`             |
//!
//! A permit is one word, so one store commits acquiring it, and one store commits returning it. When a
//! process dies, recovery finds its permits through its handles, because a process keeps its handle to the
//! semaphore while it holds a permit.

use std::sync::atomic::{AtomicU32, Ordering};

use super::event::notify;
use crate::arena::objects::Object;
use crate::arena::recover::{Dead, Found, Journaled};
use crate::arena::storage::{LINE, Room};
use crate::arena::{Arena, objects, slots, storage};
use crate::rules::Rule;
use crate::sync::semaphore::{Semaphore, SemaphoreBody};
use crate::{Error, Result, rules};

pub(crate) const FREE: u32 = objects::UNCLAIMED;
pub(crate) const RESERVED: u32 = u32::MAX - 1;
pub(crate) const ABSENT: u32 = u32::MAX;

/// The minimum number of cells of the first block, and the number of cells of each of the two further blocks.
pub(crate) const SMALLEST: u32 = 64;
const FURTHER: [u32; 2] = [4096, Semaphore::MAX_PERMITS];

/// Creates a block with room for `cells` permits. The first `free` of them exist and are free.
pub(crate) fn make(arena: &Arena, free: u32, cells: u32) -> Result<Room> {
    let bytes = (u64::from(cells) * 4).next_multiple_of(LINE);
    let room = storage::make(bytes, LINE)?;
    for cell in &storage::cells(arena, room.data)[free as usize..] {
        cell.store(ABSENT, Ordering::Relaxed);
    }
    Ok(room)
}

/// Returns the cells of one of the semaphore's blocks.
pub(crate) fn chunk(
    arena: &Arena,
    object: &Object,
    index: u32,
    which: usize,
) -> Option<&'static [AtomicU32]> {
    storage::find_cells(arena, index, object.blocks[which].load(Ordering::Acquire))
}

/// Adds the `which`th further block. The caller holds the semaphore's `growing` lock.
pub(crate) fn grow(arena: &Arena, object: &Object, index: u32, which: usize) -> Result<()> {
    let (Some(place), Some(&cells)) = (object.blocks.get(which + 1), FURTHER.get(which)) else {
        return Err(Error::Full("the semaphore has no room for more permits".into()));
    };
    if chunk(arena, object, index, which + 1).is_some() {
        return Ok(());
    }
    let room = make(arena, 0, cells)?;
    // CRASH: a block counts only once its tag names the object. If we die before that, the next process that
    // grows the semaphore replaces the block.
    place.store(room.at(), Ordering::Release);
    room.give_to(index);
    Ok(())
}

/// Claims a permit for the process in `slot`.
#[inline]
pub(crate) fn claim(cell: &AtomicU32, from: u32, slot: u32) -> bool {
    // CRASH: from this store on, the permit is ours, and recovery returns it if we die.
    cell.compare_exchange(from, slot + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// Returns the dead process's permits to the semaphore. The result says whether the process had any permits.
pub(crate) fn return_permits(dead: &Dead<'_>, found: &Found) -> bool {
    let (&Dead { arena, slot, .. }, &Found { index, object }) = (dead, found);
    let body: &'static SemaphoreBody = object.body();
    let mut any = false;
    let heir = body.heir.load(Ordering::SeqCst);
    if heir != 0 && arena.slot_of_record(heir - 1).is_none_or(|owner| owner == slot) {
        any |= body.heir.compare_exchange(heir, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    }
    for which in 0..object.blocks.len() {
        for cell in chunk(arena, object, index, which).unwrap_or_default() {
            if cell.load(Ordering::SeqCst) == slot + 1 && rules::holds(Rule::PermitsReturned) {
                cell.store(FREE, Ordering::SeqCst);
                notify(&body.events, 1);
                any = true;
            }
        }
    }
    any
}

/// Returns whether the semaphore has permits and main holds all of them.
pub(crate) fn are_all_mains<'a>(cells: impl Iterator<Item = &'a AtomicU32>) -> bool {
    const MAINS: u32 = slots::MAIN + 1;
    let mut held = cells.map(|cell| cell.load(Ordering::SeqCst)).filter(|&cell| cell != ABSENT).peekable();
    held.peek().is_some() && held.all(|cell| cell == MAINS)
}

/// Releases the `growing` lock if the dead thread held it.
pub(crate) fn release_growing(dead: &Dead<'_>, found: &Found, entry: Journaled) {
    let body: &'static SemaphoreBody = found.object.body();
    if dead.arena.offset_of(&raw const body.growing) == entry.offset {
        super::lock::recover(entry.record, &body.growing, || false);
    }
}
