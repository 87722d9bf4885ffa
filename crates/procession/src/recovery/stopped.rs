//! [`pass_by`]: unblocks the processes that wait for a process that has been stopped.

use std::sync::atomic::Ordering;

use super::kinds;
use crate::arena::Arena;
use crate::arena::recover::{Found, Journaled};
use crate::os::futex;
use crate::sync::raw::park::EVENT;

/// Unblocks other processes that wait for the process in `slot`, which has been stopped. These are the
/// processes that wait for a lock that the stopped process has not begun to use. They also include sleepers
/// whose wake-up it may have consumed.
pub(crate) fn pass_by(arena: &Arena, slot: u32) {
    for id in arena.records_of(slot) {
        let record = arena.record(id);
        record.for_each_held(arena, |entry| match entry.load(Ordering::Acquire) {
            0 => {}
            lock => withdraw(arena, Journaled { record: id, offset: lock }),
        });
        let at = record.waits_for.load(Ordering::SeqCst);
        if let Some(word) = arena.futex_word(at & !EVENT) {
            futex::wake_all(word);
        }
    }
}

/// Takes a lock away from a stopped thread that does not use the lock yet. The thread's journal has this
/// entry.
fn withdraw(arena: &Arena, entry: Journaled) {
    let Some((index, object)) = arena.object_around(entry.offset) else { return };
    if let Some(kind) = object.kind() {
        kinds::of(kind).withdraw(arena, &Found { index, object }, entry);
    }
}
