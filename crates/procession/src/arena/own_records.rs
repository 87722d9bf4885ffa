//! The records of this process's threads: which are taken, and how they are returned.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::blocks::HEADER;
use super::records::Record;
use super::{Arena, member, owned_block, usage};
use crate::os::process;
use crate::{Error, Result};

static HOME_TAKEN: AtomicBool = AtomicBool::new(false);
/// Records that threads took in destructors, after `thread.rs` had returned the thread's own record.
static LATE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Forgets the records that this process inherited in a fork. A process that was just forked has one thread.
pub(super) fn forget() {
    HOME_TAKEN.store(false, Ordering::Relaxed);
    LATE.lock().unwrap_or_else(|e| e.into_inner()).clear();
}

/// Notes a record whose thread will not return it, because the thread is about to end.
pub(super) fn add_late(id: u32) {
    LATE.lock().unwrap_or_else(|e| e.into_inner()).push(id);
}

/// Takes a record for the calling thread.
pub(super) fn take(arena: &'static Arena) -> Result<u32> {
    let slot = member::slot();
    if slot >= arena.layout.slots {
        return Err(Error::Unsupported("this process is the supervisor, which uses no locks".into()));
    }
    if !HOME_TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(slot);
    }
    take_back_late(arena);
    for extra in 0..arena.layout.extra_records {
        let owner = arena.record_owner(extra);
        if owner.load(Ordering::Relaxed) != 0 {
            continue;
        }
        // The count is raised before the claim, because recovery looks only at records below it.
        arena.header().records_used.fetch_max(extra + 1, Ordering::AcqRel);
        // CRASH: from the exchange on, the record belongs to this process, and recovery empties it.
        if owner.compare_exchange(0, slot + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Ok(arena.layout.slots + extra);
        }
    }
    Err(Error::Full(format!(
        "no thread record is left: {} threads of the family use the library at the same time, which is the most; end some of them. They belong to:{}",
        arena.layout.extra_records,
        usage::of_records(arena)
    )))
}

/// Releases the records of threads that ended after `thread.rs` had returned their own record.
fn take_back_late(arena: &'static Arena) {
    let mut late = LATE.lock().unwrap_or_else(|e| e.into_inner());
    late.retain(|&id| {
        let thread = arena.record(id).thread.load(Ordering::Acquire);
        process::is_own_thread(thread) || !put_back(arena, id)
    });
}

/// Releases a record. If its journal names a lock, keeps the record and returns false. The guard of such a
/// lock was leaked, so the lock stays held until the process ends.
pub(super) fn put_back(arena: &'static Arena, id: u32) -> bool {
    let record = arena.record(id);
    if record.holds_any(arena) {
        return false;
    }
    let mut at = record.chunk.swap(0, Ordering::AcqRel);
    for _ in 0..arena.layout.spans {
        let link = AtomicU64::new(at);
        let Some(chunk) = Record::chunk_at(arena, &link) else { break };
        let next = chunk.next.load(Ordering::Relaxed);
        owned_block::free(arena, at - HEADER);
        at = next;
    }
    record.reset();
    if id >= arena.layout.slots {
        arena.record_owner(id - arena.layout.slots).store(0, Ordering::Release);
    } else {
        HOME_TAKEN.store(false, Ordering::Release);
    }
    true
}
