//! The table of objects: creating, releasing and freeing them. The states are those of [`object`](super::object).
//!
//! INVARIANT 4: before a thread moves an object to `NEW` or `FREEING`, it names the object in its record's
//! `object_intent`.

use std::sync::atomic::{AtomicU32, Ordering};

use super::object::{FREE, FREEING, LAST_GENERATION, LIVE, NEW, owner, word};
use super::records::Record;
use super::tag::Tag;
use super::{Arena, blocks, storage, sweep, usage};
use crate::rules::Rule;
use crate::{Error, Result, rules};

pub(crate) use super::kind::Kind;
pub(crate) use super::object::{Body, GONE, Id, NAME, Object, SUPERVISOR, UNCLAIMED, check_name};

/// Returns whether the table is nearly full.
pub(crate) fn is_nearly_full(arena: &Arena) -> bool {
    let (header, all) = (arena.header(), arena.layout.objects);
    header.objects_used.load(Ordering::Relaxed) >= all
        && header.objects_from.load(Ordering::Relaxed) > all / 8 * 7
}

/// Creates an object that the process `slot` holds. No other process can see the object until `fill` has
/// returned.
pub(crate) fn create<T: Body>(
    arena: &Arena,
    record: &Record,
    slot: u32,
    fill: impl FnOnce(&Object),
) -> Result<Id> {
    let (index, generation) = claim(arena, record, slot, T::KIND)?;
    let object = arena.object(index);
    object.creator.store(slot + 1, Ordering::Relaxed);
    fill(object);
    arena.held_objects(slot).set(index);
    // CRASH: until this store, the object is `NEW` by us, and recovery drops it. After this store, we hold
    // the object, and recovery releases it with everything else that we held.
    object.state.store(word(generation, 0, T::KIND as u8, LIVE), Ordering::Release);
    record.object_intent.store(0, Ordering::Release);
    Ok(Id(generation << 32 | u64::from(index)))
}

/// Names an object in the record, before its state changes.
fn note(record: &Record, index: u32) {
    if rules::holds(Rule::ObjectIntent) {
        record.object_intent.store(u64::from(index) + 1, Ordering::Release);
    }
}

fn claim(arena: &Arena, record: &Record, slot: u32, kind: Kind) -> Result<(u32, u64)> {
    let header = arena.header();
    let from = header.objects_from.load(Ordering::Relaxed).min(arena.layout.objects);
    for index in (from..arena.layout.objects).chain(0..from) {
        let object = arena.object(index);
        let state = object.state.load(Ordering::Acquire);
        if state & 0xff != FREE || state >> 32 == LAST_GENERATION {
            continue;
        }
        let generation = (state >> 32).max(1);
        // CRASH: if we die before we have claimed the object, recovery ignores the intent, because the object
        // is not ours.
        note(record, index);
        header.objects_used.fetch_max(index + 1, Ordering::AcqRel);
        let new = word(generation, slot, kind as u8, NEW);
        if object.state.compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            header.objects_from.store(index + 1, Ordering::Relaxed);
            return Ok((index, generation));
        }
    }
    record.object_intent.store(0, Ordering::Release);
    Err(Error::Full(format!(
        "the family has {} objects (locks, queues, processes and others), which is the most it can have; drop handles that you do not need. They are:{}",
        arena.layout.objects,
        usage::of_objects(arena)
    )))
}

/// Clears the bit by which process `slot` holds an object, and frees the object if nothing else holds it. Returns
/// whether the collector should look.
#[must_use]
pub(crate) fn release_handle(arena: &Arena, record: &Record, slot: u32, index: u32) -> bool {
    // CRASH: if we die from here on, recovery checks again whether any process holds the object.
    note(record, index);
    let collect = clear_holder(arena, record, slot, index);
    record.object_intent.store(0, Ordering::Release);
    collect
}

fn clear_holder(arena: &Arena, record: &Record, slot: u32, index: u32) -> bool {
    arena.held_objects(slot).clear(index);
    let object = arena.object(index);
    let Some(id) = object.live_id(index) else { return false };
    // At most two processes hold an object that was never sent. Each process clears its own bit before it
    // reads the other's bit, so the last one sees that it is the last. If both processes see this, the
    // compare-exchange in `free` chooses one of them.
    let held_by = |who: &AtomicU32| match who.load(Ordering::SeqCst) {
        0 => false,
        other => arena.held_objects(other - 1).has(index),
    };
    let held = held_by(&object.creator) || held_by(&object.partner);
    // This comes last: a process that has seen the other's bit clear then also sees whether the other process
    // had sent the object.
    if object.is_embedded() {
        return true;
    }
    if held {
        return false;
    }
    if arena.is_sweeping() && rules::holds(Rule::FreedAfterSweep) {
        // A sweep may be about to write to the object, so this leaves the object to the collector.
        object.touch();
        return true;
    }
    free(arena, record, slot, id)
}

/// Frees an object that no process can reach. Returns whether the collector should look. It should if the
/// object owned blocks with handles.
pub(crate) fn free(arena: &Arena, record: &Record, owner: u32, id: Id) -> bool {
    note(record, id.index());
    let object = arena.object(id.index());
    let state = object.state.load(Ordering::Acquire);
    let claimed = state & 0xff == LIVE && state >> 32 == id.generation() && {
        let new = word(id.generation(), owner, (state >> 8) as u8, FREEING);
        object.state.compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let collect = claimed && finish_free(arena, owner, id.index());
    record.object_intent.store(0, Ordering::Release);
    collect
}

/// Frees the blocks of an object in state `FREEING` by `owner`, and then the object itself. Can be repeated
/// after a death.
fn finish_free(arena: &Arena, owner: u32, index: u32) -> bool {
    let object = arena.object(index);
    let mut collect = false;
    object.notify_end(arena);
    if object.kind().is_some_and(Kind::owns_many) {
        // CRASH: if a death interrupts this, a repetition finds the blocks that are left. Until `FREE` is
        // stored below, no block can be given to this object.
        collect |= sweep::free_blocks_of(arena, owner, index);
    }
    for block in &object.blocks {
        let at = block.load(Ordering::Acquire);
        if at != 0 {
            // CRASH: `blocks::free` checks the tag, so a repetition does not free blocks that others have allocated
            // since.
            collect |= blocks::free(arena, owner, at, Tag::object(index));
        }
    }
    let generation = (object.state.load(Ordering::Relaxed) >> 32) + 1;
    object.clear();
    object.state.store(word(generation.min(LAST_GENERATION), 0, 0, FREE), Ordering::Release);
    arena.header().objects_from.fetch_min(index, Ordering::Relaxed);
    collect
}

/// Returns whether cells in the object's blocks name the process of `slot`.
pub(super) fn has_cells_of(arena: &Arena, index: u32, slot: u32) -> bool {
    let object = arena.object(index);
    object.kind().is_some_and(Kind::has_cells)
        && object.blocks.iter().any(|block| {
            let cells = storage::find_cells(arena, index, block.load(Ordering::Acquire));
            cells.unwrap_or_default().iter().any(|cell| cell.load(Ordering::SeqCst) == slot + 1)
        })
}

/// Completes or undoes what a dead thread was doing to an object. Returns whether the collector should look.
pub(crate) fn recover_intent(arena: &Arena, record: &Record, slot: u32) -> bool {
    let intent = record.object_intent.load(Ordering::Acquire);
    let index = intent.wrapping_sub(1);
    if intent == 0 || index >= u64::from(arena.layout.objects) {
        return false;
    }
    let index = index as u32;
    let collect = match arena.object(index).state.load(Ordering::Acquire) {
        // The thread was releasing the object, or had just created it, or had lost the race to create it.
        state if state & 0xff == LIVE => clear_holder(arena, record, slot, index),
        _ => recover_object(arena, index, slot),
    };
    record.object_intent.store(0, Ordering::Release);
    collect
}

/// Completes or undoes what the dead process `slot` was doing to an object. Returns whether the collector should
/// look.
pub(crate) fn recover_object(arena: &Arena, index: u32, slot: u32) -> bool {
    let object = arena.object(index);
    let state = object.state.load(Ordering::Acquire);
    if owner(state) != slot {
        return false;
    }
    match state & 0xff {
        NEW => {
            arena.held_objects(slot).clear(index);
            object.clear();
            object.state.store(word(state >> 32, 0, 0, FREE), Ordering::Release);
            arena.header().objects_from.fetch_min(index, Ordering::Relaxed);
            false
        }
        FREEING => finish_free(arena, slot, index),
        _ => false,
    }
}
